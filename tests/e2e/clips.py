"""Small recordings made on the spot."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def moving_clip(path: Path, seconds: float, fps: int = 15, width_px: int = 320, height_px: int = 180) -> Path:
    """H.264 with a key frame each second: noise behind, a bright square that wanders before it."""
    chance = np.random.default_rng(1)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "g": str(fps)})
        stream.width, stream.height, stream.pix_fmt = width_px, height_px, "yuv420p"
        stream.time_base = Fraction(1, fps)
        for number in range(round(seconds * fps)):
            picture = chance.integers(60, 120, (height_px, width_px, 3), dtype=np.uint8)
            left = 4 * number % (width_px - 40)
            picture[60:100, left : left + 40] = (230, 200, 40)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path
