"""RTFM: a multi-scale temporal network whose features grow long where a segment is abnormal.

Tian et al.: Weakly-supervised video anomaly detection with robust temporal feature magnitude learning, ICCV 2021.
Three dilated convolutions (1, 2, 4) and a non-local block see near and far; concatenated, mixed and added to the input
they give each segment a feature whose length chooses the segments that a video is judged by, in training. 24,718,849
parameters at D = 2048.

Shape suffixes: B bags, T segments, D dimensions of a feature, H = D / 4 channels of a scale, I inner channels.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from monitor.detectors.detector import BagOutput, Detector, Horizon, scored


class Rtfm(Detector):
    """(B, T, D) → a score of each segment. ``channels`` of each scale: a quarter of D (512 at the published 2048)."""

    kind: ClassVar[str] = "rtfm"
    horizon: ClassVar[Horizon] = "short_term"

    def __init__(self, dimensions: int, channels: int | None = None, dropout: float = 0.7) -> None:
        super().__init__()
        width = max(1, dimensions // 4) if channels is None else channels
        self.arguments = {"dimensions": dimensions, "channels": width, "dropout": dropout}
        self.scales = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(dimensions, width, 3, padding=dilation, dilation=dilation), nn.ReLU(), nn.BatchNorm1d(width)
            )
            for dilation in (1, 2, 4)
        )
        self.narrow = nn.Sequential(nn.Conv1d(dimensions, width, 1, bias=False), nn.ReLU())
        self.far = NonLocal(width)
        self.mix = nn.Sequential(
            nn.Conv1d(4 * width, dimensions, 3, padding=1, bias=False), nn.ReLU(), nn.BatchNorm1d(dimensions)
        )
        self.fc1, self.fc2, self.fc3 = nn.Linear(dimensions, 512), nn.Linear(512, 128), nn.Linear(128, 1)
        self.dropout = nn.Dropout(dropout)
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def aggregated(self, features_BTD: Tensor) -> Tensor:
        """(B, T, D) features in the light of their neighbours; their lengths are RTFM's feature magnitudes."""
        features_BDT = features_BTD.transpose(1, 2)
        seen_BHT = [scale(features_BDT) for scale in self.scales]
        mixed_BDT = self.mix(torch.cat([*seen_BHT, self.far(self.narrow(features_BDT))], dim=1))
        dropped_BTD: Tensor = self.dropout((mixed_BDT + features_BDT).transpose(1, 2))
        return dropped_BTD

    def judged(self, aggregated_BTD: Tensor) -> BagOutput:
        """The scores of aggregated features."""
        inner_BTH = self.dropout(functional.relu(self.fc1(aggregated_BTD)))
        inner_BTH = self.dropout(functional.relu(self.fc2(inner_BTH)))
        return scored(self.fc3(inner_BTH).squeeze(-1))

    def forward(self, features_BTD: Tensor) -> BagOutput:
        return self.judged(self.aggregated(features_BTD))


class NonLocal(nn.Module):
    """(B, H, T) → (B, H, T): every segment plus what it takes from all others; begins as the identity.

    Affinities are products divided by T, without a softmax.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.theta, self.phi, self.g = (nn.Conv1d(channels, inner, 1) for _ in range(3))
        self.out = nn.Sequential(nn.Conv1d(inner, channels, 1), nn.BatchNorm1d(channels))
        nn.init.zeros_(self.out[1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.out[1].bias)  # type: ignore[arg-type]

    def forward(self, x_BHT: Tensor) -> Tensor:
        affinity_BTT = self.theta(x_BHT).transpose(1, 2) @ self.phi(x_BHT) / x_BHT.shape[2]
        taken_BIT = self.g(x_BHT) @ affinity_BTT.transpose(1, 2)
        added_BHT: Tensor = self.out(taken_BIT) + x_BHT
        return added_BHT
