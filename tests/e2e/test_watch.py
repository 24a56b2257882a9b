"""From camera to alert: real streams, a real broker, the monitor as a process of its own."""

from __future__ import annotations

import hashlib
import json
import signal
from pathlib import Path
from typing import Any

import av
import pytest
import torch

from monitor.alerting.contract import schema
from tests.e2e.clips import moving_clip
from tests.e2e.running import eventually, running
from tests.monitor.alerting.servers import mosquitto, subscriber
from tests.monitor.ingest.conftest import write_clip

ALWAYS = {"raise_at": 0.0, "clear_at": 0.0, "update_every_s": 2.0}
"""Thresholds under which every score is an alarm: what is tested here is the way, not the judgement."""


def plant(port: int, cameras: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "site": "works",
        "mqtt": {"host": "127.0.0.1", "port": port},
        "defaults": {"thresholds": ALWAYS},
        "evidence": {"folder": "evidence", "pre_roll_s": 1.0, "post_roll_s": 1.0},
        "cameras": cameras,
    } | more


@pytest.mark.slow
def test_an_incident_becomes_an_alert_with_evidence_that_plays(tmp_path: Path) -> None:
    clip = moving_clip(tmp_path / "yard.mp4", seconds=20)
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as heard:
        cameras = [{"name": "yard", "url": clip.as_uri(), "labels": {"hall": "3"}}]
        with running(tmp_path / "monitor", plant(broker.port, cameras)) as monitor:
            monitor.said("alarm raised")
            eventually(
                lambda: any(a["evidence"]["state"] == "ready" for a in heard.payloads("yard/alert")), 30, "evidence"
            )
            assert monitor.get("/livez") == (200, "ok\n")
            assert monitor.get("/readyz") == (200, "ok\n")
            # Figures are taken once a second, and the file begins anew every twenty.
            for name in ("vad_camera_up", "vad_camera_alarm_raised"):
                eventually(lambda name=name: monitor.metric(name, camera="yard") == 1, 20, name)
            assert monitor.metric("vad_mqtt_connected") == 1
            eventually(lambda: (monitor.metric("vad_capture_to_acknowledged_seconds_count") or 0) >= 1, 5, "latency")
            assert monitor.end() == 0
        eventually(lambda: heard.payloads("availability")[-1]["state"] == "offline", 10, "the good-bye")
        eventually(lambda: heard.payloads("yard/alert")[-1]["kind"] == "ended", 10, "the end")
        alerts = heard.payloads("yard/alert")
        assert [a["seq"] for a in alerts] == list(range(1, len(alerts) + 1))
        assert (alerts[0]["kind"], alerts[-1]["kind"]) == ("raised", "ended")
        assert alerts[-1]["reason"] == "monitor stopped"
        assert alerts[0]["labels"] == {"hall": "3"}
        evidence = next(a["evidence"] for a in alerts if a["evidence"]["state"] == "ready")
        folder = tmp_path / "monitor" / "evidence"
        for kind in ("clip", "snapshot"):
            file = folder / evidence[kind]["link"]
            assert hashlib.sha256(file.read_bytes()).hexdigest() == evidence[kind]["sha256"]
        with av.open(str(folder / evidence["clip"]["link"])) as recorded:
            frames = sum(1 for _ in recorded.decode(video=0))
        assert frames >= 15, "at least a second of the clip can be decoded"
        eventually(lambda: heard.payloads("yard/alarm")[-1]["state"] == "calm", 10, "a calm alarm topic")


@pytest.mark.slow
def test_a_camera_that_is_decoded_cheaply_has_half_the_frames_and_all_the_scores(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "yard.mp4", frames=900, fps=30, size_px=(320, 180), b_frames=1)
    cheap = {"skip_loop_filter": "all", "skip_frame": "nonref"}
    cameras = [{"name": "whole", "url": clip.as_uri()}, {"name": "cheap", "url": clip.as_uri(), "decode": cheap}]
    with running(tmp_path / "monitor", plant(0, cameras) | {"mqtt": "off"}) as monitor:
        monitor.said("watching 2 cameras")
        for camera in ("whole", "cheap"):
            scored = {"name": "vad_camera_segments_scored_total", "camera": camera}
            eventually(lambda scored=scored: (monitor.metric(**scored) or 0) >= 8, 60, f"scores of {camera}")
        whole, decoded = (monitor.metric("vad_camera_frames_decoded_total", camera=c["name"]) for c in cameras)
        assert whole
        assert decoded
        assert decoded < 0.65 * whole
        for reason in ("time_jump", "corrupt", "frozen"):
            assert not monitor.metric("vad_camera_segments_invalid_total", camera="cheap", reason=reason)
        assert monitor.end() == 0


@pytest.mark.slow
def test_cameras_that_ask_for_nvdec_are_watched_whether_it_is_there_or_not(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "yard.mp4", frames=900, fps=30, size_px=(320, 180))
    by = {"one": "nvdec", "two": "nvdec", "three": "auto", "four": "cpu"}
    cameras = [{"name": name, "url": clip.as_uri(), "decode": {"by": asked}} for name, asked in by.items()]
    with running(tmp_path / "monitor", plant(0, cameras) | {"mqtt": "off"}) as monitor:
        monitor.said("watching 4 cameras")
        for camera in by:
            scored = {"name": "vad_camera_segments_scored_total", "camera": camera}
            eventually(lambda scored=scored: (monitor.metric(**scored) or 0) >= 6, 60, f"scores of {camera}")
        asked, decoded = monitor.metric("vad_nvdec_asked_cameras"), monitor.metric("vad_nvdec_cameras")
        if torch.cuda.is_available():
            assert (asked, decoded) == (3, 3)
        else:
            assert (asked, decoded) == (2, 0), "auto is the CPU where the CPU scores"
            said = monitor.log.count("is decoded by the CPU: libav finds no NVIDIA driver, or no GPU 0")
            assert said == 1, "once, not for every camera"
        assert monitor.end() == 0


@pytest.mark.slow
def test_a_broker_that_goes_and_a_monitor_that_is_killed_lose_no_alert(tmp_path: Path) -> None:
    clip = moving_clip(tmp_path / "yard.mp4", seconds=20)
    cameras = [{"name": "yard", "url": clip.as_uri()}]
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as heard:
        with running(tmp_path / "monitor", plant(broker.port, cameras)) as monitor:
            monitor.said("alarm raised")
            eventually(lambda: heard.payloads("yard/alert"), 10, "the alert")
            # SIGTERM: a SIGKILLed mosquitto may lose what it has acknowledged and not yet passed on.
            broker.kill(signal.SIGTERM)
            eventually(lambda: monitor.metric("vad_mqtt_connected") == 0, 30, "noticing the broker's end")
            assert monitor.get("/readyz")[0] == 200, "a broker's fault is a metric, never unready"
            eventually(lambda: (monitor.metric("vad_outbox_messages") or 0) >= 2, 20, "updates in the outbox")
            monitor.process.send_signal(signal.SIGKILL)
            monitor.process.wait(10)
        broker.start()
        with running(tmp_path / "monitor", plant(broker.port, cameras)) as monitor:
            monitor.said("monitor restarted")
            eventually(
                lambda: any(a["reason"] == "monitor restarted" for a in heard.payloads("yard/alert")), 40, "the end"
            )
            assert monitor.end() == 0
    first = heard.payloads("yard/alert")[0]["alert_id"]
    seqs = [a["seq"] for a in heard.payloads("yard/alert") if a["alert_id"] == first]
    assert sorted(set(seqs)) == list(range(1, max(seqs) + 1)), "no message of the alert is missing"
    # At least once (MQTT 5, 4.6): what was under way when the line broke comes again, as a whole: 1 2 3, then 2 3 4.
    assert list(dict.fromkeys(seqs)) == sorted(set(seqs)), "and none came for the first time out of order"
    last = [a for a in heard.payloads("yard/alert") if a["alert_id"] == first][-1]
    assert last["kind"] == "ended"


@pytest.mark.slow
def test_sighup_reloads_what_changed_and_keeps_the_old_config_on_a_mistake(tmp_path: Path) -> None:
    clip = moving_clip(tmp_path / "yard.mp4", seconds=20)
    yard = {"name": "yard", "url": clip.as_uri()}
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as heard:
        with running(tmp_path / "monitor", plant(broker.port, [yard])) as monitor:
            monitor.said("alarm raised")
            monitor.write(plant(broker.port, [yard | {"fps": "fast"}]))
            monitor.process.send_signal(signal.SIGHUP)
            monitor.said("configuration not reloaded")
            assert "cameras[0].fps" in monitor.log
            assert monitor.metric("vad_config_reloads_total", result="refused") == 1
            gate = {"name": "gate", "url": clip.as_uri(), "mode": "observe"}
            monitor.write(plant(broker.port, [gate]))
            monitor.process.send_signal(signal.SIGHUP)
            monitor.said("configuration reloaded")
            eventually(
                lambda: any(a["reason"].startswith("camera removed") for a in heard.payloads("yard/alert")), 10, "end"
            )
            monitor.said("camera 'gate': would be raised")
            assert monitor.metric("vad_camera_up", camera="yard") is None
            eventually(lambda: monitor.metric("vad_camera_up", camera="gate") == 1, 10, "the new camera")
            assert monitor.end() == 0
    assert heard.payloads("gate/alert") == []


@pytest.mark.slow
def test_every_payload_keeps_to_its_schema(tmp_path: Path) -> None:
    import jsonschema

    clip = moving_clip(tmp_path / "yard.mp4", seconds=20)
    cameras = [{"name": "yard", "url": clip.as_uri()}, {"name": "gone", "url": (tmp_path / "no.mp4").as_uri()}]
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as heard:
        with running(tmp_path / "monitor", plant(broker.port, cameras)) as monitor:
            monitor.said("alarm raised")
            eventually(lambda: len(heard.payloads("yard/score")) >= 2, 20, "scores")
            eventually(
                lambda: heard.payloads("gone/status")[-1:] and heard.payloads("gone/status")[-1]["status"] == "lost",
                20,
                "lost",
            )
            assert monitor.end() == 0
    checked = 0
    for topic, _, text in heard.seen:
        if text:
            jsonschema.validate(json.loads(text), schema(topic.rsplit("/", 1)[-1]))
            checked += 1
    assert checked >= 8
