"""A camera whose clock runs slow, over real HTTP: measured, said, and opened anew when it has fallen too far behind."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest

from tests.e2e.running import eventually, running
from tests.e2e.test_watch import plant
from tests.monitor.alerting.servers import mosquitto, subscriber
from tests.monitor.ingest.rooms import room

FPS = 10
SLOW = 0.95
"""Seconds by the camera's stamps in one second."""
LAG_LIMIT_S = 5.0


def transport_stream(seconds: float) -> list[bytes]:
    """MPEG-TS of a room with noise, cut after each frame."""
    chance, still = np.random.default_rng(3), room(seed=8, height_px=120, width_px=160).astype(np.int16)
    out = io.BytesIO()
    parts: list[bytes] = []
    with av.open(out, "w", format="mpegts", options={"flush_packets": "1", "muxdelay": "0"}) as muxed:
        options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(FPS)}
        stream = muxed.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 160, 120, "yuv420p", Fraction(1, FPS)
        sent = 0
        for number in range(round(seconds * FPS)):
            grey = np.clip(still + chance.normal(0, 2, still.shape).astype(np.int16), 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.repeat(grey[:, :, None], 3, axis=2), format="rgb24")
            frame.pts = number
            muxed.mux(stream.encode(frame))
            parts.append(out.getvalue()[sent:])
            sent += len(parts[-1])
    return parts


@contextlib.contextmanager
def slow_camera(parts: list[bytes]) -> Iterator[str]:
    """Sends each frame when a clock that runs ``SLOW`` says so, to whoever comes, from the first one on."""
    ended = threading.Event()

    class Sends(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            began_s = time.monotonic()
            with contextlib.suppress(OSError):  # whoever looked has gone
                for number, part in enumerate(parts):
                    if ended.wait(max(began_s + number / FPS / SLOW - time.monotonic(), 0.0)):
                        return
                    self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            """Nothing: the test's output is its own."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Sends)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, name="slow camera", daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/live.ts"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        serving.join(5.0)


@pytest.mark.slow
def test_a_slow_clock_is_measured_and_said_and_its_lag_has_an_end(tmp_path: Path) -> None:
    with (
        mosquitto(tmp_path / "broker") as broker,
        subscriber(broker.port) as heard,
        slow_camera(transport_stream(240)) as url,
    ):
        yard = {"name": "yard", "url": url, "fps": FPS, "lag_limit_s": LAG_LIMIT_S, "mode": "observe"}
        with running(tmp_path / "monitor", plant(broker.port, [yard])) as monitor:
            monitor.said("the stream is there")
            ppm = eventually(lambda: monitor.metric("vad_camera_clock_drift_ppm", camera="yard"), 90, "the drift")
            assert ppm == pytest.approx(-1e6 * (1 - SLOW), rel=0.2)
            assert 0 < (monitor.metric("vad_camera_lag_seconds", camera="yard") or 0.0) <= LAG_LIMIT_S + 1
            eventually(
                lambda: any("its clock runs slow" in told["reason"] for told in heard.payloads("yard/status")),
                15,
                "a status that says so",
            )
            monitor.said("s later than at first by its own time stamps", 90)
            eventually(
                lambda: (monitor.metric("vad_camera_reconnects_total", camera="yard") or 0) >= 1, 15, "the reopening"
            )
            eventually(lambda: heard.payloads("yard/status")[-1]["status"] != "lost", 20, "a camera that is back")
            assert (monitor.metric("vad_camera_lag_seconds", camera="yard") or 0.0) < LAG_LIMIT_S
