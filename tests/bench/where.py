"""Where a network's time goes, in plain torch and in the engine that is chosen: ``python -m tests.bench.where``.

On CUDA ``i3d_r50`` (random weights; 32 segments, eager float16 beside the convolutions of planes), kernel by kernel, by
torch's profiler; on a CPU ``effnet_lite0`` (4 segments, eager float32 beside OpenVINO), operation by operation, by the
profilers of both. Times are sums over kernels, so they are of the work, not of the gaps between; the gaps have a row of
their own. ``--draw`` makes the picture of what was written before.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from monitor.features import backbone, kinetics
from monitor.features.engine import Eager, cpu_threads, start
from monitor.features.openvino_engine import _convert, import_silently
from tests.bench.gpu import calibrated, eager, segments
from tests.bench.rows import machine
from tests.conftest import ROOT

TIMES = 10
KINDS = (
    ("first convolution's input", ("_unfold",)),
    ("copies", ("transpose", "aten::copy", "aten::fill", "memcpy", "reorder")),
    ("batch norm", ("batch_norm", "bn_fw", "batchnorm")),
    ("pooling", ("pool", "reduce", "mean")),
    ("convolution", ("conv", "xmma", "cutlass", "implicit", "gemm", "cudnn", "cask", "nvjet")),
    ("copies", ("copy", "nchw", "nhwc", "cat", "pad")),
    (
        "element by element",
        ("elementwise", "relu", "clamp", "hardtanh", "add", "mul", "sub", "div", "power", "abs", "swish"),
    ),
)
"""What a kernel or an operation is: the first kind with a part of its name."""
ORDER = ("convolution", "first convolution's input", "batch norm", "pooling", "element by element", "copies", "other")


def kind_of(name: str) -> str:
    return next((kind for kind, parts in KINDS if any(part in name.lower() for part in parts)), "other")


def by_name(function: Callable[[], object], device: torch.device) -> Counter[str]:
    """Milliseconds of one call by kernel (CUDA) or operation (CPU), the mean of TIMES; torch's profiler."""
    cuda = device.type == "cuda"
    for _ in range(3):
        function()
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as seen:
        for _ in range(TIMES):
            function()
        if cuda:
            torch.cuda.synchronize()
    found: Counter[str] = Counter()
    for event in seen.key_averages():
        spent_us = event.self_device_time_total if cuda else event.self_cpu_time_total
        if spent_us:
            found[event.key] += spent_us / 1000 / TIMES
    return found


def wall_ms(function: Callable[[], object], device: torch.device) -> float:
    """Of one call, the median of TIMES."""
    took = []
    for _ in range(3 + TIMES):
        began_s = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        took.append(1000 * (time.perf_counter() - began_s))
    return float(np.median(took[3:]))


def in_openvino(compiled: Any, pictures: np.ndarray[Any, Any]) -> Counter[str]:
    """Milliseconds of one call by kind of operation, the mean of TIMES; OpenVINO's profiler."""
    request, found = compiled.create_infer_request(), Counter[str]()
    for turn in range(3 + TIMES):
        request.infer([pictures])
        if turn >= 3:
            for node in request.get_profiling_info():
                found[f"{node.node_type} {node.exec_type}"] += node.real_time.total_seconds() * 1000 / TIMES
    return Counter({name: spent for name, spent in found.items() if spent})


def told(label: str, batch: int, spent: Counter[str], whole_ms: float) -> dict[str, Any]:
    kinds: Counter[str] = Counter()
    for name, spent_ms in spent.items():
        kinds[kind_of(name)] += spent_ms
    return {
        "what": label,
        "segments": batch,
        "wall_ms": whole_ms,
        "between_ms": max(0.0, whole_ms - spent.total()),
        "kinds_ms": dict(kinds.most_common()),
        "most_ms": {name[:100]: spent_ms for name, spent_ms in spent.most_common(25)},
    }


def on_cuda() -> list[dict[str, Any]]:
    device, batch = torch.device("cuda", 0), 32
    torch.backends.cudnn.benchmark = True
    network = calibrated("i3d_r50", device)
    pictures = segments(batch, "i3d_r50", device, 3)
    plain = eager(network, device, half=True)
    found = []
    for label, encode in (
        ("pytorchvideo, eager, float16", plain),
        ("convolutions of planes, float16, a CUDA graph", None),
    ):
        if encode is None:
            encode = start(kinetics.recipe("i3d_r50"), "random weights", network, device="cuda:0").encode
        call: Callable[[], Tensor] = lambda one=encode: one(pictures)  # type: ignore[misc]  # noqa: E731
        whole_ms = wall_ms(call, device)
        found.append(told(f"i3d_r50: {label}", batch, by_name(call, device), whole_ms))
    return found


def on_cpu() -> list[dict[str, Any]]:
    device, batch, name = torch.device("cpu"), 4, "effnet_lite0"
    torch.set_num_threads(cpu_threads())
    plain = backbone.create(name, engine="eager")
    assert isinstance(plain, Eager)
    pictures = np.random.default_rng(0).integers(0, 256, (batch, *plain.preprocessing.shape), np.uint8)
    found = [
        told(
            f"{name}: eager torch, float32",
            batch,
            by_name(lambda: plain.encode(pictures), device),
            wall_ms(lambda: plain.encode(pictures), device),
        )
    ]
    openvino = import_silently()
    compiled = openvino.Core().compile_model(
        _convert(openvino, plain.module, plain.recipe),
        "CPU",
        {
            "INFERENCE_NUM_THREADS": cpu_threads(), "NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": "f32",
            "PERF_COUNT": True,
        },
    )  # fmt: skip
    spent = in_openvino(compiled, pictures)
    return [*found, told(f"{name}: OpenVINO, float32", batch, spent, wall_ms(lambda: compiled(pictures), device))]


def draw(said: dict[str, Any], out: Path) -> None:
    """A bar for each engine, cut by kind of work."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "vad-monitor", "svg.fonttype": "none"})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8.4, 1.0 + 0.8 * len(said["bars"])), layout="constrained")
    colours = dict(zip((*ORDER, "between"), pyplot.colormaps["tab10"].colors, strict=False))
    for place, bar in enumerate(said["bars"]):
        left = 0.0
        for kind, spent_ms in [
            *((kind, bar["kinds_ms"].get(kind, 0.0)) for kind in ORDER),
            ("between", bar["between_ms"]),
        ]:
            label = "between kernels" if kind == "between" else kind
            axes.barh(place, spent_ms, left=left, color=colours[kind], label=label if place == 0 else None)
            left += spent_ms
        axes.text(left, place, f" {left:.1f} ms", va="center")
    axes.set_yticks(range(len(said["bars"])), [bar["what"].replace(": ", "\n") for bar in said["bars"]])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title(said["machine"], loc="left", fontsize="medium")
    axes.set_xlabel(f"milliseconds for {said['bars'][0]['segments']} segments")
    figure.legend(loc="outside lower center", ncols=4, fontsize="small", frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(out, metadata={"Date": None})


def main() -> None:
    ask = argparse.ArgumentParser(prog="python -m tests.bench.where", description=__doc__)
    ask.add_argument("--out", type=Path, help="the JSON; without it .bench/where-cuda.json or -cpu.json")
    ask.add_argument("--draw", type=Path, nargs="+", help="pictures of these JSONs, beside them; nothing is measured")
    asked = ask.parse_args()
    if asked.draw:
        for file in asked.draw:
            draw(json.loads(file.read_text(encoding="utf-8")), file.with_suffix(".svg"))
        return
    cuda = torch.cuda.is_available()
    on = f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}" if cuda else machine()
    said = {"machine": on, "bars": on_cuda() if cuda else on_cpu()}
    out = asked.out or ROOT / ".bench" / f"where-{'cuda' if cuda else 'cpu'}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    for bar in said["bars"]:
        parts = ", ".join(f"{kind} {spent_ms:.2f}" for kind, spent_ms in bar["kinds_ms"].items())
        print(f"{bar['what']}, {bar['segments']} segments: {bar['wall_ms']:.2f} ms; {parts}")


if __name__ == "__main__":
    main()
