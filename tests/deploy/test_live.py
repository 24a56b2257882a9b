"""A real monitor and a real Prometheus with the shipped files: no rule or panel asks for what does not exist."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from monitor.observe.series import SERIES
from tests.conftest import ROOT, free_port
from tests.deploy.promql import named
from tests.deploy.scraping import Prometheus, scraping
from tests.deploy.test_prometheus import rules
from tests.e2e.clips import moving_clip
from tests.e2e.running import RunningMonitor, eventually, running
from tests.e2e.test_watch import plant
from tests.monitor.alerting.servers import mosquitto

pytestmark = pytest.mark.slow

BOARDS = [json.loads(file.read_text()) for file in sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))]
VARIABLES = {"$site": "works", "$camera": ".*", "$__rate_interval": "30s"}
NOT_YET = {"vad_camera_segments_dropped_total", "vad_camera_clock_drift_ppm"}
"""A camera has the first, by reason, from its first loss on, and this plant has time enough to score everything; the
other one needs five minutes."""
MAY_BE_EMPTY = {
    ("vad-plant: Alarms of the last 24 hours", "__auto"),
    ("vad-plant: Scored least", "__auto"),
    ("vad-camera: Segments not scored", "dropped: {{reason}}"),
    ("vad-alerts: Alarms an hour", "{{camera}}"),
}
"""What shows losses, or a change within the minute that this plant lives."""


def still_clip(path: Path, seconds: int) -> Path:
    """A picture that never changes: frozen, as the monitor sees it."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=15, options={"preset": "ultrafast", "g": "9999", "qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.time_base = Fraction(1, 15)
        for number in range(seconds * 15):
            frame = av.VideoFrame.from_ndarray(np.full((180, 320, 3), 90, np.uint8), format="rgb24")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningMonitor, Prometheus]]:
    """A plant with a good camera, a frozen one and one that is not there; everything has been scraped for a while."""
    folder = tmp_path_factory.mktemp("live")
    cameras = [
        {"name": "yard", "url": moving_clip(folder / "yard.mp4", seconds=20).as_uri()},
        {"name": "hall", "url": still_clip(folder / "hall.mp4", seconds=30).as_uri(), "frozen_after_s": 1.0},
        {"name": "gate", "url": f"rtsp://127.0.0.1:{free_port()}/gate"},
    ]
    token = folder / "metrics_token"
    token.write_text("the-token-of-prometheus\n")
    http = {"port": 0, "metrics": {"token_file": str(token)}}
    with (
        mosquitto(folder / "broker") as broker,
        running(folder / "m", plant(broker.port, cameras) | {"http": http, "canary": {"every_s": 10}}) as monitor,
    ):
        monitor.said("watching 3 cameras")
        with scraping(folder / "prometheus", monitor.address.removeprefix("http://"), "works", token) as prometheus:
            monitor.said("alarm raised", 90)

            def there() -> bool:
                asked = (
                    'vad_camera_status{camera="gate",status="lost"} == 1',
                    'rate(vad_camera_segments_invalid_total{camera="hall"}[30s])',
                    'rate(vad_camera_segments_scored_total{camera="yard"}[30s]) > 0',
                    "increase(vad_evidence_written_total[1h])",
                    "vad_canary_ok == 1",
                    "instance:vad_scorer_busy:ratio5m > 0",
                    "instance:vad_capture_to_acknowledged_seconds:p95_30m > 0",
                    'ALERTS{alertname="VadCameraDown",camera="gate"}',
                )
                return all(prometheus.query(one) for one in asked)

            eventually(there, 180, "a scraped plant")
            yield monitor, prometheus


def filled(expr: str) -> str:
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    assert "$" not in expr, f"unknown variable: {expr}"
    return expr


def asked() -> list[tuple[str, str, str]]:
    """Each query of each dashboard: where it stands, its legend, itself."""
    return [
        (f"{board['uid']}: {panel['title']}", target["legendFormat"], filled(target["expr"]))
        for board in BOARDS
        for panel in board["panels"]
        for target in panel["targets"]
    ]


def annotations() -> list[tuple[str, str, str]]:
    return [
        (f"{board['uid']}: annotation", note["name"], filled(note["expr"]))
        for board in BOARDS
        for note in board["annotations"]["list"]
    ]


def wrongly_named(prometheus: Prometheus, expr: str) -> list[str]:
    """Series that Prometheus does not have, and labels that they do not have."""
    wrong, names, expression = [], prometheus.names(), named(expr)
    declared = {row.name: {*row.labels, "site", "instance", "job"} for row in SERIES}
    all_labels: set[str] = set()
    for name, matched in expression.series.items():
        if name not in names and name not in NOT_YET:
            wrong.append(f"no series {name}")
            continue
        labels = prometheus.labels(name) if name in names else declared[name]
        all_labels |= labels
        wrong += [f"{name} has no label {label}" for label in sorted(matched - labels)]
    return wrong + [f"no series of it has a label {label}" for label in sorted(expression.grouped - all_labels)]


def test_prometheus_has_every_series_of_the_list(watched: tuple[RunningMonitor, Prometheus]) -> None:
    """The other way round: what the list says is exported."""
    plain = {row.name for row in SERIES if row.kind != "histogram"}
    parts = {f"{row.name}_{part}" for row in SERIES if row.kind == "histogram" for part in ("bucket", "sum", "count")}
    assert (plain | parts) - watched[1].names() - NOT_YET == set()


def test_every_rule_names_series_and_labels_that_exist(watched: tuple[RunningMonitor, Prometheus]) -> None:
    shipped = [*rules("alerts.yml"), *rules("recording.yml")]
    wrong = {rule.get("alert", rule.get("record")): wrongly_named(watched[1], rule["expr"]) for rule in shipped}
    assert {name: said for name, said in wrong.items() if said} == {}


def test_prometheus_evaluates_every_rule_without_a_fault(watched: tuple[RunningMonitor, Prometheus]) -> None:
    evaluated = [rule for group in watched[1].ask("rules")["groups"] for rule in group["rules"]]
    assert len(evaluated) == len(rules("alerts.yml")) + len(rules("recording.yml"))
    assert {rule["name"]: rule.get("lastError") for rule in evaluated if rule["health"] != "ok"} == {}


def test_the_lost_camera_is_reported_and_no_other(watched: tuple[RunningMonitor, Prometheus]) -> None:
    reported = watched[1].query('ALERTS{alertname="VadCameraDown"}')
    assert [one["metric"]["camera"] for one in reported] == ["gate"]
    assert [one["metric"]["alertname"] for one in watched[1].query('ALERTS{alertname=~"VadBroker.*|VadOut.*"}')] == []


def test_every_panel_names_series_and_labels_that_exist(watched: tuple[RunningMonitor, Prometheus]) -> None:
    wrong = {(where, expr): wrongly_named(watched[1], expr) for where, _, expr in asked() + annotations()}
    assert {place: said for place, said in wrong.items() if said} == {}


def test_every_panel_shows_something_of_this_plant(watched: tuple[RunningMonitor, Prometheus]) -> None:
    empty = [(where, legend) for where, legend, expr in asked() if not watched[1].query(expr)]
    assert set(empty) - MAY_BE_EMPTY == set()


def test_every_annotation_is_a_query_that_prometheus_answers(watched: tuple[RunningMonitor, Prometheus]) -> None:
    answered = {legend: watched[1].query(expr) for _, legend, expr in annotations()}
    assert "yard" in [one["metric"]["camera"] for one in answered["Alarms"]]


def test_every_variable_has_values(watched: tuple[RunningMonitor, Prometheus]) -> None:
    values: dict[str, Any] = {}
    for board in BOARDS:
        for one in board["templating"]["list"]:
            if one["type"] == "query":
                selector, _, label = one["query"]["query"].removeprefix("label_values(").rstrip(")").rpartition(", ")
                values[one["name"]] = watched[1].ask(f"label/{label}/values", **{"match[]": filled(selector)})
    assert values == {"site": ["works"], "camera": ["gate", "hall", "yard"]}
