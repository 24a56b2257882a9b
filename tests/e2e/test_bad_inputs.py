"""Bad inputs as their authors meet them: what the command line answers, and with which exit code."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from monitor.alerting.outbox import Outbox
from monitor.detectors import artefact
from tests.conftest import ROOT, free_port
from tests.e2e.clips import moving_clip
from tests.e2e.running import eventually, running
from tests.e2e.test_watch import plant
from tests.monitor.alerting.servers import Mosquitto, mosquitto, subscriber
from tests.monitor.ingest.conftest import LIVE, needs_rtsp, rtsp_server  # noqa: F401 - fixtures


@dataclass(frozen=True)
class Answer:
    """What a command printed, errors among the rest, and its exit code."""

    code: int
    said: str


def vad_monitor(folder: Path, *arguments: str, seconds: float = 120.0, **env: str) -> Answer:
    """``vad-monitor …`` as a person in ``folder`` types it."""
    done = subprocess.run(
        [sys.executable, "-m", "monitor", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    return Answer(done.returncode, done.stdout)


def without_time(said: str) -> str:
    """Log lines without their time stamp: ``ERROR monitor: …``."""
    return "\n".join(line.partition(" ")[2] if line[:2] == "20" else line for line in said.splitlines())


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings of every bad kind, and a good one."""
    folder = tmp_path_factory.mktemp("shelf")
    moving_clip(folder / "yard.mp4", seconds=20)
    moving_clip(folder / "two-seconds.mp4", seconds=2)
    moving_clip(folder / "half-second.mp4", seconds=0.5)
    (folder / "notes.txt").write_text("Cameras of hall 3: see the plan in the office.\n" * 40)
    (folder / "table.csv").write_text("camera,hall\ngate,3\n" * 40)
    (folder / "zero.mp4").touch()
    (folder / "cut.mp4").write_bytes((folder / "yard.mp4").read_bytes()[:20_000])
    (folder / "folder.mp4").mkdir()
    return folder


# -- plant.yaml ------------------------------------------------------------------------------------------------

YARD = "cameras:\n  - {name: yard, url: file:yard.mp4}\n"
CONFIGS = {
    "missing.yaml": (None, "missing.yaml: cannot be read: there is no such file"),
    "empty.yaml": ("", "empty.yaml:1: is empty; it needs site, mqtt and cameras"),
    "tabs.yaml": (
        "site: works\nmqtt: off\ncameras:\n\t- name: yard\n",
        "tabs.yaml:4: not YAML: indent with spaces, not tabs",
    ),
    "words.yaml": (
        "see the plan in the office\n",
        "words.yaml:1: expected a mapping: site, mqtt, cameras …",
    ),
    "unset.yaml": (
        "site: works\nmqtt: off\ncameras:\n  - name: gate\n    url: rtsp://192.0.2.1/x\n    username: viewer\n"
        "    password: ${GATE_PASSWORD}\n",
        "unset.yaml:7: cameras[0].password: the environment variable GATE_PASSWORD is not set",
    ),
    "five.yaml": (
        "site: works\nmqtt: off\ncameras:\n  - name: yard\n    url: file:yard.mp4\n    fps: fast\n"
        "    tresholds: inherit\n  - name: yard\n    url: gopher://viewer:p1anted@192.0.2.1/x\n    ignore: [[0, 0]]\n",
        "five.yaml:6: cameras[0].fps: expected a whole number or decimal (got 'fast')\n"
        "five.yaml:7: cameras[0].tresholds: unknown key; did you mean 'thresholds'?\n"
        "five.yaml:8: cameras[1].name: an earlier camera (line 4) has this name (got 'yard')\n"
        "five.yaml:9: cameras[1].url: the scheme of an address is one of rtsp://, rtsps://, http://, https://, file:, "
        "a device number or /dev/videoN\n"
        "five.yaml:10: cameras[1].ignore: expected a list of polygons: write one more pair of brackets around this one",
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_mistakes_in_plant_yaml_are_said_at_once_by_check_and_by_a_start(name: str, tmp_path: Path) -> None:
    text, message = CONFIGS[name]
    if text is not None:
        (tmp_path / name).write_text(text)
    checked = vad_monitor(tmp_path, "check", name)
    assert (checked.said, checked.code) == (message + "\n", 78)
    assert vad_monitor(tmp_path, "--cameras", name) == checked


def test_check_says_what_is_wrong_with_the_artefact_beside_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "both.yaml").write_text(
        f"site: works\nmqtt: off\nscoring: {{artefact: defalt}}\nhttp: {{prot: 9108}}\n{YARD}"
    )
    checked = vad_monitor(tmp_path, "check", "both.yaml")
    assert checked.code == 78
    lines = checked.said.splitlines()
    assert lines[0].startswith("both.yaml:4: http.prot: unknown key; did you mean 'port'?")
    assert lines[1].startswith("both.yaml:3: scoring.artefact: there is no artefact 'defalt'")


def test_check_says_which_artefact_auto_is_here_and_why(tmp_path: Path) -> None:
    (tmp_path / "plant.yaml").write_text(f"site: works\nmqtt: off\nscoring: {{artefact: auto, device: cpu}}\n{YARD}")
    checked = vad_monitor(tmp_path, "check", "plant.yaml", VAD_MONITOR_CACHE=str(tmp_path / "cache"))
    assert checked.code == 0
    first, second = checked.said.splitlines()
    assert "artefact 'default' on effnet_lite0" in first
    assert second.startswith("plant.yaml: scoring.artefact: auto is 'default'")
    assert "not 'motion'" in second


@pytest.mark.parametrize("harm", ["none recorded", "scores that stand still", "another clip"])
def test_check_knows_of_the_artefacts_canary_what_a_start_knows(harm: str, tmp_path: Path) -> None:
    folder = tmp_path / "ours"
    shutil.copytree(artefact.resolve("default"), folder)
    if harm == "none recorded":
        card = json.loads((folder / "card.json").read_text())
        del card["canary"]
        (folder / "card.json").write_text(json.dumps(card))
    elif harm == "scores that stand still":
        card = json.loads((folder / "card.json").read_text())
        card["canary"]["long_term"] = [0.3, 0.3037, *[0.3] * 6]
        (folder / "card.json").write_text(json.dumps(card))
    else:
        with (folder / "canary.mp4").open("ab") as clip:
            clip.write(b"x")
    (tmp_path / "plant.yaml").write_text(f"site: works\nmqtt: off\nscoring: {{artefact: ./ours}}\n{YARD}")
    checked = vad_monitor(tmp_path, "check", "plant.yaml")
    if harm == "none recorded":
        assert checked.code == 0
        said = "plant.yaml: no canary: artefact 'default' has none (vad-train canary adds one)"
        assert checked.said.splitlines()[-1] == said
        return
    if harm == "scores that stand still":
        assert checked.code == 0
        assert checked.said.splitlines()[-1] == (
            "plant.yaml: artefact 'default': the canary's scores move by 0.0037, less than 5 times their tolerance of "
            "0.02: detectors that always gave nearly the same score would not be noticed (vad-train canary records it "
            "anew)"
        )
        return
    assert checked.code == 78
    assert "canary.mp4 is damaged or another clip" in checked.said
    started = vad_monitor(tmp_path, "--cameras", "plant.yaml", "--dry-run")
    assert started.code == 78
    assert "canary.mp4 is damaged or another clip" in started.said


def test_wrong_usage_ends_with_2(tmp_path: Path) -> None:
    forgotten = vad_monitor(tmp_path, "--cameras")
    assert forgotten.said.splitlines()[-1] == "vad-monitor run: error: argument --cameras: expected one argument"
    assert forgotten.code == 2
    nothing = vad_monitor(tmp_path, "probe")
    assert (nothing.said, nothing.code) == (
        "vad-monitor probe: name streams, or a plant.yaml with --cameras\n",
        2,
    )


@pytest.mark.parametrize("order", [("fetch", "i3d"), ("import", "i3d", "weights.pyth")])
def test_weights_of_a_backbone_that_there_is_not_are_wrong_usage(order: tuple[str, ...], tmp_path: Path) -> None:
    answer = vad_monitor(tmp_path, "weights", *order)
    assert answer.code == 2
    assert answer.said.startswith("vad-monitor weights: there is no backbone 'i3d'; known are effnet_lite0, i3d_r50")


def test_the_demo_names_every_wrong_argument_before_it_begins(tmp_path: Path) -> None:
    wrong = ["--seed", "-1", "--camera-count", "0", "--seconds", "-5", "--json", "nowhere/report.json"]
    assert vad_monitor(tmp_path, "demo", *wrong) == Answer(
        2,
        "--seed: expected a whole number from 0 on (got -1)\n"
        "--camera-count: expected 1 to 64 (got 0)\n"
        "--seconds: expected a number above 0, or 0 for no end (got -5)\n"
        "--json: nowhere/report.json cannot be a file: it is a folder, or its folder is not there\n",
    )
    (tmp_path / ".demo").touch()
    assert vad_monitor(tmp_path, "demo") == Answer(1, "vad-monitor demo: .demo cannot be written: File exists\n")


def test_a_second_demo_beside_the_first_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with Outbox(tmp_path / ".demo" / "state" / "outbox.sqlite", wall=time.time, most=1):
        answer = vad_monitor(tmp_path, "demo", "--camera-count", "1", "--seconds", "5")
    assert answer.code == 1
    assert answer.said.splitlines()[-1].startswith("vad-monitor demo: another vad-monitor ")
    assert "Traceback" not in answer.said


# -- artefacts -------------------------------------------------------------------------------------------------


def of_another_backbone(folder: Path) -> None:
    card = folder / "card.json"
    facts = json.loads(card.read_text())
    facts["backbone_fingerprint"] = "0123456789ab" + facts["backbone_fingerprint"][12:]
    card.write_text(json.dumps(facts))


def truncated(folder: Path) -> None:
    os.truncate(folder / "weights.safetensors", 100_000)


def without_card(folder: Path) -> None:
    (folder / "card.json").unlink()


ARTEFACTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (
        shutil.rmtree,
        "there is no artefact '{folder}': no such folder, and shipped are {shipped}",
    ),
    "another backbone": (
        of_another_backbone,
        "artefact 'default' was trained on features of 'effnet_lite0' with fingerprint 0123456789ab…, but the one "
        "here has {fingerprint}…: its weights, preprocessing or recipe differ; use the weights it was trained with, "
        "or train it again",
    ),
    "truncated": (
        truncated,
        "{folder}/weights.safetensors is damaged or belongs to another card: its sha256 is {now}, the card says {was}",
    ),
    "without a card": (without_card, "{folder} is no artefact: card.json is missing"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ARTEFACTS)
def test_an_artefact_that_does_not_fit_ends_with_78(kind: str, tmp_path: Path) -> None:
    import hashlib

    shipped = artefact.read_card("default")
    folder = tmp_path / "mine"
    shutil.copytree(artefact.resolve("default"), folder)
    spoil, message = ARTEFACTS[kind]
    spoil(folder)
    weights = folder / "weights.safetensors"
    message = message.format(
        folder=folder,
        shipped=", ".join(sorted(card.parent.name for card in artefact.SHIPPED.glob("*/card.json"))),
        fingerprint=shipped.backbone_fingerprint[:12],
        was=shipped.weights_sha256,
        now=hashlib.sha256(weights.read_bytes()).hexdigest() if weights.exists() else "",
    )
    (tmp_path / "plant.yaml").write_text(
        "site: works\nmqtt: off\nhttp: {port: 0}\nscoring: {artefact: ./mine}\n" + YARD
    )
    checked = vad_monitor(tmp_path, "check", "plant.yaml")
    assert (checked.said, checked.code) == (f"plant.yaml: scoring.artefact: {message}\n", 78)
    if kind == "another backbone":  # a start asks the same question; once is enough
        started = vad_monitor(tmp_path, "--cameras", "plant.yaml")
        assert without_time(started.said) == f"ERROR monitor: scoring.artefact: {message}"
        assert started.code == 78


# -- recordings ------------------------------------------------------------------------------------------------


def test_probe_says_of_every_file_what_it_is(shelf: Path) -> None:
    names = ["two-seconds.mp4", "notes.txt", "table.csv", "zero.mp4", "folder.mp4", "cut.mp4", "nowhere.mp4"]
    answer = vad_monitor(shelf, "probe", *names)
    good, *bad = answer.said.splitlines()
    assert good.startswith(f"file:{shelf}/two-seconds.mp4: h264 320x180, 15 frames/s, first frame after ")
    assert bad == [
        f"file:{shelf}/notes.txt: no video can be read from {shelf}/notes.txt: is it one, and is it whole?",
        f"file:{shelf}/table.csv: no video can be read from {shelf}/table.csv: is it one, and is it whole?",
        f"file:{shelf}/zero.mp4: the file {shelf}/zero.mp4 is empty (0 bytes)",
        f"file:{shelf}/folder.mp4: {shelf}/folder.mp4 is a folder, not a video file",
        f"file:{shelf}/cut.mp4: no video can be read from {shelf}/cut.mp4: is it one, and is it whole?",
        f"file:{shelf}/nowhere.mp4: there is no file {shelf}/nowhere.mp4",
    ]
    assert answer.code == 1


def test_probe_shows_no_password_of_an_address_that_it_refuses(shelf: Path) -> None:
    answer = vad_monitor(shelf, "probe", "gopher://viewer:p1anted@192.0.2.1/x")
    assert answer == Answer(
        2,
        "gopher://***@192.0.2.1/x: the scheme of an address is one of rtsp://, rtsps://, http://, https://, file:, a "
        "device number or /dev/videoN\n",
    )


def test_replay_names_every_wrong_argument_before_it_begins(shelf: Path) -> None:
    answer = vad_monitor(
        shelf, "replay", "nowhere.mp4", "folder.mp4", "two-seconds.mp4", "--out", "yard.mp4", "--fps", "0"
    )
    assert answer == Answer(
        2,
        "nowhere.mp4: there is no such file\n"
        "folder.mp4: is a folder; name the files in it\n"
        "--out: yard.mp4 is a file, not a folder\n"
        "--fps: expected a number above 0, at most 120 (got 0)\n",
    )
    assert vad_monitor(shelf, "replay", "two-seconds.mp4", "--out", "out", "--device", "tpu") == Answer(
        2, "--device: expected 'auto', 'cpu', 'cuda' or 'cuda:N' (got 'tpu')\n"
    )


@pytest.mark.slow
def test_replay_scores_short_clips_whole_and_says_what_it_could_not_read(shelf: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = ["two-seconds.mp4", "half-second.mp4", "notes.txt", "zero.mp4", "cut.mp4"]
    answer = vad_monitor(shelf, "replay", *names, "--out", str(out), "--log-level", "error")
    summary, *faults = [line for line in answer.said.splitlines() if line]
    assert summary.startswith("5 files, 3 segments, 3 s of video in ")
    assert faults == [
        f"notes.txt: no video can be read from {shelf}/notes.txt: is it one, and is it whole?",
        f"zero.mp4: the file {shelf}/zero.mp4 is empty (0 bytes)",
        f"cut.mp4: no video can be read from {shelf}/cut.mp4: is it one, and is it whole?",
    ]
    assert answer.code == 1
    rows = [line.split(",") for line in (out / "scores.csv").read_text().splitlines()]
    assert [row[:4] for row in rows] == [
        ["file", "segment", "start_s", "end_s"],
        ["two-seconds.mp4", "0", "0.000", "1.067"],
        ["two-seconds.mp4", "1", "1.067", "2.000"],
        ["half-second.mp4", "0", "0.000", "0.533"],
    ]
    assert all(0 < float(row[4]) < 1 for row in rows[1:]), "each has a score"
    assert sorted(file.name for file in out.iterdir()) == ["half-second.png", "scores.csv", "two-seconds.png"]


# -- cameras ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def web_server(folder: Path) -> Iterator[int]:
    """The port of a web server with these files."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, name="web server", daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.slow
def test_each_bad_camera_says_what_is_wrong_with_it_and_the_good_one_is_watched(
    shelf: Path,
    tmp_path: Path,
    rtsp_server: Callable[..., Any],  # noqa: F811 - the fixture
) -> None:
    rtsp = rtsp_server({"/gate": {"launch": LIVE}}, user="viewer", password="the right one", digest=True)
    right = {"username": "viewer", "password": "the right one"}
    nobody = free_port()
    not_video = "no video can be read from {}: is it one, and is it whole?"
    with web_server(shelf) as web, socket.create_server(("127.0.0.1", 0)) as silent:
        silent_port = silent.getsockname()[1]
        faults: dict[str, tuple[dict[str, Any], str]] = {
            "unknown-host": (
                {"url": "rtsp://no-such-host.invalid/x"},
                "the host 'no-such-host.invalid' is unknown: check the name in the camera's url",
            ),
            "refused": (
                {"url": f"rtsp://127.0.0.1:{nobody}/x"},
                f"rtsp://127.0.0.1:{nobody} refused the connection: is the camera on, is the port right?",
            ),
            "silent": (
                {"url": f"rtsp://127.0.0.1:{silent_port}/x"},
                f"rtsp://127.0.0.1:{silent_port} did not answer within 3 s",
            ),
            "wrong-password": (
                {"url": rtsp.url("/gate"), "username": "viewer", "password": "p1anted"},
                f"rtsp://127.0.0.1:{rtsp.port} refused the user name or password (401): check the camera's credentials",
            ),
            "no-login": (
                {"url": rtsp.url("/gate")},
                f"rtsp://127.0.0.1:{rtsp.port} refused the user name or password (401): check the camera's credentials",
            ),
            "wrong-path": (
                {"url": rtsp.url("/nothing"), **right},
                f"rtsp://127.0.0.1:{rtsp.port} has no stream of that path (404): check the path in the url",
            ),
            "web-text": (
                {"url": f"http://127.0.0.1:{web}/notes.txt"},
                not_video.format(f"http://127.0.0.1:{web}"),
            ),
            "web-404": (
                {"url": f"http://127.0.0.1:{web}/nothing.mp4"},
                f"http://127.0.0.1:{web} has no stream of that path (404): check the path in the url",
            ),
            "web-as-rtsp": (
                {"url": f"rtsp://127.0.0.1:{web}/yard.mp4"},
                not_video.format(f"rtsp://127.0.0.1:{web}"),
            ),
            "csv": ({"url": f"file:{shelf}/table.csv"}, not_video.format(f"{shelf}/table.csv")),
            "text": ({"url": f"file:{shelf}/notes.txt"}, not_video.format(f"{shelf}/notes.txt")),
            "cut": ({"url": f"file:{shelf}/cut.mp4"}, not_video.format(f"{shelf}/cut.mp4")),
            "zero": ({"url": f"file:{shelf}/zero.mp4"}, f"the file {shelf}/zero.mp4 is empty (0 bytes)"),
            "folder": (
                {"url": f"file:{shelf}/folder.mp4"},
                f"{shelf}/folder.mp4 is a folder, not a video file",
            ),
            "missing": ({"url": f"file:{shelf}/nowhere.mp4"}, f"there is no file {shelf}/nowhere.mp4"),
            "device": ({"url": 97}, "there is no camera device /dev/video97: is it plugged in?"),
        }
        cameras = [
            {"name": name, "connect_timeout_s": 3, "backoff_max_s": 2} | given for name, (given, _) in faults.items()
        ]
        cameras.append({"name": "good", "url": rtsp.url("/gate"), **right})
        with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as heard:
            with running(tmp_path / "monitor", plant(broker.port, cameras)) as monitor:
                monitor.said("camera 'good': alarm raised", 90)
                wanted = {name: ("lost", sentence) for name, (_, sentence) in faults.items()}

                def told() -> bool:
                    return {name: status_of(heard, name) for name in faults} == wanted

                with contextlib.suppress(AssertionError):
                    eventually(told, 30, "every camera's message")
                assert {name: status_of(heard, name) for name in faults} == wanted
                eventually(lambda: status_of(heard, "good") == ("ok", "watched and scored"), 30, "ok")
                assert monitor.get("/readyz") == (200, "ok\n"), "a camera's fault is a status, never unready"
                assert monitor.metric("vad_camera_up", camera="wrong-password") == 0
                assert monitor.end() == 0
                assert "p1anted" not in monitor.log
                assert "the right one" not in monitor.log
                assert "Traceback" not in monitor.log


def status_of(heard: Any, camera: str) -> tuple[str, str]:
    seen = heard.payloads(f"/{camera}/status")
    return (seen[-1]["status"], seen[-1]["reason"]) if seen else ("", "")


# -- ports, folders, brokers -----------------------------------------------------------------------------------


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_an_http_port_in_use_ends_the_start_with_a_sentence(shelf: Path, tmp_path: Path, taken: int) -> None:
    (tmp_path / "plant.yaml").write_text(f"site: works\nmqtt: off\nhttp: {{port: {taken}}}\n" + YARD)
    started = vad_monitor(tmp_path, "--cameras", "plant.yaml")
    assert without_time(started.said) == (
        f"ERROR monitor: http.port: 127.0.0.1:{taken} is in use by another program (another vad-monitor?); stop it, or "
        "set http.port to a free port"
    )
    assert started.code == 1


@pytest.mark.slow
def test_the_embedded_brokers_port_in_use_ends_the_start_with_a_sentence(tmp_path: Path, taken: int) -> None:
    (tmp_path / "plant.yaml").write_text(
        f"site: works\nmqtt: {{kind: embedded, port: {taken}}}\nhttp: {{port: 0}}\n" + YARD
    )
    started = vad_monitor(tmp_path, "--cameras", "plant.yaml", "--log-level", "error")
    assert without_time(started.said) == (
        f"ERROR monitor: the embedded broker cannot listen on 127.0.0.1:{taken} (another program uses it): choose "
        "another mqtt.port"
    )
    assert started.code == 1


@pytest.mark.slow
def test_a_second_monitor_on_the_same_state_folder_ends_with_a_sentence(shelf: Path, tmp_path: Path) -> None:
    cameras = [{"name": "yard", "url": f"file:{shelf}/yard.mp4"}]
    with mosquitto(tmp_path / "broker") as broker:
        with running(tmp_path / "monitor", plant(broker.port, cameras)) as monitor:
            monitor.said("watching 1 cameras")
            second = vad_monitor(tmp_path, "--cameras", str(monitor.file), "--log-level", "error")
            state = tmp_path / "monitor" / "state" / "outbox.sqlite"
            assert without_time(second.said) == (
                f"ERROR monitor: another vad-monitor uses {state}; stop it, or give this one a state_folder of its own"
            )
            assert second.code == 1
            monitor.said("alarm raised")
            assert monitor.get("/readyz") == (200, "ok\n")
            assert monitor.end() == 0


@pytest.mark.slow
def test_alerts_wait_for_a_broker_that_is_down_at_the_start(shelf: Path, tmp_path: Path) -> None:
    cameras = [{"name": "yard", "url": f"file:{shelf}/yard.mp4"}]
    broker = Mosquitto(tmp_path / "broker")
    try:
        with running(tmp_path / "monitor", plant(broker.port, cameras)) as monitor:
            monitor.said("alarm raised")
            nobody = "nobody listens there: is the broker running, and mqtt.port right?"
            monitor.said(f"MQTT broker 127.0.0.1:{broker.port}: {nobody}")
            eventually(lambda: (monitor.metric("vad_outbox_messages") or 0) >= 2, 30, "alerts in the outbox")
            assert monitor.metric("vad_mqtt_connected") == 0
            assert monitor.get("/readyz") == (200, "ok\n"), "a broker's fault is a metric, never unready"
            broker.start()
            with subscriber(broker.port) as heard:
                eventually(lambda: len(heard.payloads("yard/alert")) >= 3, 60, "the alerts that waited")
                eventually(lambda: monitor.metric("vad_mqtt_connected") == 1, 5, "the metric")
                assert monitor.end() == 0
                alerts = heard.payloads("yard/alert")
            assert [alert["seq"] for alert in alerts] == list(range(1, len(alerts) + 1))
            assert alerts[0]["kind"] == "raised"
    finally:
        broker.kill()


@contextlib.contextmanager
def disk(folder: Path, options: str) -> Iterator[None]:
    """A disk of its own in ``folder``; skips where this user may not mount one."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"only root may mount a small disk: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def alert_without_evidence(tmp_path: Path, shelf: Path, folder: Path, said: str) -> str:
    """Runs a monitor with state and evidence in ``folder``; returns the note of its alert's evidence."""
    cameras = [{"name": "yard", "url": f"file:{shelf}/yard.mp4"}]
    folders = {
        "state_folder": str(folder / "state"),
        "evidence": {"folder": str(folder / "evidence"), "pre_roll_s": 1.0, "post_roll_s": 1.0},
    }
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as heard:
        with running(tmp_path / "monitor", plant(broker.port, cameras, **folders)) as monitor:
            monitor.said("alarm raised")
            monitor.said(said)
            assert monitor.get("/readyz?verbose")[0] == 503
            assert "no: outbox: alerts are not durable: " in monitor.get("/readyz?verbose")[1]
            assert monitor.get("/livez") == (200, "ok\n")
            assert monitor.metric("vad_outbox_durable") == 0
            noted = eventually(
                lambda: [a["evidence"]["note"] for a in heard.payloads("yard/alert") if a["evidence"]["note"]],
                40,
                "an alert whose evidence has a note",
            )
            assert monitor.end() == 0
            assert "Traceback" not in monitor.log
        alerts = heard.payloads("yard/alert")
    assert [alert["seq"] for alert in alerts] == list(range(1, len(alerts) + 1))
    assert (alerts[0]["kind"], alerts[-1]["kind"]) == ("raised", "ended")
    assert alerts[-1]["evidence"]["state"] == "none"
    note: str = noted[0]
    return note


@pytest.mark.slow
def test_a_full_disk_costs_the_evidence_but_no_alert(shelf: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    with disk(full, "size=64k"):
        (full / "other").write_bytes(bytes(56 * 1024))
        note = alert_without_evidence(tmp_path, shelf, full, "alerts are kept in memory until it can")
        assert note.endswith(
            "the clip could not be written: No space left on device; "
            "the snapshot could not be written: No space left on device"
        )
        assert sorted(file.name for file in full.rglob("*.part")) == [], "nothing half is left"


@pytest.mark.slow
def test_folders_that_may_not_be_written_cost_the_evidence_but_no_alert(shelf: Path, tmp_path: Path) -> None:
    folder = tmp_path / "read-only"
    with contextlib.ExitStack() as stack:
        if os.geteuid() == 0:
            stack.enter_context(disk(folder, "size=64k,ro"))
            reason = "Read-only file system"
        else:
            folder.mkdir(mode=0o500)
            reason = "Permission denied"
        note = alert_without_evidence(tmp_path, shelf, folder, "alerts are kept in memory until it can")
    assert note.endswith(f"the clip could not be written: {reason}; the snapshot could not be written: {reason}")
