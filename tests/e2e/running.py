"""A monitor as its users run it: a process of its own, known by its log, its metrics and its messages."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT
from tests.monitor.alerting.servers import until


class RunningMonitor:
    """``python -m monitor --cameras plant.yaml`` in ``folder``, its HTTP service on a free port."""

    def __init__(
        self, folder: Path, plant: dict[str, Any], *options: str, program: tuple[str, ...] = ("-m", "monitor")
    ) -> None:
        self.folder = folder
        self.file = folder / "plant.yaml"
        self.log_file = folder / "monitor.log"
        self._former = len(self.log) if self.log_file.exists() else 0
        self.write(plant)
        self._log = self.log_file.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, *program, "--cameras", str(self.file), "--log-format", "json", *options],
            stdout=self._log,
            stderr=self._log,
            cwd=ROOT,
        )

    def write(self, plant: dict[str, Any]) -> None:
        whole = {"http": {"port": 0}, "state_folder": "state", "evidence": {"folder": "evidence"}} | plant
        # Clips lie beside the monitor's folder, or in that of another test.
        whole["ingest"] = {"file_folders": ["../.."]} | whole.get("ingest", {})
        self.file.write_text(yaml.safe_dump(whole), encoding="utf-8")

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def said(self, words: str, seconds: float = 60.0) -> None:
        """Waits until the log of this life has these words; fails at once where the monitor has ended."""

        def there() -> bool:
            if words in self.log[self._former :]:
                return True
            assert self.process.poll() is None, f"the monitor ended with {self.process.returncode}:\n{self.log}"
            return False

        try:
            until(there, seconds, f"'{words}' in the log")
        except AssertionError as late:
            raise AssertionError(f"{late}; its end:\n{self.log[-3000:]}") from None

    @property
    def address(self) -> str:
        # A camera's address may be http too, and stand in the log.
        found: list[str] = re.findall(r"watching \d+ cameras of [^;]*; (http://127\.0\.0\.1:\d+)", self.log)
        assert found, self.log
        return found[-1]  # of the last life in this folder

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.address + path, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float | None:
        """The value of one series of a real scrape; None where there is none."""
        for line in self.get("/metrics")[1].splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(f'{k}="{v}"' in series for k, v in labels.items()):
                return float(value)
        return None

    def end(self, number: signal.Signals = signal.SIGTERM, seconds: float = 30.0) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.close()


@contextlib.contextmanager
def running(folder: Path, plant: dict[str, Any], *options: str) -> Iterator[RunningMonitor]:
    folder.mkdir(exist_ok=True)
    monitor = RunningMonitor(folder, plant, *options)
    try:
        yield monitor
    finally:
        monitor.close()


def eventually(holds: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true answer; asked a few times a second."""
    end = time.monotonic() + seconds
    while True:
        answer = holds()
        if answer:
            return answer
        assert time.monotonic() < end, f"{what} did not happen in {seconds} s"
        time.sleep(0.2)


def as_json(text: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(text)
    return loaded
