"""SIGTERM and SIGHUP in every state of a monitor that has raised nothing yet (raised: see test_plant.py)."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clips import moving_clip
from tests.e2e.running import RunningMonitor, running
from tests.faults.disks import disk
from tests.faults.results import Row, record
from tests.faults.rig import ALWAYS, waited_s

pytestmark = pytest.mark.slow
END_LIMIT_S = 8.0
"""``drain_s`` (4 s here), and twice what an interpreter took for its own end on two busy cores."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving_clip(tmp_path_factory.mktemp("clips") / "yard.mp4", seconds=20)


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a camera that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def plant(url: str) -> dict[str, Any]:
    return {"site": "works", "mqtt": "off", "drain_s": 4, "cameras": [{"name": "yard", "url": url}]}


def ended(monitor: RunningMonitor, state: str, seen: str, limit_s: float = END_LIMIT_S) -> None:
    began_s = time.monotonic()
    assert monitor.end() == 0, monitor.log
    took_s = time.monotonic() - began_s
    assert "Traceback" not in monitor.log
    record(Row(fault=f"SIGTERM while {state}", seen=seen, recovered_s=took_s, recover_limit_s=limit_s))


def test_sigterm_while_it_still_imports_ends_it_at_once(clip: Path, tmp_path: Path) -> None:
    with running(tmp_path / "monitor", plant(clip.as_uri())) as monitor:
        waited_s(lambda: has_handler(monitor, signal.SIGTERM), 20, "a handler of SIGTERM")
        ended(monitor, "importing", "exit code 0; stderr: asked to stop before it had started")
        assert "asked to stop before it had started" in monitor.log


def test_sighup_while_it_still_imports_is_a_reload_after_the_start(clip: Path, tmp_path: Path) -> None:
    with running(tmp_path / "monitor", plant(clip.as_uri())) as monitor:
        waited_s(lambda: has_handler(monitor, signal.SIGHUP), 20, "a handler of SIGHUP")
        monitor.process.send_signal(signal.SIGHUP)
        monitor.said("artefact 'default'")
        # Starting: the artefact is there, the readers are not.
        monitor.said("configuration reloaded")
        # Learning: four segments of a second must come before the first score.
        monitor.said("camera 'yard': learning")
        ended(monitor, "learning", "exit code 0; log: stopping: draining")
        assert "alarm raised" not in monitor.log


def test_sigterm_while_it_builds_is_a_drain(clip: Path, tmp_path: Path) -> None:
    with running(tmp_path / "monitor", plant(clip.as_uri())) as monitor:
        monitor.said("artefact 'default'")
        ended(monitor, "starting", "exit code 0; log: stopping: draining", END_LIMIT_S + 8.0)


def test_sigterm_while_a_camera_connects_does_not_wait_for_it(silent: int, tmp_path: Path) -> None:
    with running(tmp_path / "monitor", plant(f"rtsp://127.0.0.1:{silent}/x")) as monitor:
        monitor.said("camera 'yard': connecting")
        ended(monitor, "connecting", "exit code 0; log: stopping: draining")


def test_a_sigterm_that_comes_twice_at_once_is_one_order_to_drain(clip: Path, tmp_path: Path) -> None:
    """A supervisor tells the process and its group; a shell does when it is closed."""
    with running(tmp_path / "monitor", plant(clip.as_uri())) as monitor:
        monitor.said("camera 'yard': learning")
        monitor.process.send_signal(signal.SIGTERM)
        time.sleep(0.02)  # two that wait at the same time are one for the kernel
        ended(monitor, "learning, sent twice at once", "exit code 0; log: stopping: draining")
        assert "asked a second time" not in monitor.log


@contextlib.contextmanager
def its_disk_hangs(clip: Path, folder: Path, drain_s: float) -> Iterator[RunningMonitor]:
    """A monitor whose alarm is raised and whose disk hangs meanwhile; afterwards it must have ended with code 1."""
    (folder / "monitor").mkdir()
    alerting = plant(clip.as_uri()) | {"drain_s": drain_s, "defaults": {"thresholds": ALWAYS}}
    with (
        disk(folder / "monitor" / "state", folder / "state.img") as state,
        running(folder / "monitor", alerting) as monitor,
    ):
        monitor.said("alarm raised")
        with state.frozen():
            time.sleep(2)  # a look, at least, is waiting for it by now
            yield monitor
        # The kernel lets nobody go who waits for a frozen disk: its end is seen when the disk thaws.
        assert monitor.process.wait(10) == 1


def test_a_second_sigterm_ends_a_drain_at_once(clip: Path, tmp_path: Path) -> None:
    with its_disk_hangs(clip, tmp_path, drain_s=30) as monitor:  # nothing else makes a drain last as surely
        monitor.process.send_signal(signal.SIGTERM)
        monitor.said("stopping: draining")
        time.sleep(1)
        began_s = time.monotonic()
        monitor.process.send_signal(signal.SIGTERM)
        monitor.said("stopped at once, without draining: asked a second time")
        took_s = time.monotonic() - began_s
    seen = "exit code 1; log: stopped at once, without draining"
    record(Row(fault="a second SIGTERM while it drains", seen=seen, recovered_s=took_s, recover_limit_s=1.0))


def test_sigterm_while_the_disk_hangs_ends_it_all_the_same(clip: Path, tmp_path: Path) -> None:
    with its_disk_hangs(clip, tmp_path, drain_s=4) as monitor:
        began_s = time.monotonic()
        monitor.process.send_signal(signal.SIGTERM)
        monitor.said("stopped without draining: the disk has not answered")
        took_s = time.monotonic() - began_s
    seen = "exit code 1; log: stopped without draining; what is raised ends at the next start"
    record(Row(fault="SIGTERM while the disk hangs", seen=seen, recovered_s=took_s, recover_limit_s=END_LIMIT_S + 1))


def has_handler(monitor: RunningMonitor, number: signal.Signals) -> bool:
    """Whether the process catches this signal, by what the kernel says of it."""
    with contextlib.suppress(FileNotFoundError):
        for line in Path(f"/proc/{monitor.process.pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False
