"""Residual networks as convolutions of planes: the same feature as pytorchvideo's own forward pass, on the CPU."""

from __future__ import annotations

import copy
import importlib.util
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from monitor.features import backbone, kinetics, planes
from monitor.features.backbone import BackboneError
from monitor.features.engine import start
from monitor.features.graphs import SIZES, portions
from tests.bench.gpu import calibrated, segments
from tests.monitor.features.test_kinetics import noise, plain_feature, random_network


@pytest.mark.slow
@pytest.mark.parametrize("name", ["i3d_r50", "slow_r50"])
def test_it_is_what_pytorchvideo_computes(name: str) -> None:
    network, pictures = random_network(name), noise(name, 1)
    expected_BD = plain_feature(name, copy.deepcopy(network), pictures)
    given = kinetics.SegmentNet(network).eval()
    state = {key: value.clone() for key, value in given.state_dict().items()}
    with torch.inference_mode():
        made_BD = planes.PlaneNet(given, torch.float32)(pictures)
    torch.testing.assert_close(made_BD, expected_BD, rtol=0, atol=1e-5 * float(expected_BD.abs().max()))
    assert all(torch.equal(value, state[key]) for key, value in given.state_dict().items()), (
        "what is given stays as it is"
    )


def test_other_networks_are_not_taken() -> None:
    x3d = kinetics.SegmentNet(random_network("x3d_s"))
    assert not planes.fits(x3d)
    assert not planes.fits(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="not a residual network"):
        planes.PlaneNet(x3d, torch.float32)


@pytest.mark.parametrize("engine", ["planes_fp16", "graphs", "eager_fp16"])
def test_its_engines_are_for_cuda(engine: backbone.EngineName) -> None:
    with pytest.raises(BackboneError, match=f"engine {engine} is for CUDA: .* use auto"):
        start(kinetics.recipe("i3d_r50"), "", torch.nn.Identity(), engine=engine)


@given(st.integers(0, 2**31), st.sampled_from([torch.float16, torch.bfloat16]))
def test_rounding_keeps_each_filters_sum(seed: int, dtype: torch.dtype) -> None:
    """Plain rounding of n weights is off by some sqrt(n) halves of a last digit, this by one."""
    weight = torch.randn(6, 32, 3, 3, generator=torch.Generator().manual_seed(seed)) * 0.05
    made = planes.rounded(weight, dtype)
    digit = torch.finfo(dtype).eps * float(weight.abs().max())
    assert made.dtype == dtype
    assert made.is_contiguous(memory_format=torch.channels_last)
    assert (made.double() - weight.double()).abs().max() <= digit
    assert (made.double() - weight.double()).sum((1, 2, 3)).abs().max() <= digit


def test_float16_features_are_nearer_than_those_of_plain_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and biases rounded, the arithmetic in float32: what is measured is the rounding alone."""
    cpu = torch.device("cpu")
    network, pictures = calibrated("slow_r50", cpu, batches=1, batch=1), segments(1, "slow_r50", cpu, seed=7)

    def off(dtype: torch.dtype) -> float:
        with torch.inference_mode():
            made_BD: Tensor = planes.PlaneNet(network, dtype).float()(pictures)
        return float((made_BD - expected_BD).norm() / expected_BD.norm())

    with torch.inference_mode():
        expected_BD = planes.PlaneNet(network, torch.float32)(pictures)
    fed_back = off(torch.float16)
    monkeypatch.setattr(planes, "rounded", lambda weight, dtype: weight.to(dtype))
    assert fed_back < 0.8 * off(torch.float16)


@given(st.integers(0, 300), st.sets(st.sampled_from(SIZES), min_size=1).map(sorted))
def test_portions_hold_each_segment_once(batch: int, sizes: list[int]) -> None:
    cut = portions(batch, tuple(sizes))
    assert sum(count for count, _ in cut) == batch
    assert all(0 < count <= size and size in sizes for count, size in cut)
    assert all(2 * count > size or size == sizes[0] for count, size in cut), "at most half of a graph is filling"


_KERNELS = """
import torch
from monitor.features import kernels, planes

pictures = torch.randint(0, 255, (1, 3, 10, 14, 3), dtype=torch.uint8)
cells = planes.unfold(pictures, 5, 64, torch.float32)
torch.testing.assert_close(kernels.unfold(pictures, 5, 64, torch.float32), cells, rtol=1e-6, atol=1e-6)
given = torch.randn(6, 16, 7, 9).contiguous(memory_format=torch.channels_last)
assert torch.equal(kernels.place_pool(given), planes.place_pool(given))
for frames in (2, 3):
    assert torch.equal(kernels.time_pool(given, frames), planes.time_pool(given, frames))
print("equal")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="this torch brings no Triton")
def test_the_kernels_equal_what_they_stand_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """In Triton's interpreter; test_cuda.py does it on a card."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    ran = subprocess.run([sys.executable, "-c", _KERNELS], capture_output=True, text=True, check=False, timeout=120)
    assert ran.stdout == "equal\n", ran.stderr
