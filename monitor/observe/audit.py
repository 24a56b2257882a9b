"""Who did what, and when: JSON lines in the state folder, added to and never changed.

A row is on the disk when ``write`` returns. A file that has grown large is set aside under the time of its end and
kept: who may delete what, and when, is for the plant's owner to say. A disk that is full must not keep an operator
from acting: rows then wait in memory, the log says so, and the next row tries again.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from monitor.observe.log import RedactedRecord

log = logging.getLogger(__name__)

NAME = "audit.jsonl"
LARGEST_BYTES = 10_000_000
"""Some 50,000 rows."""
MOST_WAITING = 10_000
Fact = str | int | float | bool | None


class Audit:
    """Context manager. ``folder`` None keeps nothing (``--dry-run``). ``write`` may be called from any thread."""

    def __init__(
        self, folder: Path | None, *, wall: Callable[[], float] = time.time, largest: int = LARGEST_BYTES
    ) -> None:
        self._folder, self._wall, self._largest = folder, wall, largest
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._failing = False

    def __enter__(self) -> Audit:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        with self._lock:
            self._close()

    def write(self, what: str, *, who: str | None = None, address: str | None = None, **facts: Fact) -> None:
        """``who``: the user, None for the monitor itself or a stranger. Blocks on the disk; never raises OSError."""
        if self._folder is None:
            return
        row = {"what": what, "who": who, "address": address} | facts
        shown: dict[str, Fact] = {
            key: RedactedRecord.redaction(value) if isinstance(value, str) else value for key, value in row.items()
        }
        with self._lock:
            at = datetime.fromtimestamp(self._wall(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            self._waiting.append(json.dumps({"at": at, **shown}, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            try:
                self._flush(self._folder / NAME)
            except OSError as error:
                self._close()
                if not self._failing:
                    log.error("the audit log cannot be written (%s); rows wait in memory", error.strerror or error)
                self._failing = True
            else:
                if self._failing:
                    log.warning("the audit log is written again")
                self._failing = False

    def rows(self, most: int = 100) -> list[dict[str, Any]]:
        """The newest first. Blocks on the disk."""
        return [] if self._folder is None else read(self._folder, most)

    def _flush(self, path: Path) -> None:
        while self._waiting:
            descriptor = self._open(path) if self._descriptor is None else self._descriptor
            row = self._waiting[0]
            if os.write(descriptor, row) < len(row):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # torn; it is written anew after it
            os.fsync(descriptor)
            self._waiting.popleft()
            if os.fstat(descriptor).st_size >= self._largest:
                self._set_aside(path)

    def _open(self, path: Path) -> int:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._descriptor = descriptor
        os.fchmod(descriptor, 0o600)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.write(descriptor, b"\n")  # a power cut tore the last row: the next begins a line of its own
        _sync_folder(path.parent)
        return descriptor

    def _set_aside(self, path: Path) -> None:
        self._close()
        ended = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        target = path.with_name(f"audit-{ended}.jsonl")
        while target.exists():  # the clock was set back
            target = target.with_name(target.stem + "+.jsonl")
        path.rename(target)
        _sync_folder(path.parent)

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def read(folder: Path, most: int = 100) -> list[dict[str, Any]]:
    """The newest rows of the audit log in ``folder``, newest first. Torn rows are passed over."""
    found: list[dict[str, Any]] = []
    for path in _files(folder):
        for line in reversed(path.read_text(encoding="utf-8", errors="replace").splitlines()):
            if len(found) >= most:
                return found
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("at"), str) and isinstance(row.get("what"), str):
                found.append(row)
    return found


def sentence(row: dict[str, Any]) -> str:
    """`2026-03-01T06:30:00.000Z login anna 192.0.2.7 ok=true`."""
    facts = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in row.items() if key not in _SAID]
    return " ".join([row["at"], row["what"], row.get("who") or "-", row.get("address") or "-", *facts])


_SAID = ("at", "what", "who", "address")


def _files(folder: Path) -> Iterator[Path]:
    """Newest first."""
    if (folder / NAME).is_file():
        yield folder / NAME
    yield from sorted(folder.glob("audit-*.jsonl"), reverse=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
