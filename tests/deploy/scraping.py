"""A real Prometheus with the shipped configuration, and what can be asked of it."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT, free_port, needs_program
from tests.e2e.running import eventually

SHIPPED = ROOT / "deploy" / "prometheus"


class Prometheus:
    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **arguments: str) -> Any:
        """The ``data`` of an answer; an error's own words where the query is refused."""
        query = urllib.parse.urlencode(arguments)
        try:
            with urllib.request.urlopen(f"{self.address}/api/v1/{path}?{query}", timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} {arguments}: {error.read().decode()}") from None

    def query(self, expr: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("query", query=expr)["result"]
        return found

    def names(self) -> set[str]:
        return set(self.ask("label/__name__/values"))

    def labels(self, name: str) -> set[str]:
        return set(self.ask("labels", **{"match[]": name}))

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextlib.contextmanager
def scraping(folder: Path, monitor: str, site: str, token: Path) -> Iterator[Prometheus]:
    """Prometheus on the shipped files: only the target and its token are the given ones, and a second stands for
    fifteen."""
    program = needs_program("prometheus", "prometheus")
    shutil.copytree(SHIPPED, folder)
    (folder / "targets" / "monitors.yml").write_text(yaml.safe_dump([{"targets": [monitor], "labels": {"site": site}}]))
    settings = yaml.safe_load((folder / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"}
    settings["scrape_configs"] = [
        job | ({"scrape_timeout": "1s"} if job["job_name"] == "vad-monitor" else {})
        for job in settings["scrape_configs"]
    ]
    text = yaml.safe_dump(settings)
    assert "/run/secrets/metrics_token" in text
    (folder / "prometheus.yml").write_text(text.replace("/run/secrets/metrics_token", str(token)))
    port = free_port()
    with (folder / "prometheus.log").open("ab") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    prometheus = Prometheus(port)
    try:
        eventually(prometheus.healthy, 60, "a ready Prometheus")
        yield prometheus
    finally:
        process.terminate()
        process.wait(20)
