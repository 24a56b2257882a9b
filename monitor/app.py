"""Builds, starts and drains everything; the only file that knows all parts.

Who runs where: reader processes decode; the scorer's thread owns the accelerator; one thread named ``alerts``
decides and commits alarms, in the order of the scores; the event loop publishes, serves HTTP and looks
after everything once a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch

from monitor import __version__, config
from monitor.alerting import retention
from monitor.alerting.alerts import AlarmCamera, Alerts, EvidenceWanted
from monitor.alerting.broker import EmbeddedBroker
from monitor.alerting.contract import AlarmState, Topics, canary_payload, iso, verdict_payload
from monitor.alerting.mqtt import Publisher
from monitor.alerting.outbox import Letter, Outbox
from monitor.canary import Canary, CanaryState
from monitor.commands import CannotError, Commands, Parts
from monitor.config import Camera, Mqtt, Plant, Shard
from monitor.console.access import Access
from monitor.console.guard import who_asks
from monitor.console.history import StatusRow
from monitor.console.service import Console, Judged, Outside
from monitor.console.wall import CameraNow
from monitor.detectors.canary import clip_of
from monitor.flow import FRAMES_PER_SEGMENT, BagScore, CameraStatus
from monitor.ingest.camera import ReaderSettings
from monitor.ingest.pool import ReaderPool
from monitor.ingest.wire import EvidenceRequest, EvidenceResult, decoded_by
from monitor.observe import http
from monitor.observe import log as log_of
from monitor.observe.audit import Audit
from monitor.observe.disk import DiskSpace, disk_space
from monitor.observe.door import Door
from monitor.observe.health import LOOP_LIMIT_S, Check, Heartbeats, watch_event_loop
from monitor.observe.metrics import Metrics
from monitor.observe.series import CameraFigures, ProcessFigures
from monitor.observe.status import plant_summary
from monitor.observe.systemd import Systemd
from monitor.scoring.rings import open_rings
from monitor.scoring.scorer import Scorer
from monitor.watch import PictureSeen, Seen, Watch

log = logging.getLogger(__name__)
T = TypeVar("T")

GIVE_WAY = 5
"""The niceness of readers where a GPU encodes: little CPU feeds it, and without that little no camera has a score."""
LOOK_EVERY_S = 1.0
RETENTION_EVERY_S = 600.0
DISKS_EVERY_S = 30.0
SCORED_SHARE = 0.75
"""Of ``drain_s``: what is not scored by then is given up for telling the ends of what is raised."""
WAITING_DECISIONS = 256
"""Batches of scores that may wait for the alarms' thread while a disk hangs; then the scorer waits, and segments are
dropped and counted."""
ACKNOWLEDGED_S = 10.0
"""How long the broker may take for the canary's message."""
DISK_FAILS = "alerts are not durable: the disk cannot be written"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where a running monitor can be reached."""

    http: str
    mqtt: str | None


class Monitor:
    """One life of the monitor. ``await run()`` returns when it was asked to stop and everything is drained."""

    def __init__(
        self,
        plant: Plant,
        file: Path | None,
        *,
        dry_run: bool = False,
        on_bag: Callable[[BagScore], None] | None = None,
        shard: Shard = config.WHOLE,
    ) -> None:
        """``file`` is read again on SIGHUP (None: it is not); ``on_bag`` sees every score, on the event loop.
        Of the plant's cameras those of ``shard`` are watched."""
        self._plant, self._file, self._dry_run, self._on_bag = shard.of(plant), file, dry_run, on_bag
        self._shard = shard
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None
        self._ready = False
        self._heartbeats = Heartbeats()
        self._logged: dict[str, CameraStatus] = {}
        self._without_gpu: set[str] = set()
        self._disks: dict[str, DiskSpace] = {}
        self._reloading = asyncio.Lock()
        self._decided_s = time.monotonic()
        self._undecided = threading.Semaphore(WAITING_DECISIONS)
        self.started: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()
        """Done when everything runs."""

    # -- its life ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Starts, watches until ``stop``, drains. Raises the original error of whatever failed."""
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as tasks, contextlib.AsyncExitStack() as stack:
                await self._build(tasks, stack)
                await self._stopping.wait()
                await self._drain()
                for task in reversed(self._tasks):
                    # One after the other: the publisher says good-bye before the embedded broker goes.
                    task.cancel()
                    await asyncio.wait({task})
        except BaseExceptionGroup as group:
            raise _first(group) from None
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Asks for the end; on the event loop."""
        if not self._stopping.is_set():
            state = f"; {self.summary()}" if self._ready else ""
            log.info("stopping: draining for at most %.0f s%s", self._plant.drain_s, state)
        self._stopping.set()

    async def _build(self, tasks: asyncio.TaskGroup, stack: contextlib.AsyncExitStack) -> None:
        plant = self._plant
        self._heartbeats.beat("event loop")
        self._systemd = stack.enter_context(Systemd(self._heartbeats))
        self._metrics = Metrics(self._camera_figures, self._process_figures)
        self._metrics.set_build(__version__, torch.__version__)
        listening: asyncio.Future[str] = self._loop.create_future()
        self._audit = stack.enter_context(Audit(None if self._dry_run else plant.state_folder))
        self._console = self._open_console()
        door, own = self._door(), plant.http.metrics
        service = http.app(
            self._metrics,
            self._heartbeats.checks,
            self._readiness,
            console=None if self._console is None else self._console.asgi,
            door=door,
            scraped=own.host is None,
        )
        self._tasks = [
            tasks.create_task(http.serve(service, plant.http.host, plant.http.port, listening.set_result), name="http"),
            tasks.create_task(
                watch_event_loop(self._heartbeats, self._metrics.observe_event_loop_lag),
                name="event loop watch",
            ),
        ]
        address = await listening
        if own.host is not None and own.port is not None:
            scraped = http.scrapes(self._metrics, self._door(own.host))
            told = self._loop.create_future()
            serving = http.serve(scraped, own.host, own.port, told.set_result)
            self._tasks.append(tasks.create_task(serving, name="http metrics"))
            log.info("/metrics: %s", await told)
        self._rings = await asyncio.to_thread(open_rings, plant.scoring, files=False)
        self._describe_artefact()
        mqtt_address = await self._build_alerting(tasks, stack)
        if self._console is not None:
            card = self._rings.artefact.card
            self._console.bags.artefact = f"{card.name} {card.weights_sha256 or card.backbone_fingerprint}"
            history = stack.enter_context(contextlib.ExitStack())
            await asyncio.to_thread(self._console.open, history)
        self._build_pipeline(stack)
        if self._commands is not None:
            self._tasks.append(tasks.create_task(self._commands.run(), name="commands"))
        self._canary = self._open_canary()
        if self._canary is not None:
            self._tasks.append(tasks.create_task(self._canary.run(), name="canary"))
        await asyncio.to_thread(self._audit.write, "start", version=__version__, cameras=len(plant.cameras))
        # Nothing is waited for from here to ``ready``: systemd must hear that first, and not of a watchdog.
        self._tasks += [
            tasks.create_task(self._look_after(), name="look after"),
            tasks.create_task(self._retain(), name="retention"),
            tasks.create_task(self._weigh_disks(), name="disks"),
            tasks.create_task(self._systemd.watch(self.summary), name="systemd"),
        ]
        self._decided_s = time.monotonic()
        self._ready = True
        self._systemd.ready()
        log.info("watching %d cameras of '%s'; %s", len(plant.cameras), plant.site, address)
        self.started.set_result(Addresses(http=address, mqtt=mqtt_address))

    def _describe_artefact(self) -> None:
        card, bags = self._rings.artefact.card, self._rings.bags
        self._metrics.set_artefact(
            name=card.name,
            backbone=card.backbone,
            device=str(self._rings.device),
            bag_length=bags.length,
            stride=bags.stride,
            delay=bags.delay,
        )
        log.info(
            "artefact '%s': backbone %s (%s), l = %d, stride %d, delay %d, on %s",
            card.name,
            card.backbone,
            self._rings.backbone.engine,
            bags.length,
            bags.stride,
            bags.delay,
            self._rings.device,
        )

    async def _build_alerting(self, tasks: asyncio.TaskGroup, stack: contextlib.AsyncExitStack) -> str | None:
        plant = self._plant
        topics = Topics(plant.mqtt.prefix, plant.site)
        speaks = plant.mqtt.kind != "off" and not self._dry_run
        path = None if self._dry_run else plant.state_folder / "outbox.sqlite"
        self._outbox = stack.enter_context(Outbox(path, wall=time.time, most=100_000 if speaks else 0))
        self._decisions = ThreadPoolExecutor(max_workers=1, thread_name_prefix="alerts")
        stack.callback(self._decisions.shutdown)
        settings = plant.mqtt
        if speaks and settings.kind == "embedded":
            settings = await stack.enter_async_context(_embedded(settings))
        self._publisher = Publisher(
            settings,
            topics,
            self._outbox,
            clock=time.monotonic,
            wall=time.time,
            version=__version__,
            on_latency=self._metrics.observe_acknowledged,
            late_per_s=plant.alerts.late_per_s,
        )
        self._publisher.configure(camera.name for camera in plant.cameras)
        self._speaks = speaks
        self._commands = self._open_commands(topics) if speaks and plant.mqtt.commands else None
        self._publisher.on_command = None if self._commands is None else self._commanded
        self._alerts = Alerts(
            topics,
            self._outbox,
            clock=time.monotonic,
            wall=time.time,
            request_evidence=self._request_evidence,
            on_due=self._publisher.due,
            on_state=self._publisher.alarm,
            on_told=self._told,
            pre_roll_s=plant.evidence.pre_roll_s,
            post_roll_s=plant.evidence.post_roll_s,
            settings=plant.alerts,
        )
        self._watch = Watch(self._rings.bags, self._card_fps, self._rings.artefact.card.thresholds)
        self._watch.configure(plant.cameras)
        await self._decide(self._alerts.start, self._alarm_cameras(plant))
        if not speaks:
            return None
        self._tasks.append(tasks.create_task(self._publisher.run(), name="mqtt"))
        return f"mqtt://{settings.host}:{settings.port}"

    def _build_pipeline(self, stack: contextlib.AsyncExitStack) -> None:
        plant = self._plant
        self._pool = ReaderPool(
            self._reader_settings(plant),
            self._rings.backbone.preprocessing,
            ingest=plant.ingest,
            evidence=plant.evidence,
            recorder_s=self._recorder_s(plant),
            niceness=GIVE_WAY if self._rings.device.type == "cuda" else 0,
        )
        self._pool.on_evidence = self._evidence_done
        if self._plant.console.pictures or "snapshot" in self._plant.mqtt.commands:
            self._pool.on_picture = self._picture
        self._scorer = Scorer(
            self._rings,
            self._pool,
            self,
            batch_max=plant.scoring.batch_max,
            deadline_s=plant.scoring.batch_deadline_s,
        )
        # Where something fails, nobody drains: the readers end first, then the scorer finds nothing more.
        stack.callback(self._scorer.stop, 2.0)
        stack.enter_context(self._pool)
        self._heartbeats.beat("scorer")
        self._scorer.start()

    def _open_commands(self, topics: Topics) -> Commands:
        parts = Parts(
            disarm=self._disarm,
            arm=self._arm,
            shelve=None if self._console is None else self._console.shelve,
            ask_picture=self._ask_picture,
            answer=self._publisher.answer,
            audit=self._audit.write,
            count=self._metrics.count_command,
        )
        return Commands(
            topics,
            parts,
            allowed=self._plant.mqtt.commands,
            cameras=lambda: {camera.name for camera in self._plant.cameras},
            folder=self._plant.evidence.folder.absolute(),
            alone=self._shard == config.WHOLE,
        )

    def _open_canary(self) -> Canary | None:
        every_s, artefact = self._plant.canary.every_s, self._rings.artefact
        card = artefact.card
        if every_s is None or card.canary is None:
            if every_s is not None:
                log.info("no canary: artefact '%s' has none (vad-train canary adds one)", card.name)
            self._publisher.canary(None)  # what a former life told of one is no longer true
            return None
        self._metrics.expect_canary()
        return Canary(
            clip_of(artefact.folder, card.canary),
            card.canary,
            every_s=every_s,
            fps=card.fps,
            preprocessing=self._rings.backbone.preprocessing,
            try_out=self._scorer.try_out,
            tell=self._tell_canary,
            count=self._metrics.count_canary,
        )

    async def _tell_canary(self, state: CanaryState) -> bool | None:
        """Published and retained; whether the broker acknowledged it, None where there is none to tell."""
        payload = canary_payload(
            self._plant.site,
            state=state.state,
            part=state.part,
            reason=state.reason,
            checked_at_s=state.checked_wall_s,
            passed_at_s=state.passed_wall_s,
            latency_s=state.latency_s,
        )
        self._publisher.canary(payload)
        if not self._speaks:
            return None
        try:
            async with asyncio.timeout(ACKNOWLEDGED_S):
                while not self._publisher.told_canary(payload):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            return False
        return True

    async def _drain(self) -> None:
        """The end of the stream: readers end, slots drain, alarms end, the outbox is told as far as it goes."""
        self._systemd.stopping()
        if self._console is not None:
            self._console.close()
        drain_s = self._plant.drain_s
        async with self._reloading:  # a reload under way is finished, and none begins
            until_s = time.monotonic() + drain_s
        await asyncio.to_thread(self._pool.stop, drain_s / 2)
        # The rest of the time is for telling the ends of what is raised.
        scored_s = drain_s * SCORED_SHARE
        whole = await asyncio.to_thread(self._scorer.stop, max(1.0, until_s - (drain_s - scored_s) - time.monotonic()))
        if not whole:
            log.warning("the scorer had not finished after %.0f s; what it held is lost", scored_s)
        self._heartbeats.forget("scorer")
        try:
            async with asyncio.timeout(max(1.0, until_s - time.monotonic())):
                await self._decide(self._alerts.stop)
        except TimeoutError:
            _give_up(f"the disk has not answered for {time.monotonic() - self._decided_s:.0f} s")
        if self._speaks:
            await self._publisher.drain(max(1.0, until_s - time.monotonic()))
        await asyncio.to_thread(self._audit.write, "stop", drained=whole)

    # -- what the scorer's thread tells (the Sink of scorer.py) --------------------------------------------------

    def scored(self, bags: Sequence[BagScore]) -> None:
        for bag in bags:
            self._watch.add(bag)
            newest = next(times for times in reversed(bag.times) if times is not None)
            self._metrics.observe_scored(bag.scored_s - newest.captured_s)
        while not self._undecided.acquire(timeout=LOOK_EVERY_S):
            self.turned()  # the disk hangs, not the scorer; at the end ``_drain`` does not wait for ever
        self._decisions.submit(self._guarded, self._decide_on, bags)
        self._loop.call_soon_threadsafe(self._show, bags)

    def batch(self, segments: int, backbone_s: float, detectors_s: float) -> None:
        if segments:
            self._metrics.observe_batch(segments, backbone_s, detectors_s)

    def turned(self) -> None:
        self._heartbeats.beat("scorer")

    def failed(self, error: BaseException) -> None:
        self._loop.call_soon_threadsafe(self._fail, error)

    # -- alarms and evidence -------------------------------------------------------------------------------------

    def _decide_on(self, bags: Sequence[BagScore]) -> None:
        self._undecided.release()
        for bag in bags:
            self._alerts.score(bag)

    async def _decide(self, call: Callable[..., T], *arguments: object) -> T:
        """Runs a call of the alarms in their thread, behind all scores that came before."""
        return await self._loop.run_in_executor(self._decisions, call, *arguments)

    def _guarded(self, call: Callable[..., None], *arguments: object) -> None:
        """For the alarms' thread: a fault there ends the monitor instead of vanishing with its future."""
        try:
            call(*arguments)
        except BaseException as error:
            self.failed(error)

    def _request_evidence(self, wanted: EvidenceWanted) -> None:
        folder = self._plant.evidence.folder.absolute()
        self._pool.save_evidence(
            EvidenceRequest(
                token=wanted.token,
                camera=wanted.camera,
                clip_path=folder / wanted.clip,
                snapshot_path=folder / wanted.snapshot,
                from_captured_s=wanted.from_captured_s,
                to_captured_s=wanted.to_captured_s,
                snapshot_captured_s=wanted.snapshot_captured_s,
            )
        )

    def _evidence_done(self, result: EvidenceResult) -> None:
        """From a thread of the pool."""
        evidence = result.evidence
        self._metrics.count_evidence(written=evidence.clip is not None and evidence.snapshot is not None)
        if evidence.note is not None:
            log.warning("camera '%s': evidence of alert %s: %s", result.camera, result.token, evidence.note)
        with contextlib.suppress(RuntimeError):  # at the very end nobody decides any more
            self._decisions.submit(self._guarded, self._alerts.evidence_done, result.token, evidence)

    # -- the operators' console ----------------------------------------------------------------------------------

    def _door(self, host: str = "") -> Door:
        """Who may read /metrics: whoever has its token, and the users of the console, be it served or not. At an
        address of its own on this machine alone (``host``) it is for this machine's users, as it is without users."""
        token, users = self._plant.http.metrics.token, self._plant.console.users
        access = Access(users) if self._console is None else self._console.access
        return Door(
            None if token is None else token.get_secret_value(),
            lambda headers: bool(users) and who_asks(headers, access) is not None,
            guarded=bool(users) and not config.is_loopback(host),
        )

    def _open_console(self) -> Console | None:
        if not self._plant.serves_console:
            log.info("console: not served: http.host is open to others and there are no console.users")
            return None
        outside = Outside(
            tell_verdict=self._tell_verdict,
            detail=self._detail,
            ask_picture=self._ask_picture,
            audit=self._audit.write,
            audited=self._audit.rows,
            canary=self._canary_now,
        )
        return Console(self._plant, outside, dry=self._dry_run)

    def _canary_now(self) -> dict[str, Any]:
        if not self._ready or self._canary is None:
            return {"state": "waiting" if self._plant.canary.every_s is not None and not self._ready else "off"}
        state = self._canary.state
        times = {"checked_s": state.checked_wall_s, "passed_s": state.passed_wall_s}
        return times | {"state": state.state, "reason": state.reason, "latency_s": state.latency_s}

    def _told(self, payloads: Sequence[str]) -> None:
        """From the alarms' thread."""
        if self._console is not None:
            self._loop.call_soon_threadsafe(self._console.alerted, payloads)

    def _show_console(self, changed: Mapping[str, Seen], states: Mapping[str, AlarmState]) -> None:
        console, cameras = self._console, {camera.name: camera for camera in self._plant.cameras}
        if console is None:
            return
        console.changed(
            StatusRow(camera=name, at_s=time.time(), status=seen.status, reason=seen.reason)
            for name, seen in changed.items()
        )
        console.look(
            self._camera_now(cameras[name], seen, states.get(name))
            for name, seen in self._watch.seen().items()
            if name in cameras
        )

    def _camera_now(self, camera: Camera, seen: Seen, state: AlarmState | None) -> CameraNow:
        state = state or AlarmState(camera=camera.name)
        thresholds = camera.thresholds or self._rings.artefact.card.thresholds
        return CameraNow(
            name=camera.name,
            status=seen.status,
            reason=seen.reason,
            since_s=seen.since_wall_s,
            mode=camera.mode,
            labels=camera.labels,
            raise_at=thresholds.raise_at,
            clear_at=thresholds.clear_at,
            raised=state.raised,
            would_raise=state.would_raise,
            alert_id=state.alert_id,
            onset_s=state.onset_wall_s,
            peak_score=state.peak_score,
        )

    async def _tell_verdict(self, judged: Judged) -> None:
        """Through the outbox, like an alert: until the broker has acknowledged it."""
        self._watch.judged(judged.camera, judged.verdict)
        if judged.after_s is not None:
            self._metrics.observe_verdict(judged.after_s)
        topics = Topics(self._plant.mqtt.prefix, self._plant.site)
        payload = verdict_payload(
            self._plant.site,
            judged.camera,
            alert_id=judged.alert_id,
            verdict=judged.verdict,
            category=judged.category,
            note=judged.note,
            who=judged.who,
            at_s=judged.at_s,
        )
        letter = Letter(
            alert_id=f"verdict {judged.alert_id} {judged.at_s}",
            seq=1,
            kind="verdict",
            topic=topics.camera(judged.camera, "verdict"),
            payload=json.dumps(payload, ensure_ascii=False),
            created=judged.at_s,
        )
        await self._decide(self._outbox.commit, [letter], {})
        self._publisher.due()

    def _detail(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the console's camera page says: the picture's health, and the settings without secrets."""
        settings = next(one for one in config.redacted(self._plant)["cameras"] if one["name"] == name)
        health = self._pool.health().get(name) if self._ready else None
        if health is None:
            return {}, settings
        facts = {
            "link": health.link,
            "codec": health.codec,
            "decoded_by": decoded_by(health),
            "width_px": health.width_px,
            "height_px": health.height_px,
            "source_fps": round(health.source_fps, 2),
            "last_frame_age_s": None
            if health.last_frame_s is None
            else round(time.monotonic() - health.last_frame_s, 1),
            "picture_fault": ", ".join(health.picture_faults) or None,
            **_picture_facts(self._watch.picture(name)),
            "clock_drift_ppm": None if health.drift_ppm is None else round(health.drift_ppm),
            "lag_s": None if health.lag_s is None else round(health.lag_s, 1),
            "frames_decoded": health.frames_decoded,
            "decode_errors": health.decode_errors,
            "segments": health.segments,
            "segments_dropped": sum(health.dropped.values()),
            "segments_invalid": sum(health.invalid.values()),
            "reconnects": health.reconnects,
            "stalls": health.stalls,
            "evidence_held_s": round(health.recorder_s, 1),
        }
        return facts, settings

    def _ask_picture(self, name: str) -> None:
        if self._ready:
            self._pool.look(name)

    def _picture(self, name: str, jpeg: bytes, captured_wall_s: float) -> None:
        """From a thread of the pool."""
        for wants in (self._console, self._commands):
            if wants is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(wants.picture_came, name, jpeg, captured_wall_s)

    # -- commands over MQTT --------------------------------------------------------------------------------------

    def _commanded(self, topic: str, payload: bytes, retained: bool) -> None:
        if self._commands is not None and self._ready and not self._stopping.is_set():
            self._commands.took(topic, payload, retained)

    async def _disarm(self, name: str, for_s: float, reason: str) -> float:
        self._must_be_enabled(name)
        until_wall_s, sentence = self._watch.disarm(name, for_s, reason)
        await self._decide(self._alerts.disarmed, name, sentence)
        return until_wall_s

    async def _arm(self, name: str) -> str:
        """The alarm follows with the next look at the cameras."""
        self._must_be_enabled(name)
        armed, because = self._watch.arm(name)
        if not armed:
            raise CannotError(f"its schedule keeps it disarmed ({because}), and a command does not override that")
        return "armed"

    def _must_be_enabled(self, name: str) -> None:
        if not any(camera.name == name and camera.enabled for camera in self._plant.cameras):
            raise CannotError("it is switched off in the configuration (enabled: false)")

    # -- on the event loop ---------------------------------------------------------------------------------------

    def _show(self, bags: Sequence[BagScore]) -> None:
        if self._console is not None:
            self._console.scored(bags)
        for bag in bags:
            self._publisher.score(bag)
            if self._on_bag is not None:
                self._on_bag(bag)

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        self._stopping.set()

    async def _look_after(self) -> None:
        """Once a second: how does every camera stand, and what follows from it?"""
        while True:
            await self._decide(self._alerts.tick)
            self._decided_s = time.monotonic()
            states = await self._decide(self._alerts.states)
            changed = self._watch.look(self._pool.health(), dict(self._rings.progress), states)
            for name, seen in changed.items():
                self._publisher.status(name, seen.status, seen.reason, seen.since_wall_s)
            self._tell_pictures()
            self._log_changes(changed)
            self._log_decoders()
            self._show_console(changed, states)
            await self._decide(self._follow, self._watch.seen())
            await asyncio.sleep(LOOK_EVERY_S)

    def _tell_pictures(self) -> None:
        """Those who keep the cameras are told what is wrong with a picture; no alarm comes of it."""
        for name, seen in self._watch.pictures().items():
            now = seen.now
            self._publisher.picture(
                name,
                state=now.state,
                faults=now.faults,
                scored=now.scored,
                learnt=now.learnt,
                reason=now.reason,
                to_do=now.to_do,
                since=seen.since_wall_s,
            )
            if now.faults:
                log.warning("camera '%s': %s; %s", name, now.reason, now.to_do)

    def _follow(self, seen: Mapping[str, Seen]) -> None:
        """What a status means for the alarm; in the alarms' thread, for it may wait for the disk."""
        for name, one in seen.items():
            if one.status is CameraStatus.LOST:
                self._alerts.lost(name, one.reason)
            elif one.status in (CameraStatus.DISARMED, CameraStatus.DISABLED):
                self._alerts.disarmed(name, one.reason)
            else:
                self._alerts.armed(name)

    def _log_changes(self, changed: Mapping[str, Seen]) -> None:
        for name, seen in changed.items():
            if self._logged.get(name) is not seen.status:
                self._logged[name] = seen.status
                bad = seen.status in (CameraStatus.LOST, CameraStatus.DEGRADED)
                log.log(logging.WARNING if bad else logging.INFO, "camera '%s': %s: %s", name, seen.status, seen.reason)

    def _log_decoders(self) -> None:
        """Each reason once: it is likely that of all cameras."""
        for name, health in self._pool.health().items():
            if health.without_gpu is not None and health.without_gpu not in self._without_gpu:
                self._without_gpu.add(health.without_gpu)
                log.warning(
                    "camera '%s' is decoded by the CPU: %s; each further one that it holds for is counted, not said",
                    name,
                    health.without_gpu,
                )

    async def _retain(self) -> None:
        settings = self._plant.evidence
        while True:
            try:
                await asyncio.to_thread(retention.sweep, settings.folder, settings.keep_days, settings.keep_mb)
            except OSError as error:
                log.warning("evidence: old files were not deleted: %s", error)
            await asyncio.sleep(RETENTION_EVERY_S)

    async def _weigh_disks(self) -> None:
        """Not at a scrape: a disk that hangs must not take the metrics along."""
        folders = {"evidence": self._plant.evidence.folder} | (
            {} if self._dry_run else {"state": self._plant.state_folder}
        )
        while True:
            for name, folder in folders.items():
                space = await asyncio.to_thread(disk_space, folder)
                if space is None:
                    self._disks.pop(name, None)
                else:
                    self._disks[name] = space
            await asyncio.sleep(DISKS_EVERY_S)

    async def reload(self) -> None:
        """SIGHUP: the configuration is read again; with a mistake in it, nothing changes. Asked for during the
        start, it is done after it."""
        await asyncio.wait({self.started})
        async with self._reloading:
            if self._file is None or self._stopping.is_set():
                return
            try:
                plant = self._shard.of(await asyncio.to_thread(config.load, self._file))
            except config.ConfigError as error:
                self._metrics.count_reload(applied=False)
                mistakes = len(error.problems)
                await asyncio.to_thread(self._audit.write, "reload", applied=False, mistakes=mistakes)
                log.error("configuration not reloaded, the old one stays:\n%s", error)
                return
            try:
                await self._apply(plant)
            except Exception as error:  # half of a new configuration is none: the monitor ends with it
                self._fail(error)

    async def _apply(self, plant: Plant) -> None:
        log_of.hide(plant.secrets())
        changes = config.diff(self._plant, plant)
        if changes.restart_needed:
            log.warning(
                "reloaded, but these take effect at the next start only: %s",
                ", ".join(changes.restart_needed),
            )
        read_before = {settings.name: settings for settings in self._reader_settings(self._plant)}
        read_now = {settings.name: settings for settings in self._reader_settings(plant)}
        anew = {name for name in {*read_before, *read_now} if read_before.get(name) != read_now.get(name)}
        self._plant = self._plant.model_copy(update={"cameras": plant.cameras})
        # The publisher first: it passes over what is said of cameras that it does not know.
        self._publisher.configure(camera.name for camera in plant.cameras)
        self._watch.configure(plant.cameras, anew)
        await self._decide(self._alerts.configure, self._alarm_cameras(plant))
        await asyncio.to_thread(self._pool.update, list(read_now.values()))
        if self._console is not None:
            self._console.forget_pictures(anew)
        self._scorer.forget(anew)  # last, or segments of the former readers would be in the new rings
        self._metrics.count_reload(applied=True)
        told = {
            "added": ", ".join(changes.added),
            "removed": ", ".join(changes.removed),
            "changed": ", ".join(changes.changed),
            "at_next_start": ", ".join(changes.restart_needed),
        }
        await asyncio.to_thread(self._audit.write, "reload", applied=True, **told)
        log.info(
            "configuration reloaded: %d cameras added, %d removed, %d changed",
            len(changes.added),
            len(changes.removed),
            len(changes.changed),
        )

    # -- what others ask -----------------------------------------------------------------------------------------

    def _camera_figures(self) -> Sequence[CameraFigures]:
        return self._watch.figures() if self._ready else ()

    def _process_figures(self) -> ProcessFigures:
        if not self._ready:
            return ProcessFigures()
        incidents, incidents_open = self._alerts.incidents
        on_gpu = [health.on_gpu for health in self._pool.health().values() if health.on_gpu is not None]
        return ProcessFigures(
            incidents=incidents,
            incidents_open=incidents_open,
            alerts_late=self._publisher.late,
            held_back=self._alerts.held_back,
            queue_segments=self._pool.waiting,
            mqtt_connected=self._publisher.connected,
            outbox_messages=len(self._outbox),
            outbox_durable=self._outbox.durable,
            nvdec_asked=len(on_gpu),
            nvdec_cameras=sum(on_gpu),
            readers=len(self._pool.pids),
            reader_restarts=self._pool.restarts,
            disk_free_bytes={name: space.free_bytes for name, space in self._disks.items()},
            disk_size_bytes={name: space.size_bytes for name, space in self._disks.items()},
            canary_ok=None if self._canary is None else self._canary.state.state == "passed",
            canary_passed_wall_s=None if self._canary is None else self._canary.state.passed_wall_s,
            canary_latency_s=None if self._canary is None else self._canary.state.latency_s,
        )

    def _readiness(self) -> tuple[Check, ...]:
        if not self._ready:
            return (Check(name="start", ok=False, note="still starting"),)
        waited_s = time.monotonic() - self._decided_s
        stuck = waited_s > LOOP_LIMIT_S
        outbox = not stuck and (self._outbox.durable or self._dry_run)
        note = f"alerts have waited for the disk for {waited_s:.0f} s" if stuck else DISK_FAILS
        looping = self._pool.crash_loop
        return (
            Check(name="config", ok=True, note=f"{len(self._plant.cameras)} cameras"),
            Check(name="artefact", ok=True, note=self._rings.artefact.card.name),
            Check(name="outbox", ok=outbox, note="" if outbox else note),
            Check(name="readers", ok=looping is None, note=looping or ""),
            *(() if self._canary is None else (self._canary.check(),)),
        )

    def summary(self) -> str:
        """How many cameras have which status, in a sentence."""
        return plant_summary(seen.status for seen in self._watch.seen().values()).sentence

    # -- settings for the parts ----------------------------------------------------------------------------------

    @property
    def _card_fps(self) -> float:
        return self._rings.artefact.card.fps

    def _reader_settings(self, plant: Plant) -> list[ReaderSettings]:
        # Folders as at the start: like everything outside `cameras` they change at the next one.
        folders = self._plant.ingest.file_folders
        device = self._rings.device
        scores_on = (device.index or 0) if device.type == "cuda" else None
        return [
            ReaderSettings.of(camera, camera.fps or self._card_fps, folders=folders, scores_on=scores_on)
            for camera in plant.cameras
            if camera.enabled
        ]

    def _alarm_cameras(self, plant: Plant) -> dict[str, AlarmCamera]:
        default = self._rings.artefact.card.thresholds
        # Those that are switched off too: their alarm must be shown as calm (``_follow`` disarms them).
        return {camera.name: AlarmCamera.of(camera, default) for camera in plant.cameras}

    def _recorder_s(self, plant: Plant) -> float:
        """What a clip needs: the bag in which the onset may lie, the delay of the score, and the pre-roll."""
        slowest_fps = min((camera.fps or self._card_fps for camera in plant.cameras), default=self._card_fps)
        bags = self._rings.bags
        segments = bags.length + bags.delay + bags.stride
        return segments * FRAMES_PER_SEGMENT / slowest_fps + plant.evidence.pre_roll_s


def _picture_facts(seen: PictureSeen | None) -> dict[str, Any]:
    """What the topic ``picture`` says."""
    if seen is None:
        return {}
    now = seen.now
    return {
        "picture_state": now.state,
        "picture_since": iso(seen.since_wall_s),
        "picture_reason": now.reason,
        "picture_to_do": now.to_do,
        "picture_learnt": now.learnt,
    }


def _give_up(why: str) -> NoReturn:
    """Ends the process with threads in it that nothing can end: the next start ends the alarms they leave open."""
    log.error("stopped without draining: %s; alarms that are raised end at the next start", why)
    logging.shutdown()
    os._exit(1)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that began it; the rest of a group are its consequences."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextlib.asynccontextmanager
async def _embedded(settings: Mqtt) -> AsyncIterator[Mqtt]:
    """The broker inside the monitor; yields how the monitor itself connects to it."""
    users = {name: password.get_secret_value() for name, password in settings.users.items()}
    async with EmbeddedBroker(settings.host, settings.port, users) as broker:
        own = next(iter(settings.users.items()), (None, None))
        any_address = broker.host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
        yield settings.model_copy(
            update={
                "host": "127.0.0.1" if any_address else broker.host,
                "port": broker.port,
                "username": own[0],
                "password": own[1],
            }
        )


ONE_ORDER_S = 0.5
"""Signals that come so close together are one order: supervisors and shells tell a process and its group both."""


@contextlib.contextmanager
def signals(monitor: Monitor) -> Iterator[None]:
    """SIGTERM and SIGINT drain, a second order ends at once; SIGHUP reloads."""
    loop = asyncio.get_running_loop()
    asked_s: float | None = None
    reloads: set[asyncio.Task[None]] = set()

    def end() -> None:
        nonlocal asked_s
        if asked_s is None:
            asked_s = loop.time()
            monitor.stop()
        elif loop.time() - asked_s >= ONE_ORDER_S:
            log.warning("stopped at once, without draining: asked a second time")
            logging.shutdown()
            os._exit(1)

    def reload() -> None:
        task = loop.create_task(monitor.reload(), name="reload")
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    handlers = {signal.SIGTERM: end, signal.SIGINT: end, signal.SIGHUP: reload}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
