"""Heartbeats: a loop that no longer turns is noticed."""

from __future__ import annotations

import asyncio
import time

from monitor.observe.health import EVENT_LOOP, Check, Heartbeats, watch_event_loop


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_no_loop_is_watched_before_its_first_beat() -> None:
    beats = Heartbeats(Clock())
    assert beats.oldest() is None
    assert beats.checks() == ()


def test_the_oldest_beat_is_that_of_the_loop_that_turned_longest_ago() -> None:
    clock = Clock()
    beats = Heartbeats(clock)
    beats.beat("scorer cpu")
    clock.now_s = 103.0
    beats.beat("event loop")
    clock.now_s = 104.5
    assert beats.oldest() == ("scorer cpu", 4.5)
    beats.beat("scorer cpu")
    assert beats.oldest() == ("event loop", 1.5)


def test_a_loop_is_well_until_ten_seconds_after_its_last_turn() -> None:
    clock = Clock()
    beats = Heartbeats(clock)
    beats.beat("scorer cuda:0")
    clock.now_s = 108.0
    beats.beat("event loop")
    clock.now_s = 110.0
    assert [check.ok for check in beats.checks()] == [True, True]
    clock.now_s = 110.1
    assert beats.checks() == (
        Check(name="event loop", ok=True, note="turned 2.1 s ago"),
        Check(name="scorer cuda:0", ok=False, note="turned 10.1 s ago"),
    )
    beats.beat("scorer cuda:0")
    assert all(check.ok for check in beats.checks())


def test_a_loop_that_ended_as_it_should_is_forgotten() -> None:
    beats = Heartbeats(Clock())
    beats.beat("scorer cpu")
    beats.forget("scorer cpu")
    beats.forget("never seen")
    assert beats.oldest() is None


def test_the_event_loop_beats_and_its_lag_is_measured_until_the_watch_is_cancelled() -> None:
    beats = Heartbeats()
    lags: list[float] = []

    async def live() -> None:
        watch = asyncio.create_task(watch_event_loop(beats, lags.append, every_s=0.01))
        await asyncio.sleep(0.1)
        assert beats.oldest() is not None
        assert beats.oldest()[0] == EVENT_LOOP  # type: ignore[index]
        lags.clear()
        time.sleep(0.3)  # blocks the loop: that is what is measured
        await asyncio.sleep(0.05)
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)

    asyncio.run(live())
    assert 0.2 < max(lags) < 5.0
    assert min(lags) >= 0.0
    assert beats.oldest() is None
