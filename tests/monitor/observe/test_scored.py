"""How much was scored, by literal tables."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.flow import BagScore, SegmentTimes
from monitor.observe.scored import InvalidShare, ScoredRatio, Tally

Interval = tuple[float, float]


@pytest.mark.parametrize(
    ("intervals", "now_s", "since_start"),
    [
        ([], 0.0, 0.0),
        ([], 10.0, 0.0),
        ([(0, 10)], 10.0, 1.0),
        ([(0, 10)], 40.0, 0.25),
        ([(5, 10)], 10.0, 0.5),
        ([(0, 1), (1, 2), (2, 3)], 4.0, 0.75),
        ([(0, 1), (2, 3)], 4.0, 0.5),
        ([(0, 2), (1, 3)], 4.0, 0.75),  # an overlap counts once
        ([(0, 2), (0, 2)], 4.0, 0.5),  # as does what is said twice
        ([(0, 4), (1, 2)], 8.0, 0.5),
        ([(0, 11)], 10.0, 1.0),  # never above 1
        ([(3, 3), (5, 4)], 10.0, 0.0),  # nothing covers nothing
    ],
)
def test_the_ratio_is_seconds_covered_per_second_since_start(
    intervals: list[Interval], now_s: float, since_start: float
) -> None:
    ratio = ScoredRatio(started_s=0.0)
    for start_s, end_s in intervals:
        ratio.add(start_s, end_s)
    assert ratio.since_start(now_s) == pytest.approx(since_start)


@pytest.mark.parametrize(
    ("lag_s", "intervals", "now_s", "recent"),
    [
        (0, [], 1000.0, None),  # never scored: learning, not degraded
        (0, [(0, 50)], 59.0, None),  # too early to say
        (0, [(0, 50)], 60.0, 5 / 6),
        (0, [(30, 90)], 90.0, 1.0),  # before the first score ever it was learning
        (0, [(0, 300)], 300.0, 1.0),
        (0, [(0, 300)], 400.0, 2 / 3),
        (0, [(0, 300)], 600.0, 0.0),
        (0, [(0, 300)], 9000.0, 0.0),
        (0, [(0, 300), (400, 500)], 500.0, 2 / 3),  # 200..300 and 400..500 of 200..500
        (0, [(0, 100), (115, 300)], 300.0, 0.95),
        (0, [(0, 500), (500, 1000)], 1000.0, 1.0),
        (34, [(0, 300)], 334.0, 1.0),  # what cannot be scored yet is not held against it
        (34, [(0, 300)], 364.0, 0.9),
        (34, [(0, 300), (300, 340)], 334.0, 1.0),
    ],
)
def test_the_last_five_minutes_are_judged_from_the_first_score_to_the_lag(
    lag_s: float, intervals: list[Interval], now_s: float, recent: float | None
) -> None:
    ratio = ScoredRatio(started_s=0.0, lag_s=lag_s)
    for start_s, end_s in intervals:
        ratio.add(start_s, end_s)
    assert ratio.recent(now_s) == (None if recent is None else pytest.approx(recent))


def test_a_day_of_segments_without_a_loss_is_kept_as_one_interval() -> None:
    ratio = ScoredRatio(started_s=0.0)
    for second in range(86_400):
        ratio.add(second, second + 1)
    assert len(ratio._intervals) == 1
    assert ratio.recent(86_400.0) == 1.0


def test_a_day_of_losses_keeps_five_minutes_of_intervals() -> None:
    ratio = ScoredRatio(started_s=0.0)
    for second in range(0, 86_400, 2):
        ratio.add(second, second + 1)
    assert len(ratio._intervals) == 151
    assert ratio.recent(86_400.0) == pytest.approx(0.5)
    assert ratio.since_start(86_400.0) == pytest.approx(0.5)


def test_the_invalid_share_is_that_of_the_last_five_minutes() -> None:
    share = InvalidShare()
    assert share.recent() is None
    readings = [(0.0, 0, 0, None), (10.0, 10, 0, None), (20.0, 20, 2, 0.1), (200.0, 200, 20, 0.1)]
    readings += [(320.0, 320, 20, 0.06), (500.0, 500, 20, 0.0)]
    for now_s, segments, invalid, expected in readings:
        share.add(now_s, segments, invalid)
        assert share.recent() == (None if expected is None else pytest.approx(expected)), now_s


def test_readings_of_the_invalid_share_are_thinned() -> None:
    share = InvalidShare()
    for tenth in range(100_000):
        share.add(tenth / 10, tenth, 0)
    assert len(share._readings) <= 62


LENGTH_S = 1.0


def times(number: int, captured_s: float | None = None) -> SegmentTimes:
    at = number + 1.0 if captured_s is None else captured_s
    return SegmentTimes(
        number=number, start_s=number, end_s=number + LENGTH_S, captured_s=at, captured_wall_s=1.7e9 + at
    )


def bag(numbers: list[int | None], published: list[int], scores: list[float] | None = None) -> BagScore:
    n = len(numbers)
    scores_N = np.array(scores or [0.5] * n, dtype=np.float32)
    return BagScore(
        camera="gate",
        times=tuple(None if number is None else times(number) for number in numbers),
        scores_N=scores_N,
        long_term_N=scores_N * np.float32(0.5),
        short_term_N=scores_N * np.float32(0.25),
        attention_N=np.full(n, 1 / n, dtype=np.float32),
        bridged=numbers.count(None),
        published=tuple(published),
        scored_s=0.0,
    )


def test_a_tally_counts_what_was_published_and_keeps_the_newest_score() -> None:
    tally = Tally(started_s=0.0)
    assert (tally.scored, tally.bridged, tally.score) == (0, 0, None)
    tally.add(bag([0, 1, 2, 3], [0, 1], [0.5, 0.25, 1.0, 1.0]))
    assert (tally.scored, tally.score, tally.long_term, tally.short_term) == (2, 0.25, 0.125, 0.0625)
    tally.add(bag([2, 3, 4, 5], []))
    assert (tally.scored, tally.score) == (2, 0.25)
    assert tally.since_start(4.0) == pytest.approx(0.5)


def test_a_bridged_segment_is_counted_once_however_many_bags_it_is_in() -> None:
    tally = Tally(started_s=0.0)
    counted = []
    for numbers in (
        [0, 1, None, 3],
        [1, None, 3, 4],
        [None, 3, 4, None],
        [3, 4, None, 6],
        [10, 11, 12, None],
    ):
        tally.add(bag(numbers, []))
        counted.append(tally.bridged)
    assert counted == [1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("captured", "covered_s"),
    [
        ([(0, 1.0), (1, 2.0), (2, 3.0)], 3.0),
        ([(0, 1.0), (1, 2.2), (2, 2.9)], 2.9),  # jitter leaves no holes
        ([(0, 1.0), (1, 8.0), (2, 8.1), (3, 8.2)], 8.2),  # nor do bursts
        ([(0, 1.0), (2, 3.0)], 2.0),  # a lost segment does
        ([(0, 1.0), (2, 1.5)], 1.5),  # the part that overlaps counts once
        ([(0, 1.0), (1, 60.0)], 2.0),  # an outage does, whatever the numbers say
    ],
)
def test_a_tally_covers_the_time_in_which_published_segments_were_captured(
    captured: list[tuple[int, float]], covered_s: float
) -> None:
    tally = Tally(started_s=0.0)
    for number, captured_s in captured:
        one = bag([number], [0])
        tally.add(
            BagScore(
                camera="gate",
                times=(times(number, captured_s),),
                scores_N=one.scores_N,
                long_term_N=one.long_term_N,
                short_term_N=one.short_term_N,
                attention_N=one.attention_N,
                bridged=0,
                published=(0,),
                scored_s=captured_s,
            )
        )
    assert tally.since_start(100.0) == pytest.approx(covered_s / 100)
