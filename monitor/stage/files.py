"""Files of H.264 as cameras: played in real time by their time stamps, over and over, without re-encoding."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from monitor.stage.rtp import CLOCK_HZ

if TYPE_CHECKING:
    from monitor.stage.rtsp import Mount


class UnplayableFile(Exception):  # noqa: N818 - what it is
    """The file cannot be played; the text is a sentence that says why."""


async def play_file(mount: Mount, path: Path | str, loop: bool = True) -> None:
    """Plays the file's video on the mount, in real time; ``loop`` for ever, with time stamps that go on.

    No frame is decoded. The file is read in the event loop, a packet at a time. Raises UnplayableFile.
    """
    clock = asyncio.get_running_loop().time
    begun_s = clock()
    for due_s, pts_s, access_unit, keyframe in _access_units(Path(path), loop):
        wait_s = begun_s + float(due_s) - clock()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        mount.send(access_unit, int(pts_s * CLOCK_HZ), keyframe)


def _access_units(path: Path, loop: bool) -> Iterator[tuple[Fraction, Fraction, bytes, bool]]:
    """(due, time stamp, access unit, whether it is a key frame); seconds from the first one."""
    try:
        with av.open(path) as container:
            if not container.streams.video or container.streams.video[0].codec_context.name != "h264":
                raise UnplayableFile(f"{path} holds no H.264 video; convert it: ffmpeg -i IN -c:v libx264 OUT.mp4")
            stream = container.streams.video[0]
            to_annex_b = BitStreamFilterContext("h264_mp4toannexb", stream)
            lap_s = Fraction(0)
            while True:
                end_s = lap_s
                for packet, due_s, pts_s in _one_lap(container, stream):
                    keyframe, lasts_s = packet.is_keyframe, (packet.duration or 0) * Fraction(packet.time_base)
                    end_s = max(end_s, lap_s + pts_s + (lasts_s or Fraction(1, 25)))
                    for filtered in to_annex_b.filter(packet):
                        yield lap_s + due_s, lap_s + pts_s, bytes(filtered), keyframe
                if end_s == lap_s:
                    raise UnplayableFile(f"{path} holds no frame with a time stamp")
                if not loop:
                    return
                lap_s = end_s
                to_annex_b.flush()
                container.seek(0)
    except (av.error.FFmpegError, OSError) as fault:
        raise UnplayableFile(f"{path} cannot be played: {fault.strerror or fault}") from None


def _one_lap(
    container: InputContainer, stream: VideoStream
) -> Iterator[tuple[Packet[VideoStream], Fraction, Fraction]]:
    """(packet, when it is due, its time stamp) in seconds from the first one, which is taken to be shown first."""
    first_dts = first_pts = None
    due_s = Fraction(0)
    for packet in container.demux(stream):
        pts, dts = packet.pts, packet.dts
        if pts is None:
            continue  # the empty packet at the end
        if first_pts is None:
            first_pts = pts
        # Matroska has no decoding times: libav leaves them out where it does not know them yet, before B-frames.
        if dts is not None:
            first_dts = dts if first_dts is None else first_dts
            due_s = (dts - first_dts) * Fraction(packet.time_base)
        yield packet, due_s, (pts - first_pts) * Fraction(packet.time_base)


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m monitor.stage.rtsp``: files as cameras, until SIGINT or SIGTERM. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m monitor.stage.rtsp", description="Serves H.264 files as cameras.")
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help="MP4 or MKV, played over and over")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8554, help="port to listen on; 0 takes a free one (default 8554)")
    parser.add_argument("--seconds", type=float, default=None, help="end after so many seconds (default: never)")
    options = parser.parse_args(arguments)
    stems = [file.stem for file in options.files]
    if len(set(stems)) < len(stems):
        parser.error("two files have the same name: rename one, each is served at /NAME")
    wrong = ""
    try:
        asyncio.run(_serve(options.files, options.host, options.port, options.seconds))
    except* UnplayableFile as faults:
        wrong = "\n".join(map(str, faults.exceptions))
    except* OSError as faults:
        wrong = f"cannot listen on {options.host}:{options.port}: {faults.exceptions[0]}"
    if wrong:
        print(wrong, file=sys.stderr)
    return 1 if wrong else 0


async def _serve(files: Sequence[Path], host: str, port: int, seconds: float | None) -> None:
    from monitor.stage.rtsp import RtspServer

    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with RtspServer(host, port) as server, asyncio.TaskGroup() as group:
        playing = [
            group.create_task(play_file(server.mount(file.stem), file), name=f"play {file.stem}") for file in files
        ]
        for file in files:
            print(server.url(file.stem), flush=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await ended.wait()
        for task in playing:
            task.cancel()
