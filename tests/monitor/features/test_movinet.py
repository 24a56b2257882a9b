"""MoViNet by LiteRT: what its feature is and is not, and what is said where the package or the weights are missing.

The weights are Google's file, beside the repository or at VAD_MOVINET; the tests that run it skip without it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from monitor.features import backbone, movinet, tensors, weights
from monitor.features.backbone import Backbone, BackboneError
from monitor.features.tensors import WeightsError
from monitor.flow import Preprocessing

FINGERPRINT = "b051eceedd414cf3e1ab7a9b83ae93af5b036a6818f7998f418b3da908609da9"
SHA256 = "6125b36e2485eeb5cc1fd6206cf5e5d70235593fbc84610d1dce97fe3aa9c2ac"


@pytest.fixture(scope="module")
def network(movinet_file: Path, shared_cache: Path) -> Backbone:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAD_MONITOR_CACHE", str(shared_cache))
        return backbone.create("movinet_a0_stream", weights=movinet_file)


@pytest.fixture(scope="module")
def pictures_BKHWC() -> npt.NDArray[np.uint8]:
    """A ball that rolls to the right, one that rolls to the left, and one that lies still."""
    y, x = np.mgrid[:172, :172]
    pictures = np.full((3, 16, 172, 172, 3), 60, np.uint8)
    for segment, step in enumerate((8, -8, 0)):
        for frame in range(16):
            ball = (y - 90) ** 2 + (x - 86 - step * (frame - 8)) ** 2 < 400
            pictures[segment, frame][ball] = (230, 120, 20)
    return pictures


def test_it_looks_at_the_whole_of_all_sixteen_frames() -> None:
    recipe = backbone.recipe("movinet_a0_stream")
    assert recipe.preprocessing == Preprocessing(height_px=172, width_px=172, fit="stretch", frames=tuple(range(16)))
    assert recipe.dimensions == 480


def test_its_fingerprint_is_that_of_the_file_and_the_recipe(network: Backbone) -> None:
    assert (network.fingerprint, network.engine) == (FINGERPRINT, "litert")


def test_the_same_pictures_give_the_same_feature_alone_and_beside_others(
    network: Backbone, pictures_BKHWC: npt.NDArray[np.uint8]
) -> None:
    """Nothing of a segment is left in the state when the next one begins."""
    features_BD = network.encode(pictures_BKHWC)
    assert (features_BD.shape, features_BD.dtype) == ((3, 480), torch.float32)
    assert torch.equal(network.encode(pictures_BKHWC[2:]), features_BD[2:])
    assert torch.equal(network.encode(torch.from_numpy(pictures_BKHWC[::-1].copy())), features_BD.flip(0))
    assert torch.equal(network.encode(list(pictures_BKHWC)), features_BD)
    assert network.encode(pictures_BKHWC[:0]).shape == (0, 480)


def test_other_pictures_and_another_order_of_frames_give_another_feature(
    network: Backbone, pictures_BKHWC: npt.NDArray[np.uint8]
) -> None:
    right_D, left_D, still_D = network.encode(pictures_BKHWC)
    backwards_D = network.encode(pictures_BKHWC[:1, ::-1])[0]
    for other_D in (left_D, still_D, backwards_D):
        assert (right_D - other_D).abs().max() > 0.02


def test_a_feature_is_the_mean_of_its_frames_features_which_lie_where_relu6_puts_them(
    movinet_file: Path, pictures_BKHWC: npt.NDArray[np.uint8]
) -> None:
    module = movinet.SegmentNet(tensors.read(movinet_file))
    features_KD, logits = module.frames(pictures_BKHWC[0])
    assert (features_KD.shape, logits.shape) == ((16, 480), (600,))
    assert 0 <= features_KD.min() < features_KD.max() <= 6
    assert np.array_equal(module.frames(pictures_BKHWC[0, :3])[0], features_KD[:3])
    expected_D = torch.from_numpy(features_KD.mean(0))
    assert torch.equal(module(torch.from_numpy(pictures_BKHWC[:1]))[0], expected_D)


def test_it_is_imported_once_and_found_by_name_after(movinet_file: Path, cache: Path) -> None:
    with pytest.raises(WeightsError, match=f"`vad-monitor weights fetch movinet_a0_stream` .*, sha256 {SHA256}"):
        backbone.create("movinet_a0_stream")
    record = weights.take_in("movinet_a0_stream", movinet_file)
    assert (record.sha256, record.trust) == (SHA256, "fixed in code")
    assert backbone.create("movinet_a0_stream").fingerprint == FINGERPRINT


def test_another_file_is_refused(movinet_file: Path, cache: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tflite"
    other.write_bytes(movinet_file.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match=f"is not the weights of 'movinet_a0_stream' that are trusted.*{SHA256}"):
        backbone.create("movinet_a0_stream", weights=other)


def test_bytes_that_are_no_network_are_refused() -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra movinet)")
    with pytest.raises(RuntimeError, match="LiteRT cannot read it"):
        movinet.build("movinet_a0_stream", {"litert": torch.zeros(64, dtype=torch.uint8)})


@pytest.mark.parametrize("engine", ["eager", "openvino"])
def test_an_engine_of_torch_is_refused(
    movinet_file: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch, engine: backbone.EngineName
) -> None:
    monkeypatch.setenv("VAD_MONITOR_CACHE", str(shared_cache))
    with pytest.raises(BackboneError, match=f"is run by LiteRT, not by engine {engine}; use auto"):
        backbone.create("movinet_a0_stream", weights=movinet_file, engine=engine)


def test_a_missing_package_is_said_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.delitem(sys.modules, "ai_edge_litert.interpreter", raising=False)
    with pytest.raises(
        BackboneError, match=r"needs LiteRT, which is not installed: pip install 'vad-monitor\[movinet\]'"
    ):
        movinet.build("movinet_a0_stream", {"litert": torch.zeros(64, dtype=torch.uint8)})
