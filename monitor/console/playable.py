"""``python -m monitor.console.playable SOURCE TARGET``: a copy of a clip that every browser plays (H.264 in MP4).

A process of its own, of the lowest priority and with one thread: the scorer must not feel it, and libav must not
take the monitor down. Pictures only; private areas are black in the source already.
"""

from __future__ import annotations

import os
import sys
from fractions import Fraction

import av
import av.error
from av.video.stream import VideoStream

CLOCK = Fraction(1, 90_000)
WIDEST_PX = 1920


def convert(source: str, target: str) -> None:
    """Raises FFmpegError where the source cannot be decoded, ValueError where it shows nothing."""
    # What the recorder writes, and nothing that leads elsewhere, whatever lies in the folder.
    plain = {"protocol_whitelist": "file", "format_whitelist": "mov,matroska,webm"}
    made_of = {"movflags": "+faststart"}
    with av.open(source, options=plain) as clip, av.open(target, "w", format="mp4", options=made_of) as made:
        shown = clip.streams.video[0]
        shown.thread_count = 1
        stream: VideoStream | None = None
        last = -1
        for frame in clip.decode(shown):
            if stream is None:
                share = min(WIDEST_PX / frame.width, 1.0)
                stream = made.add_stream("libx264", rate=30, time_base=CLOCK, pix_fmt="yuv420p")
                stream.width, stream.height = (max(round(px * share) // 2 * 2, 2) for px in (frame.width, frame.height))
                stream.codec_context.thread_count = 1
                stream.codec_context.options = {"preset": "veryfast", "crf": "25"}
            at = 0 if frame.time is None else round(frame.time / CLOCK)
            last = max(at, last + 1)
            scaled = frame.reformat(stream.width, stream.height, "yuv420p", threads=1)
            scaled.pts, scaled.time_base = last, CLOCK
            made.mux(stream.encode(scaled))
        if stream is None:
            raise ValueError("the clip shows nothing")
        made.mux(stream.encode(None))


def main() -> None:
    os.nice(19)
    av.logging.set_level(av.logging.PANIC)
    try:
        convert(sys.argv[1], sys.argv[2])
    except (av.error.FFmpegError, ValueError, OSError) as error:
        sys.exit(f"cannot be converted: {type(error).__name__}")


if __name__ == "__main__":
    main()
