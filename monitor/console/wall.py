"""Every camera as it is now, and what changed since a viewer last looked. Everything here runs on the event loop.

A change is written as JSON once, whoever watches: twenty viewers cost twenty copies of bytes. A viewer that comes back
within ``KEPT`` changes gets what it missed; any other gets the whole wall.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SCORES = 90
"""That a tile's line shows. Without their times, which the history has: they were half of a first view's bytes."""
KEPT = 120
SILENCE_S = 2.0
"""So often at least something is sent: a viewer that hears nothing for long knows that it is not live."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraNow:
    """What is told of one camera, once a second."""

    name: str
    status: str
    reason: str
    since_s: float
    mode: Literal["alert", "observe"]
    labels: Mapping[str, str]
    raise_at: float
    clear_at: float
    raised: bool = False
    would_raise: bool = False
    alert_id: str | None = None
    onset_s: float | None = None
    peak_score: float | None = None


@dataclass(slots=True)
class _Tile:
    facts: dict[str, Any]
    scores: deque[float] = field(default_factory=lambda: deque(maxlen=SCORES))
    new: list[float] = field(default_factory=list)
    attention: list[float] = field(default_factory=list)


class Wall:
    """``number`` counts the changes; ``life`` tells one life of the monitor from the next."""

    def __init__(self, site: str) -> None:
        self.site = site
        self.life = secrets.token_hex(4)
        self.number = 0
        self.closed = False
        self._tiles: dict[str, _Tile] = {}
        self._changes: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        self._came = asyncio.Event()
        self._news: list[tuple[str, Any]] = []
        self.viewers = 0

    # -- what the monitor tells -------------------------------------------------------------------------------------

    def scored(self, camera: str, scores: Iterable[float], attention: list[float]) -> None:
        """Of the segments that were just published, the oldest first."""
        tile = self._tiles.get(camera)
        if tile is not None:
            tile.new += [round(score, 3) for score in scores]
            tile.attention = attention

    def tell(self, what: str, news: Any) -> None:
        """Anything else a page should hear of: an alert's message, a verdict."""
        self._news.append((what, news))

    def look(self, cameras: Iterable[CameraNow], more: Mapping[str, Mapping[str, Any]]) -> None:
        """Once a second: how every camera stands. ``more``: what the console itself knows of some (shelf, …)."""
        changed: dict[str, Any] = {}
        names = set()
        for camera in cameras:
            names.add(camera.name)
            facts = _facts(camera) | {"shelf": None, "acknowledged": False} | dict(more.get(camera.name, {}))
            tile = self._tiles.get(camera.name)
            if tile is None:
                tile = self._tiles[camera.name] = _Tile({})
            delta: dict[str, Any] = {key: value for key, value in facts.items() if tile.facts.get(key, ...) != value}
            tile.facts = facts
            if tile.new:
                delta["scores"] = tile.new
                tile.scores.extend(tile.new)
                tile.new = []
            if delta:
                changed[camera.name] = delta
        removed = [name for name in self._tiles if name not in names]
        for name in removed:
            del self._tiles[name]
        if changed or removed or self._news:
            news, self._news = self._news, []
            self._publish({"cameras": changed, "removed": removed, "news": news})

    def close(self) -> None:
        """The monitor ends: viewers are sent away, so that the service can."""
        self.closed = True
        self._wake()

    # -- what viewers ask -------------------------------------------------------------------------------------------

    def whole(self) -> dict[str, Any]:
        return {"site": self.site, "cameras": {name: self.tile(name) for name in self._tiles}}

    def tile(self, name: str) -> dict[str, Any]:
        """Raises KeyError for a camera that is not there."""
        tile = self._tiles[name]
        return tile.facts | {"scores": list(tile.scores)}

    def attention(self, name: str) -> list[float]:
        return self._tiles[name].attention

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._tiles)

    async def follow(self, last: str | None, may: Callable[[], bool] = lambda: True) -> AsyncIterator[bytes]:
        """Server-sent events from ``last`` (an event's id) on, until the monitor ends or ``may`` says no."""
        self.viewers += 1
        try:
            seen = self._resume(last)
            if seen is None:
                seen = self.number
                yield _event("wall", self._key(seen), _json(self.whole()))
            while not self.closed and may():
                came = self._came
                changes = tuple(self._changes)
                if changes and changes[0][0] > seen + 1:  # too slow: what it missed is gone
                    seen = self.number
                    yield _event("wall", self._key(seen), _json(self.whole()))
                for number, line in changes:
                    if number > seen:
                        seen = number
                        yield _event("change", self._key(number), line)
                try:
                    await asyncio.wait_for(came.wait(), SILENCE_S)
                except TimeoutError:
                    yield b"event: beat\ndata: {}\n\n"
        finally:
            self.viewers -= 1

    def _resume(self, last: str | None) -> int | None:
        """The number a viewer has seen, if all that came since is still there."""
        life, _, number = (last or "").partition(".")
        if life != self.life or not (number.isascii() and number.isdigit()):
            return None
        oldest = self._changes[0][0] if self._changes else self.number + 1
        return int(number) if oldest - 1 <= int(number) <= self.number else None

    def _key(self, number: int) -> str:
        return f"{self.life}.{number}"

    def _publish(self, change: dict[str, Any]) -> None:
        self.number += 1
        self._changes.append((self.number, _json(change)))
        self._wake()

    def _wake(self) -> None:
        came, self._came = self._came, asyncio.Event()
        came.set()


def _facts(camera: CameraNow) -> dict[str, Any]:
    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 4)

    return {
        "name": camera.name,
        "status": camera.status,
        "reason": camera.reason,
        "since_s": round(camera.since_s, 3),
        "mode": camera.mode,
        "labels": dict(camera.labels),
        "raise_at": rounded(camera.raise_at),
        "clear_at": rounded(camera.clear_at),
        "raised": camera.raised,
        "would_raise": camera.would_raise,
        "alert_id": camera.alert_id,
        "onset_s": None if camera.onset_s is None else round(camera.onset_s, 3),
        "peak_score": rounded(camera.peak_score),
    }


def _json(data: Any) -> bytes:
    # No line break can be in it: json escapes them, and an event is a line.
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def _event(name: str, key: str, data: bytes) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (key.encode(), name.encode(), data)
