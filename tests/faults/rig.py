"""A plant to do harm to: a real monitor, real RTSP servers, a real broker, and a witness who counts."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.running import RunningMonitor
from tests.monitor.alerting.servers import Mosquitto, Subscriber, mosquitto, subscriber

POLL_S = 0.05
STALL_S = 3.0
BACKOFF_S = 1.0
KEEPALIVE_S = 4
KEY_FRAME_S = 1.0
LOOK_S = 1.0
"""How often the monitor looks at its cameras, and so the delay of any status."""
OPENING_S = 2.0
"""Opening a stream and telling of it, on a machine that others load too."""
DETECT_S = 2 * STALL_S
RECOVER_S = BACKOFF_S + KEY_FRAME_S + LOOK_S + OPENING_S
ALWAYS = {"raise_at": 0.0, "clear_at": 0.0, "update_every_s": 1.0}
"""Every score is an alarm, told again every second: what is tested is the way, not the judgement."""
UNBOUNDED = {"storm": "off", "most_per_hour": "off", "updates_per_s": 1000.0, "late_per_s": 1000.0}
"""Where every camera is raised all the time and every update is wanted; test_flood.py is about floods."""
NO_LOOK = dict.fromkeys(("black_after_s", "covered_after_s", "blurred_after_s", "moved_after_s"), "off")
"""Test patterns are black, and another camera's look is another view: tests/e2e/test_picture.py is about that."""
PATIENCE = {
    "connect_timeout_s": STALL_S,
    "stall_timeout_s": STALL_S,
    "backoff_min_s": BACKOFF_S / 2,
    "backoff_max_s": BACKOFF_S,
}


def waited_s(holds: Callable[[], Any], seconds: float, what: str, since_s: float | None = None) -> float:
    """How long until it holds, from now or ``since_s`` (time.monotonic()) on."""
    began_s = time.monotonic() if since_s is None else since_s
    end_s = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end_s, f"{what} did not happen in {seconds} s"
        time.sleep(POLL_S)
    return time.monotonic() - began_s


@dataclass
class Account:
    """Messages of alerts that a witness heard between two moments."""

    due: int = 0
    delivered: int = 0
    duplicated: int = 0
    problems: list[str] = field(default_factory=list)


def account_of(alerts: list[dict[str, Any]], *, whole: bool = False) -> Account:
    """Every alert's numbers must be without a hole and each in order when it first came; ``whole``: from ``raised``
    to ``ended``. What was under way when a line broke may come again, as a whole (MQTT 5, 4.6): 1 2 3, then 2 3 4."""
    account = Account()
    by_alert: dict[str, list[dict[str, Any]]] = {}
    for alert in alerts:
        by_alert.setdefault(alert["alert_id"], []).append(alert)
    for alert_id, told in by_alert.items():
        seqs = [one["seq"] for one in told]
        first, last = (1 if whole else min(seqs)), max(seqs)
        account.due += last - first + 1
        account.delivered += len(set(seqs))
        account.duplicated += len(seqs) - len(set(seqs))
        if list(dict.fromkeys(seqs)) != sorted(set(seqs)):
            account.problems.append(f"{alert_id}: out of order: {seqs}")
        newest = max(told, key=lambda one: one["seq"])
        if whole and newest["kind"] != "ended":
            account.problems.append(f"{alert_id}: never ended")
        if any(one["kind"] == "ended" and one["seq"] < last for one in told):
            account.problems.append(f"{alert_id}: went on after its end")
    return account


class Rig:
    """The monitor of now (it may be killed and started again), its broker and its witness."""

    def __init__(self, folder: Path, broker: Mosquitto, heard: Subscriber, plant: dict[str, Any]) -> None:
        self.folder, self.broker, self.heard, self.plant = folder, broker, heard, plant
        self.monitor: RunningMonitor
        self._parsed: list[tuple[str, dict[str, Any]]] = []
        self._read = 0

    def start(self, program: tuple[str, ...] = ("-m", "monitor")) -> None:
        self.folder.mkdir(exist_ok=True)
        self.monitor = RunningMonitor(self.folder, self.plant, program=program)

    # -- what the operator sees --

    def messages(self) -> list[tuple[str, dict[str, Any]]]:
        import json

        new = self.heard.seen[self._read :]
        self._read += len(new)
        self._parsed += [(topic, json.loads(text)) for topic, _, text in new if text]
        return self._parsed

    def told(self, end: str, since: int = 0) -> list[dict[str, Any]]:
        return [payload for topic, payload in self.messages()[since:] if topic.endswith(end)]

    def mark(self) -> int:
        """The number of messages so far, for ``since``."""
        return len(self.messages())

    def status(self, camera: str, since: int = 0) -> str:
        seen = self.told(f"/{camera}/status", since)
        return str(seen[-1]["status"]) if seen else ""

    def reason(self, camera: str) -> str:
        return str(self.told(f"/{camera}/status")[-1]["reason"])

    def alerts(self, since: int = 0) -> list[dict[str, Any]]:
        return self.told("/alert", since)

    def said(self, words: str, since: int, seconds: float, what: str | None = None) -> float:
        """How long until the log, from character ``since`` on, has these words."""
        return waited_s(lambda: words in self.monitor.log[since:], seconds, what or f"'{words}' in the log")

    def reconnects(self) -> dict[str, float]:
        found = re.findall(r'vad_camera_reconnects_total\{camera="([^"]+)"\} (\S+)', self.monitor.get("/metrics")[1])
        return {name: float(value) for name, value in found}

    def metric(self, name: str) -> float | None:
        return self.monitor.metric(name)

    # -- measuring --

    def settle(self, seconds: float = 30.0) -> None:
        """Until every camera is scored again: ok, or degraded only by what it lost before."""
        names = [camera["name"] for camera in self.plant["cameras"]]
        scored = ("ok", "degraded")
        for _ in range(2):
            waited_s(lambda: all(self.status(name) in scored for name in names), seconds, "all cameras are scored")
            # A stream that is back may be shown as ok for one look, until its first segment restarts the ring.
            time.sleep(1.5 * LOOK_S)
        waited_s(lambda: all(self.status(name) in scored for name in names), seconds, "all cameras are scored")

    def watch_others(self, *faulty: str) -> Callable[[], int]:
        """From now on; the answer is the number of cameras beside the faulty ones that had to begin anew."""
        self.settle()
        before, since = self.reconnects(), self.mark()

        def affected() -> int:
            after = self.reconnects()
            anew = {name for name in after if after[name] > before.get(name, 0.0)}
            for topic, payload in self.messages()[since:]:
                if (
                    topic.startswith("vad/works/")
                    and topic.endswith("/status")
                    and payload["status"] in ("lost", "learning", "connecting")
                ):
                    anew.add(payload["camera"])
            return len(anew - set(faulty))

        return affected

    def account(self, since: int) -> dict[str, int]:
        account = account_of(self.alerts(since))
        assert account.problems == []
        return {"due": account.due, "delivered": account.delivered, "duplicated": account.duplicated}

    def alerts_flow(self, seconds: float = 20.0) -> float:
        """Until the broker has acknowledged everything and the witness heard something new."""
        since = self.mark()
        took_s = waited_s(lambda: self.alerts(since), seconds, "a further alert message")
        waited_s(lambda: (self.metric("vad_outbox_messages") or 0) <= 1, seconds, "an empty outbox")
        return took_s


@contextlib.contextmanager
def rig(folder: Path, cameras: list[dict[str, Any]], **more: Any) -> Iterator[Rig]:
    """A broker, a witness, and what the monitor is to watch; ``start`` starts it."""
    with mosquitto(folder / "broker") as broker, subscriber(broker.port) as heard:
        plant = {
            "site": "works",
            "mqtt": {"host": "127.0.0.1", "port": broker.port, "keepalive_s": KEEPALIVE_S, "client_id": "rig"},
            "defaults": {"thresholds": ALWAYS, "picture": NO_LOOK} | PATIENCE,
            "evidence": {"folder": "evidence", "pre_roll_s": 0.5, "post_roll_s": 1.0},
            "alerts": UNBOUNDED,
            "ingest": {"cameras_per_process": 2},
            "canary": {"every_s": "off"},  # the tests count reader processes
            "cameras": cameras,
        }
        made = Rig(folder / "monitor", broker, heard, plant | more)
        try:
            yield made
        finally:
            if hasattr(made, "monitor"):
                made.monitor.close()
