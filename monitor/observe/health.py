"""Whether the monitor lives: named checks, and the heartbeats of the loops that must keep turning."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

LOOP_LIMIT_S = 10.0
"""A loop that has not turned for so long is stuck; the process is then better started again."""
EVENT_LOOP = "event loop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at. ``note`` is shown to anyone who asks: a sentence without secrets."""

    name: str
    ok: bool
    note: str = ""


class Heartbeats:
    """When each named loop turned last. ``beat`` may be called from any thread, at any rate."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beaten_s: dict[str, float] = {}

    def beat(self, name: str) -> None:
        """The loop ``name`` turned just now. The first beat makes it watched: give it at start."""
        self._beaten_s[name] = self._clock()

    def forget(self, name: str) -> None:
        """The loop ended as it should: it is watched no more."""
        self._beaten_s.pop(name, None)

    def oldest(self) -> tuple[str, float] | None:
        """The loop that turned longest ago and how many seconds ago that was; None while none is watched."""
        beaten_s = self._beaten_s.copy()
        if not beaten_s:
            return None
        name = min(beaten_s, key=beaten_s.__getitem__)
        return name, self._clock() - beaten_s[name]

    def checks(self, limit_s: float = LOOP_LIMIT_S) -> tuple[Check, ...]:
        """One check a loop, by name: whether it turned within ``limit_s``."""
        now_s = self._clock()
        return tuple(
            Check(name=name, ok=now_s - beaten_s <= limit_s, note=f"turned {now_s - beaten_s:.1f} s ago")
            for name, beaten_s in sorted(self._beaten_s.copy().items())
        )


async def watch_event_loop(heartbeats: Heartbeats, observe_lag: Callable[[float], None], every_s: float = 1.0) -> None:
    """Beats for the event loop until it is cancelled, and reports each time how late the loop woke it."""
    clock = asyncio.get_running_loop().time
    try:
        while True:
            heartbeats.beat(EVENT_LOOP)
            due_s = clock() + every_s
            await asyncio.sleep(every_s)
            observe_lag(max(0.0, clock() - due_s))
    finally:
        heartbeats.forget(EVENT_LOOP)
