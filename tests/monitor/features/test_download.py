"""Downloads against a real HTTP server that knows ranges, breaks off when told to, and counts what it is asked."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from monitor.features.download import DownloadError, download
from tests.conftest import free_port


class FileServer(ThreadingHTTPServer):
    """Serves one file at every path; ``break_after`` bytes of a body the connection is cut, once."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.content = content
        self.etag: str | None = '"one"'
        self.break_after: int | None = None
        self.status: int | None = None
        self.hold: threading.Event | None = None
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/model_zoo/I3D_8x8_R50.pyth"


class _Request(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        served, asked = self.server, self.headers.get("Range")
        served.ranges.append(asked)
        if served.status is not None:
            self.send_error(served.status)
            return
        start = 0
        if asked is not None and self.headers.get("If-Range") == served.etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(served.content):
                self.send_error(416)
                return
        body = served.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(served.content) - 1}/{len(served.content)}")
        if served.etag is not None:
            self.send_header("ETag", served.etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if served.hold is not None:
            served.hold.wait(10)
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[: served.break_after])
        if served.break_after is not None:
            self.close_connection, served.break_after = True, None

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(content: bytes) -> Iterator[FileServer]:
    with FileServer(content) as served:
        thread = threading.Thread(target=served.serve_forever, name="file server", daemon=True)
        thread.start()
        try:
            yield served
        finally:
            served.shutdown()
            thread.join()


CONTENT = bytes(range(256)) * 12_000


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(CONTENT) as served:
        yield served


def test_a_file_comes_whole_and_its_progress_is_told(server: FileServer, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    target = download(server.url, tmp_path / "new" / "file.part", progress=lambda have, all_: told.append((have, all_)))
    assert target.read_bytes() == CONTENT
    assert told == [(1_048_576, 3_072_000), (2_097_152, 3_072_000), (3_072_000, 3_072_000)]
    assert [path.name for path in target.parent.iterdir()] == ["file.part"]


def test_a_download_that_broke_off_half_way_goes_on_from_there(server: FileServer, tmp_path: Path) -> None:
    server.break_after = 1_500_000
    with pytest.raises(DownloadError, match="broke off after 1500000 of 3072000 bytes; the next attempt goes on"):
        download(server.url, tmp_path / "file.part")
    assert (tmp_path / "file.part").stat().st_size == 1_500_000
    assert download(server.url, tmp_path / "file.part").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1500000-"]


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(server: FileServer, tmp_path: Path) -> None:
    server.break_after = 1_500_000
    with pytest.raises(DownloadError):
        download(server.url, tmp_path / "file.part")
    server.content, server.etag = CONTENT[::-1], '"two"'
    assert download(server.url, tmp_path / "file.part").read_bytes() == CONTENT[::-1]


def test_without_a_version_to_compare_nothing_is_pieced_together(server: FileServer, tmp_path: Path) -> None:
    server.break_after, server.etag = 1_500_000, None
    with pytest.raises(DownloadError):
        download(server.url, tmp_path / "file.part")
    assert download(server.url, tmp_path / "file.part").read_bytes() == CONTENT
    assert server.ranges == [None, None]


def test_a_part_as_long_as_the_file_is_begun_again(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    (tmp_path / "file.part.version").write_text('"one"')
    with pytest.raises(DownloadError, match="answered 416"):
        download(server.url, tmp_path / "file.part")
    assert download(server.url, tmp_path / "file.part").read_bytes() == CONTENT


def test_an_answer_that_is_no_file_is_said(server: FileServer, tmp_path: Path) -> None:
    server.status = 403
    with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:\d+/model_zoo/I3D_8x8_R50\.pyth answered 403"):
        download(server.url, tmp_path / "file.part")


def test_nobody_listening_is_said(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"cannot be reached \(.*Connection refused"):
        download(f"http://127.0.0.1:{free_port()}/x", tmp_path / "file.part")


def test_an_address_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"ftp://example\.org/x is no http or https address"):
        download("ftp://example.org/x", tmp_path / "file.part")


def test_two_at_once_do_not_write_into_one_file(server: FileServer, tmp_path: Path) -> None:
    server.hold = threading.Event()
    first = threading.Thread(target=download, args=(server.url, tmp_path / "file.part"), name="first download")
    first.start()
    try:
        while not server.ranges:
            first.join(0.01)
        with pytest.raises(DownloadError, match="another process is fetching"):
            download(server.url, tmp_path / "file.part")
    finally:
        server.hold.set()
        first.join()
    assert (tmp_path / "file.part").read_bytes() == CONTENT
