"""EfficientNet-Lite0, the embedded default backbone: a segment's look and its change.

The network is EfficientNet-B0 (Tan and Le, arXiv 1905.11946) as its authors cut it down for small devices: no
squeeze-and-excitation, ReLU6 instead of swish, stem and head fixed at 32 and 1280 channels. Its weights were
trained with TensorFlow, so its strided convolutions pad as TensorFlow does (one more on the right and at the
bottom) and its batch norms add 1e-3.

Normalisation: (x − 127) / 128, as the authors trained it. On photographs the ImageNet mean and sd are visibly
wrong for these weights (a flower's top class falls from 0.22 to 0.11, stretched it is lost), 127.5 / 127.5 is
the same within 0.006 of any probability.

Feature, 2560-D: the mean over the sampled frames of the 1280 pooled channels, then the mean absolute
difference between successive sampled frames. Frames 1, 5, 9, 13 are sampled: four apart also across segments.
The whole picture is stretched to 224 × 224: what matters to a surveillance camera may happen in a corner.

Shape suffixes: B segments, K frames, H, W, C colours or channels, N = B·K pictures, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from monitor.features.backbone import Recipe
from monitor.flow import Preprocessing

MEAN, SD = 127.0, 128.0

STAGES = (  # kernel, stride of the first block, expansion, channels out, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
CHANNELS = 1280

_RECIPE = Recipe(
    name="effnet_lite0",
    architecture="efficientnet-lite0; (x-127)/128; mean and mean absolute difference of 1280 pooled channels; 1",
    preprocessing=Preprocessing(height_px=224, width_px=224, fit="stretch", frames=(1, 5, 9, 13)),
    dimensions=2 * CHANNELS,
)


def recipe(name: str = "effnet_lite0") -> Recipe:
    return _RECIPE


def build(name: str, state: Mapping[str, Tensor]) -> nn.Module:
    """The segment network with the upstream package's tensors inside; RuntimeError where they do not fit."""
    network = EffNetLite0()
    network.load_state_dict({_own_name(key): tensor for key, tensor in state.items()})
    return SegmentNet(network).eval()


class SegmentNet(nn.Module):
    """(B, K, H, W, 3) uint8 → (B, 2560) float32."""

    def __init__(self, network: EffNetLite0) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures_BKHWC: Tensor) -> Tensor:
        b, k = pictures_BKHWC.shape[:2]
        pictures_NCHW = pictures_BKHWC.flatten(0, 1).permute(0, 3, 1, 2)
        pooled_ND = self.network.pooled((pictures_NCHW.float() - MEAN) / SD).float()
        pooled_BKD = pooled_ND.reshape(b, k, CHANNELS)
        change_BKD = (pooled_BKD[:, 1:] - pooled_BKD[:, :-1]).abs()
        return torch.cat([pooled_BKD.mean(1), change_BKD.mean(1)], dim=1)


class EffNetLite0(nn.Module):
    """The ImageNet classifier; ``pooled`` is what the backbone uses of it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _convolution(3, 32, kernel=3, stride=2)
        blocks: list[nn.Module] = []
        channels = 32
        for kernel, stride, expansion, out, repeats in STAGES:
            for repeat in range(repeats):
                blocks.append(Block(channels, out, kernel, stride if repeat == 0 else 1, expansion))
                channels = out
        self.blocks = nn.Sequential(*blocks)
        self.head = _convolution(channels, CHANNELS, kernel=1)
        self.classifier = nn.Linear(CHANNELS, 1000)

    def pooled(self, pictures_NCHW: Tensor) -> Tensor:
        """(N, 3, H, W) normalised → (N, 1280)."""
        pooled: Tensor = self.head(self.blocks(self.stem(pictures_NCHW))).mean((2, 3))
        return pooled

    def forward(self, pictures_NCHW: Tensor) -> Tensor:
        """(N, 3, H, W) normalised → (N, 1000) logits of the ImageNet classes."""
        logits: Tensor = self.classifier(self.pooled(pictures_NCHW))
        return logits


class Block(nn.Module):
    """Inverted residual: expand 1×1, depthwise, project 1×1 (linear); plus its input if they match."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = _convolution(channels, inner, kernel=1) if expansion > 1 else None
        self.depthwise = _convolution(inner, inner, kernel, stride, groups=inner)
        self.project = _convolution(inner, out, kernel=1, activation=False)
        self.residual = stride == 1 and channels == out

    def forward(self, x_NCHW: Tensor) -> Tensor:
        y_NCHW: Tensor = x_NCHW if self.expand is None else self.expand(x_NCHW)
        y_NCHW = self.project(self.depthwise(y_NCHW))
        return y_NCHW + x_NCHW if self.residual else y_NCHW


def _convolution(
    channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1, activation: bool = True
) -> nn.Sequential:
    """Convolution, batch norm and ReLU6. TensorFlow's SAME: at stride 2 an even picture gets kernel − 2 rows
    and columns of zeros, the odd one of them at the bottom and on the right."""
    layers: dict[str, nn.Module] = {}
    if stride == 2:
        first = (kernel - 2) // 2
        layers["pad"] = nn.ZeroPad2d((first, kernel - 2 - first) * 2)
    layers["conv"] = nn.Conv2d(
        channels, out, kernel, stride, padding=0 if stride == 2 else kernel // 2, groups=groups, bias=False
    )
    layers["bn"] = nn.BatchNorm2d(out, eps=1e-3)
    if activation:
        layers["relu6"] = nn.ReLU6()
    named = nn.Sequential()
    for name, layer in layers.items():
        named.add_module(name, layer)
    return named


_BLOCK_PARTS = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.bn",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.bn",
    "_project_conv": "project.conv",
    "_bn2": "project.bn",
}
_PARTS = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.bn",
    "_conv_head": "head.conv",
    "_bn1": "head.bn",
    "_fc": "classifier",
}


def _own_name(key: str) -> str:
    """The upstream file's name of a tensor → ours; unknown names stay, for load_state_dict to refuse."""
    parts = key.split(".")
    if parts[0] == "_blocks" and len(parts) == 4 and parts[2] in _BLOCK_PARTS:
        return f"blocks.{parts[1]}.{_BLOCK_PARTS[parts[2]]}.{parts[3]}"
    return f"{_PARTS.get(parts[0], parts[0])}.{'.'.join(parts[1:])}"
