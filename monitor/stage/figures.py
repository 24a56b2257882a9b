"""Figures of people: a posture becomes joints in metres, joints become thick lines in the picture.

Angles are radians. Local axes: side (right), up, forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import cv2
import numpy as np
import numpy.typing as npt

from monitor.flow import Floats, Pictures
from monitor.stage.backdrop import Colour, Lens

_SHIFT = 3  # cv2 takes coordinates in eighths of a pixel: limbs move smoothly


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What a person wears. ``hat`` is hair or helmet."""

    height_m: float
    top: Colour
    trousers: Colour
    skin: Colour
    hat: Colour
    stripes: Colour | None
    """Of a reflecting vest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posture:
    """Where somebody stands and how the limbs are held; the default stands upright."""

    x_m: float
    z_m: float
    heading: float
    """0 looks into the room (z), pi / 2 to the right (x)."""
    gait: float = 0.0
    """Phase of the step."""
    stride: float = 0.0
    """0 stands, 0.5 walks, 1 runs."""
    lean: float = 0.0
    kneel: float = 0.0
    """0 stands, 1 kneels."""
    fallen: float = 0.0
    """0 stands, 1 lies face down."""
    arms: tuple[float, float] = (0.0, 0.0)
    """Left and right arm raised forward; pi is straight up. Added to the swing of the gait."""
    elbows: tuple[float, float] = (0.2, 0.2)
    spread: float = 0.1
    """Arms held away from the body."""


_TOPS = ((214, 120, 36), (206, 214, 60), (52, 76, 128), (60, 66, 70), (150, 52, 46), (112, 130, 92), (186, 186, 180))
_TROUSERS = ((44, 52, 74), (58, 58, 60), (84, 76, 62), (36, 38, 44))
_SKINS = ((222, 180, 150), (188, 140, 108), (132, 92, 66))
_HATS = ((236, 206, 60), (236, 236, 232), (60, 96, 164), (52, 40, 32), (34, 30, 28))


def dress(random: np.random.Generator, *, night: bool) -> Looks:
    """Somebody's clothes; grey at night, as an infrared camera sees them."""

    def pick(colours: tuple[Colour, ...]) -> Colour:
        colour = colours[int(random.integers(len(colours)))]
        if not night:
            return colour
        grey = int(70 + 0.6 * sum(colour) / 3)  # cloth reflects infrared whatever its colour
        return (grey, grey, grey)

    stripes: Colour = (235, 235, 235) if night else (236, 232, 190)
    return Looks(
        height_m=float(random.uniform(1.62, 1.88)), top=pick(_TOPS), trousers=pick(_TROUSERS), skin=pick(_SKINS),
        hat=pick(_HATS), stripes=stripes if random.random() < 0.6 else None,
    )  # fmt: skip


# Indices into the joints.
_HEAD, _CROWN, _NECK, _HIP = 0, 1, 2, 3
_LEG = ((4, 5, 6, 7), (8, 9, 10, 11))
_ARM = ((12, 13, 14), (15, 16, 17))


def joints(looks: Looks, posture: Posture) -> npt.NDArray[np.float64]:
    """(18, 3) world metres: head, crown, neck, hip, then each side's hip, knee, ankle, toe, then its arm."""
    points = np.empty((18, 3))
    legs = [_leg(posture, side) for side in (0, 1)]
    hip = max(0.44 * cos(thigh) + 0.44 * cos(thigh - knee) for thigh, knee in legs) + 0.07
    lean_f, lean_u = sin(posture.lean), cos(posture.lean)
    points[_HEAD] = (0, hip + 0.70 * lean_u, 0.70 * lean_f + 0.03)
    points[_CROWN] = (0, hip + 0.77 * lean_u, 0.77 * lean_f + 0.01)
    points[_NECK] = (0, hip + 0.51 * lean_u, 0.51 * lean_f)
    points[_HIP] = (0, hip, 0)
    for side, sign in ((0, -1.0), (1, 1.0)):
        thigh, knee = legs[side]
        knee_at = (hip - 0.44 * cos(thigh), 0.44 * sin(thigh))
        ankle = (knee_at[0] - 0.44 * cos(thigh - knee), knee_at[1] + 0.44 * sin(thigh - knee))
        first = _LEG[side][0]
        points[first : first + 4] = (
            (sign * 0.09, hip, 0), (sign * 0.11, *knee_at), (sign * 0.10, *ankle),
            (sign * 0.12, ankle[0] - 0.04, ankle[1] + 0.17),
        )  # fmt: skip
        swing = posture.arms[side] - sin(posture.gait + pi * side) * 0.75 * posture.stride
        bend = swing + posture.elbows[side] + 2.2 * max(0.0, posture.stride - 0.5)
        out, along = sign * sin(posture.spread), cos(posture.spread)
        first = _ARM[side][0]
        points[first] = (sign * 0.19, hip + 0.47 * lean_u, 0.47 * lean_f)
        points[first + 1] = points[first] + np.array([out, -cos(swing) * along, sin(swing) * along]) * 0.29
        points[first + 2] = points[first + 1] + np.array([out * 0.5, -cos(bend) * along, sin(bend) * along]) * 0.27
    if posture.fallen:
        turn = posture.fallen * pi / 2
        up, forward = points[:, 1].copy(), points[:, 2].copy()
        points[:, 1] = np.maximum(up * cos(turn) - forward * sin(turn) + 0.13 * sin(turn), 0.08)
        points[:, 2] = forward * cos(turn) + up * sin(turn)
    points *= looks.height_m / 1.76
    sin_h, cos_h = sin(posture.heading), cos(posture.heading)
    side_m, forward_m = points[:, 0].copy(), points[:, 2].copy()
    points[:, 0] = posture.x_m + side_m * cos_h + forward_m * sin_h
    points[:, 2] = posture.z_m - side_m * sin_h + forward_m * cos_h
    return points


def _leg(posture: Posture, side: int) -> tuple[float, float]:
    """Angle of the thigh (forward) and bend of the knee."""
    phase = posture.gait + pi * side
    thigh = posture.stride * (0.8 * sin(phase) + 0.12)
    knee = 0.06 + posture.stride * (0.25 + 1.3 * max(0.0, cos(phase)))
    down = (1.35, 2.35) if side else (0.35, 1.85)
    return thigh + (down[0] - thigh) * posture.kneel, knee + (down[1] - knee) * posture.kneel


def draw(frame: Pictures, depth: Floats, lens: Lens, looks: Looks, posture: Posture, light: float) -> None:
    """Paint a person into ``frame`` (H, W, 3) behind everything of the room that is nearer.

    ``depth`` is (H, W) metres, ``light`` multiplies the colours.
    """
    points = joints(looks, posture)
    pixels, away = lens.project(points)
    metre = lens.focal_px / float(away[_HIP])  # pixels a metre at this distance
    margin = 0.2 * metre + 2
    (left, top), (right, bottom) = pixels.min(axis=0) - margin, pixels.max(axis=0) + margin
    x0, y0 = max(0, int(left)), max(0, int(top))
    x1, y1 = min(frame.shape[1], int(right) + 1), min(frame.shape[0], int(bottom) + 1)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    window = frame[y0:y1, x0:x1]
    before = window.copy()
    corner = np.array([x0, y0])
    _shadow(window, lens, points, corner)
    _Brush(window, pixels - corner, metre * looks.height_m / 1.76, looks, light).person(away)
    hidden = cv2.inRange(depth[y0:y1, x0:x1], np.float64(0), np.float64(away.mean() - 0.35))
    cv2.copyTo(before, hidden, window)


def _shadow(window: Pictures, lens: Lens, points: npt.NDArray[np.float64], corner: npt.NDArray[np.int_]) -> None:
    """A dark patch on the floor under the body."""
    low, high = points[:, [0, 2]].min(axis=0), points[:, [0, 2]].max(axis=0)
    centre, radius = (low + high) / 2, (high - low) / 2 * 0.8 + 0.16
    ring = np.stack([centre[0] + radius[0] * _RING[0], _RING[0] * 0 + 0.01, centre[1] + radius[1] * _RING[1]], axis=1)
    pixels, _ = lens.project(ring)
    spots = np.rint(pixels - corner).astype(np.int32)
    (left, top), (right, bottom) = np.maximum(spots.min(axis=0), 0), np.maximum(spots.max(axis=0) + 1, 0)
    strip = window[top:bottom, left:right]
    if min(strip.shape[:2]) < 2:
        return
    dark = cv2.convertScaleAbs(strip, alpha=0.62)
    mask = np.zeros(strip.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, (spots - (left, top)).astype(np.int32), 255)
    cv2.copyTo(dark, mask, strip)


_RING = np.stack([np.cos(np.linspace(0, 2 * pi, 14)), np.sin(np.linspace(0, 2 * pi, 14))])
Spot = tuple[int, int]


class _Brush:
    """Strokes of one person in one window. ``metre`` is how many pixels a metre has there."""

    def __init__(
        self, window: Pictures, pixels: npt.NDArray[np.float64], metre: float, looks: Looks, light: float
    ) -> None:
        self.window, self.metre, self.looks, self.light = window, metre, looks, light
        self.spots: list[Spot] = [(x, y) for x, y in np.rint(pixels * (1 << _SHIFT)).astype(int).tolist()]

    def person(self, away: npt.NDArray[np.float64]) -> None:
        """Legs, torso, arms and head, far to near; ``away`` is the joints' distance."""
        depths = away.tolist()
        trunk = (depths[_NECK] + depths[_HIP]) / 2
        for side, (shoulder, elbow, wrist) in enumerate(_ARM):
            if (depths[shoulder] + depths[elbow] + depths[wrist]) / 3 >= trunk:
                self._arm(side, 0.8)
        far = int(depths[_LEG[1][1]] > depths[_LEG[0][1]])
        self._leg(far, 0.75)
        self._leg(1 - far, 1.0)
        if depths[_HEAD] > trunk + 0.1:  # leaning or lying away from the camera
            self._head()
            self._torso()
        else:
            self._torso()
            self._head()
        for side, (shoulder, elbow, wrist) in enumerate(_ARM):
            if (depths[shoulder] + depths[elbow] + depths[wrist]) / 3 < trunk:
                self._arm(side, 1.0)

    def _leg(self, side: int, by: float) -> None:
        hip, knee, ankle, toe = (self.spots[joint] for joint in _LEG[side])
        self._line(ankle, toe, 0.09, self._shaded((40, 36, 34), by))
        self._line(knee, ankle, 0.105, self._shaded(self.looks.trousers, by * 0.92))
        self._line(hip, knee, 0.15, self._shaded(self.looks.trousers, by))

    def _arm(self, side: int, by: float) -> None:
        shoulder, elbow, wrist = (self.spots[joint] for joint in _ARM[side])
        self._disc(wrist, 0.055, self._shaded(self.looks.skin, by))
        self._line(elbow, wrist, 0.08, self._shaded(self.looks.top, by * 0.95))
        self._line(shoulder, elbow, 0.10, self._shaded(self.looks.top, by * 0.88))

    def _torso(self) -> None:
        hips = [self.spots[leg[0]] for leg in _LEG]
        shoulders = [self.spots[arm[0]] for arm in _ARM]
        colour = self._shaded(self.looks.top, 1.0)
        self._line(hips[0], hips[1], 0.17, self._shaded(self.looks.trousers, 1.0))
        hull = cv2.convexHull(np.array([*shoulders, *hips], np.int32))
        cv2.fillConvexPoly(self.window, hull, colour, cv2.LINE_AA, _SHIFT)
        self._line(_between(self.spots[_HIP], self.spots[_NECK], 0.15), self.spots[_NECK], 0.25, colour)
        self._line(shoulders[0], shoulders[1], 0.13, self._shaded(self.looks.top, 1.08))
        if self.looks.stripes is not None:
            for share in (0.35, 0.62):
                ends = [_between(hip, shoulder, share) for hip, shoulder in zip(hips, shoulders, strict=True)]
                self._line(ends[0], ends[1], 0.05, self._shaded(self.looks.stripes, 1.05))

    def _head(self) -> None:
        self._line(self.spots[_NECK], self.spots[_HEAD], 0.09, self._shaded(self.looks.skin, 0.8))
        self._disc(self.spots[_HEAD], 0.105, self._shaded(self.looks.skin, 1.0))
        self._disc(self.spots[_CROWN], 0.105, self._shaded(self.looks.hat, 1.0))

    def _shaded(self, colour: Colour, by: float) -> Colour:
        red, green, blue = (min(255, int(part * self.light * by)) for part in colour)
        return red, green, blue

    def _line(self, a: Spot, b: Spot, width_m: float, colour: Colour) -> None:
        cv2.line(self.window, a, b, colour, max(1, round(width_m * self.metre)), cv2.LINE_AA, _SHIFT)

    def _disc(self, at: Spot, radius_m: float, colour: Colour) -> None:
        radius = max(1 << _SHIFT, round(radius_m * self.metre * (1 << _SHIFT)))
        cv2.circle(self.window, at, radius, colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _between(a: Spot, b: Spot, share: float) -> Spot:
    return int(a[0] + (b[0] - a[0]) * share), int(a[1] + (b[1] - a[1]) * share)
