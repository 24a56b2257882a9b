"""What lies over the whole picture: smoke in the room, something before the lens.

Weights are made on a small grid and enlarged: what is soft needs no pixels.
Legend: H, W of the picture, h, w of the grid.
"""

from __future__ import annotations

from math import pi, sin

import cv2
import numpy as np

from monitor.flow import Floats, Pictures
from monitor.stage.backdrop import cloud

_GRID = (96, 160)
_TILE = 256


class Smoke:
    """A cloud that grows from a place in the picture and boils; thins out in its last second and a half."""

    def __init__(
        self, random: np.random.Generator, source: tuple[float, float], start_s: float, end_s: float, *, night: bool
    ) -> None:
        """``source`` is where it begins, as shares of the picture's width and height."""
        self.start_s, self.end_s = start_s, end_s
        self.source = (min(max(source[0], 0.2), 0.8), min(max(source[1], 0.45), 0.85))
        self.tile = np.tile(cloud(random, _TILE, octaves=5), (2, 2))
        self.tone = (130, 90) if night else ((168, 105) if random.random() < 0.5 else (72, 100))
        self.drift = float(random.choice((-1.0, 1.0))) * float(random.uniform(8, 22))
        rows, columns = np.mgrid[0 : _GRID[0], 0 : _GRID[1]].astype(np.float32)
        self.rows, self.columns = rows / _GRID[0], columns / _GRID[1]

    def lay(self, frame: Pictures, time_s: float) -> Pictures:
        """The frame (H, W, 3) through the smoke of a time."""
        if not self.start_s < time_s < self.end_s:
            return frame
        age = time_s - self.start_s
        grown = 1 - float(np.exp(-age / 2.2))
        rough, fine = self._noise(age, 70.0, self.drift), self._noise(age + 9, 115.0, -1.6 * self.drift)
        across = (self.columns - self.source[0] - 0.05 * sin(age * 1.1)) / (0.10 + 0.46 * grown)
        centre = self.source[1] - 0.30 * grown
        along = (self.rows - centre) / (0.10 + 0.50 * grown)
        body = 1.15 - np.sqrt(across**2 + along**2)
        thick = np.clip((body + (rough - 0.5) * 1.6 + (fine - 0.5) * 0.9) * 1.7, 0, 1)
        fade = min(1.0, age / 0.5, (self.end_s - time_s) / 1.5)
        colour = np.clip(self.tone[0] + (rough + fine - 1.0) * self.tone[1], 8, 245).astype(np.uint8)
        return _blend(frame, cv2.cvtColor(colour, cv2.COLOR_GRAY2RGB), np.asarray(thick * 0.94 * fade, np.float32))

    def _noise(self, age: float, rise: float, drift: float) -> Floats:
        y, x = int(age * rise) % _TILE, int(age * drift) % _TILE
        return self.tile[y : y + _GRID[0], x : x + _GRID[1]]


class Cover:
    """Something dark and out of focus that slides over the lens, is held there unsteadily, and is taken away."""

    def __init__(self, random: np.random.Generator, start_s: float, end_s: float, *, night: bool) -> None:
        self.start_s, self.end_s = start_s, end_s
        self.angle = float(random.uniform(0, 2 * pi))
        self.slide_s = float(random.uniform(0.4, 0.8))
        self.shake_hz = float(random.uniform(0.8, 1.4))
        self.tile = np.tile(cloud(random, _TILE, octaves=2), (2, 2))
        base = np.array(((46, 34, 28), (26, 28, 34), (40, 40, 36))[int(random.integers(3))], np.float32)
        self.rgb = np.full(3, base.mean(), np.float32) if night else base
        rows, columns = np.mgrid[0 : _GRID[0], 0 : _GRID[1]].astype(np.float32)
        x, y = columns / _GRID[1] * 2 - 1, rows / _GRID[0] * 2 - 1
        along = x * np.float32(np.cos(self.angle)) + y * np.float32(np.sin(self.angle))
        bulge = x * np.float32(-np.sin(self.angle)) + y * np.float32(np.cos(self.angle))
        self.reach = along + 0.25 * bulge**2  # where the edge must be to cover a point; from about -1.4 to 1.9

    def lay(self, frame: Pictures, time_s: float) -> Pictures:
        """The frame (H, W, 3) with what covers it at a time."""
        if not self.start_s < time_s < self.end_s:
            return frame
        age, left = time_s - self.start_s, self.end_s - time_s
        on = min(1.0, age / self.slide_s, left / self.slide_s)
        hand = sin(2 * pi * self.shake_hz * age) + 0.6 * sin(2 * pi * 2.3 * self.shake_hz * age + 1)
        edge = -1.9 + 3.3 * (on * on * (3 - 2 * on)) + 0.16 * hand
        weight = np.clip((edge - self.reach) / 0.7 + 0.5, 0, 0.985).astype(np.float32)
        y, x = int(60 + 14 * hand) % _TILE, int(60 + 18 * sin(2 * pi * 0.7 * age)) % _TILE
        shade = 0.45 + 1.3 * self.tile[y : y + _GRID[0], x : x + _GRID[1], None]
        return _blend(frame, np.clip(self.rgb * shade, 0, 255).astype(np.uint8), weight)


Veil = Smoke | Cover


def _blend(frame: Pictures, over: Pictures, weight: Floats) -> Pictures:
    """``over`` (h, w, 3) laid on ``frame`` (H, W, 3) with ``weight`` (h, w) in [0, 1]."""
    size = (frame.shape[1], frame.shape[0])
    large = cv2.resize(over, size, interpolation=cv2.INTER_LINEAR)
    much = np.asarray(cv2.resize(weight, size, interpolation=cv2.INTER_LINEAR), np.float32)
    return np.asarray(cv2.blendLinear(large, frame, much, 1 - much), np.uint8)
