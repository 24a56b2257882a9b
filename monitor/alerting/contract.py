"""The MQTT contract: topics and payloads. Pure.

``schemas/*.json`` describe the payloads; README's *MQTT reference* describes the topics. Within one
``SCHEMA_VERSION`` keys may be added, and nothing is removed, renamed or given another meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Literal

from monitor.alerting.incident import Incident, Member
from monitor.flow import Alert, AlertKind, CameraStatus, Evidence

SCHEMA_VERSION = 1
SCHEMAS = (
    *("alert", "incident", "alarm", "status", "picture", "score", "availability", "verdict", "canary"),
    *("command", "answer"),
)

Payload = dict[str, Any]


def level(name: str) -> str:
    """One level of a topic, or one part of a path, for any name; two names never share one.

    Letters, digits, ``-``, ``_``, blanks and inner dots stay; everything else (``/ + # %``, control
    characters, a leading dot) becomes ``%XX``, so that no name can leave its level or its folder.
    """
    if not name:
        return "%"

    def encoded(place: int, sign: str) -> str:
        if sign.isalnum() or sign in "-_ " or (sign == "." and place > 0):
            return sign
        return "".join(f"%{byte:02X}" for byte in sign.encode())

    return "".join(encoded(place, sign) for place, sign in enumerate(name))


@dataclass(frozen=True, slots=True)
class Topics:
    """Where things are published. ``prefix`` may have several levels (``plant/vad``)."""

    prefix: str
    site: str

    @property
    def base(self) -> str:
        above = [level(part) for part in self.prefix.split("/") if part]
        return "/".join([*above, level(self.site)])

    @property
    def availability(self) -> str:
        return f"{self.base}/availability"

    @property
    def canary(self) -> str:
        return f"{self.base}/canary"

    @property
    def incident(self) -> str:
        return f"{self.base}/incident"

    @property
    def commands(self) -> str:
        """What to subscribe to: the command topics of all cameras."""
        return f"{self.base}/cameras/+/command"

    @staticmethod
    def answer(command_topic: str) -> str:
        return command_topic.removesuffix("command") + "answer"

    def camera(
        self, name: str, what: Literal["status", "picture", "alarm", "score", "alert", "verdict", "command"]
    ) -> str:
        return f"{self.base}/cameras/{level(name)}/{what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmState:
    """An alarm as it is shown. ``raised`` is only ever true after its alert was committed to the outbox."""

    camera: str
    mode: Literal["alert", "observe"] = "alert"
    raised: bool = False
    would_raise: bool = False
    """``observe`` only: an alarm would be raised now, were this camera in mode ``alert``."""
    alert_id: str | None = None
    since_wall_s: float | None = None
    """Raised: when it was decided."""
    onset_wall_s: float | None = None
    score: float | None = None
    peak_score: float | None = None
    threshold: float | None = None
    alarms: int = 0
    """How many were raised since the monitor watches the camera (not part of the payload)."""


def iso(wall_s: float) -> str:
    """UTC with milliseconds: ``2026-03-01T10:15:02.125Z``."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(text: str) -> float:
    """The inverse of ``iso``."""
    return datetime.fromisoformat(text).timestamp()


def rounded(score: float | None) -> float | None:
    return None if score is None else round(float(score), 4)


def evidence_payload(evidence: Evidence, pending: bool) -> Payload:
    """``state``: pending (more comes with a later message), ready (what is linked is whole) or none."""

    def file(link: str | None, sha256: str | None) -> Payload | None:
        return None if link is None else {"link": link, "sha256": sha256}

    snapshot = file(evidence.snapshot, evidence.snapshot_sha256)
    if snapshot is not None and evidence.snapshot_wall_s is not None:
        snapshot["captured_at"] = iso(evidence.snapshot_wall_s)

    some = evidence.clip is not None or evidence.snapshot is not None
    return {
        "state": "pending" if pending else "ready" if some else "none",
        "clip": file(evidence.clip, evidence.clip_sha256),
        "snapshot": snapshot,
        "note": evidence.note,
    }


def alert_payload(alert: Alert, evidence_pending: bool) -> Payload:
    """All of an alert but ``published_at``, which is added when it is handed to the broker."""
    return {
        "schema_version": SCHEMA_VERSION,
        "alert_id": alert.alert_id,
        "seq": alert.seq,
        "kind": alert.kind.value,
        "site": alert.site,
        "camera": alert.camera,
        "reason": alert.reason,
        "score": rounded(alert.score),
        "peak_score": rounded(alert.peak_score),
        "threshold": rounded(alert.threshold),
        "long_term": rounded(alert.long_term),
        "short_term": rounded(alert.short_term),
        "bridged": alert.bridged,
        "onset_at": iso(alert.onset_wall_s),
        "captured_at": iso(alert.captured_wall_s),
        "decided_at": iso(alert.decided_wall_s),
        "evidence": evidence_payload(alert.evidence, evidence_pending),
        "labels": dict(alert.labels),
        "incident_id": alert.incident_id,
    }


def alert_of(payload: Mapping[str, Any]) -> Alert:
    """The inverse of ``alert_payload``: what a former life had open."""
    clip, snapshot = payload["evidence"]["clip"] or {}, payload["evidence"]["snapshot"] or {}
    return Alert(
        alert_id=payload["alert_id"],
        seq=payload["seq"],
        kind=AlertKind(payload["kind"]),
        site=payload["site"],
        camera=payload["camera"],
        score=payload["score"],
        peak_score=payload["peak_score"],
        threshold=payload["threshold"],
        long_term=payload["long_term"],
        short_term=payload["short_term"],
        bridged=payload["bridged"],
        onset_wall_s=seconds(payload["onset_at"]),
        captured_wall_s=seconds(payload["captured_at"]),
        decided_wall_s=seconds(payload["decided_at"]),
        reason=payload["reason"],
        evidence=Evidence(
            clip=clip.get("link"),
            clip_sha256=clip.get("sha256"),
            snapshot=snapshot.get("link"),
            snapshot_sha256=snapshot.get("sha256"),
            snapshot_wall_s=seconds(snapshot["captured_at"]) if "captured_at" in snapshot else None,
            note=payload["evidence"]["note"],
        ),
        labels=tuple(payload["labels"].items()),
        incident_id=payload.get("incident_id"),  # a version that knew no incidents left it out
    )


def incident_payload(incident: Incident, open_incidents: int) -> Payload:
    """All of an incident's message but what is added when it is handed to the broker."""
    return {
        "schema_version": SCHEMA_VERSION,
        "incident_id": incident.incident_id,
        "seq": incident.seq,
        "kind": incident.kind,
        "site": incident.site,
        "reason": incident.reason,
        "onset_at": iso(incident.onset_wall_s),
        "opened_at": iso(incident.opened_wall_s),
        "decided_at": iso(incident.decided_wall_s),
        "open_incidents": open_incidents,
        "raised": incident.raised,
        "members": [
            {
                "camera": member.camera,
                "alert_id": member.alert_id,
                "onset_at": iso(member.onset_wall_s),
                "peak_score": rounded(member.peak_score),
                "state": "ended" if member.ended else "raised",
            }
            for member in incident.members
        ],
    }


def incident_of(payload: Mapping[str, Any]) -> Incident:
    """The inverse of ``incident_payload``: what a former life had open."""
    return Incident(
        incident_id=payload["incident_id"],
        seq=payload["seq"],
        kind=payload["kind"],
        site=payload["site"],
        reason=payload["reason"],
        opened_wall_s=seconds(payload["opened_at"]),
        decided_wall_s=seconds(payload["decided_at"]),
        members=tuple(
            Member(
                camera=member["camera"],
                alert_id=member["alert_id"],
                onset_wall_s=seconds(member["onset_at"]),
                peak_score=member["peak_score"],
                ended=member["state"] == "ended",
            )
            for member in payload["members"]
        ),
    )


def alarm_payload(site: str, state: AlarmState) -> Payload:
    def time(wall_s: float | None) -> str | None:
        return None if wall_s is None else iso(wall_s)

    return {
        "schema_version": SCHEMA_VERSION,
        "site": site,
        "camera": state.camera,
        "state": "raised" if state.raised else "calm",
        "mode": state.mode,
        "would_raise": state.would_raise,
        "alert_id": state.alert_id,
        "since": time(state.since_wall_s),
        "onset_at": time(state.onset_wall_s),
        "peak_score": rounded(state.peak_score),
        "threshold": rounded(state.threshold),
    }


def status_payload(site: str, camera: str, status: CameraStatus, reason: str | None, since: float) -> Payload:
    return {
        "schema_version": SCHEMA_VERSION,
        "site": site,
        "camera": camera,
        "status": status.value,
        "reason": reason,
        "since": iso(since),
    }


def picture_payload(
    site: str,
    camera: str,
    *,
    state: str,
    faults: Sequence[str],
    scored: bool,
    learnt: bool,
    reason: str,
    to_do: str | None,
    since: float,
) -> Payload:
    """What is wrong with a camera's picture: maintenance, never an alert."""
    return {
        "schema_version": SCHEMA_VERSION,
        "site": site,
        "camera": camera,
        "state": state,
        "faults": list(faults),
        "scored": scored,
        "learnt": learnt,
        "reason": reason,
        "to_do": to_do,
        "since": iso(since),
    }


def verdict_payload(
    site: str, camera: str, *, alert_id: str, verdict: str, category: str | None, note: str, who: str, at_s: float
) -> Payload:
    """What an operator said of an alert; a later one of the same alert replaces it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "site": site,
        "camera": camera,
        "alert_id": alert_id,
        "verdict": verdict,
        "category": category,
        "note": note,
        "who": who,
        "judged_at": iso(at_s),
    }


def availability_payload(
    site: str, state: Literal["online", "offline"], reason: str | None, connected_wall_s: float, version: str
) -> Payload:
    return {
        "schema_version": SCHEMA_VERSION,
        "site": site,
        "state": state,
        "reason": reason,
        "connected_at": iso(connected_wall_s),
        "version": version,
    }


def canary_payload(
    site: str,
    *,
    state: Literal["waiting", "passed", "failed"],
    part: str | None,
    reason: str | None,
    checked_at_s: float | None,
    passed_at_s: float | None,
    latency_s: float | None,
) -> Payload:
    """How the monitor's last run of its canary went."""
    return {
        "schema_version": SCHEMA_VERSION,
        "site": site,
        "state": state,
        "part": part,
        "reason": reason,
        "checked_at": None if checked_at_s is None else iso(checked_at_s),
        "passed_at": None if passed_at_s is None else iso(passed_at_s),
        "latency_s": None if latency_s is None else round(latency_s, 3),
    }


def schema(name: str) -> Payload:
    """The JSON Schema (draft 2020-12) of one of ``SCHEMAS``."""
    loaded: Payload = json.loads(
        resources.files(__package__).joinpath("schemas", f"{name}.json").read_text(encoding="utf-8")
    )
    return loaded
