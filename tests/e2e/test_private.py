"""A private area is in no picture that leaves the monitor, whichever way it takes."""

from __future__ import annotations

import contextlib
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from tests.e2e.clips import moving_clip
from tests.e2e.running import RunningMonitor, eventually, running
from tests.e2e.test_watch import plant
from tests.monitor.alerting.servers import Mosquitto, Subscriber, mosquitto, subscriber
from tests.monitor.test_commands import answer, command

LEFT = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]
RIGHT = [[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]]


def halves(picture: np.ndarray[Any, Any]) -> tuple[bool, bool]:
    """Whether something is to be seen in the left and in the right half; codecs blur the line between them."""
    middle, edge = picture.shape[1] // 2, picture.shape[1] // 20
    return bool(picture[:, : middle - edge].max() > 40), bool(picture[:, middle + edge :].max() > 40)


def seen_in(jpeg: bytes) -> tuple[bool, bool]:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return halves(picture)


def everywhere(monitor: RunningMonitor, broker: Mosquitto, heard: Subscriber, turn: str) -> set[tuple[bool, bool]]:
    """What is to be seen on the console, in a commanded snapshot, and in the next alert's clip and snapshot."""
    former = {alert["alert_id"] for alert in heard.payloads("yard/alert")}
    seen = {seen_in(eventually(lambda: shown(monitor), 30, "a picture"))}
    folder = monitor.folder / "evidence"
    command(broker, turn, "snapshot", camera="yard")
    seen.add(seen_in((folder / answer(heard, turn)["snapshot"]["link"]).read_bytes()))

    def ready() -> list[dict[str, Any]]:
        alerts = [alert for alert in heard.payloads("yard/alert") if alert["alert_id"] not in former]
        return [alert["evidence"] for alert in alerts if alert["evidence"]["state"] == "ready"]

    evidence = eventually(ready, 60, "evidence")[0]
    seen.add(seen_in((folder / evidence["snapshot"]["link"]).read_bytes()))
    with av.open(str(folder / evidence["clip"]["link"])) as clip:
        frames = [frame.to_ndarray(format="bgr24") for frame in clip.decode(video=0)]
    assert len(frames) >= 15
    return seen | {halves(frame) for frame in frames}


def shown(monitor: RunningMonitor) -> bytes:
    """The console's picture; empty where there is none, or no camera, just now."""
    path = f"{monitor.address}/console/api/v1/cameras/yard/picture"
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(path, timeout=20) as got:
        jpeg: bytes = got.read()
        return jpeg
    return b""


@pytest.mark.slow
def test_a_private_area_is_black_in_evidence_console_and_snapshots_also_after_a_reload(tmp_path: Path) -> None:
    clip = moving_clip(tmp_path / "yard.mp4", seconds=60)
    camera: dict[str, Any] = {"name": "yard", "url": clip.as_uri(), "private": [LEFT]}
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as heard:
        settings = plant(broker.port, [camera])
        settings["mqtt"] |= {"commands": ["snapshot"]}
        settings["defaults"]["thresholds"] = {"raise_at": 0.0, "clear_at": 0.0, "cooldown_s": 0}
        with running(tmp_path / "monitor", settings) as monitor:
            monitor.said("watching 1 cameras")
            assert everywhere(monitor, broker, heard, "before") == {(False, True)}
            # The mode ends the alarm, so that another begins.
            for number, changed in enumerate(({"private": [RIGHT], "mode": "observe"}, {"mode": "alert"}), start=1):
                camera |= changed
                monitor.write(settings)
                monitor.process.send_signal(signal.SIGHUP)
                applied = lambda n=number: monitor.metric("vad_config_reloads_total", result="applied") == n  # noqa: E731
                eventually(applied, 20, "the reload")
            assert everywhere(monitor, broker, heard, "after") == {(True, False)}
            assert monitor.end() == 0
