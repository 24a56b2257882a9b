"""Bags, clocks and settings for the tests of alerting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monitor.alerting.alerts import AlarmCamera, Alerts, EvidenceWanted
from monitor.alerting.contract import AlarmState, Topics
from monitor.alerting.outbox import Letter, Outbox
from monitor.config import AlertSettings, Thresholds
from monitor.flow import BagScore, SegmentTimes

NOON = 1_772_366_400.0
"""2026-03-01T12:00:00Z."""
SEGMENT_S = 2.0


def thresholds(**changes: float) -> Thresholds:
    plain = {
        "raise_at": 0.6,
        "clear_at": 0.4,
        "min_duration_s": 0.0,
        "clear_after_s": 4.0,
        "cooldown_s": 10.0,
        "update_every_s": 6.0,
    }
    return Thresholds(**{**plain, **changes})


class Clock:
    """One time for the monotonic and, offset, for the wall clock."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return NOON + self.now_s - 1000.0


def times(number: int) -> SegmentTimes:
    """Segment ``number`` is two seconds long and captured at its end; number 0 ends at monotonic 1000."""
    return SegmentTimes(
        number=number,
        start_s=number * SEGMENT_S,
        end_s=(number + 1) * SEGMENT_S,
        captured_s=1000.0 + number * SEGMENT_S,
        captured_wall_s=NOON + number * SEGMENT_S,
    )


def bag(
    scores: Sequence[float],
    *,
    camera: str = "gate",
    newest: int | None = None,
    published: Sequence[int] | None = None,
    attention: Sequence[float] | None = None,
    long_term: Sequence[float] | None = None,
    short_term: Sequence[float] | None = None,
    missing: Sequence[int] = (),
) -> BagScore:
    """A bag whose newest segment is number ``newest``; by default only that one is published."""
    count = len(scores)
    last = count - 1 if newest is None else newest
    even = [1.0 / count] * count
    return BagScore(
        camera=camera,
        times=tuple(None if i in missing else times(last - count + 1 + i) for i in range(count)),
        scores_N=np.asarray(scores, dtype=np.float32),
        long_term_N=np.asarray(scores if long_term is None else long_term, dtype=np.float32),
        short_term_N=np.asarray(scores if short_term is None else short_term, dtype=np.float32),
        attention_N=np.asarray(even if attention is None else attention, dtype=np.float32),
        bridged=len(missing),
        published=tuple((count - 1,) if published is None else published),
        scored_s=0.0,
    )


class Plant:
    """Alerts on an outbox, with everything it says kept for looking at."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        evidence: bool = False,
        clock: Clock | None = None,
        settings: AlertSettings | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.outbox = outbox
        self.wanted: list[EvidenceWanted] = []
        self.shown: list[AlarmState] = []
        self.due = 0
        self.ids = 0
        self.alerts = Alerts(
            Topics("vad", "plant-7"),
            outbox,
            clock=self.clock.monotonic,
            wall=self.clock.wall,
            request_evidence=self.wanted.append if evidence else None,
            on_due=self._due,
            on_state=self.shown.append,
            new_id=self._id,
            settings=settings,
        )

    def _due(self) -> None:
        self.due += 1

    def _id(self, _: float) -> str:
        self.ids += 1
        return f"a{self.ids}"

    def score(self, score: float, number: int, camera: str = "gate") -> None:
        """One published segment, scored two seconds after the one before."""
        self.clock.now_s = 1000.0 + number * SEGMENT_S
        self.alerts.score(bag([score], camera=camera, newest=number))

    def letters(self) -> list[Letter]:
        """Takes everything out of the outbox, as a broker that acknowledges at once would."""
        taken = []
        while (letter := self.outbox.first()) is not None:
            taken.append(letter)
            self.outbox.acknowledged(letter)
        return taken


def cameras(*names: str, **changes: float) -> dict[str, AlarmCamera]:
    return {name: AlarmCamera(thresholds=thresholds(**changes)) for name in names}
