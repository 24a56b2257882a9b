"""The watch on itself: at an interval the artefact's clip goes the cameras' way, and must give what its card says.

Decoded by a reader process like theirs, encoded and scored by the same scorer beside their batches, told to the broker
on a topic of its own and acknowledged. It is no camera: no ring, no status, no alarm, no history knows of it.
What it does not prove: that a camera's own stream is well (its status does), and the outbox's disk (its check does).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from monitor.config import EvidenceSettings, Ingest
from monitor.detectors.canary import Curve, Fault, Part, judge
from monitor.detectors.card import CanaryCard
from monitor.flow import Preprocessing, Segment
from monitor.ingest.camera import ReaderSettings
from monitor.ingest.pool import ReaderPool
from monitor.observe.health import Check

log = logging.getLogger(__name__)

FIRST_S = 20.0
"""After the start: cameras come first."""
LIMIT_S = 60.0
"""For decoding, and again for scoring: with the machine overloaded too."""
SEGMENT_LIMIT_S = 2.0
"""The same for each segment, where that is more: a segment is encoded beside a whole batch of the cameras'."""
RETRY_S = 30.0
"""After a run that failed, where the interval is longer."""
LEFT_OUT = "the broker is left out: nothing is published"


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryState:
    """How the last run went; times are time.time()."""

    state: Literal["waiting", "passed", "failed"] = "waiting"
    part: Part | None = None
    reason: str | None = None
    """failed: what went wrong, a sentence."""
    checked_wall_s: float | None = None
    passed_wall_s: float | None = None
    latency_s: float | None = None
    """Of the last run that passed: from asking for the decoding to the broker's acknowledgement."""
    acknowledged: bool = True
    """passed: the broker answered. False: nothing is published (``mqtt: off``, ``--dry-run``), so it was left out."""


class Canary:
    """Runs the clip at an interval for as long as ``run`` runs.

    ``try_out``: the scorer's. ``tell`` publishes a state, and answers whether the broker acknowledged it (None: nothing
    is published). ``count`` hears ``passed`` or the part that failed, once a run.
    """

    def __init__(
        self,
        clip: Path,
        card: CanaryCard,
        *,
        every_s: float,
        fps: float,
        preprocessing: Preprocessing,
        try_out: Callable[[Sequence[Segment]], Future[Curve]],
        tell: Callable[[CanaryState], Awaitable[bool | None]],
        count: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._clip, self._card, self._every_s, self._fps = clip, card, every_s, fps
        self._preprocessing = preprocessing
        self._try_out, self._tell, self._count = try_out, tell, count
        self._clock, self._wall = clock, wall
        self._stopping = threading.Event()
        self._limit_s = max(LIMIT_S, SEGMENT_LIMIT_S * len(card.scores))
        self._well_s = clock()
        self.state = CanaryState()

    async def run(self) -> None:
        """Until cancelled."""
        wait_s = min(FIRST_S, self._every_s)
        try:
            while True:
                await asyncio.sleep(wait_s)
                fault = await self.run_once()
                wait_s = self._every_s if fault is None else min(self._every_s, RETRY_S)
        finally:
            self._stopping.set()  # for the thread that decodes

    async def run_once(self) -> Fault | None:
        """One run; None: it passed."""
        began_s = self._clock()
        fault = await self._try()
        if fault is None:
            now_s = self._wall()
            passed = CanaryState(
                state="passed", checked_wall_s=now_s, passed_wall_s=now_s, latency_s=self._clock() - began_s
            )
            acknowledged = await self._tell(passed)
            if acknowledged is False:
                fault = Fault(part="broker", reason="the broker did not acknowledge the canary's message")
            else:
                latency_s = self._clock() - began_s
                self._note(replace(passed, latency_s=latency_s, acknowledged=acknowledged is True))
                self._well_s = self._clock()
        if fault is not None:
            former = self.state
            self._note(
                replace(former, state="failed", part=fault.part, reason=fault.reason, checked_wall_s=self._wall())
            )
            await self._tell(self.state)
        self._count("passed" if fault is None else fault.part)
        return fault

    async def _try(self) -> Fault | None:
        try:
            decoded = await asyncio.to_thread(self._decode)
        except (OSError, RuntimeError) as error:  # no descriptors, memory, processes or threads (RuntimeError) just now
            why = getattr(error, "strerror", None) or error
            decoded = Fault(part="decode", reason=f"no reader process could be started for the canary's clip: {why}")
        if isinstance(decoded, Fault):
            return decoded
        try:
            async with asyncio.timeout(self._limit_s):
                found = await asyncio.wrap_future(self._try_out(decoded))
        except TimeoutError:
            return Fault(part="scores", reason=f"the scorer gave no scores of the canary for {self._limit_s:.0f} s")
        return judge(found, self._card)

    def _decode(self) -> list[Segment] | Fault:
        """The clip's segments with pictures of their own; in a thread."""
        settings = ReaderSettings(name="canary", url=self._clip.resolve().as_uri(), fps=self._fps, frozen_after_s=None)
        segments: list[Segment] = []
        until_s = time.monotonic() + self._limit_s
        with ReaderPool(
            [settings], self._preprocessing, ingest=Ingest(), evidence=EvidenceSettings(), live=False, quiet=True
        ) as pool:
            while time.monotonic() < until_s and not self._stopping.is_set():
                taken = pool.take(8, 0.0, 0.2)
                segments += [
                    replace(one, pictures=one.pictures.copy(), slot=None) for one in taken if one.pictures is not None
                ]
                pool.release(taken)
                if any(one.last for one in taken):
                    break
            else:
                return Fault(part="decode", reason=f"the canary's clip was not decoded within {self._limit_s:.0f} s")
            fault = pool.health()["canary"].fault
        wanted = len(self._card.scores)
        if fault is not None or len(segments) != wanted:
            why = fault or f"{len(segments)} segments came of {wanted}"
            return Fault(part="decode", reason=f"the canary's clip was not decoded as it should be: {why}")
        return segments

    def _note(self, state: CanaryState) -> None:
        former, self.state = self.state, state
        if state.state == "failed" and (state.part, former.state) != (former.part, "failed"):
            log.warning("the canary failed (%s): %s", state.part, state.reason)
        elif state.state == "passed" and former.state != "passed":
            parts = (
                "decode, features, scores and broker"
                if state.acknowledged
                else f"decode, features, scores ({LEFT_OUT})"
            )
            log.info("the canary passed: %s, in %.1f s", parts, state.latency_s)

    def check(self) -> Check:
        """Red when it has not passed for two intervals, whatever the reason."""
        silent_s = self._clock() - self._well_s
        ok = silent_s <= 2 * self._every_s + self._limit_s
        state = self.state
        if state.state == "failed":
            return Check(name="canary", ok=ok, note=f"failed ({state.part}): {state.reason}")
        if not ok:
            return Check(name="canary", ok=False, note=f"has not passed for {silent_s:.0f} s")
        if state.latency_s is None:
            return Check(name="canary", ok=True, note="the first run is still to come")
        note = f"passed {silent_s:.0f} s ago, in {state.latency_s:.1f} s"
        return Check(name="canary", ok=True, note=note if state.acknowledged else f"{note}; {LEFT_OUT}")
