"""What one analysed picture looks like, in a few numbers: what sight.py compares over time. NumPy only.

Everything is taken from the logarithm of the brightness where light may change: half the light is then a constant
that is added, and a gradient does not see it. Edges are kept by orientation without sign (the angle doubled), so that
an edge whose bright side becomes its dark side, as by night, stays the same edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.flow import Floats, Pictures

CELLS = 56
"""The picture is reduced to so many cells a side …"""
BLOCKS = 8
"""… and these to so many blocks a side, each of which agrees with the reference or does not."""
_DARK = 16.0
"""Grey levels added before the logarithm: below them there is noise, not structure."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Figures:
    """Of one picture. ``edges`` (2, 56, 56) float32: gradient of log brightness, its angle doubled."""

    mean: float
    """Brightness, 0 to 255."""
    spread: float
    """Standard deviation of the brightness."""
    brightest: float
    """The 98th percentile of the brightness of the cells."""
    sharpness: float
    """ln of fine over coarse detail: free of the picture's contrast, and lower the more it is blurred."""
    edges: Floats
    layout: Floats
    """(8, 8): log brightness of the blocks."""


def figures_of(picture: Pictures, ignored: npt.NDArray[np.bool_] | None = None) -> Figures:
    """``picture`` (H, W, 3) uint8, no side below 56. ``ignored`` (H, W): pixels that say nothing."""
    grey = picture[:, :, 1].astype(np.float32)  # green is most of the brightness, and costs no product
    cells = _pooled(grey, CELLS)
    unseen = None if ignored is None else _pooled(ignored.astype(np.float32), CELLS) > 0
    known = cells if unseen is None else cells[~unseen]
    if not known.size:
        known = cells
    log = np.log(cells + _DARK)
    gx, gy = np.zeros_like(log), np.zeros_like(log)
    gx[:, 1:-1] = log[:, 2:] - log[:, :-2]
    gy[1:-1] = log[2:] - log[:-2]
    size = np.hypot(gx, gy) + 1e-6
    edges = np.stack([(gx * gx - gy * gy) / size, 2 * gx * gy / size])
    if unseen is not None:
        # The border of what is painted black is the strongest edge there is, and never moves.
        blind = unseen.copy()
        blind[1:] |= unseen[:-1]
        blind[:-1] |= unseen[1:]
        blind[:, 1:] |= unseen[:, :-1]
        blind[:, :-1] |= unseen[:, 1:]
        edges[:, blind] = 0.0
    return Figures(
        mean=float(known.mean()),
        spread=float(known.std()),
        brightest=float(np.percentile(known, 98)),
        sharpness=_sharpness(grey, cells),
        edges=edges,
        layout=log.reshape(BLOCKS, CELLS // BLOCKS, BLOCKS, CELLS // BLOCKS).mean(axis=(1, 3)),
    )


def _pooled(grey: Floats, cells: int) -> Floats:
    height, width = grey.shape
    rows, columns = np.arange(cells) * height // cells, np.arange(cells) * width // cells
    summed = np.add.reduceat(np.add.reduceat(grey, rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff(np.append(rows, height)), np.diff(np.append(columns, width)))
    pooled: Floats = (summed / counts).astype(np.float32)
    return pooled


def _sharpness(grey: Floats, cells: Floats) -> float:
    """Laplacian of the analysed picture against steps between cells."""
    fine = 4 * grey[1:-1, 1:-1]
    for beside in (grey[:-2, 1:-1], grey[2:, 1:-1], grey[1:-1, :-2], grey[1:-1, 2:]):
        fine -= beside
    coarse = np.abs(cells[2:, 1:-1] - cells[:-2, 1:-1]) + np.abs(cells[1:-1, 2:] - cells[1:-1, :-2])
    # Squares: the strongest edges say how sharp the lens is; flat parts say how noisy the sensor is.
    coarse_2 = float(np.vdot(coarse, coarse)) / coarse.size
    # A lens out of focus blurs the place and not the sensor's noise, which is all there is in the quietest parts.
    fine_2 = _pooled(fine * fine, BLOCKS)
    detail_2 = max(float(fine_2.mean()) - float(np.percentile(fine_2, 10)), 0.0)
    return 0.5 * math.log((detail_2 + 0.5) / (coarse_2 + 0.5))
