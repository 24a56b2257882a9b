"""Cameras found by multicast in a network of their own, asked by SOAP, and written into a first plant.yaml."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from monitor.config import load
from monitor.ingest.discover import Device, Profile, starter
from tests.conftest import ROOT, needs_program

NETWORK = """
set -e
ip link set lo up multicast on
ip addr add 192.0.2.1/24 dev lo
ip route add 239.0.0.0/8 dev lo
"$PYTHON" -m tests.monitor.ingest.onvif_device 192.0.2.1 Front%20gate viewer {password} & device=$!
trap "kill $device" EXIT
sleep 3
"$PYTHON" -m monitor probe --discover --seconds 4 {more}
"""


def in_a_network_of_its_own(
    tmp_path: Path, more: str, *, password: str = "s3cret-word"
) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("wsdiscovery")
    unshare, ip = needs_program("unshare", "util-linux"), needs_program("ip", "iproute2")
    if os.geteuid() != 0 or subprocess.run([unshare, "-n", ip, "link"], capture_output=True, check=False).returncode:
        pytest.skip("making a network namespace needs root")
    return subprocess.run(
        [unshare, "-n", "bash", "-c", NETWORK.format(more=more, password=password)],
        cwd=ROOT,
        env=os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "CAMERA_PASSWORD": "s3cret-word"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_a_camera_is_found_asked_and_written_down_and_nothing_is_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "plant.yaml"
    told = in_a_network_of_its_own(tmp_path, f"--login viewer --out {file}")
    assert told.returncode == 0, told.stderr
    assert "192.0.2.1 Front gate:" in told.stdout
    assert "rtsp://192.0.2.1:554/main (main: H264 1920x1080)" in told.stdout
    assert "s3cret-word" not in told.stdout + told.stderr + file.read_text()
    (camera,) = load(file, {"CAMERA_PASSWORD": "s3cret-word"}).cameras
    # The smallest stream that is large enough; a new camera is watched before it alarms anybody.
    assert (camera.name, camera.mode, camera.enabled) == ("Front gate", "observe", True)
    assert camera.url.secret == "rtsp://viewer:s3cret-word@192.0.2.1:554/sub"
    again = in_a_network_of_its_own(tmp_path, f"--login viewer --out {file}")
    assert again.returncode == 2
    assert "nothing is overwritten" in again.stderr


@pytest.mark.slow
def test_a_wrong_password_is_said_and_the_camera_is_written_switched_off(tmp_path: Path) -> None:
    file = tmp_path / "plant.yaml"
    told = in_a_network_of_its_own(tmp_path, f"--login viewer --out {file}", password="another")
    assert told.returncode == 0, told.stderr
    assert "it refused the login" in told.stdout
    (camera,) = load(file, {"CAMERA_PASSWORD": "s3cret-word"}).cameras
    assert not camera.enabled


def test_names_that_are_no_names_and_twins_are_told_apart(tmp_path: Path) -> None:
    one = Profile(name="main", url="rtsp://192.0.2.9/1", codec="H264", width_px=320, height_px=180)
    found = [Device(address=f"http://192.0.2.{n}/", name="a/b#c", profiles=(one,)) for n in (1, 2)]
    found.append(Device(address="http://192.0.2.3:8000/", fault="it refused the login"))
    file = tmp_path / "plant.yaml"
    file.write_text(starter(found, None))
    assert [camera.name for camera in load(file, {}).cameras] == ["a-b-c", "a-b-c 2", "192.0.2.3"]
    assert [camera.enabled for camera in load(file, {}).cameras] == [True, True, False]


def test_a_login_without_its_password_is_refused() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "CAMERA_PASSWORD"}
    told = subprocess.run(
        [sys.executable, "-m", "monitor", "probe", "--discover", "--login", "viewer"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert told.returncode == 2
    assert "CAMERA_PASSWORD" in told.stderr
