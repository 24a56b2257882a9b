"""Files of the evidence folder, found by an alert's own link and never by anything that a request says."""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath

TYPES = {".mp4": "video/mp4", ".mkv": "video/x-matroska", ".jpg": "image/jpeg"}


def find(folder: Path, link: str) -> Path | None:
    """The plain file that ``link`` leads to inside ``folder``; None for all else: gone, a link, outside, not ours."""
    parts = PurePosixPath(link).parts
    if not parts or "\0" in link or any(part in ("..", "/") for part in parts) or PurePosixPath(link).is_absolute():
        return None
    if PurePosixPath(link).suffix not in TYPES:
        return None
    path = folder.joinpath(*parts)
    try:
        plain = stat.S_ISREG(path.lstat().st_mode)
        inside = path.resolve(strict=True).is_relative_to(folder.resolve(strict=True))
    except OSError:
        return None
    return path if plain and inside else None
