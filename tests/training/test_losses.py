"""Each loss against a literal NumPy version, and its gradient against finite differences."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch

from training import losses

Array = npt.NDArray[np.float64]


def literal_short_term(
    abnormal: Array, normal: Array, weights: list[Array], pairing: str, norm: str, margin: float = 1.0
) -> float:
    """Eq. 2 as loops."""
    pairs = []
    for i, a in enumerate(abnormal):
        partners = range(len(normal)) if pairing == "all_pairs" else [i]
        pairs += [max(0.0, margin - max(a) + max(normal[j])) for j in partners]
    smooth = [sum((a[k] - a[k + 1]) ** 2 for k in range(len(a) - 1)) for a in abnormal]
    sparse = [sum(a) for a in abnormal]
    squares = [sum(w**2 for w in weight.ravel()) for weight in weights]
    size = {"joint": sum(squares) ** 0.5, "squared": sum(squares), "per_layer": sum(s**0.5 for s in squares)}
    return float(
        sum(pairs) / len(pairs)
        + 8e-5 * sum(smooth) / len(smooth)
        + 8e-5 * sum(sparse) / len(sparse)
        + 1e-3 * size[norm]
    )


@pytest.fixture
def batch() -> tuple[Array, Array, list[Array]]:
    random = np.random.default_rng(7)
    weights = [random.normal(size=shape) for shape in ((5, 4), (3, 5), (1, 3))]
    return random.random((6, 8)), random.random((6, 8)), weights


@pytest.mark.parametrize("pairing", ["random", "all_pairs"])
@pytest.mark.parametrize("norm", ["joint", "per_layer", "squared"])
def test_the_short_term_loss_equals_eq_2_written_as_loops(
    batch: tuple[Array, Array, list[Array]],
    pairing: Literal["random", "all_pairs"],
    norm: Literal["joint", "per_layer", "squared"],
) -> None:
    abnormal, normal, weights = batch
    ours = losses.short_term(
        torch.from_numpy(abnormal),
        torch.from_numpy(normal),
        [torch.from_numpy(weight) for weight in weights],
        losses.ShortTermLoss(pairing=pairing, norm=norm),
    )
    assert ours.item() == pytest.approx(literal_short_term(abnormal, normal, weights, pairing, norm), rel=1e-12)


def test_the_constants_of_eq_2_are_the_papers() -> None:
    assert losses.ShortTermLoss() == losses.ShortTermLoss(
        smoothness=8e-5, sparsity=8e-5, weight=1e-3, margin=1.0, pairing="random", norm="joint"
    )


def test_smoothness_and_sparsity_do_not_look_at_normal_bags(batch: tuple[Array, Array, list[Array]]) -> None:
    abnormal, _, _ = batch
    flat = torch.full((6, 8), 0.25, dtype=torch.float64)
    rough = flat.clone()
    rough[:, ::2] = 0.0  # the same maximum, much rougher
    terms = losses.ShortTermLoss(smoothness=10.0, sparsity=10.0)
    weights = [torch.ones(1, 1, dtype=torch.float64)]
    one = losses.short_term(torch.from_numpy(abnormal), flat, weights, terms)
    two = losses.short_term(torch.from_numpy(abnormal), rough, weights, terms)
    assert one.item() == two.item()


def test_the_short_term_losss_gradient_is_that_of_finite_differences(
    batch: tuple[Array, Array, list[Array]],
) -> None:
    abnormal, normal, weights = (
        torch.from_numpy(batch[0]).requires_grad_(),
        torch.from_numpy(batch[1]).requires_grad_(),
        [torch.from_numpy(weight).requires_grad_() for weight in batch[2]],
    )
    assert torch.autograd.gradcheck(
        lambda a, n, *w: losses.short_term(a, n, w, losses.ShortTermLoss(pairing="all_pairs")),
        (abnormal, normal, *weights),
    )


def test_the_long_term_loss_is_binary_cross_entropy() -> None:
    logits = torch.tensor([-2.0, 0.5, 3.0], dtype=torch.float64)
    labels = torch.tensor([0, 1, 1])
    p = 1 / (1 + np.exp(-logits.numpy()))
    expected = -(np.log(1 - p[0]) + np.log(p[1]) + np.log(p[2])) / 3
    assert losses.long_term(logits, labels).item() == pytest.approx(expected, rel=1e-12)


def test_random_pairs_need_equal_numbers() -> None:
    with pytest.raises(ValueError, match="as many abnormal as normal"):
        losses.ranking(torch.zeros(3, 2), torch.zeros(2, 2), margin=1.0, pairing="random")
