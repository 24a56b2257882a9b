"""Backbones on one GPU, beside eager torch in the same run: ``python -m tests.bench.gpu`` (make bench-gpu).

Networks of pytorchvideo with random weights, their batch norms calibrated on the pictures below, so that activations
have the size that training gives them. Times are medians by CUDA events, pictures on the GPU unless a row says
otherwise. Errors are ‖feature − reference‖ / ‖reference‖ against the network's own forward in float64.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from monitor.features import backbone, kinetics
from monitor.features.engine import start
from monitor.features.kinetics import MEAN, SD, SegmentNet
from tests.bench.rows import Row, kept, write
from tests.conftest import ROOT

KEPT = ROOT / "tests" / "bench" / "results" / "gpu.json"
BATCH = 32


def segments(count: int, name: str, device: torch.device, seed: int) -> Tensor:
    """(count, K, H, W, 3) uint8: coarse shapes that change from frame to frame, under noise."""
    frames, height, width, colours = backbone.recipe(name).preprocessing.shape
    random = torch.Generator(device=device).manual_seed(seed)
    coarse = torch.rand(count * frames, colours, 14, 14, device=device, generator=random)
    shapes = functional.interpolate(coarse, (height, width), mode="bilinear").permute(0, 2, 3, 1)
    noise = torch.rand(shapes.shape, device=device, generator=random)
    return ((0.8 * shapes + 0.2 * noise) * 255).to(torch.uint8).unflatten(0, (count, frames)).contiguous()


def calibrated(name: str, device: torch.device, batches: int = 3, batch: int = 4) -> SegmentNet:
    """Random weights, batch norms with the statistics of so many pictures."""
    torch.manual_seed(0)
    network = SegmentNet(kinetics.architecture(name)).to(device)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches
    with torch.no_grad():
        for seed in range(100, 100 + batches):
            network.train()(segments(batch, name, device, seed))
    return network.eval()


def reference(network: SegmentNet, pictures_BTHWC: Tensor) -> Tensor:
    """(B, D) float64, by pytorchvideo's modules themselves."""
    double = copy.deepcopy(network).double()
    features = []
    with torch.inference_mode():
        for picture in pictures_BTHWC:
            x_BCTHW = (picture[None].permute(0, 4, 1, 2, 3).double() / 255 - MEAN) / SD
            x_BCTHW = double.stages(x_BCTHW)
            if double.expand is not None:
                x_BCTHW = double.expand(x_BCTHW)
            pooled = x_BCTHW.mean((2, 3, 4), keepdim=True)
            if double.project is not None:
                pooled = double.project(pooled)
            features.append(torch.flatten(pooled, 1))
    return torch.cat(features)


def error(features_BD: Tensor, reference_BD: Tensor) -> float:
    return float((features_BD.double() - reference_BD).norm() / reference_BD.norm())


def median_ms(function: Callable[[], object], times: int = 30) -> float:
    for _ in range(5):
        function()
    torch.cuda.synchronize()
    took = []
    for _ in range(times):
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        began.record()
        function()
        ended.record()
        torch.cuda.synchronize()
        took.append(began.elapsed_time(ended))
    return float(np.median(took))


def rates(device: torch.device) -> list[Row]:
    """What the card itself does, by torch."""
    a = torch.randn(8192, 8192, device=device, dtype=torch.float16)
    there = torch.empty(2**30, device=device, dtype=torch.uint8)
    here = torch.randint(0, 255, (2**30,), device=device, dtype=torch.uint8)
    tera = 2 * 8192**3 / median_ms(lambda: a @ a) / 1e9
    copied = 2 * 2**30 / median_ms(lambda: there.copy_(here)) / 1e6
    return [
        Row(name="matrix product of 8192 x 8192 in float16", value=tera, unit="TFLOP/s"),
        Row(name="copy on the card, read and written", value=copied, unit="GB/s"),
    ]


Encode = Callable[[Tensor | npt.NDArray[np.uint8]], Tensor]


def eager(network: SegmentNet, device: torch.device, *, half: bool) -> Encode:
    """pytorchvideo's modules as they are."""

    def encode(pictures_BTHWC: Tensor | npt.NDArray[np.uint8]) -> Tensor:
        with torch.inference_mode(), torch.autocast("cuda", torch.float16, enabled=half):
            features_BD: Tensor = network(torch.as_tensor(pictures_BTHWC).to(device))
            return features_BD

    return encode


def rows_of(name: str, device: torch.device, *, half: bool, product_tera: float) -> list[Row]:
    """A backbone as it is chosen, beside eager torch in float16 (``half``) or float32."""
    network = calibrated(name, device)
    few, many = segments(4, name, device, 7), segments(2 * BATCH, name, device, 3)
    truth_BD = reference(network, few)
    with FlopCounterMode(display=False) as counted, torch.inference_mode():
        network(many[:1])
    flop = counted.get_total_flops()
    beside = eager(network, device, half=half)
    chosen = start(kinetics.recipe(name), "random weights", copy.deepcopy(network), device=str(device))
    ours = chosen.encode

    def rate(one: Encode, batch: int) -> float:
        return 1000 * batch / median_ms(lambda: one(many[:batch]))

    def rate_from_host(one: Encode, batch: int) -> float:
        held = many[:batch].cpu().numpy()
        one(held)
        torch.cuda.synchronize()
        began_s = time.perf_counter()
        for _ in range(20):
            one(held)
        torch.cuda.synchronize()
        return 20 * batch / (time.perf_counter() - began_s)

    label = f"{name} ({chosen.engine})"
    peer = f"pytorchvideo, eager, {'float16' if half else 'float32'}"
    limit = f"{product_tera * 1e12 / flop:,.0f} by the card's matrix product ({flop / 1e9:.0f} GFLOP a segment)"
    aim = {"i3d_r50": 2500.0}.get(name)
    best = rate(ours, BATCH)
    found = [
        Row(name=f"{label}: segments, batch {BATCH}", value=best, unit="/s", limit=limit, target=aim, better="higher"),
        Row(
            name=f"{label}: the same",
            value=best,
            unit="/s",
            peer=peer,
            peer_value=rate(beside, BATCH),
            target=None if aim is None else 2.0,
            better="higher",
        ),
        Row(
            name=f"{label}: one segment",
            value=1000 / rate(ours, 1),
            unit="ms",
            peer=peer,
            peer_value=1000 / rate(beside, 1),
        ),
        Row(
            name=f"{label}: error against float64",
            value=error(ours(few), truth_BD),
            unit="",
            peer=peer,
            peer_value=error(beside(few), truth_BD),
            target=1.0 if half else None,
        ),
        Row(
            name=f"{label}: segments from the host's memory, batch {2 * BATCH}",
            value=rate_from_host(ours, 2 * BATCH),
            unit="/s",
            peer=peer,
            peer_value=rate_from_host(beside, 2 * BATCH),
            better="higher",
        ),
    ]
    if name == "i3d_r50":
        found += [
            Row(name=f"{label}: batch of {batch}", value=1000 * batch / rate(ours, batch), unit="ms")
            for batch in (1, 2, 4, 8, 16, 32, 64)
        ]
    return found


def run(done: Callable[[list[Row]], None]) -> None:
    """``done`` is told all rows so far after each network."""
    device = torch.device("cuda", 0)
    found = rates(device)
    # Generous to the peer, which takes no better kernels by itself.
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    for name, half in (("i3d_r50", True), ("slow_r50", True), ("x3d_s", False), ("x3d_m", False)):
        found += rows_of(name, device, half=half, product_tera=found[0].value)
        done(found)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--out", type=Path, default=ROOT / ".bench" / "gpu.json")
    ask.add_argument("--commit", help="where git is not at hand")
    asked = ask.parse_args()
    if not torch.cuda.is_available():
        ask.error("torch finds no CUDA device here")
    on = f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}"
    run(lambda found: write(found, asked.out, on, asked.commit))
    print(kept(asked.out))


if __name__ == "__main__":
    main()
