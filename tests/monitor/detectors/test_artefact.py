"""Artefacts: what is written is what is read, and every mistake is said in a sentence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from monitor.config import Thresholds
from monitor.detectors import artefact, detector
from monitor.detectors.artefact import ArtefactError, Card, Standardisation
from monitor.detectors.ensemble import Ensemble

FINGERPRINT = "a1" * 32


def a_card(**changes: Any) -> Card:
    facts: dict[str, Any] = {
        "name": "test",
        "backbone": "effnet_lite0",
        "backbone_fingerprint": FINGERPRINT,
        "backbone_dimensions": 40,
        "dimensions": 24,
        "length": 16,
        "stride": 2,
        "delay": 4,
        "fps": 15,
        "thresholds": Thresholds(raise_at=0.7, clear_at=0.5),
        "data": (),
        "terms_of_use": "research only",
        "metrics": {"auc": 0.9, "folds": [1, 2]},
        "command": "vad-train default",
        "commit": "0123abc",
        "created": "2026-11-22T00:00:00Z",
    }
    return Card(**(facts | changes))


def some_parts(projected: bool = True) -> tuple[Standardisation, Ensemble]:
    torch.manual_seed(5)
    standardise = Standardisation(
        mean_D=torch.randn(40),
        sd_D=torch.rand(40) + 0.1,
        projection_DE=torch.randn(40, 24) if projected else None,
    )
    dimensions = 24 if projected else 40
    detectors = {
        "video_classifier": detector.make("video_classifier", {"dimensions": dimensions, "hidden": 16}),
        "bilstm_mil": detector.make("bilstm_mil", {"dimensions": dimensions, "hidden": 8, "fc1": 16}),
    }
    return standardise, Ensemble(detectors, {"video_classifier": 1.0, "bilstm_mil": 3.0}).eval()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    artefact.save(tmp_path / "one", a_card(), *some_parts(), half=False)
    return tmp_path / "one"


@pytest.mark.parametrize("projected", [True, False], ids=["projected", "whole"])
def test_what_was_saved_is_loaded_bit_for_bit(tmp_path: Path, projected: bool) -> None:
    standardise, ensemble = some_parts(projected)
    written = artefact.save(tmp_path, a_card(), standardise, ensemble, half=False)
    loaded = artefact.load(tmp_path)
    assert loaded.card == written == artefact.read_card(tmp_path) == artefact.verify(tmp_path)
    assert loaded.dimensions == written.dimensions == (24 if projected else 40)
    features_ND = torch.randn(30, 40)
    assert torch.equal(loaded.standardise(features_ND), standardise(features_ND))
    bags_BTD = standardise(features_ND).reshape(2, 15, -1)
    assert torch.equal(loaded.ensemble(bags_BTD).scores_BT, ensemble(bags_BTD).scores_BT)
    assert [(d.name, d.kind, d.weight) for d in loaded.card.detectors] == [
        ("video_classifier", "video_classifier", 1.0),
        ("bilstm_mil", "bilstm_mil", 3.0),
    ]
    assert not loaded.ensemble.training
    assert not any(parameter.requires_grad for parameter in loaded.ensemble.parameters())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.json", "weights.safetensors"]


def test_half_precision_halves_the_file_and_is_computed_in_float32(tmp_path: Path) -> None:
    standardise, ensemble = some_parts()
    artefact.save(tmp_path / "half", a_card(), standardise, ensemble)
    artefact.save(tmp_path / "full", a_card(), standardise, ensemble, half=False)
    sizes = [(tmp_path / name / "weights.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]
    loaded = artefact.load(tmp_path / "half")
    assert {parameter.dtype for parameter in loaded.ensemble.parameters()} == {torch.float32}
    bags_BTD = standardise(torch.randn(30, 40)).reshape(2, 15, 24)
    error = (loaded.ensemble(bags_BTD).scores_BT - ensemble(bags_BTD).scores_BT).abs().max()
    assert 0 < error < 2e-3


def test_standardising_is_the_equation() -> None:
    standardise = Standardisation(
        mean_D=torch.tensor([1.0, 2.0]), sd_D=torch.tensor([2.0, 4.0]), projection_DE=torch.tensor([[1.0], [10.0]])
    )
    assert standardise(torch.tensor([[3.0, 6.0], [1.0, 0.0]])).tolist() == [[11.0], [-5.0]]


def test_a_missing_folder_names_what_is_shipped(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"there is no artefact '.*nowhere': no such folder, and shipped are "):
        artefact.load(tmp_path / "nowhere")


def test_a_file_is_no_artefact(saved: Path) -> None:
    with pytest.raises(ArtefactError, match=r"card\.json is a file; an artefact is a folder"):
        artefact.load(saved / "card.json")


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("card.json", r"one is no artefact: card\.json is missing"),
        ("weights.safetensors", r"one is no whole artefact: weights\.safetensors is missing"),
    ],
)
def test_a_missing_file_is_said(saved: Path, missing: str, says: str) -> None:
    (saved / missing).unlink()
    with pytest.raises(ArtefactError, match=says):
        artefact.load(saved)


def test_weights_with_one_bit_changed_are_refused(saved: Path) -> None:
    path = saved / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"is damaged or belongs to another card: its sha256 is .* the card says"):
        artefact.load(saved)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-100], lambda content: b"", lambda content: b"\x80\x04pickle" * 9]
)
def test_weights_that_are_no_safetensors_are_refused_even_with_a_card_that_agrees(
    saved: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = saved / "weights.safetensors"
    content = damage(path.read_bytes())
    path.write_bytes(content)
    _change_card(saved, weights_sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(ArtefactError, match=r"weights\.safetensors is not a whole safetensors file"):
        artefact.load(saved)


def _change_card(folder: Path, **changes: Any) -> None:
    said = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(said | changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fps": 0}, r"card\.json: fps: Input should be greater than 0"),
        ({"surprise": 1, "length": "16"}, r"length: Input should be a valid integer; surprise: Extra inputs are not"),
        ({"schema_version": 2}, "schema_version: Input should be 1"),
        ({"stride": 17}, "stride 17 is more than the bag's length 16"),
        ({"delay": 15}, "delay 15 is more than length − stride = 14"),
        ({"thresholds": {"raise_at": 0.3, "clear_at": 0.5}}, r"thresholds\.clear_at: must not be above raise_at"),
        ({"detectors": []}, "do not fit together: the card names no detectors"),
        ({"backbone_dimensions": 41}, "the card says 41 → 24 dimensions, the weights 40 → 24"),
        ({"weights_sha256": "x"}, "weights_sha256: String should match pattern"),
    ],
)
def test_a_wrong_card_is_said_with_every_mistake(saved: Path, changes: dict[str, Any], says: str) -> None:
    _change_card(saved, **changes)
    with pytest.raises(ArtefactError, match=says):
        artefact.load(saved)


def test_a_card_that_is_no_json_is_said(saved: Path) -> None:
    (saved / "card.json").write_text("{")
    with pytest.raises(ArtefactError, match=r"card\.json: Invalid JSON"):
        artefact.load(saved)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "gone"}, "do not fit together: there is no detector 'gone'"),
        ({"arguments": {"dimensions": 24, "hidden": 17}}, "do not fit together: size mismatch"),
        ({"name": "other"}, "do not fit together: Missing key"),
    ],
)
def test_detectors_that_are_not_those_of_the_card_are_refused(saved: Path, change: dict[str, Any], says: str) -> None:
    detectors = json.loads((saved / "card.json").read_text())["detectors"]
    detectors[0] |= change
    _change_card(saved, detectors=detectors)
    with pytest.raises(ArtefactError, match=says):
        artefact.load(saved)


def test_a_standardisation_that_divides_by_zero_is_never_written_or_read(tmp_path: Path, saved: Path) -> None:
    standardise, ensemble = some_parts()
    standardise.sd_D[3] = 1e-9  # 0 in float16
    with pytest.raises(ArtefactError, match="divides by zero"):
        artefact.save(tmp_path / "two", a_card(), standardise, ensemble)
    tensors = safetensors.torch.load_file(saved / "weights.safetensors")
    tensors["standardise.sd"][0] = 0
    safetensors.torch.save_file(tensors, saved / "weights.safetensors")
    _change_card(saved, weights_sha256=hashlib.sha256((saved / "weights.safetensors").read_bytes()).hexdigest())
    with pytest.raises(ArtefactError, match="divides by zero"):
        artefact.load(saved)


def test_values_beyond_float16_are_never_written(tmp_path: Path) -> None:
    standardise, ensemble = some_parts()
    standardise.mean_D[0] = 1e6
    with pytest.raises(ArtefactError, match=r"'standardise\.mean' has values that are no finite numbers in float16"):
        artefact.save(tmp_path, a_card(), standardise, ensemble)


def test_another_backbone_is_refused_and_both_are_named() -> None:
    with pytest.raises(ArtefactError, match="trained on features of backbone 'effnet_lite0', not of 'i3d_r50'"):
        a_card().check_backbone("i3d_r50", FINGERPRINT)


def test_the_same_backbone_with_other_weights_is_refused_and_both_are_named() -> None:
    with pytest.raises(ArtefactError, match=r"with fingerprint a1a1a1a1a1a1…, but the one here has b2b2b2b2b2b2…"):
        a_card().check_backbone("effnet_lite0", "b2" * 32)
    a_card().check_backbone("effnet_lite0", FINGERPRINT)


@pytest.mark.parametrize(
    ("stride", "delay", "expected"),
    [(None, None, (2, 4)), (1, None, (1, 4)), (16, None, (16, 0)), (14, None, (14, 2)), (None, 14, (2, 14))],
)
def test_a_plant_may_choose_stride_and_delay_within_the_bag(
    stride: int | None, delay: int | None, expected: tuple[int, int]
) -> None:
    card = a_card()
    assert card.max_delay == 14
    assert card.bag(stride, delay) == expected


@pytest.mark.parametrize(
    ("stride", "delay", "says"),
    [
        (0, None, "stride 0 is not possible with artefact 'test': its bags have 16 segments, so the stride is 1 to 16"),
        (17, None, "stride 17 is not possible"),
        (None, 15, "delay 15 is not possible .* so at stride 2 the delay is 0 to 14"),
        (16, 1, "so at stride 16 the delay is 0 to 0"),
        (None, -1, "delay -1 is not possible"),
    ],
)
def test_a_stride_or_delay_beyond_the_bag_is_refused(stride: int | None, delay: int | None, says: str) -> None:
    with pytest.raises(ArtefactError, match=says):
        a_card().bag(stride, delay)
