"""How each kind of detector is trained: its published defaults and its loss.

A loss has no host synchronisation, no shape that depends on data and no branch on values: the trainer records a step as
a CUDA graph.

B bags, T segments, D dimensions; the abnormal half of a batch comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from monitor.detectors.bilstm_mil import BiLstmMil
from monitor.detectors.detector import Detector
from monitor.detectors.rtfm import Rtfm
from monitor.detectors.sultani import Sultani
from monitor.detectors.ur_dmu import UrDmu
from training import losses, partners


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


def adam(network: Detector, *, learning_rate: float, weight_decay: float, capturable: bool) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr=learning_rate, weight_decay=weight_decay, capturable=capturable)


def adagrad(network: Detector, *, learning_rate: float, weight_decay: float, capturable: bool) -> torch.optim.Optimizer:
    """Its step counter lives on the host: never recorded."""
    return torch.optim.Adagrad(network.parameters(), lr=learning_rate, weight_decay=weight_decay, eps=1e-8)


def video_label(network: Detector, abnormal_BTD: Tensor, normal_BTD: Tensor, crops: int) -> Tensor:
    """Cross-entropy of the video's label: the paper, section 2."""
    logits_B = network(torch.cat([abnormal_BTD, normal_BTD])).logits_BT[:, 0]
    ones = torch.ones(len(abnormal_BTD), device=logits_B.device)
    return losses.long_term(logits_B, torch.cat([ones, torch.zeros(len(normal_BTD), device=logits_B.device)]))


def ranking(network: Detector, abnormal_BTD: Tensor, normal_BTD: Tensor, crops: int) -> Tensor:
    """Eq. 2 of the paper: pairs of an abnormal and a normal bag, drawn at random."""
    abnormal_BT, normal_BT = network(torch.cat([abnormal_BTD, normal_BTD])).scores_BT.chunk(2)
    return losses.short_term(abnormal_BT, normal_BT, _matrices(network))


def sultani(network: Detector, abnormal_BTD: Tensor, normal_BTD: Tensor, crops: int) -> Tensor:
    abnormal_BT, normal_BT = network(torch.cat([abnormal_BTD, normal_BTD])).scores_BT.chunk(2)
    return partners.sultani(abnormal_BT, normal_BT, _matrices(network))


def rtfm(network: Detector, abnormal_BTD: Tensor, normal_BTD: Tensor, crops: int) -> Tensor:
    network = cast(Rtfm, network)
    aggregated_BTD = network.aggregated(torch.cat([abnormal_BTD, normal_BTD]))
    scores_BT = network.judged(aggregated_BTD).scores_BT
    halves = []
    for features_BTD, of_half_BT in zip(aggregated_BTD.chunk(2), scores_BT.chunk(2), strict=True):
        mask_BT = network.dropout(features_BTD.new_ones(len(features_BTD) // crops, features_BTD.shape[1]))
        halves.append(partners.longest(features_BTD, of_half_BT, mask_BT, crops))
    videos = len(abnormal_BTD) // crops
    abnormal_BT = scores_BT[: len(abnormal_BTD)].reshape(videos, crops, -1).mean(1)
    return partners.rtfm(halves[0], halves[1], abnormal_BT)


def ur_dmu(network: Detector, abnormal_BTD: Tensor, normal_BTD: Tensor, crops: int) -> Tensor:
    return partners.ur_dmu(cast(UrDmu, network).training_output(torch.cat([abnormal_BTD, normal_BTD])))


def _matrices(network: Detector) -> list[Tensor]:
    """The weight matrices of the three FC layers, without biases and without an LSTM."""
    layers = cast(BiLstmMil | Sultani, network)
    return [layers.fc1.weight, layers.fc2.weight, layers.fc3.weight]


CLASSIFIER = Objective(loss=video_label, optimiser=radam, segments=32, steps=2490, evaluate_every=249)
"""Ten epochs of 249 steps (the authors' code), looked at once an epoch."""
OBJECTIVES: dict[str, Objective] = {
    "video_classifier": CLASSIFIER,
    "bilstm_classifier": CLASSIFIER,
    "bilstm_mil": Objective(loss=ranking, optimiser=radam, segments=64, steps=5000, evaluate_every=50),
    "sultani": Objective(
        loss=sultani,
        optimiser=adagrad,
        segments=32,
        steps=5000,
        evaluate_every=100,
        half_batch=30,
        learning_rate=0.01,
        capturable=False,
    ),
    "rtfm": Objective(
        loss=rtfm,
        optimiser=adam,
        segments=32,
        steps=15_000,
        evaluate_every=50,
        weight_decay=5e-3,
        crops_together=True,
    ),
    "ur_dmu": Objective(
        loss=ur_dmu,
        optimiser=adam,
        segments=200,
        steps=3000,
        evaluate_every=50,
        half_batch=64,
        learning_rate=1e-4,
        weight_decay=5e-5,
    ),
}
"""By a detector's kind."""
