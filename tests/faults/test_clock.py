"""The clock of the machine is stepped (unit level: stepping the real one would harm whoever else runs here)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from monitor.alerting.outbox import Outbox
from monitor.flow import CameraStatus
from monitor.watch import Watch
from tests.faults.results import Row, record
from tests.monitor.alerting.support import Clock, Plant, cameras
from tests.monitor.test_watch import BAGS as BAG_SETTINGS
from tests.monitor.test_watch import CARD, FULL, UP, camera

DAY_S = 86_400.0


class Stepped(Clock):
    """A clock whose wall time somebody sets; the monotonic one goes on."""

    step_s = 0.0

    def wall(self) -> float:
        return super().wall() + self.step_s


@pytest.mark.parametrize("step_s", [DAY_S, -DAY_S], ids=["forward", "back"])
def test_a_clock_that_is_set_ends_no_alarm_and_repeats_no_alert(step_s: float) -> None:
    clock = Stepped()
    it = Plant(Outbox(None, wall=clock.wall), clock=clock)
    it.alerts.start(cameras("gate"))
    it.score(0.9, 1)
    clock.step_s = step_s
    it.alerts.tick()
    for number in range(2, 6):
        it.score(0.9, number)
        it.alerts.tick()
    assert it.alerts.states()["gate"].raised, "silence is measured by the monotonic clock"
    for number in range(6, 9):
        it.score(0.1, number)
    told = [json.loads(letter.payload) for letter in it.letters()]
    assert [one["kind"] for one in told] == ["raised", "updated", "updated", "ended"]
    assert [one["seq"] for one in told] == [1, 2, 3, 4]
    moved_s = _at(told[-1]["decided_at"]) - _at(told[0]["decided_at"])
    assert moved_s == pytest.approx(step_s + 2 * 7 - 2, abs=3), "the times in messages are those of the new clock"
    word = "forward" if step_s > 0 else "back"
    record(Row(fault=f"clock set {word} by a day (fake clock)", seen="nothing but the new times", due=4, delivered=4))


@pytest.mark.parametrize("step_s", [DAY_S, -DAY_S], ids=["forward", "back"])
def test_a_clock_that_is_set_changes_no_status(step_s: float) -> None:
    clock = Stepped()
    watch = Watch(BAG_SETTINGS, 16.0, CARD, clock=clock.monotonic, wall=clock.wall)
    watch.configure([camera()])
    watch.look(UP, FULL, {})
    clock.step_s, clock.now_s = step_s, clock.now_s + 1
    assert watch.look(UP, FULL, {}) == {}
    assert watch.seen()["gate"].status is CameraStatus.OK


@pytest.mark.parametrize("step_s", [DAY_S, -DAY_S], ids=["forward", "back"])
def test_a_clock_that_is_set_changes_nothing_of_a_picture_but_the_time_it_is_told_with(step_s: float) -> None:
    clock = Stepped()
    watch = Watch(BAG_SETTINGS, 16.0, CARD, clock=clock.monotonic, wall=clock.wall)
    watch.configure([camera()])
    black = {"gate": replace(UP["gate"], picture_faults=("black",), drift_ppm=10.0, lag_s=0.1)}
    watch.look(black, FULL, {})
    told = watch.pictures()["gate"]
    assert (told.now.state, told.now.scored) == ("black", False)
    clock.step_s, clock.now_s = step_s, clock.now_s + 1
    watch.look(black, FULL, {})
    assert watch.pictures() == {}
    watch.look(UP, FULL, {})
    assert watch.pictures()["gate"].since_wall_s == pytest.approx(told.since_wall_s + step_s + 1)


def _at(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()
