"""Real RTSP servers, a real broker: passwords, losses, and alerts from real recordings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import av
import pytest

from tests.conftest import ROOT
from tests.e2e.clips import moving_clip
from tests.e2e.running import eventually, running
from tests.e2e.test_watch import plant
from tests.monitor.alerting.servers import mosquitto, subscriber
from tests.monitor.ingest.conftest import needs_rtsp, rtsp_server  # noqa: F401 - fixtures

PASSWORD = "p1ant:ed/w@rd ?#"
"""With every character that an address takes for its own."""
FORBIDDEN = (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD, safe=":"), json.dumps(PASSWORD)[1:-1])
LOGIN = {"username": "viewer", "password": "${GATE_PASSWORD}"}
AUTH = {"user": "viewer", "password": PASSWORD, "digest": True}


def decoded_frames(clip: Path) -> int:
    with av.open(str(clip)) as recorded:
        return sum(1 for _ in recorded.decode(video=0))


def printed(*arguments: str) -> str:
    """Everything ``vad-monitor …`` prints."""
    command = [sys.executable, "-m", "monitor", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


def assert_nothing_tells(texts: dict[str, str], folder: Path) -> None:
    """No form of the password in any of these, nor in a name or file below ``folder``."""
    for where, text in texts.items():
        assert [secret for secret in FORBIDDEN if secret in text] == [], where
    for path in folder.rglob("*"):
        assert [secret for secret in FORBIDDEN if secret in str(path)] == []
        if path.is_file():
            content = path.read_bytes()
            assert [secret for secret in FORBIDDEN if secret.encode() in content] == [], path


@pytest.mark.slow
def test_recordings_over_udp_and_tcp_become_alerts_and_no_password_shows(
    shared_data: Path,
    tmp_path: Path,
    rtsp_server: Callable[..., Any],  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GATE_PASSWORD", PASSWORD)
    streams, industrial = shared_data / "streams", shared_data / "industrial"
    fight = sorted((industrial / "abnormal").glob("*.mp4"))[0]
    hall = rtsp_server({"/gate": {"file": str(streams / "one-by-one-person-detection.mp4")}}, **AUTH)
    yard = rtsp_server(
        {"/yard": {"file": str(streams / "vtest.mp4")}, "/press": {"file": str(fight)}},
        **AUTH,
    )
    cameras = [
        {"name": "gate", "url": hall.url("/gate"), "transport": "udp", **LOGIN},
        {"name": "yard", "url": yard.url("/yard"), "transport": "tcp", **LOGIN},
        {"name": "press", "url": yard.url("/press"), "transport": "tcp", **LOGIN},
    ]
    names = [camera["name"] for camera in cameras]
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as heard:
        with running(tmp_path / "monitor", plant(broker.port, cameras)) as monitor:
            for name in names:
                monitor.said(f"camera '{name}': alarm raised", 90)

            def ready(name: str) -> list[Any]:
                return [a["evidence"] for a in heard.payloads(f"{name}/alert") if a["evidence"]["state"] == "ready"]

            eventually(lambda: all(ready(name) for name in names), 60, "evidence of every camera")
            told = {
                "metrics": monitor.get("/metrics")[1],
                "readyz": monitor.get("/readyz?verbose")[1],
                "print-config": printed("--cameras", str(monitor.file), "--print-config"),
                "probe": printed("probe", "--cameras", str(monitor.file)),
                "check": printed("check", str(monitor.file)),
            }
            assert monitor.end() == 0
        for name in names:
            evidence = ready(name)[0]
            folder = tmp_path / "monitor" / "evidence"
            assert decoded_frames(folder / evidence["clip"]["link"]) >= 5
            assert decoded_frames(folder / evidence["snapshot"]["link"]) == 1
            alerts = heard.payloads(f"{name}/alert")
            for alert_id in {alert["alert_id"] for alert in alerts}:
                seqs = [alert["seq"] for alert in alerts if alert["alert_id"] == alert_id]
                assert seqs == list(range(1, len(seqs) + 1))
            assert alerts[-1]["kind"] == "ended"
    assert "gate: h264 768x432, 10 frames/s" in told["probe"]
    assert '"***' in told["print-config"] or "***@" in told["print-config"], "hidden, not dropped"
    texts = told | {f"payload {topic}": text for topic, _, text in heard.seen}
    assert len(heard.seen) > 10
    assert_nothing_tells(texts, tmp_path / "monitor")


@pytest.mark.slow
def test_a_server_that_is_killed_and_restarted_loses_no_message_and_disturbs_nobody(
    tmp_path: Path,
    rtsp_server: Callable[..., Any],  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GATE_PASSWORD", PASSWORD)
    clip = moving_clip(tmp_path / "clip.mp4", seconds=120)
    gate = rtsp_server({"/gate": {"file": str(clip)}}, **AUTH)
    yard = rtsp_server({"/yard": {"file": str(clip)}}, **AUTH)
    patience = {"connect_timeout_s": 5, "stall_timeout_s": 4, "backoff_max_s": 2}
    cameras = [
        {"name": "gate", "url": gate.url("/gate"), "transport": "udp", **LOGIN, **patience},
        {"name": "yard", "url": yard.url("/yard"), "transport": "tcp", **LOGIN, **patience},
    ]
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as heard:
        with running(tmp_path / "monitor", plant(broker.port, cameras)) as monitor:

            def status(name: str) -> str:
                seen = heard.payloads(f"/{name}/status")
                return str(seen[-1]["status"]) if seen else ""

            def scored(name: str) -> float:
                return monitor.metric("vad_camera_segments_scored_total", camera=name) or 0.0

            for name in ("gate", "yard"):
                monitor.said(f"camera '{name}': alarm raised", 90)
            eventually(lambda: status("gate") == status("yard") == "ok", 30, "both are watched")
            before, began_s = scored("yard"), time.monotonic()
            gate.kill()
            eventually(lambda: status("gate") == "lost", 30, "the loss")
            assert monitor.metric("vad_camera_up", camera="gate") == 0
            assert monitor.metric("vad_camera_up", camera="yard") == 1
            time.sleep(2)
            gate.start()
            eventually(lambda: status("gate") == "ok", 60, "the return")
            assert monitor.metric("vad_camera_reconnects_total", camera="gate") == 1
            assert monitor.metric("vad_camera_reconnects_total", camera="yard") == 0
            made = scored("yard") - before
            expected = (time.monotonic() - began_s) * 15 / 16
            assert made == pytest.approx(expected, abs=3), "the other camera's segments went on"
            after = len(heard.payloads("gate/alert"))
            eventually(lambda: len(heard.payloads("gate/alert")) >= after + 2, 30, "the alarm goes on")
            assert monitor.end() == 0
        for name in ("gate", "yard"):
            alerts = heard.payloads(f"{name}/alert")
            assert len({alert["alert_id"] for alert in alerts}) == 1, "a loss shorter than a minute ends no alarm"
            assert [alert["seq"] for alert in alerts] == list(range(1, len(alerts) + 1))
            assert (alerts[0]["kind"], alerts[-1]["kind"]) == ("raised", "ended")
            assert alerts[-1]["reason"] == "monitor stopped"
        statuses = [payload["status"] for payload in heard.payloads("/yard/status")]
        assert statuses[statuses.index("ok") :] == ["ok"]
    assert "Traceback" not in monitor.log
    assert os.environ["GATE_PASSWORD"] not in monitor.log
