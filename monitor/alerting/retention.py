"""Evidence is kept for so many days and so many bytes; the oldest goes first.

Only files that look like ours are ever touched: ``<camera>/<date>/<alert_id>.mp4|.mkv|.jpg``, plain files, no
links, and what a writer that was killed left of them (``.<alert_id>.mp4.part``). A clip and its snapshot go
together.
"""

from __future__ import annotations

import logging
import re
import stat
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_OURS = re.compile(r"(?P<whole>[^.].*)\.(?:mp4|mkv|jpg)|\.(?P<part>.+)\.(?:mp4|mkv|jpg)\.part")
_YOUNG_S = 300.0
"""A file changed so recently may still be written, whatever ``writing`` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one sweep did. ``kept_bytes`` is what remains of ours."""

    files: int = 0
    freed_bytes: int = 0
    kept_bytes: int = 0


@dataclass(slots=True)
class _Proof:
    """The files of one alert."""

    files: list[Path]
    size: int
    newest_s: float


def sweep(
    folder: Path,
    keep_days: float,
    keep_mb: float,
    *,
    wall: Callable[[], float] = time.time,
    writing: Collection[str] = (),
) -> Swept:
    """Deletes evidence older than ``keep_days``, then the oldest until ``keep_mb`` (10^6 bytes) are not
    exceeded.

    ``writing``: paths relative to ``folder`` that are being written now; they and their siblings stay.
    Blocks on the disk. Files that cannot be deleted are logged and stay.
    """
    wall_s = wall()
    busy = {str(Path(path).with_suffix("")) for path in writing}
    proofs = sorted(_proofs(folder).items(), key=lambda item: item[1].newest_s)
    total = sum(proof.size for _, proof in proofs)
    files = freed = 0
    for stem, proof in proofs:
        old = wall_s - proof.newest_s > keep_days * 86_400
        if not old and total - freed <= keep_mb * 1e6:
            break
        if stem in busy or wall_s - proof.newest_s < _YOUNG_S:
            continue
        for path in proof.files:
            size = _delete(path)
            if size is not None:
                files, freed = files + 1, freed + size
    if files:
        log.info(
            "evidence: %d files (%.1f MB) deleted, older than %g days or beyond %g MB",
            files,
            freed / 1e6,
            keep_days,
            keep_mb,
        )
        _drop_empty(folder)
    return Swept(files=files, freed_bytes=freed, kept_bytes=total - freed)


def _proofs(folder: Path) -> dict[str, _Proof]:
    """``<camera>/<date>/<alert_id>`` → its files."""
    found: dict[str, _Proof] = {}
    for day in _days(folder):
        for path in day.iterdir():
            try:
                info = path.lstat()
            except FileNotFoundError:
                continue
            ours = _OURS.fullmatch(path.name)
            if ours is None or not stat.S_ISREG(info.st_mode):
                continue
            stem = day.relative_to(folder) / (ours["whole"] or ours["part"])
            proof = found.setdefault(str(stem), _Proof([], 0, 0.0))
            proof.files.append(path)
            proof.size += info.st_size
            proof.newest_s = max(proof.newest_s, info.st_mtime)
    return found


def _days(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    cameras = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    days = [day for camera in cameras for day in camera.iterdir() if _DAY.fullmatch(day.name)]
    return [day for day in days if day.is_dir() and not day.is_symlink()]


def _delete(path: Path) -> int | None:
    """Bytes freed; None where it could not be deleted."""
    try:
        size = path.lstat().st_size
        path.unlink()
    except FileNotFoundError:
        return None
    except OSError as fault:
        log.warning("evidence: %s cannot be deleted: %s", path, fault.strerror)
        return None
    return size


def _drop_empty(folder: Path) -> None:
    """Date folders with nothing left. A recorder makes its folder anew when it needs it."""
    for day in _days(folder):
        try:
            day.rmdir()
        except OSError:
            continue
