"""The one thread that owns one accelerator: takes segments, encodes and scores them, hands the scores on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Protocol

import torch
from torch import Tensor

from monitor.detectors.canary import Curve
from monitor.flow import BagScore, Segment
from monitor.scoring.rings import Rings
from monitor.scoring.trial import Trial

IDLE_S = 0.02


class Source(Protocol):
    """Where segments come from: the reader pool."""

    def take(self, most: int, deadline_s: float, timeout_s: float) -> list[Segment]: ...

    def release(self, segments: Iterable[Segment]) -> None: ...


class Sink(Protocol):
    """Where scores go; called in the scorer's thread."""

    def scored(self, bags: Sequence[BagScore]) -> None: ...

    def batch(self, segments: int, backbone_s: float, detectors_s: float) -> None: ...

    def turned(self) -> None: ...

    def failed(self, error: BaseException) -> None: ...


class Scorer:
    """The thread around ``Rings``. ``with Scorer(…)``: leaving it drains, for at most ``drain_s``."""

    def __init__(
        self,
        rings: Rings,
        source: Source,
        sink: Sink,
        *,
        batch_max: int,
        deadline_s: float,
    ) -> None:
        self._rings, self._source, self._sink = rings, source, sink
        self._batch_max, self._deadline_s = batch_max, deadline_s
        self._stopping = threading.Event()
        self._forget: list[str] = []
        self._lock = threading.Lock()
        self._canary: _Canary | None = None
        self._thread = threading.Thread(target=self._run, name="scorer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, drain_s: float) -> bool:
        """Scores what still lies in the source, for at most ``drain_s``; False where that was not enough."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(drain_s)
        return not self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()

    def forget(self, cameras: Iterable[str]) -> None:
        """Drops the rings of removed cameras at the next turn; any thread."""
        with self._lock:
            self._forget += cameras

    def try_out(self, segments: Sequence[Segment]) -> Future[Curve]:
        """Encodes and scores the segments of a clip that is no camera's, one beside each batch; any thread.

        A run that has not come to its end is given up for this one.
        """
        asked = _Canary(segments, Trial(self._rings.backbone, self._rings.artefact))
        with self._lock:
            former, self._canary = self._canary, asked
        if former is not None:
            former.curve.cancel()
        return asked.curve

    def _run(self) -> None:
        try:
            while self._turn():
                self._sink.turned()
        except BaseException as error:
            self._sink.failed(error)

    def _turn(self) -> bool:
        """One batch; False when stopping and the source is empty."""
        with self._lock:
            forget, self._forget = self._forget, []
        for camera in forget:
            self._rings.forget(camera)
        canary = self._canary
        segments = self._source.take(self._batch_max, self._deadline_s, 0.5 if canary is None else 0.0)
        if not segments and canary is None:
            # A source that has ended answers at once: without the wait this would be a busy loop until ``stop``.
            return not self._stopping.wait(IDLE_S)
        if not segments and self._stopping.is_set():
            return False
        real = [segment for segment in segments if segment.pictures is not None]
        batch = real if canary is None else [*real, canary.next]
        started_s = time.perf_counter()
        try:
            features_BD = self._rings.encode(batch) if batch else None
            if features_BD is not None and features_BD.is_cuda:
                torch.cuda.synchronize(features_BD.device)
        finally:
            self._source.release(segments)
        encoded_s = time.perf_counter()
        if canary is not None and features_BD is not None:
            features_BD, own_1D = features_BD[:-1], features_BD[-1:]
            if canary.encoded(own_1D):
                self._finish(canary)
        bags = self._rings.score(segments, features_BD)
        self._sink.batch(len(real), encoded_s - started_s, time.perf_counter() - encoded_s)
        if bags:
            self._sink.scored(bags)
        return True

    def _finish(self, canary: _Canary) -> None:
        with self._lock:
            if self._canary is canary:
                self._canary = None
        if canary.curve.set_running_or_notify_cancel():  # else it was given up meanwhile
            canary.curve.set_result(canary.trial.curve())


class _Canary:
    """A clip on its way through the scorer."""

    def __init__(self, segments: Sequence[Segment], trial: Trial) -> None:
        self._left = list(segments)
        self.trial = trial
        self.curve: Future[Curve] = Future()

    @property
    def next(self) -> Segment:
        return self._left[0]

    def encoded(self, feature_1D: Tensor) -> bool:
        """Takes the feature of ``next``; whether it was the last one."""
        self.trial.take(feature_1D)
        del self._left[0]
        return not self._left
