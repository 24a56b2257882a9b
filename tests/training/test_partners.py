"""The partners' losses, each against a slow literal version, and its gradient against finite differences.

B bags, T segments, C crops, D dimensions, E embedded; a = abnormal, n = normal. Everything in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from monitor.detectors.ur_dmu import Remembered
from training import partners

Array = npt.NDArray[np.float64]


def drawn(*shape: int, seed: int = 0, low: float = 0.0, high: float = 1.0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(low, high, size=shape))


def length(x: Array) -> float:
    return math.sqrt(sum(value * value for value in x))


def entropy(score: float, target: float) -> float:
    return -(target * math.log(score) + (1 - target) * math.log(1 - score))


def highest(values: Array, count: int) -> list[int]:
    """Where the so many highest are."""
    return sorted(range(len(values)), key=lambda at: -values[at])[:count]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def checked(function: Callable[..., Tensor], *inputs: Tensor) -> bool:
    return torch.autograd.gradcheck(function, [tensor.clone().requires_grad_() for tensor in inputs])


# Sultani


def literal_sultani(a: Array, n: Array, weights: list[Array]) -> float:
    """The authors' objective: over normal bags the mean of the hinge summed over abnormal ones, two sums over abnormal
    bags, and each layer's penalty."""
    hinges = [sum(max(0.0, 1 - max(one) + max(other)) for one in a) for other in n]
    smooth = sum((one[k] - one[k + 1]) ** 2 for one in a for k in range(len(one) - 1))
    sparse = sum(value for one in a for value in one)
    return mean(hinges) + 0.00008 * sparse + 0.00008 * smooth + sum(0.001 * float((w**2).sum()) for w in weights)


@pytest.mark.parametrize(("bags", "segments"), [(30, 32), (4, 7), (1, 1)])
def test_sultanis_loss_is_the_authors_objective(bags: int, segments: int) -> None:
    a, n = drawn(bags, segments, seed=1), drawn(bags, segments, seed=2)
    weights = [drawn(5, 4, seed=3, low=-1), drawn(3, 5, seed=4), drawn(1, 3, seed=5)]
    expected = literal_sultani(a.numpy(), n.numpy(), [weight.numpy() for weight in weights])
    assert partners.sultani(a, n, weights).item() == pytest.approx(expected, rel=1e-12)


def test_sultanis_loss_at_a_glance() -> None:
    """Two abnormal bags with maxima 0.9 and 0.4, normal ones with 0.1 and 0.6."""
    a = torch.tensor([[0.9, 0.5], [0.4, 0.4]], dtype=torch.float64)
    n = torch.tensor([[0.1, 0.0], [0.6, 0.6]], dtype=torch.float64)
    hinge = ((0.2 + 0.7) + (0.7 + 1.2)) / 2
    expected = hinge + 8e-5 * (0.9 + 0.5 + 0.4 + 0.4) + 8e-5 * 0.4**2 + 1e-3 * (3**2 + 4**2)
    weights = [torch.tensor([[3.0]], dtype=torch.float64), torch.tensor([[4.0]], dtype=torch.float64)]
    assert partners.sultani(a, n, weights).item() == pytest.approx(expected, rel=1e-12)


def test_the_gradient_of_sultanis_loss() -> None:
    inputs = drawn(3, 4, seed=1), drawn(3, 4, seed=2), drawn(2, 3, seed=3, low=-1), drawn(1, 2, seed=4)
    assert checked(lambda a, n, *weights: partners.sultani(a, n, weights), *inputs)


# RTFM


def literal_longest(features: Array, scores: Array, mask: Array, crops: int) -> tuple[list[Array], list[float]]:
    videos, segments = len(features) // crops, features.shape[1]
    chosen_features: list[Array] = []
    chosen_scores: list[float] = []
    for video in range(videos):
        rows = [video * crops + crop for crop in range(crops)]
        lengths = [mean([length(features[row, at]) for row in rows]) * mask[video, at] for at in range(segments)]
        chosen = highest(np.asarray(lengths), max(1, segments // 10))
        chosen_features += [np.mean([features[row, at] for at in chosen], axis=0) for row in rows]
        chosen_scores.append(mean([mean([scores[row, at] for row in rows]) for at in chosen]))
    return chosen_features, chosen_scores


@pytest.mark.parametrize(("videos", "crops", "segments"), [(3, 2, 32), (2, 10, 20), (4, 1, 9), (1, 1, 1)])
def test_the_longest_segments_are_chosen_by_the_mean_length_of_crops(videos: int, crops: int, segments: int) -> None:
    features = drawn(videos * crops, segments, 5, seed=1, low=-1)
    scores = drawn(videos * crops, segments, seed=2)
    mask = drawn(videos, segments, seed=3)
    ours = partners.longest(features, scores, mask, crops)
    expected = literal_longest(features.numpy(), scores.numpy(), mask.numpy(), crops)
    assert ours[0].shape == (videos * crops, 5)
    assert ours[1].shape == (videos,)
    assert np.allclose(ours[0].numpy(), np.asarray(expected[0]), rtol=1e-12)
    assert np.allclose(ours[1].numpy(), expected[1], rtol=1e-12)


@pytest.mark.parametrize(
    ("segments", "chosen"), [(1, 1), (9, 1), (10, 1), (19, 1), (20, 2), (29, 2), (30, 3), (32, 3), (200, 20)]
)
def test_rtfm_chooses_a_tenth_of_the_segments_and_at_least_one(segments: int, chosen: int) -> None:
    """A segment's feature is as long as its place, and its score is 1 where it is one of the last ``chosen``."""
    features = torch.arange(1.0, segments + 1).double()[None, :, None]
    scores = (torch.arange(segments) >= segments - chosen).double()[None]
    found = partners.longest(features, scores, torch.ones(1, segments).double(), 1)
    assert found[0].item() == pytest.approx(segments - (chosen - 1) / 2)
    assert found[1].item() == 1.0
    if segments > chosen:  # one more would have been too many
        fewer = (torch.arange(segments) >= segments - chosen + 1).double()[None]
        assert partners.longest(features, fewer, torch.ones(1, segments).double(), 1)[1].item() == pytest.approx(
            (chosen - 1) / chosen
        )


def test_a_masked_segment_is_not_chosen() -> None:
    features = torch.tensor([[[5.0], [1.0], [3.0]]], dtype=torch.float64)
    scores = torch.tensor([[0.5, 0.1, 0.3]], dtype=torch.float64)
    for mask, score in (([1, 1, 1], 0.5), ([0, 1, 1], 0.3), ([0, 1, 0], 0.1)):
        assert partners.longest(features, scores, torch.tensor([mask]).double(), 1)[1].item() == score


def test_a_segment_long_in_all_crops_is_before_one_very_long_in_one() -> None:
    features = torch.tensor([[[4.0], [0.0]], [[4.0], [7.0]]], dtype=torch.float64)  # means 4 and 3.5
    scores = torch.tensor([[0.2, 0.9], [0.4, 0.9]], dtype=torch.float64)
    found = partners.longest(features, scores, torch.ones(1, 2).double(), 2)
    assert found[0].tolist() == [[4.0], [4.0]]
    assert found[1].item() == pytest.approx(0.3)


def literal_magnitude(a: Array, n: Array) -> float:
    return mean([(abs(100 - length(one)) + length(other)) ** 2 for one, other in zip(a, n, strict=True)])


@pytest.mark.parametrize("scale", [1.0, 90.0])  # shorter and longer than the margin
def test_magnitude(scale: float) -> None:
    a, n = scale * drawn(5, 4, seed=1, low=-1), scale * drawn(5, 4, seed=2, low=-1)
    assert partners.magnitude(a, n).item() == pytest.approx(literal_magnitude(a.numpy(), n.numpy()), rel=1e-12)
    assert checked(partners.magnitude, a, n)


def test_magnitude_at_a_glance() -> None:
    a, n = torch.tensor([[60.0, 80.0], [0.0, 103.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    assert partners.magnitude(a, n).item() == ((0 + 5) ** 2 + (3 + 1) ** 2) / 2


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_cross_entropy(target: float) -> None:
    scores = drawn(3, 4, low=0.1, high=0.9)
    expected = mean([entropy(score, target) for score in scores.flatten().tolist()])
    assert partners.cross_entropy(scores, target).item() == pytest.approx(expected, rel=1e-12)
    assert checked(lambda values: partners.cross_entropy(values, target), scores)


def test_a_saturated_score_costs_100_and_no_more() -> None:
    assert partners.cross_entropy(torch.tensor([0.0, 1.0]), 1.0).item() == 50.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_cross_entropy_of_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = partners.cross_entropy(torch.tensor([0.25, 0.5], dtype=dtype), 1.0)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx((math.log(4) + math.log(2)) / 2)


def literal_rtfm(
    abnormal: tuple[Array, Array], normal: tuple[Array, Array], scores: Array, crops_of_features: int
) -> float:
    label = mean([entropy(s, 1) for s in abnormal[1]] + [entropy(s, 0) for s in normal[1]])
    smooth = sum((video[k] - video[k + 1]) ** 2 for video in scores for k in range(len(video) - 1))
    sparse = math.sqrt(sum(value**2 for video in scores for value in video))
    assert len(abnormal[0]) == crops_of_features * len(abnormal[1])
    return label + 1e-4 * literal_magnitude(abnormal[0], normal[0]) + 8e-4 * smooth + 8e-3 * sparse


@pytest.mark.parametrize("crops", [1, 3])
def test_rtfms_loss_is_the_authors(crops: int) -> None:
    abnormal = drawn(4 * crops, 5, seed=1, high=80), drawn(4, seed=2, low=0.1, high=0.9)
    normal = drawn(4 * crops, 5, seed=3, high=80), drawn(4, seed=4, low=0.1, high=0.9)
    scores = drawn(4, 9, seed=5)
    a, n = ((features.numpy(), chosen.numpy()) for features, chosen in (abnormal, normal))
    expected = literal_rtfm(a, n, scores.numpy(), crops)
    assert partners.rtfm(abnormal, normal, scores).item() == pytest.approx(expected, rel=1e-12)
    assert checked(lambda fa, sa, fn, sn, s: partners.rtfm((fa, sa), (fn, sn), s), *abnormal, *normal, scores)


@given(order=st.permutations(range(4)), crops_order=st.permutations(range(3)))
@settings(max_examples=25, deadline=None)
def test_the_order_of_videos_and_of_crops_does_not_count(order: list[int], crops_order: list[int]) -> None:
    """The same permutation of both halves, as their features are compared in pairs."""
    features, scores = drawn(2, 4, 3, 21, 5, seed=1, low=-9, high=9), drawn(2, 4, 3, 21, seed=2)
    mask = drawn(2, 4, 21, seed=3)

    def loss(videos: list[int], crops: list[int]) -> float:
        f = features[:, videos][:, :, crops].flatten(1, 2)
        s = scores[:, videos][:, :, crops].flatten(1, 2)
        a, n = (partners.longest(f[half], s[half], mask[half][videos], 3) for half in (0, 1))
        return partners.rtfm(a, n, s[0].reshape(4, 3, 21).mean(1)).item()

    assert loss(order, crops_order) == pytest.approx(loss([0, 1, 2, 3], [0, 1, 2]), rel=1e-9)


def test_the_gradient_goes_through_the_chosen_segments() -> None:
    features, scores, mask = drawn(4, 20, 3, seed=1, low=-1), drawn(4, 20, seed=2), drawn(2, 20, seed=3, low=0.5)
    assert checked(lambda f, s: partners.longest(f, s, mask, 2), features, scores)
    features.requires_grad_()
    partners.longest(features, scores, mask, 2)[0].sum().backward()
    assert features.grad is not None
    assert features.grad.any(dim=2).sum(1).tolist() == [2] * 4  # k = 2 segments of each crop and no other


# UR-DMU


@pytest.mark.parametrize(
    ("segments", "chosen"), [(1, 1), (15, 1), (16, 2), (31, 2), (32, 3), (47, 3), (48, 4), (200, 13)]
)
def test_ur_dmu_looks_at_a_sixteenth_of_the_segments_and_one_more(segments: int, chosen: int) -> None:
    rising = torch.arange(segments).double()
    expected = segments - 1 - (chosen - 1) / 2
    shuffled = rising[torch.from_numpy(np.random.default_rng(0).permutation(segments))]
    assert partners.top(torch.stack([rising, shuffled])).tolist() == [pytest.approx(expected)] * 2
    features = rising[None, :, None].expand(1, segments, 2)
    assert partners.at_top(features, rising[None]).tolist() == [[pytest.approx(expected)] * 2]
    assert partners.at_top(features, -rising[None]).tolist() == [[pytest.approx((chosen - 1) / 2)] * 2]


def literal_top(values: Array) -> float:
    return mean([float(values[at]) for at in highest(values, len(values) // 16 + 1)])


def literal_at_top(features: Array, by: Array) -> Array:
    return np.asarray(np.mean([features[at] for at in highest(by, len(by) // 16 + 1)], axis=0))


def test_the_mean_of_the_highest_and_the_mean_feature_there() -> None:
    values, features = drawn(3, 33, seed=1), drawn(3, 33, 4, seed=2, low=-1)
    assert partners.top(values).tolist() == pytest.approx([literal_top(row) for row in values.numpy()])
    expected = [literal_at_top(f, by) for f, by in zip(features.numpy(), values.numpy(), strict=True)]
    assert np.allclose(partners.at_top(features, values).numpy(), expected, rtol=1e-12)
    assert checked(partners.top, values)
    assert checked(lambda f: partners.at_top(f, values), features)


def literal_triplet(anchors: Array, nears: Array, fars: Array) -> float:
    costs = []
    for anchor, near, far in zip(anchors, nears, fars, strict=True):
        anchor, near, far = anchor / length(anchor), near / length(near), far / length(far)
        costs.append(max(0.0, length(anchor - near) - length(anchor - far) + 1))
    return mean(costs)


def test_triplet() -> None:
    inputs = [drawn(6, 4, seed=seed, low=-3, high=3) for seed in (1, 2, 3)]
    expected = literal_triplet(*(tensor.numpy() for tensor in inputs))
    assert partners.triplet(*inputs).item() == pytest.approx(expected, rel=1e-12)
    assert checked(partners.triplet, *inputs)


@pytest.mark.parametrize(
    ("anchor", "near", "far", "expected"),
    [
        ([2.0, 0.0], [5.0, 0.0], [-1.0, 0.0], 0.0),  # as far apart as can be: 0 − 2 + 1 < 0
        ([2.0, 0.0], [0.0, 3.0], [0.0, -1.0], 1.0),
        ([2.0, 0.0], [-1.0, 0.0], [9.0, 0.0], 3.0),
    ],
)
def test_triplet_at_a_glance(anchor: list[float], near: list[float], far: list[float], expected: float) -> None:
    found = partners.triplet(*(torch.tensor([value], dtype=torch.float64) for value in (anchor, near, far)))
    assert found.item() == pytest.approx(expected)


def literal_divergence(means: Array, log_variances: Array) -> float:
    costs = []
    for mu_E, lv_E in zip(means.reshape(-1, means.shape[-1]), log_variances.reshape(-1, means.shape[-1]), strict=True):
        costs.append(sum(0.5 * (math.exp(lv) + mu**2 - 1 - lv) for mu, lv in zip(mu_E, lv_E, strict=True)))
    return mean(costs)


def test_divergence() -> None:
    means, log_variances = drawn(2, 5, 3, seed=1, low=-2, high=2), drawn(2, 5, 3, seed=2, low=-2, high=2)
    expected = literal_divergence(means.numpy(), log_variances.numpy())
    assert partners.divergence(means, log_variances).item() == pytest.approx(expected, rel=1e-12)
    assert partners.divergence(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)).item() == 0
    normal = torch.distributions.Normal(means, (log_variances / 2).exp())
    apart = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(2).mean()
    assert expected == pytest.approx(apart.item())
    assert checked(partners.divergence, means, log_variances)


def literal_distance(a: Array, n: Array) -> float:
    return mean([max(0.0, 100 - length(one) + length(other)) for one, other in zip(a, n, strict=True)])


def test_distance() -> None:
    a, n = drawn(6, 4, seed=1, high=150), drawn(6, 4, seed=2, high=20)
    expected = literal_distance(a.numpy(), n.numpy())
    assert 0 < expected < 100
    assert partners.distance(a, n).item() == pytest.approx(expected, rel=1e-12)
    assert checked(partners.distance, a, n)
    glance = torch.tensor([[60.0, 0.0], [0.0, 300.0]]), torch.tensor([[3.0, 4.0], [3.0, 4.0]])
    assert partners.distance(*glance).item() == 45.0 / 2


def remembered(videos: int = 3, segments: int = 18, embedded: int = 4) -> Remembered:
    """k = 2 of 18 segments."""
    wide = (videos, segments, embedded)
    return Remembered(
        logits_BT=drawn(2 * videos, segments, seed=1, low=-2, high=2),
        embedded_A=drawn(*wide, seed=2, low=-1),
        embedded_N=drawn(*wide, seed=3, low=-1),
        abnormal_of_A=drawn(videos, segments, seed=4, low=0.1, high=0.9),
        normal_of_A=drawn(videos, segments, seed=5, low=0.1, high=0.9),
        abnormal_of_N=drawn(videos, segments, seed=6, low=0.1, high=0.9),
        normal_of_N=drawn(videos, segments, seed=7, low=0.1, high=0.9),
        mean_N=drawn(*wide, seed=8, low=-1),
        log_variance_N=drawn(*wide, seed=9, low=-1),
        recalled_A=drawn(*wide, seed=10, high=60),
        recalled_N=drawn(*wide, seed=11, high=60),
    )


NAMES = [field.name for field in fields(Remembered)]


def arrays(seen: Remembered) -> dict[str, Array]:
    return {name: getattr(seen, name).numpy() for name in NAMES}


def literal_memories(seen: dict[str, Array]) -> float:
    """The authors' code: of an abnormal video the normal memory does not know at least some segments."""
    return (
        mean([entropy(literal_top(row), 1) for row in seen["abnormal_of_A"]])
        + mean([entropy(literal_top(1 - row), 1) for row in seen["normal_of_A"]])
        + mean([entropy(value, 1) for value in seen["normal_of_N"].ravel()])
        + mean([entropy(value, 0) for value in seen["abnormal_of_N"].ravel()])
    )


def literal_ur_dmu(seen: dict[str, Array]) -> float:
    half = len(seen["logits_BT"]) // 2
    scores = [[1 / (1 + math.exp(-logit)) for logit in row] for row in seen["logits_BT"]]
    labels = [entropy(literal_top(np.asarray(row)), float(at < half)) for at, row in enumerate(scores)]

    def tops(features: str, by: str) -> Array:
        return np.asarray([literal_at_top(f, b) for f, b in zip(seen[features], seen[by], strict=True)])

    triplet = literal_triplet(
        tops("embedded_N", "normal_of_N"), tops("embedded_A", "normal_of_A"), tops("embedded_A", "abnormal_of_A")
    )
    apart = literal_distance(tops("recalled_A", "abnormal_of_A"), tops("recalled_N", "normal_of_N"))
    divergence = literal_divergence(seen["mean_N"], seen["log_variance_N"])
    return mean(labels) + 0.1 * literal_memories(seen) + 0.1 * triplet + 0.001 * divergence + 0.0001 * apart


def test_the_four_cross_entropies_of_the_memories() -> None:
    seen = remembered()
    assert partners.memories(seen).item() == pytest.approx(literal_memories(arrays(seen)), rel=1e-12)


def test_ur_dmus_loss_is_the_sum_of_its_terms() -> None:
    seen = remembered()
    assert partners.ur_dmu(seen).item() == pytest.approx(literal_ur_dmu(arrays(seen)), rel=1e-12)


def test_the_gradient_of_ur_dmus_loss_is_that_of_finite_differences() -> None:
    seen = remembered(videos=1, segments=16, embedded=2)
    inputs = [getattr(seen, name) for name in NAMES]
    assert checked(lambda *parts: partners.ur_dmu(Remembered(**dict(zip(NAMES, parts, strict=True)))), *inputs)


def test_each_memory_is_drawn_towards_its_own_and_away_from_the_others() -> None:
    seen = remembered()
    better = {"abnormal_of_A": 0.05, "normal_of_A": -0.05, "normal_of_N": 0.05, "abnormal_of_N": -0.05}
    for name, step in better.items():
        moved = replace(seen, **{name: getattr(seen, name) + step})
        assert partners.memories(moved) < partners.memories(seen)


@given(order=st.permutations(range(3)))
@settings(max_examples=10, deadline=None)
def test_the_order_of_videos_does_not_count_for_ur_dmu(order: list[int]) -> None:
    seen = remembered()
    rows = dict.fromkeys(NAMES, order) | {"logits_BT": order + [3 + at for at in order]}
    permuted = Remembered(**{name: getattr(seen, name)[rows[name]] for name in NAMES})
    assert partners.ur_dmu(permuted).item() == pytest.approx(partners.ur_dmu(seen).item(), rel=1e-9)


@given(order_a=st.permutations(range(4)), order_n=st.permutations(range(4)))
@settings(max_examples=25, deadline=None)
def test_the_order_of_videos_does_not_count_for_sultani(order_a: list[int], order_n: list[int]) -> None:
    """Of each half for itself: every abnormal bag meets every normal one."""
    a, n, weights = drawn(4, 5, seed=1), drawn(4, 5, seed=2), [drawn(2, 2)]
    assert partners.sultani(a[order_a], n[order_n], weights).item() == pytest.approx(
        partners.sultani(a, n, weights).item(), rel=1e-9
    )
