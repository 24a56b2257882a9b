from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.alerting import alarm as alarms
from monitor.alerting.alarm import CALM, Alarm, Change, step
from monitor.config import Thresholds
from monitor.flow import AlertKind

from .support import bag, thresholds

RAISED, UPDATED, ENDED = AlertKind.RAISED, AlertKind.UPDATED, AlertKind.ENDED


def walk(scores: list[float], settings: Thresholds, every_s: float = 2.0) -> list[tuple[int, Change]]:
    """Scores two seconds apart → (index, change)."""
    alarm, changes = CALM, []
    for index, score in enumerate(scores):
        alarm, change = step(alarm, score, index * every_s, settings)
        if change is not None:
            changes.append((index, change))
    return changes


TABLE = {
    "a quiet camera stays calm": ([0.1, 0.5, 0.59], {}, []),
    "the first score at the threshold raises": ([0.1, 0.6], {}, [(1, "raised", 0.6)]),
    "between the thresholds a raised alarm stays": ([0.7, 0.5, 0.5], {}, [(0, "raised", 0.7)]),
    "it ends when it was low for clear_after": (
        [0.7, 0.3, 0.3, 0.3],
        {},
        [(0, "raised", 0.7), (3, "ended", 0.7)],
    ),
    "a score at clear_at begins the waiting anew": (
        [0.7, 0.3, 0.3, 0.4, 0.3, 0.3, 0.3],
        {"update_every_s": 100},
        [(0, "raised", 0.7), (6, "ended", 0.7)],
    ),
    "an update every six seconds tells the peak": (
        [0.7, 0.9, 0.8, 0.5, 0.5, 0.5, 0.5],
        {},
        [(0, "raised", 0.7), (3, "updated", 0.9), (6, "updated", 0.9)],
    ),
    "two seconds above are too short for a minimum of four": (
        [0.7, 0.7, 0.5, 0.7, 0.7, 0.7],
        {"min_duration_s": 4},
        [(5, "raised", 0.7)],
    ),
    "with no waiting the first low score ends": (
        [0.7, 0.3],
        {"clear_after_s": 0},
        [(0, "raised", 0.7), (1, "ended", 0.7)],
    ),
    "in the cool-down nothing is raised, after it at once": (
        [0.7, 0.3, 0.9, 0.9, 0.9, 0.9, 0.9, 0.8],
        {"clear_after_s": 0, "cooldown_s": 10},
        [(0, "raised", 0.7), (1, "ended", 0.7), (6, "raised", 0.9)],
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_rules_of_an_alarm(name: str) -> None:
    scores, changes, expected = TABLE[name]
    got = [(index, c.kind.value, round(c.peak, 6)) for index, c in walk(scores, thresholds(**changes))]
    assert got == expected


def test_a_raise_names_its_first_crossing() -> None:
    ((_, change),) = walk([0.1, 0.7, 0.8, 0.9], thresholds(min_duration_s=4))
    assert (change.at, change.crossed_at) == (6.0, 2.0)


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.01, 1.01])
def test_a_score_that_is_none_is_refused(score: float) -> None:
    with pytest.raises(ValueError, match=r"a score must be in \[0, 1\]"):
        step(CALM, score, 0.0, thresholds())


@pytest.mark.parametrize("at", [math.nan, 1.0])
def test_a_time_before_the_last_is_refused(at: float) -> None:
    with pytest.raises(ValueError, match="in the order of their time"):
        step(Alarm(at=2.0), 0.5, at, thresholds())


def test_an_end_from_outside_ends_a_raised_alarm_and_leaves_a_calm_one() -> None:
    raised, _ = step(CALM, 0.9, 5.0, thresholds())
    calm, change = alarms.end(raised, 4.0, "camera lost")
    assert change == Change(kind=ENDED, at=5.0, score=0.9, peak=0.9, crossed_at=None, reason="camera lost")
    assert calm == Alarm(ended_at=5.0, at=5.0, score=0.9)
    assert alarms.end(calm, 6.0, "camera lost") == (calm, None)


def test_an_end_from_outside_forgets_what_was_on_its_way() -> None:
    rising, _ = step(CALM, 0.9, 0.0, thresholds(min_duration_s=3))
    quiet, _ = alarms.end(rising, 1.0, "camera lost")
    assert step(quiet, 0.9, 4.0, thresholds(min_duration_s=3))[1] is None


settings_ = st.builds(
    lambda raise_at, share, **others: thresholds(raise_at=raise_at, clear_at=raise_at * share, **others),
    raise_at=st.sampled_from([0.3, 0.5, 0.8]),
    share=st.sampled_from([0.2, 0.6, 1.0]),
    min_duration_s=st.sampled_from([0.0, 1.0, 5.0]),
    clear_after_s=st.sampled_from([0.0, 1.0, 5.0]),
    cooldown_s=st.sampled_from([0.0, 1.0, 20.0]),
    update_every_s=st.sampled_from([0.5, 3.0]),
)
streams = st.lists(st.tuples(st.floats(0, 1), st.floats(0.0, 5.0), st.booleans()), min_size=1, max_size=120)


@settings(max_examples=300, deadline=None)
@given(stream=streams, limits=settings_)
def test_whatever_the_scores_the_promises_hold(stream: list[tuple[float, float, bool]], limits: Thresholds) -> None:
    alarm, at = CALM, 0.0
    seen: list[tuple[Change, float]] = []
    for score, gap, cut in stream:
        at += gap
        before = alarm
        alarm, change = step(alarm, score, at, limits)
        if change is not None:
            seen.append((change, score))
            assert change.kind is (RAISED if not before.raised else change.kind)
        if cut and score < 0.05:
            alarm, change = alarms.end(alarm, at, "camera lost")
            if change is not None:
                seen.append((change, score))
    alarm, change = alarms.end(alarm, at, "over")
    if change is not None:
        seen.append((change, 0.0))

    kinds = [change.kind for change, _ in seen]
    assert kinds.count(RAISED) == kinds.count(ENDED)
    for (first, _), (second, _) in pairwise(seen):
        assert (second.kind is RAISED) == (first.kind is ENDED), "alternation"
        assert second.at >= first.at
        if second.kind is RAISED:
            assert second.at - first.at >= limits.cooldown_s
        if second.kind is UPDATED:
            assert second.at - first.at >= limits.update_every_s or first.kind is UPDATED
            assert second.peak >= first.peak
    for change, score in seen:
        if change.kind is RAISED:
            assert score >= limits.raise_at
            assert change.crossed_at is not None
            assert change.at - change.crossed_at >= limits.min_duration_s
        if change.kind is ENDED and change.reason == alarms.BELOW:
            assert score < limits.clear_at


class TestOnset:
    def test_flat_attention_leaves_the_mean_of_the_detectors(self) -> None:
        given_bag = bag([0.0] * 3, long_term=[0.8] * 3, short_term=[0.2, 0.4, 0.6])
        np.testing.assert_allclose(alarms.localised(given_bag), [0.5, 0.6, 0.7], atol=1e-6)

    def test_attention_says_where_the_long_term_score_belongs(self) -> None:
        given_bag = bag([0.0] * 3, long_term=[0.8] * 3, short_term=[0.2] * 3, attention=[0.0, 0.2, 0.8])
        np.testing.assert_allclose(alarms.localised(given_bag), [0.1, 0.2, 0.5], atol=1e-6)

    def test_the_onset_lies_before_the_crossing_where_the_score_began_to_rise(self) -> None:
        scores = [0.05, 0.10, 0.25, 0.45, 0.90]
        assert alarms.onset(bag(scores), 4, thresholds()) == 2

    def test_the_onset_never_comes_after_the_crossing(self) -> None:
        assert alarms.onset(bag([0.1, 0.1, 0.9], attention=[0, 0, 1]), 2, thresholds()) == 2

    def test_an_incident_older_than_the_bag_began_at_least_with_it(self) -> None:
        assert alarms.onset(bag([0.9] * 4), 3, thresholds()) == 0

    def test_bridged_segments_are_walked_over(self) -> None:
        assert alarms.onset(bag([0.1, 0.5, 0.0, 0.5, 0.9], missing=[2]), 4, thresholds()) == 1
        assert alarms.onset(bag([0.1, 0.5, 0.9], missing=[1]), 2, thresholds()) == 2

    def test_the_onset_does_not_reach_into_the_alarm_before(self) -> None:
        # Segments 0..3 are captured at 1000, 1002, 1004, 1006; the last alarm ended at 1002.
        assert alarms.onset(bag([0.9] * 4), 3, thresholds(), not_before=1002.0) == 2

    def test_most_attended_leaves_bridged_segments_out(self) -> None:
        assert alarms.most_attended(bag([0.0] * 3, attention=[0.2, 0.5, 0.3])) == 1
        assert alarms.most_attended(bag([0.0] * 3, attention=[0.2, 0.5, 0.3], missing=[1])) == 2
        assert alarms.most_attended(bag([0.0], missing=[0])) is None
