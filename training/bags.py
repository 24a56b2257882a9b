"""Segments of a video → bags (eq. 1), and → a fixed length for training.

N = segments of a video, T = the fixed length, D = feature dimensions, l = segments a bag.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from monitor.flow import SegmentTimes
from monitor.scoring.ring import Bag, Ring


def cut(segments: int, l: int) -> tuple[slice, ...]:  # noqa: E741 - the paper's letter
    """Eq. 1: a video's N segments in bags of l, in order; the last is kept, short and unpadded.

    Every segment lies in exactly one bag; N < l is one bag; N = 0 is none.
    """
    if l < 1:
        raise ValueError(f"a bag holds at least one segment (got l = {l})")
    return tuple(slice(start, min(start + l, segments)) for start in range(0, segments, l))


def resample(features_NX: Tensor, length: int) -> Tensor:
    """(N, …) → (T, …): the mean of bins between ``linspace(0, N, T + 1)`` in int64; repeats where N < T.

    An empty bin takes the segment at its start (the authors' code).
    """
    segments = len(features_NX)
    if segments == 0:
        raise ValueError("a video without segments cannot be resampled")
    edges = np.linspace(0, segments, length + 1).astype(np.int64)
    if segments < length:
        return features_NX[torch.from_numpy(edges[:-1]).to(features_NX.device)]
    lengths_T = torch.from_numpy(np.diff(edges)).to(features_NX.device)
    means_TY = torch.segment_reduce(features_NX.flatten(1), "mean", lengths=lengths_T, axis=0)
    return means_TY.reshape(length, *features_NX.shape[1:])


@dataclass(frozen=True, slots=True)
class Reading:
    """A bag of a file and the segments whose public score it gives (both as positions in the file)."""

    bag: slice
    published: slice


def readings(segments: int, l: int, stride: int, delay: int) -> tuple[Reading, ...]:  # noqa: E741
    """Which bag gives which segments of a file their public score, by the monitor's own ring.

    Each segment is published exactly once; ``stride = l, delay = 0`` is eq. 1.
    """
    ring = Ring(l, stride, delay, max_gap=0, file=True)
    bags: list[Bag] = []
    for number in range(segments):
        at = float(number)
        times = SegmentTimes(number=number, start_s=at, end_s=at, captured_s=at, captured_wall_s=at)
        step = ring.push(times)
        bags += [*step.before, *step.bags]
    return tuple(_reading(bag) for bag in (*bags, *ring.end()) if bag.published)


def _reading(bag: Bag) -> Reading:
    numbers = [times.number for times in bag.times if times is not None]
    first, last = numbers[bag.published[0]], numbers[bag.published[-1]]
    return Reading(slice(numbers[0], numbers[-1] + 1), slice(first, last + 1))
