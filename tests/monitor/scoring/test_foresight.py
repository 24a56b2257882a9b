"""What `vad-monitor check` knows without torch is what a start would find."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitor.config import Scoring
from monitor.detectors.artefact import SHIPPED, ArtefactError
from monitor.detectors.canary import clip_of
from monitor.features import backbone, weights
from monitor.features.backbone import BackboneError
from monitor.scoring import foresight
from monitor.scoring.rings import open_rings


@pytest.fixture
def scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scoring:
    """Of an artefact that may be spoilt, with a cache of its own."""
    shutil.copytree(SHIPPED / "default", tmp_path / "artefact")
    monkeypatch.setenv("VAD_MONITOR_CACHE", str(tmp_path / "cache"))
    return Scoring(artefact=str(tmp_path / "artefact"), device="cpu")


def test_the_backbone_that_is_known_is_the_one_that_is_built(scoring: Scoring) -> None:
    packaged = weights.SOURCES[foresight.BACKBONE]
    assert packaged.package == f"{foresight.PACKAGED}:{foresight.PACKAGED_FILE}"
    assert packaged.sha256 == foresight.PACKAGED_SHA256
    assert foresight.is_sure(scoring, canary=True)  # nothing is in the cache yet
    assert backbone.create(foresight.BACKBONE).fingerprint == foresight.FINGERPRINT
    record = weights.read_record(foresight.BACKBONE)
    assert record is not None
    assert record.tensors_sha256 == foresight.TENSORS_SHA256
    assert foresight.is_sure(scoring, canary=True)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def flip_and_record(weights_folder: Path) -> None:
    """Other weights, and a record that agrees with them."""
    file, record = next(weights_folder.glob("*.safetensors")), weights_folder / "effnet_lite0.json"
    flip(file)
    said = json.loads(record.read_text()) | {"kept_sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    record.write_text(json.dumps(said))


def change(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


SPOILT: dict[str, Callable[[Path], object]] = {
    "weights": lambda at: flip(at / "artefact/weights.safetensors"),
    "no weights": lambda at: (at / "artefact/weights.safetensors").unlink(),
    "clip": lambda at: flip(at / "artefact/canary.mp4"),
    "no clip": lambda at: (at / "artefact/canary.mp4").unlink(),
    "card": lambda at: change(at / "artefact/card.json", fps=-1),
    "another backbone's fingerprint": lambda at: change(at / "artefact/card.json", backbone_fingerprint="0" * 64),
    "another backbone": lambda at: change(at / "artefact/card.json", backbone="i3d_r50"),
    "no such backbone": lambda at: change(at / "artefact/card.json", backbone="nothing"),
    "cached weights": lambda at: flip(next((at / "cache/weights").glob("*.safetensors"))),
    "cached weights and their record": lambda at: flip_and_record(at / "cache/weights"),
    "a record of another file": lambda at: change(at / "cache/weights/effnet_lite0.json", sha256="0" * 64),
    "a record that says too much": lambda at: change(at / "cache/weights/effnet_lite0.json", more=1),
    "no record": lambda at: (at / "cache/weights/effnet_lite0.json").write_text("{"),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
def test_it_is_never_sure_of_what_a_start_refuses(
    scoring: Scoring, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    weights.fetch(foresight.BACKBONE)
    assert foresight.is_sure(scoring, canary=True)
    spoil(tmp_path)
    assert not foresight.is_sure(scoring, canary=True)
    assert not opens(scoring)


def opens(scoring: Scoring) -> bool:
    """As `check` does with torch."""
    try:
        artefact = open_rings(scoring, files=False).artefact
        if artefact.card.canary is not None:
            clip_of(artefact.folder, artefact.card.canary)
    except (ArtefactError, BackboneError):
        return False
    return True


@pytest.mark.parametrize("changes", [{"stride": 5}, {"delay": 4}, {"max_gap": 4}, {"artefact": "nowhere"}])
def test_settings_that_do_not_fit_are_left_to_opening(scoring: Scoring, changes: dict[str, Any]) -> None:
    assert foresight.is_sure(scoring, canary=True)
    assert not foresight.is_sure(scoring.model_copy(update=changes), canary=True)
    assert not opens(scoring.model_copy(update=changes))


def test_a_device_that_torch_alone_can_name_is_left_to_it(scoring: Scoring, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not foresight.is_sure(scoring.model_copy(update={"device": "cuda"}), canary=True)
    auto = scoring.model_copy(update={"device": "auto"})
    monkeypatch.setattr(foresight, "GPUS", (os.devnull,))
    assert not foresight.is_sure(auto, canary=True)
    monkeypatch.setattr(foresight, "GPUS", ())
    assert foresight.is_sure(auto, canary=True)


def test_a_cache_whose_weights_went_is_as_one_without_a_record(scoring: Scoring, tmp_path: Path) -> None:
    weights.fetch(foresight.BACKBONE)
    next((tmp_path / "cache/weights").glob("*.safetensors")).unlink()
    assert foresight.is_sure(scoring, canary=True)
    assert opens(scoring)


def test_what_is_no_file_is_not_waited_for(scoring: Scoring, tmp_path: Path) -> None:
    clip = tmp_path / "artefact" / "canary.mp4"
    clip.unlink()
    os.mkfifo(clip)
    assert not foresight.is_sure(scoring, canary=True)
    assert foresight.is_sure(scoring, canary=False)
