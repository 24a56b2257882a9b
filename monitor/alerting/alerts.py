"""The shell around the alarms: scores in, alerts committed, evidence asked for.

The order of an alert's life, which subscribers may rely on:

1. ``raised`` (seq 1): committed, and only then shown and its evidence asked for (``evidence.state:
   pending``);
2. ``updated``: while it is raised, and when its evidence is there;
3. ``ended``: the last message of its ``alert_id``, always. An alarm that ends while its evidence is still
   being written keeps its ``ended`` back until the evidence is there, but no longer than
   ``evidence_wait_s`` after the post-roll, and not when the camera's next alarm, a camera's end or the
   monitor's end comes first. The times inside ``ended`` are those of the decision, not of the wait.

Every method may be called from any thread and may wait for the disk. (Longer than a file should be: these are
the rules of one lock, and of who is told what before whom; taken apart they could not be checked by reading.)
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Literal

from monitor.alerting import alarm as alarms
from monitor.alerting.alarm import Alarm, Change
from monitor.alerting.contract import (
    AlarmState,
    Topics,
    alert_of,
    alert_payload,
    incident_of,
    incident_payload,
    level,
)
from monitor.alerting.flood import CALM_S, Flood
from monitor.alerting.incident import ALL_ENDED, Incident, Incidents, Member, left_behind
from monitor.alerting.outbox import Letter, Outbox, incident_key
from monitor.config import AlertSettings, Camera, Thresholds
from monitor.flow import Alert, AlertKind, BagScore, Evidence, SegmentTimes

log = logging.getLogger(__name__)

RESTARTED = "monitor restarted"
REMOVED = "camera removed or renamed"
STOPPED = "monitor stopped"
EVIDENCE = "evidence ready"
_RECOVER_EVERY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmCamera:
    """What the alarms need to know of a camera."""

    thresholds: Thresholds
    mode: Literal["alert", "observe"] = "alert"
    labels: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, camera: Camera, default: Thresholds) -> AlarmCamera:
        """``default``: the thresholds of the artefact's card, for a camera that inherits them."""
        labels = tuple(sorted(camera.labels.items()))
        return cls(thresholds=camera.thresholds or default, mode=camera.mode, labels=labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceWanted:
    """What is to be recorded for an alert. Paths are relative to the evidence folder and stay inside it.

    ``token`` comes back with the result (it is the alert's id). ``*_captured_s`` are on ``time.monotonic()``.
    """

    token: str
    camera: str
    clip: str
    snapshot: str
    from_captured_s: float
    to_captured_s: float
    snapshot_captured_s: float
    snapshot_wall_s: float


@dataclass(slots=True, kw_only=True)
class _Watch:
    """One camera, as the shell keeps it; guarded by the lock of Alerts."""

    camera: AlarmCamera
    alarm: Alarm = alarms.CALM
    alert: Alert | None = None
    """The last committed message of the open alarm."""
    decided_wall_s: float = 0.0
    held: Alert | None = None
    """``ended``, kept back for the evidence."""
    evidence: EvidenceWanted | None = None
    """Asked for and not there yet."""
    evidence_until_s: float = 0.0
    heard_s: float = 0.0
    disarmed: bool = False
    lost: str | None = None
    refused: int = 0
    alarms: int = 0
    """Raised so far."""
    raised_s: deque[float] = field(default_factory=deque)
    """When, within the last hour."""
    latched: bool = False
    """Too many alarms: the open alert lasts while the alarm comes and goes."""
    calm_s: float | None = None
    """Latched only: since when the alarm is calm."""
    owes_evidence: bool = False
    """It is there, and no message has said so yet."""

    def refuse(self, name: str, reason: str) -> None:
        self.refused += 1
        if self.refused == 1:
            log.error("camera '%s': score refused: %s; further ones are only counted", name, reason)


@dataclass(slots=True)
class _Batch:
    """What one call decided: committed as a whole, then shown."""

    letters: list[Letter] = field(default_factory=list)
    opened: dict[str, str | None] = field(default_factory=dict)
    wanted: list[EvidenceWanted] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    said: list[str] = field(default_factory=list)
    closes: str = ALL_ENDED
    """Why incidents that close in this batch do."""


class Alerts:
    """``clock`` is time.monotonic, ``wall`` time.time.

    ``request_evidence`` (None: no evidence is kept) is called after the alert's commit, outside the lock;
    its result comes back through ``evidence_done``. ``on_due`` is called after every commit that has
    letters, ``on_state`` with every AlarmState that changed, ``on_told`` with the payloads that were committed,
    after the commit too; all must be quick and callable from any thread.
    """

    def __init__(
        self,
        topics: Topics,
        outbox: Outbox,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        request_evidence: Callable[[EvidenceWanted], None] | None = None,
        on_due: Callable[[], None] = lambda: None,
        on_state: Callable[[AlarmState], None] = lambda _: None,
        on_told: Callable[[Sequence[str]], None] = lambda _: None,
        pre_roll_s: float = 5.0,
        post_roll_s: float = 5.0,
        evidence_wait_s: float = 15.0,
        lost_after_s: float = 60.0,
        new_id: Callable[[float], str] | None = None,
        settings: AlertSettings | None = None,
    ) -> None:
        """``settings`` None: nothing is held back, and nothing grouped."""
        self._topics = topics
        self._outbox = outbox
        self._clock = clock
        self._wall = wall
        self._request_evidence = request_evidence
        self._on_due = on_due
        self._on_state = on_state
        self._on_told = on_told
        self._pre_roll_s = pre_roll_s
        self._post_roll_s = post_roll_s
        self._evidence_wait_s = evidence_wait_s
        self._lost_after_s = lost_after_s
        self._new_id = new_id or _new_id
        self._lock = threading.RLock()
        self._watches: dict[str, _Watch] = {}
        self._recover_at_s = 0.0
        self._stopped = False
        self._flood = Flood(settings, clock, outbox.backlog_s)
        storm = None if settings is None else settings.storm
        self._incidents = None
        if storm is not None:
            self._incidents = Incidents(
                topics.site,
                cameras=storm.cameras,
                within_s=storm.within_s,
                lull_s=storm.lull_s,
                every_s=storm.update_every_s,
                new_id=self._new_id,
            )

    # -- what others count

    @property
    def incidents(self) -> tuple[int, int]:
        """Opened so far in this life, and open now."""
        kept = self._incidents
        return (0, 0) if kept is None else (kept.opened, len(kept))

    @property
    def held_back(self) -> dict[str, int]:
        """Updates held back and alarms not told, by cause."""
        return dict(self._flood.held_back)

    # -- cameras -----------------------------------------------------------------------------------

    def start(self, cameras: Mapping[str, AlarmCamera]) -> None:
        """Ends what a former life left open, then watches these cameras."""
        with self._together() as batch:
            self._end_orphans(batch, cameras)
        self.configure(cameras)

    def configure(self, cameras: Mapping[str, AlarmCamera]) -> None:
        """New settings. Alarms of cameras that are gone end; a change of mode ends the alarm and begins
        anew."""
        with self._together() as batch:
            for name in [name for name in self._watches if name not in cameras]:
                self._end(batch, name, REMOVED, hold=False)
                del self._watches[name]
                batch.touched.discard(name)
            for name, camera in cameras.items():
                watch = self._watches.get(name)
                if watch is None:
                    self._watches[name] = _Watch(camera=camera, heard_s=self._clock())
                else:
                    if watch.camera.mode != camera.mode:
                        self._end(batch, name, f"mode changed to {camera.mode}", hold=False)
                        watch.alarm = alarms.CALM
                    watch.camera = camera
                batch.touched.add(name)

    def end(self, camera: str, reason: str) -> None:
        """Ends this camera's alarm, if one is raised, and forgets what was on its way to one."""
        with self._together() as batch:
            if camera in self._watches:
                self._end(batch, camera, reason)

    def lost(self, camera: str, reason: str) -> None:
        """The camera gives no pictures: its alarm ends with this reason if no score comes for
        ``lost_after_s``."""
        with self._lock:
            if camera in self._watches:
                self._watches[camera].lost = reason

    def disarmed(self, camera: str, reason: str) -> None:
        """Its alarm ends, and scores are ignored until ``armed``."""
        with self._together() as batch:
            watch = self._watches.get(camera)
            if watch is not None and not watch.disarmed:
                watch.disarmed = True
                self._end(batch, camera, reason)

    def armed(self, camera: str) -> None:
        with self._lock:
            if camera in self._watches:
                self._watches[camera].disarmed = False

    def stop(self, reason: str = STOPPED) -> None:
        """Ends every alarm: nobody watches from here on. Before the outbox is drained.

        A scorer that was not waited for may still tell of scores: an alarm that they raised would have no end.
        """
        with self._together() as batch:
            self._stopped = True
            batch.closes = reason
            for name in self._watches:
                self._end(batch, name, reason, hold=False)

    # -- scores ------------------------------------------------------------------------------------

    def score(self, bag: BagScore) -> None:
        """Steps the camera's alarm through the published segments and commits what changed, as one
        transaction."""
        with self._together() as batch:
            watch = self._watches.get(bag.camera)
            if watch is None or watch.disarmed or self._stopped:
                return
            watch.heard_s, watch.lost = self._clock(), None
            for index in sorted(bag.published):
                self._step(batch, watch, bag, index)

    def _step(self, batch: _Batch, watch: _Watch, bag: BagScore, index: int) -> None:
        times = bag.times[index]
        if times is None:
            return
        before = watch.alarm
        try:
            watch.alarm, change = alarms.step(
                before, float(bag.scores_N[index]), times.captured_s, watch.camera.thresholds
            )
        except ValueError as fault:
            watch.refuse(bag.camera, str(fault))
            return
        if change is None or self._holds_back(watch, change):
            return
        batch.touched.add(bag.camera)
        if watch.camera.mode == "observe":
            batch.said.append(_observed(bag.camera, change, watch.camera.thresholds))
        elif change.kind is AlertKind.RAISED:
            self._raise(batch, watch, bag, index, change, before.ended_at)
        elif watch.alert is not None:
            alert = replace(watch.alert, **_facts(watch, bag, index, change, times), decided_wall_s=self._wall())
            self._tell(batch, watch, alert, captured_s=times.captured_s)

    def _holds_back(self, watch: _Watch, change: Change) -> bool:
        """Whether this change is not told: what it says, the alert's next message says."""
        if watch.camera.mode == "observe" or watch.alert is None:
            return False
        if watch.latched and change.kind is not AlertKind.UPDATED:
            watch.calm_s = self._clock() if change.kind is AlertKind.ENDED else None
            if change.kind is AlertKind.RAISED:
                watch.alarms += 1
                self._flood.held_back["flapping"] += 1
        elif change.kind is not AlertKind.UPDATED or self._flood.lets_update(watch.alert.incident_id is not None):
            return False
        watch.alert = replace(watch.alert, peak_score=max(watch.alert.peak_score, change.peak))
        if self._incidents is not None:
            self._incidents.peaked(watch.alert.alert_id, change.peak)
        return True

    def _raise(
        self, batch: _Batch, watch: _Watch, bag: BagScore, index: int, change: Change, ended_at: float | None
    ) -> None:
        self._release(batch, watch, "the next alarm came before the evidence was finished")
        began = bag.times[alarms.onset(bag, _crossing(bag, index, change), watch.camera.thresholds, ended_at)]
        at = bag.times[index]
        if began is None or at is None:
            raise ValueError("a published segment has times")
        now_s = self._wall()
        alert = Alert(
            alert_id=self._new_id(now_s),
            seq=0,
            site=self._topics.site,
            camera=bag.camera,
            onset_wall_s=began.captured_wall_s - (began.end_s - began.start_s),
            decided_wall_s=now_s,
            **_facts(watch, bag, index, change, at),
            labels=watch.camera.labels,
        )
        watch.decided_wall_s = now_s
        watch.alarms += 1
        if self._request_evidence is not None:
            watch.evidence = self._wanted(alert, bag, began, at)
            watch.evidence_until_s = self._clock() + self._post_roll_s + self._evidence_wait_s
            batch.wanted.append(watch.evidence)
        watch.latched, watch.calm_s = self._flood.flaps(watch.raised_s), None
        if watch.latched:
            alert = replace(alert, reason=self._flood.too_many())
        self._tell(batch, watch, self._join(batch, alert), captured_s=at.captured_s)

    def _join(self, batch: _Batch, alert: Alert) -> Alert:
        """The alert with the incident it belongs to; others that became members with it are marked too."""
        if self._incidents is None:
            return alert
        member = Member(
            camera=alert.camera,
            alert_id=alert.alert_id,
            onset_wall_s=alert.onset_wall_s,
            peak_score=alert.peak_score,
        )
        joined = set(self._incidents.raised(member, self._clock(), self._wall()))
        for watch in self._watches.values():
            if watch.alert is not None and watch.alert.alert_id in joined:
                watch.alert = replace(watch.alert, incident_id=self._incidents.of(watch.alert.alert_id))
                self._keep_open(batch, watch, watch.alert)
        return replace(alert, incident_id=self._incidents.of(alert.alert_id))

    @staticmethod
    def _keep_open(batch: _Batch, watch: _Watch, alert: Alert) -> None:
        """What a next life must know of an open alarm, without a message."""
        payload = alert_payload(alert, watch.evidence is not None)
        batch.opened[alert.camera] = json.dumps(payload, ensure_ascii=False)

    def _wanted(self, alert: Alert, bag: BagScore, began: SegmentTimes, at: SegmentTimes) -> EvidenceWanted:
        day = datetime.fromtimestamp(alert.decided_wall_s, UTC).strftime("%Y-%m-%d")
        stem = f"{level(alert.camera)}/{day}/{level(alert.alert_id)}"
        looked = alarms.most_attended(bag)
        picture = at if looked is None else bag.times[looked] or at
        return EvidenceWanted(
            token=alert.alert_id,
            camera=alert.camera,
            clip=f"{stem}.mp4",
            snapshot=f"{stem}.jpg",
            from_captured_s=began.captured_s - (began.end_s - began.start_s) - self._pre_roll_s,
            to_captured_s=at.captured_s + self._post_roll_s,
            snapshot_captured_s=picture.captured_s,
            snapshot_wall_s=picture.captured_wall_s,
        )

    # -- evidence and time -------------------------------------------------------------------------

    def evidence_done(self, token: str, evidence: Evidence) -> None:
        """The evidence asked for with this token is there (or its note says why not)."""
        with self._together() as batch:
            watch = next(
                (w for w in self._watches.values() if w.evidence is not None and w.evidence.token == token),
                None,
            )
            if watch is None or watch.alert is None or watch.evidence is None:
                log.info("evidence of alert %s came after its end: it is kept, but no message links it", token)
                return
            wanted, watch.evidence = watch.evidence, None
            # Our own links, whatever kind of path the recorder reports; but a clip that MP4 cannot hold is a .mkv.
            evidence = replace(
                evidence,
                clip=None
                if evidence.clip is None
                else str(PurePosixPath(wanted.clip).with_suffix(PurePosixPath(evidence.clip).suffix)),
                snapshot=wanted.snapshot if evidence.snapshot is not None else None,
                snapshot_wall_s=wanted.snapshot_wall_s if evidence.snapshot is not None else None,
            )
            watch.alert = replace(watch.alert, evidence=evidence)
            watch.owes_evidence = True
            self._keep_open(batch, watch, watch.alert)
            self._tell_evidence(batch, watch)
            self._release(batch, watch, None)

    def _tell_evidence(self, batch: _Batch, watch: _Watch) -> None:
        """``updated`` with the evidence, now or, where that is too much at once, at a later tick."""
        if watch.alert is None or not self._flood.lets_update(watch.alert.incident_id is not None, evidence=True):
            return
        peak = watch.alert.peak_score if watch.held else max(watch.alarm.peak, watch.alert.peak_score)
        update = replace(
            watch.alert, kind=AlertKind.UPDATED, peak_score=peak, decided_wall_s=self._wall(), reason=EVIDENCE
        )
        self._tell(batch, watch, update)

    def tick(self) -> None:
        """To be called about once a second: ends alarms of silent cameras, stops waiting for evidence, and
        tries a disk that failed again."""
        if not self._outbox.durable and self._clock() >= self._recover_at_s:
            self._recover_at_s = self._clock() + _RECOVER_EVERY_S
            self._outbox.recover()
        with self._together() as batch:
            self._end_orphans(batch, {name: watch.camera for name, watch in self._watches.items()})
            now_s = self._clock()
            for name, watch in self._watches.items():
                if now_s - watch.heard_s >= self._lost_after_s:
                    silence = f"no score for {self._lost_after_s:.0f} s"
                    reason = f"camera lost: {watch.lost}" if watch.lost else silence
                    self._end(batch, name, reason)
                if watch.latched and watch.calm_s is not None and now_s - watch.calm_s >= CALM_S:
                    self._end(batch, name, f"no alarm for {CALM_S / 60:.0f} minutes, after too many")
                if watch.owes_evidence:
                    self._tell_evidence(batch, watch)
                if watch.held is not None and now_s >= watch.evidence_until_s:
                    self._release(batch, watch, "the evidence was not finished in time")

    def states(self) -> dict[str, AlarmState]:
        with self._lock:
            return {name: self._state(name, watch) for name, watch in self._watches.items()}

    # -- ends --------------------------------------------------------------------------------------

    def _end_orphans(self, batch: _Batch, cameras: Mapping[str, AlarmCamera]) -> None:
        """Alarms and incidents on disk that nobody in this life raised."""
        orphans: dict[str, dict[str, Member]] = {}
        for name, text in self._outbox.open_alarms().items():
            watch = self._watches.get(name)
            if watch is not None and watch.alert is not None:
                continue
            left = alert_of(json.loads(text))
            note = left.evidence.note
            if left.evidence.clip is None and left.evidence.snapshot is None:
                note = note or "the monitor restarted before the evidence was finished"
            ended = replace(
                left,
                seq=left.seq + 1,
                kind=AlertKind.ENDED,
                decided_wall_s=self._wall(),
                reason=RESTARTED if name in cameras else REMOVED,
                evidence=replace(left.evidence, note=note),
            )
            self._put(batch, ended, evidence_pending=False, captured_s=None)
            if left.incident_id is not None:
                orphans.setdefault(left.incident_id, {})[left.alert_id] = Member(
                    camera=left.camera,
                    alert_id=left.alert_id,
                    onset_wall_s=left.onset_wall_s,
                    peak_score=left.peak_score,
                )
        for incident_id, text in self._outbox.open_incidents().items():
            if self._incidents is None or incident_id not in self._incidents:
                kept = incident_of(json.loads(text))
                closed = left_behind(kept, orphans.get(incident_id, {}), self._wall(), RESTARTED)
                self._put_incident(batch, closed)

    def _end(self, batch: _Batch, name: str, reason: str, hold: bool = True) -> None:
        """An end from outside the scores."""
        watch = self._watches[name]
        watch.alarm, change = alarms.end(watch.alarm, watch.alarm.at or 0.0, reason)
        if change is None and watch.latched and watch.alert is not None:
            change = Change(
                kind=AlertKind.ENDED,
                at=watch.alarm.at or 0.0,
                score=watch.alarm.score or 0.0,
                peak=watch.alert.peak_score,
                crossed_at=None,
                reason=reason,
            )
        if change is not None:
            batch.touched.add(name)
        if change is not None and watch.camera.mode == "observe":
            batch.said.append(_observed(name, change, watch.camera.thresholds))
        elif change is not None and watch.alert is not None:
            ended = replace(
                watch.alert,
                kind=AlertKind.ENDED,
                score=change.score,
                peak_score=change.peak,
                decided_wall_s=self._wall(),
                reason=reason,
            )
            self._tell(batch, watch, ended)
        if not hold:
            self._release(batch, watch, f"{reason} before the evidence was finished")

    def _release(self, batch: _Batch, watch: _Watch, missing: str | None) -> None:
        """Sends an ``ended`` that was kept back; ``missing`` says what its evidence did not wait for."""
        watch.evidence = None
        held, watch.held = watch.held, None
        if held is None or watch.alert is None:
            return
        evidence = watch.alert.evidence
        if missing is not None:
            evidence = replace(evidence, note=evidence.note or missing)
        self._tell(batch, watch, replace(held, evidence=evidence, incident_id=watch.alert.incident_id))

    # -- telling -----------------------------------------------------------------------------------

    def _tell(self, batch: _Batch, watch: _Watch, alert: Alert, captured_s: float | None = None) -> None:
        """Numbers the message and puts it into the batch, or keeps an ``ended`` back for its evidence."""
        if watch.alert is not None and alert.kind is not AlertKind.RAISED:
            alert = replace(alert, peak_score=max(alert.peak_score, watch.alert.peak_score))
        if alert.kind is AlertKind.ENDED:
            watch.latched, watch.calm_s = False, None
        if alert.kind is AlertKind.ENDED and watch.evidence is not None:
            if self._clock() < watch.evidence_until_s:
                watch.held = alert
                return
            watch.evidence = None
            alert = replace(alert, evidence=replace(alert.evidence, note="the evidence was not finished in time"))
        seq = 1 if alert.kind is AlertKind.RAISED else (watch.alert.seq if watch.alert else 0) + 1
        alert = replace(alert, seq=seq)
        watch.alert = None if alert.kind is AlertKind.ENDED else alert
        watch.owes_evidence = False
        batch.touched.add(alert.camera)
        self._put(batch, alert, watch.evidence is not None, captured_s)

    def _put(self, batch: _Batch, alert: Alert, evidence_pending: bool, captured_s: float | None) -> None:
        payload = json.dumps(alert_payload(alert, evidence_pending), ensure_ascii=False)
        batch.letters.append(
            Letter(
                alert_id=alert.alert_id,
                seq=alert.seq,
                kind=alert.kind.value,
                # The site of the alert: one that a former life left open may have had another.
                topic=Topics(self._topics.prefix, alert.site).camera(alert.camera, "alert"),
                payload=payload,
                created=self._wall(),  # not the decision: an ``ended`` that was kept back is not late for that
                captured_s=captured_s,
            )
        )
        batch.opened[alert.camera] = None if alert.kind is AlertKind.ENDED else payload
        if self._incidents is not None:
            if alert.kind is AlertKind.ENDED:
                self._incidents.ended(alert.alert_id, alert.peak_score)
            else:
                self._incidents.peaked(alert.alert_id, alert.peak_score)
        if alert.kind is not AlertKind.UPDATED:
            batch.said.append(
                f"camera '{alert.camera}': alarm {alert.kind.value} ({alert.reason}; "
                f"score {alert.score:.2f}, threshold {alert.threshold:.2f}), alert {alert.alert_id}"
            )

    def _tell_incidents(self, batch: _Batch) -> None:
        """What the batch, and time, made of the incidents: behind the alerts of their members."""
        if self._incidents is None:
            return
        due = self._incidents.due(
            self._clock(), self._wall(), updates=lambda: not self._flood.has_backlog(), reason=batch.closes
        )
        for incident in due:
            self._put_incident(batch, incident)
        for incident in self._incidents.stale():
            batch.opened[incident_key(incident.incident_id)] = self._incident_json(incident)

    def _incident_json(self, incident: Incident) -> str:
        still = 0 if self._incidents is None else len(self._incidents)
        return json.dumps(incident_payload(incident, still), ensure_ascii=False)

    def _put_incident(self, batch: _Batch, incident: Incident) -> None:
        payload = self._incident_json(incident)
        batch.letters.append(
            Letter(
                alert_id=incident.incident_id,
                seq=incident.seq,
                kind="incident",
                topic=Topics(self._topics.prefix, incident.site).incident,
                payload=payload,
                created=self._wall(),
            )
        )
        batch.opened[incident_key(incident.incident_id)] = None if incident.kind == "closed" else payload
        if incident.kind != "updated":
            cameras = ", ".join(f"'{member.camera}'" for member in incident.members[:10])
            more = f" and {len(incident.members) - 10} more" if len(incident.members) > 10 else ""
            batch.said.append(f"incident {incident.incident_id} {incident.kind} ({incident.reason}): {cameras}{more}")

    @contextmanager
    def _together(self) -> Iterator[_Batch]:
        """One call's decisions: committed as one, then logged and shown, then the evidence asked for."""
        batch = _Batch()
        with self._lock:
            yield batch
            self._tell_incidents(batch)
            if batch.letters or batch.opened:
                self._outbox.commit(batch.letters, batch.opened)
            states = [self._state(name, self._watches[name]) for name in sorted(batch.touched)]
            for sentence in batch.said:
                log.info("%s", sentence)
            # Under the lock, so that two changes of a camera are never shown the wrong way round.
            for state in states:
                self._on_state(state)
            if batch.letters:
                self._on_due()
                self._on_told([letter.payload for letter in batch.letters if letter.kind != "incident"])
        for wanted in batch.wanted:
            if self._request_evidence is not None:
                self._request_evidence(wanted)

    def _state(self, name: str, watch: _Watch) -> AlarmState:
        alert, observe = watch.alert, watch.camera.mode == "observe"
        return AlarmState(
            camera=name,
            mode=watch.camera.mode,
            raised=alert is not None,
            would_raise=observe and watch.alarm.raised,
            alert_id=alert.alert_id if alert else None,
            since_wall_s=watch.decided_wall_s if alert else None,
            onset_wall_s=alert.onset_wall_s if alert else None,
            score=watch.alarm.score,
            peak_score=alert.peak_score if alert else watch.alarm.peak if watch.alarm.raised else None,
            threshold=watch.camera.thresholds.raise_at,
            alarms=watch.alarms,
        )


def _crossing(bag: BagScore, index: int, change: Change) -> int:
    """Index of the segment that first crossed: before ``index`` where a minimum duration had to pass."""
    crossed_at = change.at if change.crossed_at is None else change.crossed_at
    return next(
        (i for i, times in enumerate(bag.times) if times is not None and times.captured_s >= crossed_at),
        index,
    )


def _facts(watch: _Watch, bag: BagScore, index: int, change: Change, times: SegmentTimes) -> dict[str, Any]:
    """What a message about an alarm says of the segment that caused it."""
    return {
        "kind": change.kind,
        "score": change.score,
        "peak_score": change.peak,
        "threshold": watch.camera.thresholds.raise_at,
        "long_term": float(bag.long_term_N[index]),
        "short_term": float(bag.short_term_N[index]),
        "bridged": bag.bridged,
        "captured_wall_s": times.captured_wall_s,
        "reason": change.reason,
    }


def _observed(camera: str, change: Change, thresholds: Thresholds) -> str:
    return (
        f"camera '{camera}': would be {change.kind.value} (mode observe, nothing is published; "
        f"{change.reason}; score {change.score:.2f}, threshold {thresholds.raise_at:.2f})"
    )


def _new_id(wall_s: float) -> str:
    """Sorts by time, readable in a file name, and never the same twice: ``20260301T101502-3fa9c1d25b``."""
    return f"{datetime.fromtimestamp(wall_s, UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(5)}"
