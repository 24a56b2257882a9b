"""Scenes of a plant as its cameras see them: a room, its calm life, and the incidents that are staged in it.

A scene is a pure function of its arguments: the same seed, size, rate and incidents give the same pictures, whichever
frames are asked for. Legend: H, W picture height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import cv2
import numpy as np

from monitor.flow import Floats, Pictures
from monitor.stage.backdrop import Lens, paint
from monitor.stage.figures import Looks, Posture, draw, dress
from monitor.stage.incidents import Cast, IncidentKind, Room, Staged, cast
from monitor.stage.layout import layout_of, pose_of
from monitor.stage.machines import machines_of
from monitor.stage.paths import Stroll

__all__ = ["IncidentKind", "Scene", "Staged", "write_clip"]

_NEAREST_CALM_M = 4.6  # calm people keep this far from the camera's wall
_NOISE_SPARE = 64  # the noise tile is larger than the picture by this many pixels, and is shifted at every frame


class Scene:
    """One camera's view of a staged room."""

    def __init__(
        self, seed: int, *, width_px: int = 640, height_px: int = 360, fps: float = 15.0,
        incidents: Sequence[Staged] = (), night: bool | None = None, people: int | None = None,
        family: str | None = None,
    ) -> None:  # fmt: skip
        """``None`` lets the seed decide: one in three is at night, one to four people, a family of the seed's split.

        Raises ValueError for a seed of no split or a family of another split.
        """
        random = np.random.default_rng((seed, 4))
        drawn_night, drawn_people = bool(random.random() < 1 / 3), int(random.integers(1, 5))
        self.seed, self.fps = seed, fps
        self.night = drawn_night if night is None else night
        self.incidents = tuple(sorted(incidents, key=lambda staged: staged.start_s))
        self.layout = layout_of(seed, family)
        self.pose = pose_of(seed, self.layout)
        self._lens = Lens(self.pose, width_px, height_px)
        self._backdrop = paint(self.layout, self._lens, night=self.night, seed=seed)
        self._machines = machines_of(self.layout, np.random.default_rng((seed, 5)))
        self._calm: list[tuple[Looks, Stroll]] = []
        for number in range(drawn_people if people is None else people):
            own = np.random.default_rng((seed, 6, number))
            self._calm.append((dress(own, night=self.night), Stroll(self.layout, own, _NEAREST_CALM_M)))
        self._casts: list[Cast] = []
        for number, staged in enumerate(self.incidents):
            room = Room(self.layout, self._lens, np.random.default_rng((seed, 7, number)), night=self.night)
            self._casts.append(cast(staged, room))
        self._grain = _noise(np.random.default_rng((seed, 8)), width_px, height_px, 6.0 if self.night else 3.0)
        self._hum = float(random.uniform(0.5, 3.0))

    def frame(self, number: int) -> Pictures:
        """(H, W, 3) uint8 RGB of the time ``number / fps``; an array of its own."""
        time_s = number / self.fps
        picture = self._backdrop.picture.copy()
        for machine in self._machines:
            light = 0.6 if self.night else 0.95
            machine.draw(picture, self._backdrop.depth, self._lens, time_s, light, self.night)
        for away, looks, posture in sorted(self._present(time_s), key=lambda one: -one[0]):
            draw(picture, self._backdrop.depth, self._lens, looks, posture, self._light(away))
        for one in self._casts:
            if one.veil is not None:
                picture = one.veil.lay(picture, time_s)
        return self._sense(picture, number, time_s)

    def _present(self, time_s: float) -> list[tuple[float, Looks, Posture]]:
        """Everybody in the room with their distance along the optical axis."""
        postures = [(looks, stroll.posture(time_s)) for looks, stroll in self._calm]
        for one in self._casts:
            for actor in one.actors:
                if actor.between_s[0] <= time_s <= actor.between_s[1]:
                    posture = actor.moves(time_s)
                    if posture is not None:
                        postures.append((actor.looks, posture))
        forward, position = self._lens.axes[2], self._lens.position
        return [
            (float(forward @ (np.array([posture.x_m, 0.9, posture.z_m]) - position)), looks, posture)
            for looks, posture in postures
        ]

    def _light(self, away_m: float) -> float:
        if not self.night:
            return 0.92
        return float(np.clip(1.5 / (1 + (away_m / 7) ** 2), 0.3, 1.2))  # the camera's own infrared lamp

    def _sense(self, picture: Pictures, number: int, time_s: float) -> Pictures:
        """As the sensor gives it: mains flicker, noise."""
        gain = 1 + 0.006 * float(np.sin(2 * np.pi * self._hum * time_s)) + 0.004 * float(np.sin(0.9 * time_s))
        picture = np.asarray(cv2.convertScaleAbs(picture, alpha=gain), np.uint8)
        x, y = (number * 37 + self.seed) % _NOISE_SPARE, (number * 23 + number // 5) % _NOISE_SPARE
        height, width = picture.shape[:2]
        for tile, mix in zip(self._grain, (cv2.add, cv2.subtract), strict=True):
            picture = np.asarray(mix(picture, tile[y : y + height, x : x + width]), np.uint8)
        return picture


def _noise(random: np.random.Generator, width_px: int, height_px: int, sigma: float) -> tuple[Pictures, Pictures]:
    """What to add and what to take away, each (H + spare, W + spare, 3) uint8; most of it is brightness, not colour."""
    size = (height_px + _NOISE_SPARE, width_px + _NOISE_SPARE)
    grey: Floats = random.standard_normal(size, dtype=np.float32)[..., None]
    noise = sigma * (grey + 0.35 * random.standard_normal((*size, 3), dtype=np.float32))
    return np.clip(noise, 0, 255).astype(np.uint8), np.clip(-noise, 0, 255).astype(np.uint8)


class Footage(Protocol):
    """What can be written as a clip: a scene, or what is put together of some."""

    fps: float

    def frame(self, number: int) -> Pictures: ...


def write_clip(path: Path, scene: Footage, seconds: float, *, bit_rate_kbit: int = 800) -> None:
    """Write the first seconds of a scene as H.264 in MP4."""
    with av.open(str(path), "w", format="mp4") as container:
        rate = Fraction(scene.fps).limit_denominator(1001)
        first = scene.frame(0)
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = bit_rate_kbit * 1000
        stream.codec_context.thread_count = 1
        for number in range(max(1, round(seconds * scene.fps))):
            picture = av.VideoFrame.from_ndarray(first if number == 0 else scene.frame(number), format="rgb24")
            picture.pts, picture.time_base = number, 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
