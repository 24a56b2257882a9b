"""UR-DMU: a transformer that looks near and far, and two memories of what is normal and what is not.

Zhou, Yu, Yang: Dual memory units with uncertainty regulation for weakly supervised video anomaly detection, AAAI 2023.
Each segment is compared with 60 prototypes of the normal and 60 of the abnormal; what they remember of it is added to
what it is. 6,492,929 parameters at D = 1024.

Shape suffixes: B bags, T segments, D dimensions of a feature, E = 512 embedded, A heads, K prototypes of a memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from monitor.detectors.detector import BagOutput, Detector, Horizon, scored

EMBEDDED, HEADS, PROTOTYPES = 512, 4, 60


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Remembered:
    """What training needs of both halves of a batch; ``abnormal``/``normal`` say whose memory, A/N which videos."""

    logits_BT: Tensor
    """Abnormal videos first."""
    embedded_A: Tensor
    embedded_N: Tensor
    abnormal_of_A: Tensor
    """(B/2, T) how strongly the abnormal memory answers to abnormal videos; the other three alike."""
    normal_of_A: Tensor
    abnormal_of_N: Tensor
    normal_of_N: Tensor
    mean_N: Tensor
    log_variance_N: Tensor
    """(B/2, T, E) of what the normal memory remembers of normal videos."""
    recalled_A: Tensor
    recalled_N: Tensor
    """(B/2, T, E) what each half's own memory recalls: the mean for abnormal videos, drawn for normal ones."""


class UrDmu(Detector):
    """(B, T, D) → a score of each segment."""

    kind: ClassVar[str] = "ur_dmu"
    horizon: ClassVar[Horizon] = "short_term"

    def __init__(self, dimensions: int, blocks: int = 2, dropout: float = 0.5) -> None:
        super().__init__()
        self.arguments = {"dimensions": dimensions, "blocks": blocks, "dropout": dropout}
        self.embed = nn.Conv1d(dimensions, EMBEDDED, 3, padding=1)
        self.blocks = nn.ModuleList(Block(dropout) for _ in range(blocks))
        self.abnormal, self.normal = Memory(), Memory()
        self.mean, self.log_variance = nn.Linear(EMBEDDED, EMBEDDED), nn.Linear(EMBEDDED, EMBEDDED)
        self.fc1, self.fc2 = nn.Linear(2 * EMBEDDED, 128), nn.Linear(128, 1)

    def embedded(self, features_BTD: Tensor) -> Tensor:
        """(B, T, E)."""
        x_BTE: Tensor = functional.relu(self.embed(features_BTD.transpose(1, 2))).transpose(1, 2)
        for block in self.blocks:
            x_BTE = block(x_BTE)
        return x_BTE

    def _logits(self, x_BTE: Tensor, recalled_BTE: Tensor) -> Tensor:
        logits_BT: Tensor = self.fc2(functional.relu(self.fc1(torch.cat([x_BTE, recalled_BTE], dim=2)))).squeeze(-1)
        return logits_BT

    def forward(self, features_BTD: Tensor) -> BagOutput:
        x_BTE = self.embedded(features_BTD)
        recalled_BTE = self.mean(self.abnormal(x_BTE)[1]) + self.mean(self.normal(x_BTE)[1])
        return scored(self._logits(x_BTE, recalled_BTE))

    def training_output(self, features_BTD: Tensor) -> Remembered:
        """What ``forward`` does with a batch whose first half is abnormal, and all that the loss looks at."""
        x_BTE = self.embedded(features_BTD)
        x_A, x_N = x_BTE.chunk(2)
        abnormal_of_A, from_abnormal_A = self.abnormal(x_A)
        normal_of_A, from_normal_A = self.normal(x_A)
        abnormal_of_N, from_abnormal_N = self.abnormal(x_N)
        normal_of_N, from_normal_N = self.normal(x_N)
        mean_N, log_variance_N = self.mean(from_normal_N), self.log_variance(from_normal_N)
        # Uncertainty: what is normal varies, so it is drawn; what is abnormal is taken at its mean.
        recalled_N = mean_N + torch.randn_like(mean_N) * (log_variance_N / 2).exp()
        recalled_A = self.mean(from_abnormal_A)
        both_BTE = torch.cat([recalled_A + self.mean(from_normal_A), recalled_N + self.mean(from_abnormal_N)])
        return Remembered(
            logits_BT=self._logits(x_BTE, both_BTE).float(),
            embedded_A=x_A,
            embedded_N=x_N,
            abnormal_of_A=abnormal_of_A,
            normal_of_A=normal_of_A,
            abnormal_of_N=abnormal_of_N,
            normal_of_N=normal_of_N,
            mean_N=mean_N,
            log_variance_N=log_variance_N,
            recalled_A=recalled_A,
            recalled_N=recalled_N,
        )


class Memory(nn.Module):
    """(B, T, E) → how strongly it answers to each segment (B, T), and what it remembers of it (B, T, E)."""

    def __init__(self) -> None:
        super().__init__()
        self.prototypes_KE = nn.Parameter(torch.empty(PROTOTYPES, EMBEDDED))
        nn.init.uniform_(self.prototypes_KE, -1 / math.sqrt(EMBEDDED), 1 / math.sqrt(EMBEDDED))

    def forward(self, x_BTE: Tensor) -> tuple[Tensor, Tensor]:
        likeness_BTK = torch.sigmoid(x_BTE @ self.prototypes_KE.T / math.sqrt(EMBEDDED))
        strength_BT = likeness_BTK.topk(PROTOTYPES // 16 + 1, dim=2).values.mean(2)
        return strength_BT, likeness_BTK @ self.prototypes_KE


class Block(nn.Module):
    """A pre-norm transformer block: far by softmax attention, near by a fixed decay with the distance.

    The decay's weights sum to 1 for each segment that looks; in the authors' code for each that is looked at.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(EMBEDDED), nn.LayerNorm(EMBEDDED)
        self.project = nn.Linear(EMBEDDED, 4 * EMBEDDED, bias=False)
        self.out = nn.Sequential(nn.Linear(2 * EMBEDDED, EMBEDDED), nn.Dropout(dropout))
        self.feed = nn.Sequential(
            nn.Linear(EMBEDDED, EMBEDDED),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(EMBEDDED, EMBEDDED),
            nn.Dropout(dropout),
        )

    def forward(self, x_BTE: Tensor) -> Tensor:
        x_BTE = x_BTE + self._attend(self.norm1(x_BTE))
        fed_BTE: Tensor = x_BTE + self.feed(self.norm2(x_BTE))
        return fed_BTE

    def _attend(self, x_BTE: Tensor) -> Tensor:
        bags, segments, _ = x_BTE.shape
        q, k, v, t = self.project(x_BTE).reshape(bags, segments, 4, HEADS, -1).permute(2, 0, 3, 1, 4)
        far_BATS = functional.scaled_dot_product_attention(q, k, v)
        at_T = torch.arange(segments, device=x_BTE.device, dtype=torch.float32)
        near_TT = torch.exp(-(at_T[:, None] - at_T[None]).abs() / math.e)
        near_BATS = (near_TT / near_TT.sum(1, keepdim=True)).to(t.dtype) @ t
        both_BTE = torch.cat([far_BATS, near_BATS], dim=3).transpose(1, 2).flatten(2)
        attended_BTE: Tensor = self.out(both_BTE)
        return attended_BTE
