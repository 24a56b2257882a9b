"""How much of what a camera saw was scored (no clock: capture times come with the data)."""

from __future__ import annotations

import threading
from collections import deque

from monitor.flow import BagScore, SegmentTimes

WINDOW_S = 300.0
"""A camera is judged over its last five minutes."""
JUDGED_AFTER_S = 60.0
"""Not before so much time could have been scored: one lost segment of five would say little."""
LONGEST_BURST_S = 10.0
"""As long as a stream may stall, by default, before it is opened again."""


class ScoredRatio:
    """Seconds covered by published scores, per second. Fed with capture-time intervals in order of time.

    A score is published some time after its segment was captured, by design: ``lag_s`` is that time at most
    (delay + stride in seconds, and what the scoring takes). The last ``lag_s`` seconds are not held against a
    camera in ``recent``: with the paper's l = s = 32 at 15 fps they are 34 s, 11 % of five minutes.
    """

    def __init__(self, started_s: float, lag_s: float = 0.0, window_s: float = WINDOW_S) -> None:
        self._started_s = started_s
        self._lag_s = lag_s
        self._window_s = window_s
        self._covered_s = 0.0
        self._first_s: float | None = None
        self._intervals: deque[tuple[float, float]] = deque()

    def add(self, start_s: float, end_s: float) -> None:
        """A score was published for what was captured from ``start_s`` to ``end_s``.

        What overlaps an earlier interval counts once. Intervals that touch are kept as one, so that an hour
        without a loss is one interval and not 3,600.
        """
        if self._intervals:
            start_s = max(start_s, self._intervals[-1][1])
        if end_s <= start_s:
            return
        if self._first_s is None:
            self._first_s = start_s
        self._covered_s += end_s - start_s
        if self._intervals and self._intervals[-1][1] == start_s:
            start_s = self._intervals.pop()[0]
        self._intervals.append((start_s, end_s))
        oldest_s = end_s - self._window_s - self._lag_s
        while self._intervals[0][1] < oldest_s:
            self._intervals.popleft()

    def since_start(self, now_s: float) -> float:
        """Seconds covered / seconds since the camera was started, 0 to 1. Learning counts as not covered."""
        passed_s = now_s - self._started_s
        return min(1.0, self._covered_s / passed_s) if passed_s > 0 else 0.0

    def recent(self, now_s: float) -> float | None:
        """The same over the window that ended ``lag_s`` ago, without the time before the first score ever.

        None while that is less than a minute (or than the window, if that is shorter).
        """
        if self._first_s is None:
            return None
        until_s = now_s - self._lag_s
        from_s = max(until_s - self._window_s, self._first_s)
        if until_s - from_s < min(JUDGED_AFTER_S, self._window_s):
            return None
        covered_s = sum(max(0.0, min(end_s, until_s) - max(start_s, from_s)) for start_s, end_s in self._intervals)
        return min(1.0, covered_s / (until_s - from_s))


class InvalidShare:
    """Which share of the segments made in the last minutes was invalid, from two cumulative counters."""

    def __init__(self, window_s: float = WINDOW_S, every_s: float = 5.0) -> None:
        self._window_s = window_s
        self._every_s = every_s
        self._readings: deque[tuple[float, int, int]] = deque()

    def add(self, now_s: float, segments: int, invalid: int) -> None:
        """What the counters say now; ``segments`` includes the invalid ones. One in ``every_s`` is kept."""
        if self._readings and now_s - self._readings[-1][0] < self._every_s:
            return
        self._readings.append((now_s, segments, invalid))
        while len(self._readings) > 2 and self._readings[1][0] <= now_s - self._window_s:
            self._readings.popleft()

    def recent(self) -> float | None:
        """None while fewer than twenty segments were made between the oldest and the newest reading."""
        if not self._readings:
            return None
        _, segments_then, invalid_then = self._readings[0]
        _, segments_now, invalid_now = self._readings[-1]
        made = segments_now - segments_then
        return (invalid_now - invalid_then) / made if made >= 20 else None


class Tally:
    """What was published of one camera: counts, newest score, scored ratio, from its bags in order.

    One thread adds, any thread reads.
    """

    def __init__(self, started_s: float, lag_s: float = 0.0) -> None:
        self._lock = threading.Lock()
        self._ratio = ScoredRatio(started_s, lag_s)
        self._last: SegmentTimes | None = None
        self._bridged_upto: int | None = None
        self.scored = 0
        """Segments whose score was published."""
        self.bridged = 0
        """Missing or invalid segments inside scored bags, each counted once, however many bags it was in."""
        self.score: float | None = None
        self.long_term: float | None = None
        self.short_term: float | None = None

    def add(self, bag: BagScore) -> None:
        with self._lock:
            for index in bag.published:
                times = bag.times[index]
                if times is not None:
                    self._cover(times)
                    self.scored += 1
            if bag.published:
                newest = bag.published[-1]
                self.score = float(bag.scores_N[newest])
                self.long_term = float(bag.long_term_N[newest])
                self.short_term = float(bag.short_term_N[newest])
            self._count_bridged(bag)

    def begin_again(self, started_s: float, lag_s: float) -> None:
        """The camera is read anew: its ratio begins again, its counters go on."""
        with self._lock:
            self._ratio = ScoredRatio(started_s, lag_s)
            self._last = None

    def since_start(self, now_s: float) -> float:
        with self._lock:
            return self._ratio.since_start(now_s)

    def recent(self, now_s: float) -> float | None:
        with self._lock:
            return self._ratio.recent(now_s)

    def _cover(self, times: SegmentTimes) -> None:
        # Consecutive segments cover the time between the arrivals of their last packets, so that a network
        # that delivers in bursts, or a stream time that runs a little fast, leaves no seeming holes. A longer
        # pause is an outage.
        last, length_s = self._last, times.end_s - times.start_s
        start_s = times.captured_s - length_s
        if (
            last is not None
            and last.number + 1 == times.number
            and times.captured_s - last.captured_s <= length_s + LONGEST_BURST_S
        ):
            start_s = last.captured_s
        self._ratio.add(start_s, times.captured_s)
        self._last = times

    def _count_bridged(self, bag: BagScore) -> None:
        known = [(index, times.number) for index, times in enumerate(bag.times) if times is not None]
        if not known:
            return
        first_number = known[0][1] - known[0][0]
        upto = first_number - 1 if self._bridged_upto is None else self._bridged_upto
        for index, times in enumerate(bag.times):
            if times is None and first_number + index > upto:
                self.bridged += 1
        self._bridged_upto = max(upto, first_number + len(bag.times) - 1)
