"""How each kind of detector is trained: its published defaults and its loss.

A loss has no host synchronisation, no shape that depends on data and no branch on values: the trainer records a step as a
CUDA graph.

B bags, T segments, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from monitor.detectors.bilstm_mil import BiLstmMil
from monitor.detectors.detector import Detector
from training import losses


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One kind's schedule as published, and its loss."""

    loss: Callable[[Detector, Tensor, Tensor, int], Tensor]
    """(network in training, abnormal (B, T, D), normal (B, T, D), crops) → scalar. Where crops come together, B counts
    videos × crops, a video's crops adjacent; else ``crops`` is 1."""
    optimiser: Callable[..., torch.optim.Optimizer]
    """(network, *, learning_rate, weight_decay, capturable)."""
    segments: int
    """T."""
    steps: int
    evaluate_every: int
    half_batch: int = 32
    """Videos of each label in a batch."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    crops_together: bool = False
    capturable: bool = True
    """Whether a step can be recorded as a CUDA graph."""


def radam(network: Detector, *, learning_rate: float, weight_decay: float, capturable: bool) -> torch.optim.Optimizer:
    """torch's RAdam, which steps from the first batch; the authors' takes no step in the first five."""
    return torch.optim.RAdam(network.parameters(), lr=learning_rate, weight_decay=weight_decay, capturable=capturable)


def video_label(network: Detector, abnormal_BTD: Tensor, normal_BTD: Tensor, crops: int) -> Tensor:
    """Cross-entropy of the video's label: the paper, section 2."""
    logits_B = network(torch.cat([abnormal_BTD, normal_BTD])).logits_BT[:, 0]
    labels_B = torch.cat(
        [torch.ones_like(logits_B[: len(abnormal_BTD)]), torch.zeros_like(logits_B[len(abnormal_BTD) :])]
    )
    return losses.long_term(logits_B, labels_B)


def ranking(network: Detector, abnormal_BTD: Tensor, normal_BTD: Tensor, crops: int) -> Tensor:
    """Eq. 2 of the paper: pairs of an abnormal and a normal bag, drawn at random."""
    assert isinstance(network, BiLstmMil)
    scores_BT = network(torch.cat([abnormal_BTD, normal_BTD])).scores_BT
    half = len(abnormal_BTD)
    matrices = [network.fc1.weight, network.fc2.weight, network.fc3.weight]
    return losses.short_term(scores_BT[:half], scores_BT[half:], matrices)


CLASSIFIER = Objective(loss=video_label, optimiser=radam, segments=32, steps=2490, evaluate_every=249)
OBJECTIVES: dict[str, Objective] = {
    "video_classifier": CLASSIFIER,
    "bilstm_classifier": CLASSIFIER,
    "bilstm_mil": Objective(loss=ranking, optimiser=radam, segments=64, steps=5000, evaluate_every=50),
}
"""By a detector's kind."""
