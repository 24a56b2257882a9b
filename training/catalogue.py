"""Lists of videos: id, path, explicit label, class, scene, split. Labels are a column, never a place in a list."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

Split = Literal["train", "test"]

COLUMNS = (
    "id", "path", "label", "class", "scene", "split", "fold", "frames", "width", "height", "duration_s"
)  # fmt: skip
"""What a list may say of a video, in the order in which it is written; ``path`` and ``label`` are never missing."""


class CatalogueError(ValueError):
    """A list of videos that cannot be used, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """One video of a data set.

    ``id`` is the key of everything that is known about the video: its name in the data set's own files where it
    has one, else the path without its suffix, relative to the data folder. ``label`` 1 is abnormal, 0 normal, of
    the whole video (weak); ``kind`` is the class of its anomaly, None where it has none or nobody says. ``scene``
    is one camera or source: no held-out part of ours ever parts it. ``split`` is the data set's own, published one.
    ``fold`` is the part it is held out in where there is none; None: never held out, training only.
    """

    id: str
    path: str
    label: int
    scene: str
    kind: str | None = None
    split: Split | None = None
    fold: int | None = None
    duration_s: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    frames: int | None = None

    @property
    def source(self) -> str:
        """The first folder of the id: the data set, in a list of several sets."""
        return self.id.split("/", 1)[0]


def read(listing: Path) -> tuple[Video, ...]:
    """Videos of a CSV: columns path, label and, where known, the others of ``COLUMNS``; further ones are left alone.

    A list without ids takes the paths without their suffixes; one without scenes counts as one camera: nothing in
    it is ever held out from the rest of it.

    Raises:
        CatalogueError: a missing file or column, a value that is none, or a video listed twice; with its line.
    """
    if not listing.is_file():
        raise CatalogueError(f"{listing}: no such list of videos")
    seen: dict[str, Video] = {}
    try:
        with listing.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines, strict=True)
            missing = {"path", "label"} - set(rows.fieldnames or ())
            if missing:
                raise CatalogueError(f"{listing}: the column {sorted(missing)[0]} is missing")
            for row in rows:
                video = _video(listing, rows.line_num, row)
                if video.id in seen:
                    raise CatalogueError(f"{listing}:{rows.line_num}: {video.path} is listed twice (id {video.id})")
                seen[video.id] = video
    except (csv.Error, UnicodeDecodeError) as wrong:
        raise CatalogueError(f"{listing}: not a CSV in UTF-8 ({wrong})") from wrong
    return tuple(seen.values())


def write(path: Path, videos: Iterable[Video]) -> None:
    """The videos as a CSV with all ``COLUMNS``; ``read`` gives them back as they were."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as lines:
        rows = csv.writer(lines)
        rows.writerow(COLUMNS)
        for video in videos:
            said = (
                video.id, video.path, video.label, video.kind, video.scene, video.split,
                video.fold, video.frames, video.width_px, video.height_px, video.duration_s,
            )  # fmt: skip
            rows.writerow(["" if value is None else value for value in said])


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


def _video(listing: Path, line: int, row: dict[str, str | None]) -> Video:
    here = f"{listing}:{line}"
    # Under the key None lies what stands beyond the last column; a row that ends early holds None.
    if None in row:
        raise CatalogueError(f"{here}: more values than columns (a comma without quotes?)")

    def text(column: str) -> str | None:
        return row.get(column) or None

    def whole_number(column: str) -> int | None:
        said = text(column)
        if said is not None and not (said.isascii() and said.isdigit()):
            raise CatalogueError(f"{here}: {column} must be a whole number, 0 or more, or empty (got {said!r})")
        return None if said is None else int(said)

    path, label, split = text("path"), text("label"), text("split")
    if path is None:
        raise CatalogueError(f"{here}: path is empty")
    if label not in ("0", "1"):
        raise CatalogueError(f"{here}: label must be 0 or 1 (got {label or ''!r})")
    if split not in ("train", "test", None):
        raise CatalogueError(f"{here}: split must be train, test or empty (got {split!r})")
    return Video(
        id=text("id") or Path(path).with_suffix("").as_posix(),
        path=path,
        label=int(label),
        scene=text("scene") or listing.parent.name,
        kind=text("class"),
        split=cast(Split | None, split),
        fold=whole_number("fold"),
        duration_s=_seconds(here, text("duration_s")),
        width_px=whole_number("width"),
        height_px=whole_number("height"),
        frames=whole_number("frames"),
    )


def _seconds(here: str, said: str | None) -> float | None:
    if said is None:
        return None
    try:
        seconds = float(said)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise CatalogueError(f"{here}: duration_s must be seconds, 0 or more, or empty (got {said!r})")
    return seconds
