"""``python -m tests.soak --minutes 60 --cameras 16 --seed 1``: a real plant, watched while faults happen to it.

The cameras are GStreamer's, 320x180 at 5 frames a second, so that two cores that others load too can carry sixteen of
them. Writes ``.bench/soak.json``, its picture and the monitor's log, and fails where alerts were lost or the last part
was not like the first.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.soak.picture import draw
from tests.soak.run import soak


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--cameras", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(".bench/soak.json"))
    arguments = parser.parse_args()
    result = soak(arguments.cameras, arguments.minutes, arguments.seed, arguments.out)
    draw(arguments.out.with_suffix(".png"), result)
    print(json.dumps({key: result[key] for key in result if key not in ("samples", "lags", "faults")}, indent=1))
    print(f"{'FAILED' if result['problems'] else 'passed'}; {arguments.out} and its .png, .log have the whole")
    sys.exit(bool(result["problems"]))


if __name__ == "__main__":
    main()
