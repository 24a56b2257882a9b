"""Small copies of UCF-Crime, ShanghaiTech and XD-Violence: their layouts and lists to the letter, features generated.

    made = miniature.make(tmp_path, "ucf_crime", dimensions=16)
    videos = datasets.read("ucf_crime", made.lists, whole=False)    # whole=False: 24 videos are not 1,900
    known = features.load(made.features, videos)                    # {id: (N, 10, 16)}
    judged = truth.run("ucf_crime", made.lists, tmp_path / "frame_truth.npz", whole=False)
    labels_F, scores_F = truth.pool(judged, {id: scores_N of each test video})

XD-Violence with sound: ``features.load(made.features, videos, audio=made.audio)`` gives D + audio_dimensions, and
``truth.pool(..., sound=True)`` pools its scores; without ``audio`` it is RGB alone. Everything of a set lies in
``<folder>/<name>``, so a folder of three sets is what a person has who got them all.

There are 16 train and 8 test videos, half of them abnormal, of 3 to 60 segments; UCF-Crime has the four of the paper's
figure 7 among its test videos (39 segments and more). An abnormal segment is raised along a quarter of the dimensions,
sound too: any detector can learn it, and frame AUC on generated data says nothing of a detector's worth. Files are
float16. Tails are as they are found: some extractors drop the last frames of a video, some pad them; sound is up to one
segment longer or shorter.

``make(..., shared=FOLDER)`` takes names, events and lengths from the real lists and the real frame truth in
``FOLDER/truth`` (ShanghaiTech's masks from ``FOLDER/published_scores``, where the normal videos' lengths are not known:
320 frames). Then the set is whole (``whole=True``), judged by the real truth, and only its features are generated;
training videos have 3 to 60 segments as above. UCF-Crime's 1,900 videos take two seconds with four dimensions.

N segments, C crops, D dimensions, F frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from training import datasets, truth
from training.catalogue import Split, Video

Name = Literal["ucf_crime", "shanghaitech", "xd_violence"]
FRAMES = 16
LENGTHS = (3, 17, 32, 60, 8, 33, 45, 24)
"""Segments of the videos, in turn: shorter than, equal to and longer than a bag of 32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Miniature:
    """Where the parts of a set lie."""

    lists: Path
    """The set's own lists and annotation, and frames.csv."""
    features: Path
    audio: Path | None
    raised: int
    """The first of the D dimensions, as many, are those that an abnormal segment raises."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """One video that is made up."""

    line: str
    """As it stands in the set's list, without crop or suffix."""
    id: str
    label: int
    split: Split
    frames: int
    segments: int
    events: tuple[tuple[int, int], ...]


UCF = {
    "train": (
        "Abuse/Abuse001_x264", "Arrest/Arrest002_x264", "Arson/Arson001_x264", "Explosion/Explosion001_x264",
        "RoadAccidents/RoadAccidents003_x264", "Robbery/Robbery001_x264", "Shooting/Shooting001_x264",
        "Stealing/Stealing002_x264",
        *(f"Training_Normal_Videos_Anomaly/Normal_Videos{k:03}_x264" for k in (1, 2, 4, 5, 7, 8, 9, 11)),
    ),
    "test": (
        "Arson/Arson011_x264", "Explosion/Explosion010_x264", "RoadAccidents/RoadAccidents012_x264",
        "Stealing/Stealing079_x264",
        *(f"Testing_Normal_Videos_Anomaly/Normal_Videos_{k:03}_x264" for k in (34, 3, 6, 10)),
    ),
}  # fmt: skip
SHANGHAI = {
    "train": (
        "01_0014", "01_0016", "03_0035", "04_0001", "05_0018", "06_0145", "08_0044", "12_0143",
        "01_003", "01_005", "02_014", "05_012", "06_005", "07_003", "08_003", "13_004",
    ),
    "test": ("01_0015", "05_0017", "08_0058", "12_0142", "01_004", "03_005", "06_011", "13_005"),
}  # fmt: skip
XD = {
    "train": (
        "Bad.Boys.1995__#00-26-51_00-27-53_label_B2-0-0", "Bad.Boys.1995__#00-38-16_00-38-50_label_B2-G-0",
        "v=-tRain001__#1_label_B1-0-0", "v=-tRain002__#1_label_B4-0-0", "v=tRain_003__#1_label_B6-0-0",
        "v=tRain_004__#00-01-00_00-02-00_label_G-0-0", "v=tRain_005__#1_label_B5-0-0",
        "v=tRain_006__#1_label_B1-B2-B6",
        "A.Beautiful.Mind.2001__#00-01-25_00-05-16_label_A", "Bad.Boys.1995__#00-05-00_00-06-00_label_A",
        "wangted.2008__#0-27-17_0-28-07_label_A", *(f"v=nOrmal_{k}__#1_label_A" for k in range(5)),
    ),
    "test": (
        "Bad.Boys.1995__#01-11-55_01-12-40_label_G-B2-B6", "v=tEst_-001__#1_label_B4-0-0",
        "v=tEst_-002__#00-00-00_00-00-51_label_B6-0-0", "v=tEst_-003__#1_label_B1-0-0",
        "A.Beautiful.Mind.2001__#00-25-20_00-29-20_label_A", "wangted.2008__#01-23-38_01-24-25_label_A",
        "v=tEst_n01__#1_label_A", "v=tEst_n02__#1_label_A",
    ),
}  # fmt: skip
CROPS: dict[Name, int] = {"ucf_crime": 10, "shanghaitech": 10, "xd_violence": 5}


def make(
    folder: Path,
    name: Name,
    *,
    dimensions: int = 16,
    audio_dimensions: int = 8,
    seed: int = 0,
    shared: Path | None = None,
) -> Miniature:
    """Writes a set into ``<folder>/<name>``; the same arguments write the same bytes. See the module."""
    random = np.random.default_rng(seed)
    clips = _generated(name, random) if shared is None else _real(name, shared, random)
    lists = folder / name
    lists.mkdir(parents=True)
    {"ucf_crime": _ucf_lists, "shanghaitech": _shanghai_lists, "xd_violence": _xd_lists}[name](lists, clips)
    counted = "".join(f"{clip.id},{clip.frames}\n" for clip in clips if clip.split == "test")
    (lists / "frames.csv").write_text("id,frames\n" + counted)
    made = Miniature(
        lists=lists,
        features=lists / "features",
        audio=lists / "features" / "vggish-features" if name == "xd_violence" else None,
        raised=max(1, dimensions // 4),
    )
    for number, clip in enumerate(clips):
        look_NCD = _look(random, clip, clip.segments, CROPS[name], dimensions)
        if name == "xd_violence":
            place = made.features / "i3d-features" / ("RGB" if clip.split == "train" else "RGBTest")
            for crop in range(CROPS[name]):
                _save(place / f"{clip.id}__{crop}.npy", look_NCD[:, crop])
            heard = _look(random, clip, max(1, clip.segments + (0, 1, -1)[number % 3]), 1, audio_dimensions)
            _save(made.features / "vggish-features" / clip.split / f"{clip.id}__vggish.npy", heard[:, 0])
        else:
            part = ("UCF" if name == "ucf_crime" else "SH") + ("_Train" if clip.split == "train" else "_Test")
            _save(made.features / f"{part}_ten_crop_i3d" / f"{clip.id}_i3d.npy", look_NCD)
    return made


def _generated(name: Name, random: np.random.Generator) -> list[Clip]:
    lines = {"ucf_crime": UCF, "shanghaitech": SHANGHAI, "xd_violence": XD}[name]
    clips: list[Clip] = []
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        for number, line in enumerate(lines[split]):
            label = int(number < len(lines[split]) // 2)
            segments = LENGTHS[(number * 3 + 3) % len(LENGTHS)]
            if split == "test" and name == "ucf_crime":
                segments = (17, 60, 45, 52, 39, 3, 8, 33)[number]
            # The tail that an extractor dropped, or padded.
            frames = FRAMES * segments + int(random.integers(0, FRAMES)) * (-1 if number % 3 == 2 else 1)
            clips.append(_clip(name, line, label, split, frames, segments, _events(random, frames) if label else ()))
    return clips


def _real(name: Name, shared: Path, random: np.random.Generator) -> list[Clip]:
    lists = shared / "truth" / name
    if name == "shanghaitech":
        with np.load(shared / "published_scores" / "stg_nf_shanghai.npz") as held:
            parts = np.split(held["labels"], np.cumsum(held["video_lengths"])[:-1])
            known = dict(zip(held["videos"].tolist(), parts, strict=True))
    else:
        known = truth.read(lists / "frame_truth.npz").labels
    clips: list[Clip] = []
    for number, video in enumerate(datasets.read(name, lists)):
        line = video.path.rsplit(".", 1)[0]
        labels = known.get(video.id)
        if labels is None:
            segments = int(random.integers(3, 61)) if video.split == "train" else 20
            events = _events(random, FRAMES * segments) if video.label else ()
            clips.append(_clip(name, line, video.label, _split(video), FRAMES * segments, segments, events))
            continue
        change = np.diff(labels.astype(np.int8), prepend=0, append=0)
        runs = zip(np.flatnonzero(change == 1).tolist(), np.flatnonzero(change == -1).tolist(), strict=True)
        segments = len(labels) // FRAMES + int(number % 25 > 0 and name == "ucf_crime")
        clips.append(_clip(name, line, video.label, _split(video), len(labels), segments, tuple(runs)))
    return clips


def _clip(
    name: Name, line: str, label: int, split: Split, frames: int, segments: int, events: tuple[tuple[int, int], ...]
) -> Clip:
    video_id = line.rsplit("/", 1)[-1] if name == "ucf_crime" else line
    return Clip(line=line, id=video_id, label=label, split=split, frames=frames, segments=segments, events=events)


def _split(video: Video) -> Split:
    assert video.split is not None
    return video.split


def _events(random: np.random.Generator, frames: int) -> tuple[tuple[int, int], ...]:
    """One event, or two in a video that has room: each about a quarter of it."""
    starts = (0.15, 0.6) if frames > 20 * FRAMES and random.random() < 0.5 else (0.35,)
    return tuple(
        (int(frames * (start + random.uniform(0, 0.05))), int(frames * (start + random.uniform(0.2, 0.35))))
        for start in starts
    )


def _look(
    random: np.random.Generator, clip: Clip, segments: int, crops: int, dimensions: int
) -> npt.NDArray[np.float16]:
    """(N, C, D) float16, 0 or more as an I3D's: noise a video, a segment and a crop, raised where it is abnormal."""
    labels_F = np.zeros(FRAMES * max(segments, -(-clip.frames // FRAMES)), np.float32)
    for start, end in clip.events:
        labels_F[start:end] = 1
    share_N1 = labels_F[: FRAMES * segments].reshape(segments, FRAMES).mean(axis=1)[:, None]
    raised_D = (np.arange(dimensions) < max(1, dimensions // 4)).astype(np.float32)
    video_D = random.normal(0.5, 0.1, dimensions)
    segments_ND = video_D + random.normal(0, 0.15, (segments, dimensions)) + share_N1 * raised_D
    crops_NCD = segments_ND[:, None] + random.normal(0, 0.05, (segments, crops, dimensions))
    look_NCD: npt.NDArray[np.float16] = np.maximum(crops_NCD, 0).astype(np.float16)
    return look_NCD


def _save(path: Path, array: npt.NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def _of(clips: list[Clip], split: Split) -> list[Clip]:
    return [clip for clip in clips if clip.split == split]


def _ucf_lists(lists: Path, clips: list[Clip]) -> None:
    (lists / "Anomaly_Train.txt").write_text("".join(f"{clip.line}.mp4\n" for clip in _of(clips, "train")))
    (lists / "Anomaly_Test.txt").write_text("".join(f"{clip.line}.mp4\n" for clip in _of(clips, "test")))
    rows: list[str] = []
    for clip in _of(clips, "test"):
        kind = clip.line.split("/")[0] if clip.label else "Normal"
        numbers = [number for event in clip.events for number in event] + [-1] * (4 - 2 * len(clip.events))
        rows.append(f"{clip.id}.mp4  {kind}  {'  '.join(map(str, numbers))}  \n")
    (lists / "Temporal_Anomaly_Annotation.txt").write_text("".join(rows))


def _shanghai_lists(lists: Path, clips: list[Clip]) -> None:
    # The published lists end without a line break.
    (lists / "SH_Train.txt").write_text("\n".join(clip.id for clip in _of(clips, "train")))
    (lists / "SH_Test.txt").write_text("\n".join(clip.id for clip in _of(clips, "test")))
    for clip in clips:
        if clip.label:
            mask_F = np.zeros(clip.frames, np.int64)
            for start, end in clip.events:
                mask_F[start:end] = 1
            _save(lists / "test_frame_mask" / f"{clip.id}.npy", mask_F)


def _xd_lists(lists: Path, clips: list[Clip]) -> None:
    parts: tuple[tuple[Split, str, str], ...] = (("train", "", "RGB"), ("test", "_test", "RGBTest"))
    for split, part, place in parts:
        of_part = _of(clips, split)
        (lists / f"rgb{part}.list").write_text(
            "".join(f"/media/i3d-features/{place}/{clip.id}__{crop}.npy\n" for clip in of_part for crop in range(5))
        )
        (lists / f"audio{part}.list").write_text(
            "".join(f"/media/vggish-features/{split}/{clip.id}__vggish.npy\n" for clip in of_part)
        )
    abnormal = [clip for clip in _of(clips, "test") if clip.label]
    rows = (
        # Some of the published names carry a suffix.
        f"{clip.id}{'.mp4' if number % 3 == 1 else ''} {' '.join(f'{start} {end}' for start, end in clip.events)}"
        for number, clip in enumerate(abnormal)
    )
    (lists / "annotations.txt").write_text("\n".join(rows))
