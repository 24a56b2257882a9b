"""A plant of many cameras, and each fault of a plan done to it for real."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.running import RunningMonitor
from tests.faults.disks import Disk, disk
from tests.faults.relay import LossyRelay
from tests.faults.rig import UNBOUNDED
from tests.monitor.alerting.servers import Mosquitto, Subscriber, mosquitto, subscriber
from tests.monitor.ingest.conftest import RtspServer
from tests.soak.plan import Fault
from tests.soak.sample import readers

SIZE_PX, FPS = (320, 180), 5
LIVE = (
    f"videotestsrc is-live=true pattern=ball ! video/x-raw,width={SIZE_PX[0]},height={SIZE_PX[1]},framerate={FPS}/1 ! "
    f"x264enc tune=zerolatency speed-preset=ultrafast key-int-max={FPS} ! "
    "rtph264pay name=pay0 pt=96 config-interval=1"
)
SERVERS = 4
ALWAYS = {"raise_at": 0.0, "clear_at": 0.0, "update_every_s": 4.0}
"""Every score is an alarm that is told again: what is tried is the way of alerts, not the judgement."""
# The witness must be handed everything at once: what waits in a broker that is killed is the broker's to lose.
BROKER = "max_inflight_messages 0\nmax_queued_messages 0\n"


@dataclass
class Soaked:
    """Everything that can be harmed."""

    folder: Path
    servers: list[RtspServer]
    relay: LossyRelay
    broker: Mosquitto
    heard: Subscriber
    evidence: Disk | None
    plant: dict[str, Any]
    monitor: RunningMonitor


@contextlib.contextmanager
def soaked(folder: Path, count: int) -> Iterator[Soaked]:
    """``count`` cameras of four servers; those of the last come by UDP through a relay. The monitor runs."""
    with contextlib.ExitStack() as stack:
        servers = []
        for _ in range(SERVERS):
            servers.append(RtspServer({"mounts": {"/all": {"launch": LIVE}}}))  # one encoder for all its cameras
            stack.callback(_end, servers[-1])
        relay = stack.enter_context(LossyRelay(servers[-1].port))
        broker = stack.enter_context(mosquitto(folder / "broker", extra=BROKER))
        heard = stack.enter_context(subscriber(broker.port, "vad/#", "-F", "%U %t\t%r\t%p"))
        (folder / "monitor").mkdir()
        evidence = _disk(stack, folder)
        cameras = []
        for number in range(count):
            server = servers[number % SERVERS]
            lossy = server is servers[-1]
            port = relay.port if lossy else server.port
            cameras.append(
                {"name": f"camera-{number:02}", "url": f"rtsp://127.0.0.1:{port}/all", "fps": FPS}
                | ({"transport": "udp"} if lossy else {})
            )
        patience = {"connect_timeout_s": 4.0, "stall_timeout_s": 4.0, "backoff_min_s": 0.5, "backoff_max_s": 2.0}
        plant = {
            "site": "soak",
            "mqtt": {"port": broker.port, "keepalive_s": 4},
            "defaults": {"thresholds": ALWAYS, **patience},
            "evidence": {"folder": "evidence", "pre_roll_s": 2.0, "post_roll_s": 2.0, "keep_mb": 8},
            "ingest": {"cameras_per_process": 4},
            "alerts": UNBOUNDED,
            "canary": {"every_s": 60},
            "cameras": cameras,
        }
        monitor = RunningMonitor(folder / "monitor", plant)
        stack.callback(monitor.close)
        yield Soaked(folder, servers, relay, broker, heard, evidence, plant, monitor)


def _disk(stack: contextlib.ExitStack, folder: Path) -> Disk | None:
    """None where this user may mount nothing."""
    try:
        return stack.enter_context(disk(folder / "monitor" / "evidence", folder / "evidence.img"))
    except pytest.skip.Exception:
        return None


def _end(server: RtspServer) -> None:
    server.process.send_signal(signal.SIGCONT)
    server.kill()


@contextlib.contextmanager
def fault(soak: Soaked, one: Fault) -> Iterator[None]:
    """It lasts as long as the ``with`` block."""
    server = soak.servers[one.which % len(soak.servers)]
    match one.kind:
        case "server stopped":
            server.process.send_signal(signal.SIGSTOP)
            yield
            server.process.send_signal(signal.SIGCONT)
        case "server killed":
            server.kill()
            yield
            server.start()
        case "reader killed" | "reader stopped":
            pids = readers(soak.monitor.process.pid)
            number = signal.SIGKILL if one.kind == "reader killed" else signal.SIGSTOP
            os.kill(pids[one.which % len(pids)], number)
            yield  # a stopped one is ended and replaced by the monitor
        case "broker restarted" | "broker killed":
            soak.broker.kill(signal.SIGTERM if one.kind == "broker restarted" else signal.SIGKILL)
            yield
            soak.broker.start()
        case "broker stopped":
            soak.broker.signal(signal.SIGSTOP)
            yield
            soak.broker.signal(signal.SIGCONT)
        case "packets lost":
            soak.relay.loss = soak.relay.reorder = 0.05
            yield
            soak.relay.loss = soak.relay.reorder = 0.0
        case "evidence disk full":
            assert soak.evidence is not None
            with soak.evidence.full():
                observe(soak, one.which)
                alert_all(soak)  # a new alarm, whose clip finds no room
                yield
        case "config reloaded":
            observe(soak, one.which)
            yield
            alert_all(soak)
        case "config with a mistake":
            soak.monitor.file.write_text(soak.monitor.file.read_text() + "\nnonsense: 1\n")
            soak.monitor.process.send_signal(signal.SIGHUP)
            yield
            alert_all(soak)
        case _:
            raise ValueError(one.kind)


def observe(soak: Soaked, which: int) -> None:
    """By a reload: the alarm of one camera ends, because it is only observed from now on."""
    number = which % len(soak.plant["cameras"])
    cameras = [one | ({"mode": "observe"} if at == number else {}) for at, one in enumerate(soak.plant["cameras"])]
    _reload(soak, soak.plant | {"cameras": cameras})


def alert_all(soak: Soaked) -> None:
    """By a reload: alerts of all cameras are wanted again, and raised."""
    _reload(soak, soak.plant)


def _reload(soak: Soaked, plant: dict[str, Any]) -> None:
    soak.monitor.write(plant)
    soak.monitor.process.send_signal(signal.SIGHUP)
    time.sleep(1.0)  # two signals at once are one reload
