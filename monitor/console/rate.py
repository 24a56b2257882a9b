"""How much one viewer may ask of the API: a page of the wall is far below it, a loop without end is not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

BURST = 1000
"""Requests that may come at once: the pictures of a wall of hundreds of cameras, and their pages."""
PER_S = 100.0
MOST_KNOWN = 1000


@dataclass(slots=True)
class _Bucket:
    left: float
    at_s: float


class Rate:
    """A bucket of requests for each viewer, filled again by and by. On the event loop."""

    def __init__(
        self, *, burst: int = BURST, per_s: float = PER_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._per_s, self._clock = burst, per_s, clock
        self._buckets: dict[str, _Bucket] = {}

    def takes(self, who: str) -> bool:
        """Whether there is room for one more request of this session or address; then it counts."""
        now_s = self._clock()
        bucket = self._buckets.pop(who, None) or _Bucket(float(self._burst), now_s)
        self._buckets[who] = bucket  # the last one asked for stands last
        if len(self._buckets) > MOST_KNOWN:
            del self._buckets[next(iter(self._buckets))]
        bucket.left = min(bucket.left + (now_s - bucket.at_s) * self._per_s, float(self._burst))
        bucket.at_s = now_s
        if bucket.left < 1:
            return False
        bucket.left -= 1
        return True
