"""Truth by video id: which frames of a test video are abnormal, out of the data sets' own annotation.

F frames of a video, N its segments of r = 16 frames.

**Ends.** UCF-Crime and XD-Violence write events as two frame numbers. Read as 0-based, the start counted and the end
not (``labels[start:end]``), and cut at the video's last frame, they reproduce the frame truth that is in use to the
frame: 1,109,680 frames, 7.58 % abnormal, and 2,330,384 frames, 23.08 %. Counting the end as well, or counting from 1,
does not.

**Lengths.** Published codes differ in how long a video is, because they take 16 frames for each segment that their
extractor made: UCF-Crime has 1,109,680 or 1,114,144 frames; ShanghaiTech 142,912, 143,888, 140,704 or 140,112;
XD-Violence 2,330,384 or 2,331,296. Events may therefore end up to 16 frames behind the last one: those are cut. One
that ends further behind is a mistake. ``Truth.version`` says which truth a result was judged by.

The file is long because six data sets write their annotation in six ways; each way is one function.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training import datasets, features
from training.catalogue import Video
from training.features import FeatureError

FRAMES_PER_SEGMENT = 16

Labels = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.floating]


class TruthError(ValueError):
    """Annotation that is missing or cannot be meant, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Truth:
    """Which frames are abnormal."""

    labels: dict[str, Labels]
    """By video id: (F,) uint8, 1 is abnormal."""

    @property
    def frames(self) -> int:
        return sum(map(len, self.labels.values()))

    @property
    def abnormal(self) -> tuple[str, ...]:
        """Ids of the videos with at least one abnormal frame."""
        return tuple(video_id for video_id, labels in self.labels.items() if labels.any())

    @property
    def version(self) -> str:
        """``290 videos, 1109680 frames, 7.58 % abnormal, 3f1c0a2b``: the last is of ids and labels, in any order."""
        digest = hashlib.sha256()
        for video_id, labels in sorted(self.labels.items()):
            digest.update(f"{video_id}\n{len(labels)}\n".encode())
            digest.update(np.packbits(labels).tobytes())
        share = sum(int(labels.sum()) for labels in self.labels.values()) / max(1, self.frames)
        return (
            f"{len(self.labels)} videos, {self.frames} frames, {100 * share:.2f} % abnormal, {digest.hexdigest()[:8]}"
        )

    def of(self, ids: Iterable[str]) -> Truth:
        """The truth of some of the videos, in the order asked for. Raises TruthError for one without truth."""
        asked = tuple(ids)
        for video_id in asked:
            if video_id not in self.labels:
                raise TruthError(f"{video_id}: no frame truth; build it with vad-train truth")
        return Truth(labels={video_id: self.labels[video_id] for video_id in asked})


def read(path: Path) -> Truth:
    """Truth of an npz: ``videos``, ``lengths``, ``labels`` (np.packbits of all frames in that order), ``frames``.

    Ids of feature files, as some truths carry them, lose their crop: ``Abuse028_x264__9_gt`` is ``Abuse028_x264``.

    Raises:
        TruthError: no such file, an array that is missing, or lengths that do not add up.
    """
    if not path.is_file():
        raise TruthError(f"{path}: no such frame truth; build it with vad-train truth")
    try:
        with np.load(path, allow_pickle=False) as held:
            names, lengths = held["videos"].tolist(), held["lengths"]
            packed, frames = held["labels"], int(held["frames"])
    except KeyError as missing:
        raise TruthError(f"{path} holds no {missing.args[0]}") from missing
    if len(names) != len(lengths) or int(lengths.sum()) != frames or len(packed) != -(-frames // 8):
        raise TruthError(
            f"{path}: {len(names)} videos of {int(lengths.sum())} frames in sum, {frames} frames, {len(packed)} bytes "
            f"of labels do not belong together"
        )
    ids = [re.sub(r"__\d+(_gt)?$", "", name) for name in names]
    if len(set(ids)) != len(ids):
        raise TruthError(f"{path}: a video is in it twice")
    parts = np.split(np.unpackbits(packed, count=frames), np.cumsum(lengths)[:-1]) if ids else []
    return Truth(labels=dict(zip(ids, parts, strict=True)))


def write(path: Path, truth: Truth) -> None:
    """The truth as the npz that ``read`` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [np.zeros(0, np.uint8), *truth.labels.values()]
    np.savez_compressed(
        path,
        videos=np.array(list(truth.labels), dtype=np.str_),
        lengths=np.array([len(labels) for labels in truth.labels.values()], dtype=np.int64),
        labels=np.packbits(np.concatenate(parts)),
        frames=np.int64(truth.frames),
    )


def run(name: str, source: Path, out: Path, frames: Path | None = None, *, whole: bool = True) -> Truth:
    """``vad-train truth``: builds the frame truth of a data set's test videos and writes it.

    Args:
        name: of ``training.datasets``.
        source: folder with the data set's own lists and annotation.
        out: the npz to write.
        frames: how long the videos are, see ``frame_counts``; by default ``frames.csv`` or ``frame_truth.npz`` in
            ``source``. Only the three big sets need it: the others say it themselves.
        whole: see ``datasets.read``.

    Raises:
        TruthError, CatalogueError: what is missing or cannot be meant, in a sentence.
    """
    datasets.of(name)
    if name not in _BUILDERS:
        raise TruthError(f"{name}: only whole clips are labelled there; frames have no truth")
    videos = tuple(video for video in datasets.read(name, source, whole=whole) if video.split in (None, "test"))
    built = _BUILDERS[name](source, videos, frames)
    for video in videos:
        if built.labels[video.id].any() != bool(video.label):
            said = "abnormal" if video.label else "normal"
            raise TruthError(f"{video.id}: {said} by the list, but not by its frames; list and annotation disagree")
    write(out, built)
    return built


def frame_counts(path: Path, videos: Sequence[Video]) -> dict[str, int]:
    """How many frames each of the videos has, by id.

    ``path`` is a CSV (``id,frames``); an npz of truth, whose lengths are taken; a folder of the videos, whose frames
    are decoded and counted; or a folder of features, each segment counting 16 (then the truth is as long as the
    scores by construction, and that they cover it is no longer checked by anything).

    Raises:
        TruthError: a video without a count, or one that is no whole number.
    """
    if path.suffix == ".npz":
        found = {video_id: len(labels) for video_id, labels in read(path).labels.items()}
    elif path.is_file():
        found = _listed(path)
    elif path.is_dir():
        found = _counted(path, videos)
    else:
        raise TruthError(f"{path}: no such file or folder to take frame counts from")
    for video in videos:
        if video.id not in found:
            raise TruthError(f"{video.id}: {path} does not say how many frames it has")
    return {video.id: found[video.id] for video in videos}


def frame_scores(
    scores_N: Scores,
    frames: int,
    *,
    video_id: str,
    sound: bool = False,
    frames_per_segment: int = FRAMES_PER_SEGMENT,
) -> Scores:
    """(F,) scores of a video's frames: each segment's, repeated r times (the paper, section 4).

    N r frames of scores and F of truth are of one length only where extractor and truth treat a video's tail alike.
    What may differ, and nothing else:

    - the extractor dropped the tail (N r < F): fewer than r frames have no score; they take the last one's;
    - it padded or looped the tail (N r > F): fewer than r scores have no frame; they are dropped;
    - where F itself is whole segments, the truth's tail was dropped or padded too: there a difference of r is one
      segment more or less at the tail, and is treated alike;
    - ``sound``: joining it may have cost the last segment (see ``features.load``): r further frames may have no score.

    Raises:
        FeatureError: the lengths differ by more, with the video's id and both.
    """
    repeated = np.repeat(scores_N, frames_per_segment)
    difference = len(repeated) - frames
    missing = frames_per_segment * (2 if sound else 1)
    # A difference of exactly r is there only where F is whole segments.
    if len(scores_N) == 0 or not -missing <= difference <= frames_per_segment:
        raise FeatureError(
            f"{video_id}: {len(scores_N)} segments are {len(repeated)} frames of scores, but its truth has {frames}; "
            f"features and truth are not of the same video, or of another frame rate"
        )
    if difference >= 0:
        return repeated[:frames]
    return np.concatenate([repeated, np.full(-difference, scores_N[-1], dtype=repeated.dtype)])


def pool(
    truth: Truth,
    scores: Mapping[str, Scores],
    *,
    sound: bool = False,
    frames_per_segment: int = FRAMES_PER_SEGMENT,
) -> tuple[Labels, Scores]:
    """(sum of F,) labels and scores of all frames, in the truth's order, from the segments' scores by video id.

    Raises:
        TruthError: a video of the truth has no scores, or the other way round: a measure over fewer videos is another.
        FeatureError: see ``frame_scores``.
    """
    for missing in truth.labels.keys() - scores.keys():
        raise TruthError(f"{missing}: in the truth, but without scores; take Truth.of to judge fewer videos")
    for extra in scores.keys() - truth.labels.keys():
        raise TruthError(f"{extra}: has scores, but no frame truth")
    return np.concatenate(list(truth.labels.values())), np.concatenate(
        [
            frame_scores(scores[key], len(labels), video_id=key, sound=sound, frames_per_segment=frames_per_segment)
            for key, labels in truth.labels.items()
        ]
    )


def of_events(video_id: str, frames: int, events: Sequence[tuple[int, int]]) -> Labels:
    """(F,) labels of a video with events ``start:end``, 0-based, the end not counted, cut at the last frame.

    Raises TruthError where an event is empty, or starts behind the last frame or ends more than 16 behind it.
    """
    labels = np.zeros(frames, dtype=np.uint8)
    for start, end in events:
        if not 0 <= start < end:
            raise TruthError(f"{video_id}: an event from frame {start} to {end} is none")
        if start >= frames or end > frames + FRAMES_PER_SEGMENT:
            raise TruthError(f"{video_id}: an event from frame {start} to {end}, but it has {frames} frames")
        labels[start:end] = 1
    return labels


def _ucf_crime(source: Path, videos: Sequence[Video], frames: Path | None) -> Truth:
    """``Arson011_x264.mp4  Arson  150  420  680  1267``: up to two events, -1 for none."""
    path = datasets.find("ucf_crime", source, datasets.of("ucf_crime").truth_files[0])
    events: dict[str, list[tuple[int, int]]] = {}
    for here, words in _rows(path):
        numbers = _numbers(here, words[2:])
        if len(words) != 6:
            raise TruthError(f"{here}: expected NAME CLASS START END START END, with -1 for none")
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        events[words[0].removesuffix(".mp4")] = [pair for pair in pairs if pair != (-1, -1)]
    return _of_all(path, videos, events, frame_counts(_lengths("ucf_crime", source, frames), videos), "every video")


def _xd_violence(source: Path, videos: Sequence[Video], frames: Path | None) -> Truth:
    """``NAME START END START END …``, a row an abnormal video; some names carry a stray ``.mp4``."""
    path = datasets.find("xd_violence", source, datasets.of("xd_violence").truth_files[0])
    events: dict[str, list[tuple[int, int]]] = {}
    for here, words in _rows(path):
        numbers = _numbers(here, words[1:])
        if not numbers or len(numbers) % 2:
            raise TruthError(f"{here}: expected NAME START END, and further pairs")
        events[words[0].removesuffix(".mp4")] = list(zip(numbers[::2], numbers[1::2], strict=True))
    return _of_all(path, videos, events, frame_counts(_lengths("xd_violence", source, frames), videos), "abnormal")


def _shanghaitech(source: Path, videos: Sequence[Video], frames: Path | None) -> Truth:
    """Abnormal videos have a mask of frames, ``NN_NNNN.npy``, which also says their length; normal ones a length."""
    normal = [video for video in videos if not video.label]
    counts = frame_counts(_lengths("shanghaitech", source, frames), normal) if normal else {}
    labels: dict[str, Labels] = {}
    for video in videos:
        if not video.label:
            labels[video.id] = np.zeros(counts[video.id], dtype=np.uint8)
            continue
        places = [source / "test_frame_mask", source, *sorted(source.glob("**/test_frame_mask"))]
        mask = next((place / f"{video.id}.npy" for place in places if (place / f"{video.id}.npy").is_file()), None)
        if mask is None:
            raise TruthError(
                f"{video.id}: its frame mask test_frame_mask/{video.id}.npy is missing in {source}. "
                f"{datasets.of('shanghaitech').videos_from}"
            )
        held = np.load(mask, allow_pickle=False)
        if held.ndim != 1 or len(held) == 0 or not np.isin(held, (0, 1)).all():
            raise TruthError(f"{video.id}: {mask} is no mask; expected one 0 or 1 a frame, got shape {held.shape}")
        labels[video.id] = held.astype(np.uint8)
    return Truth(labels=labels)


def _ped2(source: Path, videos: Sequence[Video], frames: Path | None) -> Truth:
    """Column ``abnormal_frames``: ``60:180``, several by a blank or semicolon; column ``frames`` is the length."""
    said = _column("ped2", source, "abnormal_frames")
    labels: dict[str, Labels] = {}
    for video in videos:
        here, text = said[video.id]
        if video.frames is None:
            raise TruthError(f"{here}: frames is empty; it says how long the video is")
        runs = [run.split(":") for run in re.split(r"[;\s]+", text) if run]
        if any(len(run) != 2 for run in runs):
            raise TruthError(f"{here}: abnormal_frames must be start:end, by blanks or semicolons (got {text!r})")
        events = [(start, end) for start, end in (_numbers(here, run) for run in runs)]
        labels[video.id] = of_events(video.id, video.frames, events)
    return Truth(labels=labels)


def _accidents(source: Path, videos: Sequence[Video], frames: Path | None) -> Truth:
    """Column ``frame_labels``: one digit a frame."""
    said = _column("accidents", source, "frame_labels")
    labels: dict[str, Labels] = {}
    for video in videos:
        here, text = said[video.id]
        if not re.fullmatch("[01]+", text) or len(text) != (video.frames or len(text)):
            raise TruthError(
                f"{here}: frame_labels must be a 0 or 1 for each of {video.frames} frames (got {len(text)} characters)"
            )
        labels[video.id] = np.array([int(digit) for digit in text], dtype=np.uint8)
    return Truth(labels=labels)


def _pets2009_i3d(source: Path, videos: Sequence[Video], frames: Path | None) -> Truth:
    """Frame labels lie beside the features, 16 a segment."""
    held: dict[str, Labels] = {}
    for name in sorted({video.path for video in videos}):
        held |= features.read_pets(source / name).frame_labels
    return Truth(labels={video.id: held[video.id] for video in videos})


_BUILDERS: dict[str, Callable[[Path, Sequence[Video], Path | None], Truth]] = {
    "ucf_crime": _ucf_crime,
    "shanghaitech": _shanghaitech,
    "xd_violence": _xd_violence,
    "ped2": _ped2,
    "pets2009_i3d": _pets2009_i3d,
    "accidents": _accidents,
}
"""By data set: source folder, test videos, frame counts → truth."""


def _of_all(
    path: Path, videos: Sequence[Video], events: Mapping[str, Sequence[tuple[int, int]]], frames: Mapping[str, int],
    annotated: str,
) -> Truth:  # fmt: skip
    """Truth of all videos. ``annotated``: who must have a row, "every video" or those that are "abnormal"."""
    known = {video.id for video in videos}
    for stray in events.keys() - known:
        raise TruthError(f"{stray}: annotated in {path}, but not on the list of test videos")
    for video in videos:
        if video.id not in events and (annotated == "every video" or video.label):
            raise TruthError(f"{video.id}: no annotation in {path}")
    return Truth(labels={video.id: of_events(video.id, frames[video.id], events.get(video.id, ())) for video in videos})


def _rows(path: Path) -> Iterable[tuple[str, list[str]]]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if line.strip():
            yield f"{path}:{number}", line.split()


def _numbers(here: str, words: Sequence[str]) -> list[int]:
    try:
        return [int(word) for word in words]
    except ValueError:
        raise TruthError(f"{here}: expected frame numbers (got {' '.join(words)!r})") from None


def _column(name: str, source: Path, column: str) -> dict[str, tuple[str, str]]:
    """By video id: where its row is, and what the column of its clips.csv says."""
    listing = datasets.find(name, source, "clips.csv")
    with listing.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        if column not in (rows.fieldnames or ()):
            raise TruthError(f"{listing}: the column {column} is missing")
        return {
            row.get("id") or Path(row["path"]).with_suffix("").as_posix(): (
                f"{listing}:{rows.line_num}",
                row[column] or "",
            )
            for row in rows
        }


def _lengths(name: str, source: Path, frames: Path | None) -> Path:
    """Where frame counts come from."""
    if frames is not None:
        return frames
    for known in ("frames.csv", "frame_truth.npz"):
        if (source / known).is_file():
            return source / known
    raise TruthError(
        f"{name}: how long are the videos? Give a CSV (id,frames), the folder of the videos or that of their features, "
        f"or put frames.csv into {source}"
    )


def _listed(path: Path) -> dict[str, int]:
    with path.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        if not {"id", "frames"} <= set(rows.fieldnames or ()):
            raise TruthError(f"{path}: expected the columns id and frames")
        found: dict[str, int] = {}
        for row in rows:
            if not (row["frames"] or "").isdecimal():
                raise TruthError(f"{path}:{rows.line_num}: frames must be a whole number (got {row['frames']!r})")
            found[row["id"]] = int(row["frames"])
    return found


def _counted(folder: Path, videos: Sequence[Video]) -> dict[str, int]:
    """Of a folder of videos, or else of features."""
    import av
    from tqdm import tqdm

    wanted = {video.id: Path(video.path).name for video in videos}
    places: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        places.setdefault(path.name, path)
    if not any(name in places for name in wanted.values()):
        try:
            made = features.lengths(folder, videos)
        except FeatureError as none:
            raise TruthError(f"{folder} has none of the videos, and no features either: {none}") from none
        return {video_id: FRAMES_PER_SEGMENT * segments for video_id, segments in made.items()}
    found: dict[str, int] = {}
    for video_id, name in tqdm(wanted.items(), desc="frames", unit="video", disable=None):
        if name not in places:
            continue
        with av.open(str(places[name])) as container:
            container.streams.video[0].thread_type = "AUTO"
            found[video_id] = sum(1 for _ in container.decode(video=0))
    return found
