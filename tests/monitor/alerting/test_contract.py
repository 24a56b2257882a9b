from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import jsonschema
import pytest

from monitor.alerting.contract import (
    SCHEMAS,
    AlarmState,
    Topics,
    alarm_payload,
    alert_of,
    alert_payload,
    availability_payload,
    incident_of,
    incident_payload,
    iso,
    picture_payload,
    schema,
    seconds,
    status_payload,
)
from monitor.alerting.homeassistant import discovery, site_discovery
from monitor.alerting.incident import Incident, Member
from monitor.flow import PICTURE_FAULTS, Alert, AlertKind, CameraStatus, Evidence
from monitor.observe.picture import picture_state

from .support import NOON

ALERT = Alert(
    alert_id="a1",
    seq=2,
    kind=AlertKind.UPDATED,
    site="plant-7",
    camera="gate",
    score=0.91234,
    peak_score=0.95,
    threshold=0.6,
    long_term=0.8,
    short_term=0.7,
    bridged=1,
    onset_wall_s=NOON + 0.125,
    captured_wall_s=NOON + 2.5,
    decided_wall_s=NOON + 3.0,
    reason="evidence ready",
    evidence=Evidence(clip="gate/2026-03-01/a1.mp4", clip_sha256="a" * 64, note="no snapshot"),
    labels=(("hall", "3"),),
)


def test_topics_are_those_of_the_contract() -> None:
    topics = Topics("vad", "plant-7")
    assert topics.availability == "vad/plant-7/availability"
    assert topics.camera("gate", "alert") == "vad/plant-7/cameras/gate/alert"
    assert Topics("/works/vad/", "a+b/#").camera("Tor 1/Süd", "status") == (
        "works/vad/a%2Bb%2F%23/cameras/Tor 1%2FSüd/status"
    )


def test_times_are_utc_with_milliseconds() -> None:
    assert iso(NOON + 0.1255) == "2026-03-01T12:00:00.125Z"
    assert seconds("2026-03-01T12:00:00.126Z") == NOON + 0.126


def test_an_alert_survives_its_payload() -> None:
    payload = json.loads(json.dumps(alert_payload(ALERT, evidence_pending=False)))
    again = alert_of(payload)
    assert alert_payload(again, evidence_pending=False) == payload
    assert (again.onset_wall_s, again.evidence, again.labels) == (
        ALERT.onset_wall_s,
        ALERT.evidence,
        ALERT.labels,
    )


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schemas_are_schemas(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))


PUBLISHED = {"published_at": iso(NOON)}
TOLD = PUBLISHED | {"delayed_s": 0.0, "late": False}
INCIDENT = Incident(
    incident_id="i1",
    seq=2,
    kind="updated",
    site="plant-7",
    opened_wall_s=NOON,
    decided_wall_s=NOON + 1,
    reason="members changed",
    members=(
        Member(camera="gate", alert_id="a1", onset_wall_s=NOON - 1, peak_score=0.9),
        Member(camera="yard", alert_id="a2", onset_wall_s=NOON - 2, peak_score=0.8, ended=True),
    ),
)
EXAMPLES = {
    "alert": [alert_payload(ALERT, False) | TOLD, alert_payload(ALERT, True) | TOLD],
    "incident": [incident_payload(INCIDENT, 1) | TOLD],
    "alarm": [
        alarm_payload("plant-7", AlarmState(camera="gate")) | PUBLISHED,
        alarm_payload(
            "plant-7",
            AlarmState(
                camera="gate",
                raised=True,
                alert_id="a1",
                since_wall_s=NOON,
                onset_wall_s=NOON,
                peak_score=0.9,
                threshold=0.6,
            ),
        )
        | PUBLISHED,
    ],
    "status": [status_payload("plant-7", "gate", status, None, NOON) | PUBLISHED for status in CameraStatus],
    "picture": [
        picture_payload("plant-7", "gate", since=NOON, **dataclasses.asdict(picture_state(link, faults, learnt=True)))
        | PUBLISHED
        for link, faults in [("lost", ()), ("up", ()), *(("up", (kind,)) for kind in PICTURE_FAULTS)]
    ],
    "availability": [
        availability_payload("plant-7", "online", None, NOON, "1.0") | PUBLISHED | {"waiting_alerts": 3},
        availability_payload("plant-7", "offline", "connection lost", NOON, "1.0"),
    ],
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_payloads_obey_their_schema_and_have_no_key_it_does_not_know(name: str) -> None:
    known = schema(name)
    for example in EXAMPLES[name]:
        jsonschema.validate(example, known)
        assert set(example) <= set(known["properties"])


def test_a_link_that_leaves_the_folder_is_against_the_schema() -> None:
    for link in ("/etc/passwd", "a/../../b.mp4"):
        bad = alert_payload(ALERT, False) | TOLD
        bad["evidence"] = {**bad["evidence"], "clip": {"link": link, "sha256": None}}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema("alert"))


def test_home_assistant_finds_a_device_a_camera() -> None:
    topic, payload = discovery(Topics("vad", "plant 7"), "Tor/Süd", "1.0")
    assert re.fullmatch(r"homeassistant/device/vad_plant_7_Tor_S_d_[0-9a-f]{6}/config", topic)
    assert {name: part["platform"] for name, part in payload["components"].items()} == {
        "alarm": "binary_sensor",
        "score": "sensor",
        "status": "sensor",
    }
    alarm = payload["components"]["alarm"]
    assert (alarm["state_topic"], alarm["payload_on"]) == ("vad/plant 7/cameras/Tor%2FSüd/alarm", "raised")
    assert payload["availability"][0]["topic"] == "vad/plant 7/availability"
    assert payload["origin"]["name"] == "vad-monitor"
    assert topic != discovery(Topics("vad", "plant 7"), "Tor_Süd", "1.0")[0]


def test_an_incident_survives_its_payload() -> None:
    payload = json.loads(json.dumps(incident_payload(INCIDENT, 1)))
    assert (payload["raised"], payload["onset_at"]) == (1, "2026-03-01T11:59:58.000Z")
    assert incident_of(payload) == INCIDENT


def test_home_assistant_finds_the_sites_incident() -> None:
    topic, payload = site_discovery(Topics("vad", "plant 7"), "1.0")
    assert re.fullmatch(r"homeassistant/device/vad_plant_7__[0-9a-f]{6}/config", topic)
    assert payload["components"]["incident"]["state_topic"] == "vad/plant 7/incident"


def test_the_schemas_travel_with_the_package() -> None:
    folder = Path(__file__).parents[3] / "monitor" / "alerting" / "schemas"
    assert sorted(path.stem for path in folder.glob("*.json")) == sorted(SCHEMAS)
