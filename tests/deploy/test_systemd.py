"""The unit as shipped: judged by systemd's own tools, and agreeing with the monitor's exit codes and paths."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

import pytest

from monitor import cli
from monitor.config import load
from monitor.observe.health import LOOP_LIMIT_S
from tests.conftest import ROOT, needs_program

SYSTEMD = ROOT / "deploy" / "systemd"
UNIT = SYSTEMD / "vad-monitor.service"
MOST_EXPOSED = 1.5
"""systemd-analyze security: 0 is a service that can do nothing, 9.6 one without any of it."""


def section(name: str) -> configparser.SectionProxy:
    parsed = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read(UNIT, encoding="utf-8")
    return parsed[name]


def test_systemd_finds_nothing_wrong_in_the_unit(tmp_path: Path) -> None:
    analyze = needs_program("systemd-analyze", "systemd")
    # Only the program is not there on a machine that tests.
    there = UNIT.read_text(encoding="utf-8").replace("/opt/vad-monitor/bin/vad-monitor", "/bin/true")
    (tmp_path / UNIT.name).write_text(there, encoding="utf-8")
    done = subprocess.run(
        [analyze, "verify", "--man=no", tmp_path / UNIT.name], capture_output=True, text=True, timeout=60
    )
    ours = [line for line in done.stderr.splitlines() if UNIT.stem in line]
    assert (done.returncode, ours) == (0, [])


def test_the_unit_is_hardened() -> None:
    analyze = needs_program("systemd-analyze", "systemd")
    command = [analyze, "security", "--offline=yes", "--no-pager", UNIT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"Overall exposure level for vad-monitor.service: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= MOST_EXPOSED
    assert f"**{found[1]}**" in (ROOT / "deploy" / "README.md").read_text(encoding="utf-8"), "the guide names the score"


def test_the_watchdog_waits_longer_than_a_loop_may_stand() -> None:
    service = section("Service")
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"].removesuffix("s")) >= 2 * LOOP_LIMIT_S


def test_a_mistake_is_not_started_again_and_a_drain_has_its_time(tmp_path: Path) -> None:
    service = section("Service")
    assert service["RestartPreventExitStatus"].split() == [str(cli.USAGE), str(cli.BAD_CONFIG)]
    plant = tmp_path / "plant.yaml"
    plant.write_text("site: s\nmqtt: off\ncameras: [{name: c, url: 'rtsp://192.0.2.1/'}]\n")
    assert int(service["TimeoutStopSec"].removesuffix("s")) > load(plant).drain_s


def test_a_plant_can_name_the_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = section("Service")["LoadCredential"].partition(":")[0]
    (tmp_path / name).write_text("s3cret\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    shipped = (SYSTEMD / "plant.example.yaml").read_text(encoding="utf-8")
    assert f"${{CREDENTIALS_DIRECTORY}}/{name}" in shipped
    (tmp_path / "plant.yaml").write_text(shipped, encoding="utf-8")
    plant = load(tmp_path / "plant.yaml")
    assert plant.mqtt.password is not None
    assert plant.mqtt.password.get_secret_value() == "s3cret"
    assert {plant.state_folder, plant.evidence.folder.parent} == {
        Path("/var/lib/vad-monitor"),
        Path("/var/lib/vad-monitor"),
    }
