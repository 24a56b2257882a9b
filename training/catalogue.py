"""Lists of videos: id, path, explicit label, scene, split. Labels are a column, never a place in a list."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt


class CatalogueError(ValueError):
    """A list of videos that cannot be used, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """One video of a data set.

    ``id`` is the path without its suffix, relative to the data folder, and the key of everything that is
    known about the video. ``label`` 1 is abnormal, 0 normal, of the whole video (weak). ``scene`` is one
    camera or source: a split never parts it. ``fold`` is the split it is held out in; None: never held out,
    training only.
    """

    id: str
    path: str
    label: int
    scene: str
    fold: int | None = None
    duration_s: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    frames: int | None = None

    @property
    def source(self) -> str:
        """The data set: the first folder of the path."""
        return self.id.split("/", 1)[0]


def read(listing: Path) -> tuple[Video, ...]:
    """Videos of a CSV: columns path, label and, where known, scene, fold, frames, width, height, duration_s.

    A list without scenes counts as one camera: nothing in it is ever held out from the rest of it.

    Raises:
        CatalogueError: a missing file or column, a label that is not 0 or 1, or a path listed twice.
    """
    if not listing.is_file():
        raise CatalogueError(f"{listing}: no such list of videos")
    with listing.open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        missing = {"path", "label"} - set(rows.fieldnames or ())
        if missing:
            raise CatalogueError(f"{listing}: the column {sorted(missing)[0]} is missing")
        videos = tuple(_video(listing, rows.line_num, row) for row in rows)
    seen: set[str] = set()
    for video in videos:
        if video.id in seen:
            raise CatalogueError(f"{listing}: {video.path} is listed twice")
        seen.add(video.id)
    return videos


def local(data: Path, sets: Iterable[str]) -> tuple[Video, ...]:
    """The videos of several sets of one data folder, each with a ``clips.csv``."""
    return tuple(video for name in sets for video in read(data / name / "clips.csv"))


def folder(clips: Path) -> tuple[Video, ...]:
    """A user's own clips: ``normal/`` and ``abnormal/``; every clip is a scene of its own.

    Raises:
        CatalogueError: one of the two folders is missing or empty.
    """
    videos: list[Video] = []
    for name, label in (("normal", 0), ("abnormal", 1)):
        paths = sorted(path for path in (clips / name).glob("**/*") if path.is_file())
        if not paths:
            raise CatalogueError(f"{clips / name}: no clips there; expected normal/ and abnormal/ in {clips}")
        for path in paths:
            relative = path.relative_to(clips)
            key = relative.with_suffix("").as_posix()
            videos.append(Video(id=key, path=relative.as_posix(), label=label, scene=key))
    return tuple(videos)


def folds(videos: Sequence[Video]) -> tuple[int, ...]:
    """The folds of a list, ascending. Raises CatalogueError where one scene lies in two."""
    of_scene: dict[str, int] = {}
    for video in videos:
        if video.fold is not None and of_scene.setdefault(video.scene, video.fold) != video.fold:
            raise CatalogueError(f"scene {video.scene} lies in two folds: its footage would leak")
    return tuple(sorted(set(of_scene.values())))


def labels(videos: Sequence[Video]) -> npt.NDArray[np.int64]:
    """(V,) int64 labels of the videos."""
    return np.array([video.label for video in videos], dtype=np.int64)


def _video(listing: Path, line: int, row: dict[str, str]) -> Video:
    if row["label"] not in ("0", "1"):
        raise CatalogueError(f"{listing}:{line}: label must be 0 or 1 (got {row['label']!r})")

    def number(column: str) -> int | None:
        return int(row[column]) if row.get(column) else None

    return Video(
        id=Path(row["path"]).with_suffix("").as_posix(),
        path=row["path"],
        label=int(row["label"]),
        scene=row.get("scene") or listing.parent.name,
        fold=number("fold"),
        duration_s=float(row["duration_s"]) if row.get("duration_s") else None,
        width_px=number("width"),
        height_px=number("height"),
        frames=number("frames"),
    )
