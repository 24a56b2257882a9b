"""The one thread that owns one accelerator: segments in, scores of bags out, batched across cameras.

Shape suffixes: B segments in a batch, K frames, H, W, C of a picture; D of a feature; R rows of the store
(one a camera); T positions of a bag; G bags of one size.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from monitor.detectors.artefact import Artefact
from monitor.features.backbone import Backbone
from monitor.flow import BagScore, Segment, SegmentTimes
from monitor.scoring.ring import Bag, Ring


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


@dataclass(frozen=True, slots=True, kw_only=True)
class BagSettings:
    """l, s, d and the gap rule, in segments; ``files``: streams that end (their last bag may be short)."""

    length: int
    stride: int
    delay: int
    max_gap: int
    files: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a camera is: ``filled`` of l positions of its ring; the rest counts from the start."""

    filled: int = 0
    restarts: int = 0
    invalid: int = 0
    scored: int = 0


class Scoring:
    """Rings of all cameras on one device, without a thread: ``score`` turns segments into scores of bags.

    Features of all cameras lie in one (R, l, D) tensor on the device; rings name rows and slots of it.
    """

    def __init__(
        self, backbone: Backbone, artefact: Artefact, bags: BagSettings, device: torch.device
    ) -> None:
        self._backbone, self._artefact, self._bags, self._device = backbone, artefact, bags, device
        self._rings: dict[str, tuple[int, Ring]] = {}
        self._free_rows: list[int] = []
        self._store_RTD = torch.zeros(0, bags.length, artefact.dimensions, device=device)
        self.progress: dict[str, Progress] = {}
        """One frozen value a camera; other threads read it by ``dict(scoring.progress)``."""

    def forget(self, camera: str) -> None:
        """Drops a removed camera's ring; its row is used again."""
        held = self._rings.pop(camera, None)
        if held is not None:
            self._free_rows.append(held[0])
        self.progress.pop(camera, None)

    def encode(self, segments: Sequence[Segment]) -> Tensor:
        """(B, D) standardised features of the segments, on the device."""
        pictures_BKHWC = np.stack([s.pictures for s in segments if s.pictures is not None])
        with torch.inference_mode():
            return self._artefact.standardise(self._backbone.encode(pictures_BKHWC).to(self._device))

    def score(self, segments: Sequence[Segment], features_BD: Tensor | None) -> list[BagScore]:
        """Pushes segments and scores bags; ``features_BD`` are of those with pictures, in the same order."""
        gathered: list[tuple[str, Bag, Tensor]] = []
        features = iter(() if features_BD is None else features_BD)
        with torch.inference_mode():
            for segment in segments:
                index, ring = self._ring(segment.camera)
                if segment.last:
                    gathered += [self._gather(segment.camera, index, bag) for bag in ring.end()]
                elif segment.pictures is None:
                    self._note(segment.camera, ring, invalid=1)
                else:
                    step = ring.push(_times(segment))
                    gathered += [self._gather(segment.camera, index, bag) for bag in step.before]
                    self._store_RTD[index, step.slot] = next(features)
                    gathered += [self._gather(segment.camera, index, bag) for bag in step.bags]
                    self._note(segment.camera, ring, restarts=int(step.restarted), scored=1)
            return self._detect(gathered)

    def _ring(self, camera: str) -> tuple[int, Ring]:
        held = self._rings.get(camera)
        if held is None:
            index = self._free_rows.pop() if self._free_rows else len(self._rings)
            if index >= len(self._store_RTD):
                grown_RTD = self._store_RTD.new_zeros(max(8, 2 * index), *self._store_RTD.shape[1:])
                grown_RTD[: len(self._store_RTD)] = self._store_RTD
                self._store_RTD = grown_RTD
            bags = self._bags
            ring = Ring(bags.length, bags.stride, bags.delay, bags.max_gap, file=bags.files)
            held = self._rings[camera] = (index, ring)
        return held

    def _gather(self, camera: str, index: int, bag: Bag) -> tuple[str, Bag, Tensor]:
        return camera, bag, self._store_RTD[index, list(bag.slots)]

    def _note(self, camera: str, ring: Ring, *, restarts: int = 0, invalid: int = 0, scored: int = 0) -> None:
        old = self.progress.get(camera, Progress())
        self.progress[camera] = Progress(
            filled=ring.filled,
            restarts=old.restarts + restarts,
            invalid=old.invalid + invalid,
            scored=old.scored + scored,
        )

    def _detect(self, gathered: list[tuple[str, Bag, Tensor]]) -> list[BagScore]:
        """One call of the ensemble for each size of bag; the order of ``gathered`` is kept."""
        scores: list[BagScore | None] = [None] * len(gathered)
        sizes: dict[int, list[int]] = {}
        for at, (_, bag, _) in enumerate(gathered):
            sizes.setdefault(len(bag.slots), []).append(at)
        for places in sizes.values():
            output = self._artefact.ensemble(torch.stack([gathered[at][2] for at in places]))
            parts = torch.stack(
                [output.scores_BT, output.long_term_BT, output.short_term_BT, output.attention_BT]
            )
            parts_4GT = parts.to(dtype=torch.float32, device="cpu").numpy()
            now_s = time.monotonic()
            for g, at in enumerate(places):
                camera, bag, _ = gathered[at]
                scores[at] = BagScore(
                    camera=camera,
                    times=bag.times,
                    scores_N=parts_4GT[0, g],
                    long_term_N=parts_4GT[1, g],
                    short_term_N=parts_4GT[2, g],
                    attention_N=parts_4GT[3, g],
                    bridged=bag.bridged,
                    published=bag.published,
                    scored_s=now_s,
                    last=bag.last,
                )
        return [score for score in scores if score is not None]


class Scorer:
    """The thread around ``Scoring``. ``with Scorer(…)``: leaving it drains, for at most ``drain_s``."""

    def __init__(
        self,
        scoring: Scoring,
        source: Source,
        sink: Sink,
        *,
        batch_max: int,
        deadline_s: float,
        drained: Callable[[], bool] = lambda: True,
    ) -> None:
        self._scoring, self._source, self._sink = scoring, source, sink
        self._batch_max, self._deadline_s, self._drained = batch_max, deadline_s, drained
        self._stopping = threading.Event()
        self._forget: list[str] = []
        self._forget_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="scorer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, drain_s: float) -> bool:
        """Scores what still lies in the source, for at most ``drain_s``; False where that was not enough."""
        self._stopping.set()
        self._thread.join(drain_s)
        return not self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()

    def forget(self, cameras: Iterable[str]) -> None:
        """Drops the rings of removed cameras at the next turn; any thread."""
        with self._forget_lock:
            self._forget += cameras

    def _run(self) -> None:
        try:
            while self._turn():
                self._sink.turned()
        except BaseException as error:
            self._sink.failed(error)

    def _turn(self) -> bool:
        """One batch; False when stopping and the source is empty."""
        with self._forget_lock:
            forget, self._forget = self._forget, []
        for camera in forget:
            self._scoring.forget(camera)
        segments = self._source.take(self._batch_max, self._deadline_s, 0.5)
        if not segments:
            return not (self._stopping.is_set() and self._drained())
        real = [segment for segment in segments if segment.pictures is not None]
        started_s = time.perf_counter()
        try:
            features_BD = self._scoring.encode(real) if real else None
            if features_BD is not None and features_BD.is_cuda:
                torch.cuda.synchronize(features_BD.device)
        finally:
            self._source.release(segments)
        encoded_s = time.perf_counter()
        bags = self._scoring.score(segments, features_BD)
        self._sink.batch(len(real), encoded_s - started_s, time.perf_counter() - encoded_s)
        if bags:
            self._sink.scored(bags)
        return True


def _times(segment: Segment) -> SegmentTimes:
    return SegmentTimes(
        number=segment.number,
        start_s=segment.start_s,
        end_s=segment.end_s,
        captured_s=segment.captured_s,
        captured_wall_s=segment.captured_wall_s,
    )
