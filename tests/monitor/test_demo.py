"""The demo: how alerts and staged incidents are matched, and the whole of it once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from monitor.alerting.contract import iso
from monitor.demo import settle
from monitor.stage import clock
from monitor.stage.plant import Incident
from tests.conftest import ROOT


def incident(camera: str, start_s: float, end_s: float) -> Incident:
    return Incident(camera=camera, kind="fall", start_wall_s=start_s, end_wall_s=end_s)


def alert(camera: str, captured_s: float, name: str, kind: str = "raised") -> dict[str, Any]:
    return {
        "camera": camera,
        "kind": kind,
        "alert_id": name,
        "captured_at": iso(captured_s),
        "heard_wall_s": captured_s + 1.5,
        "evidence": {"snapshot": None},
    }


def test_an_alert_in_an_incident_finds_it_and_one_elsewhere_does_not(tmp_path: Path) -> None:
    report = settle(
        1,
        100.0,
        [incident("a", 100, 110), incident("b", 130, 140)],
        [alert("a", 104, "one"), alert("b", 104, "two"), alert("a", 105, "three", kind="ended")],
        tmp_path,
    )
    assert [outcome.alert_id for outcome in report.outcomes] == ["one", None]
    assert report.outcomes[0].after_s == pytest.approx(5.5)
    assert [a["alert_id"] for a in report.false_alerts] == ["two"]
    assert report.sentence() == (
        "seed 1: 1 of 2 incidents found, 5.5 s after they began (median); 1 alarms without an incident"
    )


def test_glass_to_mqtt_is_read_off_the_clock_in_the_snapshot(tmp_path: Path) -> None:
    picture = np.full((360, 640, 3), 90, np.uint8)
    clock.paint(picture, 107_800)
    cv2.imwrite(str(tmp_path / "one.jpg"), picture)
    raised = alert("a", 104, "one")
    shown = raised | {
        "kind": "updated",
        "heard_wall_s": 115.0,
        "evidence": {"snapshot": {"link": "one.jpg", "captured_at": iso(108)}},
    }
    report = settle(1, 100.0, [incident("a", 100, 110)], [raised, shown], tmp_path)
    assert report.outcomes[0].glass_to_mqtt_s == pytest.approx(1.5 + 0.2)
    assert report.sentence().endswith("1.7 s from glass to MQTT (median); 0 alarms without an incident")
    (tmp_path / "one.jpg").unlink()
    assert settle(1, 100.0, [incident("a", 100, 110)], [raised, shown], tmp_path).outcomes[0].glass_to_mqtt_s is None


def test_a_quiet_plant_has_a_quiet_report(tmp_path: Path) -> None:
    quiet = settle(7, 60.0, [], [], tmp_path)
    assert quiet.sentence() == "seed 7: 0 of 0 incidents found; 0 alarms without an incident"


@pytest.mark.slow
def test_the_demo_finds_staged_incidents_and_ends_by_itself(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "monitor", "demo", "--seed", "11", "--seconds", "75", "--json", str(report)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the scenes are generated" in done.stdout
    for opens in (r"page: +http://127\.0\.0\.1:\d+/\n", r"metrics: http://\S+/metrics\n", r"clips: +\.demo/evidence\n"):
        assert re.search(opens, done.stdout), "what there is to open"
    assert done.stdout.splitlines()[-1].startswith("seed 11: ")
    told = json.loads(report.read_text(encoding="utf-8"))
    assert len(told["outcomes"]) >= 2
    assert told["found"] >= 1, done.stdout[-2000:]
    clips = list((tmp_path / ".demo" / "evidence").rglob("*.mp4"))
    assert clips, "an alert has its clip"
    aged = [outcome["glass_to_mqtt_s"] for outcome in told["outcomes"] if outcome["glass_to_mqtt_s"] is not None]
    assert aged, "the clock in a snapshot was read"
    assert min(aged) > 0.0
