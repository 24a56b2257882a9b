"""A recording, cut into segments: the very same decoding, scaling and cutting as the live path's, without a
process."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from monitor.flow import Preprocessing, Segment
from monitor.ingest.camera import ReaderSettings, open_stream
from monitor.ingest.cutter import Cut, Cutter, Slot
from monitor.ingest.fault import StreamFault
from monitor.ingest.picture import Polygons


def segments_of_file(path: Path, preprocessing: Preprocessing, fps: float, ignore: Polygons = ()) -> Iterator[Segment]:
    """The segments of a video file in order; ``pictures`` (K, H, W, 3) uint8 RGB are the caller's own.

    A tail of at least 8 analysed frames, or any tail of a file without another segment, is filled up with its
    last frame; a shorter one is dropped. Segments with decode errors or beside a hole have ``invalid`` and no
    pictures. Raises StreamFault where the file cannot be read at all and, after the segments before that,
    where it breaks off.
    """
    settings = ReaderSettings(name=str(path), url=str(path), fps=fps, ignore=ignore)
    with open_stream(settings) as stream:
        cutter = Cutter(
            settings,
            preprocessing,
            lambda: Slot(pictures=np.empty(preprocessing.shape, np.uint8)),
            live=False,
        )
        cutter.interrupt(stream.nominal_s)
        broken: StreamFault | None = None
        try:
            for packet in stream.packets():
                if packet.stream_index == stream.video.index:
                    for decoded in stream.decode(packet):
                        yield from _segments(str(path), cutter.push(decoded, time.monotonic(), time.time()))
        except StreamFault as fault:
            broken = fault
        yield from _segments(str(path), cutter.finish())
        if broken is not None:
            raise broken


def _segments(name: str, cuts: Iterable[Cut]) -> Iterator[Segment]:
    for cut in cuts:
        piece = cut.piece
        yield Segment(
            camera=name,
            number=piece.number,
            start_s=piece.start_s,
            end_s=piece.end_s,
            captured_s=piece.captured_s,
            captured_wall_s=piece.captured_wall_s,
            pictures=None if cut.slot is None else cut.slot.pictures,
            invalid=piece.invalid,
        )
