"""vad-monitor demo: a staged plant over real RTSP, the real monitor, a real MQTT subscriber, one terminal.

Everything but the scenes is what runs in a plant. The scenes are generated, and the screen says so. They are scored by
the artefact ``staged``, which learnt from generated rooms too: rooms, people and poses of other seeds than these. The
default artefact learnt from real footage only, and finds fewer of these incidents.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from monitor.alerting.contract import seconds as wall_of
from monitor.app import Addresses, Monitor, signals
from monitor.config import AlertSettings, Camera, EvidenceSettings, Http, Mqtt, Plant, Scoring, StreamUrl
from monitor.stage import clock
from monitor.stage.plant import Incident, StagedPlant

SITE = "demo"
TITLE = "A staged plant: the scenes are generated, everything else is real (RTSP, decoding, scoring, MQTT)."
ARTEFACT = "staged"
MATCH_BEFORE_S, MATCH_AFTER_S = 3.0, 12.0
"""An alert belongs to an incident if its onset lies between so long before its start and so long after its end:
an onset is estimated to a segment, and a score looks at a whole bag."""
STYLES = {"ok": "green", "learning": "cyan", "connecting": "cyan", "degraded": "yellow", "lost": "red"}


@dataclass(slots=True)
class Board:
    """What the subscriber has heard so far; the screen is drawn from this alone."""

    statuses: dict[str, dict[str, Any]] = field(default_factory=dict)
    alarms: dict[str, dict[str, Any]] = field(default_factory=dict)
    scores: dict[str, deque[float]] = field(default_factory=dict)
    alerts: list[dict[str, Any]] = field(default_factory=list)

    def hear(self, topic: str, payload: dict[str, Any]) -> None:
        """One message of ``vad/demo/cameras/<camera>/<what>``."""
        what, camera = topic.rsplit("/", 1)[-1], payload.get("camera", "")
        if what == "status":
            self.statuses[camera] = payload
        elif what == "alarm":
            self.alarms[camera] = payload
        elif what == "score":
            self.scores.setdefault(camera, deque(maxlen=24)).append(payload["score"])
        elif what == "alert":
            self.alerts.append(payload | {"heard_wall_s": time.time()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One staged incident and the alert it led to, if any. ``after_s``: from its start to the message's arrival.

    ``glass_to_mqtt_s``: how old the frame was that decided the alarm when its message arrived at the subscriber, by the
    clock that is painted into the picture (None where the alert's snapshot is not there or its clock unreadable).
    """

    incident: Incident
    alert_id: str | None
    after_s: float | None
    glass_to_mqtt_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a demo found: incidents with their alerts, and alerts that belong to no incident."""

    seed: int
    seconds: float
    outcomes: tuple[Outcome, ...]
    false_alerts: tuple[dict[str, Any], ...]
    alarms: int

    @property
    def found(self) -> int:
        return sum(outcome.alert_id is not None for outcome in self.outcomes)

    def sentence(self) -> str:
        late = [outcome.after_s for outcome in self.outcomes if outcome.after_s is not None]
        aged = [outcome.glass_to_mqtt_s for outcome in self.outcomes if outcome.glass_to_mqtt_s is not None]
        times = f", {statistics.median(late):.1f} s after they began (median)" if late else ""
        times += f", {statistics.median(aged):.1f} s from glass to MQTT (median)" if aged else ""
        return (
            f"seed {self.seed}: {self.found} of {len(self.outcomes)} incidents found{times}; "
            f"{len(self.false_alerts)} alarms without an incident"
        )


def settle(
    seed: int, seconds: float, incidents: Sequence[Incident], alerts: Sequence[dict[str, Any]], evidence: Path
) -> Report:
    """Matches raised alerts with incidents: the first alert of the camera whose onset lies in or about it.

    ``evidence``: the folder that the alerts' links start from.
    """
    raised = [alert for alert in alerts if alert["kind"] == "raised"]
    used: set[str] = set()
    outcomes = []
    for incident in incidents:
        found = next(
            (
                alert
                for alert in raised
                if alert["camera"] == incident.camera
                and incident.start_wall_s - MATCH_BEFORE_S
                <= wall_of(alert["captured_at"])
                <= incident.end_wall_s + MATCH_AFTER_S
            ),
            None,
        )
        if found is not None:
            used.add(found["alert_id"])
        outcomes.append(
            Outcome(
                incident=incident,
                alert_id=None if found is None else found["alert_id"],
                after_s=None if found is None else found["heard_wall_s"] - incident.start_wall_s,
                glass_to_mqtt_s=None if found is None else glass_to_mqtt(found, alerts, evidence),
            )
        )
    strays = tuple(alert for alert in raised if alert["alert_id"] not in used)
    return Report(seed=seed, seconds=seconds, outcomes=tuple(outcomes), false_alerts=strays, alarms=len(raised))


def glass_to_mqtt(raised: dict[str, Any], alerts: Sequence[dict[str, Any]], evidence: Path) -> float | None:
    """Seconds from the drawing of the frame that decided a ``raised`` to the arrival of its message, or None.

    The snapshot of the same alert (it comes with a later message) tells how long a frame of this camera takes from the
    glass into the monitor: its painted clock against its capture time. The rest is the monitor's own two times.
    """
    import cv2

    for alert in alerts:
        snapshot = alert["evidence"]["snapshot"]
        if alert["alert_id"] != raised["alert_id"] or snapshot is None:
            continue
        picture = cv2.imread(str(evidence / snapshot["link"]))
        painted_ms = None if picture is None else clock.read(picture)  # type: ignore[arg-type]
        if painted_ms is not None:
            into_monitor_s = wall_of(snapshot["captured_at"]) - painted_ms / 1000
            return float(raised["heard_wall_s"] - wall_of(raised["captured_at"]) + into_monitor_s)
    return None


def run(*, seed: int, seconds: float, cameras: int, report: Path | None, folder: Path = Path(".demo")) -> int:
    """Until Ctrl-C, SIGTERM or ``seconds`` (0: never). Writes ``report`` as JSON; returns the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    with _log_to(folder / "demo.log"):
        result = asyncio.run(_demo(seed, seconds, cameras, folder, console))
    console.print(result.sentence(), soft_wrap=True)
    if report is not None:
        report.write_text(json.dumps(asdict(result) | {"found": result.found}, indent=2) + "\n", encoding="utf-8")
    return 0


@contextlib.contextmanager
def _log_to(file: Path) -> Iterator[None]:
    """The terminal belongs to the table: the log goes to a file, and to the terminal again when the table has gone."""
    from monitor.observe import log

    with file.open("a", encoding="utf-8") as out:
        log.set_up("info", False, (), stream=out)
        try:
            yield
        finally:
            log.set_up("info")


async def _demo(seed: int, seconds: float, cameras: int, folder: Path, console: Console) -> Report:
    started_s = time.monotonic()
    board = Board()
    with StagedPlant(seed=seed, cameras=cameras) as stage:
        monitor = Monitor(_plant(stage, folder), None)
        with signals(monitor):
            running = asyncio.create_task(monitor.run(), name="monitor")
            console.print("starting …")
            ready = asyncio.create_task(_started(monitor), name="started")
            await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                if seconds > 0:
                    asyncio.get_running_loop().call_later(seconds, monitor.stop)
                await _show(monitor, ready.result(), stage, board, folder, running, console)
            ready.cancel()
            ended_wall_s = time.time()
            await running
        # What was still going on at the end had not had its time: it is not due.
        due = [incident for incident in stage.incidents if incident.end_wall_s < ended_wall_s]
        alerts = [alert for alert in board.alerts if not _still_on_stage(alert, stage, ended_wall_s)]
    return settle(seed, time.monotonic() - started_s, due, alerts, folder / "evidence")


def _still_on_stage(alert: dict[str, Any], stage: StagedPlant, ended_wall_s: float) -> bool:
    """Whether the alert came of an incident that the demo's end cut short."""
    return any(
        incident.camera == alert["camera"]
        and incident.start_wall_s - MATCH_BEFORE_S <= wall_of(alert["captured_at"]) <= ended_wall_s
        for incident in stage.incidents
        if incident.end_wall_s >= ended_wall_s
    )


async def _started(monitor: Monitor) -> Addresses:
    return await monitor.started


def _plant(stage: StagedPlant, folder: Path) -> Plant:
    return Plant(
        site=SITE,
        state_folder=folder / "state",
        mqtt=Mqtt(kind="embedded", port=0),
        http=Http(port=0),
        scoring=Scoring(artefact=ARTEFACT),
        evidence=EvidenceSettings(folder=folder / "evidence"),
        # The stage plays an incident a minute on each camera: more than any plant has.
        alerts=AlertSettings(most_per_hour=None),
        cameras=tuple(Camera(name=name, url=StreamUrl(url)) for name, url in stage.urls.items()),
    )


async def _show(
    monitor: Monitor,
    addresses: Addresses,
    stage: StagedPlant,
    board: Board,
    folder: Path,
    running: asyncio.Task[None],
    console: Console,
) -> None:
    listening = asyncio.create_task(_listen(addresses.mqtt or "", board), name="subscriber")
    try:
        with Live(console=console, auto_refresh=False, transient=False) as live:
            while not running.done():
                live.update(_screen(addresses, stage, board, folder), refresh=True)
                await asyncio.wait({running}, timeout=0.5)
    finally:
        if not console.is_terminal:
            console.print()  # a table that is no screen ends without a line break
        listening.cancel()
        await asyncio.wait({listening})


async def _listen(address: str, board: Board) -> None:
    """The subscriber: an ordinary MQTT client of the broker. A lost connection is the monitor's end."""
    host, _, port = address.removeprefix("mqtt://").rpartition(":")
    with contextlib.suppress(aiomqtt.MqttError):
        async with aiomqtt.Client(host, int(port)) as client:
            await client.subscribe(f"vad/{SITE}/cameras/+/+", qos=1)
            async for message in client.messages:
                if isinstance(message.payload, bytes | bytearray) and message.payload:
                    board.hear(str(message.topic), json.loads(message.payload))


def _screen(addresses: Addresses, stage: StagedPlant, board: Board, folder: Path) -> Group:
    table = Table(title=TITLE, title_style="bold", expand=False)
    for column in ("camera", "status", "score", "", "alarm", "on stage"):
        table.add_column(column)
    now_s = time.time()
    for camera in stage.urls:
        status = board.statuses.get(camera, {"status": "connecting", "reason": ""})
        scores = board.scores.get(camera, deque())
        alarm = board.alarms.get(camera, {})
        raised = alarm.get("state") == "raised"
        table.add_row(
            camera,
            Text(status["status"], style=STYLES.get(status["status"], "")),
            f"{scores[-1]:.2f}" if scores else "",
            _sparkline(scores),
            Text("RAISED", style="bold white on red") if raised else "",
            next(
                (i.kind for i in stage.incidents if i.camera == camera and i.start_wall_s <= now_s < i.end_wall_s), ""
            ),
        )
    lines = [_line(alert) for alert in board.alerts[-8:]] or [Text("no alerts yet", style="dim")]
    port = (addresses.mqtt or "").rpartition(":")[2]
    foot = Text(
        f"page:    {addresses.http}/\n"
        f"metrics: {addresses.http}/metrics\n"
        f"alerts:  mosquitto_sub -h 127.0.0.1 -p {port} -t 'vad/{SITE}/#' -v\n"
        f"clips:   {folder / 'evidence'}\n"
        "Ctrl-C ends",
        style="dim",
    )
    return Group(table, *lines, foot)


def _line(alert: dict[str, Any]) -> Text:
    evidence = alert["evidence"]["clip"]
    text = Text(f"{alert['decided_at'][11:19]} {alert['camera']}: {alert['kind']}, score {alert['score']:.2f}; ")
    text.append(alert["reason"])
    if evidence:
        text.append(f"; clip {evidence['link']}", style="cyan")
    text.stylize("bold red" if alert["kind"] == "raised" else "")
    return text


def _sparkline(scores: Sequence[float]) -> str:
    return "".join("▁▂▃▄▅▆▇█"[min(7, int(score * 8))] for score in scores)
