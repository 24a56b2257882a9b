"""How much room a folder's disk has."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpace:
    """Bytes that this user may still write, and that the disk has in all."""

    free_bytes: int
    size_bytes: int


def disk_space(folder: Path) -> DiskSpace | None:
    """Of the disk on which ``folder`` is, or will be once it is made; None where that cannot be known."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        usage = shutil.disk_usage(there)
    except OSError:
        return None
    return DiskSpace(free_bytes=usage.free, size_bytes=usage.total)
