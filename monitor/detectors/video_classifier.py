"""Video Classifier, the long-term detector: attention pools a bag, and the bag gets one score.

The paper, section 3.1: ``A1 = tanh(F W1 + b1)``, ``A2 = softmax over time (A1 W2 + b2)`` with three heads,
dropout on the weights after the softmax, ``M = Fᵀ A2`` flattened, FC1 identity, FC2 sigmoid. 328,004
parameters at D = 2048. The dagger variant puts a two-layer Bi-LSTM before the attention.

Shape suffixes: B bags, T segments, D dimensions of a feature, R attention heads, E dimensions that are pooled
(D, or twice the LSTM's hidden size), H hidden.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from monitor.detectors.detector import BagOutput, Detector, Horizon, scored


class VideoClassifier(Detector):
    """(B, T, D) → one score a bag, repeated over its T segments.

    ``recurrent``: None, or the hidden size of the dagger variant's Bi-LSTM (256). ``pool``: what its
    attention pools, the Bi-LSTM's ``states`` (Lin et al.) or the ``features``; the same without a Bi-LSTM.
    """

    kind: ClassVar[str] = "video_classifier"
    horizon: ClassVar[Horizon] = "long_term"

    def __init__(
        self,
        dimensions: int,
        hidden: int = 64,
        heads: int = 3,
        fc: int = 32,
        dropout: float = 0.3,
        recurrent: int | None = None,
        pool: Literal["states", "features"] = "states",
    ) -> None:
        super().__init__()
        if pool not in ("states", "features"):
            raise ValueError(f"pool is 'states' or 'features', not '{pool}'")
        self.arguments = {
            "dimensions": dimensions,
            "hidden": hidden,
            "heads": heads,
            "fc": fc,
            "dropout": dropout,
            "recurrent": recurrent,
            "pool": pool,
        }
        self.pool = pool
        self.lstm = (
            nn.LSTM(dimensions, recurrent, num_layers=2, bidirectional=True, batch_first=True) if recurrent else None
        )
        seen = 2 * recurrent if recurrent else dimensions
        pooled = seen if pool == "states" else dimensions
        self.attend1 = nn.Linear(seen, hidden)
        self.attend2 = nn.Linear(hidden, heads)
        self.dropout = nn.Dropout(dropout)
        self.fc1 = nn.Linear(heads * pooled, fc)
        self.fc2 = nn.Linear(fc, 1)

    def forward(self, features_BTD: Tensor) -> BagOutput:
        states_BTE = features_BTD if self.lstm is None else self.lstm(features_BTD)[0]
        pooled_BTE = states_BTE if self.pool == "states" else features_BTD
        attention_BTR = torch.softmax(self.attend2(torch.tanh(self.attend1(states_BTE))), dim=1)
        memory_BRE = self.dropout(attention_BTR).transpose(1, 2) @ pooled_BTE
        logits_B1 = self.fc2(self.fc1(memory_BRE.flatten(1)))
        logits_BT = logits_B1.expand(-1, features_BTD.shape[1])
        return scored(logits_BT, attention_BTR.float().mean(2))
