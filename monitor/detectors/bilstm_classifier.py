"""Bi-LSTM classifier: Video Classifier without its attention, the ablation of the paper's Table 1.

A two-layer Bi-LSTM (hidden 256), its last step, dropout 0.5, FC 1 sigmoid: one score a bag (authors' code).

Shape suffixes: B bags, T segments, D dimensions of a feature, E = twice the hidden size.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from monitor.detectors.detector import BagOutput, Detector, Horizon, scored


class BiLstmClassifier(Detector):
    """(B, T, D) → one score a bag, repeated over its T segments."""

    kind: ClassVar[str] = "bilstm_classifier"
    horizon: ClassVar[Horizon] = "long_term"

    def __init__(self, dimensions: int, hidden: int = 256, dropout: float = 0.5) -> None:
        super().__init__()
        self.arguments = {"dimensions": dimensions, "hidden": hidden, "dropout": dropout}
        self.lstm = nn.LSTM(dimensions, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2 * hidden, 1)

    def forward(self, features_BTD: Tensor) -> BagOutput:
        last_BE = self.lstm(features_BTD)[0][:, -1]
        return scored(self.fc(self.dropout(last_BE)).expand(-1, features_BTD.shape[1]))
