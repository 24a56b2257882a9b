"""Triton kernels for what cuDNN has no fast way: the stem's input, and two kinds of pooling. CUDA alone.

Each equals the function of ``planes`` that says the same in torch. All three move bytes and compute nothing to speak
of: their limit is the memory's rate. Timed once on an H100, 32 segments: the stem's input 0.87 ms, its pooling 0.37
(torch 1.81), pooling over time 0.46.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from monitor.features import planes
from monitor.features.kinetics import MEAN, SD
from monitor.features.planes import AFTER, BEFORE, Moves

CELLS = 32
"""Columns that one program does."""


@triton.jit
def _unfold(  # type: ignore[no-untyped-def]
    pictures,
    cells,
    T: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    FRAMES: tl.constexpr,
    CHANNELS: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BEFORE: tl.constexpr,
    MEAN_: tl.constexpr,
    SD_: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    plane, cell_y = row // ROWS, row % ROWS
    cell_x = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[:, None]
    channel = tl.arange(0, PADDED)[None, :]
    colour, pixel = channel % 3, channel // 3
    segment, frame = plane // T, plane % T + pixel // 4 - FRAMES // 2
    y = 2 * (cell_y - BEFORE) + (pixel // 2) % 2
    x = 2 * (cell_x - BEFORE) + pixel % 2
    inside = (channel < FRAMES * 12) & (frame >= 0) & (frame < T) & (y >= 0) & (y < H) & (x >= 0) & (x < W)
    at = (((segment * T + frame).to(tl.int64) * H + y) * W + x) * 3 + colour
    value = tl.load(pictures + at, mask=inside, other=0).to(tl.float32)
    normal = tl.where(inside, (value / 255 - MEAN_) / SD_, 0.0)
    to = (row.to(tl.int64) * COLUMNS + cell_x) * CHANNELS + channel
    tl.store(cells + to, normal.to(cells.dtype.element_ty), mask=(cell_x < COLUMNS) & (channel < CHANNELS))


def unfold(pictures_BTHWC: Tensor, frames: int, channels: int, dtype: torch.dtype) -> Tensor:
    """``planes.unfold`` in one pass."""
    segments, count, height, width, _ = pictures_BTHWC.shape
    rows, columns = height // 2 + BEFORE + AFTER, width // 2 + BEFORE + AFTER
    cells_NHWC = torch.empty(segments * count, rows, columns, channels, dtype=dtype, device=pictures_BTHWC.device)
    _unfold[(segments * count * rows, triton.cdiv(columns, CELLS))](
        pictures_BTHWC,
        cells_NHWC,
        count,
        height,
        width,
        frames,
        channels,
        triton.next_power_of_2(channels),
        rows,
        columns,
        BEFORE,
        MEAN,
        SD,
        CELLS,
    )
    return cells_NHWC.permute(0, 3, 1, 2)


@triton.jit
def _place_pool(  # type: ignore[no-untyped-def]
    given,
    pooled,
    H: tl.constexpr,
    W: tl.constexpr,
    TO_H: tl.constexpr,
    TO_W: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    plane, to_y = row // TO_H, row % TO_H
    to_x = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[:, None]
    channel = tl.arange(0, CHANNELS)[None, :]
    largest = tl.full((BLOCK, CHANNELS), float("-inf"), given.dtype.element_ty)
    for tap_y in tl.static_range(3):
        for tap_x in tl.static_range(3):
            y, x = 2 * to_y + tap_y - 1, 2 * to_x + tap_x - 1
            inside = (y >= 0) & (y < H) & (x >= 0) & (x < W)
            at = ((plane.to(tl.int64) * H + y) * W + x) * CHANNELS + channel
            largest = tl.maximum(largest, tl.load(given + at, mask=inside, other=float("-inf")))
    to = (row.to(tl.int64) * TO_W + to_x) * CHANNELS + channel
    tl.store(pooled + to, largest, mask=to_x < TO_W)


def place_pool(planes_NCHW: Tensor) -> Tensor:
    """``planes.place_pool`` over channels-last planes; C a power of two."""
    count, channels, height, width = planes_NCHW.shape
    to_height, to_width = (height + 1) // 2, (width + 1) // 2
    pooled_NHWC = torch.empty(count, to_height, to_width, channels, dtype=planes_NCHW.dtype, device=planes_NCHW.device)
    _place_pool[(count * to_height, triton.cdiv(to_width, CELLS))](
        planes_NCHW, pooled_NHWC, height, width, to_height, to_width, channels, CELLS
    )
    return pooled_NHWC.permute(0, 3, 1, 2)


@triton.jit
def _pair_pool(given, pooled, SIZE, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    pair = tl.program_id(0).to(tl.int64)
    inner = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    first = tl.load(given + 2 * pair * SIZE + inner, mask=inner < SIZE)
    second = tl.load(given + (2 * pair + 1) * SIZE + inner, mask=inner < SIZE)
    tl.store(pooled + pair * SIZE + inner, tl.maximum(first, second), mask=inner < SIZE)


def time_pool(planes_NCHW: Tensor, frames: int) -> Tensor:
    """``planes.time_pool`` over channels-last planes; of pairs in one pass."""
    if frames != 2:
        return planes.time_pool(planes_NCHW, frames)
    count, channels, height, width = planes_NCHW.shape
    pooled_NHWC = torch.empty(count // 2, height, width, channels, dtype=planes_NCHW.dtype, device=planes_NCHW.device)
    size, block = height * width * channels, 4096
    _pair_pool[(count // 2, triton.cdiv(size, block))](planes_NCHW, pooled_NHWC, size, block, num_warps=8)
    return pooled_NHWC.permute(0, 3, 1, 2)


MOVES = Moves(unfold=unfold, place_pool=place_pool, time_pool=time_pool)
