"""The ensemble: a segment's score is the mean of its detectors' scores (eq. 3).

Shape suffixes: B bags, T segments of a bag, D dimensions of a feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from monitor.detectors.detector import Detector


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EnsembleOutput:
    """The scores of B bags of T segments and where they come from, float32.

    ``long_term_BT`` and ``short_term_BT`` are the weighted means of the detectors of that horizon; where an
    ensemble has none of one, that part is the whole mean. ``attention_BT`` sums to 1 over T: the mean over
    the detectors that have an attention, 1/T everywhere where none has. ``parts_BT``: each detector's own.
    """

    scores_BT: Tensor
    long_term_BT: Tensor
    short_term_BT: Tensor
    attention_BT: Tensor
    parts_BT: Mapping[str, Tensor]


class Ensemble(nn.Module):
    """Any number of named detectors and their weights in the mean (equal ones where none are given)."""

    def __init__(self, detectors: Mapping[str, Detector], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        if not detectors:
            raise ValueError("an ensemble has at least one detector")
        self.weights = dict.fromkeys(detectors, 1.0) if weights is None else dict(weights)
        if set(self.weights) != set(detectors) or min(self.weights.values()) <= 0:
            raise ValueError(f"each of {', '.join(detectors)} has one weight above 0, got {self.weights}")
        self.detectors = nn.ModuleDict(detectors)

    def forward(self, features_BTD: Tensor) -> EnsembleOutput:
        outputs = {name: detector(features_BTD) for name, detector in self.detectors.items()}
        parts_BT = {name: output.scores_BT for name, output in outputs.items()}
        scores_BT = self._mean(parts_BT, list(parts_BT))
        horizons: dict[str, list[str]] = {"long_term": [], "short_term": []}
        for name, detector in self.detectors.items():
            horizons[str(detector.horizon)].append(name)
        attentions = [output.attention_BT for output in outputs.values() if output.attention_BT is not None]
        return EnsembleOutput(
            scores_BT=scores_BT,
            long_term_BT=self._mean(parts_BT, horizons["long_term"] or list(parts_BT)),
            short_term_BT=self._mean(parts_BT, horizons["short_term"] or list(parts_BT)),
            attention_BT=(
                torch.stack(attentions).mean(0) if attentions else torch.full_like(scores_BT, 1 / scores_BT.shape[1])
            ),
            parts_BT=parts_BT,
        )

    def __call__(self, features_BTD: Tensor) -> EnsembleOutput:
        output: EnsembleOutput = super().__call__(features_BTD)
        return output

    def _mean(self, parts_BT: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
        total = sum(self.weights[name] for name in names)
        return torch.stack([parts_BT[name] * (self.weights[name] / total) for name in names]).sum(0)
