"""What the tests of the RTSP server share: an encoded camera, and a client that says exactly what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import numpy as np

from monitor.stage.rtsp import Mount


def encoder(width_px: int = 320, height_px: int = 180, fps: int = 25, key_every: int = 25) -> Any:
    """libx264 as a camera: no delay, a key frame each second at 25 fps, parameter sets with each."""
    made = av.CodecContext.create("libx264", "w")
    made.width, made.height, made.pix_fmt = width_px, height_px, "yuv420p"
    made.framerate, made.time_base, made.bit_rate, made.thread_count = fps, Fraction(1, 90_000), 400_000, 1
    params = f"keyint={key_every}:min-keyint={key_every}:scenecut=0:repeat-headers=1"
    made.options = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": params}
    return made


def encode(made: Any, picture: np.ndarray, pts_90k: int) -> Iterator[tuple[bytes, int, bool]]:
    """Access units, as ``Mount.send`` takes them."""
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    frame.pts, frame.time_base = pts_90k, Fraction(1, 90_000)
    for packet in made.encode(frame):
        yield bytes(packet), packet.pts, packet.is_keyframe


def access_units(frames: int, fps: int = 25) -> list[tuple[bytes, int, bool]]:
    """A grey picture that grows brighter by a grade a frame."""
    made = encoder(fps=fps)
    return [
        unit
        for number in range(frames)
        for unit in encode(made, np.full((180, 320, 3), 50 + number, np.uint8), number * 90_000 // fps)
    ]


def write_file(path: Path, frames: int, codec: str = "libx264", **options: str) -> Path:
    """A film of 320x180 at 25 fps, a key frame a second; its container is the suffix's."""
    with av.open(path, "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options={"preset": "ultrafast", "g": "25", **options})
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.thread_count = 320, 180, "yuv420p", 1
        for number in range(frames):
            picture = np.full((180, 320, 3), 50 + number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


async def play(mount: Mount, units: list[tuple[bytes, int, bool]], fps: int = 25) -> None:
    """Sends the access units in real time, over and over."""
    lap = 0
    while True:
        for access_unit, pts_90k, keyframe in units:
            mount.send(access_unit, lap + pts_90k, keyframe)
            await asyncio.sleep(1 / fps)
        lap += len(units) * 90_000 // fps


class RawClient:
    """One connection: requests go out as they are written here, answers and packets come back one by one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, base: str) -> None:
        self.reader, self.writer, self.base = reader, writer, base
        self._cseq = 0

    @classmethod
    async def to(cls, url: str) -> Self:
        host, _, port = url.removeprefix("rtsp://").partition("/")[0].rpartition(":")
        return cls(*await asyncio.open_connection(host.strip("[]"), int(port)), url)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def ask(self, method: str, url: str = "", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body). Packets that come first are passed over."""
        self._cseq += 1
        lines = [f"{method} {url or self.base} RTSP/1.0", f"CSeq: {self._cseq}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join((*lines, "", "")).encode())
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        while (first := await self.reader.readexactly(1)) == b"$":
            await self._packet()
        head = (first + await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers: dict[str, str] = {}
        for line in filter(None, head[1:]):
            name, _, value = line.partition(": ")
            headers[name] = f"{headers[name]} | {value}" if name in headers else value
        body = await self.reader.readexactly(int(headers.get("Content-Length", "0")))
        return int(head[0].split()[1]), headers, body

    async def _packet(self) -> tuple[int, bytes]:
        head = await self.reader.readexactly(3)
        return head[0], await self.reader.readexactly(int.from_bytes(head[1:], "big"))

    async def packet(self) -> tuple[int, bytes]:
        """(channel, packet)"""
        assert await self.reader.readexactly(1) == b"$"
        return await self._packet()

    async def start(self) -> None:
        """Plays over TCP on channels 0 and 1."""
        tcp = "RTP/AVP/TCP;unicast;interleaved=0-1"
        assert (await self.ask("SETUP", self.base + "/trackID=0", Transport=tcp))[0] == 200
        assert (await self.ask("PLAY"))[0] == 200


QUICK = {"analyzeduration": "200000"}
"""libav looks for 200 ms what the stream is, not for 5 s."""


def look(url: str, frames: int, transport: str = "tcp") -> list[tuple[float | None, int]]:
    """(time, middle pixel) of the first frames, by libav as the monitor uses it."""
    seen = []
    with av.open(url, options={"rtsp_transport": transport} | QUICK, timeout=5.0) as container:
        container.streams.video[0].thread_count = 1
        for frame in container.decode(video=0):
            seen.append((frame.time, int(frame.to_ndarray(format="rgb24")[90, 160, 0])))
            if len(seen) == frames:
                break
    return seen


async def run_program(*command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, out.decode()
