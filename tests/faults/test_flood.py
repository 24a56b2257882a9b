"""Many cameras raised at once, by a real monitor at a real broker: one incident, and nobody buried."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clips import moving_clip
from tests.faults.rig import Rig, account_of, rig, waited_s

CAMERAS = 12
STORM = {"storm": {"cameras": 5, "within_s": 20.0, "lull_s": 60.0, "update_every_s": 2.0}}


def site(tmp_path: Path, seconds: float) -> list[dict[str, Any]]:
    (tmp_path / "monitor").mkdir()
    moving_clip(tmp_path / "monitor" / "a.mp4", seconds, width_px=160, height_px=96)
    return [{"name": f"c{number:02}", "url": "file:a.mp4"} for number in range(CAMERAS)]


def raised(plant: Rig) -> set[str]:
    return {alert["camera"] for alert in plant.alerts() if alert["kind"] == "raised"}


def check_incident(plant: Rig) -> list[dict[str, Any]]:
    """Its messages without duplicates; each alert in it carries its id, to its end, and only those."""
    told = {one["seq"]: one for one in plant.told("/incident")}
    assert list(told) == sorted(told) == list(range(1, len(told) + 1))
    messages = list(told.values())
    assert len({one["incident_id"] for one in messages}) == 1
    assert (messages[0]["kind"], messages[-1]["kind"]) == ("opened", "closed")
    ends = {one["alert_id"]: one["incident_id"] for one in plant.alerts() if one["kind"] == "ended"}
    members = {one["alert_id"] for one in messages[-1]["members"]}
    assert members == {alert_id for alert_id, incident_id in ends.items() if incident_id}
    assert {incident_id for incident_id in ends.values() if incident_id} == {messages[0]["incident_id"]}
    assert {one["state"] for one in messages[-1]["members"]} == {"ended"}
    return messages


@pytest.mark.slow
def test_a_site_wide_storm_is_one_incident_and_each_camera_says_raised_and_ended(tmp_path: Path) -> None:
    with rig(tmp_path, site(tmp_path, 240), alerts=STORM) as plant:
        plant.start()
        plant.monitor.said("alarm raised", 120)
        waited_s(lambda: len(raised(plant)) == CAMERAS, 120, "all alarms")
        time.sleep(6)  # updates of every second would come now
        assert plant.metric("vad_incidents_total") == plant.metric("vad_incidents_open") == 1
        assert plant.monitor.end() == 0
        waited_s(lambda: any(one["kind"] == "closed" for one in plant.told("/incident")), 20, "the close")
        messages = check_incident(plant)
        account = account_of(plant.alerts(), whole=True)
        periodic = [one for one in plant.alerts() if one["reason"] == "alarm still raised" and one["incident_id"]]
    assert account.problems == [] and periodic == []
    assert len(messages[-1]["members"]) == CAMERAS and messages[-1]["reason"] == "monitor stopped"
    assert not any(one["late"] for one in plant.alerts())


@pytest.mark.slow
def test_a_monitor_killed_in_a_storm_closes_its_incident_in_its_next_life(tmp_path: Path) -> None:
    with rig(tmp_path, site(tmp_path, 240), alerts=STORM) as plant:
        plant.start()
        waited_s(lambda: plant.told("/incident"), 120, "an incident")
        plant.monitor.process.kill()
        plant.monitor.close()
        calm = {"raise_at": 1.0, "clear_at": 0.5}
        plant.plant["defaults"]["thresholds"] = calm
        plant.start()
        waited_s(lambda: any(one["kind"] == "closed" for one in plant.told("/incident")), 60, "the close")
        assert plant.monitor.end() == 0
        messages = check_incident(plant)
        account = account_of(plant.alerts(), whole=True)
    assert account.problems == [] and messages[-1]["reason"] == "monitor restarted"


@pytest.mark.slow
def test_after_an_outage_old_alerts_come_in_order_marked_late_and_few(tmp_path: Path) -> None:
    with rig(tmp_path, site(tmp_path, 300), alerts=STORM) as plant:
        plant.broker.kill()
        plant.start()
        plant.monitor.said("alarm raised", 120)
        waited_s(lambda: (plant.metric("vad_outbox_messages") or 0) > CAMERAS, 120, "alerts that wait")
        time.sleep(45)
        waiting = plant.metric("vad_outbox_messages")
        assert waiting is not None and waiting <= 6 * CAMERAS, "updates are not written down for ever"
        plant.broker.start()
        took_s = waited_s(lambda: (plant.metric("vad_outbox_messages") or 0) == 0, 60, "all told")
        online = [one for one in plant.told("/availability") if one["state"] == "online"]
        assert online[0]["waiting_alerts"] >= waiting - 1
        assert plant.monitor.end() == 0
        waited_s(lambda: any(one["kind"] == "closed" for one in plant.told("/incident")), 20, "the close")
        check_incident(plant)
        account = account_of(plant.alerts(), whole=True)
        late = [one for one in plant.alerts() if one["late"]]
    assert account.problems == [] and account.due == account.delivered
    assert {one["camera"] for one in late if one["kind"] == "raised"} == {f"c{n:02}" for n in range(CAMERAS)}
    assert all(one["delayed_s"] > 30 for one in late)
    print(f"{waiting:.0f} messages of {CAMERAS} cameras waited, told in {took_s:.1f} s, {len(late)} of them late")
