"""What goes wrong in a staged room: who does what when, and what lies over the picture.

Every incident plays in the near half of the room. Its people come in calmly before it and leave calmly after it, so
that the seconds outside it are calm life.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from math import atan2, cos, pi, sin

import numpy as np

from monitor.stage.backdrop import Lens
from monitor.stage.figures import Looks, Posture, dress
from monitor.stage.layout import Layout
from monitor.stage.paths import Path, Point, visit
from monitor.stage.veils import Cover, Smoke, Veil


class IncidentKind(enum.StrEnum):
    """What can be staged."""

    FALL = "fall"
    FIGHT = "fight"
    SMOKE = "smoke"
    CROWD = "crowd running"
    COVERED = "covered camera"


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """An incident and when it is to be seen, in seconds of the scene. Raises ValueError if it ends before it starts."""

    kind: IncidentKind
    start_s: float
    end_s: float

    def __post_init__(self) -> None:
        if not self.end_s > self.start_s:
            raise ValueError(f"staged {self.kind}: end_s {self.end_s:g} must come after start_s {self.start_s:g}")


Moves = Callable[[float], Posture | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Somebody and how they hold themselves at a time; ``moves`` gives None while they are not in the room."""

    looks: Looks
    moves: Moves
    between_s: tuple[float, float]
    """When they can be in the room at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """What one incident adds to a scene."""

    actors: tuple[Actor, ...] = ()
    veil: Veil | None = None


class Room:
    """Where an incident plays: the spot near the camera, the door, the clothes of its people."""

    def __init__(self, layout: Layout, lens: Lens, random: np.random.Generator, *, night: bool) -> None:
        self.layout, self.lens, self.random, self.night = layout, lens, random, night
        self.door: Point = (layout.door_x_m, layout.depth_m - 0.15)
        self.spot = self._near_spot()

    def _near_spot(self) -> Point:
        """Free floor a little above the lower edge of the picture, so that people there are large and whole."""
        low, high = self.layout.free_x_m
        for z in np.arange(3.0, self.layout.depth_m - 2, 0.1):
            ahead, _ = self.lens.project(np.array([(low + high) / 2, 0.0, z]))
            if ahead[1] < 0.93 * self.lens.height_px:
                break
        choices = np.linspace(low + 0.3, high - 0.3, 15) if high - low > 0.7 else np.array([(low + high) / 2])
        feet, _ = self.lens.project(np.stack([choices, 0 * choices, choices * 0 + z], axis=1))
        middle = np.abs(feet[:, 0] / self.lens.width_px - 0.5)
        seen = choices[middle < max(0.22, float(middle.min()) + 1e-6)]
        return float(self.random.choice(seen)), float(z + self.random.uniform(0.2, 0.8))

    def aside(self, dx: float, dz: float) -> Point:
        """A place beside the spot, kept on free floor."""
        low, high = self.layout.free_x_m
        return min(max(self.spot[0] + dx, low), high), max(self.spot[1] + dz, 2.5)

    def actor(self, path: Path, moves: Moves) -> Actor:
        """Somebody new on a path."""
        return Actor(looks=dress(self.random, night=self.night), moves=moves, between_s=path.extent())


def cast(staged: Staged, room: Room) -> Cast:
    """Everybody and everything that an incident needs."""
    match staged.kind:
        case IncidentKind.FALL:
            return Cast(actors=_fall(staged, room))
        case IncidentKind.FIGHT:
            return Cast(actors=_fight(staged, room))
        case IncidentKind.CROWD:
            return Cast(actors=_crowd(staged, room))
        case IncidentKind.SMOKE:
            x, z = room.aside(float(room.random.uniform(-1, 1)), 0.5)
            pixel, _ = room.lens.project(np.array([x, 0.4, z]))
            source = (float(pixel[0]) / room.lens.width_px, float(pixel[1]) / room.lens.height_px)
            return Cast(veil=Smoke(room.random, source, staged.start_s, staged.end_s, night=room.night))
        case IncidentKind.COVERED:
            return Cast(veil=Cover(room.random, staged.start_s, staged.end_s, night=room.night))


def _ease(begin: float, end: float, now: float) -> float:
    """0 before ``begin``, 1 after ``end``, smooth in between."""
    share = min(max((now - begin) / (end - begin), 0.0), 1.0)
    return share * share * (3 - 2 * share)


def _during(staged: Staged, now: float, rise_s: float = 0.4) -> float:
    """1 in the incident, 0 outside, with soft edges inside it."""
    return _ease(staged.start_s, staged.start_s + rise_s, now) * (1 - _ease(staged.end_s - rise_s, staged.end_s, now))


def _fall(staged: Staged, room: Room) -> tuple[Actor, ...]:
    """Somebody walks across, drops in two thirds of a second and writhes; one runs there and shakes them, one waves."""
    side = float(room.random.choice((-1.0, 1.0)))
    right = room.lens.axes[0] * side
    across = atan2(right[0], right[2])  # they drop across the view, to be seen at full length
    before = room.aside(-1.6 * side, 0.5)
    way = visit(room.door, (before, room.spot), arrive_s=staged.start_s, leave_s=staged.end_s)

    def victim(now: float) -> Posture | None:
        posture = way.posture(now)
        if posture is None:
            return None
        down = _ease(staged.start_s, staged.start_s + 0.65, now) * (1 - _ease(staged.end_s - 1.2, staged.end_s, now))
        if down <= 0:
            return posture
        flail = sin(9 * (now - staged.start_s)) + 0.5 * sin(15.5 * now)
        return dataclasses.replace(
            posture, heading=across + 0.2, fallen=down, gait=posture.gait + 6.5 * (now - staged.start_s) * down,
            stride=max(posture.stride, 0.55 * down), arms=(2.3 * down + 0.5 * flail, 2.0 * down - 0.6 * flail),
            elbows=(0.6, 0.9), spread=0.5 * down,
        )  # fmt: skip

    kneels = visit(
        room.door, (room.aside(0.55 * side, 0.65),), arrive_s=staged.start_s + 2.2, leave_s=staged.end_s, run=True
    )
    waves = visit(
        room.door, (room.aside(1.7 * side, 0.9),), arrive_s=staged.start_s + 3.2, leave_s=staged.end_s, run=True
    )

    def shakes(now: float) -> Posture | None:
        posture = kneels.posture(now)
        low = _ease(staged.start_s + 2.1, staged.start_s + 2.7, now) * (
            1 - _ease(staged.end_s - 0.8, staged.end_s, now)
        )
        if posture is None or low <= 0:
            return posture
        press = sin(2 * pi * 2.1 * now)
        return dataclasses.replace(
            posture, heading=-side * 2.2, kneel=low, stride=posture.stride * (1 - low), spread=0.05,
            lean=(0.75 + 0.3 * press) * low, arms=((0.9 + 0.3 * press) * low,) * 2, elbows=(0.15, 0.15),
        )  # fmt: skip

    def calls(now: float) -> Posture | None:
        posture = waves.posture(now)
        up = _ease(staged.start_s + 2.8, staged.start_s + 3.3, now) * (1 - _ease(staged.end_s - 0.6, staged.end_s, now))
        if posture is None or up <= 0:
            return posture
        swing = sin(2 * pi * 1.7 * now)
        hop = 0.75 * sin(2 * pi * 0.55 * now)
        return dataclasses.replace(
            posture, x_m=posture.x_m + hop * up, heading=pi + 0.9 * swing, stride=0.7 * up, gait=2 * pi * 1.6 * now,
            arms=((2.4 + 0.7 * swing) * up, (2.4 - 0.7 * swing) * up), elbows=(0.3, 0.3), spread=0.5 + 0.4 * swing,
        )  # fmt: skip

    return room.actor(way, victim), room.actor(kneels, shakes), room.actor(waves, calls)


def _fight(staged: Staged, room: Room) -> tuple[Actor, ...]:
    """Two people meet, then hit, push and circle one another, all over the near floor."""
    wander = room.random.uniform(0.8, 1.5, 4)
    ways = [
        visit(room.door, (room.aside(0.5 * sign, 0.0),), arrive_s=staged.start_s - 1.2 * sign, leave_s=staged.end_s)
        for sign in (-1, 1)
    ]

    def fighter(sign: int, way: Path) -> Moves:
        def moves(now: float) -> Posture | None:
            posture = way.posture(now)
            fury = _during(staged, now)
            if posture is None or fury <= 0:
                return posture
            age = now - staged.start_s
            turn = 1.5 * age * (1 if wander[0] > 1.1 else -1) + 0.9 * sin(2.3 * wander[1] * age)
            shoved = max(0.0, sin(2 * pi * age / 2.2 + wander[2])) ** 3
            apart = 0.36 + 0.16 * sin(2 * pi * 1.3 * age) + 0.75 * shoved
            centre_x, centre_z = room.aside(0.95 * sin(1.9 * wander[3] * age), 0.3 + 0.5 * sin(1.3 * wander[2] * age))
            x, z = centre_x + sign * apart * sin(turn), centre_z + sign * apart * cos(turn)
            beat = 2 * pi * (2.3 + 0.3 * sign) * age + sign
            return dataclasses.replace(
                posture, x_m=posture.x_m + (x - posture.x_m) * fury, z_m=posture.z_m + (z - posture.z_m) * fury,
                heading=turn + (pi if sign > 0 else 0.0) + 0.4 * sin(beat * 0.7), gait=2 * pi * 1.9 * age + sign,
                stride=0.75 * fury, lean=(0.3 + 0.3 * sin(beat * 0.8) - 0.5 * shoved) * fury,
                arms=((1.2 + 0.9 * sin(beat)) * fury, (1.2 + 0.9 * sin(beat + 2.4)) * fury),
                elbows=(0.8 + 0.8 * sin(beat + 1), 0.8 + 0.8 * sin(beat - 1.4)), spread=0.3,
            )  # fmt: skip

        return moves

    return tuple(room.actor(way, fighter(sign, way)) for sign, way in zip((-1, 1), ways, strict=True))


def _crowd(staged: Staged, room: Room) -> tuple[Actor, ...]:
    """Six to ten people at a time run from the door under the camera, or back, wave after wave, till the end."""
    random, (low, high) = room.random, room.layout.free_x_m
    actors: list[Actor] = []
    for number in range(int(random.integers(6, 11))):
        begin, back = staged.start_s + 0.15 * number, number % 3 == 1
        while True:
            pace = float(random.uniform(3.2, 4.4))
            lane = float(random.uniform(low, high))
            swerve = min(max(lane + float(random.uniform(-1, 1)), low), high)
            middle = (lane, room.layout.depth_m * 0.55)
            way = [room.door, middle, (swerve, 1.2)]
            if back:
                way.reverse()
            path = Path((begin, way[0]))
            for a, b in itertools.pairwise(way):
                path.add(path.times[-1] + float(np.hypot(b[0] - a[0], b[1] - a[1])) / pace, b)
            if path.times[-1] > staged.end_s:
                break
            actors.append(room.actor(path, _runner(path, float(random.uniform(0, 1)))))
            begin, back = path.times[-1] + float(random.uniform(0.0, 0.3)), bool(random.random() < 0.3)
    return tuple(actors)


def _runner(path: Path, panic: float) -> Moves:
    def moves(now: float) -> Posture | None:
        posture = path.posture(now)
        if posture is None or panic < 0.6:
            return posture
        swing = 0.5 * sin(now * 11 + panic * 9)  # arms in the air
        return dataclasses.replace(posture, arms=(2.2 + swing, 2.2 - swing), elbows=(0.2, 0.2), spread=0.4)

    return moves
