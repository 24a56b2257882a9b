"""Is the picture frozen? The analysed pictures of a camera, compared over time."""

from __future__ import annotations

import numpy as np

from monitor.flow import Pictures


class Freeze:
    """Watches one stream's analysed pictures; ``after_s`` None: nothing is ever frozen."""

    def __init__(self, after_s: float | None) -> None:
        self._after_s = after_s
        self._picture: Pictures | None = None
        self._since_s = 0.0
        self.frozen = False

    def forget(self) -> None:
        self._picture = None
        self.frozen = False

    def see(self, picture: Pictures, captured_s: float) -> bool:
        """True while the picture has not changed for ``after_s``."""
        if self._after_s is None:
            return False
        if self._picture is None or not np.array_equal(self._picture, picture):
            self._picture = picture.copy()
            self._since_s = captured_s
        self.frozen = captured_s - self._since_s >= self._after_s
        return self.frozen
