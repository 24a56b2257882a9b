"""CUDA graphs: a network recorded once for a few batch sizes and replayed, so that the CPU does not hold the GPU up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from monitor.features.backbone import Recipe
from monitor.features.engine import Encoder

if TYPE_CHECKING:
    from monitor.features.backbone import Batch

SIZES = (1, 2, 4, 8, 16, 32)
"""A batch is cut into these; what is left over is filled up to the next one."""
FROM_HOST = 8
"""Of pictures in the host's memory so many at a time: while the GPU works on them, the next ones are copied."""


def portions(batch: int, sizes: tuple[int, ...] = SIZES) -> list[tuple[int, int]]:
    """How ``batch`` segments are encoded: (segments, size of the graph), in order."""
    cut: list[tuple[int, int]] = []
    while batch:
        size = max((size for size in sizes if size <= batch), default=sizes[0])
        if batch < sizes[-1]:
            # One graph filled up, unless more than half of it would be filling.
            above = min(size for size in sizes if size >= batch)
            size = above if batch * 2 > above else size
        done = min(size, batch)
        cut.append((done, size))
        batch -= done
    return cut


class Graphs(Encoder):
    """``network`` (uint8 pictures → float32 features, on ``device``) as graphs, recorded at the start.

    Sizes for which the GPU's memory does not suffice are left out.
    """

    def __init__(
        self,
        recipe: Recipe,
        fingerprint: str,
        network: Callable[[Tensor], Tensor],
        device: torch.device,
        *,
        engine: str,
        sizes: tuple[int, ...] = SIZES,
    ) -> None:
        super().__init__(recipe, fingerprint, device)
        self.engine = engine
        self._network = network  # a graph knows where the weights lie, and does not hold them
        shape = (sizes[-1], *recipe.preprocessing.shape)
        self._pictures = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._staged = torch.zeros(shape, dtype=torch.uint8, pin_memory=True)
        self._recorded: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        pool: Any = None
        with (
            torch.inference_mode(),
            torch.cuda.device(device),
            torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False),
        ):
            # The largest first: the others live in its memory.
            for size in reversed(sizes):
                try:
                    graph, features_BD = record(network, self._pictures[:size], pool)
                except torch.cuda.OutOfMemoryError:
                    if size == sizes[0]:
                        raise
                    torch.cuda.empty_cache()
                    continue
                pool = pool or graph.pool()
                self._recorded[size] = graph, features_BD
        self.sizes = tuple(sorted(self._recorded))

    def encode(self, batch: Batch) -> Tensor:
        self.check(batch)
        there = isinstance(batch, Tensor) and batch.is_cuda
        if isinstance(batch, Tensor) and not there:
            batch = batch.numpy()
        sizes = self.sizes if there else tuple(size for size in self.sizes if size <= FROM_HOST)
        features_BD = torch.empty(len(batch), self.dimensions, device=self.device)
        stream = torch.cuda.current_stream(self.device)
        first = staged = 0
        with torch.inference_mode(), torch.cuda.device(self.device):
            for count, size in portions(len(batch), sizes):
                given: Any = batch[first : first + count]
                if not there:
                    if staged + count > len(self._staged):
                        # From the front again, once everything in there has been copied.
                        stream.synchronize()
                        staged = 0
                    held = self._staged[staged : staged + count]
                    # NumPy copies in this thread; torch's own would wait for threads that decoders keep from running.
                    np.stack(given, out=held.numpy())
                    given, staged = held, staged + count
                self._pictures[:count].copy_(given, non_blocking=True)
                graph, made_BD = self._recorded[size]
                graph.replay()
                features_BD[first : first + count].copy_(made_BD[:count])
                first += count
            if staged:
                # The next call stages from the front.
                stream.synchronize()
        return features_BD


def record(network: Callable[[Tensor], Tensor], pictures: Tensor, pool: Any) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """The graph and where its features will lie; the choice of kernels is made before."""
    aside: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(2):
            network(pictures)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        features_BD = network(pictures)
    return graph, features_BD
