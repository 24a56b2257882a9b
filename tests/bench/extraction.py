"""Hours of video an hour, by ``vad-train extract``'s own function: ``python -m tests.bench.extraction``.

Generated videos of UCF-Crime's kind (320x240, 30 frames a second), ten crops of every segment, workers that each decode
a whole video once for all crops and encode it; while one encodes, others decode. Two runs, one with more videos: the
slope between them is what an hour of video costs, the start of the workers left out. Random weights: the time does not
depend on them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

import torch

from monitor.features import kinetics
from tests.bench.cpu import read
from tests.bench.crowd import recordings, repeated
from tests.bench.rows import Row, kept, machine, write
from tests.conftest import ROOT
from training.catalogue import Video
from training.extract import run

KEPT = ROOT / "tests" / "bench" / "results" / "extraction.json"
FPS, CROPS = 30.0, 10
UCF_CRIME_HOURS = 128.0


def videos(folder: Path, count: int, seconds: float) -> list[Video]:
    """The same one under other names: what is in it costs the same."""
    whole = folder / "whole.mp4"
    if not whole.exists():
        repeated(recordings(folder, "320x240@30")[0], seconds).rename(whole)
    for number in range(count):
        if not (folder / f"{number}.mp4").exists():
            os.link(whole, folder / f"{number}.mp4")
    return [Video(id=f"{number}", path=f"{number}.mp4", label=0, scene="generated") for number in range(count)]


def took_s(
    folder: Path, count: int, seconds: float, backbone: str, weights: Path | None, device: str, workers: int
) -> float:
    root = folder / "features"
    shutil.rmtree(root, ignore_errors=True)
    began_s = time.perf_counter()
    run(
        videos(folder, count, seconds), folder, root,
        backbone=backbone, device=device, weights=weights, fps=FPS, crops=CROPS, as_float16=True, workers=workers,
    )  # fmt: skip
    return time.perf_counter() - began_s


def main() -> None:
    cuda = torch.cuda.is_available()
    ask = argparse.ArgumentParser(prog="python -m tests.bench.extraction", description=__doc__)
    ask.add_argument("--backbone", choices=("i3d_r50", "x3d_s", "slow_r50"), default="i3d_r50")
    ask.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1) if cuda else 1)
    ask.add_argument("--videos", type=int, nargs=2, default=(8, 32) if cuda else (1, 2), help="in each run")
    ask.add_argument("--video-s", type=float, default=60.0 if cuda else 6.0, help="how long each is")
    ask.add_argument("--out", type=Path, default=ROOT / ".bench" / "extraction.json")
    ask.add_argument("--commit", help="where git is not at hand")
    asked = ask.parse_args()
    device = "cuda" if cuda else "cpu"
    on = machine() + (f", {torch.cuda.get_device_name(0)}" if cuda else "")
    with tempfile.TemporaryDirectory(prefix="vad-extraction-") as name:
        folder = Path(name)
        torch.manual_seed(0)
        weights = folder / "weights.pyth"
        torch.save({"model_state": kinetics.architecture(asked.backbone).state_dict()}, weights)
        few, many = asked.videos
        short_s, long_s = (
            took_s(folder, count, asked.video_s, asked.backbone, weights, device, asked.workers)
            for count in (few, many)
        )
        began_s = time.perf_counter()
        read(folder / "0.mp4", FPS)
        decode_s = time.perf_counter() - began_s
    rate = asked.video_s * (many - few) / (long_s - short_s)
    cores = len(os.sched_getaffinity(0))
    label = f"{asked.backbone}, {CROPS} crops, {asked.workers} workers"
    rows = [
        Row(
            name=f"{label}: hours of video an hour",
            value=rate,
            unit="",
            limit=f"decoding alone: {min(cores, asked.workers) * asked.video_s / decode_s:.0f} with so many workers; "
            f"{rate * FPS / 16 * CROPS:,.0f} crops of segments a second",
            better="higher",
        ),
        Row(
            name=f"{label}: UCF-Crime's {UCF_CRIME_HOURS:.0f} hours would take", value=UCF_CRIME_HOURS / rate, unit="h"
        ),
        Row(name=f"{label}: start of the workers", value=max(0.0, short_s - asked.video_s * few / rate), unit="s"),
    ]
    write(rows, asked.out, on, asked.commit)
    print(kept(asked.out))


if __name__ == "__main__":
    main()
