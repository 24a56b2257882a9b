"""Measures against truth that is small enough to count by hand, and against scikit-learn on what is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training import measure
from training.measure import Judged


def judged(name: str, truth: str, scores: list[float]) -> Judged:
    """Truth as digits; one score a frame."""
    marks = np.array([int(digit) for digit in truth], dtype=np.uint8)
    return Judged(id=name, label=int(marks.any()), truth_F=marks, scores_F=np.array(scores))


TWO = [
    judged("a", "0011100", [0.1, 0.2, 0.2, 0.8, 0.9, 0.9, 0.1]),
    judged("n", "0000", [0.1, 0.6, 0.1, 0.7]),
]


def test_runs_are_first_and_end() -> None:
    assert measure.runs(np.array([1, 1, 0, 0, 1], dtype=bool)) == [(0, 2), (4, 5)]
    assert measure.runs(np.zeros(3, dtype=bool)) == []


def test_false_alarms_are_counted_an_hour_of_normal_frames() -> None:
    assert measure.false_alarm_rate(TWO) == 0.5
    assert measure.alarms_per_hour(TWO, 0.5, fps=8 / 3600) == 2.0  # eight normal frames are an hour here


def test_time_to_detect_runs_from_the_event_to_its_first_crossing() -> None:
    assert measure.time_to_detect_s(TWO, 0.5, fps=2.0) == (0.5, 1.0)
    wait_s, found = measure.time_to_detect_s(TWO, 0.95, fps=2.0)
    assert np.isnan(wait_s)
    assert found == 0.0


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.5, 2 / 4),  # frames 3-5 for 2-4 overlap by half; the two runs of the normal video are false
        (0.85, 0.0),  # frames 4-5 for 2-4: one of four
        (0.75, 1.0),
    ],
)
def test_events_match_by_overlap(threshold: float, expected: float) -> None:
    assert measure.event_f1(TWO, threshold) == pytest.approx(expected)


def test_a_perfect_video_level_classifier_hides_localisation() -> None:
    assert measure.video_level(TWO) == pytest.approx((4 + 4 / 2) / 8)
    flat = [judged("a", "0011", [0.9] * 4), judged("n", "0000", [0.1] * 4)]
    assert measure.abnormal_auc(flat) == 0.5
    assert measure.frame_auc(flat) > 0.8


def test_scores_that_do_not_cover_the_truth_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="a: 3 frames of truth, 2 of scores"):
        judged("a", "001", [0.1, 0.2])


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=1, max_size=12), min_size=1, max_size=5)
)
def test_counted_measures_are_the_frame_measures(videos: list[list[tuple[int, int]]]) -> None:
    made = [
        judged(str(k), "".join(str(mark) for mark, _ in video), [score / 5 for _, score in video])
        for k, video in enumerate(videos)
    ]
    truth, _ = measure.frames(made)
    values, abnormal, normal = (np.concatenate([v.counted[k] for v in made]) for k in range(3))
    if 0 < truth.sum() < len(truth):
        assert measure.counted_auc(values, abnormal, normal) == pytest.approx(measure.frame_auc(made))
    if truth.any():
        assert measure.counted_ap(values, abnormal, normal) == pytest.approx(measure.frame_ap(made))


def test_an_interval_over_videos_holds_the_number_and_is_wide_for_few() -> None:
    random = np.random.default_rng(0)
    videos = [
        judged(str(k), "0110" * 5 if k % 2 else "0" * 20, list(random.random(20) + (0.3 if k % 2 else 0.0)))
        for k in range(12)
    ]
    interval = measure.interval(videos, rounds=200)
    assert interval.low <= measure.frame_auc(videos) <= interval.high
    assert interval.high - interval.low > 0.02
    assert interval == measure.interval(videos, rounds=200)
