"""A real stream whose picture goes bad while it runs, and good again: topic, metric and status say so."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import jsonschema
import numpy as np
import pytest

from monitor.alerting.contract import schema, seconds
from tests.e2e.running import eventually, running
from tests.e2e.test_watch import plant
from tests.monitor.alerting.servers import mosquitto, subscriber
from tests.monitor.ingest.conftest import needs_rtsp, rtsp_server  # noqa: F401 - fixtures
from tests.monitor.ingest.rooms import blurred, covered, moved, room

FPS = 15
ACTS: tuple[tuple[str, float], ...] = (
    ("good", 25.0),
    ("black", 9.0),
    ("good", 8.0),
    ("covered", 9.0),
    ("good", 8.0),
    ("blurred", 9.0),
    ("good", 8.0),
    ("moved", 9.0),
    ("good", 40.0),
)
"""What the camera shows, and for how many seconds."""
FAULTS = ("black", "covered", "blurred", "moved")
UNFIT = ("black", "covered")


def play(path: Path) -> Path:
    """H.264 of a furnished room with noise, in which somebody walks, through all the acts."""
    chance = np.random.default_rng(2)
    still = room(seed=5, height_px=180, width_px=320)
    shown = {
        "good": still,
        "black": np.full_like(still, 2),
        "covered": covered(still, seed=1),
        "blurred": blurred(still, 5),
        "moved": moved(still, 40, 18),
    }
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": str(FPS)})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        number = 0
        for act, lasts_s in ACTS:
            for _ in range(round(lasts_s * FPS)):
                picture = shown[act].astype(np.int16)
                if act not in UNFIT:
                    left = 3 * number % 290
                    picture[90:160, left : left + 22] = 190
                picture += chance.normal(0, 2, picture.shape).astype(np.int16)
                frame = av.VideoFrame.from_ndarray(
                    np.repeat(np.clip(picture, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2), format="rgb24"
                )
                frame.pts = number
                number += 1
                out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


@pytest.mark.slow
def test_a_picture_that_goes_bad_is_said_and_is_no_alert(
    tmp_path: Path,
    rtsp_server: Callable[..., Any],  # noqa: F811 - the fixture
) -> None:
    server = rtsp_server({"/hall": {"file": str(play(tmp_path / "hall.mp4"))}})
    after_s = {f"{kind}_after_s": 2 for kind in FAULTS}
    hall = {"name": "hall", "url": server.url("/hall"), "picture": after_s, "thresholds": NEVER}
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as heard:

        def state() -> str:
            told = heard.payloads("hall/picture")
            return str(told[-1]["state"]) if told else ""

        def status() -> tuple[str, str]:
            told = heard.payloads("hall/status")[-1]
            return told["status"], told["reason"]

        with running(tmp_path / "monitor", plant(broker.port, [hall])) as monitor:
            monitor.said("the stream is there")
            eventually(lambda: heard.payloads("hall/picture")[-1]["learnt"], 25, "the learnt picture")
            for kind in FAULTS:
                eventually(lambda kind=kind: state() == kind, 30, f"'{kind}' on its topic")
                eventually(
                    lambda kind=kind: monitor.metric("vad_camera_picture_fault", camera="hall", kind=kind) == 1,
                    5,
                    f"the metric of {kind}",
                )
                if kind in UNFIT:
                    eventually(lambda: status()[0] == "degraded", 5, "a status that says that nothing is scored")
                    assert f"the picture is {kind}" in status()[1] or "is covered" in status()[1]
                else:
                    eventually(lambda: "scored all the same" in status()[1], 10, "a status that says so")
                eventually(lambda: state() == "good", 20, f"the end of '{kind}'")
                assert monitor.metric("vad_camera_picture_fault", camera="hall", kind=kind) == 0
            answer = monitor.get("/console/api/v1/cameras/hall")
            assert answer[0] == 200 and '"picture_state":"good"' in answer[1].replace(" ", ""), answer
        told = heard.payloads("hall/picture")
        for one in told:
            jsonschema.validate(one, schema("picture"))
        good_and_bad = [one["state"] for one in told if one["state"] != "unknown"]
        changes = [now for now, before in zip(good_and_bad, ["", *good_and_bad], strict=False) if now != before]
        assert changes == ["good", "black", "good", "covered", "good", "blurred", "good", "moved", "good"]
        assert heard.payloads("hall/alert") == []
        assert _scored_within(heard, "black") == 0, "a black picture is not scored"
        assert _scored_within(heard, "moved") > 0, "a camera that was moved is"


NEVER = {"raise_at": 1.0, "clear_at": 1.0}


def _scored_within(heard: Any, kind: str) -> int:
    """How many scores were of segments seen while this state was shown."""
    told = heard.payloads("hall/picture")
    begin, end = next((seconds(a["since"]), seconds(b["since"])) for a, b in pairwise(told) if a["state"] == kind)
    return sum(begin < seconds(one["captured_at"]) < end - 5.0 for one in heard.payloads("hall/score"))
