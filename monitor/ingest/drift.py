"""How a camera's time stamps run against the machine's clock, and how far its stream has fallen behind.

Pure. For each frame, arrival minus stamp is a constant (two clocks with two origins) plus how late it comes. The
least of each ``WINDOW_S`` is free of jitter: how these least values rise is the drift, and how far they stand above
the lowest since the stream was opened is the lag. A clock that is too slow and a stream that comes later and later
look the same from here; both make what is shown old by its own stamps, and both end by opening the stream anew.

Arrivals are ``time.monotonic()``: setting the machine's clock changes nothing here.
"""

from __future__ import annotations

from collections import deque
from itertools import combinations
from statistics import median

WINDOW_S = 5.0
WINDOWS = 60
"""Five minutes of them tell the drift …"""
LEAST_WINDOWS = 12
"""… and one minute at least."""
JUMP_S = 1.0
"""A stamp that goes on by so much more than was waited, or goes back, was set: measuring begins anew."""


class Drift:
    """Of one stream; ``begin`` at each opening."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self._last: tuple[float, float] | None = None
        self._ends_s = 0.0
        self._least_s: float | None = None
        self._lowest_s: float | None = None
        self._windows: deque[tuple[float, float]] = deque(maxlen=WINDOWS)
        self.ppm: float | None = None
        """Parts in a million by which the stamps run too fast (below 0: too slow); None: too early to say."""
        self.lag_s: float | None = None
        """How much later frames come than they did at best since the opening; None: too early to say."""

    def see(self, stamp_s: float | None, captured_s: float) -> None:
        """A frame came; without a stamp nothing is learnt from it."""
        if stamp_s is None:
            return
        last, late_s = self._last, captured_s - stamp_s
        if last is not None and not 0 <= stamp_s - last[0] <= captured_s - last[1] + JUMP_S:
            # A frame out of order by a moment is no new clock.
            if -JUMP_S < stamp_s - last[0] < 0:
                return
            self.begin()
            last = None
        self._last = stamp_s, captured_s
        if last is None:
            self._ends_s = captured_s + WINDOW_S
        self._least_s = late_s if self._least_s is None else min(self._least_s, late_s)
        if captured_s >= self._ends_s:
            self._close(captured_s, self._least_s)

    def _close(self, captured_s: float, least_s: float) -> None:
        self._windows.append((captured_s, least_s))
        self._lowest_s = least_s if self._lowest_s is None else min(self._lowest_s, least_s)
        self.lag_s = least_s - self._lowest_s
        self._ends_s, self._least_s = captured_s + WINDOW_S, None
        if len(self._windows) >= LEAST_WINDOWS:
            # Theil and Sen: the median of all slopes; one late minute does not turn the line.
            slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(self._windows, 2)]
            self.ppm = -1e6 * median(slopes)
