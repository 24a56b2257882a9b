"""pytorchvideo's residual networks (``i3d_r50``, ``slow_r50``) as convolutions of planes: the same mathematics, faster.

Their kernels are 3×1×1, 1×3×3 and 1×1×1. Over one array in the order (B, T, H, W, C) each of them is a convolution of
planes in channels-last order, which is what tensor cores are fed with: 1×3×3 and 1×1×1 over B·T planes of H×W, 3×1×1
over B planes of T×(H·W). Nothing is copied between them. Batch norms are folded; bias, sum with the shortcut and ReLU
ride on the convolution; a strided shortcut's bias is added to that of the convolution it is summed with.

The stem's 5×7×7 kernel of stride 2 sees three channels, of which tensor cores make little. Its input is unfolded, once,
from the uint8 pictures: five frames by four pixels (2×2) by three colours are 60 of 64 channels of a plane of half the
size, over which the kernel is 4×4 with stride 1.

**Rounding.** A feature is a mean over thousands of places: errors that differ from place to place leave it, those of
rounded weights and biases stay. So each filter is rounded with error feedback: what one weight lost goes to the next,
and their sum is kept (after a ReLU inputs are positive, so a sum that is off is an output that is off). A block's bias
takes on what the rounding of the last block's cost the sum that both add to. Rounded plainly, float16's weights and
biases alone put the feature 5.6e-4 off, so 2.9e-4 (``i3d_r50``, random weights, batch norms calibrated on pictures of
the same kind; of another kind the gain was smaller: ``slow_r50`` on noise 4.0e-4 to 3.8e-4).

Shape suffixes: B segments, T frames, N = B·T planes, H, W, C; P = H·W.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
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
    """(B, K, H, W, 3) uint8 → (B, 2048) float32; made on the CPU. ``dtype`` is of the arithmetic between.

    Raises ValueError for a network that is not made of the kernels above; ``fits`` says so beforehand.
    """

    def __init__(self, network: SegmentNet, dtype: torch.dtype, moves: Moves | None = None) -> None:
        super().__init__()
        if not fits(network):
            raise ValueError("not a residual network of 3x1x1, 1x3x3 and 1x1x1 kernels")
        moves = moves or Moves()
        folded: Any = fold(copy.deepcopy(network)).cpu()
        stages: list[Any] = list(folded.stages)
        self.stem = Stem(stages[0], dtype, moves)
        self.steps = nn.ModuleList()
        for stage in stages[1:]:
            if isinstance(stage, nn.MaxPool3d):
                self.steps.append(TimePool(int(_sizes(stage.kernel_size)[0]), moves))
                continue
            lost_O: Tensor | float = 0.0
            for block in getattr(stage, "res_blocks", ()):
                step = Block(block, dtype, lost_O)
                self.steps.append(step)
                lost_O = step.lost_O

    def forward(self, pictures_BTHWC: Tensor) -> Tensor:
        segments = len(pictures_BTHWC)
        planes_NCHW: Tensor = self.stem(pictures_BTHWC)
        for step in self.steps:
            planes_NCHW = step(planes_NCHW, segments)
        means_NC = planes_NCHW.float().mean((2, 3))
        return means_NC.view(segments, len(means_NC) // segments, -1).mean(1)


def fits(network: nn.Module) -> bool:
    """Whether ``PlaneNet`` can compute it."""
    if not isinstance(network, SegmentNet) or network.expand is not None:
        return False
    stages: list[Any] = list(network.stages)
    stem = stages.pop(0)
    convolutions = [module for stage in stages for module in stage.modules() if isinstance(module, nn.Conv3d)]
    pools = [stage for stage in stages if isinstance(stage, nn.MaxPool3d)]
    return (
        _sizes(stem.conv.kernel_size)[1:] == (KERNEL, KERNEL)
        and _sizes(stem.conv.stride) == (1, CELL_PX, CELL_PX)
        and [_sizes(given) for given in (stem.pool.kernel_size, stem.pool.stride, stem.pool.padding)]
        == [(1, 3, 3), (1, 2, 2), (0, 1, 1)]
        and all(
            _sizes(one.kernel_size) in ((3, 1, 1), (1, 3, 3), (1, 1, 1)) and one.groups == 1 and one.stride[0] == 1
            for one in convolutions
        )
        and all(_sizes(pool.kernel_size)[1:] == (1, 1) and pool.kernel_size == pool.stride for pool in pools)
    )


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
        self.register_buffer("weight", rounded(weight_OIKK, dtype))
        self.register_buffer("bias", weight_OIKK.new_zeros(len(weight_OIKK)) if bias is None else bias.detach())
        self.bias = self.bias.to(dtype)

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


def rounded(weight_OIKK: Tensor, dtype: torch.dtype) -> Tensor:
    """The filters in ``dtype``, channels last; what rounding one weight of a filter lost goes to the next one."""
    flat_OW = weight_OIKK.detach().double().permute(0, 2, 3, 1).flatten(1)
    kept_WO, lost_O = torch.empty_like(flat_OW.T, dtype=dtype).contiguous(), torch.zeros_like(flat_OW[:, 0])
    for kept_O, wanted_O in zip(kept_WO, flat_OW.T.contiguous(), strict=True):
        wanted_O = wanted_O + lost_O
        kept_O.copy_(wanted_O)
        lost_O = wanted_O - kept_O
    outputs, inputs, height, width = weight_OIKK.shape
    return (
        kept_WO.T.reshape(outputs, height, width, inputs)
        .permute(0, 3, 1, 2)
        .contiguous(memory_format=torch.channels_last)
    )


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

    def __init__(self, stem: Any, dtype: torch.dtype, moves: Moves) -> None:
        super().__init__()
        self.moves = moves
        self.frames = int(stem.conv.kernel_size[0])
        weight = stem.conv.weight.detach()
        self.channels = -(-self.frames * CELL_PX**2 * 3 // CHANNEL_MULTIPLE) * CHANNEL_MULTIPLE
        self.register_buffer("weight", rounded(_over_cells(weight, self.channels), dtype))
        self.register_buffer("bias", stem.conv.bias.detach().to(dtype))

    def forward(self, pictures_BTHWC: Tensor) -> Tensor:
        cells_NCHW = self.moves.unfold(pictures_BTHWC, self.frames, self.channels, self.weight.dtype)
        return self.moves.place_pool(_conv_relu(cells_NCHW, self.weight, self.bias, (1, 1), (0, 0)))


def _over_cells(weight_OCTHW: Tensor, channels: int) -> Tensor:
    """The kernel of 7×7 pixels as one of 4×4 cells: (64, channels, 4, 4), channels in the order (T, 2, 2, colour).

    A cell's pixel 2j+q is under tap 2j+q-1 of the kernel, for output cell o begins at pixel 2o-3 and cell 0 at 2o-4.
    """
    outputs, colours, frames = weight_OCTHW.shape[:3]
    padded = functional.pad(weight_OCTHW, (1, 0, 1, 0))
    taps = padded.reshape(outputs, colours, frames, STEM_CELLS, CELL_PX, STEM_CELLS, CELL_PX)
    by_cell = taps.permute(0, 2, 4, 6, 1, 3, 5).reshape(outputs, frames * CELL_PX**2 * colours, STEM_CELLS, STEM_CELLS)
    return functional.pad(by_cell, (0, 0, 0, 0, 0, channels - by_cell.shape[1]))


def unfold(pictures_BTHWC: Tensor, frames: int, channels: int, dtype: torch.dtype) -> Tensor:
    """The stem's input, (N, channels, H/2 + 3, W/2 + 3), channels last; what lies outside segment or picture is 0.

    Channel ((t·2 + y)·2 + x)·3 + c of a cell is colour c of its pixel (y, x), t - frames // 2 frames later.
    """
    count = pictures_BTHWC.shape[1]
    normal = ((pictures_BTHWC.float() / 255 - MEAN) / SD).to(dtype)
    rim = (BEFORE * CELL_PX, AFTER * CELL_PX)
    padded = functional.pad(normal, (0, 0, *rim, *rim, frames // 2, frames // 2))
    segments, padded_count, height, width, colours = padded.shape
    pixels = padded.view(segments, padded_count, height // CELL_PX, CELL_PX, width // CELL_PX, CELL_PX, colours)
    cells = pixels.permute(0, 1, 2, 4, 3, 5, 6).flatten(4)
    beside = torch.cat([cells[:, start : start + count] for start in range(frames)], -1)
    filled = functional.pad(beside, (0, channels - beside.shape[-1]))
    return filled.flatten(0, 1).permute(0, 3, 1, 2)


def place_pool(planes_NCHW: Tensor) -> Tensor:
    """The largest of 3×3, stride 2, padding 1."""
    return functional.max_pool2d(planes_NCHW, 3, 2, 1)


def time_pool(planes_NCHW: Tensor, frames: int) -> Tensor:
    """The largest of so many planes, one after another, in each place."""
    planes_NHWC = planes_NCHW.permute(0, 2, 3, 1)
    largest_NHWC = planes_NHWC.reshape(-1, frames, *planes_NHWC.shape[1:]).amax(1)
    return largest_NHWC.permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """What moves bytes and computes next to nothing: in torch, or (``kernels.MOVES``) in one pass each."""

    unfold: Callable[[Tensor, int, int, torch.dtype], Tensor] = unfold
    place_pool: Callable[[Tensor], Tensor] = place_pool
    time_pool: Callable[[Tensor, int], Tensor] = time_pool


class TimePool(nn.Module):
    """The largest of so many frames, one after another."""

    def __init__(self, frames: int, moves: Moves) -> None:
        super().__init__()
        self.frames, self.moves = frames, moves

    def forward(self, planes_NCHW: Tensor, segments: int) -> Tensor:
        del segments  # T is a multiple of it
        return self.moves.time_pool(planes_NCHW, self.frames)


class Block(nn.Module):
    """A bottleneck and its shortcut. ``lost_O``: what rounding cost the bias that the last block added to the sum."""

    def __init__(self, block: Any, dtype: torch.dtype, lost_O: Tensor | float) -> None:
        super().__init__()
        branch = block.branch2
        self.a, self.b, self.c = (Plane(one, dtype) for one in (branch.conv_a, branch.conv_b, branch.conv_c))
        self.shortcut = None if block.branch1_conv is None else Plane(block.branch1_conv, dtype)
        bias_O = branch.conv_c.bias.detach().double() + lost_O
        if block.branch1_conv is not None:
            bias_O = bias_O + block.branch1_conv.bias.detach()
        self.c.bias = bias_O.to(dtype)
        self.lost_O = bias_O - self.c.bias

    def forward(self, planes_NCHW: Tensor, segments: int) -> Tensor:
        inner_NCHW = self.b.relu(self.a.relu(planes_NCHW, segments), segments)
        beside_NCHW = planes_NCHW if self.shortcut is None else self.shortcut.alone(planes_NCHW)
        return self.c.sum_relu(inner_NCHW, beside_NCHW)
