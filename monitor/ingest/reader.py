"""One camera's life: ``run`` around ``run_once``, watch over its frames, and patience between tries."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import av.error
from av.packet import Packet

from monitor.flow import FRAMES_PER_SEGMENT, Preprocessing
from monitor.ingest import nvdec
from monitor.ingest.camera import Decoded, ReaderSettings, Stream, open_stream
from monitor.ingest.cutter import Cut, Cutter, Slot
from monitor.ingest.fault import StreamFault
from monitor.ingest.glance import Glance
from monitor.ingest.memory import Doing
from monitor.ingest.recorder import Recorder
from monitor.ingest.segment import Resume
from monitor.ingest.source import Source
from monitor.ingest.wire import CameraHealth, Link

QUICK_S = 0.5
"""The first try after a loss comes within so long: most losses are short."""
LONGEST_PACE_S = 5.0
"""A played file's stamps that ask for a longer wait have jumped; the play goes on from there."""


def backoff_s(failures: int, least_s: float, most_s: float, chance: float) -> float:
    """How long to wait after the ``failures``-th failure in a row (1, 2, …); ``chance`` in [0, 1) spreads the
    cameras.

    The first wait is short; the others double from ``least_s`` up to ``most_s``. Each is drawn from its upper half: a
    bound that cut what is drawn would bring half of the cameras back at the same moment.
    """
    wait_s = min(QUICK_S, least_s) if failures <= 1 else min(least_s * 2.0 ** min(failures - 2, 60), most_s)
    return wait_s * (0.5 + chance / 2)


_LATE = (
    "the stream came {lag_s:.0f} s later than at first by its own time stamps: look at the network and at the "
    "camera's clock; it is opened anew"
)


def _ended(frames: int) -> str:
    """A stream that ends at once is another trouble than one that ends: a still picture, a server's file."""
    if frames >= FRAMES_PER_SEGMENT:
        return "the stream ended"
    noun = "picture" if frames == 1 else "pictures"
    return f"the stream ended after {frames} {noun}, and {FRAMES_PER_SEGMENT} make a segment: is it a live stream?"


class Reader:
    """Reads one camera until it is told to stop; every expected fault of the stream is retried here, and only
    here.

    ``take_slot`` as in Cutter; ``deliver`` gets each segment (a file's end as None); ``mark`` is told what
    the thread is doing; ``changed`` is called when the link's state changed. ``live`` False reads a file
    once, as fast as it can. ``show`` gets a JPEG and its capture time for each ``look``.
    """

    def __init__(
        self,
        settings: ReaderSettings,
        preprocessing: Preprocessing,
        *,
        live: bool,
        take_slot: Callable[[], Slot | None],
        deliver: Callable[[Cut], None],
        changed: Callable[[], None],
        mark: Callable[[Doing], None],
        recorder: Recorder | None,
        resume: Resume | None = None,
        opener: Callable[[ReaderSettings], Stream] = open_stream,
        chance: Callable[[], float] = random.random,
        show: Callable[[bytes, float], None] = lambda _jpeg, _captured_wall_s: None,
    ) -> None:
        self.settings = settings
        self._asked_gpu = settings.gpu
        self.recorder = recorder
        self.cutter = Cutter(settings, preprocessing, take_slot, live=live, resume=resume)
        self._live = live
        self._deliver = deliver
        self._changed = changed
        self._mark = mark
        self._open = opener
        self._chance = chance
        self._show = show
        self._glance = Glance(settings.private)
        self._looked_for = False
        self._stop = threading.Event()
        self._link: Link = "connecting"
        self._fault: str | None = None
        self._was_up = False
        self._size_px = (0, 0)
        self._codec = ""
        self._on_gpu = False
        self._without_gpu: str | None = None
        self._frames = self._run_frames = self._segments = 0
        self._errors = self._stream_errors = 0
        self._reconnects = self._stalls = 0
        self._dropped: Counter[str] = Counter()
        self._invalid: Counter[str] = Counter()
        self._last_frame_s: float | None = None
        self._paced: tuple[float, float] | None = None

    def stop(self) -> None:
        self._stop.set()

    def look(self) -> None:
        """``show`` gets the next frame that is well; from any thread."""
        self._looked_for = True

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def wait_stopped(self, timeout_s: float) -> bool:
        return self._stop.wait(timeout_s)

    def health(self) -> CameraHealth:
        """From any thread."""
        recorder = self.recorder
        return CameraHealth(
            link=self._link,
            fault=self._fault,
            width_px=self._size_px[0],
            height_px=self._size_px[1],
            codec=self._codec,
            on_gpu=None if self._asked_gpu is None else self._on_gpu,
            without_gpu=self._without_gpu,
            source_fps=self.cutter.segmenter.source_fps if self._frames else 0.0,
            frames_decoded=self._frames,
            segments=self._segments,
            dropped=dict(self._dropped),
            invalid=dict(self._invalid),
            decode_errors=self._errors + self._stream_errors,
            reconnects=self._reconnects,
            stalls=self._stalls,
            last_frame_s=self._last_frame_s,
            picture_faults=self.cutter.picture_faults,
            picture_learnt=self.cutter.sight.learnt,
            drift_ppm=self.cutter.drift.ppm,
            lag_s=self.cutter.drift.lag_s,
            recorder_s=0.0 if recorder is None else recorder.held_s,
            recorder_short=recorder is not None and recorder.short,
        )

    def run(self) -> None:
        """Until ``stop``; a file once. Ends without an exception for every fault of the stream."""
        failures = 0
        while not self._stop.is_set():
            try:
                self.run_once()
                fault = StreamFault("ended", _ended(self._run_frames))
            except StreamFault as error:
                fault = error
            self._mark(Doing.WAITING)
            if self._stop.is_set():
                break
            if fault.reason == "nvdec" and (self._live or not self._run_frames):
                # Once and for all: a GPU that fails now and then would cost a hole each time.
                self._give_up_gpu(fault)
                continue
            if not self._live:
                self._end_file(fault)
                return
            failures = 1 if self._run_frames >= FRAMES_PER_SEGMENT else failures + 1
            self._lose(fault)
            least_s, most_s = self.settings.backoff_min_s, self.settings.backoff_max_s
            self._stop.wait(backoff_s(failures, least_s, most_s, self._chance()))

    def run_once(self) -> None:
        """From opening to the stream's end; raises StreamFault where it breaks."""
        self._run_frames = 0
        self._paced = None
        self._mark(Doing.OPENING)
        with self._open(self.settings) as stream:
            self.cutter.interrupt(stream.nominal_s)
            self._codec = stream.codec
            if self.recorder is not None:
                self.recorder.opened(stream)
            try:
                self._read(stream)
            finally:
                self._mark(Doing.OPENING)  # closing may hang as opening may
                self._errors, self._stream_errors = self._errors + stream.decode_errors, 0
        self._mark(Doing.WAITING)

    def _read(self, stream: Stream) -> None:
        plays = self._live and Source.of(self.settings.url).scheme == "file"
        opened_s = time.monotonic()
        self._mark(Doing.READING)
        for packet in stream.packets():
            if plays:
                self._pace(packet, stream)
            if self._stop.is_set():
                return
            self._mark(Doing.DECODING)
            captured_s, captured_wall_s = time.monotonic(), time.time()
            if packet.stream_index == stream.video.index:
                for decoded in self._decode(stream, packet):
                    self._take(decoded, captured_s, captured_wall_s)
                self._stream_errors = stream.decode_errors
            if self.recorder is not None and packet.size:
                # Decoded first: by then the decoder knows of a new picture size.
                self.recorder.add(packet, captured_s)
            silent_s = captured_s - max(self._last_frame_s or 0.0, opened_s)
            if self._live and silent_s > self.settings.stall_timeout_s:
                raise StreamFault("stall", f"data comes, but no picture could be decoded for {silent_s:.0f} s")
            lag_s, limit_s = self.cutter.drift.lag_s, self.settings.lag_limit_s
            if lag_s is not None and limit_s is not None and lag_s > limit_s:
                raise StreamFault("late", _LATE.format(lag_s=lag_s))
            self._mark(Doing.READING)

    def _decode(self, stream: Stream, packet: Packet) -> list[Decoded]:  # type: ignore[type-arg]
        if self._asked_gpu is None:
            return stream.decode(packet)
        if stream.awaits_gpu:
            self._mark(Doing.WAITING)
            with nvdec.TURN:
                self._mark(Doing.DECODING)
                frames = stream.decode(packet)
        else:
            frames = stream.decode(packet)
        self._on_gpu = stream.on_gpu
        if self._on_gpu:
            self._without_gpu = None
        elif stream.without_gpu is not None:
            self._without_gpu = stream.without_gpu
        return frames

    def _give_up_gpu(self, fault: StreamFault) -> None:
        self.settings = replace(self.settings, gpu=None)
        self._on_gpu, self._without_gpu = False, fault.sentence
        self._lose(fault)

    def _take(self, decoded: Decoded, captured_s: float, captured_wall_s: float) -> None:
        self._frames += 1
        self._run_frames += 1
        self._last_frame_s = captured_s
        self._size_px = (decoded.frame.width, decoded.frame.height)
        if self._link != "up" and decoded.fault is None:
            self._reconnects += self._was_up
            self._was_up = True
            self._set_link("up", None)
        if self._looked_for and decoded.fault is None:
            self._looked_for = False
            with suppress(av.error.FFmpegError, ValueError):  # then there is no picture, and the scores go on
                self._show(self._glance.jpeg(decoded.frame), captured_wall_s)
        for cut in self.cutter.push(decoded, captured_s, captured_wall_s):
            self._hand_over(cut)

    def _hand_over(self, cut: Cut) -> None:
        if cut.lost:
            self._dropped["no_slot"] += 1
            return
        if cut.piece.invalid is not None:
            self._invalid[cut.piece.invalid] += 1
        else:
            self._segments += 1
        self._deliver(cut)

    def _pace(self, packet: Packet, stream: Stream) -> None:  # type: ignore[type-arg]
        """Plays a file in real time, by its time stamps."""
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is None or packet.stream_index != stream.video.index:
            return
        stamp_s, now_s = float(stamp * packet.time_base), time.monotonic()
        start_s, first_s = self._paced or (now_s, stamp_s)
        wait_s = start_s + (stamp_s - first_s) - now_s
        if abs(wait_s) > LONGEST_PACE_S:
            start_s, first_s, wait_s = now_s, stamp_s, 0.0
        self._paced = (start_s, first_s)
        if wait_s > 0:
            self._mark(Doing.WAITING)
            self._stop.wait(wait_s)

    def _lose(self, fault: StreamFault) -> None:
        self._stalls += fault.reason == "stall"
        self._set_link("lost", fault.sentence)

    def _end_file(self, fault: StreamFault) -> None:
        for cut in self.cutter.finish():
            self._hand_over(cut)
        self._set_link("ended", None if fault.reason == "ended" else fault.sentence)

    def _set_link(self, link: Link, fault: str | None) -> None:
        changed = (self._link, self._fault) != (link, fault)
        self._link, self._fault = link, fault
        if changed:
            self._changed()
