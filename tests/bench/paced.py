"""How many paced RTSP cameras this machine watches, and how late: ``python -m tests.bench.paced --minutes 10``.

Each camera is a generated recording (640x360, 15 fps, H.264), served over RTSP in a loop by a process of its own.
Every score is made an alarm (thresholds 0), so that each camera sends an alert message a second all the way to the
broker; from these come the latencies. Nothing but 127.0.0.1 is spoken to, and everything ends by itself. The rows go to
``--out``, each sample beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from monitor.alerting.contract import seconds as wall_of
from monitor.stage.files import play_file
from monitor.stage.layout import SEEDS
from monitor.stage.rtsp import RtspServer
from monitor.stage.scenes import Scene, write_clip
from tests.bench.rows import Row, kept, machine, write
from tests.e2e.running import RunningMonitor, running
from tests.faults.rig import UNBOUNDED
from tests.monitor.alerting.servers import mosquitto, subscriber
from tests.soak.sample import held, series, total

FILES, CLIP_S = 8, 20.0
SAMPLE_EVERY_S = 10.0
SETTLE_S = 5.0
KEPT = Path(__file__).parent / "results" / "paced.json"
"""The run that the README shows."""


def serve(pipe: Connection, files: Sequence[Path]) -> None:
    """A process: every file at /camera-N, in real time, until the pipe closes."""

    async def play() -> None:
        async with RtspServer() as server, asyncio.TaskGroup() as tasks:
            playing = [
                tasks.create_task(play_file(server.mount(f"/camera-{number}"), file))
                for number, file in enumerate(files, start=1)
            ]
            pipe.send(server.port)
            with contextlib.suppress(EOFError):
                await asyncio.to_thread(pipe.recv)
            for task in playing:
                task.cancel()

    asyncio.run(play())


def recordings(folder: Path, count: int, seconds: float) -> list[Path]:
    """Generated ones, each of another scene."""
    files = [folder / f"{number}.mp4" for number in range(count)]
    for number, file in enumerate(files):
        write_clip(file, Scene(SEEDS["tests"].start + number), seconds)
    return files


@contextlib.contextmanager
def cameras(folder: Path, count: int) -> Iterator[list[dict[str, Any]]]:
    """``count`` cameras of a plant.yaml."""
    files = recordings(folder, min(count, FILES), CLIP_S)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, [files[n % len(files)] for n in range(count)]))
    process.start()
    theirs.close()
    port = ours.recv()
    try:
        yield [{"name": f"camera-{n}", "url": f"rtsp://127.0.0.1:{port}/camera-{n}"} for n in range(1, count + 1)]
    finally:
        ours.close()
        process.join(10)
        if process.is_alive():
            process.kill()


def watch(monitor: RunningMonitor, minutes: float) -> list[dict[str, float]]:
    """Samples of memory, CPU and losses until the time is over."""
    samples = []
    pid, began_s = monitor.process.pid, time.monotonic()
    last_s, before_cpu_s = began_s, held(pid)["cpu_s"]
    while (now_s := time.monotonic()) - began_s < minutes * 60:
        threading.Event().wait(SAMPLE_EVERY_S)
        scraped = series(monitor.get("/metrics")[1])
        now_s = time.monotonic()
        now = held(pid)
        samples.append(
            {
                "minute": (now_s - began_s) / 60,
                "memory_mb": now["monitor_pss_mb"] + now["readers_pss_mb"],
                "cores": (now["cpu_s"] - before_cpu_s) / (now_s - last_s),
                "segments": total(scraped, "vad_camera_segments_total"),
                "scored": total(scraped, "vad_camera_segments_scored_total"),
                "dropped": total(scraped, "vad_camera_segments_dropped_total"),
                "invalid": total(scraped, "vad_camera_segments_invalid_total"),
                "reconnects": total(scraped, "vad_camera_reconnects_total"),
            }
        )
        before_cpu_s, last_s = now["cpu_s"], now_s
    return samples


def paced(count: int, minutes: float, scoring: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """``scoring``: settings of the plant, beside the defaults."""
    with tempfile.TemporaryDirectory(prefix="vad-soak-") as name:
        folder = Path(name)
        always = {"raise_at": 0.0, "clear_at": 0.0, "update_every_s": 1.0}
        with (
            cameras(folder, count) as watched,
            mosquitto(folder / "broker") as broker,
            subscriber(broker.port, "vad/soak/cameras/+/alert", "-F", "%U\t0\t%p") as heard,
        ):
            plant = {
                "site": "soak",
                "mqtt": {"port": broker.port},
                "alerts": UNBOUNDED,
                "defaults": {"thresholds": always},
                "scoring": dict(scoring or {}),
                "cameras": watched,
            }
            with running(folder / "monitor", plant) as monitor:
                for camera in watched:
                    monitor.said(f"camera '{camera['name']}': alarm raised", 120)
                # A first bag tells of all its segments at once, the oldest of which is l segments old.
                time.sleep(SETTLE_S)
                first = len(heard.seen)
                samples = watch(monitor, minutes)
                late_s = np.array(
                    [
                        float(at) - wall_of(payload["captured_at"])
                        for at, _, text in heard.seen[first:]
                        if (payload := json.loads(text))["kind"] == "updated" and payload["reason"] != "evidence ready"
                    ]
                )
                code = monitor.end()
    half = len(samples) // 2
    p50, p95, p99 = np.percentile(late_s, [50, 95, 99])
    return {
        "cameras": count,
        "minutes": minutes,
        "exit_code": code,
        "alerts": len(late_s),
        "capture_to_subscriber_s": {"p50": p50, "p95": p95, "p99": p99},
        "memory_mb": {"first_half": _mean(samples[:half]), "second_half": _mean(samples[half:])},
        "cores": float(np.mean([sample["cores"] for sample in samples])),
        **{key: samples[-1][key] for key in ("segments", "scored", "dropped", "invalid", "reconnects")},
        "samples": samples,
    }


def _mean(samples: Sequence[dict[str, float]]) -> float:
    return float(np.mean([sample["memory_mb"] for sample in samples]))


def rows(run: Mapping[str, Any]) -> list[Row]:
    """What the README says of one run of ``paced``."""
    who = f"{run['cameras']} cameras 640x360 at 15 fps, {run['minutes']:g} minutes"
    lost = (
        f"of {run['segments'] + run['dropped']:.0f}; {run['invalid']:.0f} invalid, {run['reconnects']:.0f} reconnects"
    )
    late_s, memory_mb = run["capture_to_subscriber_s"], run["memory_mb"]
    heard = f"{run['alerts']} alerts; the delay d = 1 is 1.07 s of it"
    return [
        Row(name=f"{who}: segments dropped", value=run["dropped"], unit="", limit=lost, target=0),
        *(
            Row(name=f"{who}: capture to subscriber, {which}", value=late_s[which], unit="s", limit=heard)
            for which in ("p50", "p95", "p99")
        ),
        Row(
            name=f"{who}: memory, monitor and readers, second half",
            value=memory_mb["second_half"],
            unit="MB",
            peer="first half",
            peer_value=memory_mb["first_half"],
            target=1.02,
        ),
        Row(name=f"{who}: monitor and readers", value=run["cores"], unit="cores"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.paced", description=__doc__)
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=Path(".bench/paced.json"))
    arguments = parser.parse_args()
    on = machine()
    result = paced(arguments.cameras, arguments.minutes)
    write(rows(result), arguments.out, on)
    whole = arguments.out.with_suffix(".samples.json")
    whole.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(kept(arguments.out))


if __name__ == "__main__":
    main()
