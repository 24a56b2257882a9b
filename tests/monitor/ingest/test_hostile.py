"""Addresses and files made to have the monitor read what it should not: real playlists, links and servers."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest

from monitor import config
from monitor.config import StreamUrl
from monitor.ingest.camera import ReaderSettings, open_stream
from monitor.ingest.fault import StreamFault
from tests.monitor.ingest.conftest import write_clip


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A video that nobody allowed, outside the allowed folder."""
    (tmp_path / "private").mkdir()
    (tmp_path / "open").mkdir()
    return write_clip(tmp_path / "private" / "secret.ts", codec="libx264")


def opens(url: str, *folders: Path) -> str | None:
    """None where its pictures can be had, else the reason why not."""
    allowed = tuple(map(str, folders)) or None
    settings = ReaderSettings(name="a", url=url, fps=15.0, folders=allowed, connect_timeout_s=3, stall_timeout_s=3)
    try:
        with open_stream(settings) as stream:
            return None if any(stream.decode(packet) for packet in stream.packets()) else "no frame"
    except StreamFault as fault:
        return fault.reason


def lists(secret: Path) -> dict[str, str]:
    """Files that are lists of other files, by name."""
    head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:3.2,\n"
    return {
        "absolute.m3u8": f"{head}{secret}\n#EXT-X-ENDLIST\n",
        "scheme.m3u8": f"{head}file://{secret}\n#EXT-X-ENDLIST\n",
        "relative.m3u8": f"{head}../private/{secret.name}\n#EXT-X-ENDLIST\n",
        "key.m3u8": f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="file://{secret}"\n#EXTINF:3,\n{secret}\n#EXT-X-ENDLIST\n',
        "master.m3u8": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nfile://{secret}\n",
        "subfile.m3u8": f"{head}subfile,,start,0,end,0,,:{secret}\n#EXT-X-ENDLIST\n",
        "concat.m3u8": f"{head}concat:{secret}|{secret}\n#EXT-X-ENDLIST\n",
        "data.m3u8": f"{head}data:video/mp2t;base64,AAAA\n#EXT-X-ENDLIST\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile {secret}\n",
        "up.ffconcat": f"ffconcat version 1.0\nfile ../private/{secret.name}\n",
        "dash.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        f'<AdaptationSet mimeType="video/mp2t"><Representation id="1" bandwidth="1"><BaseURL>file://{secret}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>",
        "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    }


NAMES = list(lists(Path("/x")))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_a_list_of_others_opens_none_of_them(tmp_path: Path, secret: Path, name: str) -> None:
    assert opens(str(secret)) is None, "the bait itself can be played"
    bait = tmp_path / "open" / name
    bait.write_text(lists(secret)[name])
    assert opens(str(bait)) in ("not_video", "network", "no_video", "unsupported"), name
    # Nor under a name that looks well.
    well = bait.with_suffix(".mp4")
    well.write_text(bait.read_text())
    assert opens(str(well)) is not None


class _Server(http.server.BaseHTTPRequestHandler):
    pages: ClassVar[dict[str, str]]
    leads: ClassVar[str]
    asked: ClassVar[list[str]]

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        body = self.pages.get(self.path.strip("/"), "").encode()
        self.send_response(302 if self.path == "/leads" else 200)
        if self.path == "/leads":
            self.send_header("Location", self.leads)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def web(pages: dict[str, str], leads: str) -> Iterator[tuple[str, list[str]]]:
    kind = type("Server", (_Server,), {"pages": pages, "leads": leads, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, name="hostile server", daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", kind.asked  # type: ignore[attr-defined]
        finally:
            server.shutdown()


@pytest.mark.parametrize("name", NAMES)
def test_a_server_cannot_have_files_of_this_machine_read(secret: Path, name: str) -> None:
    with web(lists(secret), str(secret)) as (address, asked):
        assert opens(f"{address}/{name}") is not None
    assert asked, "it was really asked for the list"


@pytest.mark.parametrize("lead", ["file://{}", "{}", "concat:{}", "subfile,,start,0,end,0,,:{}", "data:video/mp2t,x"])
def test_a_redirect_leads_to_no_file(secret: Path, lead: str) -> None:
    with web({}, lead.format(secret)) as (address, asked):
        assert opens(f"{address}/leads") is not None
    assert "/leads" in asked


def test_a_link_that_leads_outside_the_allowed_folders_is_not_followed(tmp_path: Path, secret: Path) -> None:
    inside = write_clip(tmp_path / "open" / "clip.ts", codec="libx264")
    (tmp_path / "open" / "link.ts").symlink_to(secret)
    (tmp_path / "open" / "folder").symlink_to(secret.parent)
    (tmp_path / "alias").symlink_to(tmp_path / "open")
    folder = tmp_path / "open"
    assert opens(str(inside), folder) is None
    assert opens(str(tmp_path / "alias" / "clip.ts"), folder) is None, "it leads inside"
    assert opens(str(inside), tmp_path / "alias") is None, "a folder may be a link itself"
    for outside in (
        folder / "link.ts",
        folder / "folder" / "secret.ts",
        folder / ".." / "private" / "secret.ts",
        secret,
    ):
        assert opens(str(outside), folder) == "outside"
    assert opens(str(secret), folder, secret.parent) is None


def test_a_picture_that_claims_gigabytes_is_not_decoded(tmp_path: Path) -> None:
    ok, jpeg = cv2.imencode(".jpg", np.zeros((9000, 9000, 3), np.uint8))
    assert ok
    (tmp_path / "large.mjpeg").write_bytes(jpeg.tobytes() * 3)
    assert opens(str(tmp_path / "large.mjpeg")) == "too_large"
    # One that grows later: a small picture first.
    ok, small = cv2.imencode(".jpg", np.zeros((90, 90, 3), np.uint8))
    (tmp_path / "grows.mjpeg").write_bytes(small.tobytes() * 2 + jpeg.tobytes() * 2)
    settings = ReaderSettings(name="a", url=str(tmp_path / "grows.mjpeg"), fps=15.0)
    with open_stream(settings) as stream:
        sizes = {(one.frame.width, one.frame.height) for packet in stream.packets() for one in stream.decode(packet)}
    assert sizes == {(90, 90)}


@pytest.mark.parametrize("folders", ["", "ingest: {file_folders: [clips, /srv/video]}\n"])
@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "file:../x.mp4", "file:clips/../../x.mp4", "file:///srv/videos/a.mp4", "file:%2e%2e/x.mp4"],
)
def test_files_stand_for_cameras_only_where_the_configuration_allows(tmp_path: Path, url: str, folders: str) -> None:
    file = tmp_path / "plant.yaml"
    file.write_text(f"site: a\nmqtt: off\n{folders}cameras:\n- {{name: a, url: '{url}'}}\n")
    with pytest.raises(config.ConfigError, match=r"cameras\[0\].url: lies outside the folders of ingest.file_folders"):
        config.load(file, {})


def test_the_folder_of_the_plant_is_allowed_unless_others_are_named(tmp_path: Path) -> None:
    file = tmp_path / "plant.yaml"
    text = "site: a\nmqtt: off\ncameras:\n- {name: a, url: 'file:clips/a.mp4'}\n"
    file.write_text(text)
    assert config.load(file, {}).ingest.file_folders == (tmp_path,)
    file.write_text(text + "ingest: {file_folders: [clips]}\n")
    assert config.load(file, {}).ingest.file_folders == (tmp_path / "clips",)
    file.write_text(text + "ingest: {file_folders: []}\n")
    with pytest.raises(config.ConfigError, match="lies outside"):
        config.load(file, {})


@pytest.mark.parametrize(
    "address",
    [
        "concat:/etc/passwd|/etc/hosts",
        "subfile,,start,0,end,9,,:/etc/passwd",
        "data:video/mp4;base64,AAAA",
        "pipe:0",
        "fd:3",
        "hls+file:///x.m3u8",
        "async:file:/x",
        "cache:http://h/x",
        "crypto:file:/x",
        "unix:/run/x",
        "ftp://h/x",
        "lavfi:x",
        "tee:x",
        "rtmp://h/x",
        "srt://h:1",
        "udp://@:1",
        "gopher://h/x",
        "smb://h/x",
        "ipfs://x",
        "bluray:/x",
    ],
)
def test_no_scheme_but_those_of_streams_is_an_address(address: str) -> None:
    with pytest.raises(ValueError, match=r"scheme|@ is ambiguous"):
        StreamUrl(address)
