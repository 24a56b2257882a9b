"""What the monitor knows of each camera, from literal facts; clocks are arguments."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.alerting.contract import AlarmState
from monitor.config import Camera, Schedule, StreamUrl, Thresholds, Window
from monitor.flow import BagScore, CameraStatus, SegmentTimes
from monitor.ingest.wire import CameraHealth
from monitor.scoring.rings import BagSettings, Progress
from monitor.watch import Watch

NOON = 1_772_366_400.0
"""2026-03-01T12:00:00Z."""
CARD = Thresholds(raise_at=0.6, clear_at=0.4)
BAGS = BagSettings(length=4, stride=1, delay=0, max_gap=1)
SEGMENT_S = 1.0
"""16 frames at 16 frames a second."""


class Clock:
    now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return NOON + self.now_s - 1000.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> Watch:
    return Watch(BAGS, 16.0, CARD, clock=clock.monotonic, wall=clock.wall)


def camera(name: str = "gate", **more: object) -> Camera:
    return Camera.model_validate({"name": name, "url": StreamUrl(f"rtsp://192.0.2.1/{name}"), **more})


def bag(*numbers: int, score: float = 0.5, name: str = "gate", from_s: float = 1000.0) -> BagScore:
    """A bag of these segments, all published; number n was captured at ``from_s`` + n + 1."""
    count = len(numbers)
    scores = np.full(count, score, dtype=np.float32)
    times = tuple(
        SegmentTimes(
            number=n,
            start_s=n * SEGMENT_S,
            end_s=(n + 1) * SEGMENT_S,
            captured_s=from_s + n + 1,
            captured_wall_s=NOON + n + 1,
        )
        for n in numbers
    )
    return BagScore(
        camera=name,
        times=times,
        scores_N=scores,
        long_term_N=scores,
        short_term_N=scores,
        attention_N=np.full(count, 1 / count, dtype=np.float32),
        bridged=0,
        published=tuple(range(count)),
        scored_s=0.0,
    )


UP = {"gate": CameraHealth(link="up")}
FULL = {"gate": Progress(filled=4)}


def test_a_camera_connects_learns_is_watched_degrades_and_is_lost(watch: Watch, clock: Clock) -> None:
    watch.configure([camera()])
    frozen = CameraHealth(link="up", picture_faults=("frozen",))
    gone = CameraHealth(link="lost", fault="no data from rtsp://192.0.2.1:554 for 10 s")
    walk = []
    for health, filled in [
        (None, 0),
        (CameraHealth(link="up"), 1),
        (CameraHealth(link="up"), 4),
        (frozen, 4),
        (gone, 4),
    ]:
        clock.now_s += 1
        changed = watch.look({} if health is None else {"gate": health}, {"gate": Progress(filled=filled)}, {})
        walk.append((changed["gate"].status, changed["gate"].reason, changed["gate"].since_wall_s - NOON))
    assert walk == [
        (CameraStatus.CONNECTING, "the stream is being opened", 0.0),  # since it was configured
        (CameraStatus.LEARNING, "1 of 4 segments seen; scored after 3 more", 2.0),
        (CameraStatus.OK, "watched and scored", 3.0),
        (
            CameraStatus.DEGRADED,
            "the picture is frozen and is not scored until it moves; look at the camera or its encoder",
            4.0,
        ),
        (CameraStatus.LOST, "no data from rtsp://192.0.2.1:554 for 10 s", 5.0),
    ]


@pytest.mark.parametrize(
    ("arrived", "then"),
    [
        (Progress(filled=1, restarts=1, scored=7), CameraStatus.LEARNING),
        (Progress(filled=4, scored=8), CameraStatus.OK),  # so short an outage that it was bridged
    ],
)
def test_a_camera_that_is_back_is_not_ok_for_what_its_ring_still_holds(
    watch: Watch, clock: Clock, arrived: Progress, then: CameraStatus
) -> None:
    watch.configure([camera()])
    lost = {"gate": CameraHealth(link="lost", fault="connection refused")}
    walk = []
    for health, progress in [
        (UP, Progress(filled=4, scored=6)),
        (lost, Progress(filled=4, scored=6)),
        (lost, Progress(filled=4, scored=7)),  # what was on its way when the stream was lost
        (UP, Progress(filled=4, scored=7)),
        (UP, Progress(filled=4, scored=7)),
        (UP, arrived),
    ]:
        clock.now_s += 1
        watch.look(health, {"gate": progress}, {})
        walk.append(watch.seen()["gate"].status)
    assert walk == [
        CameraStatus.OK,
        CameraStatus.LOST,
        CameraStatus.LOST,
        CameraStatus.LEARNING,
        CameraStatus.LEARNING,
        then,
    ]


def test_a_camera_that_is_up_for_the_first_time_is_not_back(watch: Watch) -> None:
    watch.configure([camera()])
    watch.look({"gate": CameraHealth(link="connecting")}, {}, {})
    watch.look(UP, {}, {})
    assert watch.seen()["gate"].reason == "0 of 4 segments seen; scored after 4 more"


def test_the_first_look_tells_every_camera_whatever_a_former_life_left_retained(watch: Watch) -> None:
    watch.configure([camera("gate"), camera("off", enabled=False)])
    first = watch.look({}, {}, {})
    assert {name: seen.status for name, seen in first.items()} == {
        "gate": CameraStatus.CONNECTING,
        "off": CameraStatus.DISABLED,
    }
    assert watch.look({}, {}, {}) == {}


def test_another_reason_for_the_same_status_is_told_and_keeps_its_since(watch: Watch, clock: Clock) -> None:
    watch.configure([camera()])
    clock.now_s = 1010.0
    watch.look(UP, {"gate": Progress(filled=1)}, {})
    clock.now_s = 1011.0
    changed = watch.look(UP, {"gate": Progress(filled=2)}, {})
    assert changed["gate"].reason == "2 of 4 segments seen; scored after 2 more"
    assert changed["gate"].since_wall_s == NOON + 10.0


def test_what_did_not_change_is_not_told_again(watch: Watch, clock: Clock) -> None:
    watch.configure([camera()])
    watch.look(UP, FULL, {})
    clock.now_s += 1
    assert watch.look(UP, FULL, {}) == {}


def test_less_than_95_percent_scored_over_five_minutes_is_degraded(watch: Watch, clock: Clock) -> None:
    watch.configure([camera()])
    for start in (0, 111):
        for n in range(start, start + 100):
            watch.add(bag(n))
    clock.now_s = 1211.0
    changed = watch.look(UP, FULL, {})
    assert (changed["gate"].status, changed["gate"].reason) == (
        CameraStatus.DEGRADED,
        "only 94 % of the last five minutes were scored",
    )


def test_a_camera_that_never_completes_a_bag_is_degraded_and_says_why(watch: Watch, clock: Clock) -> None:
    watch.configure([camera()])
    walk = []
    for second in range(30):
        clock.now_s += 1
        health = {"gate": CameraHealth(link="up", segments=second // 3, invalid={"decode_error": second // 6})}
        walk += [seen.status for seen in watch.look(health, {"gate": Progress(filled=1)}, {}).values()]
    assert walk == [CameraStatus.LEARNING, CameraStatus.DEGRADED]
    assert "never 4 usable segments" in watch.seen()["gate"].reason
    assert "(decode_error)" in watch.seen()["gate"].reason
    watch.look(UP, FULL, {})
    assert watch.seen()["gate"].status is CameraStatus.OK
    clock.now_s += 1
    watch.look(UP, {"gate": Progress(filled=1)}, {})
    assert watch.seen()["gate"].status is CameraStatus.LEARNING, "its time begins again"


def test_time_without_a_stream_does_not_make_a_camera_barren(watch: Watch, clock: Clock) -> None:
    watch.configure([camera()])
    for link in ("up", "lost", "up"):
        for _ in range(15):
            clock.now_s += 1
            watch.look({"gate": CameraHealth(link=link, fault=None)}, {"gate": Progress(filled=1)}, {})  # type: ignore[arg-type]
    assert watch.seen()["gate"].status is CameraStatus.DEGRADED, "thirty seconds of frames, but"
    watch.configure([camera("other")])
    watch.look({"other": CameraHealth(link="lost")}, {}, {})
    clock.now_s += 3600
    watch.look({"other": CameraHealth(link="up")}, {"other": Progress(filled=1)}, {})
    assert watch.seen()["other"].status is CameraStatus.LEARNING, "an hour of outage counts for nothing"


def test_the_reason_for_unusable_segments_is_the_latest_not_the_commonest_ever(watch: Watch, clock: Clock) -> None:
    watch.configure([camera()])
    for invalid in ({"frozen": 90}, {"frozen": 90, "decode_error": 30}):
        clock.now_s += 10
        watch.look({"gate": CameraHealth(link="up", segments=100, invalid=invalid)}, FULL, {})
    assert "(decode_error)" in watch.seen()["gate"].reason


def test_outside_its_armed_hours_a_camera_is_disarmed_and_says_until_when(watch: Watch, clock: Clock) -> None:
    window = Window(start="2026-03-01 12:00", end="2026-03-01 12:30", reason="service")
    watch.configure([camera(schedule=Schedule(maintenance=(window,)))])
    assert watch.look(UP, FULL, {})["gate"].reason == "maintenance until 2026-03-01 12:30: service"
    clock.now_s += 1800
    assert watch.look(UP, FULL, {})["gate"].status is CameraStatus.OK


def test_an_observed_camera_says_that_it_publishes_no_alert(watch: Watch) -> None:
    watch.configure([camera(mode="observe")])
    assert watch.look(UP, FULL, {})["gate"].reason == "watched and scored; in mode observe no alert is published"


def test_alarms_are_counted_where_they_are_decided_also_those_that_no_look_saw(watch: Watch) -> None:
    watch.configure([camera()])
    for state, alarms, raised in [
        (AlarmState(camera="gate"), 0, False),
        (AlarmState(camera="gate", raised=True, alert_id="a", alarms=1), 1, True),
        (AlarmState(camera="gate", raised=True, alert_id="a", alarms=1), 1, True),
        (AlarmState(camera="gate", alarms=3), 3, False),
    ]:
        watch.look(UP, FULL, {"gate": state})
        (figures,) = watch.figures()
        assert (figures.alarms, figures.alarm_raised) == (alarms, raised)


def test_a_camera_without_health_has_figures_of_nothing(watch: Watch) -> None:
    watch.configure([camera(), camera("own", thresholds=Thresholds(raise_at=0.9, clear_at=0.8))])
    gate, own = watch.figures()
    assert (gate.camera, gate.status, gate.up) == ("gate", CameraStatus.CONNECTING, False)
    assert (gate.frames_decoded, gate.segments, gate.segments_scored, gate.alarms) == (0, 0, 0, 0)
    assert (gate.score, gate.last_frame_wall_s, gate.evidence_held_s) == (None, None, None)
    assert (gate.raise_at, gate.clear_at, gate.scored_ratio) == (0.6, 0.4, 0.0)
    assert (own.raise_at, own.clear_at) == (0.9, 0.8)


def test_figures_are_those_of_the_reader_and_of_the_scores(watch: Watch, clock: Clock) -> None:
    watch.configure([camera()])
    watch.add(bag(0, 1, 2, 3, score=0.25))
    health = CameraHealth(
        link="up",
        frames_decoded=160,
        segments=7,
        invalid={"frozen": 2},
        dropped={"no_slot": 1, "queue_full": 3},
        last_frame_s=1009.5,
        recorder_s=12.0,
    )
    clock.now_s = 1010.0
    watch.look({"gate": health}, FULL, {})
    (figures,) = watch.figures()
    assert (figures.up, figures.frames_decoded, figures.segments) == (True, 160, 10)
    assert (figures.segments_scored, figures.score, figures.scored_ratio) == (4, 0.25, 0.4)
    assert (figures.last_frame_wall_s, figures.evidence_held_s) == (NOON + 9.5, 12.0)


def test_scores_of_an_unknown_camera_are_passed_over(watch: Watch) -> None:
    watch.configure([camera()])
    watch.add(bag(0, name="gone"))
    assert [figures.segments_scored for figures in watch.figures()] == [0]


class TestReload:
    def test_new_thresholds_hold_at_once_and_nothing_else_changes(self, watch: Watch, clock: Clock) -> None:
        watch.configure([camera()])
        watch.add(bag(0, 1, 2, 3))
        watch.look(UP, FULL, {"gate": AlarmState(camera="gate", alarms=2)})
        clock.now_s += 50
        watch.configure([camera(thresholds=Thresholds(raise_at=0.9, clear_at=0.8))])
        (figures,) = watch.figures()
        assert (figures.raise_at, figures.clear_at) == (0.9, 0.8)
        assert (figures.segments_scored, figures.alarms, figures.status) == (4, 2, CameraStatus.OK)
        assert watch.look(UP, FULL, {}) == {}

    def test_a_camera_that_is_read_anew_keeps_its_counters_and_begins_its_ratio(
        self, watch: Watch, clock: Clock
    ) -> None:
        watch.configure([camera()])
        watch.add(bag(0, 1, 2, 3))
        watch.look(UP, FULL, {"gate": AlarmState(camera="gate", alarms=2)})
        clock.now_s = 1400.0
        watch.configure([camera(fps=8.0)], ["gate"])
        clock.now_s = 1410.0
        (figures,) = watch.figures()
        assert (figures.segments_scored, figures.alarms, figures.scored_ratio) == (4, 2, 0.0)
        # Numbers and capture times go on where they were; what lay between is not held against it.
        for n in range(400, 480):
            watch.add(bag(n))
        clock.now_s = 1485.0
        watch.look(UP, FULL, {})
        (figures,) = watch.figures()
        assert (figures.segments_scored, figures.status) == (84, CameraStatus.OK)
        assert figures.scored_ratio == pytest.approx(80 / 85)

    def test_a_camera_that_is_switched_on_begins_with_nothing_and_is_told(self, watch: Watch, clock: Clock) -> None:
        watch.configure([camera(enabled=False)])
        watch.look({}, {}, {})
        clock.now_s += 600
        watch.configure([camera()])
        changed = watch.look({}, {}, {})
        assert (changed["gate"].status, changed["gate"].since_wall_s) == (CameraStatus.CONNECTING, NOON + 600)
        assert watch.figures()[0].scored_ratio == 0.0

    def test_a_camera_that_is_switched_off_is_told(self, watch: Watch) -> None:
        watch.configure([camera()])
        watch.look(UP, FULL, {})
        watch.configure([camera(enabled=False)])
        changed = watch.look(UP, FULL, {})
        assert changed["gate"].status is CameraStatus.DISABLED
        assert changed["gate"].reason == "switched off in the configuration (enabled: false)"

    def test_a_removed_camera_is_gone(self, watch: Watch) -> None:
        watch.configure([camera(), camera("yard")])
        watch.configure([camera("yard")])
        assert list(watch.seen()) == ["yard"]
        assert list(watch.look(UP, FULL, {})) == ["yard"]


def test_a_command_disarms_for_its_time_and_its_schedule_holds_after_it(watch: Watch, clock: Clock) -> None:
    watch.configure([camera(), camera("yard")])
    up = {name: CameraHealth(link="up") for name in ("gate", "yard")}
    until_wall_s, sentence = watch.disarm("gate", 60.0, "welding")
    assert until_wall_s == NOON + 60
    assert sentence == "disarmed by command until 2026-03-01T12:01:00.000Z: welding"
    watch.look(up, {}, {})
    assert (watch.seen()["gate"].status, watch.seen()["gate"].reason) == (CameraStatus.DISARMED, sentence)
    assert watch.seen()["yard"].status is not CameraStatus.DISARMED
    clock.now_s += 60
    watch.look(up, {}, {})
    assert watch.seen()["gate"].status is not CameraStatus.DISARMED
    watch.disarm("gate", 60.0, "welding")
    assert watch.arm("gate")[0]
    watch.look(up, {}, {})
    assert watch.seen()["gate"].status is not CameraStatus.DISARMED
