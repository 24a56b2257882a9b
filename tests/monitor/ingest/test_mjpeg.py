"""Cameras that send JPEGs over HTTP: nothing in such a stream says when a picture was taken."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from monitor.ingest.wire import EvidenceRequest
from tests.conftest import ROOT
from tests.monitor.ingest.conftest import camera

FPS = 8


def jpeg(number: int) -> bytes:
    ramp = ((np.arange(320) * 2 + number * 5) % 256).astype(np.uint8)
    picture = np.ascontiguousarray(np.broadcast_to(ramp[None, :, None], (180, 320, 3)))
    return cv2.imencode(".jpg", picture)[1].tobytes()


class JpegCamera(http.server.BaseHTTPRequestHandler):
    """Eight JPEGs a second, as cameras of all ages push them, and single ones at every other address."""

    def do_GET(self) -> None:
        with contextlib.suppress(OSError):
            if self.path == "/video.mjpg":
                self._push()
            else:
                self._answer("image/jpeg", ("Content-Length", str(len(jpeg(0)))))
                self.wfile.write(jpeg(0))

    def _answer(self, kind: str, *more: tuple[str, str]) -> None:
        self.send_response(200)
        for name, value in (("Content-Type", kind), *more):
            self.send_header(name, value)
        self.end_headers()

    def _push(self) -> None:
        self._answer("multipart/x-mixed-replace; boundary=frame")
        began_s = time.monotonic()
        for number in itertools.count():
            time.sleep(max(0.0, began_s + number / FPS - time.monotonic()))
            data = jpeg(number)
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(head.encode() + data + b"\r\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), JpegCamera) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, name="JPEG camera", daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/video.mjpg"
        server.shutdown()


def test_pictures_without_time_stamps_are_timed_by_their_arrival(
    watch: Callable[..., Any], address: str, tmp_path: Path
) -> None:
    with watch([camera("gate", address, fps=16.0)]) as w:
        w.until(lambda: len(w.valid("gate")) >= 6, timeout_s=30)
        health = w.pool.health()["gate"]
        assert (health.codec, health.width_px, health.height_px, health.invalid) == ("mjpeg", 320, 180, {})
        assert health.source_fps == pytest.approx(FPS, rel=0.25), "not the 25 that libav makes up"
        assert health.lag_s is None, "nothing is known of that"
        first, last = w.valid("gate")[1], w.valid("gate")[-1]
        assert last.captured_s - first.captured_s == pytest.approx(last.end_s - first.end_s, abs=0.3)
        w.pool.save_evidence(
            EvidenceRequest(
                token="one",
                camera="gate",
                clip_path=tmp_path / "evidence" / "gate.mp4",
                snapshot_path=tmp_path / "evidence" / "gate.jpg",
                from_captured_s=first.captured_s,
                to_captured_s=last.captured_s,
                snapshot_captured_s=last.captured_s,
            )
        )
        w.until(lambda: w.results)
    with av.open(str(tmp_path / "evidence" / "gate.mp4")) as clip:
        stamps_s = [frame.time for frame in clip.decode(video=0)]
    assert stamps_s[-1] - stamps_s[0] == pytest.approx(last.captured_s - first.captured_s, abs=0.4)


def probed(*addresses: str) -> list[str]:
    command = [sys.executable, "-m", "monitor", "probe", *addresses]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()


def test_the_address_of_a_single_picture_is_told_so(address: str) -> None:
    host = address.removesuffix("/video.mjpg")
    picture, script = f"{host}/snapshot.jpg", f"{host}/cgi/snapshot"
    seen, refused = probed(script, picture)
    assert seen.startswith(f"{script}: mjpeg 320x180, unknown rate, first frame after ")
    assert seen.endswith(", it ended after one picture: is it the address of a stream?")
    assert refused == (
        f"{picture}: {host} is no stream: a single picture, or a list of other addresses; name the video itself"
    )


def test_probe_tells_the_rate_at_which_they_arrive(address: str) -> None:
    (said,) = probed(address)
    words = said.split(", ")
    assert words[0] == f"{address}: mjpeg 320x180"
    assert float(words[1].removesuffix(" frames/s")) == pytest.approx(FPS, rel=0.15)
    assert len(words) == 3, "how late frames come cannot be told"
