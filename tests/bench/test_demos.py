"""How the reports of several demos are added up."""

from __future__ import annotations

from typing import Any

from tests.bench.demos import calm_cameras, rows


def outcome(kind: str, after_s: float | None = None, glass_s: float | None = None) -> dict[str, Any]:
    alert_id = None if after_s is None else "one"
    return {"incident": {"kind": kind}, "alert_id": alert_id, "after_s": after_s, "glass_to_mqtt_s": glass_s}


def test_incidents_found_and_alarms_on_calm_cameras_are_counted_over_all_demos() -> None:
    (calm,) = calm_cameras(501)
    busy = next(f"camera-{n}" for n in range(1, 5) if f"camera-{n}" != calm)
    one = {"seed": 501, "seconds": 60.0, "outcomes": [outcome("fall", 3.0, 1.5), outcome("smoke")]}
    two = {"seed": 502, "seconds": 60.0, "outcomes": [outcome("fall", 5.0)], "false_alerts": []}
    strays = [{"camera": calm}, {"camera": busy}]
    told = {row.name.partition(": ")[2]: (row.value, row.limit) for row in rows([one | {"false_alerts": strays}, two])}
    assert told == {
        "incidents found": (2, "of 3 due; fall 2 of 2, smoke 0 of 1"),
        "alarms on calm cameras": (1, "in 2 minutes of them"),
        "alarms without an incident": (2, "on all cameras, 8 minutes of them"),
        "beginning of the incident to alert, median": (4.0, "3.0 to 5.0 s, 2 alerts"),
        "glass to MQTT, median": (1.5, "1.5 to 1.5 s, 1 alerts"),
    }
