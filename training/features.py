"""Features on disk and in memory: one array a video, crops beside each other, and what made them.

The layout is the field's (RTFM's): ``<folder>/<video id>.npy`` with (N, C, D), float16 or float32, memory-mapped.
Ours adds ``<video id>.segments.npz`` (each segment's times and motion) and, once a folder, ``extraction.json``.
``read`` and ``write`` are for ours; ``load`` takes what others publish, as it is:

======  ====================================================================================================
rtfm    one file a video, ``ID.npy`` or ``ID_i3d.npy``: (N, C, D), or (N, D) of a single crop
wu      one file a crop, ``ID__0.npy`` … ``ID__9.npy``: (N, D); 0 is the centre, 1-4 the corners, 5-9 mirrored
audio   ``ID__vggish.npy``: (N', 128), one for all crops, N' and N at most one apart
npz     one file a protocol and view (PETS 2009): features of all videos in a row, and how many each has
======  ====================================================================================================

The file is long for these layouts: they are in one place, so that a mismatch is refused in the same words in each.

N segments, C crops, D dimensions, M numbers of motion energy, F = 16 N frames.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from training.catalogue import Video

Layout = Literal["auto", "rtfm", "wu", "npz"]
Floats = npt.NDArray[np.floating]


class FeatureError(ValueError):
    """Features that are missing or do not fit, in a sentence with the video's id."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Features:
    """What is kept of one video. ``features_NCD`` may be memory-mapped, float16 or float32."""

    features_NCD: Floats
    times_N2: npt.NDArray[np.float32] | None = None
    """Start and end of each segment in seconds; None where the files do not say."""
    motion_NM: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.features_NCD)

    @property
    def crops(self) -> int:
        return int(self.features_NCD.shape[1])

    @property
    def dimensions(self) -> int:
        return int(self.features_NCD.shape[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """What made the features of a folder; two folders with the same one are interchangeable."""

    backbone: str
    fingerprint: str
    """sha256 of the backbone's weights and preprocessing."""
    dimensions: int
    fps: float
    """Analysed frames a second; a segment is 16 of them, the rest at a video's end is no segment."""
    crop_order: tuple[str, ...]
    """Names of the C crops, in order: ``whole``, ``mirrored whole``, ``top left`` …"""

    def check(self, folder: Path) -> None:
        """Writes extraction.json, or refuses a folder that something else has filled. Raises FeatureError."""
        said = folder / "extraction.json"
        if said.is_file():
            held = json.loads(said.read_text(encoding="utf-8"))
            if held != json.loads(json.dumps(asdict(self))):
                raise FeatureError(f"{folder} holds features made otherwise ({said}); choose another folder")
            return
        folder.mkdir(parents=True, exist_ok=True)
        said.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def read(folder: Path, video_id: str) -> Features:
    """One video's features, memory-mapped. Raises FeatureError where there are none or they have another shape."""
    path = folder / f"{video_id}.npy"
    if not path.is_file():
        raise FeatureError(f"{video_id}: no features at {path}")
    features_NCD = np.load(path, mmap_mode="r", allow_pickle=False)
    if features_NCD.ndim != 3:
        raise FeatureError(f"{video_id}: {path} has shape {features_NCD.shape}; expected (segments, crops, dimensions)")
    beside = folder / f"{video_id}.segments.npz"
    if not beside.is_file():
        return Features(features_NCD=features_NCD)
    with np.load(beside, allow_pickle=False) as held:
        found = Features(features_NCD=features_NCD, times_N2=held["times"], motion_NM=held["motion"])
        if len(held["times"]) != len(features_NCD):
            raise FeatureError(
                f"{video_id}: {len(features_NCD)} segments of features, but {len(held['times'])} in {beside}"
            )
    return found


def write(folder: Path, video_id: str, features: Features) -> None:
    """Whole or not at all: an interrupted extraction leaves no half file behind. The ``.npy`` comes last."""
    path = folder / f"{video_id}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    if features.times_N2 is not None and features.motion_NM is not None:
        half = path.with_name(f".{path.stem}.segments.{os.getpid()}.npz")
        np.savez(half, times=features.times_N2, motion=features.motion_NM)
        half.replace(folder / f"{video_id}.segments.npz")
    half = path.with_name(f".{path.stem}.{os.getpid()}.npy")
    np.save(half, features.features_NCD)
    half.replace(path)


def extraction_of(folder: Path) -> Extraction | None:
    """What made the features of a folder, where they are ours."""
    said = folder / "extraction.json"
    if not said.is_file():
        return None
    held = json.loads(said.read_text(encoding="utf-8"))
    return Extraction(**{**held, "crop_order": tuple(held["crop_order"])})


def load(
    folder: Path | Sequence[Path],
    videos: Sequence[Video],
    layout: Layout = "auto",
    *,
    audio: Path | Sequence[Path] | None = None,
    keep: Path | None = None,
) -> dict[str, Features]:
    """Features of the videos by id, out of the files that others publish; also of ours.

    A video's files may lie anywhere below the folders, links followed; where an id has folders in it, the path ends
    with it. One file a video is memory-mapped. Crops in several files, and sound, have to be joined: in memory, or
    once into ``keep``, which then is a folder in our layout and memory-mapped.

    Args:
        layout: ``auto`` takes the first of rtfm, wu and npz that has a file for one of the videos.
        audio: where ``ID__vggish.npy`` lie; joined onto D for every crop, the longer of the two losing its last row.

    Raises:
        FeatureError: with the video's id: no file or two; an array of another kind than float16 or float32, or of
            another shape; crops of different lengths or dimensions, or not 0 … C-1; sound more than one segment
            longer or shorter; videos that differ in crops or dimensions; ``keep`` filled from elsewhere.
    """
    pictures = _Files.below(folder)
    sound = None if audio is None else _Files.below(audio)
    taken = _detected(pictures, videos) if layout == "auto" else layout
    _refuse_missing(pictures, videos, taken)
    if sound is not None:
        _refuse_missing(sound, videos, "audio")
    if keep is not None:
        _claim(keep, {"from": pictures.roots, "layout": taken, "audio": None if sound is None else sound.roots})
    packed = _packed(pictures, videos) if taken == "npz" else {}
    found: dict[str, Features] = {}
    for video in videos:
        if keep is not None and (keep / f"{video.id}.npy").is_file():
            found[video.id] = read(keep, video.id)
            continue
        if taken == "npz":
            features = packed[video.id]
        elif taken == "wu":
            features = Features(features_NCD=_crops(video.id, pictures))
        else:
            features = _one_file(video.id, pictures)
        if sound is not None:
            features = _with_sound(video.id, features, _array(video.id, sound.one(video.id, ("__vggish.npy",)), (2,)))
        if keep is not None and (taken != "rtfm" or sound is not None):
            write(keep, video.id, features)
            features = read(keep, video.id)
        found[video.id] = features
    _refuse_mixed(found)
    return found


def lengths(folder: Path | Sequence[Path], videos: Sequence[Video], layout: Layout = "auto") -> dict[str, int]:
    """How many segments each video has, by id, from its first file alone. Raises FeatureError as ``load`` does."""
    files = _Files.below(folder)
    taken = _detected(files, videos) if layout == "auto" else layout
    _refuse_missing(files, videos, taken)
    if taken == "npz":
        packed = _packed(files, videos)
        return {video.id: len(packed[video.id]) for video in videos}
    return {video.id: len(_array(video.id, files.one(video.id, _NAMES[taken]), (2, 3))) for video in videos}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pets:
    """One file of PETS 2009: what its videos look like, and which of their frames are abnormal."""

    features: dict[str, Features]
    """By id, ``events_view1/NAME``; one crop."""
    frame_labels: dict[str, npt.NDArray[np.uint8]]
    """By id: (F,) uint8, 1 is abnormal."""
    test: tuple[str, ...]
    """Ids of the test videos."""


def read_pets(path: Path) -> Pets:
    """Both parts of ``events_view1.npz`` …: arrays ``{train,test}_{videos,labels,segments,features,frame_labels}``.

    Raises:
        FeatureError: an array is missing, or the videos' segments do not add up to the rows.
    """
    features: dict[str, Features] = {}
    frame_labels: dict[str, npt.NDArray[np.uint8]] = {}
    test: tuple[str, ...] = ()
    try:
        with np.load(path, allow_pickle=False) as held:
            for split in ("train", "test"):
                ids = [f"{path.stem}/{name}" for name in held[f"{split}_videos"].tolist()]
                ends = np.cumsum(held[f"{split}_segments"])
                rows_ND, labels_N16 = held[f"{split}_features"], held[f"{split}_frame_labels"]
                if len(ends) != len(ids) or not ends[-1] == len(rows_ND) == len(labels_N16):
                    raise FeatureError(
                        f"{path}: the {split} videos have {ends[-1]} segments, but there are {len(rows_ND)} rows of "
                        f"features and {len(labels_N16)} of frame labels"
                    )
                for video_id, rows, labels in zip(
                    ids, np.split(rows_ND, ends[:-1]), np.split(labels_N16, ends[:-1]), strict=True
                ):
                    features[video_id] = Features(features_NCD=rows[:, None])
                    frame_labels[video_id] = labels.reshape(-1).astype(np.uint8)
                test = tuple(ids)
    except KeyError as missing:
        raise FeatureError(f"{path} holds no {missing.args[0]}") from missing
    return Pets(features=features, frame_labels=frame_labels, test=test)


MOST_CROPS = 32
"""Crops of one video in files of their own that are looked for; ten are the most that anyone publishes."""

_NAMES: dict[str, tuple[str, ...]] = {
    "rtfm": (".npy", "_i3d.npy"),
    "wu": ("__0.npy",),
    "audio": ("__vggish.npy",),
}
"""What a video's file is called after its id, the first crop's for several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """All files of features below some folders, by their last name."""

    roots: tuple[str, ...]
    by_name: Mapping[str, Sequence[Path]]

    @classmethod
    def below(cls, folders: Path | Sequence[Path]) -> _Files:
        roots = [folders] if isinstance(folders, Path) else list(folders)
        by_name: dict[str, list[Path]] = {}
        for root in roots:
            if not root.is_dir():
                raise FeatureError(f"{root}: no such folder of features")
            for place, _, names in os.walk(root, followlinks=True):
                for name in names:
                    if name.endswith((".npy", ".npz")) and not name.startswith("."):
                        by_name.setdefault(name, []).append(Path(place) / name)
        return cls(roots=tuple(str(root.resolve()) for root in roots), by_name=by_name)

    def all(self, video_id: str, endings: Iterable[str]) -> list[Path]:
        """Files whose path ends with the id and one of the endings."""
        last = video_id.rsplit("/", 1)[-1]
        return [
            path
            for ending in endings
            for path in self.by_name.get(last + ending, ())
            if f"/{path.as_posix()}".endswith(f"/{video_id}{ending}")
        ]

    def one(self, video_id: str, endings: tuple[str, ...]) -> Path:
        found = self.all(video_id, endings)
        if len(found) > 1:
            raise FeatureError(f"{video_id}: two files, {found[0]} and {found[1]}; name the folder that holds one")
        return found[0]


def _detected(files: _Files, videos: Sequence[Video]) -> Layout:
    for layout in ("rtfm", "wu"):
        if any(files.all(video.id, _NAMES[layout]) for video in videos):
            return "rtfm" if layout == "rtfm" else "wu"
    return "npz" if any(f"{video.source}.npz" in files.by_name for video in videos) else "rtfm"


def _refuse_missing(files: _Files, videos: Sequence[Video], layout: str) -> None:
    if layout == "npz":
        missing = [video.id for video in videos if f"{video.source}.npz" not in files.by_name]
        names = f"{missing[0].split('/')[0]}.npz" if missing else ""
    else:
        missing = [video.id for video in videos if not files.all(video.id, _NAMES[layout])]
        names = " or ".join(missing[0].rsplit("/", 1)[-1] + ending for ending in _NAMES[layout]) if missing else ""
    if missing:
        raise FeatureError(
            f"{missing[0]}: no features; looked for {names} below {', '.join(files.roots)} "
            f"({len(missing)} of {len(videos)} videos have none)"
        )


def _claim(keep: Path, source: Mapping[str, object]) -> None:
    """Writes joined.json, or refuses a folder that was joined from elsewhere."""
    said, now = keep / "joined.json", json.loads(json.dumps(source))
    if said.is_file() and json.loads(said.read_text(encoding="utf-8")) != now:
        raise FeatureError(f"{keep} was joined from other files ({said}); choose another folder")
    keep.mkdir(parents=True, exist_ok=True)
    said.write_text(json.dumps(now, indent=2) + "\n", encoding="utf-8")


def _array(video_id: str, path: Path, axes: tuple[int, ...]) -> Floats:
    """One file, memory-mapped and looked at."""
    try:
        array: Floats = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as wrong:
        raise FeatureError(f"{video_id}: {path} is no array that can be read ({wrong})") from wrong
    if array.dtype not in (np.float16, np.float32):
        raise FeatureError(f"{video_id}: {path} holds {array.dtype}; expected float16 or float32")
    if array.ndim not in axes:
        expected = " or ".join("(segments, dimensions)" if n == 2 else "(segments, crops, dimensions)" for n in axes)
        raise FeatureError(f"{video_id}: {path} has shape {array.shape}; expected {expected}")
    if array.size == 0:
        raise FeatureError(f"{video_id}: {path} is empty (shape {array.shape}); take the video off the list")
    return array


def _one_file(video_id: str, files: _Files) -> Features:
    path = files.one(video_id, _NAMES["rtfm"])
    if path.with_name(f"{path.stem}.segments.npz").is_file():  # ours
        return read(Path(path.as_posix().removesuffix(f"/{video_id}.npy")), video_id)
    array = _array(video_id, path, (2, 3))
    return Features(features_NCD=array if array.ndim == 3 else array[:, None])


def _crops(video_id: str, files: _Files) -> Floats:
    """(N, C, D) of a video's files, one a crop."""
    numbered = [crop for crop in range(MOST_CROPS) if files.all(video_id, (f"__{crop}.npy",))]
    if numbered != list(range(len(numbered))):
        raise FeatureError(f"{video_id}: has crops {', '.join(map(str, numbered))}; one before the last is missing")
    arrays = [_array(video_id, files.one(video_id, (f"__{crop}.npy",)), (2,)) for crop in numbered]
    for crop, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise FeatureError(
                f"{video_id}: its crops differ: crop 0 has {arrays[0].shape[0]} segments of {arrays[0].shape[1]} "
                f"dimensions, crop {crop} has {array.shape[0]} of {array.shape[1]}"
            )
    return np.stack(arrays, axis=1)


def _with_sound(video_id: str, features: Features, sound_ND: Floats) -> Features:
    length = min(len(features), len(sound_ND))
    if max(len(features), len(sound_ND)) - length > 1:
        raise FeatureError(
            f"{video_id}: {len(features)} segments of pictures, but {len(sound_ND)} of sound; they may differ by one"
        )
    sound_NCD = np.repeat(sound_ND[:length, None], features.crops, axis=1)
    return Features(
        features_NCD=np.concatenate([features.features_NCD[:length], sound_NCD], axis=2),
        times_N2=None if features.times_N2 is None else features.times_N2[:length],
        motion_NM=None if features.motion_NM is None else features.motion_NM[:length],
    )


def _packed(files: _Files, videos: Sequence[Video]) -> dict[str, Features]:
    held: dict[str, Features] = {}
    for name in sorted({f"{video.source}.npz" for video in videos}):
        held |= read_pets(files.by_name[name][0]).features
    absent = [video.id for video in videos if video.id not in held]
    if absent:
        raise FeatureError(f"{absent[0]}: its file holds other videos, not this one")
    return held


def _refuse_mixed(found: Mapping[str, Features]) -> None:
    first = next(iter(found.items()), None)
    for video_id, features in found.items():
        if first is not None and (features.crops, features.dimensions) != (first[1].crops, first[1].dimensions):
            raise FeatureError(
                f"{video_id}: {features.crops} crops of {features.dimensions} dimensions, but {first[0]} has "
                f"{first[1].crops} of {first[1].dimensions} (expected axes: segments, crops, dimensions)"
            )
