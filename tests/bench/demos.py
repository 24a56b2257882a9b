"""What the demo finds on plants that nothing has seen: ``python -m tests.bench.demos --first 501 --plants 10``.

Each is a whole ``vad-monitor demo`` of another seed, in a folder of its own, ended by itself; the rows add their
reports up. An incident is due when it was over before its demo ended. Ten of 85 seconds take a quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monitor.stage.plant import play
from tests.bench.rows import Row, kept, machine, write
from tests.conftest import ROOT

CAMERAS = 4
KEPT = Path(__file__).parent / "results" / "demos.json"
"""The run that the README shows."""


def demo(seed: int, seconds: float, folder: Path) -> dict[str, Any]:
    """The report of one demo."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "monitor", "demo", "--seed", str(seed), "--seconds", f"{seconds:g}"]
    more = ["--camera-count", str(CAMERAS), "--json", str(report)]
    subprocess.run(
        [*command, *more], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, check=True
    )
    told: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return told


def calm_cameras(seed: int) -> set[str]:
    """Those on which nothing is ever staged."""
    return {part.camera for part in play(seed, CAMERAS) if not part.incidents}


def rows(reports: Sequence[dict[str, Any]]) -> list[Row]:
    """All demos together."""
    outcomes = [outcome for report in reports for outcome in report["outcomes"]]
    found = [outcome for outcome in outcomes if outcome["alert_id"] is not None]
    stray = [(report["seed"], alert["camera"]) for report in reports for alert in report["false_alerts"]]
    on_calm = sum(camera in calm_cameras(seed) for seed, camera in stray)
    seeds = sorted(report["seed"] for report in reports)
    minutes = sum(report["seconds"] for report in reports) / 60
    calm = sum(len(calm_cameras(report["seed"])) * report["seconds"] for report in reports) / 60
    who = f"demo, seeds {seeds[0]} to {seeds[-1]}"
    after_s = [outcome["after_s"] for outcome in found]
    aged_s = [outcome["glass_to_mqtt_s"] for outcome in found if outcome["glass_to_mqtt_s"] is not None]
    kinds = {}
    for outcome in outcomes:
        kind = kinds.setdefault(outcome["incident"]["kind"], [0, 0])
        kind[0] += outcome["alert_id"] is not None
        kind[1] += 1
    by_kind = ", ".join(f"{kind} {hit} of {due}" for kind, (hit, due) in sorted(kinds.items()))
    told = [
        Row(name=f"{who}: incidents found", value=len(found), unit="", limit=f"of {len(outcomes)} due; {by_kind}"),
        Row(name=f"{who}: alarms on calm cameras", value=on_calm, unit="", limit=f"in {calm:.0f} minutes of them"),
        Row(
            name=f"{who}: alarms without an incident",
            value=len(stray),
            unit="",
            limit=f"on all cameras, {CAMERAS * minutes:.0f} minutes of them",
        ),
    ]
    for name, times_s in (("beginning of the incident to alert", after_s), ("glass to MQTT", aged_s)):
        if times_s:
            span = f"{min(times_s):.1f} to {max(times_s):.1f} s, {len(times_s)} alerts"
            told.append(Row(name=f"{who}: {name}, median", value=statistics.median(times_s), unit="s", limit=span))
    return told


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.demos", description=__doc__)
    parser.add_argument("--first", type=int, default=501, help="the first seed (default: %(default)s)")
    parser.add_argument("--plants", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=85.0)
    parser.add_argument("--out", type=Path, default=Path(".bench/demos.json"))
    asked = parser.parse_args()
    on, reports = machine(), []
    for seed in range(asked.first, asked.first + asked.plants):
        with tempfile.TemporaryDirectory(prefix="vad-demo-") as folder:
            reports.append(demo(seed, asked.seconds, Path(folder)))
        due, found = len(reports[-1]["outcomes"]), reports[-1]["found"]
        print(f"seed {seed}: {found} of {due}, {len(reports[-1]['false_alerts'])} without an incident", flush=True)
    write(rows(reports), asked.out, on)
    print(kept(asked.out))


if __name__ == "__main__":
    main()
