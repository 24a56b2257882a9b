"""Is the picture frozen? The analysed pictures of a camera, compared over time.

Frozen is a picture that stays equal to the last bit for the whole period, over a key frame. Measured on the
calm parts of real clips, and on one still frame with Gaussian noise (sd 0.5 to 4) through x264 at CRF 18 to
45:

* Equal pictures alone do not do: at low rates x264 skips all blocks of a static, noisy scene, and pictures
  are equal for 14 s, but never over a key frame: there at least a third of the values differ.
* A tolerance does not do: a frozen scene that is encoded anew differs from one key frame to the next by up to
  36 grey levels, a static camera with noise by 5 to 53. The two cannot be told apart by their pictures.

So what is found is a source that repeats itself (a stuck sensor sent as JPEG, a relay or an encoder that
sends its last picture on), not a stuck sensor whose encoder still works; and a calm scene is never taken for
a frozen one.
"""

from __future__ import annotations

import numpy as np

from monitor.flow import Pictures


class Freeze:
    """Watches one stream's analysed pictures; ``after_s`` None: nothing is ever frozen."""

    def __init__(self, after_s: float | None) -> None:
        self._after_s = after_s
        self._picture: Pictures | None = None
        self._since_s = 0.0
        self._keyed = False
        self.frozen = False

    def forget(self) -> None:
        """The stream begins anew."""
        self._picture = None
        self.frozen = False

    def key(self) -> None:
        """A key frame came: it is part of what is seen next."""
        self._keyed = True

    def see(self, picture: Pictures, captured_s: float) -> bool:
        """True while the picture has not changed for ``after_s``."""
        if self._after_s is None:
            return False
        if self._picture is None or not np.array_equal(self._picture, picture):
            self._picture = picture.copy()
            self._since_s = captured_s
            self._keyed = False
        self.frozen = self._keyed and captured_s - self._since_s >= self._after_s
        return self.frozen
