"""A camera's status: each row of the table, and every combination of facts."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from monitor.flow import CameraStatus
from monitor.observe.status import Facts, camera_status, plant_summary


def facts(**changed: Any) -> Facts:
    return Facts(**({"segments_held": 32, "segments_needed": 32} | changed))


@pytest.mark.parametrize(
    ("changed", "status", "reason"),
    [
        ({}, "ok", "watched and scored"),
        ({"publishes_alerts": False}, "ok", "watched and scored; in mode observe no alert is published"),
        ({"scored_ratio": 0.95, "invalid_share": 0.05}, "ok", "watched and scored"),
        (
            {"picture_faults": ("moved", "blurred"), "segments_held": 3},
            "learning",
            "3 of 32 segments seen; scored after 29 more; the picture is blurred; it is scored all the same, clean the "
            "lens and look at its focus; the camera looks elsewhere than it did; it is scored all the same, turn it "
            "back; what it shows for an hour is taken for wanted",
        ),
        (
            {"picture_faults": ("blurred",), "scored_ratio": 0.5},
            "degraded",
            "only 50 % of the last five minutes were scored; the picture is blurred; it is scored all the same, clean "
            "the lens and look at its focus",
        ),
        (
            {"drift_ppm": 5_100.0, "drift_limit_ppm": 3_000.0},
            "ok",
            "watched and scored; its clock runs fast by about 20 s an hour: set it by NTP",
        ),
        ({"drift_ppm": -2_900.0, "drift_limit_ppm": 3_000.0}, "ok", "watched and scored"),
        ({"enabled": False}, "disabled", "switched off in the configuration (enabled: false)"),
        ({"link": "disabled"}, "disabled", "switched off in the configuration (enabled: false)"),
        ({"armed": False}, "disarmed", "outside its armed hours"),
        (
            {"armed": False, "disarmed_because": "maintenance until 14:00: new lens"},
            "disarmed",
            "maintenance until 14:00: new lens",
        ),
        (
            {"armed": False, "link": "lost", "fault": "no frame for 10 s; reconnecting in 4 s"},
            "disarmed",
            "outside its armed hours; besides, no frame for 10 s; reconnecting in 4 s",
        ),
        ({"link": "lost", "fault": "wrong password"}, "lost", "wrong password"),
        ({"link": "lost"}, "lost", "the stream is lost and will be opened again"),
        ({"link": "ended"}, "lost", "the recording has ended; nothing more will be scored"),
        ({"link": "connecting"}, "connecting", "the stream is being opened"),
        ({"link": "connecting", "fault": "connection refused"}, "lost", "connection refused"),
        ({"segments_held": 12}, "learning", "12 of 32 segments seen; scored after 20 more"),
        ({"awaited": True}, "learning", "the stream is back; its first segment has not come yet"),
        (
            {"segments_held": 0, "scored_ratio": 0.2},
            "learning",
            "0 of 32 segments seen; scored after 32 more",
        ),
        (
            {"segments_held": 0, "picture_faults": ("frozen",)},
            "degraded",
            "the picture is frozen and is not scored until it moves; look at the camera or its encoder",
        ),
        (
            {"picture_faults": ("black",)},
            "degraded",
            "the picture is black and is not scored; "
            "look whether there is light, whether the camera sees infra-red, and whether its lens is free",
        ),
        (
            {"invalid_share": 0.07, "invalid_reason": "decode_error"},
            "degraded",
            "7 % of the segments of five minutes were unusable (decode_error); look at camera and network",
        ),
        (
            {"invalid_share": 0.051},
            "degraded",
            "6 % of the segments of five minutes were unusable; look at camera and network",
        ),
        ({"scored_ratio": 0.949}, "degraded", "only 94 % of the last five minutes were scored"),
        ({"scored_ratio": 0.29}, "degraded", "only 29 % of the last five minutes were scored"),
        (
            {"recorder_short": True, "recorder_s": 7.6},
            "degraded",
            "clips will begin late: 8 s of stream are kept; raise evidence.memory_mb or lower the camera's bit rate",
        ),
        (
            {"scored_ratio": 0.5, "recorder_short": True},
            "degraded",
            "only 50 % of the last five minutes were scored; "
            "clips will begin late; raise evidence.memory_mb or lower the camera's bit rate",
        ),
    ],
)
def test_a_status_and_its_reason_for_the_operator(changed: dict[str, Any], status: str, reason: str) -> None:
    assert camera_status(facts(**changed)) == (CameraStatus(status), reason)


# In the order of the table: the first whose facts hold decides.
PRECEDENCE: list[tuple[str, dict[str, Any]]] = [
    ("disabled", {"enabled": False}),
    ("disarmed", {"armed": False}),
    ("lost", {"link": "lost"}),
    ("connecting", {"link": "connecting"}),
    ("degraded", {"picture_faults": ("frozen",)}),
    ("degraded", {"invalid_share": 0.5}),
    ("learning", {"segments_held": 3}),
    ("learning", {"awaited": True}),
    ("degraded", {"scored_ratio": 0.5}),
    ("degraded", {"recorder_short": True}),
]


def test_in_every_combination_of_facts_the_first_row_that_holds_decides() -> None:
    seen = 0
    for held in itertools.product((False, True), repeat=len(PRECEDENCE)):
        rows = [row for row, holds in zip(PRECEDENCE, held, strict=True) if holds]
        changed: dict[str, Any] = {}
        for _, changes in reversed(rows):  # of two links the upper row's is the fact
            changed |= changes
        status, reason = camera_status(facts(**changed))
        assert status == (rows[0][0] if rows else "ok"), changed
        assert reason
        assert reason.endswith(".") is False
        assert "None" not in reason
        seen += 1
    assert seen == 1024


def test_every_status_has_facts_that_lead_to_it() -> None:
    reached = {status for status, _ in PRECEDENCE} | {"ok"}
    assert reached == {status.value for status in CameraStatus}


@pytest.mark.parametrize(
    ("statuses", "sentence"),
    [
        ([], "no cameras"),
        (["ok"], "1 camera: 1 ok"),
        (["ok", "lost", "ok", "degraded"], "4 cameras: 2 ok, 1 degraded, 1 lost"),
        (
            ["disabled", "disarmed", "connecting", "learning", "lost", "degraded", "ok"],
            "7 cameras: 1 ok, 1 degraded, 1 lost, 1 learning, 1 connecting, 1 disarmed, 1 disabled",
        ),
    ],
)
def test_the_plant_is_summed_up_in_a_sentence(statuses: list[str], sentence: str) -> None:
    summary = plant_summary(CameraStatus(status) for status in statuses)
    assert summary.sentence == sentence
    assert summary.cameras == len(statuses)
    assert set(summary.counts) == set(CameraStatus)
