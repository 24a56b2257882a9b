"""Real processes, killed."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .servers import mosquitto, subscriber, until

ROOT = Path(__file__).parents[3]


def begin(port: int, state: Path, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.monitor.alerting.life", str(port), str(state), str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def kill(process: subprocess.Popen[str]) -> list[str]:
    """Kills, and returns the lines it had still said."""
    process.kill()
    process.wait()
    assert process.stdout is not None
    with process.stdout as said:
        return [line.strip() for line in said if line.endswith("\n")]


@pytest.mark.parametrize("broker_up", [True, False], ids=["broker up", "broker down"])
def test_a_monitor_killed_in_the_middle_of_its_alarms_tells_all_it_committed_and_ends_them(
    tmp_path: Path, broker_up: bool
) -> None:
    state = tmp_path / "state" / "outbox.sqlite"
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as listening:
        if not broker_up:
            # In peace: what a SIGKILLed mosquitto has not yet written is lost, and the subscriber's session with it.
            broker.kill(signal.SIGTERM)
        first = begin(broker.port, state, 40)
        assert first.stdout is not None
        committed = [line.strip() for line in itertools.islice(first.stdout, 12)]
        committed += kill(first)
        if broker_up:
            until(
                lambda: any(x["reason"] == "connection lost" for x in listening.payloads("/availability")),
                what="the last will",
            )
        else:
            broker.start()
        second = begin(broker.port, state, 0)
        assert second.stdout is not None
        assert second.stdout.readline().strip() == "drained"
        kill(second)
        until(lambda: {x["alert_id"] for x in listening.payloads("/alert")} >= set(committed))
        time.sleep(0.2)
        told: dict[str, list[tuple[int, str]]] = {}
        for payload in listening.payloads("/alert"):
            message = (payload["seq"], payload["kind"])
            if message not in told.setdefault(payload["alert_id"], []):
                told[payload["alert_id"]].append(message)
        incidents = {x["seq"]: x for x in listening.payloads("/incident")}
        ends = {x["alert_id"]: x["incident_id"] for x in listening.payloads("/alert") if x["kind"] == "ended"}
    # All within ten seconds: one incident, whatever was told of it before the kill, which the next life closes.
    assert list(incidents) == list(range(1, len(incidents) + 1))
    closed = incidents[len(incidents)]
    assert (incidents[1]["kind"], closed["kind"], closed["reason"]) == ("opened", "closed", "monitor restarted")
    assert ends == dict.fromkeys((x["alert_id"] for x in closed["members"]), closed["incident_id"])
    assert set(committed) <= set(told)
    # One more may have been committed, and not said so any more.
    assert len(told) <= len(committed) + 1
    assert {tuple(messages) for messages in told.values()} == {((1, "raised"), (2, "ended"))}
