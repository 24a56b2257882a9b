"""Measures against published numbers and hand-made cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training import evaluate
from training.catalogue import Video


@pytest.mark.parametrize(
    ("name", "auc", "precision"),
    [("stg_nf_shanghai", 0.85937, 0.83479), ("stg_nf_ubnormal", 0.71749, 0.76974)],
)
def test_published_frame_scores_give_the_published_measures(
    shared_data: Path, name: str, auc: float, precision: float
) -> None:
    with np.load(shared_data / "published_scores" / f"{name}.npz") as held:
        labels, scores = held["labels"], held["scores"]
    assert round(evaluate.roc_auc(labels, scores), 5) == auc
    assert round(evaluate.average_precision(labels, scores), 5) == precision


def test_ties_count_half_in_the_auc() -> None:
    assert evaluate.roc_auc(np.array([0, 1, 0, 1]), np.array([0.5, 0.5, 0.1, 0.9])) == 0.875


def test_the_auc_by_ranks_is_the_area_under_the_curve() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        labels, scores = random.integers(0, 2, 40), random.integers(0, 10, 40) / 10
        assert evaluate.rank_auc(labels, scores) == pytest.approx(evaluate.roc_auc(labels, scores), abs=1e-12)
    with pytest.raises(ValueError, match="both classes"):
        evaluate.rank_auc(np.zeros(3, np.int64), np.zeros(3))


def test_an_auc_of_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="both classes"):
        evaluate.roc_auc(np.array([1, 1]), np.array([0.1, 0.2]))


def clips() -> tuple[Video, ...]:
    return tuple(Video(id=f"a/{k}", path=f"a/{k}.mp4", label=k % 2, scene=f"s{k // 4}", fold=k // 8) for k in range(16))


def test_scores_that_part_the_classes_have_an_interval_of_one() -> None:
    videos = clips()
    scores = np.array([float(video.label) for video in videos])
    assert evaluate.auc_interval(videos, scores, rounds=50) == evaluate.Interval(low=1.0, high=1.0)
    assert evaluate.by_fold(videos, scores) == {0: 1.0, 1: 1.0}


def test_the_gain_over_oneself_is_nothing() -> None:
    scores = np.random.default_rng(0).random(16)
    assert evaluate.gain_interval(clips(), scores, scores, rounds=50) == evaluate.Interval(low=0.0, high=0.0)


def test_the_bootstrap_draws_scenes_whole() -> None:
    seen: list[int] = []

    def measure(drawn: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
        seen.append(len(drawn))
        counts = np.bincount(drawn, minlength=16)
        assert all(len(set(counts[k : k + 4])) == 1 for k in range(0, 16, 4))
        return 0.0

    evaluate.bootstrap([video.scene for video in clips()], measure, rounds=20)
    assert seen == [16] * 20


def test_a_replays_table_gives_clip_scores_by_path(tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    table.write_text(
        "file,segment,start_s,end_s,score,long_term,short_term\n"
        "/data/a/1.mp4,1,1.0,2.0,0.75,0.5,1.0\n"
        "/data/a/1.mp4,0,0.0,1.0,0.25,0.5,0.0\n"
        "/data/a/11.mp4,0,0.0,1.0,0.5,0.5,0.5\n"
        "/data/a/11.mp4,1,1.0,2.0,,,\n"
    )
    read = evaluate.read_replay(table)
    assert read["/data/a/1.mp4"].tolist() == [0.25, 0.75]
    videos = (clips()[1], clips()[11])
    assert evaluate.replayed(videos, read).tolist() == [0.75, 0.5]
    assert evaluate.replayed(videos, read, "mean").tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match=r"a/2\.mp4: 0 files"):
        evaluate.replayed((clips()[2],), read)


def test_a_segment_scored_twice_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    table.write_text("file,segment,score\na.mp4,0,0.5\na.mp4,0,0.5\n")
    with pytest.raises(ValueError, match=r"segment 0 of a\.mp4 is scored twice"):
        evaluate.read_replay(table)
