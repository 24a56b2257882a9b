"""What a camera's ``decode`` options save, by streams as cameras make them: ``python -m tests.bench.decode``.

CPU time, not the clock's: other programs on the machine disturb it little. The peer is ffmpeg with the same options.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from monitor.features import backbone
from monitor.ingest.camera import DISCARD
from monitor.stage.layout import SEEDS
from monitor.stage.scenes import Scene, write_clip
from tests.bench.cpu import child_cpu_s, read
from tests.bench.rows import Row, machine, table, write
from tests.conftest import ROOT

KEPT = ROOT / "tests" / "bench" / "results" / "decode.json"
ANALYSED_FPS = 15.0
"""As the shipped artefacts want it."""
SIZES = {"1080p25": (1920, 1080, 25, 4000), "720p25": (1280, 720, 25, 2000), "360p15": (640, 360, 15, 512)}
"""Width, height, frames a second, kbit/s as cameras are set up."""
STREAMS = {
    "H.264 baseline": ("libx264", "-profile:v", "baseline", "-tune", "zerolatency"),
    "H.264 high, no B-frames": ("libx264", "-profile:v", "high", "-bf", "0"),
    "H.264 high, every second frame a B-frame": (
        *("libx264", "-profile:v", "high", "-bf", "1", "-x264-params", "b-adapt=0:b-pyramid=none"),
    ),
    "H.265, no B-frames": ("libx265", "-x265-params", "bframes=0:log-level=error"),
    "H.265, every second frame a B-frame": (
        *("libx265", "-x265-params", "bframes=1:b-adapt=0:b-pyramid=0:log-level=error"),
    ),
}
"""By what people call them: ffmpeg's encoder and its options. Nothing refers to the B-frames."""
NOISE = "noise=alls=4:allf=t"
"""Of a sensor; generated scenes have none."""
LEFT_OUT: dict[str, dict[str, str]] = {
    "skip_loop_filter nonref": {"skip_loop_filter": "nonref"},
    "skip_loop_filter all": {"skip_loop_filter": "all"},
    "skip_frame nonref": {"skip_frame": "nonref"},
    "both": {"skip_loop_filter": "all", "skip_frame": "nonref"},
}


def encoded(program: str, source: Path, folder: Path, size: str, stream: str) -> Path:
    """The scene with a sensor's noise, at a camera's bit rate, a key frame every two seconds."""
    width_px, height_px, fps, kbit = SIZES[size]
    codec, *options = STREAMS[stream]
    file = folder / f"{size}-{list(STREAMS).index(stream)}.mkv"
    subprocess.run(
        [program, "-v", "error", "-i", str(source), "-vf", f"scale={width_px}:{height_px},fps={fps},{NOISE}",
         "-pix_fmt", "yuv420p", "-c:v", codec, "-preset", "veryfast", *options, "-g", str(2 * fps), "-b:v", f"{kbit}k",
         "-maxrate", f"{kbit}k", "-bufsize", f"{2 * kbit}k", str(file)],
        check=True,
    )  # fmt: skip
    return file


def theirs_s(program: str, file: Path, left_out: dict[str, str], *more: str) -> float:
    options = [word for name, value in left_out.items() for word in (f"-{name}", DISCARD[value])]
    command = [program, "-v", "error", "-threads", "1", *options, "-i", str(file), *more, "-f", "null", "-"]
    return child_cpu_s(lambda: subprocess.run(command, check=True))


def row(program: str, file: Path, size: str, stream: str, seconds: float, times: int) -> Row:
    frames = seconds * SIZES[size][2]
    preprocessing = backbone.recipe("effnet_lite0").preprocessing
    settings: dict[str, dict[str, str]] = {"whole": {}, **LEFT_OUT}
    ours: dict[str, list[float]] = {name: [] for name in settings}
    theirs: dict[str, list[float]] = {name: [] for name in settings}
    starts = min(theirs_s(program, file, {}, "-frames:v", "1") for _ in range(times))
    # In turns: a machine that grows slow meanwhile is slow for all.
    for _ in range(times):
        for name, left_out in settings.items():
            began_s = time.process_time()
            read(file, ANALYSED_FPS, preprocessing, **left_out)
            ours[name].append(time.process_time() - began_s)
            theirs[name].append(theirs_s(program, file, left_out) - starts)
    whole_s, their_whole_s = min(ours["whole"]), min(theirs["whole"])
    shares = "; ".join(
        f"{name} {100 * min(ours[name]) / whole_s:.0f} % ({100 * min(theirs[name]) / their_whole_s:.0f})"
        for name in LEFT_OUT
    )
    return Row(
        name=f"{size}, {stream}: CPU a frame",
        value=1e6 * whole_s / frames,
        unit="µs",
        peer="ffmpeg, decoding alone",
        peer_value=1e6 * their_whole_s / frames,
        limit=shares,
    )


def main() -> None:
    """``.bench/decode.json``, or with ``--keep`` the run that the README's table is printed from."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.decode", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".bench/decode.json"))
    parser.add_argument("--keep", action="store_const", dest="out", const=KEPT, help=f"as {KEPT.relative_to(ROOT)}")
    parser.add_argument("--seconds", type=float, default=10.0, help="of video")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    arguments = parser.parse_args()
    program = shutil.which("ffmpeg")
    if program is None:
        parser.error("decoding is measured beside ffmpeg, which is not installed (Debian package ffmpeg)")
    on = machine()
    rows = []
    with tempfile.TemporaryDirectory(prefix="vad-bench-") as name:
        folder = Path(name)
        source = folder / "source.mp4"
        write_clip(source, Scene(SEEDS["tests"].start), arguments.seconds, bit_rate_kbit=4000)
        for size in arguments.sizes:
            for stream in STREAMS:
                file = encoded(program, source, folder, size, stream)
                rows.append(row(program, file, size, stream, arguments.seconds, arguments.times))
    print(table(rows))
    write(rows, arguments.out, on)


if __name__ == "__main__":
    main()
