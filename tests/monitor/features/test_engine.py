"""How many threads an engine may use: affinity and the cgroup's quota, whichever is less."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from monitor.features.engine import cpu_threads, fold

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", CORES), ("50000 100000", 1), ("100000 100000", 1), ("900000000 100000", CORES)],
)
def test_threads_obey_a_quota_of_cgroup_v2(tmp_path: Path, quota: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert cpu_threads(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", CORES), ("100000", 1)])
def test_threads_obey_a_quota_of_cgroup_v1(tmp_path: Path, quota: str, expected: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_threads(tmp_path) == expected


def test_without_a_cgroup_affinity_alone_counts(tmp_path: Path) -> None:
    assert cpu_threads(tmp_path) == CORES


def test_folding_leaves_no_batch_norm_and_the_same_answer() -> None:
    torch.manual_seed(0)
    module = nn.Sequential()
    module.add_module("conv", nn.Conv2d(3, 8, 3, bias=False))
    norm = nn.BatchNorm2d(8)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean = torch.randn(8)
    module.add_module("bn", norm)
    module.eval().requires_grad_(False)
    x_NCHW = torch.randn(2, 3, 9, 9)
    expected_NCHW = module(x_NCHW)
    fold(module)
    assert [type(layer).__name__ for layer in module] == ["Conv2d", "Identity"]
    assert torch.allclose(module(x_NCHW), expected_NCHW, atol=1e-5)
