"""The miniature sets are read by the same code as the real ones, and can be learnt."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.training import miniature
from training import datasets, evaluate, features, truth
from training.catalogue import Video
from training.features import Features

NAMES: tuple[miniature.Name, ...] = ("ucf_crime", "shanghaitech", "xd_violence")


def judged(
    made: miniature.Miniature,
    name: str,
    videos: tuple[Video, ...],
    known: dict[str, Features],
    out: Path,
    *,
    whole: bool = False,
    sound: bool = False,
) -> tuple[truth.Truth, float]:
    """The truth, and the frame AUC of the dimensions that were raised."""
    built = truth.run(name, made.lists, out, whole=whole)
    scores: dict[str, npt.NDArray[np.floating]] = {
        video.id: known[video.id].features_NCD[:, :, : made.raised].mean(axis=(1, 2), dtype=np.float32)
        for video in videos
        if video.split == "test"
    }
    return built, evaluate.roc_auc(*truth.pool(built, scores, sound=sound))


@pytest.mark.parametrize("name", NAMES)
def test_a_miniature_goes_the_whole_way_of_a_real_set(tmp_path: Path, name: miniature.Name) -> None:
    made = miniature.make(tmp_path, name, dimensions=12)
    videos = datasets.read(name, made.lists, whole=False)
    assert Counter((video.split, video.label) for video in videos) == {
        ("train", 1): 8, ("train", 0): 8, ("test", 1): 4, ("test", 0): 4,
    }  # fmt: skip
    known = features.load(made.features, videos)
    assert {(one.crops, one.dimensions) for one in known.values()} == {(datasets.of(name).crops, 12)}
    lengths = {len(one) for one in known.values()}
    assert (min(lengths), max(lengths)) == (3, 60)
    built, auc = judged(made, name, videos, known, tmp_path / "truth.npz")
    assert set(built.abnormal) == {video.id for video in videos if video.split == "test" and video.label}
    assert auc > 0.97
    # Tails are dropped and padded, so that nothing passes by taking 16 frames for each segment.
    tails = {len(labels) - 16 * len(known[key]) for key, labels in built.labels.items()}
    assert min(tails) < 0 < max(tails)


def test_the_sound_of_a_miniature_is_joined_and_tells_the_same(tmp_path: Path) -> None:
    made = miniature.make(tmp_path, "xd_violence", dimensions=12, audio_dimensions=4)
    videos = datasets.read("xd_violence", made.lists, whole=False)
    seen = features.load(made.features, videos)
    heard = features.load(made.features, videos, audio=made.audio, keep=tmp_path / "joined")
    assert {one.dimensions for one in heard.values()} == {16}
    assert {len(seen[video.id]) - len(heard[video.id]) for video in videos} == {0, 1}
    assert judged(made, "xd_violence", videos, heard, tmp_path / "truth.npz", sound=True)[1] > 0.97


def test_the_videos_of_the_papers_figure_7_are_among_the_test_videos(tmp_path: Path) -> None:
    made = miniature.make(tmp_path, "ucf_crime")
    test = {video.id for video in datasets.read("ucf_crime", made.lists, whole=False) if video.split == "test"}
    assert test > {"Explosion010_x264", "Stealing079_x264", "Normal_Videos_034_x264", "RoadAccidents012_x264"}


def test_a_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    def written(folder: str, seed: int) -> dict[str, bytes]:
        lists = miniature.make(tmp_path / folder, "xd_violence", seed=seed).lists
        return {str(path.relative_to(lists)): path.read_bytes() for path in lists.rglob("*") if path.is_file()}

    first = written("first", 1)
    assert len(first) == 24 * 6 + 6
    assert written("again", 1) == first
    assert written("other", 2) != first


def test_with_the_real_lists_it_is_whole_and_judged_by_the_real_truth(shared_data: Path, tmp_path: Path) -> None:
    made = miniature.make(tmp_path, "ucf_crime", dimensions=4, shared=shared_data)
    videos = datasets.read("ucf_crime", made.lists)
    known = features.load(made.features, videos)
    built, auc = judged(made, "ucf_crime", videos, known, tmp_path / "truth.npz", whole=True)
    assert built.version == truth.read(shared_data / "truth" / "ucf_crime" / "frame_truth.npz").version
    assert auc > 0.97
