"""The paper's losses, one function an equation.

B = bags, T = segments a bag; scores are probabilities in [0, 1], a = abnormal, n = normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


def long_term(logits_B: Tensor, labels_B: Tensor) -> Tensor:
    """Binary cross-entropy of the video's label (section 2), on logits: the mean over the batch."""
    return torch.nn.functional.binary_cross_entropy_with_logits(logits_B, labels_B.to(logits_B.dtype))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortTermLoss:
    """The constants and the choices that the text of eq. 2 leaves open.

    ``pairing``: ``random`` takes the i-th abnormal with the i-th normal bag of a randomly drawn batch;
    ``all_pairs`` is Sultani's. ``norm``: ``joint`` is one unsquared Frobenius norm over all weight matrices,
    ``per_layer`` the sum of theirs, ``squared`` the joint norm squared.
    """

    smoothness: float = 8e-5
    sparsity: float = 8e-5
    weight: float = 1e-3
    margin: float = 1.0
    pairing: Literal["random", "all_pairs"] = "random"
    norm: Literal["joint", "per_layer", "squared"] = "joint"


def short_term(
    abnormal_BT: Tensor, normal_BT: Tensor, weights: Sequence[Tensor], terms: ShortTermLoss | None = None
) -> Tensor:
    """Eq. 2, the mean over pairs of an abnormal and a normal bag, plus λ3 times the weights' norm once.

    Smoothness and sparsity are of the abnormal bags only and never cross from one video into the next.
    ``weights`` are the matrices of the detector's three FC layers, without biases and without the LSTM.
    """
    terms = terms or ShortTermLoss()
    return (
        ranking(abnormal_BT, normal_BT, margin=terms.margin, pairing=terms.pairing)
        + terms.smoothness * smoothness(abnormal_BT)
        + terms.sparsity * sparsity(abnormal_BT)
        + terms.weight * weight_norm(weights, terms.norm)
    )


def ranking(
    abnormal_BT: Tensor, normal_BT: Tensor, *, margin: float, pairing: Literal["random", "all_pairs"]
) -> Tensor:
    """Eq. 2, first term: ``max(0, margin − max_k f(a_k) + max_k f(n_k))``, the mean over pairs."""
    highest_abnormal_B = abnormal_BT.amax(dim=1)
    highest_normal_B = normal_BT.amax(dim=1)
    if pairing == "all_pairs":
        return torch.relu(margin - highest_abnormal_B[:, None] + highest_normal_B[None, :]).mean()
    if len(highest_abnormal_B) != len(highest_normal_B):
        raise ValueError("random pairs need as many abnormal as normal bags")
    return torch.relu(margin - highest_abnormal_B + highest_normal_B).mean()


def smoothness(abnormal_BT: Tensor) -> Tensor:
    """Eq. 2, second term: ``Σ_{k<T} (f(a_k) − f(a_{k+1}))²``, the mean over bags."""
    return (abnormal_BT[:, :-1] - abnormal_BT[:, 1:]).square().sum(dim=1).mean()


def sparsity(abnormal_BT: Tensor) -> Tensor:
    """Eq. 2, third term: ``Σ_k f(a_k)``, the mean over bags. A plain sum: scores are not negative."""
    return abnormal_BT.sum(dim=1).mean()


def weight_norm(weights: Sequence[Tensor], kind: Literal["joint", "per_layer", "squared"]) -> Tensor:
    """Eq. 2, last term: ``‖W‖_F`` over the given matrices."""
    squares = torch.stack([weight.square().sum() for weight in weights])
    if kind == "per_layer":
        return squares.sqrt().sum()
    return squares.sum() if kind == "squared" else squares.sum().sqrt()
