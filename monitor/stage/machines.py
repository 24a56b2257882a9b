"""What moves by itself in a calm room: wheels, boxes on a belt, lamps that blink."""

from __future__ import annotations

from math import pi

import cv2
import numpy as np
import numpy.typing as npt

from monitor.flow import Floats, Pictures
from monitor.stage.backdrop import Colour, Lens
from monitor.stage.layout import Box, Layout

Points = npt.NDArray[np.float64]
_SHIFT = 3


class Wheel:
    """A flywheel on the side of a press or lathe that looks into the room."""

    def __init__(self, box: Box, random: np.random.Generator) -> None:
        self.radius = min(0.5, box.height_m * 0.32)
        x = box.x_m[1] + 0.03 if box.x_m[0] < 0 else box.x_m[0] - 0.03
        self.centre = np.array([x, box.height_m * 0.55, sum(box.z_m) / 2])
        self.turns = float(random.uniform(0.25, 0.7))
        self.rgb: Colour = ((170, 60, 44), (64, 96, 120), (170, 150, 60))[int(random.integers(3))]

    def draw(self, frame: Pictures, depth: Floats, lens: Lens, time_s: float, light: float, night: bool) -> None:
        """Paint it as it stands at a time."""
        around = np.linspace(0, 2 * pi, 20, endpoint=False)
        spokes = around[:5] * 4 + 2 * pi * self.turns * time_s
        rim, tips = self._ring(around, self.radius), self._ring(spokes, self.radius * 0.85)
        pixels, away = lens.project(np.concatenate([rim, tips, self.centre[None]]))
        if _hidden(depth, pixels[-1], float(away[-1])):
            return
        at = np.rint(pixels * (1 << _SHIFT)).astype(np.int32)
        thick = max(1, round(0.07 * lens.focal_px / float(away[-1])))
        cv2.fillConvexPoly(frame, at[:20], _lit((44, 46, 48), light, night), cv2.LINE_AA, _SHIFT)
        for tip in at[20:25]:
            cv2.line(frame, at[-1].tolist(), tip.tolist(), _lit(self.rgb, light, night), thick, cv2.LINE_AA, _SHIFT)
        cv2.polylines(frame, [at[:20]], True, _lit(self.rgb, light * 0.9, night), thick, cv2.LINE_AA, _SHIFT)

    def _ring(self, angles: Points, radius: float) -> Points:
        still = np.full(len(angles), self.centre[0])
        up, along = self.centre[1] + radius * np.sin(angles), self.centre[2] + radius * np.cos(angles)
        return np.stack([still, up, along], axis=1)


class Belt:
    """Boxes that ride on a conveyor, with stops of the belt."""

    def __init__(self, box: Box, random: np.random.Generator) -> None:
        self.box = box
        self.speed = float(random.choice((-1.0, 1.0))) * float(random.uniform(0.25, 0.5))
        self.gap = float(random.uniform(1.1, 1.7))
        self.rest = float(random.uniform(12, 25))  # seconds from stop to stop; a stop lasts a quarter of that
        self.rgb: tuple[Colour, ...] = ((168, 132, 88), (150, 120, 84), (96, 116, 140))

    def draw(self, frame: Pictures, depth: Floats, lens: Lens, time_s: float, light: float, night: bool) -> None:
        """Paint the boxes as they stand at a time."""
        run = (time_s // self.rest) * 0.75 + min(time_s % self.rest / self.rest, 0.75)
        way, near = run * self.rest * self.speed, self.box.z_m[0]
        length, x = self.box.z_m[1] - near, sum(self.box.x_m) / 2
        first = int(np.ceil((0.25 - way) / self.gap))
        last = int((length - 0.25 - way) // self.gap)
        for number in range(last, first - 1, -1):  # far to near
            size = 0.19 + 0.05 * ((number * 7) % 3)
            centre = np.array([x, self.box.height_m, near + way + number * self.gap])
            self._carton(frame, depth, lens, centre, size, _lit(self.rgb[number % 3], light, night))

    def _carton(self, frame: Pictures, depth: Floats, lens: Lens, at: Points, size: float, rgb: Colour) -> None:
        corners = np.array([(x, y, z) for y in (0.0, 1.7) for x, z in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
        pixels, away = lens.project(at + corners * size)
        if _hidden(depth, pixels[:8].mean(axis=0), float(away.min())):
            return
        spots = np.rint(pixels * (1 << _SHIFT)).astype(np.int32)
        cv2.fillConvexPoly(frame, cv2.convexHull(spots), tuple(int(c * 0.7) for c in rgb), cv2.LINE_AA, _SHIFT)
        cv2.fillConvexPoly(frame, spots[[0, 1, 5, 4]], tuple(int(c * 0.88) for c in rgb), cv2.LINE_AA, _SHIFT)
        cv2.fillConvexPoly(frame, spots[4:8], rgb, cv2.LINE_AA, _SHIFT)


class Lamp:
    """A signal lamp on top of something; it blinks."""

    def __init__(self, box: Box, random: np.random.Generator) -> None:
        self.at = np.array([sum(box.x_m) / 2, box.height_m + 0.12, box.z_m[0] + 0.3])
        self.period, self.offset = float(random.uniform(0.9, 2.4)), float(random.random())
        self.rgb: Colour = ((255, 176, 40), (90, 230, 110), (240, 70, 50))[int(random.integers(3))]

    def draw(self, frame: Pictures, depth: Floats, lens: Lens, time_s: float, light: float, night: bool) -> None:
        """Paint it, lit or dark."""
        pixels, away = lens.project(self.at)
        if _hidden(depth, pixels, float(away)):
            return
        lit = (time_s / self.period + self.offset) % 1 < 0.5
        rgb = _lit(self.rgb, 1.0 if lit else 0.35, night)
        metre, at = lens.focal_px / float(away), (round(pixels[0]), round(pixels[1]))
        cv2.line(frame, (at[0], at[1] + round(0.12 * metre)), at, (50, 50, 50), max(1, round(0.05 * metre)))
        cv2.circle(frame, at, max(1, round(0.07 * metre)), rgb, cv2.FILLED, cv2.LINE_AA)


Machine = Wheel | Belt | Lamp


def machines_of(layout: Layout, random: np.random.Generator) -> tuple[Machine, ...]:
    """What moves on the boxes of a layout."""
    machines: list[Machine] = []
    for box in layout.boxes:
        if box.kind in ("press", "lathe"):
            machines.append(Wheel(box, random))
        if box.kind == "conveyor":
            machines.append(Belt(box, random))
        if box.kind in ("press", "tank", "cabinet", "conveyor") and random.random() < 0.6:
            machines.append(Lamp(box, random))
    return tuple(machines)


def _lit(rgb: Colour, light: float, night: bool) -> Colour:
    red, green, blue = (min(255, int(part * light)) for part in rgb)
    if not night:
        return red, green, blue
    grey = (red + green + blue) // 3
    return grey, grey, grey


def _hidden(depth: Floats, pixel: Points, away: float) -> bool:
    """Whether a point is outside the picture or behind something of the room."""
    x, y = int(pixel[0]), int(pixel[1])
    if not (0 <= x < depth.shape[1] and 0 <= y < depth.shape[0]):
        return True
    return bool(depth[y, x] < away - 0.8)


__all__ = ["Belt", "Lamp", "Machine", "Wheel", "machines_of"]
