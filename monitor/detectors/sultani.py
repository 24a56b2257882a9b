"""Sultani's detector: three layers a segment, each segment for itself; the field's first for weak labels.

Sultani, Chen, Shah: Real-world anomaly detection in surveillance videos, CVPR 2018: features L2-normalised, FC 512
ReLU, dropout 0.6, FC 32 identity, dropout 0.6, FC 1 sigmoid; weights drawn after Glorot.

Shape suffixes: B bags, T segments, D dimensions of a feature, H hidden.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from monitor.detectors.detector import BagOutput, Detector, Horizon, scored


class Sultani(Detector):
    """(B, T, D) → a score of each segment. The normalisation is inside: who serves it cannot forget it."""

    kind: ClassVar[str] = "sultani"
    horizon: ClassVar[Horizon] = "short_term"

    def __init__(self, dimensions: int, fc1: int = 512, fc2: int = 32, dropout: float = 0.6) -> None:
        super().__init__()
        self.arguments = {"dimensions": dimensions, "fc1": fc1, "fc2": fc2, "dropout": dropout}
        self.fc1 = nn.Linear(dimensions, fc1)
        self.fc2 = nn.Linear(fc1, fc2)
        self.fc3 = nn.Linear(fc2, 1)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.fc1, self.fc2, self.fc3):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features_BTD: Tensor) -> BagOutput:
        inner_BTH = self.dropout(functional.relu(self.fc1(functional.normalize(features_BTD, dim=2))))
        inner_BTH = self.dropout(self.fc2(inner_BTH))
        return scored(self.fc3(inner_BTH).squeeze(-1))
