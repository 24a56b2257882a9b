"""Time stamps → whole segments: pure, so every pattern can be tried."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.ingest.segment import Arrival, Piece, Place, Resume, Segmenter


def at(stamp_s: float | None, captured_s: float | None = None) -> Arrival:
    captured_s = (stamp_s or 0.0) if captured_s is None else captured_s
    return Arrival(stamp_s=stamp_s, captured_s=captured_s, captured_wall_s=1e9 + captured_s)


def pieces(segmenter: Segmenter, arrivals: list[Arrival], finish: bool = False) -> list[Piece]:
    events = [event for arrival in arrivals for event in segmenter.push(arrival)]
    if finish:
        events += segmenter.finish()
    return [event for event in events if isinstance(event, Piece)]


def test_sixteen_frames_at_the_analysed_rate_make_a_segment() -> None:
    cut = pieces(Segmenter(fps=15, live=True), [at(i / 15) for i in range(33)])
    assert [(p.number, p.start_s, round(p.end_s, 6), p.invalid) for p in cut] == [
        (0, 0.0, 1.066667, None),
        (1, 16 / 15, 2.133333, None),
    ]
    assert cut[0].captured_s == 15 / 15
    assert cut[0].captured_wall_s == 1e9 + 1


def test_a_faster_source_is_thinned_and_a_slower_one_repeated() -> None:
    fast = Segmenter(fps=10, live=False)
    taken = [bool(fast.push(at(i / 30))) for i in range(9)]
    assert taken == [True, False, False] * 3
    slow = Segmenter(fps=10, live=False)
    places = [slow.push(at(i / 5)) for i in range(3)]
    assert places == [
        [Place(index=0, held=False)],
        [Place(index=1, held=True), Place(index=2, held=False)],
        [Place(index=3, held=True), Place(index=4, held=False)],
    ]


@pytest.mark.parametrize("every_s", [0.6, 1.0, 1.9])
@pytest.mark.parametrize("live", [True, False])
def test_a_source_slower_than_it_claims_is_found_out_and_its_frames_are_repeated(every_s: float, live: bool) -> None:
    segmenter = Segmenter(fps=15, live=live)
    segmenter.interrupt(1 / 25)
    cut = pieces(segmenter, [at((number + 0.1 * (number % 2)) * every_s) for number in range(40)])
    said = [piece.invalid for piece in cut]
    assert said.count("time_jump") <= 5
    assert said[-10:] == [None] * 10
    assert 0.9 * every_s < 1 / segmenter.source_fps < 1.2 * every_s


def test_holes_that_are_not_alike_stay_holes() -> None:
    stamps = [0.0, 0.6, 3.1, 3.8, 6.7, 7.3, 9.9, 10.6]
    cut = pieces(Segmenter(fps=15, live=True), [at(stamp_s) for stamp_s in stamps])
    assert [piece.invalid for piece in cut] == ["time_jump"] * 7


def test_25_frames_a_second_become_15() -> None:
    cut = pieces(Segmenter(fps=15, live=False), [at(i / 25) for i in range(100)])
    assert [round(p.start_s, 3) for p in cut] == [0.0, 1.067, 2.133]


def test_jitter_below_a_quarter_of_the_interval_loses_no_frame() -> None:
    segmenter = Segmenter(fps=15, live=True)
    events = [segmenter.push(at(i / 15 + (0.015 if i % 2 else 0.0))) for i in range(64)]
    assert [len([e for e in event if isinstance(e, Place)]) for event in events] == [1] * 64


def test_a_hole_gives_up_the_open_segment_and_the_numbers_jump_over_what_is_lost() -> None:
    stamps = [i / 16 for i in range(20)] + [11 + i / 16 for i in range(16)]
    cut = pieces(Segmenter(fps=16, live=False), [at(s) for s in stamps])
    assert [(p.number, p.start_s, p.invalid) for p in cut] == [(0, 0.0, None), (1, 1.0, "time_jump"), (11, 11.0, None)]


def test_a_clock_set_forward_is_no_hole_when_frames_kept_coming() -> None:
    arrivals = [at(i / 16, i / 16) for i in range(8)] + [at(3600 + i / 16, i / 16) for i in range(8, 32)]
    assert [(p.number, p.invalid) for p in pieces(Segmenter(fps=16, live=True), arrivals)] == [(0, None), (1, None)]


def test_a_clock_set_back_is_no_hole_when_frames_kept_coming() -> None:
    arrivals = [at(100 + i / 16, i / 16) for i in range(8)] + [at(i / 16, i / 16) for i in range(8, 32)]
    assert [(p.number, p.invalid) for p in pieces(Segmenter(fps=16, live=True), arrivals)] == [(0, None), (1, None)]


def test_a_file_that_starts_over_is_a_break() -> None:
    stamps = [i / 16 for i in range(40)] + [i / 16 for i in range(16)]
    cut = pieces(Segmenter(fps=16, live=False), [at(s) for s in stamps])
    assert [(p.number, p.invalid) for p in cut] == [(0, None), (1, None), (2, "time_jump"), (3, None)]


@pytest.mark.parametrize("stamp_s", [None, 7.0])
def test_without_usable_stamps_a_live_stream_is_timed_by_arrival(stamp_s: float | None) -> None:
    cut = pieces(Segmenter(fps=16, live=True), [at(stamp_s, i / 16) for i in range(100)])
    assert [p.number for p in cut] == [0, 1, 2, 3, 4, 5]
    assert {p.invalid for p in cut} == {None}


def test_without_stamps_a_file_is_timed_by_the_rate_it_claims() -> None:
    segmenter = Segmenter(fps=16, live=False)
    segmenter.interrupt(1 / 32)
    assert len(pieces(segmenter, [at(None, 0.0) for _ in range(96)])) == 3


def test_downtime_makes_the_number_jump_by_the_right_amount() -> None:
    segmenter = Segmenter(fps=16, live=True)
    first = pieces(segmenter, [at(i / 16, i / 16) for i in range(32)])
    segmenter.interrupt()
    second = pieces(segmenter, [at(i / 16, 12 + i / 16) for i in range(16)])
    assert [p.number for p in first] == [0, 1]
    assert [(p.number, round(p.start_s, 2), p.invalid) for p in second] == [(12, 12.0, None)]


def test_a_new_process_goes_on_where_the_former_ended() -> None:
    segmenter = Segmenter(fps=16, live=True, resume=Resume(number=41, end_s=42.0, captured_s=100.0))
    cut = pieces(segmenter, [at(i / 16, 105 + i / 16) for i in range(16)])
    assert [(p.number, p.start_s) for p in cut] == [(47, 47.0)]


@pytest.mark.parametrize(
    ("frames", "ends_s"),
    [
        (1, [0.0625]),
        (7, [0.4375]),
        (16, [1.0]),
        (23, [1.0]),
        (24, [1.0, 1.5]),
        (32, [1.0, 2.0]),
    ],
)
def test_the_tail_of_a_file_is_filled_up_or_dropped(frames: int, ends_s: list[float]) -> None:
    cut = pieces(Segmenter(fps=16, live=False), [at(i / 16) for i in range(frames)], finish=True)
    assert [p.end_s for p in cut] == ends_s


def test_a_faulty_frame_spoils_its_segment_and_the_one_that_repeats_it() -> None:
    segmenter = Segmenter(fps=16, live=False)
    events = [e for i in range(48) for e in segmenter.push(at(i / 16), "decode_error" if i == 20 else None)]
    assert [e.invalid for e in events if isinstance(e, Piece)] == [None, "decode_error", None]


@settings(max_examples=200, deadline=None)
@given(kept=st.lists(st.booleans(), min_size=200, max_size=400), fps=st.sampled_from([5.0, 8.0, 15.0, 25.0]))
def test_frames_that_the_decoder_skips_leave_every_segment_in_its_place(kept: list[bool], fps: float) -> None:
    # Every seventh is kept, so no step is above 0.28 s; half a segment at 25 analysed frames, 0.32 s, is a hole.
    left = [i for i, whole in enumerate(kept) if whole or i % 7 == 0]
    stamps = [i / 25 for i in left]
    whole, skipped = (
        pieces(Segmenter(fps=fps, live=True), [at(s) for s in given])
        for given in ([i / 25 for i in range(left[-1] + 1)], stamps)
    )
    assert [(p.number, p.start_s, p.end_s, p.invalid) for p in skipped] == [
        (p.number, p.start_s, p.end_s, p.invalid) for p in whole
    ]
    assert all(p.invalid is None for p in skipped)


STEPS = st.one_of(
    st.floats(0.01, 0.3),
    st.just(0.0),
    st.floats(-5, 0),
    st.floats(0.3, 20),
    st.sampled_from([1e5, -1e5, 2**33 / 90_000]),
)


@settings(max_examples=300, deadline=None)
@given(
    steps=st.lists(st.tuples(STEPS, st.floats(0, 2), st.booleans(), st.integers(0, 30)), max_size=150),
    live=st.booleans(),
    fps=st.sampled_from([1.0, 5.0, 15.0, 30.0]),
)
def test_whatever_the_stamps_are_segments_are_whole_and_without_holes(
    steps: list[tuple[float, float, bool, int]], live: bool, fps: float
) -> None:
    segmenter = Segmenter(fps=fps, live=live)
    stamp_s, captured_s = 0.0, 50.0
    number, start_s, expected = -1, -1.0, 0
    for step_s, waited_s, missing, event in steps:
        stamp_s, captured_s = stamp_s + step_s, captured_s + waited_s
        if event == 0:
            segmenter.interrupt(None)
        tolerance_s = segmenter.tolerance_s
        events = segmenter.push(at(None if missing else stamp_s, captured_s))
        assert len(events) <= (tolerance_s + 1) * fps * 2 + 4, "a hole is not filled with one picture"
        for item in events:
            if isinstance(item, Place):
                assert item.index == expected
                expected = (expected + 1) % 16
            else:
                assert expected == 0 or item.invalid == "time_jump"
                assert item.number > number
                assert item.start_s > start_s
                assert item.end_s <= item.start_s + 16 / fps + 1e-6
                number, start_s, expected = item.number, item.start_s, 0
