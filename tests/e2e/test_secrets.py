"""Passwords planted everywhere, everything done wrong that can be, and every output searched for each of them."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import httpx
import pytest

from monitor.console.access import hash_password, hash_token
from tests.conftest import ROOT, needs_program
from tests.e2e.clips import moving_clip
from tests.e2e.running import eventually, running
from tests.e2e.test_watch import plant
from tests.monitor.alerting.servers import mosquitto, subscriber
from tests.monitor.ingest.conftest import needs_rtsp, rtsp_server  # noqa: F401 - fixtures
from tests.soak.sample import family

API = "/console/api/v1"
OURS = {"X-VAD-Console": "1"}
PLANTED = {
    "CAMERA_PASSWORD": "Zq-c4mera:p/w@rd ?#&%",
    "WRONG_PASSWORD": "Zq-wr0ng/p@ss wörd",
    "HTTP_PASSWORD": "Zq-http+b4sic=pass",
    "FIELD_TOKEN": "Zq7fieldT0ken99",
    "BROKER_PASSWORD": 'Zq-br0ker "q" pass',
    "BAD_BROKER_PASSWORD": "Zq-b4d-broker-pass",
    "SCRAPE_TOKEN": "Zq-scrape-t0ken-123456",
    "NEW_PASSWORD": "Zq-n3w-after-reload",
}
LOGIN_PASSWORD, WRONG_LOGIN = "Zq-l0gin-of-ann", "Zq-wr0ng-login-of-ann"
USER_TOKEN = "Zq-token-of-the-robot-0123456789"
HASH = hash_password(LOGIN_PASSWORD)
SECRETS = {**PLANTED, "login": LOGIN_PASSWORD, "wrong login": WRONG_LOGIN, "token": USER_TOKEN, "hash": HASH[7:]}
SECRETS["token's hash"] = hash_token(USER_TOKEN)


def spellings(secret: str) -> set[bytes]:
    """As it is, percent-encoded, in JSON and repr, and in base64 behind the logins that are used here."""
    plain = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), quote(secret, safe=":")}
    plain |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    raw = {text.encode() for text in plain}
    for user in ("viewer", "vad", "ann"):
        whole = base64.b64encode(f"{user}:{secret}".encode())
        raw |= {whole, base64.urlsafe_b64encode(f"{user}:{secret}".encode())}
    for shift in range(3):  # of any text that it stands in: without the letters that its neighbours share
        raw.add(base64.b64encode(b"x" * shift + secret.encode())[4 if shift else 0 : -4])
    return raw


ALL = {name: spellings(secret) for name, secret in SECRETS.items()}


def found(content: bytes) -> list[str]:
    return [name for name, forms in ALL.items() if any(form in content for form in forms)]


@contextlib.contextmanager
def door_that_refuses() -> Iterator[tuple[int, list[str]]]:
    """An HTTP camera that asks for another password, whatever it is told."""
    told: list[str] = []

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.append(self.headers.get("Authorization") or "")
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever, name="http camera", daemon=True).start()
        yield server.server_address[1], told
        server.shutdown()


def printed(*arguments: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "monitor", *arguments], cwd=ROOT, capture_output=True, timeout=120, check=False
    )
    return done.stdout + done.stderr


def test_the_search_finds_what_it_looks_for() -> None:
    secret = PLANTED["WRONG_PASSWORD"]
    header = base64.b64encode(f"somebody:{secret}".encode())
    for text in (secret.encode(), quote(secret).encode(), header, json.dumps({"a": secret}).encode()):
        assert found(b"before " + text + b" after") == ["WRONG_PASSWORD"], text
    assert found(b"Zq-nothing") == []


@pytest.mark.slow
def test_no_planted_password_is_in_any_output_of_a_whole_run(
    tmp_path: Path,
    rtsp_server: Callable[..., Any],  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, secret in PLANTED.items():
        monkeypatch.setenv(name, secret)
    clip = moving_clip(tmp_path / "clip.mp4", seconds=30)
    camera = rtsp_server(
        {"/gate": {"file": str(clip)}}, user="viewer", password=PLANTED["CAMERA_PASSWORD"], digest=False
    )
    passwords = tmp_path / "passwords"
    needs = needs_program("mosquitto_passwd", "mosquitto")
    subprocess.run([needs, "-b", "-c", passwords, "vad", PLANTED["BROKER_PASSWORD"]], check=True)
    (tmp_path / "scrape").write_text(PLANTED["SCRAPE_TOKEN"])
    broker_access = f"allow_anonymous false\npassword_file {passwords}\n"
    impatient = {"connect_timeout_s": 5, "stall_timeout_s": 5, "backoff_min_s": 0.5, "backoff_max_s": 1}
    outputs: dict[str, bytes] = {}
    with mosquitto(tmp_path / "broker", extra=broker_access) as broker, door_that_refuses() as (port, told):
        cameras = [
            {"name": "gate", "url": camera.url("/gate"), "username": "viewer", "password": "${CAMERA_PASSWORD}"},
            {"name": "wrong", "url": camera.url("/gate"), "username": "viewer", "password": "${WRONG_PASSWORD}"},
            {"name": "web", "url": f"http://viewer:${{HTTP_PASSWORD}}@127.0.0.1:{port}/a?token=${{FIELD_TOKEN}}"},
            {
                "name": "away",
                "url": "rtsp://127.0.0.1:1/x/user=a_password=${FIELD_TOKEN}_b=1",
                "username": "viewer",
                "password": "${CAMERA_PASSWORD}",
            },
        ]
        cameras = [one | impatient for one in cameras]
        users = {
            "ann": {"role": "operator", "password_hash": HASH},
            "robot": {"role": "operator", "token_sha256": hash_token(USER_TOKEN)},
        }
        settings = plant(
            broker.port,
            cameras,
            mqtt={"host": "127.0.0.1", "port": broker.port, "username": "vad", "password": "${BROKER_PASSWORD}"},
            http={"port": 0, "metrics": {"token_file": str(tmp_path / "scrape")}},
            console={"users": users},
        )
        login = ("-u", "vad", "-P", PLANTED["BROKER_PASSWORD"])
        with (
            subscriber(broker.port, "#", *login) as heard,
            running(tmp_path / "monitor", settings, "--log-level", "debug") as monitor,
        ):
            monitor.said("camera 'gate': alarm raised", 120)
            for name in ("wrong", "web", "away"):
                monitor.said(f"camera '{name}': lost", 60)
            eventually(lambda: [a for a in heard.payloads("gate/alert") if a["evidence"]["clip"]], 60, "evidence")
            assert any(word.startswith("Basic ") for word in told), "the HTTP camera was really told a password"

            pids = family(monitor.process.pid)
            assert len(pids) > 1
            for pid in pids:
                outputs[f"/proc/{pid}/cmdline"] = Path(f"/proc/{pid}/cmdline").read_bytes()
                if pid != pids[0]:  # the monitor's own has them: that is where they come from
                    outputs[f"/proc/{pid}/environ"] = Path(f"/proc/{pid}/environ").read_bytes()
                limits = Path(f"/proc/{pid}/limits").read_text()
                assert re.search(r"Max core file size +[01] +[01] +bytes", limits), limits
            os.kill(pids[1], signal.SIGSEGV)  # a reader crashes, its passwords in its memory
            monitor.said("signal 11", 30)

            with httpx.Client(base_url=monitor.address, timeout=20) as web:
                for path in ("/", "/livez?verbose", "/readyz?verbose", "/metrics", "/console/", f"{API}/cameras"):
                    outputs[f"stranger {path}"] = web.get(path, follow_redirects=True).content
                wrong = web.post(f"{API}/session", json={"name": "ann", "password": WRONG_LOGIN}, headers=OURS)
                odd = web.post(f"{API}/session", json={"name": "ann", "password": [WRONG_LOGIN]}, headers=OURS)
                typed = web.post(f"{API}/session", json={"name": LOGIN_PASSWORD, "password": "x"}, headers=OURS)
                right = web.post(f"{API}/session", json={"name": "ann", "password": LOGIN_PASSWORD}, headers=OURS)
                codes = [one.status_code for one in (wrong, odd, typed, right)]
                assert codes == [401, 422, 401, 200]
                for answer in (wrong, odd, typed, right):
                    outputs[f"login {answer.status_code}"] = answer.content + str(answer.headers).encode()
                listed = web.get(f"{API}/alerts?most=1").json()
                paths = ["cameras", *(f"cameras/{one['name']}" for one in cameras), "alerts", "history", "audit"]
                paths += [f"alerts/{listed[0]['alert_id']}", "catalogue.csv", "openapi.json", "session"]
                for path in paths:
                    answer = web.get(f"{API}/{path}")
                    assert answer.status_code == 200, path
                    outputs[path] = answer.content + str(answer.headers).encode()
                scrape = {"Authorization": f"Bearer {PLANTED['SCRAPE_TOKEN']}"}
                outputs["metrics"] = web.get("/metrics", headers=scrape).content
                outputs["readyz"] = web.get("/readyz?verbose", headers=scrape).content
                assert b"vad_camera_up" in outputs["metrics"]
                assert web.get(f"{API}/cameras", headers={"Authorization": f"Bearer {USER_TOKEN}x"}).status_code == 401

            for command in (("check",), ("probe", "--cameras"), ("audit",), ("run", "--print-config", "--cameras")):
                outputs[command[0]] = printed(*command, str(monitor.file))
                assert outputs[command[0]], command
            outputs["probe url"] = printed("probe", f"rtsp://viewer:{quote(PLANTED['WRONG_PASSWORD'])}@127.0.0.1:1/a")

            # A reload with mistakes beside passwords, then one that brings a new password.
            mistaken = {**settings, "cameras": [cameras[0] | {"fps": "${CAMERA_PASSWORD}"}, cameras[1] | {"url": "x"}]}
            monitor.write(mistaken)
            monitor.process.send_signal(signal.SIGHUP)
            monitor.said("configuration not reloaded", 30)
            monitor.write(
                {**settings, "cameras": [*cameras[:3], cameras[1] | {"name": "new", "password": "${NEW_PASSWORD}"}]}
            )
            monitor.process.send_signal(signal.SIGHUP)
            monitor.said("configuration reloaded", 30)
            monitor.said("camera 'new': lost", 60)
            assert monitor.end() == 0
            outputs["log of debug"] = monitor.log_file.read_bytes()
        for number, (topic, _, text) in enumerate(list(heard.seen)):
            outputs[f"message {number} {topic}"] = f"{topic} {text}".encode()
        assert sum(topic.startswith("vad/") for topic, _, _ in heard.seen) > 10

        refused = plant(
            broker.port,
            cameras[:1],
            mqtt={"host": "127.0.0.1", "port": broker.port, "username": "vad", "password": "${BAD_BROKER_PASSWORD}"},
        )
        with running(tmp_path / "refused", refused, "--log-format", "text", "--log-level", "debug") as second:
            second.said("watching 1 cameras", 120)
            eventually(
                lambda: "refuse" in second.log or "not authori" in second.log.lower(), 60, "the broker's refusal"
            )
            assert second.end() == 0
            outputs["log in text"] = second.log_file.read_bytes()

    rows = [json.loads(line) for line in (tmp_path / "monitor" / "state" / "audit.jsonl").read_text().splitlines()]
    what = [row["what"] for row in rows]
    assert what == ["start", "login", "login", "login", "catalogue exported", "reload", "reload", "stop"]
    assert [row.get("applied") for row in rows if row["what"] == "reload"] == [False, True]
    kept = 0
    for folder in (tmp_path / "monitor", tmp_path / "refused"):
        for path in folder.rglob("*"):
            outputs[f"name of {path}"] = str(path.relative_to(tmp_path)).encode()
            if path.is_file() and path.name != "plant.yaml":
                kept += path.suffix == ".sqlite"
                outputs[f"file {path}"] = path.read_bytes()
    assert kept >= 3, "outboxes and a history"
    telling = {where: leaks for where, content in outputs.items() if (leaks := found(content))}
    assert telling == {}
    print(f"{len(outputs)} outputs, {sum(map(len, outputs.values()))} bytes, {sum(map(len, ALL.values()))} spellings")
