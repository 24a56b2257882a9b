"""``vad-monitor`` that writes down when each bag was scored and how long after its last packet had come.

A line a bag goes into the file that the variable TIMES names: seconds since 1970, seconds from capture to score. The
histogram of ``/metrics`` has the same, but in steps that are too wide for a tenth more or less.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from pathlib import Path

from monitor import app, cli
from monitor.flow import BagScore


def main() -> int:
    with Path(os.environ["TIMES"]).open("w", buffering=1, encoding="utf-8") as out:

        def note(bag: BagScore) -> None:
            last = bag.times[-1]
            if last is not None:
                out.write(f"{time.time():.3f} {bag.scored_s - last.captured_s:.5f}\n")

        app.Monitor = functools.partial(app.Monitor, on_bag=note)  # type: ignore[misc, assignment]
        return cli.main()


if __name__ == "__main__":
    sys.exit(main())
