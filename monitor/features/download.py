"""One file over HTTP, resumed where an earlier attempt stopped."""

from __future__ import annotations

import fcntl
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

Progress = Callable[[int, int | None], None]
"""Called with (bytes so far, bytes in all or None)."""

_BLOCK = 1 << 20
_USER_AGENT = "vad-monitor"


class DownloadError(OSError):
    """Why a file did not come, in a sentence; what has come stays and is resumed by the next attempt."""


def download(url: str, target: Path, *, progress: Progress | None = None, timeout_s: float = 30.0) -> Path:
    """Fetches ``url`` into ``target``; bytes that lie there already are kept, only the rest is asked for.

    Whether the parts belong together is for the caller's sha256 to say. One process at a time: a second one
    gets a DownloadError. http, https and file addresses.
    """
    if not url.startswith(("https://", "http://", "file://")):
        raise DownloadError(f"{url} is no http, https or file address")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            raise DownloadError(f"another process is fetching {url} just now") from fault
        try:
            _fetch_rest(url, file, progress, timeout_s)
        except urllib.error.HTTPError as fault:
            raise DownloadError(f"{url} answered {fault.code} {fault.reason}") from fault
        except (http.client.HTTPException, OSError) as fault:
            if isinstance(fault, DownloadError):
                raise
            reason = getattr(fault, "reason", None) or fault
            raise DownloadError(
                f"{url} broke off after {file.tell()} bytes ({reason}); the next attempt goes on from there"
            ) from fault
    return target


def _fetch_rest(url: str, file: BinaryIO, progress: Progress | None, timeout_s: float) -> None:
    have = file.tell()
    headers = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  # the scheme was checked above
    try:
        response = urllib.request.urlopen(request, timeout=timeout_s)  # noqa: S310
    except urllib.error.HTTPError as fault:
        if fault.code == 416 and have and fault.headers.get("Content-Range") == f"bytes */{have}":
            fault.close()
            return  # all of it lies here already
        fault.close()
        if fault.code == 416:
            file.truncate(0)
        raise
    with response:
        if have and response.status != 206:
            file.truncate(0)  # the server sends it all again
            have = 0
        length = response.headers.get("Content-Length")
        whole = have + int(length) if length is not None else None
        while block := response.read(_BLOCK):
            file.write(block)
            have += len(block)
            if progress is not None:
                progress(have, whole)
    if whole is not None and have < whole:
        raise DownloadError(f"{url} broke off after {have} of {whole} bytes; the next attempt goes on from there")
