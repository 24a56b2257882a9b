"""How many cameras one accelerator's machine carries, end to end: ``python -m tests.bench.crowd --cameras 100 400``.

Cameras are generated recordings (640x360, 15 fps, H.264), read from disk at their own pace by the monitor's reader
processes: decoding, hand-over, backbone, rings, ensemble and alarms are the real ones; there is no RTSP and no broker.
``--backbone i3d_r50``: random weights and random detectors (l = 32), for what its numbers cost, not what they say.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import torch

from monitor.detectors import artefact
from monitor.detectors.detector import make
from monitor.detectors.ensemble import Ensemble
from monitor.features import backbone, kinetics, weights
from monitor.features.tensors import tensors_sha256
from tests.bench.paced import FILES, recordings
from tests.bench.rows import Row, kept, machine, write
from tests.conftest import ROOT
from tests.e2e.running import running
from tests.soak.sample import held, series, total

KEPT = ROOT / "tests" / "bench" / "results" / "crowd.json"
CLIP_S = 10.0
LATE_S = 2.0
"""What p99 may be beyond the stride."""
STRIDE_S = 16 / 15


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
        "length": 32, "delay": 8, "canary": None,
    }  # fmt: skip
    detectors = {kind: make(kind, {"dimensions": dimensions}).eval() for kind in ("video_classifier", "bilstm_mil")}
    artefact.save(
        folder / "artefact",
        artefact.Card.model_validate(said),
        artefact.Standardisation(mean_D=torch.zeros(dimensions), sd_D=torch.ones(dimensions)),
        Ensemble(detectors, dict.fromkeys(detectors, 1.0)),
    )
    return str(folder / "artefact")


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


def crowd(folder: Path, files: list[Path], count: int, scoring: str, warm_s: float, seconds: float) -> list[Row]:
    plant: dict[str, Any] = {
        "site": "crowd",
        "mqtt": "off",
        "scoring": {"artefact": scoring},
        "evidence": {"pre_roll_s": 1.0},
        "cameras": [{"name": f"camera-{n}", "url": files[n % len(files)].as_uri()} for n in range(1, count + 1)],
    }
    with running(folder / f"monitor-{count}", plant) as monitor:
        monitor.said("watching", 120)
        time.sleep(warm_s)
        before, then, began_s = series(monitor.get("/metrics")[1]), held(monitor.process.pid), time.monotonic()
        time.sleep(seconds)
        asked_s = time.monotonic()
        text = monitor.get("/metrics")[1]
        scrape_s = time.monotonic() - asked_s
        after, took_s, now = series(text), asked_s - began_s, held(monitor.process.pid)
        card_busy = _gpu_busy()
        monitor.end(seconds=60)

    def grown(name: str) -> float:
        return total(after, name) - total(before, name)

    segments, dropped = grown("vad_camera_segments_total"), grown("vad_camera_segments_dropped_total")
    p99 = quantile(after, before, "vad_capture_to_score_seconds", 0.99)
    batches = max(grown("vad_backbone_seconds_count"), 1.0)
    name = f"{count} cameras 640x360 at 15 fps"
    reading, rest = ((now[of] - then[of]) / took_s for of in ("readers_cpu_s", "monitor_cpu_s"))
    where = (
        f"{dropped:.0f} of {segments:.0f} dropped",
        f"of {os.cpu_count()} cores {reading:.1f} read, {rest:.1f} do the rest",
        f"{now['monitor_pss_mb'] + now['readers_pss_mb']:,.0f} MB",
        f"backbone {grown('vad_backbone_seconds_sum') / took_s:.0%} of the time, "
        f"{(segments - dropped) / batches:.1f} segments a batch",
        f"card {card_busy}",
        f"scrape {scrape_s:.2f} s",
    )
    return [
        Row(
            name=f"{name}: due segments that were scored",
            value=grown("vad_camera_segments_scored_total") / took_s * STRIDE_S / count,
            unit="of 1",
            limit="; ".join(where),
            target=0.99,
            better="higher",
        ),
        Row(name=f"{name}: capture to score, p99 at most", value=p99, unit="s", target=STRIDE_S + LATE_S),
    ]


def _gpu_busy() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "none"
    asked = [program, "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip().replace("\n", "; ")


def main() -> None:
    ask = argparse.ArgumentParser(prog="python -m tests.bench.crowd", description=__doc__)
    ask.add_argument("--cameras", type=int, nargs="+", default=[4, 8])
    ask.add_argument("--backbone", choices=("effnet_lite0", "i3d_r50"), default="effnet_lite0")
    ask.add_argument("--warm-s", type=float, default=45.0, help="before measuring: opening, and l segments")
    ask.add_argument("--seconds", type=float, default=30.0)
    ask.add_argument("--out", type=Path, default=ROOT / ".bench" / "crowd.json")
    ask.add_argument("--commit", help="where git is not at hand")
    asked = ask.parse_args()
    on = machine() + (f", {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else "")
    with tempfile.TemporaryDirectory(prefix="vad-crowd-") as name:
        folder = Path(name)
        os.environ["VAD_MONITOR_CACHE"] = str(folder / "cache")
        long_s = asked.warm_s + asked.seconds + 120.0
        files = [repeated(short, long_s) for short in recordings(folder, FILES, CLIP_S)]
        scoring = of_backbone(asked.backbone, folder)
        rows = []
        for count in asked.cameras:
            rows += crowd(folder, files, count, scoring, asked.warm_s, asked.seconds)
            write(rows, asked.out, f"{on}; {asked.backbone}", asked.commit)
            print(*(f"{row.name}: {row.value:.3f} {row.limit or ''}" for row in rows[-2:]), sep="\n", flush=True)
    print(kept(asked.out))


if __name__ == "__main__":
    main()
