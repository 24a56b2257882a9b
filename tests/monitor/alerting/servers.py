"""Real brokers and subscribers for the tests: mosquitto, mosquitto_sub, openssl."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import Signals
from typing import Any

from tests.conftest import free_port, needs_program


def until(holds: Callable[[], bool], seconds: float = 10.0, what: str = "it") -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{what} did not happen in {seconds} s"
        time.sleep(0.01)


async def eventually(holds: Callable[[], bool], seconds: float = 10.0, what: str = "it") -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{what} did not happen in {seconds} s"
        await asyncio.sleep(0.01)


class Mosquitto:
    """A mosquitto of our own: startable, killable and stoppable on one port, its state kept in a folder."""

    def __init__(self, folder: Path, *, extra: str = "") -> None:
        self.program = needs_program("mosquitto", "mosquitto")
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.port = free_port()
        access = "" if "allow_anonymous" in extra else "allow_anonymous true\n"
        # Persistence, so that a subscriber's session and the retained messages survive a restart.
        (folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\n{access}persistence true\npersistence_location {folder}/\n"
            f"autosave_interval 1\nautosave_on_changes true\nuser root\n{extra}"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, "-c", str(self.folder / "mosquitto.conf")], stdout=log, stderr=log
            )
        until(self.listens, what="mosquitto")

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def signal(self, number: Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self, number: Signals = Signals.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def mosquitto(folder: Path, *, extra: str = "") -> Iterator[Mosquitto]:
    broker = Mosquitto(folder, extra=extra)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


class Subscriber:
    """mosquitto_sub with a lasting session: what it was sent, in order. It reconnects by itself."""

    def __init__(self, port: int, topic: str = "vad/#", *options: str) -> None:
        self.seen: list[tuple[str, bool, str]] = []
        program = needs_program("mosquitto_sub", "mosquitto-clients")
        self._process = subprocess.Popen(
            [
                *("stdbuf", "-oL", program, "-h", "127.0.0.1", "-p", str(port), "-t", topic, "-q", "1", "-c"),
                *("-i", f"tester-{os.getpid()}-{id(self)}", "-F", "%t\t%r\t%p", "-d", *options),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.ready = threading.Event()
        self._thread = threading.Thread(target=self._read, name="mosquitto_sub")
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                if "\t" in line:
                    topic, retained, text = line.rstrip("\n").split("\t", 2)
                    self.seen.append((topic, retained == "1", text))
                elif "SUBACK" in line or "Subscribed" in line:
                    self.ready.set()

    def payloads(self, end: str) -> list[dict[str, Any]]:
        """Payloads of topics that end so."""
        return [json.loads(text) for topic, _, text in list(self.seen) if topic.endswith(end) and text]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()


@contextlib.contextmanager
def subscriber(port: int, topic: str = "vad/#", *options: str) -> Iterator[Subscriber]:
    listening = Subscriber(port, topic, *options)
    try:
        assert listening.ready.wait(10), "mosquitto_sub did not subscribe"
        yield listening
    finally:
        listening.stop()


def certificates(folder: Path) -> Path:
    """ca.pem, server.pem/.key (127.0.0.1), client.pem/.key, and stranger.pem: another authority."""
    openssl = shutil.which("openssl") or needs_program("openssl", "openssl")
    folder.mkdir(exist_ok=True)

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "stranger"):
        run("req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    for name in ("server", "client"):
        run("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
        sign = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2")
        run("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *sign)
    return folder
