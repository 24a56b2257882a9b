"""The scorer's thread, between a source and a sink that are lists."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from monitor.flow import BagScore, Segment
from monitor.scoring.scorer import Scorer


def segment(number: int) -> Segment:
    return Segment(
        camera="gate",
        number=number,
        start_s=0.0,
        end_s=1.0,
        captured_s=0.0,
        captured_wall_s=0.0,
        pictures=np.zeros((1, 2, 2, 3), dtype=np.uint8),
    )


class Rings:
    """Counts what it is given; ``fails`` on the first batch."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails, self.scored, self.forgotten = fails, list[int](), list[str]()

    def forget(self, camera: str) -> None:
        self.forgotten.append(camera)

    def encode(self, segments: Sequence[Segment]) -> torch.Tensor:
        if self.fails:
            raise RuntimeError("the accelerator is gone")
        return torch.zeros(len(segments), 1)

    def score(self, segments: Sequence[Segment], features_BD: torch.Tensor | None) -> list[BagScore]:
        self.scored += [one.number for one in segments]
        return []


class Pool:
    """A source that, once stopped, answers at once, as the reader pool does."""

    def __init__(self, *batches: list[Segment], stopped: bool = True) -> None:
        self.batches, self.stopped = list(batches), stopped
        self.asked = 0
        self.released: list[int] = []

    def take(self, most: int, deadline_s: float, timeout_s: float) -> list[Segment]:
        self.asked += 1
        if self.batches:
            return self.batches.pop(0)
        if not self.stopped:
            time.sleep(timeout_s)
        return []

    def release(self, segments: Iterable[Segment]) -> None:
        self.released += [one.number for one in segments]


class Sink:
    def __init__(self) -> None:
        self.turns = 0
        self.error: BaseException | None = None

    def scored(self, bags: Sequence[BagScore]) -> None: ...

    def batch(self, segments: int, backbone_s: float, detectors_s: float) -> None: ...

    def turned(self) -> None:
        self.turns += 1

    def failed(self, error: BaseException) -> None:
        self.error = error


@pytest.fixture
def scorer() -> Callable[..., tuple[Scorer, Sink]]:
    def make(rings: Any, pool: Pool) -> tuple[Scorer, Sink]:
        sink = Sink()
        return Scorer(rings, pool, sink, batch_max=8, deadline_s=0.0), sink

    return make


def test_what_lies_in_the_source_is_scored_before_it_ends(scorer: Callable[..., tuple[Scorer, Sink]]) -> None:
    rings, pool = Rings(), Pool([segment(0), segment(1)], [segment(2)])
    it, sink = scorer(rings, pool)
    it.start()
    assert it.stop(5.0)
    assert (rings.scored, pool.released, sink.error) == ([0, 1, 2], [0, 1, 2], None)


def test_a_failure_gives_its_slots_back_and_is_told(scorer: Callable[..., tuple[Scorer, Sink]]) -> None:
    pool = Pool([segment(0)])
    it, sink = scorer(Rings(fails=True), pool)
    it.start()
    assert it.stop(5.0)
    assert (pool.released, str(sink.error)) == ([0], "the accelerator is gone")


def test_a_source_that_has_ended_is_not_asked_in_a_busy_loop(scorer: Callable[..., tuple[Scorer, Sink]]) -> None:
    pool = Pool()
    it, sink = scorer(Rings(), pool)
    it.start()
    time.sleep(0.3)
    assert it.stop(5.0)
    assert 2 <= pool.asked <= 40
    assert sink.turns >= 1


def test_removed_cameras_are_forgotten_at_the_next_turn(scorer: Callable[..., tuple[Scorer, Sink]]) -> None:
    rings = Rings()
    it, _ = scorer(rings, Pool())
    it.forget(["gate"])
    it.forget(["yard"])
    it.start()
    assert it.stop(5.0)
    assert rings.forgotten == ["gate", "yard"]


def test_one_that_was_never_started_can_be_stopped(scorer: Callable[..., tuple[Scorer, Sink]]) -> None:
    it, _ = scorer(Rings(), Pool())
    assert it.stop(1.0)
