"""Clips made here, a real RTSP server, and a pool with someone who takes its segments."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from monitor.config import EvidenceSettings, Ingest
from monitor.flow import Preprocessing, Segment
from monitor.ingest.camera import ReaderSettings
from monitor.ingest.pool import ReaderPool
from monitor.ingest.wire import EvidenceResult
from tests.conftest import ROOT, needs_program

SMALL = Preprocessing(height_px=32, width_px=32, fit="stretch", frames=(0, 5, 10, 15))
LIVE = (
    "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=180,framerate=15/1 ! "
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! rtph264pay name=pay0 pt=96 config-interval=1"
)
"""A camera of 320x180 at 15 fps with a key frame every second."""


def write_clip(
    path: Path,
    *,
    frames: int = 48,
    fps: int = 15,
    size_px: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    stamps: Callable[[int], int] = lambda index: index,
    gop: int = 15,
    b_frames: int = 0,
) -> Path:
    """A moving grey ramp; ``stamps`` gives each frame's time stamp in frames. With ``b_frames`` (libx264 alone) so
    many stand between any two others, and nothing refers to them."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=fps)
        stream.width, stream.height = size_px
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.thread_count = 1
        if codec == "libx264":
            stream.codec_context.options = {
                "sc_threshold": "0",
                "preset": "veryfast",
                "b_strategy": "0",
                "b-pyramid": "none",
            }
        for index in range(frames):
            ramp = (np.arange(size_px[0]) * 3 + index * 5) % 256
            picture = np.broadcast_to(ramp[None, :, None], (size_px[1], size_px[0], 3)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = stamps(index)
            frame.time_base = Fraction(1, fps)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


class RtspServer:
    """GStreamer's RTSP server in its own process."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self._wanted = wanted
        self.mounts: dict[str, Any] = wanted["mounts"]
        self.port = 0
        self.start()

    def start(self) -> None:
        """(Again) on the same port."""
        order = json.dumps(self._wanted | {"port": self.port})
        script = ROOT / "tests" / "gst_rtsp_server.py"
        self.process = subprocess.Popen(
            ["/usr/bin/python3", str(script), order], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def url(self, path: str, login: str = "") -> str:
        return f"rtsp://{login}127.0.0.1:{self.port}{path}"


@pytest.fixture(scope="session")
def needs_rtsp() -> None:
    needs_program("gst-inspect-1.0", "gstreamer1.0-tools")
    found = subprocess.run(
        ["/usr/bin/python3", "-c", "import gi; gi.require_version('GstRtspServer', '1.0')"],
        capture_output=True,
        check=False,
    )
    if found.returncode:
        needs_program("the RTSP server of GStreamer", "gir1.2-gst-rtsp-server-1.0, python3-gi")


@pytest.fixture
def rtsp_server(needs_rtsp: None) -> Iterator[Callable[..., RtspServer]]:
    """Starts servers: ``rtsp_server({"/gate": {"launch": …}}, user=…)``."""
    servers: list[RtspServer] = []

    def start(mounts: dict[str, Any], **more: Any) -> RtspServer:
        servers.append(RtspServer({"mounts": mounts, **more}))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


def camera(name: str, url: str, **more: Any) -> ReaderSettings:
    defaults = {"fps": 15.0, "backoff_min_s": 0.2, "backoff_max_s": 0.5, "connect_timeout_s": 5.0}
    return ReaderSettings(name=name, url=url, **(defaults | more))


@dataclass
class Watch:
    """A pool and what was taken from it."""

    pool: ReaderPool
    segments: list[Segment] = field(default_factory=list)
    results: list[EvidenceResult] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)

    def until(self, done: Callable[[], bool], timeout_s: float = 15.0, *, keep: bool = False) -> None:
        """Takes segments until ``done``; fails after ``timeout_s``. ``keep`` gives no slot back."""
        end_s = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < end_s, f"waited {timeout_s} s in vain: {self.pool.health()}"
            taken = self.pool.take(16, 0.0, 0.05)
            self.segments += taken
            if not keep:
                self.pool.release(taken)

    def of(self, name: str) -> list[Segment]:
        return [segment for segment in self.segments if segment.camera == name]

    def valid(self, name: str) -> list[Segment]:
        return [s for s in self.of(name) if s.invalid is None and not s.last]

    def link(self, name: str) -> str:
        return self.pool.health()[name].link


@pytest.fixture
def watch(tmp_path: Path) -> Callable[..., Any]:
    """``with watch([camera(…)]) as w``: a running pool."""

    @contextmanager
    def start(
        cameras: list[ReaderSettings],
        *,
        live: bool = True,
        preprocessing: Preprocessing = SMALL,
        ingest: Ingest | None = None,
        niceness: int = 0,
        **evidence: Any,
    ) -> Iterator[Watch]:
        pool = ReaderPool(
            cameras,
            preprocessing,
            ingest=ingest or Ingest(),
            evidence=EvidenceSettings(**{"folder": tmp_path / "evidence", **evidence}),
            recorder_s=10.0,
            live=live,
            niceness=niceness,
        )
        watched = Watch(pool)
        pool.on_evidence = watched.results.append
        pool.on_change = watched.changes.append
        with pool:
            yield watched

    return start
