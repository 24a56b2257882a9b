"""The last seconds of a camera's encoded packets, in memory, from a key frame on."""

from __future__ import annotations

import contextlib
import io
import threading
from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer
from av.packet import Packet

from monitor.ingest.camera import Stream


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Epoch:
    """One opening of the stream. ``templates``: stream index → how its packets are to be muxed; they belong
    to a container of our own that is never written, for those of the input die with it."""

    templates: dict[int, Any]
    video_index: int
    codec: str
    size_px: tuple[int, int]
    extradata: bytes
    container: OutputContainer

    def same_as(self, other: Epoch) -> bool:
        """Whether packets of both fit into one clip."""
        return (self.codec, self.size_px, self.extradata) == (other.codec, other.size_px, other.extradata)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """One encoded packet and when it arrived."""

    data: bytes
    index: int
    pts: int | None
    dts: int | None
    time_base: Fraction
    key: bool
    captured_s: float
    epoch: Epoch

    @property
    def is_video(self) -> bool:
        return self.index == self.epoch.video_index

    def packet(self) -> Packet[Any]:
        """A packet of these bytes, to be changed at will."""
        return packet_of(self.data)


def packet_of(data: bytes) -> Packet[Any]:
    """A packet with a copy of ``data`` and the zeroed padding behind it that decoders read into.

    ``Packet(data)`` would point into the bytes object: no padding there, and frames that are whole are found
    broken.
    """
    packet: Packet[Any] = Packet(len(data))
    packet.update(data)
    return packet


@dataclass(slots=True, eq=False)
class _Group:
    """A key frame and what depends on it."""

    packets: list[Held] = field(default_factory=list)
    size: int = 0


class Recorder:
    """Holds at least ``keep_s`` seconds, and never more than ``most_bytes``; where the bytes are the narrower
    bound, ``short`` says so. One thread adds, any thread looks."""

    def __init__(self, keep_s: float, most_bytes: int) -> None:
        self._keep_s = keep_s
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._groups: deque[_Group] = deque()
        self._bytes = 0
        self._epoch: Epoch | None = None
        self._size_px = (0, 0)
        self._stream: Stream | None = None
        self._shortened_s: float | None = None
        self._newest_s = float("-inf")

    @property
    def held_s(self) -> float:
        """How far back the packets reach."""
        with self._lock:
            return max(self._newest_s - self._oldest_s(), 0.0) if self._groups else 0.0

    @property
    def short(self) -> bool:
        """Whether bytes were given up lately that evidence may have needed."""
        shortened_s = self._shortened_s
        return shortened_s is not None and self._newest_s - shortened_s < self._keep_s

    @property
    def newest_s(self) -> float:
        """captured_s of the last packet."""
        return self._newest_s

    def opened(self, stream: Stream) -> None:
        """The camera's stream was opened (anew)."""
        self._stream = stream
        self._begin_epoch(stream)

    def _begin_epoch(self, stream: Stream) -> Epoch | None:
        """None where no clip can hold this codec: then there is no evidence, and the camera is watched all the same."""
        container = av.open(io.BytesIO(), mode="w", format="matroska")
        templates = {}
        for item in (stream.video, stream.audio):
            if item is not None:
                with contextlib.suppress(ValueError):
                    templates[item.index] = container.add_stream_from_template(item, opaque=True)
        self._epoch = None
        if stream.video.index in templates:
            self._epoch = Epoch(
                templates=templates,
                video_index=stream.video.index,
                codec=stream.codec,
                size_px=(stream.width_px, stream.height_px),
                extradata=stream.video.codec_context.extradata or b"",
                container=container,
            )
        return self._epoch

    def add(self, packet: Packet[Any], captured_s: float) -> None:
        """Keeps a packet; what comes before the first key frame cannot be shown and is not kept."""
        stream, epoch = self._stream, self._epoch
        if stream is None or epoch is None or packet.stream_index not in epoch.templates:
            return
        key = packet.is_keyframe and packet.stream_index == epoch.video_index
        if key and epoch.size_px != (stream.width_px, stream.height_px):
            epoch = self._begin_epoch(stream)
            if epoch is None:
                return
        held = Held(
            data=bytes(packet),
            index=packet.stream_index,
            pts=packet.pts,
            dts=packet.dts,
            time_base=packet.time_base,
            key=key,
            captured_s=captured_s,
            epoch=epoch,
        )
        with self._lock:
            if key:
                self._groups.append(_Group())
            elif not self._groups or self._groups[-1].packets[0].epoch is not epoch:
                return
            self._groups[-1].packets.append(held)
            self._groups[-1].size += len(held.data)
            self._bytes += len(held.data)
            self._newest_s = captured_s
            self._forget(captured_s)

    def between(self, from_s: float, to_s: float) -> list[Held]:
        """The packets captured from ``from_s`` to ``to_s``, begun at the key frame before; shorter if that is
        gone."""
        with self._lock:
            groups = list(self._groups)
        first = 0
        for index, group in enumerate(groups):
            if group.packets[0].captured_s <= from_s:
                first = index
        return [held for group in groups[first:] for held in tuple(group.packets) if held.captured_s <= to_s]

    def _oldest_s(self) -> float:
        return self._groups[0].packets[0].captured_s

    def _forget(self, now_s: float) -> None:
        while len(self._groups) > 1 and self._groups[1].packets[0].captured_s <= now_s - self._keep_s:
            self._bytes -= self._groups.popleft().size
        while self._bytes > self._most_bytes and self._groups:
            self._shortened_s = now_s
            self._bytes -= self._groups.popleft().size
