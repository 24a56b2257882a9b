"""``python -m monitor.console.playable SOURCE TARGET``: a copy of a clip that every browser plays (H.264 in MP4).

A process of its own, of the lowest priority and with one thread: the scorer must not feel it, and libav must not
take the monitor down. Private areas are black in the source already. Sound is kept, as AAC, where the clip has any
(``evidence.audio``) and it can be decoded.
"""

from __future__ import annotations

import os
import sys
from fractions import Fraction

import av
import av.error
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

CLOCK = Fraction(1, 90_000)
WIDEST_PX = 1920
SOUND_HZ = 48_000


def convert(source: str, target: str, *, sound: bool) -> None:
    """Raises FFmpegError where the source cannot be decoded, ValueError where it shows nothing."""
    # What the recorder writes, and nothing that leads elsewhere, whatever lies in the folder.
    plain = {"protocol_whitelist": "file", "format_whitelist": "mov,matroska,webm"}
    made_of = {"movflags": "+faststart"}
    with av.open(source, options=plain) as clip, av.open(target, "w", format="mp4", options=made_of) as made:
        shown = clip.streams.video[0]
        shown.thread_count = 1
        heard = next(iter(clip.streams.audio), None) if sound else None
        early: list[AudioFrame] = []  # what is heard before anything is shown: only then the streams are known
        stream: VideoStream | None = None
        told: AudioStream | None = None
        last = -1
        for frame in clip.decode(*(one for one in (shown, heard) if one is not None)):
            if isinstance(frame, AudioFrame):
                early.append(frame)
                if told is not None:
                    made.mux([packet for one in early for packet in told.encode(one)])
                    early.clear()
            if not isinstance(frame, VideoFrame):
                continue
            if stream is None:
                share = min(WIDEST_PX / frame.width, 1.0)
                stream = made.add_stream("libx264", rate=30, time_base=CLOCK, pix_fmt="yuv420p")
                stream.width, stream.height = (max(round(px * share) // 2 * 2, 2) for px in (frame.width, frame.height))
                stream.codec_context.thread_count = 1
                stream.codec_context.options = {"preset": "veryfast", "crf": "25"}
                told = None if heard is None else made.add_stream("aac", rate=SOUND_HZ)
            at = 0 if frame.time is None else round(frame.time / CLOCK)
            last = max(at, last + 1)
            scaled = frame.reformat(stream.width, stream.height, "yuv420p", threads=1)
            scaled.pts, scaled.time_base = last, CLOCK
            made.mux(stream.encode(scaled))
        if stream is None:
            raise ValueError("the clip shows nothing")
        made.mux(stream.encode(None))
        if told is not None:
            made.mux([packet for one in early for packet in told.encode(one)])
            made.mux(told.encode(None))


def main() -> None:
    os.nice(19)
    av.logging.set_level(av.logging.PANIC)
    try:
        try:
            convert(sys.argv[1], sys.argv[2], sound=True)
        except (av.error.FFmpegError, ValueError):  # the pictures matter more
            convert(sys.argv[1], sys.argv[2], sound=False)
    except (av.error.FFmpegError, ValueError, OSError) as error:
        sys.exit(f"cannot be converted: {type(error).__name__}")


if __name__ == "__main__":
    main()
