"""pytorchvideo's residual networks (``i3d_r50``, ``slow_r50``) as convolutions of planes: the same mathematics, faster.

Their kernels are 3×1×1, 1×3×3 and 1×1×1. Over one array in the order (B, T, H, W, C) each of them is a convolution of
planes in channels-last order, which is what tensor cores are fed with: 1×3×3 and 1×1×1 over B·T planes of H×W, 3×1×1
over B planes of T×(H·W). Nothing is copied between them. Batch norms are folded; bias, sum with the shortcut and ReLU
ride on the convolution; a strided shortcut's bias is added to that of the convolution it is summed with.

The stem's 5×7×7 kernel of stride 2 sees three channels, of which tensor cores make little. Its input is unfolded, once,
from the uint8 pictures: five frames by four pixels (2×2) by three colours are 60 of 64 channels of a plane of half the
size, over which the kernel is 4×4 with stride 1.

Shape suffixes: B segments, T frames, N = B·T planes, H, W, C; P = H·W.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from monitor.features.engine import fold
from monitor.features.kinetics import MEAN, SD, SegmentNet

CELL_PX = 2
"""A cell of the stem's input is 2×2 pixels: its stride."""
KERNEL, STEM_CELLS, BEFORE, AFTER = 7, 4, 2, 1
"""The stem's kernel: 7 pixels are within 4 cells; zero cells before the first column and after the last."""
CHANNEL_MULTIPLE = 16
"""Channels of the unfolded input are filled up to a multiple of it: fewer, and cuDNN takes slow kernels."""


class PlaneNet(nn.Module):
    """(B, K, H, W, 3) uint8 → (B, 2048) float32. ``dtype`` is of the arithmetic between.

    Raises ValueError for a network that is not made of the kernels above; ``fits`` says so beforehand.
    """

    def __init__(self, network: SegmentNet, dtype: torch.dtype) -> None:
        super().__init__()
        if not fits(network):
            raise ValueError("not a residual network of 3x1x1, 1x3x3 and 1x1x1 kernels")
        stages: list[Any] = list(fold(network).stages)
        self.stem = Stem(stages[0], dtype)
        self.steps = nn.ModuleList()
        for stage in stages[1:]:
            if isinstance(stage, nn.MaxPool3d):
                self.steps.append(TimePool(int(_sizes(stage.kernel_size)[0])))
            else:
                self.steps += [Block(block, dtype) for block in getattr(stage, "res_blocks", ())]

    def forward(self, pictures_BTHWC: Tensor) -> Tensor:
        segments = len(pictures_BTHWC)
        planes_NCHW = self.stem(pictures_BTHWC)
        for step in self.steps:
            planes_NCHW = step(planes_NCHW, segments)
        return planes_NCHW.float().mean((2, 3)).unflatten(0, (segments, -1)).mean(1)


def fits(network: nn.Module) -> bool:
    """Whether ``PlaneNet`` can compute it."""
    if not isinstance(network, SegmentNet) or network.expand is not None:
        return False
    stem, *stages = list(network.stages)
    convolutions = [module for stage in stages for module in stage.modules() if isinstance(module, nn.Conv3d)]
    pools = [stage for stage in stages if isinstance(stage, nn.MaxPool3d)]
    return (
        _sizes(stem.conv.kernel_size)[1:] == (KERNEL, KERNEL)
        and _sizes(stem.conv.stride) == (1, CELL_PX, CELL_PX)
        and all(
            _sizes(one.kernel_size) in ((3, 1, 1), (1, 3, 3), (1, 1, 1)) and one.groups == 1 and one.stride[0] == 1
            for one in convolutions
        )
        and all(_sizes(pool.kernel_size)[1:] == (1, 1) and pool.kernel_size == pool.stride for pool in pools)
    )


def _kernels() -> Any:
    """Triton is there where CUDA is."""
    from monitor.features import kernels

    return kernels


def _sizes(given: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in given)


class Plane(nn.Module):
    """One convolution, folded, of planes. ``in_time``: its kernel is 3×1×1."""

    def __init__(self, convolution: nn.Conv3d, dtype: torch.dtype) -> None:
        super().__init__()
        depth, height, width = _sizes(convolution.kernel_size)
        self.in_time = depth > 1
        weight_OIKK = (
            convolution.weight.detach().flatten(2, 3) if self.in_time else convolution.weight.detach()[:, :, 0]
        )
        self.stride = (1, 1) if self.in_time else _sizes(convolution.stride)[1:]
        self.padding = (depth // 2, 0) if self.in_time else (height // 2, width // 2)
        bias = convolution.bias
        self.register_buffer("weight", weight_OIKK.to(dtype).contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", (torch.zeros(len(weight_OIKK)) if bias is None else bias.detach()).to(dtype))

    weight: Tensor
    bias: Tensor

    def relu(self, planes_NCHW: Tensor, segments: int) -> Tensor:
        """max(0, convolution + bias)."""
        if not self.in_time:
            return _conv_relu(planes_NCHW, self.weight, self.bias, self.stride, self.padding)
        return _over_time(
            planes_NCHW, segments, lambda plane: _conv_relu(plane, self.weight, self.bias, self.stride, self.padding)
        )

    def alone(self, planes_NCHW: Tensor) -> Tensor:
        """The convolution without its bias."""
        return functional.conv2d(planes_NCHW, self.weight, None, self.stride, self.padding)

    def sum_relu(self, planes_NCHW: Tensor, summand_NCHW: Tensor) -> Tensor:
        """max(0, convolution + bias + summand)."""
        if planes_NCHW.is_cuda:
            return torch.cudnn_convolution_add_relu(
                planes_NCHW, self.weight, summand_NCHW, 1.0, self.bias, self.stride, self.padding, (1, 1), 1
            )
        convolved_NCHW = functional.conv2d(planes_NCHW, self.weight, self.bias, self.stride, self.padding)
        return torch.relu_(convolved_NCHW.add_(summand_NCHW))


def _conv_relu(
    planes_NCHW: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]
) -> Tensor:
    if planes_NCHW.is_cuda:
        return torch.cudnn_convolution_relu(planes_NCHW, weight, bias, stride, padding, (1, 1), 1)
    return torch.relu_(functional.conv2d(planes_NCHW, weight, bias, stride, padding))


def _over_time(planes_NCHW: Tensor, segments: int, function: Callable[[Tensor], Tensor]) -> Tensor:
    """``function`` over (B, C, T, P), a view of the same memory."""
    height, width = planes_NCHW.shape[2:]
    array_BTPC = planes_NCHW.permute(0, 2, 3, 1).reshape(segments, -1, height * width, planes_NCHW.shape[1])
    done_BCTP = function(array_BTPC.permute(0, 3, 1, 2))
    done_NHWC = done_BCTP.permute(0, 2, 3, 1).reshape(-1, height, width, done_BCTP.shape[1])
    return done_NHWC.permute(0, 3, 1, 2)


class Stem(nn.Module):
    """(B, T, H, W, 3) uint8 → (N, 64, H/4, W/4)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, stem: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.frames = int(stem.conv.kernel_size[0])
        weight = stem.conv.weight.detach()
        self.channels = -(-self.frames * CELL_PX**2 * 3 // CHANNEL_MULTIPLE) * CHANNEL_MULTIPLE
        self.register_buffer("weight", _over_cells(weight, self.channels).to(dtype))
        self.register_buffer("bias", stem.conv.bias.detach().to(dtype))
        self.pool = (_sizes(stem.pool.kernel_size)[1:], _sizes(stem.pool.stride)[1:], _sizes(stem.pool.padding)[1:])

    def forward(self, pictures_BTHWC: Tensor) -> Tensor:
        if pictures_BTHWC.is_cuda:
            cells_NCHW = _kernels().unfold(pictures_BTHWC, self.frames, self.channels, self.weight.dtype, BEFORE, AFTER)
        else:
            cells_NCHW = unfold(pictures_BTHWC, self.frames, self.channels, self.weight.dtype)
        planes_NCHW = _conv_relu(cells_NCHW, self.weight, self.bias, (1, 1), (0, 0))
        if planes_NCHW.is_cuda and self.pool == ((3, 3), (2, 2), (1, 1)):
            return _kernels().place_pool(planes_NCHW)
        return functional.max_pool2d(planes_NCHW, *self.pool)


def _over_cells(weight_OCTHW: Tensor, channels: int) -> Tensor:
    """The kernel of 7×7 pixels as one of 4×4 cells: (64, channels, 4, 4), channels in the order (T, 2, 2, colour).

    A cell's pixel 2j+q is under tap 2j+q-1 of the kernel, for output cell o begins at pixel 2o-3 and cell 0 at 2o-4.
    """
    outputs, colours, frames = weight_OCTHW.shape[:3]
    padded = functional.pad(weight_OCTHW, (1, 0, 1, 0))
    taps = padded.unflatten(4, (STEM_CELLS, CELL_PX)).unflatten(3, (STEM_CELLS, CELL_PX))
    by_cell = taps.permute(0, 2, 4, 6, 1, 3, 5).reshape(outputs, frames * CELL_PX**2 * colours, STEM_CELLS, STEM_CELLS)
    filled = functional.pad(by_cell, (0, 0, 0, 0, 0, channels - by_cell.shape[1]))
    return filled.contiguous(memory_format=torch.channels_last)


def unfold(pictures_BTHWC: Tensor, frames: int, channels: int, dtype: torch.dtype) -> Tensor:
    """The stem's input, (N, channels, H/2 + 3, W/2 + 3), channels last; what lies outside segment or picture is 0.

    Channel ((t·2 + y)·2 + x)·3 + c of a cell is colour c of its pixel (y, x), t - frames // 2 frames later.
    """
    segments, count = pictures_BTHWC.shape[:2]
    normal = ((pictures_BTHWC.float() / 255 - MEAN) / SD).to(dtype)
    rim = (BEFORE * CELL_PX, AFTER * CELL_PX)
    padded = functional.pad(normal, (0, 0, *rim, *rim, frames // 2, frames // 2))
    cells = padded.unflatten(3, (-1, CELL_PX)).unflatten(2, (-1, CELL_PX)).permute(0, 1, 2, 4, 3, 5, 6).flatten(4)
    beside = torch.cat([cells[:, start : start + count] for start in range(frames)], -1)
    filled = functional.pad(beside, (0, channels - beside.shape[-1]))
    return filled.flatten(0, 1).permute(0, 3, 1, 2)


class TimePool(nn.Module):
    """The largest of so many frames after another."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, planes_NCHW: Tensor, segments: int) -> Tensor:
        del segments  # T is a multiple of it
        if planes_NCHW.is_cuda and self.frames == 2:
            return _kernels().pair_pool(planes_NCHW)
        array_NFHWC = planes_NCHW.permute(0, 2, 3, 1).unflatten(0, (-1, self.frames))
        return array_NFHWC.amax(1).permute(0, 3, 1, 2)


class Block(nn.Module):
    """A bottleneck and its shortcut."""

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        super().__init__()
        branch = block.branch2
        self.a, self.b, self.c = (Plane(one, dtype) for one in (branch.conv_a, branch.conv_b, branch.conv_c))
        self.shortcut = None if block.branch1_conv is None else Plane(block.branch1_conv, dtype)
        if self.shortcut is not None:
            # float32 sums first: two roundings would be one too many.
            both = branch.conv_c.bias.detach() + block.branch1_conv.bias.detach()
            self.c.bias = both.to(dtype)

    def forward(self, planes_NCHW: Tensor, segments: int) -> Tensor:
        inner_NCHW = self.b.relu(self.a.relu(planes_NCHW, segments), segments)
        beside_NCHW = planes_NCHW if self.shortcut is None else self.shortcut.alone(planes_NCHW)
        return self.c.sum_relu(inner_NCHW, beside_NCHW)
