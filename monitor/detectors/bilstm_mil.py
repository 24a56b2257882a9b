"""Bi-LSTM + MIL, the short-term detector: each segment gets a score, in the light of its neighbours.

The paper, section 3.2: a two-layer Bi-LSTM (hidden 256, so 512 a segment), FC 512 SiLU, dropout 0.6, FC 32
identity, dropout 0.6, FC 1 sigmoid. Trained by multiple-instance learning (eq. 2).

Shape suffixes: B bags, T segments, D dimensions of a feature, E = twice the hidden size.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from monitor.detectors.detector import BagOutput, Detector, Horizon, scored


class BiLstmMil(Detector):
    """(B, T, D) → a score of each segment. ``fc1``, ``fc2`` and ``fc3`` are the matrices W of eq. 2."""

    kind: ClassVar[str] = "bilstm_mil"
    horizon: ClassVar[Horizon] = "short_term"

    def __init__(self, dimensions: int, hidden: int = 256, fc1: int = 512, fc2: int = 32, dropout: float = 0.6) -> None:
        super().__init__()
        self.arguments = {
            "dimensions": dimensions,
            "hidden": hidden,
            "fc1": fc1,
            "fc2": fc2,
            "dropout": dropout,
        }
        self.lstm = nn.LSTM(dimensions, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.fc1 = nn.Linear(2 * hidden, fc1)
        self.fc2 = nn.Linear(fc1, fc2)
        self.fc3 = nn.Linear(fc2, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features_BTD: Tensor) -> BagOutput:
        states_BTE = self.lstm(features_BTD)[0]
        inner_BTH = self.dropout(functional.silu(self.fc1(states_BTE)))
        inner_BTH = self.dropout(self.fc2(inner_BTH))
        return scored(self.fc3(inner_BTH).squeeze(-1))
