"""Every stage's speed on this machine's cores, beside a peer that does the same work: ``python -m tests.bench.cpu``.

Start-up, ingest (decode, scaling, hand-over) beside ffmpeg, backbones beside eager torch and the machine's own matrix
product, batching. Cameras end to end: ``tests.bench.paced``. Nothing else should run meanwhile; how loaded the machine
was at the start is written down.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from monitor.config import EvidenceSettings, Ingest
from monitor.detectors.artefact import SHIPPED
from monitor.features import backbone, kinetics
from monitor.features.engine import Eager, cpu_threads, start
from monitor.flow import Preprocessing
from monitor.ingest.camera import ReaderSettings
from monitor.ingest.cutter import Slot
from monitor.ingest.pool import ReaderPool
from monitor.ingest.reader import Reader
from monitor.stage.layout import SEEDS
from monitor.stage.scenes import Scene, write_clip
from tests.bench.rows import Row, machine, table, write
from tests.conftest import ROOT

KEPT = ROOT / "tests" / "bench" / "results" / "cpu.json"
EVERY_FRAME = Preprocessing(height_px=224, width_px=224, fit="crop", short_side_px=256, frames=tuple(range(16)))
"""What I3D is fed with: ffmpeg's filter does as much."""


def best_s(function: Callable[[], object], times: int) -> float:
    """The shortest of so many runs, after one to warm up: others' load only ever adds."""
    function()
    took = []
    for _ in range(times):
        began_s = time.perf_counter()
        function()
        took.append(time.perf_counter() - began_s)
    return min(took)


def child_cpu_s(function: Callable[[], object]) -> float:
    """User and system seconds of the processes that ended within."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    function()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# -- start-up --------------------------------------------------------------------------------------------------


def start_up() -> list[Row]:
    example = ROOT / "configs" / "plant.example.yaml"

    def command(*words: str) -> Callable[[], object]:
        return lambda: subprocess.run(
            [sys.executable, "-m", "monitor", *words], cwd=ROOT, capture_output=True, check=False
        )

    def check_anew() -> None:
        (backbone.cache_folder() / "opened").unlink(missing_ok=True)
        check()

    def check_with_torch() -> None:
        (backbone.cache_folder() / "opened").unlink(missing_ok=True)
        check_unknown()

    def importing_torch() -> None:
        subprocess.run([sys.executable, "-c", "import torch"], check=True)

    check = command("check", str(example))
    with tempfile.TemporaryDirectory(prefix="vad-bench-") as folder:
        unknown = unknown_artefact(Path(folder))
        check_unknown = command("check", str(unknown))
        return [
            Row(name="vad-monitor --help", value=best_s(command("--help"), 5), unit="s", target=0.3),
            Row(
                name="vad-monitor check of what it has not opened before",
                value=best_s(check_anew, 5),
                unit="s",
                limit="the shipped artefact, read without torch",
                target=1.0,
            ),
            Row(
                name="vad-monitor check of detectors that it must open with torch",
                value=best_s(check_with_torch, 3),
                unit="s",
                limit=f"{best_s(importing_torch, 3):.1f} s of it to import torch",
                target=1.0,
            ),
            Row(
                name="vad-monitor check of them, again",
                value=best_s(check_unknown, 5),
                unit="s",
                limit="by the kept proof",
                target=1.0,
            ),
        ]


def unknown_artefact(folder: Path) -> Path:
    """A plant with an artefact like the shipped one that check does not know without torch."""
    shutil.copytree(SHIPPED / "default", folder / "artefact")
    file = folder / "artefact" / "card.json"
    card = json.loads(file.read_text(encoding="utf-8"))
    card["detectors"][0]["arguments"]["dropout"] = 0
    file.write_text(json.dumps(card), encoding="utf-8")
    plant = folder / "plant.yaml"
    plant.write_text("site: bench\nmqtt: off\nscoring: {artefact: ./artefact}\ncameras: [{name: a, url: 0}]\n")
    return plant


# -- ingest ----------------------------------------------------------------------------------------------------


def read(file: Path, fps: float, preprocessing: Preprocessing = EVERY_FRAME, **left_out: str) -> int:
    """Decodes, cuts and scales the whole file in this thread; the number of segments. ``left_out``: of decoding."""
    pictures = np.empty(preprocessing.shape, np.uint8)
    cuts = 0

    def count(_cut: object) -> None:
        nonlocal cuts
        cuts += 1

    Reader(
        ReaderSettings(name=file.stem, url=file.as_uri(), fps=fps, frozen_after_s=None, **left_out),  # type: ignore[arg-type]
        preprocessing,
        live=False,
        take_slot=lambda: Slot(pictures=pictures),
        deliver=count,
        changed=lambda: None,
        mark=lambda _doing: None,
        recorder=None,
    ).run()
    return cuts


def ffmpeg(program: str, file: Path, size_px: tuple[int, int]) -> None:
    """The same work: decode with one thread, area scaling, RGB; the pictures go nowhere."""
    width_px, height_px = size_px
    subprocess.run(
        [program, "-v", "error", "-threads", "1", "-filter_threads", "1", "-i", str(file), "-vf",
         f"scale={width_px}:{height_px}:flags=area,format=rgb24", "-f", "null", "-"],
        check=True,
    )  # fmt: skip


def ingest(program: str, folder: Path, seconds: float) -> list[Row]:
    """``program``: ffmpeg."""
    rows = []
    for name, width_px, height_px, fps in (
        ("1080p25", 1920, 1080, 25),
        ("720p25", 1280, 720, 25),
        ("360p15", 640, 360, 15),
    ):
        file = folder / f"{name}.mp4"
        source = folder / "source.mp4"
        if not source.exists():
            write_clip(source, Scene(SEEDS["tests"].start), seconds, bit_rate_kbit=4000)
        subprocess.run(
            [program, "-v", "error", "-i", str(source), "-vf", f"scale={width_px}:{height_px},fps={fps}", "-c:v",
             "libx264", "-preset", "veryfast", "-bf", "0", "-g", str(2 * fps), str(file)],
            check=True,
        )  # fmt: skip
        frames = seconds * fps

        def cpu_of_reading(file: Path = file, fps: float = fps) -> float:
            began_s = time.process_time()
            read(file, fps)
            return time.process_time() - began_s

        ours_s = min(cpu_of_reading() for _ in range(4))
        scaled_px = (round(256 * width_px / height_px), 256)
        theirs_s = min(child_cpu_s(lambda file=file, px=scaled_px: ffmpeg(program, file, px)) for _ in range(4))  # type: ignore[misc]
        rows.append(
            Row(
                name=f"ingest {name}: CPU a frame, decoded, scaled by area, RGB",
                value=1e6 * ours_s / frames,
                unit="µs",
                peer="ffmpeg -threads 1, the same work",
                peer_value=1e6 * theirs_s / frames,
                limit=f"{100 * ours_s / seconds:.1f} % of a core a camera",
                target=1.10,
            )
        )
    file = folder / "360p15.mp4"
    rows += [two_threads(file), hand_over(file, seconds * 15)]
    return rows


def two_threads(file: Path) -> Row:
    def together(count: int) -> None:
        threads = [threading.Thread(target=read, args=(file, 15)) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    one_s, two_s = best_s(lambda: together(1), 4), best_s(lambda: together(2), 4)
    return Row(
        name="two reading threads beside one, in a process",
        value=2 * one_s / two_s,
        unit="times the frames a second",
        limit=f"{min(2, cpu_threads())} cores",
        target=1.85,
        better="higher",
    )


def hand_over(file: Path, frames: float) -> Row:
    """What it costs to read in a process of its own: both processes' CPU, less that of reading in this thread."""

    def through_the_pool(copies: int) -> float:
        """CPU of the monitor's side and the reader process for so many readings, start and import included."""
        cameras = [
            ReaderSettings(name=str(copy), url=file.as_uri(), fps=15, frozen_after_s=None) for copy in range(copies)
        ]

        def read_all() -> None:
            with ReaderPool(cameras, EVERY_FRAME, ingest=Ingest(), evidence=EvidenceSettings(), live=False) as pool:
                left = copies
                while left:
                    segments = pool.take(64, 0.0, 1.0)
                    left -= sum(segment.last for segment in segments)
                    pool.release(segments)

        began_s = time.process_time()
        children_s = child_cpu_s(read_all)
        return time.process_time() - began_s + children_s

    def in_this_thread() -> float:
        began_s = time.process_time()
        read(file, 15)
        return time.process_time() - began_s

    # The difference of two sizes, both in as many processes as there are cores: what is paid once falls out.
    few = len(os.sched_getaffinity(0))
    many = 5 * few

    def beyond_us() -> float:
        more_s = min(through_the_pool(many) for _ in range(2)) - min(through_the_pool(few) for _ in range(2))
        alone_s = min(in_this_thread() for _ in range(4))
        return 1e6 * (more_s / (many - few) - alone_s) / frames

    # A small difference of large figures: it is measured three times, and all three are shown.
    low_us, middle_us, high_us = sorted(beyond_us() for _ in range(3))
    return Row(
        name="hand-over to the monitor: CPU a frame beyond reading it",
        value=middle_us,
        unit="µs",
        limit=f"a difference of two far larger figures: {low_us:.0f}, {middle_us:.0f}, {high_us:.0f} in three tries",
        target=60.0,
    )


# -- backbones -------------------------------------------------------------------------------------------------


def matrix_product_flops() -> float:
    """Multiplications and additions a second of this machine's float32 matrix product, all threads."""
    side = 2048
    one, other = torch.randn(side, side), torch.randn(side, side)
    return 2 * side**3 / best_s(lambda: one @ other, 8)


def backbones(names: Sequence[str], times: int) -> list[Row]:
    rows = []
    torch.set_num_threads(cpu_threads())
    peak = matrix_product_flops()
    for name in names:
        recipe = backbone.recipe(name)
        torch.manual_seed(0)
        if name == "effnet_lite0":
            fast = backbone.create(name, engine="openvino")
            plain = backbone.create(name, engine="eager")
            module = plain.module if isinstance(plain, Eager) else None
        else:
            network = kinetics.architecture(name).eval()
            module = kinetics.SegmentNet(network).eval()
            fast = start(recipe, "bench", kinetics.SegmentNet(network).eval(), engine="openvino", cache=None)
            plain = None
        chance = np.random.default_rng(0)
        pictures = chance.integers(0, 255, (1, *recipe.preprocessing.shape), dtype=np.uint8)
        as_tensor = torch.from_numpy(pictures)
        assert module is not None
        with torch.inference_mode():
            with FlopCounterMode(display=False) as counter:
                expected = module(as_tensor)
            eager_s = best_s(lambda module=module, given=as_tensor: module(given), times)  # type: ignore[misc]
        ours_s = best_s(lambda fast=fast, given=pictures: fast.encode(given), times)  # type: ignore[misc]
        error = float((fast.encode(pictures) - expected).abs().max() / expected.abs().max())
        flops = counter.get_total_flops()
        rows += [
            Row(
                name=f"{name} in OpenVINO, one segment",
                value=1e3 * ours_s,
                unit="ms",
                peer="eager torch" if plain else "eager pytorchvideo",
                peer_value=1e3 * eager_s,
                limit=f"{1e3 * flops / peak:.0f} ms by the machine's own matrix product ({peak / 1e9:.0f} GFLOP/s); "
                f"{100 * flops / peak / ours_s:.0f} % of it",
                target=0.5 if name == "i3d_r50" else None,
            ),
            Row(name=f"{name}: largest error of the largest feature", value=error, unit="", target=1e-4),
        ]
        if name == "i3d_r50":
            rows.append(
                Row(
                    name="i3d_r50: share of the matrix product's rate",
                    value=flops / peak / ours_s,
                    unit="",
                    target=0.8,
                    better="higher",
                )
            )
        if name == "effnet_lite0":
            rows += batching(fast, chance, times)
    return rows


def batching(fast: backbone.Backbone, chance: np.random.Generator, times: int) -> list[Row]:
    """What waiting for others brings: milliseconds a segment by the size of the batch."""
    rows = []
    for batch in (1, 2, 4, 8, 16, 32):
        pictures = chance.integers(0, 255, (batch, *fast.preprocessing.shape), dtype=np.uint8)
        took_s = best_s(lambda given=pictures: fast.encode(given), max(2, times // batch))  # type: ignore[misc]
        rows.append(Row(name=f"{fast.name}, batch of {batch}: a segment", value=1e3 * took_s / batch, unit="ms"))
    return rows


def main() -> None:
    """``.bench/cpu.json``, or with ``--keep`` the run that the README's table is printed from."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".bench/cpu.json"))
    parser.add_argument("--keep", action="store_const", dest="out", const=KEPT, help="as tests/bench/results/cpu.json")
    parser.add_argument("--seconds", type=float, default=20.0, help="of video for the ingest rows")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--backbones", nargs="*", default=["effnet_lite0", "i3d_r50"])
    arguments = parser.parse_args()
    program = shutil.which("ffmpeg")
    if program is None:
        parser.error("ingest is measured beside ffmpeg, which is not installed (Debian package ffmpeg)")
    on = machine()
    rows = start_up()
    with tempfile.TemporaryDirectory(prefix="vad-bench-") as folder:
        rows += ingest(program, Path(folder), arguments.seconds)
    rows += backbones(arguments.backbones, arguments.times)
    print(table(rows))
    write(rows, arguments.out, on)


if __name__ == "__main__":
    main()
