"""A stream's address, taken apart, and what can be wrong with it before libav is asked."""

from __future__ import annotations

import queue
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import av

from monitor.ingest.fault import StreamFault


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A stream's address, taken apart. ``scheme``: rtsp, rtsps, http, https, file or device."""

    scheme: str
    target: str = field(repr=False)
    """What libav opens."""
    host: str | None
    port: int | None
    shown: str
    """The address for people: without credentials, path or query of a network stream's secret parts."""

    @classmethod
    def of(cls, url: str) -> Source:
        if url.isdigit() or url.startswith("/dev/video"):
            target = f"/dev/video{url}" if url.isdigit() else url
            return cls(scheme="device", target=target, host=None, port=None, shown=target)
        if "://" not in url:
            # ``file:/a b.mp4`` as the configuration resolves it is not percent-encoded, other than ``file://``.
            url = url.removeprefix("file:")
            return cls(scheme="file", target=url, host=None, port=None, shown=url)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise StreamFault("bad_url", "the url cannot be read: it needs the form rtsp://host:port/path") from None
        if parts.scheme == "file":
            target = unquote(parts.path)
            return cls(scheme="file", target=target, host=None, port=None, shown=target)
        if parts.scheme not in SCHEMES:
            raise StreamFault(
                "bad_url", f"streams of the kind {parts.scheme}:// cannot be read; use rtsp, http or file"
            )
        port = port or {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}[parts.scheme]
        host = parts.hostname or ""
        return cls(scheme=parts.scheme, target=url, host=host, port=port, shown=f"{parts.scheme}://{host}:{port}")


SCHEMES = {
    "rtsp": "rtsp,rtp,rtcp,udp,tcp",
    "rtsps": "rtsp,rtp,srtp,udp,tcp,tls,crypto",
    "http": "http,httpproxy,tcp",
    "https": "https,http,httpproxy,tls,tcp,crypto",
    "file": "file",
    "device": "file",
}
"""Which protocols libav may use for a scheme: a hostile playlist must not make it read files or other hosts'
services."""


_OTHER_FILES = frozenset(
    {"concat", "dash", "hls", "applehttp", "image2", "image2pipe", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp"}
    | {"txd", "vobsub", "webm_dash_manifest", "x11grab", "fbdev", "kmsgrab", "alsa", "oss", "xcbgrab"}
)
"""Formats of files that are lists of other files and addresses, or that open devices."""
LISTS = {
    "file": _OTHER_FILES,
    "http": _OTHER_FILES - {"hls", "applehttp"},
    "https": _OTHER_FILES - {"hls", "applehttp"},
}
"""Which formats are refused for a scheme. Some cameras stream HLS: its parts come by the scheme's protocols only."""


def resolve(host: str, port: int, timeout_s: float) -> None:
    """Looks the host up in a thread of its own: libav's look-up cannot be interrupted, and would hang the
    reader."""
    answers: queue.SimpleQueue[OSError | None] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            answers.put(error)
        else:
            answers.put(None)

    threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
    try:
        error = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise StreamFault("unknown_host", f"no name server answered for the host '{host}' in {timeout_s:g} s") from None
    if error is not None:
        raise StreamFault("unknown_host", f"the host '{host}' is unknown: check the name in the camera's url")


def check_file(source: Source, folders: tuple[str, ...] | None = None) -> None:
    """StreamFault where it is no file that may be read. Links are followed: what counts is where they lead."""
    path = Path(source.target)
    try:
        if folders is not None and not any(path.resolve().is_relative_to(Path(one).resolve()) for one in folders):
            raise StreamFault("outside", f"{path} lies, or leads, outside the folders of ingest.file_folders")
        if path.is_dir():
            raise StreamFault("not_video", f"{path} is a folder, not a video file")
        if path.exists() and not path.is_file():
            raise StreamFault("not_video", f"{path} is not a regular file")
        if path.stat().st_size == 0:
            raise StreamFault("empty", f"the file {path} is empty (0 bytes)")
    except FileNotFoundError:
        raise StreamFault("missing_file", f"there is no file {path}") from None
    except PermissionError:
        raise StreamFault("permission", f"the file {path} may not be read by this user") from None


def check_device(source: Source) -> None:
    if not Path(source.target).exists():
        raise StreamFault("missing_file", f"there is no camera device {source.target}: is it plugged in?")
    if "video4linux2" not in av.formats_available and "v4l2" not in av.formats_available:
        raise StreamFault(
            "unsupported",
            "this PyAV cannot read camera devices (its wheel has no video4linux); serve the device over RTSP instead",
        )
