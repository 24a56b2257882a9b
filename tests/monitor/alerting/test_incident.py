"""Floods: many cameras at once, one camera too often, a broker that takes nothing."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from monitor.alerting.outbox import Letter, Outbox
from monitor.config import AlertSettings, Storm
from monitor.flow import Evidence

from .support import Clock, Plant, cameras

NAMES = tuple("abcdefgh")
STORM = AlertSettings(storm=Storm(cameras=3, within_s=10.0, lull_s=30.0, update_every_s=5.0))


def plant(outbox: Outbox, given: AlertSettings = STORM, *, evidence: bool = False, clock: Clock | None = None) -> Plant:
    it = Plant(outbox, evidence=evidence, clock=clock, settings=given)
    it.alerts.start(cameras(*NAMES, cooldown_s=0.0))
    return it


@pytest.fixture
def it(tmp_path: Path) -> Any:
    clock = Clock()
    with Outbox(tmp_path / "outbox.sqlite", wall=clock.wall) as outbox:
        yield plant(outbox, clock=clock)


def told(letters: list[Letter], what: str) -> list[dict[str, Any]]:
    return [json.loads(letter.payload) for letter in letters if letter.topic.endswith(what)]


def kinds(messages: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(message["seq"], message["kind"]) for message in messages]


def test_three_cameras_within_ten_seconds_are_one_incident_which_closes_with_the_last(it: Plant) -> None:
    for number, name in enumerate("abc"):
        it.score(0.9, number, name)
    letters = it.letters()
    incident = told(letters, "/incident")
    assert kinds(incident) == [(1, "opened")]
    assert [(one["camera"], one["state"]) for one in incident[0]["members"]] == [(x, "raised") for x in "abc"]
    assert incident[0]["reason"] == "3 cameras raised alarms within 10 s"
    assert [one["incident_id"] for one in told(letters, "/alert")] == [None, None, incident[0]["incident_id"]]
    for name in "abc":
        for number in (4, 5, 6, 7):
            it.score(0.1, number, name)
    letters = it.letters()
    assert kinds(told(letters, "/alert")) == [(2, "ended")] * 3, "no updates in between"
    assert {one["incident_id"] for one in told(letters, "/alert")} == {incident[0]["incident_id"]}
    closed = told(letters, "/incident")[-1]
    assert (closed["kind"], closed["raised"], closed["open_incidents"]) == ("closed", 0, 0)
    assert closed["reason"] == "all alarms of its cameras have ended"


@pytest.mark.parametrize(("apart", "opens"), [(4, True), (6, False)])
def test_alarms_further_apart_are_no_incident(it: Plant, apart: int, opens: bool) -> None:
    for number, name in ((0, "a"), (1, "b"), (1 + apart, "c")):
        it.score(0.9, number, name)
    assert bool(told(it.letters(), "/incident")) is opens


def test_an_alarm_that_has_ended_does_not_count(it: Plant) -> None:
    it.score(0.9, 0, "a")
    it.alerts.end("a", "tried")
    for name in "bc":
        it.score(0.9, 1, name)
    assert told(it.letters(), "/incident") == []


def test_who_comes_after_the_lull_is_no_member(it: Plant) -> None:
    for name in "abc":
        it.score(0.9, 0, name)
    it.score(0.9, 10, "d")
    it.score(0.9, 30, "e")
    ids = {one["camera"]: one["incident_id"] for one in told(it.letters(), "/alert")}
    assert (ids["d"] == ids["c"], ids["e"]) == (True, None)


def test_an_incident_is_updated_at_most_every_five_seconds(it: Plant) -> None:
    for number, name in enumerate("abcde"):
        it.score(0.9, 0 if number < 3 else 1, name)
    assert kinds(told(it.letters(), "/incident")) == [(1, "opened")]
    it.clock.now_s += 5
    it.alerts.tick()
    (update,) = told(it.letters(), "/incident")
    assert (update["seq"], update["kind"], len(update["members"])) == (2, "updated", 5)
    it.clock.now_s += 5
    it.alerts.tick()
    assert it.letters() == [], "nothing new"


def test_in_an_incident_evidence_is_told_and_periodic_updates_are_counted(tmp_path: Path) -> None:
    with Outbox(None, wall=Clock().wall) as outbox:
        it = plant(outbox, evidence=True)
        for name in "abc":
            it.score(0.9, 0, name)
        it.letters()
        for number in range(1, 20):
            it.score(0.95, number, "a")
        it.alerts.evidence_done(it.wanted[0].token, Evidence(clip="x.mp4", clip_sha256="a" * 64))
        alerts = told(it.letters(), "/alert")
        assert [(one["seq"], one["reason"], one["peak_score"]) for one in alerts] == [(2, "evidence ready", 0.95)]
        assert it.alerts.held_back["incident"] > 3


def test_an_end_that_waits_for_its_evidence_carries_the_incident_that_opened_meanwhile() -> None:
    with Outbox(None, wall=Clock().wall) as outbox:
        it = plant(outbox, evidence=True)
        it.score(0.9, 0, "a")
        it.alerts.end("a", "tried")
        for name in "bc":
            it.score(0.9, 1, name)
        it.alerts.evidence_done(it.wanted[0].token, Evidence(clip="x.mp4", clip_sha256="a" * 64))
        letters = it.letters()
        (end,) = [one for one in told(letters, "/alert") if one["kind"] == "ended"]
        (opened,) = told(letters, "/incident")
        assert end["incident_id"] == opened["incident_id"]


def test_evidence_that_comes_all_at_once_is_told_at_the_rate_and_lost_never(tmp_path: Path) -> None:
    with Outbox(None, wall=Clock().wall) as outbox:
        it = plant(outbox, AlertSettings(storm=None, updates_per_s=2.0), evidence=True)
        for name in NAMES:
            it.score(0.9, 0, name)
        it.letters()
        for wanted in it.wanted:
            it.alerts.evidence_done(wanted.token, Evidence(clip="x.mp4", clip_sha256="a" * 64))
        counts = [len(it.letters())]
        for _ in range(4):
            it.clock.now_s += 1
            it.alerts.tick()
            counts.append(len(it.letters()))
        assert counts == [2, 2, 2, 2, 0]


def test_while_the_broker_takes_nothing_updates_are_not_even_written_down(tmp_path: Path) -> None:
    clock = Clock()
    with Outbox(tmp_path / "outbox.sqlite", wall=clock.wall) as outbox:
        it = plant(outbox, AlertSettings(storm=None), clock=clock)
        for number in range(1800):  # an hour of one alarm, told every 6 s were there a broker
            it.score(0.9, number, "a")
        assert len(outbox) <= 7
        for number in range(1800, 1804):
            it.score(0.1, number, "a")
        alerts = told(it.letters(), "/alert")
    assert [one["seq"] for one in alerts] == list(range(1, len(alerts) + 1))
    assert (alerts[0]["kind"], alerts[-1]["kind"]) == ("raised", "ended")
    assert it.alerts.held_back["backlog"] > 500


def test_a_camera_that_flaps_is_told_once_more_and_stays_raised_until_it_is_calm(tmp_path: Path) -> None:
    clock = Clock()
    with Outbox(tmp_path / "outbox.sqlite", wall=clock.wall) as outbox:
        it = plant(outbox, AlertSettings(storm=None, most_per_hour=5), clock=clock)
        number = 0
        for _ in range(50):  # up, and down for long enough, every 12 s
            for score in (0.9, 0.1, 0.1, 0.1, 0.1, 0.1):
                it.score(score, number, "a")
                number += 1
        alerts = told(it.letters(), "/alert")
        assert kinds(alerts) == [(1, "raised"), (2, "ended")] * 5 + [(1, "raised")]
        assert alerts[-1]["reason"].startswith("too many alarms (more than 5 within an hour): told once")
        assert it.alerts.states()["a"].raised and it.alerts.held_back["flapping"] == 44
        for _ in range(320):  # calm
            it.score(0.1, number, "a")
            number += 1
            it.alerts.tick()
        assert kinds(told(it.letters(), "/alert")) == [(2, "ended")]
        assert not it.alerts.states()["a"].raised


@pytest.mark.parametrize("how", ["lost", "disarmed", "stopped", "removed"])
def test_the_lasting_alert_of_a_camera_that_flaps_ends_with_what_ends_alarms(tmp_path: Path, how: str) -> None:
    clock = Clock()
    with Outbox(None, wall=clock.wall) as outbox:
        it = plant(outbox, AlertSettings(storm=None, most_per_hour=1), clock=clock)
        for number, score in enumerate((0.9, 0.1, 0.1, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1)):
            it.score(score, number, "a")
        assert it.alerts.states()["a"].raised
        it.letters()
        if how == "lost":
            clock.now_s += 100
            it.alerts.tick()
        elif how == "disarmed":
            it.alerts.disarmed("a", "holiday")
        elif how == "stopped":
            it.alerts.stop()
        else:
            it.alerts.configure(cameras("b"))
        assert kinds(told(it.letters(), "/alert")) == [(2, "ended")]
        it.alerts.tick()
        assert it.letters() == []


class Floods(RuleBasedStateMachine):
    """Alarms come, go and are ended from outside, the monitor is killed: at the end every alarm and every incident has
    been told whole, and every member is in one incident."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.heard: list[Letter] = []
        self.ids = 0
        self.open()

    def open(self) -> None:
        self.outbox = Outbox(Path(self.folder.name) / "outbox.sqlite", wall=self.clock.wall)
        self.it = Plant(self.outbox, evidence=True, clock=self.clock, settings=STORM)
        self.it.ids = self.ids
        self.it.alerts.start(cameras(*NAMES, cooldown_s=0.0, clear_after_s=2.0))

    def number(self) -> int:
        self.clock.now_s += 2.0
        return round((self.clock.now_s - 1000.0) / 2.0)

    @rule(names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True), up=st.booleans())
    def score(self, names: list[str], up: bool) -> None:
        number = self.number()
        for name in names:
            self.it.score(0.9 if up else 0.1, number, name)

    @rule(name=st.sampled_from(NAMES))
    def end(self, name: str) -> None:
        self.it.alerts.end(name, "ended from outside")

    @precondition(lambda self: self.it.wanted)
    @rule()
    def evidence(self) -> None:
        wanted = self.it.wanted.pop()
        self.it.alerts.evidence_done(wanted.token, Evidence(clip="x.mp4", clip_sha256="a" * 64))

    @rule(passed=st.sampled_from((2, 6, 20, 40)))
    def wait(self, passed: int) -> None:
        self.clock.now_s += passed
        self.it.alerts.tick()

    @rule()
    def listen(self) -> None:
        self.heard += self.it.letters()

    @rule()
    def kill(self) -> None:
        self.ids = self.it.ids
        self.outbox.close()
        self.open()

    @rule(kept=st.sets(st.sampled_from(NAMES), min_size=1))
    def remove(self, kept: set[str]) -> None:
        self.it.alerts.configure(cameras(*kept, cooldown_s=0.0, clear_after_s=2.0))
        self.it.alerts.configure(cameras(*NAMES, cooldown_s=0.0, clear_after_s=2.0))

    def teardown(self) -> None:
        if not hasattr(self, "it"):
            return
        self.it.alerts.stop()
        self.heard += self.it.letters()
        assert self.outbox.open_alarms() == self.outbox.open_incidents() == {}
        self.outbox.close()
        self.folder.cleanup()
        alerts, incidents = (
            whole(told(self.heard, "/alert"), "alert_id"),
            whole(told(self.heard, "/incident"), "incident_id"),
        )
        belongs = {alert_id: messages[-1]["incident_id"] for alert_id, messages in alerts.items()}
        for messages in alerts.values():
            said = [one["incident_id"] for one in messages]
            assert said == sorted(said, key=lambda one: one is not None), "once a member, always one"
            assert len(set(said) - {None}) <= 1
        members: dict[str, str] = {}
        for incident_id, messages in incidents.items():
            assert (messages[0]["kind"], messages[-1]["kind"]) == ("opened", "closed")
            assert {one["state"] for one in messages[-1]["members"]} == {"ended"}
            assert len(messages[0]["members"]) >= 3
            for member in messages[-1]["members"]:
                assert member["alert_id"] not in members, "in two incidents"
                members[member["alert_id"]] = incident_id
        assert members == {alert_id: incident_id for alert_id, incident_id in belongs.items() if incident_id}


def whole(messages: list[dict[str, Any]], key: str) -> dict[str, list[dict[str, Any]]]:
    """By id; each from its first to its last number without a hole, in order, with one end."""
    found: dict[str, list[dict[str, Any]]] = {}
    for message in messages:
        found.setdefault(message[key], []).append(message)
    for told_of in found.values():
        assert [one["seq"] for one in told_of] == list(range(1, len(told_of) + 1))
        assert [one["kind"] in ("ended", "closed") for one in told_of] == [False] * (len(told_of) - 1) + [True]
    return found


TestFloods = Floods.TestCase
TestFloods.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
