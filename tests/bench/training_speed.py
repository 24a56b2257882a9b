"""How fast the paper is trained: ``python -m tests.bench.training_speed --out .bench/training.json``, on a CUDA device.

Generated features of UCF-Crime's size: 1,610 training videos of ten crops (16,100 crop-videos), D = 2048, 290 test
videos of 69,355 segments in all. Ours (features resident, a step recorded as a CUDA graph, all bags of the test set
batched by length) beside a plain loop in the same run: a DataLoader that hands out float32 crop-videos from memory,
already resampled, eager steps, and the test videos scored one by one. ``--small`` is for machines without one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from monitor.detectors.detector import Detector, make
from training import bags, fit, measure
from training.fit import Schedule
from training.objectives import OBJECTIVES
from training.reading import Reading
from training.resident import Resident

L = 32


class CropVideos(Dataset[Tensor]):
    def __init__(self, videos_VCTD: Tensor) -> None:
        self._samples = videos_VCTD.flatten(0, 1)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Tensor:
        return self._samples[index].clone()


def resident(segments: int, dimensions: int, abnormal: int, normal: int, crops: int, device: str) -> Resident:
    generator = torch.Generator(device).manual_seed(0)
    halves = [
        torch.randn(count, crops, segments, dimensions, device=device, generator=generator)
        for count in (abnormal, normal)
    ]
    halves[0][:, :, segments // 2, : dimensions // 8] += 0.5
    chances = (np.full(abnormal, 1 / abnormal), np.full(normal, 1 / normal))
    return Resident(abnormal_VCTP=halves[0], normal_VCTP=halves[1], chances=chances)


def plain_loop(kind: str, placed: Resident, schedule: Schedule, steps: int, device: str) -> float:
    """Seconds of so many steps as most published code has them."""
    torch.manual_seed(0)
    network = make(kind, {"dimensions": placed.dimensions}).to(device).train()
    objective = OBJECTIVES[kind]
    optimiser = objective.optimiser(
        network, learning_rate=schedule.learning_rate, weight_decay=schedule.weight_decay, capturable=False
    )
    loaders = [
        DataLoader(
            CropVideos(half.cpu()),
            batch_size=schedule.half_batch,
            shuffle=True,
            drop_last=True,
            num_workers=4,
            pin_memory=device.startswith("cuda"),
            persistent_workers=True,
        )
        for half in (placed.abnormal_VCTP, placed.normal_VCTP)
    ]
    iterators = [iter(loader) for loader in loaders]
    began = 0.0
    for step in range(steps + 5):
        if step == 5:  # workers have started, kernels are chosen
            _wait(device)
            began = time.perf_counter()
        batches = []
        for place, loader in enumerate(loaders):
            batch = next(iterators[place], None)
            if batch is None:
                iterators[place] = iter(loader)
                batch = next(iterators[place])
            batches.append(batch.to(device, non_blocking=True))
        loss = objective.loss(network, batches[0], batches[1], 1)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        loss.item()  # printed, as everybody does
    _wait(device)
    return time.perf_counter() - began


def plain_evaluation(network: Detector, videos: list[Tensor]) -> Tensor:
    """Video by video, bag by bag (eq. 1)."""
    scores = []
    with torch.inference_mode():
        for features_NCD in videos:
            scores += [
                network(features_NCD[bag].float().transpose(0, 1)).scores_BT.mean(0)
                for bag in bags.cut(len(features_NCD), L)
            ]
    return torch.cat(scores)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def timed(work: Callable[[], Any], device: str, repeats: int = 3) -> float:
    """Seconds, the fastest of some."""
    work()
    taken = []
    for _ in range(repeats):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        taken.append(time.perf_counter() - began)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.training_speed", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".bench/training.json"))
    parser.add_argument("--small", action="store_true", help="a hundredth of the size, on the CPU if need be")
    asked = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    small = asked.small
    dimensions, crops = (64, 2) if small else (2048, 10)
    abnormal, normal = (20, 20) if small else (810, 800)
    steps = 20 if small else 1000
    random = np.random.default_rng(0)
    lengths = random.lognormal(4.6, 1.2, 10 if small else 290)
    lengths = np.maximum(2, (lengths / lengths.sum() * (500 if small else 69_355)).astype(int))
    videos = [torch.randn(int(n), crops, dimensions, device=device, dtype=torch.float16) for n in lengths]
    truth = [random.integers(0, 2, 16 * int(n)).astype(np.int64) for n in lengths]
    abnormal_S = np.concatenate([marks.reshape(-1, 16).sum(1) for marks in truth])
    rows: list[dict[str, Any]] = []

    def row(name: str, value: float, unit: str, peer: str = "", peer_value: float | None = None) -> None:
        ratio = None if peer_value is None else peer_value / value
        rows.append(
            {"name": name, "value": value, "unit": unit, "peer": peer, "peer_value": peer_value, "ratio": ratio}
        )
        print(
            f"{name}: {value:.3f} {unit}" + ("" if ratio is None else f", {ratio:.1f} × {peer} ({peer_value:.3f})"),
            flush=True,
        )

    reading = Reading(videos, length=L, device=device, dtype=torch.float16)
    for kind, segments in (("video_classifier", 32), ("video_classifier", 64), ("bilstm_mil", 32), ("bilstm_mil", 64)):
        placed = resident(segments, dimensions, abnormal, normal, crops, device)
        objective = OBJECTIVES[kind]
        schedule = Schedule.of(objective, segments=segments, steps=steps, evaluate_every=steps)
        loop_s = plain_loop(kind, placed, schedule, min(steps, 200), device) * steps / min(steps, 200)
        precisions: tuple[fit.Precision, ...] = ("float32", "bfloat16") if device == "cuda" else ("float32",)
        for precision in precisions:
            torch.manual_seed(0)
            network = make(kind, {"dimensions": dimensions}).to(device)
            fit.fit(network, placed, objective, replace(schedule, steps=10, evaluate_every=10), 0, precision=precision)
            _wait(device)
            began = time.perf_counter()
            fit.fit(network, placed, objective, schedule, 0, precision=precision)
            _wait(device)
            spent_s = time.perf_counter() - began
            row(f"{kind}, T = {segments}, {precision}: {steps} steps", spent_s, "s", "DataLoader loop", loop_s)
        network.eval()
        if (kind, segments) in (("video_classifier", 32), ("bilstm_mil", 64)):
            ours_s = timed(partial(reading.scores, network), device)
            plain_s = timed(partial(plain_evaluation, network, videos), device, repeats=1)
            # Other shapes, other kernels (TF32): a score may move in its third place.
            torch.testing.assert_close(reading.scores(network), plain_evaluation(network, videos), rtol=0, atol=1e-2)
            row(f"{kind}: {int(lengths.sum())} segments × {crops} crops scored", ours_s, "s", "video by video", plain_s)
            full = Schedule.of(objective, segments=segments)
            if small:
                full = replace(full, steps=20, evaluate_every=10)

            def frame_auc(network: Detector) -> dict[str, float]:
                scores_S = reading.scores(network).cpu().numpy()
                return {"test": measure.counted_auc(scores_S, abnormal_S, 16 - abnormal_S)}

            torch.manual_seed(0)
            network = make(kind, {"dimensions": dimensions}).to(device)
            _wait(device)
            began = time.perf_counter()
            fit.fit(network, placed, objective, full, 0, evaluate=frame_auc)
            _wait(device)
            looks = -(-full.steps // full.evaluate_every)
            peer_s = loop_s / steps * full.steps + plain_s * looks
            row(
                f"{kind}: the paper's schedule, {full.steps} steps, {looks} evaluations",
                time.perf_counter() - began,
                "s",
                "loop and video by video (from their parts)",
                peer_s,
            )
        del placed
        if device == "cuda":
            torch.cuda.empty_cache()
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps({"device": name, "torch": torch.__version__, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
