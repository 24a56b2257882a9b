"""What a further camera costs, longer bags, other strides, other deadlines: ``python -m tests.bench.growth``
(make growth).

Each row is a whole plant of ``tests.bench.paced``: cameras over RTSP, every score an alarm, alerts at a subscriber.
The server of the streams runs on the same cores and is not counted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monitor.detectors.artefact import SHIPPED
from tests.bench.paced import paced
from tests.bench.rows import Row, kept, machine, write
from tests.conftest import ROOT

KEPT = ROOT / "tests" / "bench" / "results" / "growth.json"
COUNTS = (1, 2, 4, 8, 12, 16)
BESIDE = 4
"""Cameras of the rows that vary the bag."""
BAGS = ((16, 1), (64, 1), (4, 4))
"""l, stride; the default is 4, 1."""
TOGETHER = 8
"""Cameras of the rows that vary how long a batch waits for further segments."""
DEADLINES_S = (0.0, 0.2, 0.5)
"""Beside the default's row, that of so many cameras."""


def bag(folder: Path, length: int, stride: int) -> dict[str, Any]:
    """Settings with the shipped artefact and another l, which is its card's; the scores do not matter here."""
    shutil.copytree(SHIPPED / "default", folder)
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    (folder / "card.json").write_text(json.dumps(card | {"length": length, "canary": None}), encoding="utf-8")
    return {"artefact": str(folder), "stride": stride}


def row(name: str, run: Mapping[str, Any]) -> Row:
    late = run["capture_to_subscriber_s"]
    return Row(
        name=name,
        value=run["cores"],
        unit="cores",
        limit=f"{run['memory_mb']['second_half']:,.0f} MB; capture to subscriber p50 {late['p50']:.2f} s, "
        f"p99 {late['p99']:.2f} s; {run['dropped']:.0f} of {run['segments']:.0f} segments dropped",
    )


def further(runs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Slopes over the plants that dropped at most one segment in a hundred."""
    whole = [run for run in runs if run["dropped"] <= 0.01 * run["segments"]]
    count = np.array([run["cameras"] for run in whole], dtype=float)
    cores = np.array([run["cores"] for run in whole])
    memory = np.array([run["memory_mb"]["second_half"] for run in whole])
    span = f"1 to {count.max():.0f} cameras, a straight line through them"
    slope = float(np.polyfit(count, cores, 1)[0])
    exponent = float(np.polyfit(np.log(count), np.log(cores), 1)[0])
    return [
        Row(
            name="a further camera: cores",
            value=slope,
            unit="",
            limit=f"{span}; a core watches {1 / slope:.0f}",
            target=1 / 8,
        ),
        Row(name="cores grow with the number of cameras to the power of", value=exponent, unit="", target=1.0),
        Row(
            name="a further camera: memory",
            value=float(np.polyfit(count, memory, 1)[0]),
            unit="MB",
            limit=f"{span}; with its evidence ring",
            target=12.0,
        ),
    ]


def main() -> None:
    ask = argparse.ArgumentParser(prog="python -m tests.bench.growth", description=__doc__)
    ask.add_argument("--minutes", type=float, default=1.0, help="of each plant")
    ask.add_argument("--out", type=Path, default=ROOT / ".bench" / "growth.json")
    asked = ask.parse_args()
    on = machine()
    runs, rows = [], []
    for count in COUNTS:
        runs.append(paced(count, asked.minutes))
        rows.append(row(f"{count} cameras 640x360 at 15 fps", runs[-1]))
        print(rows[-1].name, f"{rows[-1].value:.2f}", rows[-1].limit, flush=True)
    rows += further(runs)
    with tempfile.TemporaryDirectory(prefix="vad-growth-") as folder:
        for length, stride in BAGS:
            scoring = bag(Path(folder) / f"{length}-{stride}", length, stride)
            rows.append(row(f"{BESIDE} cameras, l = {length}, stride {stride}", paced(BESIDE, asked.minutes, scoring)))
            print(rows[-1].name, f"{rows[-1].value:.2f}", rows[-1].limit, flush=True)
    for deadline_s in DEADLINES_S:
        run = paced(TOGETHER, asked.minutes, {"batch_deadline_s": deadline_s})
        rows.append(row(f"{TOGETHER} cameras, a batch waits {1000 * deadline_s:.0f} ms (default 50)", run))
        print(rows[-1].name, f"{rows[-1].value:.2f}", rows[-1].limit, flush=True)
    write(rows, asked.out, on)
    print(kept(asked.out))


if __name__ == "__main__":
    main()
