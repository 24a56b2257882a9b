"""Backbones learnt from Kinetics-400, built with pytorchvideo: ``i3d_r50`` (the paper's kind), slow_r50, X3D.

Feature, 2048-D. Residual networks: the mean over (T, H, W) of the last residual stage. X3D, whose last stage has
192 channels: its head up to the last layer before the classes, pooled over all of (T, H, W).

Preprocessing as pytorchvideo publishes it: x / 255, mean 0.45, sd 0.225; the short side scaled to 256 and the
centre cut out: 224 (what the residual networks were trained on), 256 for x3d_m, 182 of 182 for x3d_s. The centre
of a wide picture is about half of it: what happens in its corners is not seen. ``i3d_r50`` and x3d_m take all 16
frames of a segment, slow_r50 every second one and x3d_s 13, the numbers they were trained with.

Shape suffixes: B segments, K frames (T to the network), H, W, C colours or channels, D dimensions.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from monitor.features.backbone import Recipe
from monitor.flow import Preprocessing

MEAN, SD = 0.45, 0.225
CHANNELS = 2048

_ALL = tuple(range(16))


def _crop(frames: tuple[int, ...], short_side_px: int, size_px: int) -> Preprocessing:
    return Preprocessing(height_px=size_px, width_px=size_px, fit="crop", short_side_px=short_side_px, frames=frames)


_PREPROCESSING: Mapping[str, Preprocessing] = {
    "i3d_r50": _crop(_ALL, 256, 224),
    "slow_r50": _crop(_ALL[::2], 256, 224),
    "x3d_s": _crop((0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 14, 15), 182, 182),
    "x3d_m": _crop(_ALL, 256, 256),
}


def recipe(name: str) -> Recipe:
    return Recipe(
        name=name,
        architecture=f"pytorchvideo {name}; (x/255-0.45)/0.225; mean over time and place; 1",
        preprocessing=_PREPROCESSING[name],
        dimensions=CHANNELS,
    )


def build(name: str, state: Mapping[str, Tensor]) -> nn.Module:
    """The segment network with these tensors inside; RuntimeError where they do not fit."""
    network = architecture(name)
    network.load_state_dict(dict(state))
    return SegmentNet(network).eval()


def architecture(name: str) -> nn.Module:
    """pytorchvideo's network with its classes, freshly initialised."""
    with warnings.catch_warnings():
        # pytorchvideo decorates with torch.jit.script at import, which torch 2.9 and later deprecate.
        warnings.simplefilter("ignore")
        from pytorchvideo.models.hub import resnet, x3d
    builders: dict[str, Any] = {
        "i3d_r50": resnet.i3d_r50,
        "slow_r50": resnet.slow_r50,
        "x3d_s": x3d.x3d_s,
        "x3d_m": x3d.x3d_m,
    }
    network: nn.Module = builders[name]()
    return network


class SegmentNet(nn.Module):
    """(B, K, H, W, 3) uint8 → (B, 2048) float32."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        *stages, head = network.blocks
        self.stages = nn.Sequential(*stages)
        projection = getattr(head.pool, "post_conv", None)
        self.expand = (
            None if projection is None else nn.Sequential(head.pool.pre_conv, head.pool.pre_norm, head.pool.pre_act)
        )
        self.project = None if projection is None else nn.Sequential(projection, head.pool.post_act)

    def forward(self, pictures_BKHWC: Tensor) -> Tensor:
        x_BCTHW = (pictures_BKHWC.permute(0, 4, 1, 2, 3).float() / 255 - MEAN) / SD
        x_BCTHW = self.stages(x_BCTHW)
        if self.expand is not None:
            x_BCTHW = self.expand(x_BCTHW)
        pooled_BC111 = x_BCTHW.float().mean((2, 3, 4), keepdim=True)
        if self.project is not None:
            pooled_BC111 = self.project(pooled_BC111)
        return torch.flatten(pooled_BC111, 1).float()
