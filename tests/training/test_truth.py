"""Frame truth: out of the data sets' own annotation, equal to what is in use; scores that miss it are refused."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import datasets, evaluate, truth
from training.catalogue import Video
from training.features import FeatureError
from training.truth import Truth, TruthError


def of(**videos: str) -> Truth:
    return Truth(labels={key: np.array([int(digit) for digit in said], np.uint8) for key, said in videos.items()})


def digits(labels: npt.NDArray[np.uint8]) -> str:
    return "".join(map(str, labels.tolist()))


@pytest.mark.parametrize(
    ("frames", "events", "labels"),
    [
        (6, [], "000000"),
        (6, [(1, 3)], "011000"),  # 0-based, the end not counted
        (6, [(0, 2), (4, 6)], "110011"),
        (6, [(0, 4), (2, 5)], "111110"),
        (6, [(4, 22)], "000011"),  # up to 16 frames behind the last one: the extractor dropped the tail
    ],
)
def test_an_event_is_its_frames_from_start_to_before_its_end(
    frames: int, events: list[tuple[int, int]], labels: str
) -> None:
    assert digits(truth.of_events("a", frames, events)) == labels


@pytest.mark.parametrize("event", [(3, 3), (4, 2), (-2, 2), (6, 8), (4, 23)])
def test_an_event_that_cannot_be_meant_is_refused(event: tuple[int, int]) -> None:
    with pytest.raises(TruthError, match=r"^a: an event from frame"):
        truth.of_events("a", 6, [event])


@pytest.mark.parametrize(("name", "frames", "share", "videos"), [
    ("ucf_crime", 1_109_680, 7.58, 290),
    ("xd_violence", 2_330_384, 23.08, 800),
])  # fmt: skip
def test_truth_built_from_the_annotation_is_the_truth_in_use(
    shared_data: Path, tmp_path: Path, name: str, frames: int, share: float, videos: int
) -> None:
    source = shared_data / "truth" / name
    built = truth.run(name, source, tmp_path / "truth.npz")
    used = truth.read(source / "frame_truth.npz")
    assert (len(built.labels), built.frames) == (videos, frames)
    assert round(100 * float(np.concatenate(list(built.labels.values())).mean()), 2) == share
    assert built.labels.keys() == used.labels.keys()
    assert all(np.array_equal(built.labels[key], used.labels[key]) for key in used.labels)
    assert truth.read(tmp_path / "truth.npz").version == used.version


def test_shanghaitech_truth_is_its_masks_and_zeros(shared_data: Path, tmp_path: Path) -> None:
    lists = shared_data / "truth" / "shanghaitech"
    for name in ("SH_Train.txt", "SH_Test.txt"):
        (tmp_path / name).write_bytes((lists / name).read_bytes())
    with np.load(shared_data / "published_scores" / "stg_nf_shanghai.npz") as held:
        videos, ends = held["videos"].tolist(), np.cumsum(held["video_lengths"])
        masks = dict(zip(videos, np.split(held["labels"], ends[:-1]), strict=True))
    (tmp_path / "test_frame_mask").mkdir()
    for key, mask in masks.items():
        np.save(tmp_path / "test_frame_mask" / f"{key}.npy", mask)
    test = [video for video in datasets.read("shanghaitech", tmp_path) if video.split == "test"]
    (tmp_path / "frames.csv").write_text("id,frames\n" + "".join(f"{video.id},320\n" for video in test))
    built = truth.run("shanghaitech", tmp_path, tmp_path / "truth.npz")
    assert (len(built.labels), len(built.abnormal)) == (199, 44)
    assert built.frames == 17_472 + 155 * 320
    assert all(np.array_equal(built.labels[key], masks[key]) for key in built.abnormal)
    (tmp_path / "test_frame_mask" / "01_0015.npy").unlink()
    with pytest.raises(TruthError, match=r"^01_0015: its frame mask .* is missing .*svip-lab"):
        truth.run("shanghaitech", tmp_path, tmp_path / "truth.npz")


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("ped2", "18 videos, 3000 frames, 28.67 % abnormal, aeb0f56d"),
        ("accidents", "32 videos, 965 frames, 47.88 % abnormal, ddad3b81"),
        ("pets2009_i3d", "104 videos, 34816 frames, 10.39 % abnormal, e7882bfb"),
    ],
)
def test_sets_that_carry_their_own_frames_need_no_lengths(
    shared_data: Path, tmp_path: Path, name: str, version: str
) -> None:
    assert truth.run(name, shared_data / name, tmp_path / "truth.npz").version == version


def test_ped2_and_accidents_say_it_in_columns(tmp_path: Path) -> None:
    listing = tmp_path / "clips.csv"
    listing.write_text("path,label,weak_split,frames,abnormal_frames\na.mp4,1,test,6,1:3;5:6\nb.mp4,0,train,4,\n")
    built = truth.run("ped2", tmp_path, tmp_path / "truth.npz", whole=False)
    assert {key: digits(labels) for key, labels in built.labels.items()} == {"a": "011001"}
    listing.write_text("path,label,frames,frame_labels\na.mp4,1,6,011001\nb.mp4,0,2,00\n")
    built = truth.run("accidents", tmp_path, tmp_path / "truth.npz")
    assert {key: digits(labels) for key, labels in built.labels.items()} == {"a": "011001", "b": "00"}


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        (
            "accidents",
            "path,label,frames,frame_labels\na.mp4,1,6,0110\n",
            r"clips.csv:2: frame_labels must be a 0 or 1 f",
        ),
        ("accidents", "path,label,frames,frame_labels\na.mp4,1,3,012\n", r"clips.csv:2: frame_labels must be"),
        ("accidents", "path,label\na.mp4,1\n", r"clips.csv: the column frame_labels is missing"),
        ("accidents", "path,label,frame_labels\na.mp4,1,000\n", r"a: abnormal by the list, but not by its frames"),
        ("accidents", "path,label,frame_labels\na.mp4,0,001\n", r"a: normal by the list, but not by its frames"),
        (
            "ped2",
            "path,label,weak_split,frames,abnormal_frames\na.mp4,1,test,6,1-3\n",
            r"clips.csv:2: abnormal_frames mu",
        ),
        (
            "ped2",
            "path,label,weak_split,frames,abnormal_frames\na.mp4,1,test,6,1:x\n",
            r"clips.csv:2: expected frame num",
        ),
        ("ped2", "path,label,weak_split,frames,abnormal_frames\na.mp4,1,test,,1:2\n", r"clips.csv:2: frames is empty"),
        ("fights", "path,label\na.mp4,1\n", r"fights: only whole clips are labelled"),
    ],
)
def test_a_column_that_cannot_be_meant_is_a_sentence(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    (tmp_path / "clips.csv").write_text(text)
    with pytest.raises(TruthError, match=sentence):
        truth.run(name, tmp_path, tmp_path / "truth.npz", whole=False)


UCF = {
    "Anomaly_Train.txt": "Arson/Arson001_x264.mp4\n",
    "Anomaly_Test.txt": "Arson/Arson011_x264.mp4\nTesting_Normal_Videos_Anomaly/Normal_Videos_003_x264.mp4\n",
    "Temporal_Anomaly_Annotation.txt": "Arson011_x264.mp4  Arson  2  4  6  9  \n"
    "Normal_Videos_003_x264.mp4  Normal  -1  -1  -1  -1  \n",
    "frames.csv": "id,frames\nArson011_x264,8\nNormal_Videos_003_x264,3\n",
}


def ucf(folder: Path, **changed: str) -> Path:
    for name, text in (UCF | {key.replace("__", "."): text for key, text in changed.items()}).items():
        (folder / name).write_text(text)
    return folder


def test_ucf_crime_has_up_to_two_events_a_row(tmp_path: Path) -> None:
    built = truth.run("ucf_crime", ucf(tmp_path), tmp_path / "out" / "truth.npz", whole=False)
    assert {key: digits(labels) for key, labels in built.labels.items()} == {
        "Arson011_x264": "00110011",
        "Normal_Videos_003_x264": "000",
    }
    assert built.abnormal == ("Arson011_x264",)
    assert truth.read(tmp_path / "out" / "truth.npz").version == built.version


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("Temporal_Anomaly_Annotation.txt", "Arson011_x264.mp4 Arson 2 4\n", r"Annotation.txt:1: expected NAME CLASS"),
        (
            "Temporal_Anomaly_Annotation.txt",
            "Arson011_x264.mp4 Arson 2 x -1 -1\n",
            r"Annotation.txt:1: expected frame nu",
        ),
        (
            "Temporal_Anomaly_Annotation.txt",
            "Arson011_x264.mp4 Arson 2 4 -1 -1\n",
            r"Normal_Videos_003_x264: no annotat",
        ),
        (
            "Temporal_Anomaly_Annotation.txt",
            "Arson001_x264.mp4 Arson 2 4 -1 -1\n",
            r"Arson001_x264: annotated in .*, but",
        ),
        ("frames.csv", "id,frames\nArson011_x264,8\n", r"Normal_Videos_003_x264: .*frames.csv does not say how many"),
        ("frames.csv", "id,frames\nArson011_x264,8.5\n", r"frames.csv:2: frames must be a whole number \(got '8.5'\)"),
        ("frames.csv", "video,n\n", r"frames.csv: expected the columns id and frames"),
    ],
)
def test_an_annotation_that_cannot_be_meant_is_a_sentence(tmp_path: Path, file: str, text: str, sentence: str) -> None:
    ucf(tmp_path, **{file.replace(".", "__"): text})
    with pytest.raises(TruthError, match=sentence):
        truth.run("ucf_crime", tmp_path, tmp_path / "truth.npz", whole=False)


def test_without_lengths_the_ways_to_say_them_are_said(tmp_path: Path) -> None:
    (ucf(tmp_path) / "frames.csv").unlink()
    with pytest.raises(TruthError, match=r"how long are the videos\? Give a CSV"):
        truth.run("ucf_crime", tmp_path, tmp_path / "truth.npz", whole=False)


def test_names_of_xd_violence_may_carry_a_stray_suffix(tmp_path: Path) -> None:
    (tmp_path / "rgb.list").write_text("x/c__#1_label_G-0-0__0.npy\n")
    (tmp_path / "rgb_test.list").write_text("x/a.b__#1_label_B2-0-0__0.npy\nx/v=-z__#1_label_A__0.npy\n")
    (tmp_path / "annotations.txt").write_text("a.b__#1_label_B2-0-0.mp4 1 2 3 5 6 7\n")
    (tmp_path / "frames.csv").write_text("id,frames\na.b__#1_label_B2-0-0,8\nv=-z__#1_label_A,2\n")
    built = truth.run("xd_violence", tmp_path, tmp_path / "truth.npz", whole=False)
    assert {key: digits(labels) for key, labels in built.labels.items()} == {
        "a.b__#1_label_B2-0-0": "01011010",
        "v=-z__#1_label_A": "00",
    }


def test_lengths_come_from_a_csv_a_truth_the_videos_or_the_features(tmp_path: Path) -> None:
    videos = [Video(id="a_x264", path="Arson/a_x264.avi", label=1, scene="a")]
    (tmp_path / "frames.csv").write_text("id,frames\na_x264,33\nb,7\n")
    truth.write(tmp_path / "truth.npz", of(a_x264="0" * 30, b="1"))
    (tmp_path / "videos").mkdir()
    with av.open(str(tmp_path / "videos" / "a_x264.avi"), "w") as made:
        stream = made.add_stream("mpeg4", rate=Fraction(25))
        stream.width, stream.height = 32, 32
        for _ in range(19):
            made.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        made.mux(stream.encode())
    (tmp_path / "features").mkdir()
    np.save(tmp_path / "features" / "a_x264_i3d.npy", np.zeros((2, 10, 4), np.float32))
    found = {
        place: truth.frame_counts(tmp_path / place, videos)
        for place in ("frames.csv", "truth.npz", "videos", "features")
    }
    assert found == {
        "frames.csv": {"a_x264": 33},
        "truth.npz": {"a_x264": 30},
        "videos": {"a_x264": 19},
        "features": {"a_x264": 32},
    }
    with pytest.raises(TruthError, match=r"has none of the videos, and no features either"):
        truth.frame_counts(tmp_path / "features", [Video(id="c", path="c.avi", label=1, scene="c")])
    with pytest.raises(TruthError, match=r"no such file or folder"):
        truth.frame_counts(tmp_path / "none", videos)


@given(st.dictionaries(st.text("abc/_", min_size=1), st.lists(st.integers(0, 1), min_size=1, max_size=20), max_size=4))
def test_what_is_written_is_read_back(videos: dict[str, list[int]]) -> None:
    made = Truth(labels={key: np.array(labels, np.uint8) for key, labels in videos.items()})
    with tempfile.TemporaryDirectory() as folder:
        truth.write(Path(folder) / "truth.npz", made)
        read = truth.read(Path(folder) / "truth.npz")
    assert list(read.labels) == list(made.labels)
    assert {key: labels.tolist() for key, labels in read.labels.items()} == videos
    assert read.version == made.version


def test_a_truth_that_does_not_add_up_is_refused(tmp_path: Path) -> None:
    fine = {"videos": np.array(["a"]), "lengths": np.array([9]), "labels": np.zeros(2, np.uint8), "frames": np.int64(9)}
    np.savez(tmp_path / "fine.npz", **fine)
    assert truth.read(tmp_path / "fine.npz").frames == 9
    for name, wrong in {
        "frames": {"frames": np.int64(8)},
        "labels": {"labels": np.zeros(1, np.uint8)},
        "videos": {"videos": np.array(["a", "b"])},
    }.items():
        np.savez(tmp_path / f"{name}.npz", **(fine | wrong))
        with pytest.raises(TruthError, match="do not belong together"):
            truth.read(tmp_path / f"{name}.npz")
    np.savez(tmp_path / "few.npz", videos=np.array(["a"]))
    with pytest.raises(TruthError, match=r"few.npz holds no lengths"):
        truth.read(tmp_path / "few.npz")
    with pytest.raises(TruthError, match="no such frame truth"):
        truth.read(tmp_path / "none.npz")


def test_a_version_is_of_ids_and_labels_and_not_of_their_order() -> None:
    assert of(a="01", b="0").version == of(b="0", a="01").version
    assert len({one.version for one in (of(a="01"), of(a="10"), of(b="01"), of(a="010"))}) == 4
    assert of(a="01", b="00").version.startswith("2 videos, 4 frames, 25.00 % abnormal, ")


@pytest.mark.parametrize(
    ("segments", "frames", "scores"),
    [
        ([1, 2], 32, [1] * 16 + [2] * 16),
        ([1, 2], 33, [1] * 16 + [2] * 17),  # the extractor dropped the tail: the last score goes on
        ([1, 2], 47, [1] * 16 + [2] * 31),
        ([1, 2], 31, [1] * 16 + [2] * 15),  # it padded the tail: what has no frame is dropped
        ([1, 2], 17, [1] * 16 + [2]),
        ([1, 2], 48, [1] * 16 + [2] * 32),  # the truth is whole segments: one more or less
        ([1, 2], 16, [1] * 16),
    ],
)
def test_a_segments_score_is_that_of_its_sixteen_frames(
    segments: list[float], frames: int, scores: list[float]
) -> None:
    found = truth.frame_scores(np.array(segments, np.float32), frames, video_id="a")
    assert found.dtype == np.float32
    assert found.tolist() == scores


@pytest.mark.parametrize(("segments", "frames"), [(2, 49), (2, 64), (2, 15), (3, 16), (3, 31), (0, 5)])
def test_scores_that_do_not_cover_the_truth_are_never_cut_silently(segments: int, frames: int) -> None:
    with pytest.raises(
        FeatureError,
        match=rf"^Abuse028_x264: {segments} segments are {16 * segments} frames of scores, but its truth has {frames};",
    ):
        truth.frame_scores(np.zeros(segments), frames, video_id="Abuse028_x264")


def test_sound_may_have_cost_one_segment_more_and_adds_none() -> None:
    scores = np.array([1.0, 2.0])
    assert truth.frame_scores(scores, 63, video_id="a", sound=True).tolist() == [1] * 16 + [2] * 47
    assert truth.frame_scores(scores, 64, video_id="a", sound=True).tolist() == [1] * 16 + [2] * 48
    for frames in (65, 15):
        with pytest.raises(FeatureError, match=rf"^a: 2 segments .* has {frames};"):
            truth.frame_scores(scores, frames, video_id="a", sound=True)


@given(st.integers(1, 30), st.integers(-15, 15))
def test_every_frame_has_the_score_of_the_segment_it_lies_in(segments: int, more: int) -> None:
    frames = 16 * segments + more
    found = truth.frame_scores(np.arange(segments, dtype=np.float64), frames, video_id="a")
    assert found.tolist() == [min(frame // 16, segments - 1) for frame in range(frames)]


def test_pooled_frames_pair_truth_and_scores_by_id_and_never_by_place() -> None:
    known = of(a="0011", b="10")
    scores = {"b": np.array([5.0]), "a": np.array([1.0, 2.0])}
    labels, found = truth.pool(known, scores, frames_per_segment=2)
    assert labels.tolist() == [0, 0, 1, 1, 1, 0]
    assert found.tolist() == [1, 1, 2, 2, 5, 5]
    with pytest.raises(TruthError, match=r"^b: in the truth, but without scores"):
        truth.pool(known, {"a": scores["a"]}, frames_per_segment=2)
    with pytest.raises(TruthError, match=r"^c: has scores, but no frame truth"):
        truth.pool(known, scores | {"c": scores["b"]}, frames_per_segment=2)
    assert truth.pool(known.of(["a"]), {"a": scores["a"]}, frames_per_segment=2)[0].tolist() == [0, 0, 1, 1]
    with pytest.raises(TruthError, match=r"^c: no frame truth"):
        known.of(["c"])


@pytest.mark.parametrize(
    ("name", "auc", "precision"),
    [("stg_nf_shanghai", 0.85937, 0.83479), ("stg_nf_ubnormal", 0.71749, 0.76974)],
)
def test_published_frame_scores_pooled_by_id_give_the_published_measures(
    shared_data: Path, name: str, auc: float, precision: float
) -> None:
    with np.load(shared_data / "published_scores" / f"{name}.npz") as held:
        ids, ends = held["videos"].tolist(), np.cumsum(held["video_lengths"])[:-1]
        labels = dict(zip(ids, np.split(held["labels"], ends), strict=True))
        scores = dict(zip(ids, np.split(held["scores"], ends), strict=True))
    order = np.random.default_rng(0).permutation(len(ids))
    pooled = truth.pool(Truth(labels=labels), {ids[k]: scores[ids[k]] for k in order}, frames_per_segment=1)
    assert round(evaluate.roc_auc(*pooled), 5) == auc
    assert round(evaluate.average_precision(*pooled), 5) == precision
