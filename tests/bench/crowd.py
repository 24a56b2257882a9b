"""How many cameras a GPU's machine carries, end to end: ``python -m tests.bench.crowd --cameras 100 400``.

Cameras are generated recordings (H.264), read from disk at their own pace by the monitor's reader processes: decoding,
hand-over, backbone, rings, ensemble, alarms and their commits are the real ones, and every camera's raised alarm is
told to a broker where mosquitto is installed; there is no RTSP. ``--nvdec 0.5``: so many of them are decoded by the
GPU. ``--gpus 2``: a monitor for each GPU, each with its part of the cameras. ``--backbone i3d_r50``: random weights and
random detectors (l = 8), for what its numbers cost, not what they say.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from monitor.detectors import artefact
from monitor.detectors.detector import make
from monitor.detectors.ensemble import Ensemble
from monitor.features import backbone, kinetics, weights
from monitor.features.tensors import tensors_sha256
from monitor.stage.layout import SEEDS
from monitor.stage.scenes import Scene, write_clip
from tests.bench.rows import Row, kept, machine, write
from tests.conftest import ROOT
from tests.e2e.running import RunningMonitor, running
from tests.monitor.alerting.servers import mosquitto
from tests.soak.sample import held, series, total

KEPT = ROOT / "tests" / "bench" / "results" / "crowd.json"
FILES, CLIP_S = 4, 6.0
LENGTH = 8
LATE_S = 2.0
"""What p99 may be beyond the stride."""
STRIDE_S = 16 / 15
SIZES = {"320x240@30": (320, 240, 30), "640x360@15": (640, 360, 15), "1920x1080@25": (1920, 1080, 25)}
DEADLINE_S = 0.05
"""The default of scoring.batch_deadline_s."""
ALWAYS = {"raise_at": 0.0, "clear_at": 0.0, "update_every_s": 10.0}
"""Every camera is raised from its first score on, and told of every ten seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What each plant has in common."""

    size: str
    scoring: str
    nvdec: float
    gpus: int
    per_process: int
    deadline_s: float
    warm_s: float
    seconds: float


def recordings(folder: Path, size: str) -> list[Path]:
    """Generated ones, each of another scene, without B-frames as cameras send them, two seconds between key frames."""
    width_px, height_px, fps = SIZES[size]
    files = []
    for number in range(FILES):
        source = folder / f"source-{number}.mp4"
        if not source.exists():
            write_clip(source, Scene(SEEDS["tests"].start + number), CLIP_S, bit_rate_kbit=4000)
        files.append(folder / f"{number}-{size}.mp4")
        with av.open(str(source)) as given, av.open(str(files[-1]), "w") as made:
            stream = made.add_stream("libx264", rate=fps)
            stream.width, stream.height, stream.pix_fmt = width_px, height_px, "yuv420p"
            stream.bit_rate = 1_000_000 if height_px < 720 else 4_000_000
            stream.options = {"preset": "veryfast", "bf": "0", "g": str(2 * fps)}
            frames = list(given.decode(video=0))
            for at in range(int(CLIP_S * fps)):
                frame = frames[min(at * len(frames) // int(CLIP_S * fps), len(frames) - 1)].reformat(
                    width_px, height_px, "yuv420p"
                )
                frame.pts, frame.time_base = at, Fraction(1, fps)
                made.mux(stream.encode(frame))
            made.mux(stream.encode(None))
    return files


def repeated(short: Path, seconds: float) -> Path:
    """A recording for as long, without encoding it anew."""
    long = short.with_stem(f"{short.stem}-repeated")
    with av.open(str(long), "w") as to:
        stream, offset = None, 0
        while stream is None or offset * stream.time_base < seconds:
            with av.open(str(short)) as source:
                video = source.streams.video[0]
                stream = stream or to.add_stream_from_template(video)
                length = 0
                for packet in source.demux(video):
                    if packet.dts is None or packet.pts is None:
                        continue
                    length = max(length, packet.pts + (packet.duration or 0))
                    packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                    packet.stream = stream
                    to.mux(packet)
            offset += length
    return long


def of_backbone(name: str, folder: Path) -> str:
    """The artefact to score with: the shipped one, or random detectors on random weights."""
    card = artefact.read_card("default")
    if name == card.backbone:
        return "default"
    torch.manual_seed(0)
    network = kinetics.architecture(name)
    torch.save({"model_state": network.state_dict()}, folder / "weights.pyth")
    weights.take_in(name, folder / "weights.pyth")
    fingerprint = backbone.recipe(name).fingerprint(tensors_sha256(weights.load(name)))
    dimensions = backbone.recipe(name).dimensions
    said = card.model_dump() | {
        "name": "random", "backbone": name, "backbone_fingerprint": fingerprint, "backbone_dimensions": dimensions,
        "length": LENGTH, "delay": 2, "canary": None,
    }  # fmt: skip
    detectors = {kind: make(kind, {"dimensions": dimensions}).eval() for kind in ("video_classifier", "bilstm_mil")}
    artefact.save(
        folder / "artefact",
        artefact.Card.model_validate(said),
        artefact.Standardisation(mean_D=torch.zeros(dimensions), sd_D=torch.ones(dimensions)),
        Ensemble(detectors, dict.fromkeys(detectors, 1.0)),
    )
    return str(folder / "artefact")


def plant_of(files: Sequence[Path], count: int, gpu: int, broker: int | None, asked: Asked) -> dict[str, Any]:
    """Of one monitor."""
    return {
        "site": f"crowd-{gpu}",
        "mqtt": "off" if broker is None else {"port": broker},
        "console": {"pictures": False},
        "scoring": {
            "artefact": asked.scoring,
            "device": f"cuda:{gpu}" if torch.cuda.is_available() else "cpu",
            "batch_deadline_s": asked.deadline_s,
        },
        "evidence": {"pre_roll_s": 1.0},
        "ingest": {"cameras_per_process": asked.per_process},
        "alerts": {"storm": "off", "most_per_hour": "off", "updates_per_s": 1000.0},
        "defaults": {"thresholds": ALWAYS},
        "cameras": [
            {
                "name": f"camera-{n}",
                "url": files[n % len(files)].as_uri(),
                "decode": {"by": "nvdec" if n < asked.nvdec * count else "cpu"},
            }
            for n in range(count)
        ],
    }


def quantile(scrape: Mapping[str, float], before: Mapping[str, float], name: str, share: float) -> float:
    """Of a histogram between two scrapes, the upper edge of the bucket in which it lies; NaN where nothing came."""
    edges = sorted(
        (float(key.partition('le="')[2].partition('"')[0]), count - before.get(key, 0.0))
        for key, count in scrape.items()
        if key.startswith(f"{name}_bucket")
    )
    if not edges or not edges[-1][1]:
        return float("nan")
    return next(edge for edge, count in edges if count >= share * edges[-1][1])


@contextlib.contextmanager
def card_watched(folder: Path) -> Iterator[list[str]]:
    """What nvidia-smi says once a second meanwhile; a sentence for each GPU afterwards."""
    said: list[str] = []
    program = shutil.which("nvidia-smi")
    if program is None:
        yield said
        return
    file = folder / "card.csv"
    query = "--query-gpu=index,utilization.gpu,utilization.decoder,memory.used"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    which = ["-i", visible] if visible else []
    with file.open("w") as out:
        watching = subprocess.Popen([program, query, "--format=csv,noheader,nounits", "-l", "1", *which], stdout=out)
        try:
            yield said
        finally:
            watching.terminate()
            watching.wait(10)
    rows = [[float(cell) for cell in line.split(",")] for line in file.read_text().splitlines() if line.count(",") == 3]
    for gpu in sorted({row[0] for row in rows}):
        busy, decoder, memory_mb = np.mean([row[1:] for row in rows if row[0] == gpu], axis=0)
        said.append(f"card {gpu:.0f} busy {busy:.0f} %, its decoder {decoder:.0f} %, {memory_mb:,.0f} MiB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Of all monitors together over some seconds; the worst p99 of them."""

    due: float
    scored: float
    dropped: float
    score_p99_s: float
    told_p99_s: float
    reading: float
    rest: float
    memory_mb: float
    backbone: float
    batch: float
    on_gpu: float
    scrape_s: float
    card: tuple[str, ...]


def measure(folder: Path, monitors: Sequence[RunningMonitor], seconds: float, *, scraping: bool) -> Measured:
    before = [series(monitor.get("/metrics")[1]) for monitor in monitors]
    then = [held(monitor.process.pid) for monitor in monitors]
    began_s, scrapes = time.monotonic(), []
    with card_watched(folder) as card:
        while (left_s := began_s + seconds - time.monotonic()) > 0:
            time.sleep(min(1.0, left_s))
            for monitor in monitors if scraping else ():
                asked_s = time.monotonic()
                monitor.get("/metrics")
                scrapes.append(time.monotonic() - asked_s)
    took_s = time.monotonic() - began_s
    now = [held(monitor.process.pid) for monitor in monitors]
    after = []
    for monitor in monitors:
        asked_s = time.monotonic()
        after.append(series(monitor.get("/metrics")[1]))
        scrapes.append(time.monotonic() - asked_s)

    def grown(name: str) -> float:
        return sum(total(new, name) - total(old, name) for new, old in zip(after, before, strict=True))

    def spent(name: str) -> float:
        return sum(new[name] - old[name] for new, old in zip(now, then, strict=True)) / took_s

    def worst(name: str) -> float:
        return max(quantile(new, old, name, 0.99) for new, old in zip(after, before, strict=True))

    return Measured(
        due=took_s / STRIDE_S,
        scored=grown("vad_camera_segments_scored_total"),
        dropped=grown("vad_camera_segments_dropped_total"),
        score_p99_s=worst("vad_capture_to_score_seconds"),
        told_p99_s=worst("vad_capture_to_acknowledged_seconds"),
        reading=spent("readers_cpu_s"),
        rest=spent("monitor_cpu_s"),
        memory_mb=sum(of["monitor_pss_mb"] + of["readers_pss_mb"] for of in now),
        backbone=grown("vad_backbone_seconds_sum") / took_s / len(monitors),
        batch=grown("vad_batch_segments_sum") / max(grown("vad_batch_segments_count"), 1.0),
        on_gpu=sum(total(new, "vad_nvdec_cameras") for new in after),
        scrape_s=max(scrapes),
        card=tuple(card),
    )


def crowd(folder: Path, files: Sequence[Path], count: int, asked: Asked, *, scraping: bool) -> list[Row]:
    """``scraping``: measured a second time while everybody is asked for metrics every second."""
    shares = [count // asked.gpus + (gpu < count % asked.gpus) for gpu in range(asked.gpus)]
    with contextlib.ExitStack() as stack:
        broker = None
        if shutil.which("mosquitto"):
            broker = stack.enter_context(mosquitto(folder / f"broker-{count}")).port
        monitors = [
            stack.enter_context(running(folder / f"monitor-{count}-{gpu}", plant_of(files, share, gpu, broker, asked)))
            for gpu, share in enumerate(shares)
        ]
        for monitor in monitors:
            monitor.said("watching", 120)
        time.sleep(asked.warm_s)
        calm = measure(folder, monitors, asked.seconds, scraping=False)
        asked_for = measure(folder, monitors, asked.seconds, scraping=True) if scraping else None
        for monitor in monitors:
            monitor.process.kill()  # a thousand ends to tell are not what is measured
            monitor.process.wait(30)
    by = {0.0: "decoded by the CPU", 1.0: "decoded by NVDEC"}.get(asked.nvdec, f"{asked.nvdec:.0%} decoded by NVDEC")
    name = f"{count} cameras {asked.size}, {by}" + (f", {asked.gpus} GPUs" if asked.gpus > 1 else "")
    if asked.deadline_s != DEADLINE_S:
        name += f", a batch waits {1000 * asked.deadline_s:.0f} ms"
    cores = len(os.sched_getaffinity(0))
    where = (
        f"{calm.dropped:.0f} of {calm.due * count:.0f} dropped",
        f"of {cores} cores {calm.reading:.1f} read, {calm.rest:.1f} do the rest",
        f"{calm.memory_mb:,.0f} MB",
        f"backbone {calm.backbone:.0%} of the time, {calm.batch:.1f} segments a batch",
        f"{calm.on_gpu:.0f} on NVDEC",
        *calm.card,
        f"scrape {calm.scrape_s:.2f} s",
    )
    rows = [
        Row(
            name=f"{name}: due segments that were scored",
            value=calm.scored / calm.due / count,
            unit="of 1",
            limit="; ".join(where),
            target=0.99,
            better="higher",
        ),
        Row(name=f"{name}: capture to score, p99 at most", value=calm.score_p99_s, unit="s", target=STRIDE_S + LATE_S),
    ]
    if broker is not None:
        target = STRIDE_S + LATE_S
        rows.append(
            Row(
                name=f"{name}: capture to acknowledged alert, p99 at most",
                value=calm.told_p99_s,
                unit="s",
                target=target,
            )
        )
    if asked_for is not None:
        rows.append(
            Row(
                name=f"{name}: capture to score, p99 at most, scraped every second",
                value=asked_for.score_p99_s,
                unit="s",
                limit=f"longest scrape {asked_for.scrape_s:.2f} s; {asked_for.dropped:.0f} dropped",
                target=STRIDE_S + LATE_S,
            )
        )
    return rows


def main() -> None:
    ask = argparse.ArgumentParser(prog="python -m tests.bench.crowd", description=__doc__)
    ask.add_argument("--cameras", type=int, nargs="+", default=[4, 8])
    ask.add_argument("--size", choices=SIZES, default="640x360@15")
    ask.add_argument("--backbone", choices=("effnet_lite0", "i3d_r50"), default="effnet_lite0")
    ask.add_argument("--nvdec", type=float, default=0.0, help="the share of the cameras that NVDEC decodes, 0 to 1")
    ask.add_argument("--gpus", type=int, default=1, help="a monitor each")
    ask.add_argument("--cores", type=int, help="so many of the machine's cores alone")
    ask.add_argument("--per-process", type=int, help="cameras a reader process; 8, with NVDEC 32")
    ask.add_argument("--deadlines", type=float, nargs="+", default=[DEADLINE_S], help="seconds a batch waits")
    ask.add_argument("--scrape", action="store_true", help="measured again while /metrics is asked every second")
    ask.add_argument("--warm-s", type=float, default=45.0, help="before measuring: opening, and l segments")
    ask.add_argument("--seconds", type=float, default=30.0)
    ask.add_argument("--out", type=Path, default=ROOT / ".bench" / "crowd.json")
    ask.add_argument("--commit", help="where git is not at hand")
    given = ask.parse_args()
    if given.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
    on = machine() + (f", {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else "")
    with tempfile.TemporaryDirectory(prefix="vad-crowd-") as name:
        folder = Path(name)
        os.environ["VAD_MONITOR_CACHE"] = str(folder / "cache")
        long_s = given.warm_s + 2 * given.seconds + 120.0
        files = [repeated(short, long_s) for short in recordings(folder, given.size)]
        scoring = of_backbone(given.backbone, folder)
        rows: list[Row] = []
        for count in given.cameras:
            for deadline_s in given.deadlines:
                asked = Asked(
                    size=given.size,
                    scoring=scoring,
                    nvdec=given.nvdec,
                    gpus=given.gpus,
                    per_process=given.per_process or (32 if given.nvdec else 8),
                    deadline_s=deadline_s,
                    warm_s=given.warm_s,
                    seconds=given.seconds,
                )
                found = crowd(folder, files, count, asked, scraping=given.scrape)
                rows += found
                write(rows, given.out, f"{on}; {given.backbone}", given.commit)
                print(*(f"{row.name}: {row.value:.3f} {row.limit or ''}" for row in found), sep="\n", flush=True)
    print(kept(given.out))


if __name__ == "__main__":
    main()
