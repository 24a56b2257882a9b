"""Backbones by name: what they accept, that engines agree, what a fingerprint stands for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.torch
import torch

from monitor.features import backbone, weights
from monitor.features.backbone import Backbone, BackboneError
from monitor.flow import Preprocessing

FINGERPRINT = "813e358422e5538e5510e7822dc209e80ac17dab13e97d424d351db7162efa73"


def test_the_names_are_the_embedded_one_four_of_kinetics_and_a_small_one() -> None:
    assert backbone.names() == ("effnet_lite0", "i3d_r50", "slow_r50", "x3d_s", "x3d_m", "movinet_a0_stream")


@pytest.mark.parametrize(
    ("name", "dimensions", "shape"),
    [
        ("effnet_lite0", 2560, (4, 224, 224, 3)),
        ("i3d_r50", 2048, (16, 224, 224, 3)),
        ("slow_r50", 2048, (8, 224, 224, 3)),
        ("x3d_s", 2048, (13, 182, 182, 3)),
        ("x3d_m", 2048, (16, 256, 256, 3)),
    ],
)
def test_a_recipe_is_known_without_weights(name: str, dimensions: int, shape: tuple[int, ...]) -> None:
    recipe = backbone.recipe(name)
    assert (recipe.dimensions, recipe.preprocessing.shape) == (dimensions, shape)


def test_the_default_looks_at_the_whole_of_four_frames_that_are_four_apart() -> None:
    assert backbone.recipe("effnet_lite0").preprocessing == Preprocessing(
        height_px=224, width_px=224, fit="stretch", short_side_px=None, frames=(1, 5, 9, 13)
    )


def test_an_unknown_backbone_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(BackboneError, match="there is no backbone 'resnet'; known are effnet_lite0, i3d_r50"):
        backbone.create("resnet")


@pytest.mark.parametrize(
    ("device", "engine", "says"),
    [
        ("cdua", "auto", "'cdua' is no device"),
        ("meta", "auto", "'meta' is no device this runs on"),
        ("cpu", "eager_fp16", "engine eager_fp16 is for CUDA"),
    ],
)
def test_an_impossible_device_or_engine_is_refused(
    shared_cache: Path, monkeypatch: pytest.MonkeyPatch, device: str, engine: backbone.EngineName, says: str
) -> None:
    monkeypatch.setenv("VAD_MONITOR_CACHE", str(shared_cache))
    with pytest.raises(BackboneError, match=says):
        backbone.create("effnet_lite0", device=device, engine=engine)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_cuda_device_is_said(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAD_MONITOR_CACHE", str(shared_cache))
    with pytest.raises(BackboneError, match="device 'cuda:0' was asked for, but torch finds no CUDA device here"):
        backbone.create("effnet_lite0", device="cuda:0")


def test_auto_on_a_cpu_is_openvino(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAD_MONITOR_CACHE", str(shared_cache))
    assert backbone.create("effnet_lite0").engine == "openvino"


def test_a_feature_is_float32_and_a_batch_may_be_empty(
    eager: Backbone, openvino: Backbone, pictures_BKHWC: npt.NDArray[np.uint8]
) -> None:
    for each in (eager, openvino):
        assert each.encode(pictures_BKHWC[:0]).shape == (0, 2560)
        features_BD = each.encode(pictures_BKHWC[:2])
        assert features_BD.shape == (2, 2560)
        assert features_BD.dtype == torch.float32
        assert features_BD.device == each.device == torch.device("cpu")


def test_the_engines_agree(eager: Backbone, openvino: Backbone, pictures_BKHWC: npt.NDArray[np.uint8]) -> None:
    expected_BD = eager.encode(pictures_BKHWC[:2])
    error = (openvino.encode(pictures_BKHWC[:2]) - expected_BD).abs().max() / expected_BD.abs().max()
    assert error < 1e-4


def test_a_segment_has_the_same_feature_alone_and_in_a_batch(
    eager: Backbone, openvino: Backbone, pictures_BKHWC: npt.NDArray[np.uint8]
) -> None:
    for each in (eager, openvino):
        batch_BD = each.encode(pictures_BKHWC[:3])
        alone_BD = torch.cat([each.encode(pictures_BKHWC[i : i + 1]) for i in range(3)])
        assert (batch_BD - alone_BD).abs().max() / batch_BD.abs().max() < 1e-5


def test_a_feature_stays_when_its_pictures_are_overwritten_and_others_are_encoded(
    openvino: Backbone, pictures_BKHWC: npt.NDArray[np.uint8]
) -> None:
    slots = pictures_BKHWC[:1].copy()
    first_BD = openvino.encode(slots)
    kept_BD = first_BD.clone()
    slots[:] = 0
    openvino.encode(slots)
    assert torch.equal(first_BD, kept_BD)


def test_tensors_and_views_with_gaps_are_taken_as_well(
    openvino: Backbone, pictures_BKHWC: npt.NDArray[np.uint8]
) -> None:
    expected_BD = openvino.encode(pictures_BKHWC[::2].copy())
    assert torch.equal(openvino.encode(pictures_BKHWC[::2]), expected_BD)
    assert torch.equal(openvino.encode(torch.from_numpy(pictures_BKHWC[::2].copy())), expected_BD)


def test_segments_that_lie_apart_have_the_features_of_a_batch(
    eager: Backbone, openvino: Backbone, pictures_BKHWC: npt.NDArray[np.uint8]
) -> None:
    for each in (eager, openvino):
        assert torch.equal(each.encode([one.copy() for one in pictures_BKHWC]), each.encode(pictures_BKHWC))
        assert each.encode([]).shape == (0, 2560)
        with pytest.raises(ValueError, match=r"takes uint8 pictures of shape \(4, 224, 224, 3\), got uint8 \(3, 224"):
            each.encode([pictures_BKHWC[0], pictures_BKHWC[1, :3]])


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 4, 224, 224, 3), np.float32),
        np.zeros((4, 224, 224, 3), np.uint8),
        np.zeros((1, 16, 224, 224, 3), np.uint8),
    ],
    ids=["float", "no batch", "all frames"],
)
def test_pictures_of_another_shape_or_type_are_refused(eager: Backbone, wrong: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"takes uint8 pictures of shape \(B, 4, 224, 224, 3\), got"):
        eager.encode(wrong)


def test_the_fingerprint_is_the_same_in_every_engine_and_version(eager: Backbone, openvino: Backbone) -> None:
    assert eager.fingerprint == openvino.fingerprint == FINGERPRINT


def test_other_weights_are_another_fingerprint(shared_cache: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAD_MONITOR_CACHE", str(shared_cache))
        state = weights.load("effnet_lite0")
        safetensors.torch.save_file(state, tmp_path / "same.safetensors")
        state["_conv_stem.weight"][0, 0, 0, 0] += 1e-3
        safetensors.torch.save_file(state, tmp_path / "other.safetensors")
        same = backbone.create("effnet_lite0", weights=tmp_path / "same.safetensors", engine="eager")
        other = backbone.create("effnet_lite0", weights=tmp_path / "other.safetensors", engine="eager")
    assert same.fingerprint == FINGERPRINT
    assert other.fingerprint != FINGERPRINT


def test_weights_of_another_network_are_refused(cache: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"fc.weight": torch.zeros(3, 3)}, file)
    with pytest.raises(BackboneError, match="do not fit backbone 'effnet_lite0'"):
        backbone.create("effnet_lite0", weights=file)


def test_a_damaged_converted_graph_is_made_again_and_changes_no_running_engine(
    shared_cache: Path, openvino: Backbone, pictures_BKHWC: npt.NDArray[np.uint8]
) -> None:
    expected_BD = openvino.encode(pictures_BKHWC[:1])
    (binary,) = (shared_cache / "openvino").glob("*.bin")
    whole = binary.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAD_MONITOR_CACHE", str(shared_cache))
        kept = backbone.create("effnet_lite0", engine="openvino", threads=2)
        binary.write_bytes(whole[:-1000])
        again = backbone.create("effnet_lite0", engine="openvino", threads=2)
    assert binary.read_bytes() == whole
    for each in (openvino, kept, again):
        assert torch.equal(each.encode(pictures_BKHWC[:1]), expected_BD)


def test_it_starts_without_a_word_to_anyone_and_without_pytorchvideo(tmp_path: Path) -> None:
    """No line printed, no warning, no telemetry (OpenVINO's would write to the home folder and call out)."""
    script = (
        "import socket, sys\n"
        "def refuse(*_): raise AssertionError('a connection was attempted')\n"
        "socket.socket.connect = refuse; socket.create_connection = refuse; socket.getaddrinfo = refuse\n"
        "from monitor.features import backbone\n"
        "assert backbone.create('effnet_lite0').engine == 'openvino'\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
        "assert 'pytorchvideo' not in sys.modules and 'torchvision' not in sys.modules\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "VAD_MONITOR_CACHE": str(tmp_path / "cache")}
    environment.pop("CI", None)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
