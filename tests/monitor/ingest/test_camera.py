"""What people are told when a stream cannot be read, and what libav is allowed to do."""

from __future__ import annotations

import http.server
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.packet import Packet

from monitor.config import StreamUrl
from monitor.ingest.camera import ReaderSettings, Stream, libav_options, open_stream
from monitor.ingest.fault import StreamFault
from monitor.ingest.probe import probe
from monitor.ingest.reader import backoff_s
from monitor.ingest.recorder import packet_of
from monitor.ingest.source import Source
from tests.monitor.ingest.conftest import LIVE, camera, write_clip


def fault_of(url: str, **more: Any) -> StreamFault:
    with pytest.raises(StreamFault) as caught, open_stream(camera("gate", url, **more)) as stream:
        for packet in stream.packets():
            stream.decode(packet)
    return caught.value


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert str(fault_of(f"file://{tmp_path}/none.mp4")) == f"there is no file {tmp_path}/none.mp4"


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    assert str(fault_of(f"{tmp_path}/a.mp4")) == f"the file {tmp_path}/a.mp4 is empty (0 bytes)"


def test_a_folder(tmp_path: Path) -> None:
    assert str(fault_of(str(tmp_path))) == f"{tmp_path} is a folder, not a video file"


def test_a_pipe_is_refused_because_opening_it_would_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    assert str(fault_of(f"{tmp_path}/a.mp4")) == f"{tmp_path}/a.mp4 is not a regular file"


def test_a_file_that_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("no video " * 1000)
    assert str(fault_of(str(path))) == f"no video can be read from {path}: is it one, and is it whole?"


def test_a_text_file_is_no_video_though_libav_would_paint_it(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Cameras of hall 3, see the plan.\n" * 50)
    assert str(fault_of(str(path))) == f"no video can be read from {path}: is it one, and is it whole?"


def test_a_file_with_sound_only(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="stereo")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
    assert str(fault_of(str(path))) == f"{path} has no video stream"


def test_a_port_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert (
        str(fault_of(f"rtsp://joe:s3cret@127.0.0.1:{port}/x"))
        == f"rtsp://127.0.0.1:{port} refused the connection: is the camera on, is the port right?"
    )


def test_a_host_that_nobody_knows() -> None:
    assert (
        str(fault_of("rtsp://joe:s3cret@no-such-host.invalid/x"))
        == "the host 'no-such-host.invalid' is unknown: check the name in the camera's url"
    )


def test_a_host_that_accepts_and_says_nothing_is_given_up_in_bounded_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        started_s = time.monotonic()
        fault = fault_of(f"rtsp://127.0.0.1:{port}/x", connect_timeout_s=1.0, stall_timeout_s=1.0)
        assert time.monotonic() - started_s < 3.0
    assert str(fault) == f"rtsp://127.0.0.1:{port} did not answer within 1 s"
    assert fault.reason == "timeout"


@pytest.mark.parametrize("digest", [False, True])
def test_a_wrong_password(rtsp_server: Callable[..., Any], digest: bool) -> None:
    server = rtsp_server({"/gate": {"launch": LIVE}}, user="joe", password="s3cret", digest=digest)
    fault = fault_of(server.url("/gate", "joe:wr0ng@"))
    assert (
        str(fault) == f"rtsp://127.0.0.1:{server.port} refused the user name or password (401): "
        "check the camera's credentials"
    )
    found = probe(camera("gate", server.url("/gate", "joe:s3cret@")), watch_s=2.5)
    assert (found.fault, found.codec, found.width_px, found.height_px) == (None, "h264", 320, 180)


def test_a_path_that_does_not_exist(rtsp_server: Callable[..., Any]) -> None:
    server = rtsp_server({"/gate": {"launch": LIVE}})
    assert (
        str(fault_of(server.url("/door")))
        == f"rtsp://127.0.0.1:{server.port} has no stream of that path (404): check the path in the url"
    )
    found = probe(camera("gate", server.url("/gate")), watch_s=2.5)
    assert found.fps == pytest.approx(15.0, rel=0.02)
    assert found.key_interval_s == pytest.approx(1.0, rel=0.02)
    assert found.first_frame_s is not None
    assert found.first_frame_s < 3.0
    assert found.late_s is not None
    assert 0.0 <= found.late_s < 2.0
    assert found.summary.startswith("gate: h264 320x180, 15 frames/s, first frame after ")


def test_a_web_page_is_no_video() -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path.startswith("/page")
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", "2600")
            self.end_headers()
            self.wfile.write(b"<html>no video here</html>" * 100)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, name="web page", daemon=True).start()
        port = server.server_address[1]
        page = fault_of(f"http://joe:s3cret@127.0.0.1:{port}/page?token=abc")
        missing = fault_of(f"http://127.0.0.1:{port}/other")
        server.shutdown()
    assert str(page) == f"no video can be read from http://127.0.0.1:{port}: is it one, and is it whole?"
    assert missing.reason == "not_found"


def test_other_kinds_of_addresses_are_refused() -> None:
    assert fault_of("concat:/etc/passwd|/etc/hosts").reason == "missing_file"
    assert str(fault_of("gopher://host/x")) == "streams of the kind gopher:// cannot be read; use rtsp, http or file"
    assert fault_of("rtsp://host:notaport/").reason == "bad_url"


def test_a_playlist_cannot_make_libav_open_other_files(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "secret.ts", codec="libx264")
    playlist = tmp_path / "list.m3u8"
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:4", "#EXTINF:3,", f"http://127.0.0.1:1/{clip.name}"]
    playlist.write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))
    assert fault_of(str(playlist)).reason in ("not_video", "network", "no_video", "unsupported")


def test_options_follow_the_scheme() -> None:
    rtsp = camera("a", "rtsp://host/x", transport="udp", stall_timeout_s=3.0)
    assert libav_options(Source.of(rtsp.url), rtsp) == {
        "protocol_whitelist": "rtsp,rtp,rtcp,udp,tcp",
        "rtsp_transport": "udp",
        "timeout": "3000000",
        "allowed_media_types": "video",
        "fpsprobesize": "0",
        "analyzeduration": "2000000",
    }
    file = camera("a", "/a.mp4")
    options = libav_options(Source.of(file.url), file)
    assert options["protocol_whitelist"] == "file"
    formats = set(options["format_whitelist"].split(","))
    assert {"mov", "matroska", "mpegts", "avi"} <= formats
    assert not formats & {"hls", "concat", "dash", "image2", "lavfi", "sdp"}


@pytest.mark.parametrize(
    ("url", "scheme", "target"),
    [
        ("file:///a%20b/c.mp4", "file", "/a b/c.mp4"),
        (StreamUrl("file:///a%20b/50%25.mp4").secret, "file", "/a b/50%.mp4"),
        (StreamUrl("file:clip.mp4").secret, "file", "clip.mp4"),
        ("/a b/c.mp4", "file", "/a b/c.mp4"),
        (StreamUrl("/dev/video2").secret, "device", "/dev/video2"),
        ("0", "device", "/dev/video0"),
        (StreamUrl("rtsp://joe:pa ss@cam:8554/x").secret, "rtsp", "rtsp://joe:pa%20ss@cam:8554/x"),
    ],
)
def test_addresses_are_taken_as_the_configuration_gives_them(url: str, scheme: str, target: str) -> None:
    source = Source.of(url)
    assert (source.scheme, source.target) == (scheme, target)


def test_no_secret_is_in_a_repr() -> None:
    settings = camera("a", "rtsp://joe:s3cret@host/x?token=abc")
    assert "s3cret" not in repr(settings) + repr(Source.of(settings.url))
    assert "abc" not in repr(settings) + repr(Source.of(settings.url))


def test_patience_grows_and_is_bounded() -> None:
    waits = [backoff_s(failures, 1.0, 60.0, 0.5) for failures in (1, 2, 3, 4, 5, 9, 1000)]
    assert waits == [0.375, 0.75, 1.5, 3.0, 6.0, 45.0, 45.0]
    for failures, longest_s in ((1, 0.5), (3, 2.0), (1000, 60.0)):
        spread = [backoff_s(failures, 1.0, 60.0, chance / 100) for chance in range(100)]
        assert (min(spread), len(set(spread))) == (longest_s / 2, 100), "no two cameras wait for the same moment"
        assert max(spread) < longest_s


def broken(clip: Path, spoil: Callable[[int, bytes], bytes]) -> list[str | None]:
    """The fault of each frame when packets are spoilt on the way."""
    with open_stream(ReaderSettings(name="a", url=str(clip), fps=15.0)) as stream:
        faults: list[str | None] = []
        for index, packet in enumerate(stream.packets()):
            sent: Packet[Any] = packet
            if packet.size:
                sent = packet_of(spoil(index, bytes(packet)))
                sent.pts, sent.dts, sent.time_base = packet.pts, packet.dts, packet.time_base
                sent.is_keyframe = packet.is_keyframe
            faults += [decoded.fault for decoded in stream.decode(sent)]
        return faults


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_after_a_broken_frame_all_are_distrusted_until_the_next_key_frame(tmp_path: Path, codec: str) -> None:
    clip = write_clip(tmp_path / "a.mp4", codec=codec, frames=45, gop=15, size_px=(320, 240))
    assert broken(clip, lambda index, data: data) == [None] * 45
    faults = broken(clip, lambda index, data: data[: len(data) // 3] if index == 20 else data)
    assert faults[:20] == [None] * 20
    assert set(faults[21:29]) == {"decode_error"}
    assert faults[-15:] == [None] * 15


def test_a_broken_jpeg_spoils_only_itself(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.avi", codec="mjpeg", frames=10, size_px=(320, 240))
    faults = broken(clip, lambda index, data: data[:300] + b"\xff" * 200 if index == 4 else data)
    assert len(faults) == 9
    assert faults.count("decode_error") <= 1


def test_stamps_come_in_seconds(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mkv", frames=4, fps=10)
    with open_stream(camera("a", str(clip))) as stream:
        stamps = [d.stamp_s for packet in stream.packets() for d in stream.decode(packet)]
    assert stamps == [0.0, 0.1, 0.2, 0.3]


class Stumbling:
    """PyAV at the end of an MPEG-TS in which a stream appeared after opening.

    Whether it stumbles depends on what lies in memory (seen with a damaged recording): a real one does so now and then.
    """

    def __init__(self, container: Any) -> None:
        self.streams, self._container = container.streams, container

    def demux(self) -> Any:
        yield from self._container.demux()
        raise IndexError("list index out of range")


def test_a_stumble_of_pyav_over_a_late_stream_is_the_end_of_the_stream(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.ts")
    with av.open(str(clip)) as container:
        whole = sum(packet.size > 0 for packet in container.demux(video=0))
    with av.open(str(clip)) as container:
        stumbling: Any = Stumbling(container)
        stream = Stream(stumbling, container.streams.video[0], camera("a", str(clip)))
        assert sum(packet.size > 0 for packet in stream.packets()) == whole
