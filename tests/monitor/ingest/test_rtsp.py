"""Readers against a real RTSP server: losses, stalls, damage, passwords."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import needs_program
from tests.monitor.ingest.conftest import LIVE, camera


def test_a_camera_is_read_over_tcp_and_udp(watch: Callable[..., Any], rtsp_server: Callable[..., Any]) -> None:
    server = rtsp_server({"/tcp": {"launch": LIVE}, "/udp": {"launch": LIVE}})
    cameras = [camera(kind, server.url(f"/{kind}"), transport=kind) for kind in ("tcp", "udp")]
    with watch(cameras) as w:
        w.until(lambda: all(len(w.valid(kind)) >= 3 for kind in ("tcp", "udp")))
        health = w.pool.health()["tcp"]
        assert (health.link, health.codec, health.width_px, health.height_px) == ("up", "h264", 320, 180)
        assert health.source_fps == pytest.approx(15.0, rel=0.02)
        for segment in w.valid("tcp"):
            assert segment.end_s - segment.start_s == pytest.approx(16 / 15)
            assert abs(segment.captured_wall_s - time.time()) < 10
        captured_s = [segment.captured_s for segment in w.valid("tcp")]
        steps = [b - a for a, b in pairwise(captured_s)]
        assert steps == [pytest.approx(16 / 15, abs=0.25)] * len(steps)


def test_a_live_camera_is_read_whatever_is_left_out_of_decoding(
    watch: Callable[..., Any], rtsp_server: Callable[..., Any]
) -> None:
    layered = LIVE.replace(
        "tune=zerolatency speed-preset=ultrafast key-int-max=15",
        "speed-preset=veryfast bframes=1 b-adapt=false key-int-max=15 ! video/x-h264,profile=main",
    )
    server = rtsp_server({"/plain": {"launch": LIVE}, "/layered": {"launch": layered}})
    left_out = {"skip_loop_filter": "all", "skip_frame": "nonref"}
    cameras = [camera(kind, server.url(f"/{kind}"), **left_out) for kind in ("plain", "layered")]
    with watch(cameras) as w:
        w.until(lambda: all(len(w.valid(kind)) >= 3 for kind in ("plain", "layered")))
        health = w.pool.health()
        assert health["plain"].source_fps == pytest.approx(15.0, rel=0.02), "every frame of it is referred to"
        assert health["layered"].source_fps == pytest.approx(7.5, rel=0.02)
        for kind in ("plain", "layered"):
            assert (health[kind].invalid, health[kind].decode_errors) == ({}, 0)
            numbers = [segment.number for segment in w.of(kind)]
            assert numbers == list(range(len(numbers)))


@contextmanager
def encrypted(port: int, folder: Path) -> Iterator[int]:
    """The port at which a server's port is reached by TLS."""
    needs_program("openssl", "openssl")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=camera"]
    paths = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *made, *paths], check=True, capture_output=True)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, forth), pump(back, writer))

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(join, "127.0.0.1", 0, ssl=tls))
    thread = threading.Thread(target=loop.run_forever, name="TLS")
    thread.start()
    yield server.sockets[0].getsockname()[1]

    async def end() -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(end(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_camera_is_read_over_rtsps(
    watch: Callable[..., Any], rtsp_server: Callable[..., Any], tmp_path: Path, transport: str
) -> None:
    server = rtsp_server({"/gate": {"launch": LIVE}}, user="viewer", password="p@ss", digest=True)
    with encrypted(server.port, tmp_path) as port:
        address = f"rtsps://viewer:p%40ss@127.0.0.1:{port}/gate"
        with watch([camera("gate", address, transport=transport)]) as w:
            w.until(lambda: len(w.valid("gate")) >= 2)
            assert w.link("gate") == "up"


def test_a_server_that_is_killed_and_comes_back_is_found_again(
    watch: Callable[..., Any], rtsp_server: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "monitor.ingest")
    server = rtsp_server({"/gate": {"launch": LIVE}})
    with watch([camera("gate", server.url("/gate"))]) as w:
        w.until(lambda: len(w.valid("gate")) >= 2)
        server.kill()
        w.until(lambda: w.link("gate") == "lost")
        time.sleep(1.5)
        server.start()
        seen = len(w.valid("gate"))
        w.until(lambda: len(w.valid("gate")) >= seen + 2)
        health = w.pool.health()["gate"]
        assert (health.link, health.fault, health.reconnects) == ("up", None, 1)
        valid = w.valid("gate")
        before, after = valid[seen - 1], valid[seen]
        missed = (after.captured_s - before.captured_s) / (16 / 15)
        assert after.number - before.number == pytest.approx(missed, abs=1.1)
        assert after.start_s - before.start_s == pytest.approx(after.captured_s - before.captured_s, abs=1.1)
        assert w.changes.count("gate") >= 3
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
    assert lines[0] == "camera 'gate': the stream is there (h264 320x180)"
    assert lines[1].endswith("trying again until it is back")
    assert lines[2:] == ["camera 'gate': the stream is there (h264 320x180)"]


def test_a_stalled_server_is_a_fault_in_bounded_time(
    watch: Callable[..., Any], rtsp_server: Callable[..., Any]
) -> None:
    server = rtsp_server({"/gate": {"launch": LIVE}})
    settings = camera("gate", server.url("/gate"), stall_timeout_s=2.0, connect_timeout_s=1.0)
    with watch([settings]) as w:
        w.until(lambda: len(w.valid("gate")) >= 1)
        os.kill(server.process.pid, signal.SIGSTOP)
        stopped_s = time.monotonic()
        w.until(lambda: w.link("gate") == "lost")
        assert time.monotonic() - stopped_s < 3.5, "one time-out, not two: libav's parser holds a packet back"
        assert w.pool.health()["gate"].stalls == 1
        assert w.pool.health()["gate"].fault == f"no data from rtsp://127.0.0.1:{server.port} for 2 s"
        os.kill(server.process.pid, signal.SIGCONT)
        w.until(lambda: w.link("gate") == "up")
        assert w.pool.health()["gate"].restarts == 0


def test_frames_after_lost_packets_are_not_analysed_as_if_they_were_real(
    watch: Callable[..., Any], rtsp_server: Callable[..., Any]
) -> None:
    server = rtsp_server({"/gate": {"launch": LIVE, "loss": 0.03}, "/door": {"launch": LIVE}})
    cameras = [camera("gate", server.url("/gate"), transport="udp"), camera("door", server.url("/door"))]
    with watch(cameras) as w:
        w.until(lambda: w.pool.health()["gate"].invalid.get("decode_error", 0) >= 2, 20.0)
        assert w.pool.health()["gate"].decode_errors >= 2
        assert w.pool.health()["door"].invalid == {}
        assert all(s.pictures is None for s in w.of("gate") if s.invalid)


def test_jpeg_over_rtp_is_read(watch: Callable[..., Any], rtsp_server: Callable[..., Any]) -> None:
    # RTP's JPEG needs sizes that are multiples of 8.
    picture = LIVE.split("! x264enc")[0].replace("height=180", "height=176,format=I420")
    launch = picture + "! jpegenc ! rtpjpegpay name=pay0 pt=26"
    server = rtsp_server({"/gate": {"launch": launch}})
    with watch([camera("gate", server.url("/gate"))]) as w:
        w.until(lambda: len(w.valid("gate")) >= 2)
        assert w.pool.health()["gate"].codec == "mjpeg"
        assert w.pool.health()["gate"].decode_errors == 0


def test_no_secret_is_told_to_anyone(
    watch: Callable[..., Any],
    rtsp_server: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    server = rtsp_server({"/gate": {"launch": LIVE}}, user="joe", password="s3cret")
    urls = {
        "wrong": server.url("/gate", "joe:wr0ngs3cret@"),
        "missing": server.url("/none", "joe:s3cret@"),
        "unknown": "rtsp://joe:s3cret@no-such-host.invalid/x",
        "closed": "http://joe:s3cret@127.0.0.1:1/x?token=s3cret",
    }
    with watch([camera(name, url) for name, url in urls.items()]) as w:
        w.until(lambda: all(health.link == "lost" for health in w.pool.health().values()))
        told = repr(w.pool.health()) + caplog.text + "".join(capfd.readouterr())
    assert "s3cret" not in told
    assert "401" in told


@pytest.mark.slow
def test_a_camera_that_comes_back_with_another_codec_and_size_is_read_on(
    watch: Callable[..., Any], rtsp_server: Callable[..., Any]
) -> None:
    server = rtsp_server({"/gate": {"launch": LIVE}})
    with watch([camera("gate", server.url("/gate"))]) as w:
        w.until(lambda: len(w.valid("gate")) >= 1)
        server.kill()
        server.mounts["/gate"] = {"launch": LIVE.replace("320", "640").replace("15/1", "10/1")}
        server.start()
        w.until(lambda: w.pool.health()["gate"].width_px == 640 and len(w.valid("gate")) >= 4)
        assert w.pool.health()["gate"].source_fps == pytest.approx(10.0, rel=0.02)
