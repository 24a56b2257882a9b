from __future__ import annotations

import json
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.alerting.alerts import AlarmCamera, EvidenceWanted
from monitor.alerting.contract import level
from monitor.alerting.outbox import Letter, Outbox
from monitor.flow import Evidence

from .support import NOON, Plant, bag, cameras, thresholds

PROOF = Evidence(clip="/anywhere/clip.mp4", clip_sha256="a" * 64, snapshot="/anywhere/s.jpg", snapshot_sha256="b" * 64)


def plant(*names: str, evidence: bool = False, **limits: float) -> Plant:
    made = Plant(Outbox(None, wall=lambda: NOON), evidence=evidence)
    made.alerts.start(cameras(*(names or ("gate",)), **limits))
    return made


def told(letters: list[Letter]) -> list[tuple[str, int, str, str]]:
    return [(x.alert_id, x.seq, x.kind, payload["reason"]) for x in letters for payload in [json.loads(x.payload)]]


def payloads(letters: list[Letter]) -> list[dict[str, Any]]:
    return [json.loads(letter.payload) for letter in letters]


def test_an_incident_is_raised_updated_and_ended() -> None:
    it = plant()
    for number, score in enumerate([0.1, 0.7, 0.9, 0.8, 0.7, 0.2, 0.2, 0.2]):
        it.score(score, number)
    letters = it.letters()
    assert told(letters) == [
        ("a1", 1, "raised", "score above threshold"),
        ("a1", 2, "updated", "alarm still raised"),
        ("a1", 3, "ended", "score below clear threshold"),
    ]
    assert {letter.topic for letter in letters} == {"vad/plant-7/cameras/gate/alert"}
    assert it.due == 3
    raised, updated, ended = payloads(letters)
    assert raised == {
        "schema_version": 1,
        "alert_id": "a1",
        "seq": 1,
        "kind": "raised",
        "site": "plant-7",
        "camera": "gate",
        "reason": "score above threshold",
        "score": 0.7,
        "peak_score": 0.7,
        "threshold": 0.6,
        "long_term": 0.7,
        "short_term": 0.7,
        "bridged": 0,
        "onset_at": "2026-03-01T12:00:00.000Z",
        "captured_at": "2026-03-01T12:00:02.000Z",
        "decided_at": "2026-03-01T12:00:02.000Z",
        "evidence": {"state": "none", "clip": None, "snapshot": None, "note": None},
        "labels": {},
        "incident_id": None,
    }
    assert (updated["peak_score"], updated["captured_at"]) == (0.9, "2026-03-01T12:00:08.000Z")
    assert (ended["score"], ended["peak_score"]) == (0.2, 0.9)


def test_nothing_is_shown_as_raised_before_it_is_committed() -> None:
    it = plant()
    seen: list[tuple[bool, int]] = []
    it.alerts._on_state = lambda state: seen.append((state.raised, len(it.outbox)))
    it.score(0.9, 1)
    assert seen == [(True, 1)]
    assert it.alerts.states()["gate"].alert_id == "a1"


def test_a_disk_that_fails_at_the_commit_does_not_silence_the_alarm(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.sqlite", wall=lambda: NOON) as outbox:
        it = Plant(outbox)
        it.alerts.start(cameras("gate"))
        outbox._need_base().close()
        it.score(0.9, 1)
        assert it.alerts.states()["gate"].raised
        assert told(it.letters()) == [("a1", 1, "raised", "score above threshold")]


def test_all_published_segments_of_a_bag_are_one_commit() -> None:
    it = plant(clear_after_s=0)
    it.alerts.score(bag([0.1, 0.9, 0.1, 0.1], newest=3, published=[0, 1, 2, 3]))
    assert (told(it.letters()), it.due) == (
        [
            ("a1", 1, "raised", "score above threshold"),
            ("a1", 2, "ended", "score below clear threshold"),
        ],
        1,
    )


def test_the_onset_is_the_beginning_of_the_segment_in_which_the_score_began_to_rise() -> None:
    it = plant()
    it.alerts.score(bag([0.1, 0.3, 0.5, 0.9], newest=9))
    (raised,) = payloads(it.letters())
    # Segment 7 was captured at second 14 and is two seconds long.
    assert raised["onset_at"] == "2026-03-01T12:00:12.000Z"
    assert raised["captured_at"] == "2026-03-01T12:00:18.000Z"


def test_with_a_minimum_duration_the_onset_is_sought_from_the_first_crossing() -> None:
    it = plant(min_duration_s=4)
    it.score(0.7, 7)
    it.score(0.8, 8)
    it.alerts.score(bag([0.1, 0.1, 0.7, 0.8, 0.9], newest=9))
    (raised,) = payloads(it.letters())
    assert raised["onset_at"] == "2026-03-01T12:00:12.000Z"


def test_a_score_that_is_not_a_number_is_refused_once_in_the_log_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    it = plant()
    it.score(float("nan"), 1)
    it.score(float("nan"), 2)
    assert (it.letters(), it.alerts.states()["gate"].raised) == ([], False)
    assert caplog.text.count("score refused") == 1


class TestObserve:
    def observed(self) -> Plant:
        it = plant()
        it.alerts.configure({"gate": AlarmCamera(thresholds=thresholds(), mode="observe")})
        return it

    def test_an_observed_camera_publishes_no_alert_but_keeps_its_state(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        it = self.observed()
        it.score(0.9, 1)
        state = it.alerts.states()["gate"]
        assert (state.raised, state.would_raise, state.score) == (False, True, pytest.approx(0.9))
        assert it.letters() == []
        assert "camera 'gate': would be raised (mode observe, nothing is published" in caplog.text

    def test_turned_to_alert_it_raises_with_the_next_score(self) -> None:
        it = self.observed()
        it.score(0.9, 1)
        it.alerts.configure(cameras("gate"))
        it.score(0.9, 2)
        assert told(it.letters()) == [("a1", 1, "raised", "score above threshold")]

    def test_turned_to_observe_its_alarm_ends(self) -> None:
        it = plant()
        it.score(0.9, 1)
        it.alerts.configure({"gate": AlarmCamera(thresholds=thresholds(), mode="observe")})
        assert told(it.letters())[-1] == ("a1", 2, "ended", "mode changed to observe")


class TestEnds:
    def test_a_lost_camera_ends_its_alarm_after_a_bounded_time(self) -> None:
        it = plant()
        it.score(0.9, 1)
        it.alerts.lost("gate", "no frame for 10 s")
        it.clock.now_s += 59
        it.alerts.tick()
        assert it.alerts.states()["gate"].raised
        it.clock.now_s += 1
        it.alerts.tick()
        it.alerts.tick()
        assert told(it.letters())[1:] == [("a1", 2, "ended", "camera lost: no frame for 10 s")]

    def test_a_camera_that_gives_no_scores_for_whatever_reason_ends_its_alarm_too(self) -> None:
        it = plant()
        it.score(0.9, 1)
        it.clock.now_s += 60
        it.alerts.tick()
        assert told(it.letters())[-1] == ("a1", 2, "ended", "no score for 60 s")

    def test_a_camera_that_comes_back_in_time_keeps_its_alarm(self) -> None:
        it = plant()
        it.score(0.9, 1)
        it.alerts.lost("gate", "no frame for 10 s")
        it.score(0.9, 25)
        it.clock.now_s += 59
        it.alerts.tick()
        assert it.alerts.states()["gate"].raised

    def test_a_removed_camera_ends_its_alarm_and_is_forgotten(self) -> None:
        it = plant("gate", "yard")
        it.score(0.9, 1)
        it.alerts.configure(cameras("yard"))
        it.score(0.9, 2)
        assert told(it.letters())[1:] == [("a1", 2, "ended", "camera removed or renamed")]
        assert set(it.alerts.states()) == {"yard"}

    def test_a_disarmed_camera_ends_its_alarm_and_raises_none_until_armed(self) -> None:
        it = plant(cooldown_s=0)
        it.score(0.9, 1)
        it.alerts.disarmed("gate", "outside its armed hours")
        it.score(0.9, 2)
        assert told(it.letters())[1:] == [("a1", 2, "ended", "outside its armed hours")]
        it.alerts.armed("gate")
        it.score(0.9, 3)
        assert told(it.letters()) == [("a2", 1, "raised", "score above threshold")]

    def test_a_monitor_that_stops_ends_every_alarm(self) -> None:
        it = plant("gate", "yard", evidence=True)
        it.score(0.9, 1)
        it.score(0.9, 1, "yard")
        it.alerts.stop()
        letters = it.letters()
        assert told(letters)[2:] == [
            ("a1", 2, "ended", "monitor stopped"),
            ("a2", 2, "ended", "monitor stopped"),
        ]
        assert payloads(letters)[-1]["evidence"]["note"] == "monitor stopped before the evidence was finished"

    def test_what_is_scored_after_the_end_raises_nothing(self) -> None:
        it = plant(cooldown_s=0)
        it.score(0.9, 1)
        it.alerts.stop()
        it.score(0.9, 2)
        assert told(it.letters())[1:] == [("a1", 2, "ended", "monitor stopped")]
        assert not it.alerts.states()["gate"].raised

    def test_alarms_are_counted_also_those_that_began_and_ended_in_one_bag(self) -> None:
        it = plant("gate", clear_after_s=0, cooldown_s=0)
        it.alerts.score(bag([0.9, 0.1, 0.9, 0.1], newest=4, published=[0, 1, 2, 3]))
        assert (it.alerts.states()["gate"].alarms, it.alerts.states()["gate"].raised) == (2, False)

    def test_new_thresholds_hold_for_a_raised_alarm(self) -> None:
        it = plant()
        it.score(0.7, 1)
        it.alerts.configure(cameras("gate", raise_at=0.9, clear_at=0.8, clear_after_s=0))
        it.score(0.7, 2)
        assert told(it.letters())[1:] == [("a1", 2, "ended", "score below clear threshold")]


def test_what_a_former_life_left_open_is_ended_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with Outbox(path, wall=lambda: NOON) as outbox:
        it = Plant(outbox, evidence=True)
        it.alerts.start(cameras("gate", "yard"))
        it.score(0.9, 1)
        it.score(0.8, 1, "yard")
    with Outbox(path, wall=lambda: NOON) as outbox:
        it = Plant(outbox)
        it.alerts.start(cameras("yard"))
        letters = it.letters()
        assert told(letters) == [
            ("a1", 1, "raised", "score above threshold"),
            ("a2", 1, "raised", "score above threshold"),
            ("a1", 2, "ended", "camera removed or renamed"),
            ("a2", 2, "ended", "monitor restarted"),
        ]
        assert payloads(letters)[2]["evidence"] == {
            "state": "none",
            "clip": None,
            "snapshot": None,
            "note": "the monitor restarted before the evidence was finished",
        }
        it.alerts.tick()
        assert (it.letters(), outbox.open_alarms()) == ([], {})


class TestEvidence:
    def test_it_is_asked_for_when_the_alert_is_due_with_paths_inside_the_folder(self) -> None:
        it = plant(evidence=True)
        it.alerts.score(bag([0.1, 0.5, 0.7, 0.9], newest=9, attention=[0.1, 0.2, 0.6, 0.1]))
        assert it.wanted == [
            EvidenceWanted(
                token="a1",
                camera="gate",
                clip="gate/2026-03-01/a1.mp4",
                snapshot="gate/2026-03-01/a1.jpg",
                from_captured_s=1000 + 14 - 2 + 2 - 2 - 5,  # segment 7 began at 1012; five seconds before
                to_captured_s=1000 + 18 + 5,
                snapshot_captured_s=1000 + 16,
                snapshot_wall_s=NOON + 16,
            )
        ]
        assert payloads(it.letters())[0]["evidence"]["state"] == "pending"

    @pytest.mark.parametrize("name", ["../../etc", "/abs", "a/b", "..", ".hidden", "a\\b", "nul\0", ""])
    def test_no_name_of_a_camera_leads_out_of_the_folder(self, name: str, tmp_path: Path) -> None:
        it = plant(name, evidence=True)
        it.score(0.9, 1, name)
        (wanted,) = it.wanted
        for link in (wanted.clip, wanted.snapshot):
            assert len(Path(link).parts) == 3
            assert (tmp_path / link).resolve().is_relative_to(tmp_path.resolve())
            assert ".." not in Path(link).parts

    def test_an_update_tells_where_it_lies_with_our_own_links(self) -> None:
        it = plant(evidence=True)
        it.score(0.9, 1)
        it.alerts.evidence_done("a1", PROOF)
        it.score(0.9, 5)
        letters = it.letters()
        assert told(letters)[1:] == [
            ("a1", 2, "updated", "evidence ready"),
            ("a1", 3, "updated", "alarm still raised"),
        ]
        ready = {
            "state": "ready",
            "clip": {"link": "gate/2026-03-01/a1.mp4", "sha256": "a" * 64},
            "snapshot": {
                "link": "gate/2026-03-01/a1.jpg",
                "sha256": "b" * 64,
                "captured_at": "2026-03-01T12:00:02.000Z",
            },
            "note": None,
        }
        assert [payload["evidence"] for payload in payloads(letters)[1:]] == [ready, ready]

    def test_a_clip_that_mp4_cannot_hold_is_linked_by_the_name_it_has(self) -> None:
        it = plant(evidence=True)
        it.score(0.9, 1)
        it.alerts.evidence_done("a1", replace(PROOF, clip="gate/2026-03-01/a1.mkv"))
        assert payloads(it.letters())[1]["evidence"]["clip"]["link"] == "gate/2026-03-01/a1.mkv"

    def test_ended_waits_for_it_and_stays_the_last_message(self) -> None:
        it = plant(evidence=True, clear_after_s=0)
        it.score(0.9, 1)
        it.score(0.1, 2)
        assert told(it.letters()) == [("a1", 1, "raised", "score above threshold")]
        assert it.alerts.states()["gate"].raised, "not calm before its ended is committed"
        it.clock.now_s += 3
        it.alerts.evidence_done("a1", PROOF)
        letters = it.letters()
        assert told(letters) == [
            ("a1", 2, "updated", "evidence ready"),
            ("a1", 3, "ended", "score below clear threshold"),
        ]
        ended = payloads(letters)[1]
        assert ended["decided_at"] == "2026-03-01T12:00:04.000Z", "of the decision, not of the wait"
        assert ended["evidence"]["state"] == "ready"
        assert not it.alerts.states()["gate"].raised

    def test_ended_does_not_wait_for_ever(self) -> None:
        it = plant(evidence=True, clear_after_s=0)
        it.score(0.9, 1)
        it.score(0.1, 2)
        it.clock.now_s = 1002 + 19.9
        it.alerts.tick()
        assert len(it.letters()) == 1
        it.clock.now_s = 1002 + 20
        it.alerts.tick()
        letters = it.letters()
        assert told(letters) == [("a1", 2, "ended", "score below clear threshold")]
        assert payloads(letters)[0]["evidence"]["note"] == "the evidence was not finished in time"
        it.alerts.evidence_done("a1", PROOF)
        assert it.letters() == [], "nothing follows ended"

    def test_the_next_alarm_does_not_wait_for_it(self) -> None:
        it = plant(evidence=True, clear_after_s=0, cooldown_s=0)
        it.score(0.9, 1)
        it.score(0.1, 2)
        it.score(0.9, 3)
        assert told(it.letters()) == [
            ("a1", 1, "raised", "score above threshold"),
            ("a1", 2, "ended", "score below clear threshold"),
            ("a2", 1, "raised", "score above threshold"),
        ]
        it.alerts.evidence_done("a1", PROOF)
        assert it.letters() == []

    def test_evidence_that_came_late_but_while_raised_is_told(self) -> None:
        it = plant(evidence=True)
        it.score(0.9, 1)
        it.score(0.9, 30)
        it.alerts.tick()
        it.alerts.evidence_done("a1", PROOF)
        assert told(it.letters())[-1] == ("a1", 3, "updated", "evidence ready")

    def test_evidence_that_failed_says_why(self) -> None:
        it = plant(evidence=True)
        it.score(0.9, 1)
        it.alerts.evidence_done("a1", Evidence(note="the disk is full"))
        assert payloads(it.letters())[1]["evidence"] == {
            "state": "none",
            "clip": None,
            "snapshot": None,
            "note": "the disk is full",
        }


actions = st.lists(
    st.one_of(
        st.tuples(st.just("score"), st.sampled_from(["gate", "yard"]), st.floats(0, 1)),
        st.tuples(st.just("score"), st.sampled_from(["gate", "yard"]), st.sampled_from([0.1, 0.9])),
        st.tuples(st.just("evidence"), st.integers(1, 12)),
        st.tuples(st.sampled_from(["tick", "configure", "remove", "silence", "disarm", "arm", "restart"])),
    ),
    max_size=80,
)


@settings(max_examples=150, deadline=None)
@given(script=actions, limits=st.sampled_from([(0.0, 0.0), (4.0, 0.0), (0.0, 10.0)]))
def test_whatever_happens_every_alert_is_raised_numbered_and_ended_once(
    script: list[tuple[Any, ...]], limits: tuple[float, float]
) -> None:
    clear_after_s, cooldown_s = limits
    both = cameras("gate", "yard", clear_after_s=clear_after_s, cooldown_s=cooldown_s)
    outbox = Outbox(None, wall=lambda: NOON)
    it = Plant(outbox, evidence=True)
    it.alerts.start(both)
    number = 0
    for action in script:
        number += 1
        match action:
            case ("score", str(name), float(score)):
                it.score(score, number, name)
            case ("evidence", int(which)):
                it.alerts.evidence_done(f"a{which}", PROOF)
            case ("tick",):
                it.alerts.tick()
            case ("configure",):
                it.alerts.configure(both)
            case ("remove",):
                it.alerts.configure({"yard": both["yard"]})
            case ("silence",):
                number += 40
                it.clock.now_s += 80
                it.alerts.tick()
            case ("disarm",):
                it.alerts.disarmed("gate", "outside its armed hours")
            case ("arm",):
                it.alerts.armed("gate")
            case ("restart",):
                again = Plant(outbox, evidence=True, clock=it.clock)
                again.ids = it.ids
                it = again
                it.alerts.start(both)
    it.alerts.stop()

    letters = it.letters()
    by_alert: dict[str, list[Letter]] = {}
    for letter in letters:
        by_alert.setdefault(letter.alert_id, []).append(letter)
    for told_of in by_alert.values():
        assert [letter.seq for letter in told_of] == list(range(1, len(told_of) + 1))
        kinds = [letter.kind for letter in told_of]
        assert kinds == ["raised", *["updated"] * (len(kinds) - 2), "ended"]
    for name in ("gate", "yard"):
        topic = f"vad/plant-7/cameras/{name}/alert"
        order = [letter.alert_id for letter in letters if letter.topic == topic]
        runs = [alert_id for alert_id, _ in groupby(order)]
        assert len(runs) == len(set(runs)), "one camera's alerts never overlap"
    assert outbox.open_alarms() == {}
    assert not any(state.raised for state in it.alerts.states().values())


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=2, max_size=8))
def test_two_names_never_share_a_level_and_none_leaves_it(names: list[str]) -> None:
    levels = [level(name) for name in names]
    assert len(set(levels)) == len(set(names))
    for one in levels:
        assert not set(one) & set("/+#\\\0")
        assert one not in {"", ".", ".."}
