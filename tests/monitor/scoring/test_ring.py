"""The published score, its delay and the gap rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.flow import SegmentTimes
from monitor.scoring.ring import Bag, Ring


def times(number: int) -> SegmentTimes:
    return SegmentTimes(
        number=number, start_s=number, end_s=number + 1, captured_s=number + 1, captured_wall_s=number + 1
    )


def numbers(bag: Bag) -> list[int | None]:
    return [t.number if t else None for t in bag.times]


def published(bag: Bag) -> list[int]:
    return [t.number for i in bag.published if (t := bag.times[i]) is not None]


def run(ring: Ring, segments: list[int], *, end: bool = False) -> list[tuple[list[int | None], list[int]]]:
    bags: list[Bag] = []
    for number in segments:
        step = ring.push(times(number))
        bags += [*step.before, *step.bags]
    if end:
        bags += ring.end()
    return [(numbers(bag), published(bag)) for bag in bags]


def test_stride_l_and_no_delay_is_the_papers_cut_with_its_short_last_bag() -> None:
    assert run(Ring(3, 3, 0, 0, file=True), list(range(8)), end=True) == [
        ([0, 1, 2], [0, 1, 2]),
        ([3, 4, 5], [3, 4, 5]),
        ([6, 7], [6, 7]),
    ]


def test_a_file_shorter_than_l_is_one_bag() -> None:
    assert run(Ring(8, 1, 2, 1, file=True), [0, 1], end=True) == [([0, 1], [0, 1])]


def test_a_sliding_bag_publishes_k_minus_d_minus_s_plus_1_to_k_minus_d() -> None:
    assert run(Ring(4, 2, 1, 0), list(range(8))) == [
        ([0, 1, 2, 3], [0, 1, 2]),
        ([2, 3, 4, 5], [3, 4]),
        ([4, 5, 6, 7], [5, 6]),
    ]


def test_the_end_of_a_sliding_file_publishes_what_the_delay_held_back() -> None:
    assert run(Ring(4, 2, 1, 0, file=True), list(range(6)), end=True)[-1] == ([2, 3, 4, 5], [5])
    assert run(Ring(4, 2, 1, 0, file=True), list(range(7)), end=True)[-1] == ([4, 5, 6], [5, 6])


def test_a_gap_within_the_rule_is_bridged_and_never_published() -> None:
    assert run(Ring(4, 1, 0, 1), [0, 1, 3, 4]) == [
        ([0, 1, None, 3], [0, 1, 3]),
        ([1, None, 3, 4], [4]),
    ]


def test_a_bridge_repeats_the_slot_of_the_feature_before_it() -> None:
    ring = Ring(4, 1, 0, 2)
    first, second = ring.push(times(0)), ring.push(times(1))
    (bag,) = ring.push(times(3)).bags
    assert bag.slots[:3] == (first.slot, second.slot, second.slot)
    assert bag.bridged == 1


def test_a_gap_beyond_the_rule_restarts_the_ring() -> None:
    ring = Ring(4, 1, 0, 1)
    for number in range(4):
        ring.push(times(number))
    step = ring.push(times(6))
    assert step.restarted
    assert step.bags == ()
    assert ring.filled == 1


def test_two_gaps_in_one_bag_count_together() -> None:
    ring = Ring(6, 1, 0, 1)
    assert [ring.push(times(n)).restarted for n in (0, 2, 4)] == [False, False, True]


def test_a_file_loses_no_score_at_a_restart() -> None:
    assert run(Ring(4, 1, 1, 1, file=True), [0, 1, 2, 3, 8, 9], end=True) == [
        ([0, 1, 2, 3], [0, 1, 2]),
        ([0, 1, 2, 3], [3]),
        ([8, 9], [8, 9]),
    ]


def test_numbers_that_do_not_rise_begin_the_ring_anew() -> None:
    ring = Ring(4, 1, 0, 1)
    assert [ring.push(times(n)).restarted for n in (5, 6, 6, 0, 1)] == [False, False, True, True, False]
    assert ring.filled == 2


@pytest.mark.parametrize("bad", [(4, 0, 0, 0), (4, 5, 0, 0), (4, 2, 3, 0), (0, 1, 0, 0), (4, 1, 0, -1), (4, 1, 0, 4)])
def test_impossible_bags_are_refused(bad: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="no such bags"):
        Ring(*bad)


@st.composite
def rings(draw: st.DrawFn) -> tuple[Ring, list[int]]:
    length = draw(st.integers(1, 9))
    stride = draw(st.integers(1, length))
    delay = draw(st.integers(0, length - stride))
    gaps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 2, 3, 6]), max_size=40))
    segments = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    return Ring(length, stride, delay, draw(st.integers(0, min(3, length - 1))), file=True), segments


@given(rings())
def test_every_segment_of_a_file_is_published_exactly_once_in_order(case: tuple[Ring, list[int]]) -> None:
    ring, segments = case
    bags = run(ring, segments, end=True)
    assert [number for _, public in bags for number in public] == segments


@given(rings())
def test_a_bag_holds_what_was_written_to_its_slots(case: tuple[Ring, list[int]]) -> None:
    ring, segments = case
    store: dict[int, int] = {}

    def check(bag: Bag) -> None:
        assert bag.bridged <= ring.max_gap
        assert len(bag.slots) <= ring.length
        for slot, held in zip(bag.slots, bag.times, strict=True):
            if held is not None:
                assert store[slot] == held.number

    for number in segments:
        step = ring.push(times(number))
        for bag in step.before:
            check(bag)
        store[step.slot] = number
        for bag in step.bags:
            check(bag)
    for bag in ring.end():
        check(bag)


@given(rings())
def test_a_live_ring_publishes_no_segment_twice_and_none_of_a_short_bag(case: tuple[Ring, list[int]]) -> None:
    like, segments = case
    ring = Ring(like.length, like.stride, like.delay, like.max_gap)
    seen: list[int] = []
    for number in segments:
        for bag in ring.push(times(number)).bags:
            assert len(bag.slots) == ring.length
            seen += published(bag)
    assert seen == sorted(set(seen))
