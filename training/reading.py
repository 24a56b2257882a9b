"""Scores of many videos at once: their bags, by the monitor's own ring, batched by length on a device.

V videos, S segments of all videos together, C crops, T segments of a bag, P dimensions, G bags of one length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monitor.detectors.detector import Detector
from training import bags, resident

BYTES_AT_ONCE = 1 << 30
"""Of features gathered for one call; a detector's activations come on top."""
BYTES_AT_ONCE_CPU = 1 << 26


class Reading:
    """Videos ready to be scored again and again: features on a device, and which bag publishes which segment.

    ``stride = l, delay = 0`` is the paper's inference (eq. 1), short last bags included.
    """

    def __init__(
        self,
        features: Sequence[npt.NDArray[np.floating] | Tensor],
        *,
        length: int,
        stride: int | None = None,
        delay: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """``features``: (N, C, P) a video. ``stride`` None: l."""
        self.lengths = np.array([len(video) for video in features], dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self.lengths)])
        first = features[0]
        self.features_SCP = torch.empty(int(self._starts[-1]), *first.shape[1:], dtype=dtype, device=device)
        for start, video in zip(self._starts, features, strict=False):
            self.features_SCP[start : start + len(video)] = resident.on_device(video, device).to(dtype)
        self._groups = _groups(self.lengths, self._starts, length, length if stride is None else stride, delay, device)

    def __call__(self, score: Callable[[Tensor], Tensor]) -> Tensor:
        """(S,) published scores: ``score`` turns bags (G·C, T, P) float32 into (G·C, T); crops are averaged."""
        out_S = torch.empty(len(self.features_SCP), device=self.features_SCP.device)
        crops, dimensions = self.features_SCP.shape[1:]
        budget = BYTES_AT_ONCE if self.features_SCP.is_cuda else BYTES_AT_ONCE_CPU
        for length, (starts_G, bag_K, place_K, segment_K) in self._groups.items():
            step = max(1, budget // (4 * length * crops * dimensions))
            scores = []
            for begin in range(0, len(starts_G), step):
                rows_GT = starts_G[begin : begin + step, None] + torch.arange(length, device=starts_G.device)
                bags_GTCP = self.features_SCP[rows_GT].float()
                bags_BTP = bags_GTCP.transpose(1, 2).reshape(-1, length, dimensions)
                scores.append(score(bags_BTP).float().reshape(-1, crops, length).mean(dim=1))
            out_S[segment_K] = torch.cat(scores)[bag_K, place_K]
        return out_S

    def scores(self, detector: Detector) -> Tensor:
        """(S,) the detector's published scores, in eval mode, without gradients."""
        with torch.inference_mode():
            return self(lambda bags_BTP: detector(bags_BTP).scores_BT)

    def split(self, scores_S: Tensor | npt.NDArray[np.floating]) -> list[npt.NDArray[np.float32]]:
        """(S,) → (N,) of each video."""
        held = scores_S.cpu().numpy() if isinstance(scores_S, Tensor) else scores_S
        return [part.astype(np.float32) for part in np.split(held, self._starts[1:-1])]

    def highest(self, scores_S: Tensor) -> npt.NDArray[np.float64]:
        """(V,) each video's highest published score."""
        return np.array([part.max() for part in self.split(scores_S)], dtype=np.float64)


Group = tuple[Tensor, Tensor, Tensor, Tensor]


def _groups(
    lengths: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    length: int,
    stride: int,
    delay: int,
    device: torch.device | str,
) -> dict[int, Group]:
    """Bag length → (G,) first segments; and of each published segment: its bag, its place in it, itself."""
    firsts: dict[int, list[int]] = {}
    published: dict[int, list[tuple[int, int, int]]] = {}
    known: dict[int, tuple[bags.Reading, ...]] = {}
    for start, count in zip(starts.tolist(), lengths.tolist(), strict=False):
        if count not in known:
            known[count] = bags.readings(count, length, stride, delay)
        for reading in known[count]:
            size = reading.bag.stop - reading.bag.start
            rows = firsts.setdefault(size, [])
            for segment in range(reading.published.start, reading.published.stop):
                published.setdefault(size, []).append((len(rows), segment - reading.bag.start, start + segment))
            rows.append(start + reading.bag.start)
    made: dict[int, Group] = {}
    for size, rows in sorted(firsts.items()):
        bag_K, place_K, segment_K = torch.tensor(published[size], device=device).unbind(1)
        made[size] = (torch.tensor(rows, device=device), bag_K, place_K, segment_K)
    return made
