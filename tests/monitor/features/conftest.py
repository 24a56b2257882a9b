"""What the tests of backbones share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from monitor.features import backbone
from monitor.features.backbone import Backbone


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of this test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("VAD_MONITOR_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def eager(shared_cache: Path) -> Backbone:
    """effnet_lite0 in torch."""
    return _create(shared_cache, "eager")


@pytest.fixture(scope="session")
def openvino(shared_cache: Path) -> Backbone:
    """effnet_lite0 in OpenVINO."""
    return _create(shared_cache, "openvino")


def _create(folder: Path, engine: backbone.EngineName) -> Backbone:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAD_MONITOR_CACHE", str(folder))
        return backbone.create("effnet_lite0", engine=engine, threads=2)


@pytest.fixture(scope="session")
def pictures_BKHWC() -> npt.NDArray[np.uint8]:
    """Five segments of noise over a gradient, none like another: (5, 4, 224, 224, 3)."""
    noise = np.random.default_rng(7).integers(0, 120, (5, 4, 224, 224, 3), dtype=np.uint8)
    slope = np.linspace(0, 130, 224, dtype=np.uint8)[None, None, None, :, None]
    return noise + slope
