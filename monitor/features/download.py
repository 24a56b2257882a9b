"""One file over HTTP, resumed where an earlier attempt stopped."""

from __future__ import annotations

import fcntl
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import BinaryIO

Progress = Callable[[int, int | None], None]
"""Called with (bytes so far, bytes in all or None)."""

_BLOCK = 1 << 20


class DownloadError(OSError):
    """Why a file did not come, in a sentence; what has come stays and is resumed by the next attempt."""


def download(url: str, target: Path, *, progress: Progress | None = None, timeout_s: float = 30.0) -> Path:
    """Fetches ``url`` into ``target``; bytes that lie there already are kept, only the rest is asked for.

    Whether the parts belong together is for the caller's sha256 to say. One process at a time: a second one
    gets a DownloadError. http and https addresses.
    """
    if not url.startswith(("https://", "http://")):
        raise DownloadError(f"{url} is no http or https address")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            raise DownloadError(f"another process is fetching {url} just now") from fault
        try:
            _fetch_rest(url, target, file, progress, timeout_s)
        except urllib.error.HTTPError as fault:
            fault.close()
            if fault.code == 416:  # the part that lies here is no part of what is there now: begin again
                file.truncate(0)
            raise DownloadError(f"{url} answered {fault.code} {fault.reason}") from fault
        except (http.client.HTTPException, OSError) as fault:
            if isinstance(fault, DownloadError):
                raise
            reason = getattr(fault, "reason", None) or fault
            if file.tell() == 0:
                raise DownloadError(f"{url} cannot be reached ({reason})") from fault
            raise DownloadError(
                f"{url} broke off after {file.tell()} bytes ({reason}); the next attempt goes on from there"
            ) from fault
    return target


def _fetch_rest(url: str, target: Path, file: BinaryIO, progress: Progress | None, timeout_s: float) -> None:
    have = file.tell()
    version = target.with_name(f"{target.name}.version")
    headers = {"User-Agent": "vad-monitor", "Accept-Encoding": "identity"}
    if have and version.is_file():
        # If the file behind the address is another one by now, If-Range makes the server send all of it.
        headers |= {"Range": f"bytes={have}-", "If-Range": version.read_text()}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  # the scheme was checked above
    with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310
        if response.status != 206:
            file.truncate(0)
            have = 0
        _note_version(version, response.headers)
        length = response.headers.get("Content-Length")
        whole = have + int(length) if length is not None else None
        while block := response.read(_BLOCK):
            file.write(block)
            have += len(block)
            if progress is not None:
                progress(have, whole)
    if whole is not None and have < whole:
        raise DownloadError(f"{url} broke off after {have} of {whole} bytes; the next attempt goes on from there")
    version.unlink(missing_ok=True)


def _note_version(version: Path, headers: Message) -> None:
    """Keeps a strong ETag, or the date, beside the part: without one a part cannot be resumed, and is not."""
    etag = headers.get("ETag", "")
    named = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")
    if named:
        version.write_text(named)
    else:
        version.unlink(missing_ok=True)
