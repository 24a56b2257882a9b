"""A clock that machines can read, painted into the picture: how old is what arrives?

A strip along the upper edge: 64 cells, black or white: 48 bits of wall-clock milliseconds, then 16 bits of CRC. Cells
are wide and high enough to outlive H.264 at low bit rates and scaling to half the size.
"""

from __future__ import annotations

import binascii

import numpy as np

from monitor.flow import Pictures

BITS, CHECK_BITS = 48, 16
CELLS = BITS + CHECK_BITS
HEIGHT_SHARE = 1 / 45
"""Of the picture's height: 8 of 360 pixels."""
BLACK, WHITE = 16, 235


def paint(picture: Pictures, wall_ms: int) -> None:
    """Paints a time (milliseconds since 1970) into (H, W, 3) uint8 RGB, in place. ValueError for over 48 bits."""
    if not 0 <= wall_ms < 1 << BITS:
        raise ValueError(f"{wall_ms} is no time in milliseconds since 1970")
    check = binascii.crc_hqx(wall_ms.to_bytes(BITS // 8, "big"), 0xFFFF)
    code = wall_ms << CHECK_BITS | check
    bits = (code >> np.arange(CELLS - 1, -1, -1, dtype=np.uint64).astype(object)) & 1
    height, width = picture.shape[:2]
    columns = np.arange(width) * CELLS // width
    strip = np.where(bits.astype(bool)[columns], WHITE, BLACK).astype(np.uint8)
    picture[: round(height * HEIGHT_SHARE)] = strip[None, :, None]


def read(picture: Pictures) -> int | None:
    """The time in a picture (H, W, 3) uint8, at its own or another size; None where there is none that is whole."""
    height, width = picture.shape[:2]
    rows = max(1, round(height * HEIGHT_SHARE))
    middle = picture[rows // 4 : max(rows // 4 + 1, rows - rows // 4)].mean(axis=(0, 2))
    # The middle half of each cell: its edges blur.
    edges = np.arange(CELLS + 1) * width / CELLS
    code = 0
    for cell in range(CELLS):
        quarter = (edges[cell + 1] - edges[cell]) / 4
        begin, end = int(edges[cell] + quarter), int(np.ceil(edges[cell + 1] - quarter))
        code = code << 1 | int(middle[begin : max(end, begin + 1)].mean() > (BLACK + WHITE) / 2)
    wall_ms = code >> CHECK_BITS
    check = binascii.crc_hqx(wall_ms.to_bytes(BITS // 8, "big"), 0xFFFF)
    return wall_ms if check == code & ((1 << CHECK_BITS) - 1) else None
