"""The staged plant, running: scenes drawn in real time, encoded, and served over RTSP by a process of its own.

A process of its own, so that drawing does not share the interpreter's lock with whoever watches. It ignores
SIGINT and ends when the pipe to its owner closes, also where the owner was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing.connection import Connection
from typing import Self

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from monitor.stage import clock
from monitor.stage.layout import SEEDS, Split
from monitor.stage.rtsp import Mount, RtspServer
from monitor.stage.scenes import IncidentKind, Scene, Staged

FPS = 15
WIDTH_PX, HEIGHT_PX = 640, 360
BIT_RATE = 1_000_000
LEAD_S = 30.0
"""Calm before the first incident: the monitor starts, connects and learns in it."""
APART_S = 12.0
"""From one incident to the next, on whichever cameras they are."""
LASTS_S = (9.0, 13.0)
HORIZON_S = 3600.0
"""A plant's incidents are known for so long ahead; after that all is calm."""
READY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What happens where and when: exact truth. ``*_wall_s`` are time.time() of the frames' drawing."""

    camera: str
    kind: str
    start_wall_s: float
    end_wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One camera's part in the play: its scene's seed and its incidents, in scene time."""

    camera: str
    seed: int
    incidents: tuple[Staged, ...]


def play(seed: int, cameras: int, split: Split = "demo", horizon_s: float = HORIZON_S) -> tuple[Part, ...]:
    """Who plays what (pure). One camera in four, at least one, stays calm for ever; the kinds take turns."""
    if cameras < 1:
        raise ValueError(f"a plant has at least one camera (got {cameras})")
    random = np.random.default_rng((seed, 3))
    seeds = SEEDS[split]
    calm = max(1, cameras // 4) if cameras > 1 else 0
    busy = [int(index) for index in random.permutation(cameras)[: cameras - calm]]
    kinds = [list(IncidentKind)[int(i)] for i in random.permutation(len(IncidentKind))]
    incidents: dict[int, list[Staged]] = {index: [] for index in range(cameras)}
    start_s, turn = LEAD_S, 0
    while start_s < horizon_s:
        lasts_s = float(random.uniform(*LASTS_S))
        # Each round of the cameras begins one kind later, so that none of them plays the same for ever.
        nth, camera = divmod(turn, len(busy))
        staged = Staged(kind=kinds[(camera + nth) % len(kinds)], start_s=start_s, end_s=start_s + lasts_s)
        incidents[busy[camera]].append(staged)
        # On few cameras the next one waits until the last has been over for a while.
        start_s += max(APART_S, 2.5 * LASTS_S[1] / len(busy)) + float(random.uniform(0, 3))
        turn += 1
    return tuple(
        Part(
            camera=f"camera-{index + 1}",
            seed=seeds.start + (seed * 64 + index) % len(seeds),
            incidents=tuple(incidents[index]),
        )
        for index in range(cameras)
    )


class StagedPlant:
    """Context manager. ``urls``: camera → RTSP address. ``port`` 0 is a free one."""

    def __init__(self, seed: int, cameras: int = 4, *, split: Split = "demo", port: int = 0) -> None:
        self._parts = play(seed, cameras, split)
        self._port = port
        self.urls: dict[str, str] = {}
        self.started_wall_s = 0.0

    @property
    def incidents(self) -> list[Incident]:
        """All that happens, in order of time; known once the plant runs."""
        return sorted(
            (
                Incident(
                    camera=part.camera,
                    kind=staged.kind.value,
                    start_wall_s=self.started_wall_s + staged.start_s,
                    end_wall_s=self.started_wall_s + staged.end_s,
                )
                for part in self._parts
                for staged in part.incidents
            ),
            key=lambda incident: incident.start_wall_s,
        )

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._parts, self._port), name="staged plant", daemon=True
        )
        self._process.start()
        theirs.close()
        try:
            if not self._pipe.poll(READY_S):
                raise RuntimeError(f"the staged plant did not start within {READY_S:.0f} s")
            port, self.started_wall_s = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"the staged plant ended with exit code {self._process.exitcode}") from None
        self.urls = {part.camera: f"rtsp://127.0.0.1:{port}/{part.camera}" for part in self._parts}
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(10.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


# -- in the process of the plant ---------------------------------------------------------------------------------------


def _serve(pipe: Connection, parts: Sequence[Part], port: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_play(pipe, parts, port))


async def _play(pipe: Connection, parts: Sequence[Part], port: int) -> None:
    ended = threading.Event()
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor() as painters:  # a room takes a second to paint, mostly outside the interpreter's lock
        scenes = list(painters.map(lambda part: Scene(part.seed, incidents=part.incidents, fps=float(FPS)), parts))
    async with RtspServer(port=port) as server:
        mounts = [server.mount(f"/{part.camera}") for part in parts]
        started_wall_s = time.time()
        threads = [
            threading.Thread(
                target=_draw, args=(scene, mount, loop, started_wall_s, ended), name=f"scene {part.camera}"
            )
            for part, scene, mount in zip(parts, scenes, mounts, strict=True)
        ]
        for thread in threads:
            thread.start()
        pipe.send((server.port, started_wall_s))
        try:
            await asyncio.to_thread(_wait_for_end, pipe)
        finally:
            ended.set()
            for thread in threads:
                await asyncio.to_thread(thread.join)


def _wait_for_end(pipe: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()


def encoder(width_px: int, height_px: int, fps: int) -> VideoCodecContext:
    """H.264 as a camera sends it: no reordering, a key frame each second, parameters repeated with it."""
    made = av.CodecContext.create("libx264", "w")
    made.width, made.height, made.pix_fmt = width_px, height_px, "yuv420p"
    made.framerate, made.time_base = Fraction(fps), Fraction(1, 90_000)
    made.bit_rate = BIT_RATE
    made.thread_count = 1
    made.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "x264-params": f"keyint={fps}:min-keyint={fps}:scenecut=0:repeat-headers=1",
    }
    return made


def _draw(
    scene: Scene, mount: Mount, loop: asyncio.AbstractEventLoop, started_wall_s: float, ended: threading.Event
) -> None:
    """One camera: draws, paints the clock, encodes and sends; frames it is late for are left out, as by a camera."""
    encode = encoder(WIDTH_PX, HEIGHT_PX, FPS)
    number = -1
    while not ended.is_set():
        number = max(number + 1, int((time.time() - started_wall_s) * FPS))
        if ended.wait(max(0.0, started_wall_s + number / FPS - time.time())):
            return
        picture = scene.frame(number)
        clock.paint(picture, round(time.time() * 1000))
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = round(number * 90_000 / FPS), Fraction(1, 90_000)
        for packet in encode.encode(frame):
            with contextlib.suppress(RuntimeError):  # the loop closed: the play is over
                loop.call_soon_threadsafe(mount.send, bytes(packet), packet.pts or 0, packet.is_keyframe)
