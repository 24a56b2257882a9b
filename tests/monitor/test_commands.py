"""Commands over MQTT through the front door: a real broker, a real monitor, mosquitto_pub."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from monitor.alerting.contract import schema
from monitor.commands import snapshot_link
from monitor.ingest.clip import write_whole
from tests.conftest import needs_program
from tests.e2e.clips import moving_clip
from tests.e2e.running import RunningMonitor, eventually
from tests.monitor.alerting.servers import Mosquitto, Subscriber, mosquitto, subscriber

ALWAYS = {"raise_at": 0.0, "clear_at": 0.0, "min_duration_s": 0, "clear_after_s": 0, "cooldown_s": 0}


def publish(broker: Mosquitto, text: str, *options: str, camera: str = "gate") -> None:
    program = needs_program("mosquitto_pub", "mosquitto-clients")
    topic = f"vad/works/cameras/{camera}/command"
    subprocess.run([program, "-p", str(broker.port), "-q", "1", "-t", topic, "-m", text, *options], check=True)


def command(broker: Mosquitto, own: str, what: str, *, camera: str = "gate", **more: Any) -> None:
    publish(broker, json.dumps({"schema_version": 1, "id": own, "command": what, "who": "test"} | more), camera=camera)


def answer(heard: Subscriber, own: str) -> dict[str, Any]:
    def found() -> list[dict[str, Any]]:
        return [one for one in heard.payloads("/answer") if one["id"] == own]

    told: dict[str, Any] = eventually(found, 30, f"the answer to {own}")[-1]
    jsonschema.validate(told, schema("answer"))
    return told


def plant(broker: Mosquitto, clip: Path, **mqtt: Any) -> dict[str, Any]:
    return {
        "site": "works",
        "mqtt": {"port": broker.port} | mqtt,
        "canary": {"every_s": "off"},
        "defaults": {"thresholds": ALWAYS},
        "cameras": [{"name": "gate", "url": clip.as_uri()}],
    }


@pytest.mark.slow
def test_what_the_config_allows_is_done_answered_and_written_down(tmp_path: Path) -> None:
    clip = moving_clip(tmp_path / "gate.mp4", 60)
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as heard:
        monitor = RunningMonitor(tmp_path, plant(broker, clip, commands=["disarm", "arm", "shelve", "snapshot"]))
        try:
            monitor.said("alarm raised", 90)
            # Bytes that are no command harm nobody, and what follows is obeyed.
            publish(broker, "\x01{[", camera="gate")
            publish(broker, "x" * 5000, camera="gate")

            command(broker, "s1", "snapshot")
            done = answer(heard, "s1")
            assert done["state"] == "done", done
            picture = (tmp_path / "evidence" / done["snapshot"]["link"]).read_bytes()
            assert picture[:2] == b"\xff\xd8"
            assert hashlib.sha256(picture).hexdigest() == done["snapshot"]["sha256"]

            command(broker, "d1", "disarm", for_s=12, reason="welding")
            assert answer(heard, "d1")["state"] == "done"

            def status() -> dict[str, Any]:
                told: dict[str, Any] = heard.payloads("gate/status")[-1]
                return told

            eventually(lambda: status()["status"] == "disarmed", 10, "disarmed")
            assert status()["reason"].startswith("disarmed by command until ")
            assert status()["reason"].endswith(": welding")
            ended = eventually(
                lambda: [one for one in heard.payloads("gate/alert") if one["kind"] == "ended"], 30, "the alarm's end"
            )
            assert ended[-1]["reason"].startswith("disarmed by command until ")
            alarms = monitor.metric("vad_camera_alarms_total", camera="gate")
            eventually(lambda: status()["status"] != "disarmed", 30, "armed again by itself")
            eventually(
                lambda: (monitor.metric("vad_camera_alarms_total", camera="gate") or 0) > (alarms or 0),
                40,
                "a new alarm",
            )

            command(broker, "d2", "disarm", for_s=3600, reason="welding")
            eventually(lambda: status()["status"] == "disarmed", 10, "disarmed a second time")
            command(broker, "a1", "arm")
            assert answer(heard, "a1")["reason"] == "armed"
            eventually(lambda: status()["status"] != "disarmed", 10, "armed by command")

            command(broker, "h1", "shelve", for_s=60, reason="known")
            assert answer(heard, "h1")["until"] is not None
            command(broker, "u1", "unshelve")
            assert "not among mqtt.commands" in answer(heard, "u1")["reason"]
            command(broker, "n1", "snapshot", camera="nobody")
            assert "no such camera" in answer(heard, "n1")["reason"]
            command(broker, "d1", "disarm", for_s=12, reason="welding")
            eventually(lambda: len([x for x in heard.payloads("/answer") if x["id"] == "d1"]) == 2, 10, "d1 again")
            assert status()["status"] != "disarmed"

            assert monitor.metric("vad_commands_total", command="disarm", result="done") == 2
            assert monitor.metric("vad_commands_total", command="unshelve", result="refused") == 1
            assert monitor.metric("vad_commands_total", command="other", result="refused") == 2
            rows = [json.loads(line) for line in (tmp_path / "state" / "audit.jsonl").read_text().splitlines()]
            written = [(row["id"], row["done"]) for row in rows if row["what"] == "command"]
            assert written == [
                ("s1", True),
                ("d1", True),
                ("d2", True),
                ("a1", True),
                ("h1", True),
                ("u1", False),
                ("n1", False),
            ]
            assert {row["who"] for row in rows if row["what"] == "command"} == {"mqtt test"}
            assert monitor.end() == 0
        finally:
            monitor.close()


@pytest.mark.slow
def test_nobody_answers_unless_the_config_allows_something(tmp_path: Path) -> None:
    clip = moving_clip(tmp_path / "gate.mp4", 20)
    with mosquitto(tmp_path / "broker", extra="log_type all\n") as broker, subscriber(broker.port) as heard:
        monitor = RunningMonitor(tmp_path, plant(broker, clip))
        try:
            monitor.said("connected, 0 alerts waiting", 90)
            command(broker, "d1", "disarm", for_s=60, reason="welding")
            came = time.monotonic()
            eventually(lambda: heard.payloads("gate/command"), 10, "the command at a subscriber")
            eventually(lambda: time.monotonic() - came > 3, 5, "three seconds")
            assert heard.payloads("/answer") == []
            assert monitor.metric("vad_commands_total", command="disarm", result="done") == 0
            assert monitor.end() == 0
            assert "SUBSCRIBE from vad-monitor" not in (tmp_path / "broker" / "mosquitto.log").read_text()
        finally:
            monitor.close()


def test_a_snapshot_stays_in_its_folder_whatever_the_camera_is_called(tmp_path: Path) -> None:
    for name in ("../../etc", "/", "..", "a/b", "gate"):
        link = snapshot_link(name, 1_772_366_400.0)
        assert len(link.split("/")) == 3
        write_whole(tmp_path / link, lambda part: part.write_bytes(b"picture"))
        path = tmp_path / link
        assert path.resolve().is_relative_to(tmp_path.resolve())
        assert path.read_bytes() == b"picture"
        assert [one.name for one in path.parent.iterdir() if one.name.startswith(".")] == []
