"""The image's recipe and the compose file: read by real checkers; the broker's start and the stage are really run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor import config
from monitor.ingest.camera import ReaderSettings
from monitor.ingest.probe import probe
from tests.conftest import ROOT, free_port, needs_program
from tests.deploy.tools import needs_tool
from tests.e2e.running import eventually

DOCKER, COMPOSE = ROOT / "deploy" / "docker", ROOT / "deploy" / "compose"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
PLANTS = ["plant.example.yaml", "plant.demo.yaml"]


def composed(*options: str) -> dict[str, Any]:
    """What docker-compose makes of the files."""
    command = [needs_program("docker-compose", "docker-compose"), *options, "config"]
    done = subprocess.run(command, cwd=COMPOSE, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    loaded: dict[str, Any] = yaml.safe_load(done.stdout)
    return loaded


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = subprocess.run(
        [needs_tool("hadolint"), DOCKER / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_everything_that_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    for words in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        for source in words.split()[:-1]:
            assert (ROOT / source).exists()
            assert source.removeprefix("./") in kept


def test_the_container_runs_as_nobody_of_the_system_and_says_whether_it_lives() -> None:
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    assert "HEALTHCHECK" in DOCKERFILE and "/livez" in DOCKERFILE


def test_the_image_keeps_weights_that_its_user_can_read() -> None:
    """The cache writes them 0600, as the user who builds."""
    assert re.search(r"check warm\.yaml \\\n\s+&& chmod -R a\+rX /opt/vad-monitor/cache", DOCKERFILE)


def test_the_plant_that_warms_the_image_is_valid() -> None:
    assert config.load(DOCKER / "warm.yaml").scoring.device == "cpu"


def test_compose_brings_monitor_broker_metrics_and_dashboards() -> None:
    services = composed()["services"]
    assert set(services) == {"monitor", "mosquitto", "prometheus", "alertmanager", "grafana"} | (
        {"stage"} if "profiles" in services.get("stage", {}) else set()
    )
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", ())), name


def test_the_demo_watches_the_stage_and_cuda_takes_one_gpu() -> None:
    services = composed("--env-file", "demo.env", "-f", "compose.yaml", "-f", "cuda.yaml")["services"]
    assert [volume for volume in services["monitor"]["volumes"] if "plant.demo.yaml:/etc/vad-monitor" in volume]
    assert services["stage"]["network_mode"] == "service:monitor"
    (device,) = services["monitor"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"]) == ("nvidia", 1)


def test_everything_that_compose_mounts_from_the_repository_is_there() -> None:
    made_by_the_reader = {"plant.yaml"}
    for service in composed()["services"].values():
        for volume in service.get("volumes", ()):
            source = Path(volume.partition(":")[0])
            assert not source.is_absolute() or source.exists() or source.name in made_by_the_reader, source


@pytest.mark.parametrize("name", PLANTS)
def test_a_plant_of_compose_is_valid_and_agrees_with_the_other_files(name: str, tmp_path: Path) -> None:
    for secret in ("mqtt_password", "metrics_token"):
        (tmp_path / secret).write_text("s3cret-of-the-plant\n")
    text = (COMPOSE / name).read_text(encoding="utf-8").replace("/run/secrets", str(tmp_path))
    (tmp_path / name).write_text(text, encoding="utf-8")
    plant = config.load(tmp_path / name)
    targets = yaml.safe_load((ROOT / "deploy" / "prometheus" / "targets" / "monitors.yml").read_text())
    assert targets == [{"targets": [f"monitor:{plant.http.port}"], "labels": {"site": plant.site}}]
    assert (plant.mqtt.host, plant.mqtt.username, plant.http.host) == ("mosquitto", "vad", "0.0.0.0")
    assert {plant.state_folder.parent, plant.evidence.folder.parent} == {Path("/var/lib/vad-monitor")}


def test_the_broker_lets_in_who_knows_the_secret_and_nobody_else(tmp_path: Path) -> None:
    """start.sh and mosquitto.conf as shipped; only paths and port are this test's."""
    needs_program("mosquitto", "mosquitto")
    needs_program("mosquitto_passwd", "mosquitto")
    publish = needs_program("mosquitto_pub", "mosquitto-clients")
    port, secret, passwords = free_port(), tmp_path / "secret", tmp_path / "passwords"
    secret.write_text("p1ant $ed/w@rd\n")
    text = (COMPOSE / "mosquitto" / "mosquitto.conf").read_text(encoding="utf-8")
    for shipped, ours in {
        "listener 1883": f"listener {port} 127.0.0.1\nuser root",
        "/tmp/passwords": str(passwords),
        "/mosquitto/config/acl": str(COMPOSE / "mosquitto" / "acl"),
        "/mosquitto/data": str(tmp_path),
    }.items():
        assert shipped in text
        text = text.replace(shipped, ours)
    (tmp_path / "mosquitto.conf").write_text(text)
    where = {"CONFIG": tmp_path / "mosquitto.conf", "PASSWORDS": passwords, "SECRET": secret}
    environment = os.environ | {name: str(path) for name, path in where.items()}
    environment["PATH"] += ":/usr/sbin"
    with (tmp_path / "log").open("wb") as log:
        broker = subprocess.Popen(
            ["sh", str(COMPOSE / "mosquitto" / "start.sh")], env=environment, stdout=log, stderr=log
        )

    def says(*login: str) -> int:
        command = [publish, "-h", "127.0.0.1", "-p", str(port), "-q", "1", "-t", "vad/x", "-m", "1", *login]
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode

    try:
        eventually(lambda: says("-u", "vad", "-P", "p1ant $ed/w@rd") == 0, 20, "a broker that lets us in")
        assert says() != 0
        healthy = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]["mosquitto"]["healthcheck"][
            "test"
        ][1]
        healthy = healthy.replace("$$", "$").replace("/run/secrets/mqtt_password", str(secret))
        healthy = healthy.replace("mosquitto_sub ", f"mosquitto_sub -h 127.0.0.1 -p {port} ")
        assert subprocess.run(["sh", "-c", healthy], capture_output=True, timeout=20, check=False).returncode == 0
        assert says("-u", "vad", "-P", "wrong") != 0
        assert "p1ant" not in passwords.read_text()
        assert passwords.stat().st_mode & 0o077 == 0
    finally:
        broker.terminate()
        assert broker.wait(20) == 0


@pytest.mark.slow
def test_the_stage_serves_the_cameras_of_the_demos_plant() -> None:
    """The camera names and the port of plant.demo.yaml, really opened."""
    cameras = yaml.safe_load((COMPOSE / "plant.demo.yaml").read_text(encoding="utf-8"))["cameras"]
    (shipped,) = yaml.safe_load((COMPOSE / "compose.yaml").read_text(encoding="utf-8"))["services"]["stage"]["command"]
    port = free_port()
    stage = subprocess.Popen(
        [sys.executable, str(COMPOSE / "stage.py"), str(port)], stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert stage.stdout is not None
    with stage.stdout:
        try:
            said = [stage.stdout.readline().strip() for _ in cameras]
            assert said == [f"{one['name']}: {one['url'].replace(f':{shipped}/', f':{port}/')}" for one in cameras]
            found = probe(ReaderSettings(name="stage", url=said[0].partition(": ")[2], fps=15.0))
            assert found.fault is None, found.summary
        finally:
            stage.terminate()
            ended = stage.wait(30)
    assert ended == 0


def test_no_secret_of_the_compose_folder_is_tracked() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "deploy/compose"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert [name for name in tracked.stdout.split() if "secret" in name or name.endswith("/plant.yaml")] == []
    assert (COMPOSE / ".gitignore").read_text().split() == ["/secrets/", "/plant.yaml", "/.env"]
