"""Looks at a camera for a few seconds: what it sends, how fast, how late, or what is wrong."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from monitor.ingest.camera import ReaderSettings, Stream, open_stream
from monitor.ingest.fault import StreamFault


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What was found; ``fault`` is a sentence where something is wrong, and what was seen before that stays."""

    camera: str
    fault: str | None = None
    codec: str = ""
    width_px: int = 0
    height_px: int = 0
    fps: float | None = None
    """Frames per second by their time stamps, or, where they have none, as they arrived; None: too few came."""
    claimed_fps: float | None = None
    """What the container says: often wrong."""
    open_s: float | None = None
    """From the beginning of the connection to its end."""
    first_frame_s: float | None = None
    """From the beginning of the connection to the first decoded frame."""
    late_s: float | None = None
    """How much later than the promptest one the latest frame came, by its stamp: what the way here holds up at times.
    None for what is read faster than it was filmed (files)."""
    key_interval_s: float | None = None
    """The longest time between two key frames that was seen; None: fewer than two came."""
    frames: int = 0
    decode_errors: int = 0

    @property
    def summary(self) -> str:
        """One line for people."""
        if self.fault is not None and not self.frames:
            return f"{self.camera}: {self.fault}"
        rate = "unknown rate" if self.fps is None else f"{self.fps:.3g} frames/s"
        if self.fps and self.claimed_fps and abs(self.claimed_fps / self.fps - 1) > 0.05:
            rate += f" (claims {self.claimed_fps:.4g})"
        parts = [f"{self.codec} {self.width_px}x{self.height_px}", rate]
        if self.first_frame_s is not None:
            parts.append(f"first frame after {self.first_frame_s:.2f} s")
        if self.late_s is not None:
            parts.append(f"frames up to {self.late_s:.2f} s late")
        if self.key_interval_s is not None:
            parts.append(f"a key frame every {self.key_interval_s:.2g} s")
        if self.decode_errors:
            parts.append(f"{self.decode_errors} decode errors")
        if self.fault is not None:
            parts.append(self.fault)
        return f"{self.camera}: " + ", ".join(parts)


def probe(
    settings: ReaderSettings,
    *,
    watch_s: float = 5.0,
    opener: Callable[[ReaderSettings], Stream] = open_stream,
    clock: Callable[[], float] = time.monotonic,
) -> ProbeResult:
    """Opens the stream, watches it for ``watch_s`` of its own time or of ours, and closes it. Never raises
    for a fault of the stream."""
    started_s = clock()
    seen = _Seen()
    fault: str | None = None
    open_s: float | None = None
    stream: Stream | None = None
    try:
        with opener(settings) as stream:
            open_s = clock() - started_s
            ended = _watch(stream, seen, started_s, watch_s, clock)
            if not seen.frames:
                fault = "data comes, but no picture could be decoded"
            elif ended and seen.frames == 1:
                fault = "it ended after one picture: is it the address of a stream?"
    except StreamFault as error:
        fault = error.sentence
    steps = [b - a for a, b in zip(seen.stamps_s, seen.stamps_s[1:], strict=False) if b > a]
    keys = [b - a for a, b in zip(seen.keys_s, seen.keys_s[1:], strict=False) if b > a]
    return ProbeResult(
        camera=settings.name,
        fault=fault,
        codec=seen.codec,
        width_px=seen.size_px[0],
        height_px=seen.size_px[1],
        fps=1 / statistics.median(steps) if steps else _arrived_fps(seen),
        claimed_fps=seen.claimed_fps,
        open_s=open_s,
        first_frame_s=seen.first_frame_s,
        late_s=_late(seen),
        key_interval_s=max(keys) if keys else None,
        frames=seen.frames,
        decode_errors=seen.decode_errors,
    )


def _arrived_fps(seen: _Seen) -> float | None:
    """A mean: what is sent in bursts has a median of no time at all."""
    if seen.stamps_s or seen.frames < 2 or seen.last_came_s <= seen.first_came_s:
        return None
    return (seen.frames - 1) / (seen.last_came_s - seen.first_came_s)


def _late(seen: _Seen) -> float | None:
    """The spread of (arrival − stamp), if the frames came as slowly as they were filmed."""
    if len(seen.stamps_s) < 2 or seen.came_s[-1] - seen.came_s[0] < 0.7 * (seen.stamps_s[-1] - seen.stamps_s[0]):
        return None
    behind_s = [came_s - stamp_s for came_s, stamp_s in zip(seen.came_s, seen.stamps_s, strict=True)]
    return max(behind_s) - min(behind_s)


class _Seen:
    """What was seen so far."""

    def __init__(self) -> None:
        self.codec = ""
        self.size_px = (0, 0)
        self.claimed_fps: float | None = None
        self.stamps_s: list[float] = []
        self.came_s: list[float] = []
        """When each of the stamped frames was decoded."""
        self.keys_s: list[float] = []
        self.frames = 0
        self.decode_errors = 0
        self.first_frame_s: float | None = None
        self.first_came_s = self.last_came_s = 0.0
        """When the first and the last frame were decoded."""


def _watch(stream: Stream, seen: _Seen, started_s: float, watch_s: float, clock: Callable[[], float]) -> bool:
    """Whether the stream ended by itself."""
    opened_s = clock()
    seen.codec = stream.codec
    seen.claimed_fps = stream.claimed_fps
    for packet in stream.packets():
        if packet.stream_index == stream.video.index:
            for decoded in stream.decode(packet):
                seen.frames += 1
                seen.size_px = (decoded.frame.width, decoded.frame.height)
                seen.last_came_s = clock()
                if seen.first_frame_s is None:
                    seen.first_came_s, seen.first_frame_s = seen.last_came_s, seen.last_came_s - started_s
                if decoded.stamp_s is not None:
                    seen.stamps_s.append(decoded.stamp_s)
                    seen.came_s.append(clock())
                    if decoded.frame.key_frame:
                        seen.keys_s.append(decoded.stamp_s)
            seen.decode_errors = stream.decode_errors
        played_s = seen.stamps_s[-1] - seen.stamps_s[0] if seen.stamps_s else 0.0
        if clock() - opened_s > watch_s or played_s > watch_s:
            return False
    return True
