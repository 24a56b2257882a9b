"""CUDA graphs: a network recorded once for a few batch sizes and replayed, so that the CPU does not hold the GPU up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monitor.features.backbone import Recipe
from monitor.features.engine import Encoder

SIZES = (1, 2, 4, 8, 16, 32)
"""A batch is cut into these; what is left over is filled up to the next one."""


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
    """``network`` (uint8 pictures → float32 features, on ``device``) as graphs, recorded at the start."""

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
        self.sizes = sizes
        shape = (sizes[-1], *recipe.preprocessing.shape)
        self._pictures = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._staged = torch.zeros(shape, dtype=torch.uint8, pin_memory=True)
        self._recorded: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        pool = None
        with (
            torch.inference_mode(),
            torch.cuda.device(device),
            torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False),
        ):
            # The largest first: the others live in its memory.
            for size in reversed(sizes):
                graph, features_BD = record(network, self._pictures[:size], pool)
                pool = pool or graph.pool()
                self._recorded[size] = graph, features_BD

    def encode(self, pictures_BKHWC: npt.NDArray[np.uint8] | Tensor) -> Tensor:
        self.check(pictures_BKHWC)
        pictures = torch.as_tensor(pictures_BKHWC)
        features_BD = torch.empty(len(pictures), self.dimensions, device=self.device)
        first = 0
        for count, size in portions(len(pictures), self.sizes):
            here = slice(first, first + count)
            if pictures.is_cuda:
                self._pictures[:count].copy_(pictures[here])
            else:
                # The next portion may overwrite it only when this one has been copied.
                torch.cuda.current_stream(self.device).synchronize()
                self._staged[:count].copy_(pictures[here])
                self._pictures[:count].copy_(self._staged[:count], non_blocking=True)
            graph, made_BD = self._recorded[size]
            graph.replay()
            features_BD[here].copy_(made_BD[:count])
            first += count
        return features_BD


def record(
    network: Callable[[Tensor], Tensor], pictures: Tensor, pool: tuple[int, int] | None
) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """The graph and where its features will lie; the choice of kernels is made before."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(2):
            network(pictures)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        features_BD = network(pictures)
    return graph, features_BD
