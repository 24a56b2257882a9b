"""What a real datagram socket in systemd's place hears of a monitor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.observe.health import Heartbeats
from monitor.observe.systemd import Systemd
from tests.e2e.clips import moving_clip
from tests.e2e.running import eventually, running
from tests.monitor.observe.test_health import Clock


class Listener:
    """A socket as systemd's: what came, each message as a dict of its lines."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)
        self.told: list[dict[str, str]] = []

    def hear(self) -> list[dict[str, str]]:
        """All that came since it was last asked."""
        new = []
        with contextlib.suppress(BlockingIOError):
            while True:
                lines = self._socket.recv(4096).decode().split("\n")
                new.append(dict(line.split("=", 1) for line in lines))
        self.told += new
        return new

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "path" else f"@vad-monitor-test-{os.getpid()}"


@pytest.fixture
def listener(address: str) -> Iterator[Listener]:
    listening = Listener(address)
    yield listening
    listening.close()


async def watched_for(systemd: Systemd, seconds: float) -> None:
    task = asyncio.create_task(systemd.watch(lambda: "2 cameras: 2 ok"))
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.wait({task})


def test_ready_and_stopping_are_said_once_each_and_in_that_order(address: str, listener: Listener) -> None:
    with Systemd(Heartbeats(), {"NOTIFY_SOCKET": address}) as systemd:
        systemd.ready()
        systemd.stopping()
    assert listener.hear() == [{"READY": "1"}, {"STOPPING": "1", "STATUS": "draining"}]


def test_the_watchdog_is_fed_thrice_a_period_while_all_loops_turn(address: str, listener: Listener) -> None:
    beats = Heartbeats()
    beats.beat("event loop")
    with Systemd(beats, {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "300000"}) as systemd:
        asyncio.run(watched_for(systemd, 0.35))
    heard = listener.hear()
    assert 3 <= len(heard) <= 4
    assert heard[0] == {"WATCHDOG": "1", "STATUS": "2 cameras: 2 ok"}


def test_a_scorer_that_stands_still_starves_the_watchdog_though_the_event_loop_turns(
    address: str, listener: Listener
) -> None:
    clock = Clock()
    beats = Heartbeats(clock)
    beats.beat("scorer")
    clock.now_s += 11
    beats.beat("event loop")
    with Systemd(beats, {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "60000"}) as systemd:
        asyncio.run(watched_for(systemd, 0.1))
        assert {frozenset(told.items()) for told in listener.hear()} == {
            frozenset({("STATUS", "stands still: scorer turned 11.0 s ago")})
        }
        beats.beat("scorer")
        asyncio.run(watched_for(systemd, 0.1))
    assert all(told["WATCHDOG"] == "1" for told in listener.hear())


def test_a_watchdog_of_another_process_is_not_ours(address: str, listener: Listener) -> None:
    beats = Heartbeats()
    beats.beat("event loop")
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000", "WATCHDOG_PID": "1"}
    with Systemd(beats, environment) as systemd:
        asyncio.run(watched_for(systemd, 0.2))
    assert len(listener.hear()) == 1


def test_without_systemd_nothing_is_said_and_the_task_ends() -> None:
    with Systemd(Heartbeats(), {}) as systemd:
        systemd.ready()
        asyncio.run(asyncio.wait_for(systemd.watch(lambda: ""), 1))
        systemd.stopping()


def test_a_socket_that_nobody_listens_on_disturbs_nothing(tmp_path: Path) -> None:
    with Systemd(Heartbeats(), {"NOTIFY_SOCKET": str(tmp_path / "gone")}) as systemd:
        systemd.ready()


@pytest.mark.slow
def test_a_monitor_is_ready_when_it_says_so_and_says_nothing_while_it_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "1500000")
    clip = moving_clip(tmp_path / "yard.mp4", seconds=20)
    plant = {"site": "works", "mqtt": "off", "cameras": [{"name": "yard", "url": clip.as_uri()}]}
    with contextlib.closing(listener), running(tmp_path / "monitor", plant) as monitor:
        monitor.said("http://127.0.0.1", 120)
        eventually(listener.hear, 60, "a first word")
        assert listener.told[0] == {"READY": "1"}
        assert monitor.get("/readyz") == (200, "ok\n")
        eventually(lambda: any("WATCHDOG" in told for told in listener.hear()), 60, "a fed watchdog")
        monitor.process.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        listener.hear()
        time.sleep(2.0)
        assert listener.hear() == [], "a process that stands still feeds nobody"
        monitor.process.send_signal(signal.SIGCONT)
        eventually(lambda: any("WATCHDOG" in told for told in listener.hear()), 60, "a fed watchdog")
        assert monitor.end(seconds=60) == 0
        listener.hear()
        assert {"STOPPING": "1", "STATUS": "draining"} in listener.told
        assert listener.told[-1].get("READY") is None
