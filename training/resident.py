"""Training videos on a device: every video resampled to T segments, one tensor a label, batches drawn by tables.

V videos of a label, C crops, T segments a resampled video, P dimensions, H = videos of a label in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training import bags

Sampling = Literal["random", "epochs"]
"""``random``: each batch anew, with replacement (the paper's MIL steps). ``epochs``: each once before any twice."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resident:
    """What a training run draws from; nothing of it is copied again while it runs."""

    abnormal_VCTP: Tensor
    normal_VCTP: Tensor
    chances: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    """How often a video is drawn, of each label; sums to 1."""

    @property
    def crops(self) -> int:
        return int(self.abnormal_VCTP.shape[1])

    @property
    def dimensions(self) -> int:
        return int(self.abnormal_VCTP.shape[3])

    def take(self, halves_2H: Tensor, *, crops_together: bool) -> tuple[Tensor, Tensor]:
        """The drawn abnormal and normal bags (B, T, P), by a row of ``draw``; with all crops, B = H·C."""
        taken = []
        for videos_VCTP, chosen_H in zip((self.abnormal_VCTP, self.normal_VCTP), halves_2H, strict=True):
            samples_VCTP = videos_VCTP if crops_together else videos_VCTP.flatten(0, 1)
            taken.append(samples_VCTP.index_select(0, chosen_H).reshape(-1, *videos_VCTP.shape[2:]))
        return taken[0], taken[1]

    def draw(
        self, steps: int, half: int, random: np.random.Generator, *, sampling: Sampling, crops_together: bool
    ) -> npt.NDArray[np.int64]:
        """(steps, 2, H) which abnormal and which normal samples each step takes; crops are samples unless together.

        Made on the host, so that it is the same on every device.
        """
        rows = np.empty((steps, 2, half), dtype=np.int64)
        crops = 1 if crops_together else self.crops
        for label, odds in enumerate(self.chances):
            if sampling == "random":
                drawn = random.choice(len(odds), size=(steps, half), p=odds)
                rows[:, label] = drawn * crops + random.integers(0, crops, size=drawn.shape)
            else:
                count = len(odds) * crops
                rounds = -(-steps * half // count)
                order = np.concatenate([random.permutation(count) for _ in range(rounds)])
                rows[:, label] = order[: steps * half].reshape(steps, half)
        return rows


def on_device(features: npt.NDArray[np.floating] | Tensor, device: torch.device | str) -> Tensor:
    """Features as a tensor there; arrays are copied, as a memory-mapped one must not be written to."""
    return features.to(device) if isinstance(features, Tensor) else torch.as_tensor(np.array(features), device=device)


def place(
    features: Sequence[npt.NDArray[np.floating] | Tensor],
    labels: npt.NDArray[np.int64],
    segments: int,
    device: torch.device | str,
    *,
    chances: npt.NDArray[np.float64] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Resident:
    """Videos (N, C, P), resampled to T = ``segments``, on the device. Raises ValueError where one label has none.

    ``chances`` (V,): how often each is drawn in relation to others of its label; alike where None.
    """
    if set(labels.tolist()) != {0, 1}:
        raise ValueError("training needs normal and abnormal videos")
    weights = np.ones(len(labels)) if chances is None else chances
    made: list[Tensor] = []
    odds: list[npt.NDArray[np.float64]] = []
    for label in (1, 0):
        chosen = np.flatnonzero(labels == label).tolist()
        first = features[chosen[0]]
        videos_VCTP = torch.empty(len(chosen), first.shape[1], segments, first.shape[2], dtype=dtype, device=device)
        for row, index in enumerate(chosen):
            features_NCP = on_device(features[index], device).float()
            videos_VCTP[row] = bags.resample(features_NCP, segments).transpose(0, 1)
        made.append(videos_VCTP)
        odds.append(weights[chosen] / weights[chosen].sum())
    return Resident(abnormal_VCTP=made[0], normal_VCTP=made[1], chances=(odds[0], odds[1]))
