"""EfficientNet-Lite0: that the port is right, and that the feature is what its docstring says."""

from __future__ import annotations

from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pytest
import torch

from monitor.features import effnet_lite0, weights
from monitor.features.backbone import Backbone

PHOTOGRAPHS = Path(mpl.get_data_path()) / "sample_data"


@pytest.fixture(scope="module")
def network(shared_cache: Path) -> effnet_lite0.EffNetLite0:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAD_MONITOR_CACHE", str(shared_cache))
        module = effnet_lite0.build("effnet_lite0", weights.load("effnet_lite0"))
    assert isinstance(module, effnet_lite0.SegmentNet)
    return module.network


def test_it_has_the_published_number_of_parameters(network: effnet_lite0.EffNetLite0) -> None:
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008


def _classes(network: effnet_lite0.EffNetLite0, path: Path) -> list[int]:
    """The three likeliest ImageNet classes of a photograph's centre square."""
    picture = cv2.imread(str(path))
    assert picture is not None
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    square = picture[top : top + side, left : left + side, ::-1]
    small = cv2.resize(np.ascontiguousarray(square), (224, 224), interpolation=cv2.INTER_AREA)
    pictures_NCHW = torch.from_numpy(small).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        logits_ND = network((pictures_NCHW - effnet_lite0.MEAN) / effnet_lite0.SD)
    return [int(place) for place in logits_ND[0].topk(3).indices]


def test_an_officer_wears_a_military_uniform(network: effnet_lite0.EffNetLite0) -> None:
    military_uniform = 652
    assert _classes(network, PHOTOGRAPHS / "grace_hopper.jpg")[0] == military_uniform


def test_a_flower_is_a_daisy_and_a_temple_a_palace(network: effnet_lite0.EffNetLite0) -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="its two photographs are looked at")
    images = Path(datasets.__file__).parent / "images"
    daisy, palace = 985, 698
    assert _classes(network, images / "flower.jpg")[0] == daisy
    assert _classes(network, images / "china.jpg")[0] == palace


def test_the_feature_is_the_mean_and_the_mean_absolute_change_of_the_pooled_channels(
    network: effnet_lite0.EffNetLite0, eager: Backbone, pictures_BKHWC: npt.NDArray[np.uint8]
) -> None:
    pictures_KCHW = torch.from_numpy(pictures_BKHWC[0]).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        f0, f1, f2, f3 = network.pooled((pictures_KCHW - 127) / 128)
    expected = torch.cat([(f0 + f1 + f2 + f3) / 4, ((f1 - f0).abs() + (f2 - f1).abs() + (f3 - f2).abs()) / 3])
    assert torch.allclose(eager.encode(pictures_BKHWC[:1])[0], expected, rtol=1e-4, atol=1e-5)


def test_a_still_scene_has_no_change_and_a_moving_one_has(
    openvino: Backbone, pictures_BKHWC: npt.NDArray[np.uint8]
) -> None:
    still_BKHWC = np.repeat(pictures_BKHWC[:1, :1], 4, axis=1)
    assert openvino.encode(still_BKHWC)[0, 1280:].abs().max() == 0
    assert openvino.encode(pictures_BKHWC[:1])[0, 1280:].mean() > 0.01
