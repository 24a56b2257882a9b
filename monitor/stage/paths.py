"""Ways through the room: where somebody is at a time, and how they hold themselves on the way."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from math import atan2, hypot, pi, sin

import numpy as np

from monitor.stage.figures import Posture
from monitor.stage.layout import Layout

Point = tuple[float, float]
_WALK_MPS, _RUN_MPS = 1.2, 3.6


class Path:
    """Points (x, z in metres) at rising times, straight in between; nowhere before the first and after the last."""

    def __init__(self, *stops: tuple[float, Point]) -> None:
        self.times: list[float] = []
        self.points: list[Point] = []
        self.walked: list[float] = []
        for time_s, point in stops:
            self.add(time_s, point)

    def add(self, time_s: float, point: Point) -> None:
        """Go on to a point, to be there at a time."""
        step = hypot(point[0] - self.points[-1][0], point[1] - self.points[-1][1]) if self.points else 0.0
        self.walked.append((self.walked[-1] if self.walked else 0.0) + step)
        self.times.append(time_s)
        self.points.append(point)

    def extent(self) -> tuple[float, float]:
        """When it begins and ends."""
        return self.times[0], self.times[-1]

    def _at(self, time_s: float) -> tuple[float, float, float]:
        """x, z and metres walked, held at both ends."""
        after = min(max(bisect_right(self.times, time_s), 1), len(self.times) - 1)
        begin, end = self.times[after - 1], self.times[after]
        share = min(max((time_s - begin) / max(end - begin, 1e-6), 0.0), 1.0)
        (x0, z0), (x1, z1) = self.points[after - 1], self.points[after]
        walked = self.walked[after - 1] + (self.walked[after] - self.walked[after - 1]) * share
        return x0 + (x1 - x0) * share, z0 + (z1 - z0) * share, walked

    def posture(self, time_s: float) -> Posture | None:
        """Walking, running or standing at a time; None outside the path."""
        if not self.times[0] <= time_s <= self.times[-1]:
            return None
        x0, z0, walked0 = self._at(time_s - 0.2)
        x1, z1, walked1 = self._at(time_s + 0.2)
        speed = (walked1 - walked0) / 0.4
        dx, dz = x1 - x0, z1 - z0
        if hypot(dx, dz) < 0.02:
            dx, dz = self._last_direction(time_s)
        stride = min(speed / (2.4 if speed < 2 else _RUN_MPS), 1.1)
        cycle = 1.45 if speed < 2 else 2.4  # metres of two steps
        return Posture(
            x_m=(x0 + x1) / 2, z_m=(z0 + z1) / 2, heading=atan2(dx, dz), gait=(walked0 + walked1) * pi / cycle,
            stride=stride, lean=0.04 + 0.06 * max(0.0, speed - 1.5),
        )  # fmt: skip

    def _last_direction(self, time_s: float) -> Point:
        for stop in range(min(bisect_right(self.times, time_s + 0.2), len(self.times) - 1), 0, -1):
            (x0, z0), (x1, z1) = self.points[stop - 1], self.points[stop]
            if hypot(x1 - x0, z1 - z0) > 0.05:
                return x1 - x0, z1 - z0
        return 0.0, -1.0


def visit(
    door: Point, stops: tuple[Point, ...], *, arrive_s: float, leave_s: float, run: bool = False, run_off: bool = False
) -> Path:
    """From a door by way of ``stops`` to the last of them, there from ``arrive_s`` to ``leave_s``, and back."""
    way = (door, *stops)
    lengths = [hypot(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(way)]
    pace, pace_off = (_RUN_MPS if run else _WALK_MPS), (_RUN_MPS if run_off else _WALK_MPS)
    path = Path((arrive_s - sum(lengths) / pace, door))
    for number, stop in enumerate(stops):
        path.add(arrive_s - sum(lengths[number + 1 :]) / pace, stop)
    path.add(max(leave_s, arrive_s + 0.1), stops[-1])
    home = hypot(door[0] - stops[-1][0], door[1] - stops[-1][1])
    path.add(max(leave_s, arrive_s + 0.1) + home / pace_off, door)
    return path


class Stroll:
    """A calm working day: from place to place at walking pace, with pauses in which the hands are busy. Endless."""

    def __init__(self, layout: Layout, random: np.random.Generator, nearest_m: float) -> None:
        self.layout, self.random, self.nearest_m = layout, random, nearest_m
        self.path = Path((-1.0, self._place()))
        self.busy = float(random.uniform(2.0, 5.0))

    def _place(self) -> Point:
        low, high = self.layout.free_x_m
        near, far = max(self.layout.free_z_m[0], self.nearest_m), self.layout.free_z_m[1]
        return float(self.random.uniform(low, high)), float(self.random.uniform(near, far))

    def posture(self, time_s: float) -> Posture:
        """Where they are; any time from 0."""
        while self.path.times[-1] < time_s + 1.0:
            self._go_on()
        posture = self.path.posture(time_s)
        assert posture is not None  # noqa: S101 the loop above took the path past this time
        if posture.stride > 0.05:
            return posture
        hand = 0.9 + 0.25 * sin(time_s * self.busy)
        return Posture(
            x_m=posture.x_m, z_m=posture.z_m, heading=posture.heading, lean=0.12,
            arms=(0.7 + 0.1 * sin(time_s * 1.3), hand), elbows=(0.8, 0.7),
        )  # fmt: skip

    def _go_on(self) -> None:
        now, here = self.path.times[-1], self.path.points[-1]
        there = self._place()
        now += hypot(there[0] - here[0], there[1] - here[1]) / float(self.random.uniform(0.8, 1.3))
        self.path.add(now, there)
        if self.random.random() < 0.65:
            self.path.add(now + float(self.random.uniform(2, 10)), there)
