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


# Each term of eq. 2 for itself


def test_the_hinge_of_all_pairs_takes_any_two_numbers_of_bags() -> None:
    """Maxima 0.9, 0.2, 0.5 against 0.4, 0.7: the mean of six."""
    abnormal = torch.tensor([[0.9, 0.1], [0.2, 0.2], [0.0, 0.5]], dtype=torch.float64)
    normal = torch.tensor([[0.4, 0.0], [0.7, 0.7]], dtype=torch.float64)
    expected = (0.5 + 0.8 + 1.2 + 1.5 + 0.9 + 1.2) / 6
    found = losses.ranking(abnormal, normal, margin=1.0, pairing="all_pairs")
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("margin", "expected"), [(0.1, 0.0), (0.3, 0.0), (0.5, 0.2), (1.0, 0.7)])
def test_a_pair_that_is_a_margin_apart_costs_nothing(margin: float, expected: float) -> None:
    found = losses.ranking(torch.tensor([[0.1, 0.8]]), torch.tensor([[0.5, 0.2]]), margin=margin, pairing="random")
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_the_ith_abnormal_bag_meets_the_ith_normal_one() -> None:
    abnormal, normal = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [1.0]])
    assert losses.ranking(abnormal, normal, margin=1.0, pairing="random").item() == 1.0  # (0 + 2) / 2
    assert losses.ranking(abnormal, normal.flip(0), margin=1.0, pairing="random").item() == 1.0  # (1 + 1) / 2
    assert losses.ranking(abnormal, normal, margin=0.5, pairing="random").item() == 0.75  # (0 + 1.5) / 2
    assert losses.ranking(abnormal, normal.flip(0), margin=0.5, pairing="random").item() == 0.5


@pytest.mark.parametrize(
    ("bags", "smooth", "sparse"),
    [
        ([[0.5]], 0.0, 0.5),
        ([[0.1, 0.4, 0.2]], 0.09 + 0.04, 0.7),
        # Never from the end of one bag to the begin of the next: 0 → 1 costs nothing.
        ([[0.0, 0.0], [1.0, 1.0]], 0.0, 1.0),
        ([[0.0, 1.0], [1.0, 0.5]], (1 + 0.25) / 2, 1.25),
    ],
)
def test_smoothness_and_sparsity_are_sums_over_a_bag_and_means_over_bags(
    bags: list[list[float]], smooth: float, sparse: float
) -> None:
    scores = torch.tensor(bags, dtype=torch.float64)
    assert losses.smoothness(scores).item() == pytest.approx(smooth)
    assert losses.sparsity(scores).item() == pytest.approx(sparse)


@pytest.mark.parametrize(("kind", "expected"), [("joint", 13.0), ("per_layer", 5.0 + 12.0), ("squared", 169.0)])
def test_the_norm_of_the_matrices(kind: Literal["joint", "per_layer", "squared"], expected: float) -> None:
    weights = [torch.tensor([[3.0, -4.0]], dtype=torch.float64), torch.tensor([[12.0]], dtype=torch.float64)]
    assert losses.weight_norm(weights, kind).item() == pytest.approx(expected)


@pytest.mark.parametrize("pairing", ["random", "all_pairs"])
@pytest.mark.parametrize("norm", ["joint", "per_layer", "squared"])
def test_the_gradient_of_every_variant_is_that_of_finite_differences(
    pairing: Literal["random", "all_pairs"], norm: Literal["joint", "per_layer", "squared"]
) -> None:
    random = np.random.default_rng(3)
    abnormal, normal = (torch.from_numpy(random.random((3, 4))).requires_grad_() for _ in range(2))
    weights = [torch.from_numpy(random.normal(size=shape)).requires_grad_() for shape in ((2, 2), (1, 2))]
    terms = losses.ShortTermLoss(smoothness=0.5, sparsity=0.25, weight=0.125, pairing=pairing, norm=norm)
    assert torch.autograd.gradcheck(lambda a, n, *w: losses.short_term(a, n, w, terms), (abnormal, normal, *weights))


def test_each_constant_weighs_its_own_term() -> None:
    abnormal, normal = torch.tensor([[0.25, 0.75]]).double(), torch.tensor([[0.5, 0.0]]).double()
    weights = [torch.tensor([[2.0]]).double()]
    terms = losses.ShortTermLoss(smoothness=10.0, sparsity=100.0, weight=1000.0, margin=0.5)
    expected = (0.5 - 0.75 + 0.5) + 10 * 0.25 + 100 * 1.0 + 1000 * 2.0
    assert losses.short_term(abnormal, normal, weights, terms).item() == pytest.approx(expected)


def test_the_gradient_of_the_long_term_loss_is_that_of_finite_differences() -> None:
    logits = torch.tensor([-2.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: losses.long_term(values, torch.tensor([0, 1, 0])), (logits,))


def test_the_long_term_loss_of_a_logit_beyond_the_sigmoids_reach_is_finite() -> None:
    assert losses.long_term(torch.tensor([200.0]), torch.tensor([0])).item() == 200.0
