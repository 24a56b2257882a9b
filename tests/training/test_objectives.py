"""How each kind is trained: the published numbers, what its loss looks at, that it learns, and that it never waits.

B bags, T segments, D dimensions; the abnormal half of a batch comes first.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monitor.detectors import detector
from monitor.detectors.detector import Detector
from training import losses, objectives, partners
from training.objectives import OBJECTIVES

D = 8
KINDS = sorted(OBJECTIVES)
PARTNERS = ["sultani", "rtfm", "ur_dmu"]
SMALL: dict[str, dict[str, Any]] = {
    "bilstm_mil": {"hidden": 32, "fc1": 32},
    "bilstm_classifier": {"hidden": 32},
    "ur_dmu": {"blocks": 1},
}


def made(kind: str, **arguments: Any) -> Detector:
    torch.manual_seed(0)
    return detector.make(kind, {"dimensions": D, **SMALL.get(kind, {}), **arguments})


def material(videos: int, *, abnormal: bool, crops: int = 1, segments: int = 12, seed: int = 0) -> Tensor:
    """(videos · C, T, D) noise; an abnormal video has three segments that all its crops see differently."""
    random = torch.Generator().manual_seed(2 * seed + abnormal)
    values_VCTD = torch.randn(videos, crops, segments, D, generator=random)
    if abnormal:
        for video in values_VCTD:
            at = int(torch.randint(0, segments - 2, (), generator=random))
            video[:, at : at + 3, :3] += 4.0
    return values_VCTD.flatten(0, 1)


def crops_of(kind: str) -> int:
    return 2 if OBJECTIVES[kind].crops_together else 1


def undropped(network: Detector) -> Detector:
    """In training mode, but nothing is dropped: what the loss sees can be computed beside it."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network.train()


def test_the_schedules_are_the_published_ones() -> None:
    """The paper, section 4; the publications of its partners."""
    names = ("segments", "steps", "evaluate_every", "half_batch", "learning_rate", "weight_decay", "crops_together")
    found = {
        kind: (*(getattr(objective, name) for name in names), objective.capturable)
        for kind, objective in OBJECTIVES.items()
    }
    assert found == {
        # segments, steps, every, half a batch, learning rate, weight decay, crops together, capturable
        "video_classifier": (32, 2490, 249, 32, 1e-3, 0.0, False, True),
        "bilstm_classifier": (32, 2490, 249, 32, 1e-3, 0.0, False, True),
        "bilstm_mil": (64, 5000, 50, 32, 1e-3, 0.0, False, True),
        "sultani": (32, 5000, 100, 30, 1e-2, 0.0, False, False),
        "rtfm": (32, 15_000, 50, 32, 1e-3, 5e-3, True, True),
        "ur_dmu": (200, 3000, 50, 64, 1e-4, 5e-5, False, True),
    }


def test_every_detector_has_an_objective() -> None:
    assert set(OBJECTIVES) == set(detector.kinds())


@pytest.mark.parametrize(
    ("kind", "optimiser", "expected"),
    [
        ("video_classifier", torch.optim.RAdam, {"betas": (0.9, 0.999), "eps": 1e-8}),
        ("bilstm_classifier", torch.optim.RAdam, {"betas": (0.9, 0.999), "eps": 1e-8}),
        ("bilstm_mil", torch.optim.RAdam, {"betas": (0.9, 0.999), "eps": 1e-8}),
        ("sultani", torch.optim.Adagrad, {"eps": 1e-8, "lr_decay": 0, "initial_accumulator_value": 0}),
        ("rtfm", torch.optim.Adam, {"betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False}),
        ("ur_dmu", torch.optim.Adam, {"betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False}),
    ],
)
def test_the_optimisers_are_the_published_ones(
    kind: str, optimiser: type[torch.optim.Optimizer], expected: dict[str, Any]
) -> None:
    network = made(kind)
    found = OBJECTIVES[kind].optimiser(network, learning_rate=0.25, weight_decay=0.125, capturable=False)
    assert type(found) is optimiser
    (group,) = found.param_groups
    assert {key: group[key] for key in expected} == expected
    assert (group["lr"], group["weight_decay"]) == (0.25, 0.125)
    assert [id(parameter) for parameter in group["params"]] == [id(parameter) for parameter in network.parameters()]
    if OBJECTIVES[kind].capturable:
        held = OBJECTIVES[kind].optimiser(network, learning_rate=0.25, weight_decay=0.0, capturable=True)
        assert held.param_groups[0]["capturable"] is True


# Learning


def highest(network: Detector, features_BTD: Tensor, crops: int) -> Tensor:
    """(videos,) the highest score of each, crops averaged."""
    with torch.inference_mode():
        scores_BT = copy.deepcopy(network).eval()(features_BTD).logits_BT
    return scores_BT.reshape(-1, crops, scores_BT.shape[1]).mean(1).amax(1)


@pytest.mark.parametrize(
    ("kind", "learning_rate"),
    [  # higher than published: sixty steps are few
        ("video_classifier", 1e-2),
        ("bilstm_classifier", 2e-2),
        ("bilstm_mil", 2e-2),
        ("sultani", 1e-2),
        ("rtfm", 5e-3),
        ("ur_dmu", 1e-3),
    ],
)
def test_sixty_steps_lower_the_loss_and_rank_abnormal_videos_never_seen_above_normal_ones(
    kind: str, learning_rate: float
) -> None:
    objective, crops = OBJECTIVES[kind], crops_of(kind)
    network = made(kind).train()
    optimiser = objective.optimiser(
        network, learning_rate=learning_rate, weight_decay=objective.weight_decay, capturable=False
    )
    seen = []
    for step in range(60):
        abnormal = material(6, abnormal=True, crops=crops, seed=step % 8)
        normal = material(6, abnormal=False, crops=crops, seed=step % 8)
        loss = objective.loss(network, abnormal, normal, crops)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        seen.append(float(loss.detach()))
    assert sum(seen[-8:]) < 0.9 * sum(seen[:8])
    abnormal_V = highest(network, material(30, abnormal=True, crops=crops, seed=99), crops)
    normal_V = highest(network, material(30, abnormal=False, crops=crops, seed=99), crops)
    above = (abnormal_V[:, None] > normal_V[None]).float().mean()
    assert above > 0.9  # the AUC of videos


# What each loss looks at


@pytest.mark.parametrize("kind", ["video_classifier", "bilstm_classifier"])
def test_a_classifiers_loss_is_the_cross_entropy_of_the_videos_label(kind: str) -> None:
    network = undropped(made(kind))
    a, n = material(3, abnormal=True), material(3, abnormal=False)
    of_a, of_n = (torch.sigmoid(network(x).logits_BT[:, 0].double()) for x in (a, n))
    expected = -(of_a.log().sum() + (1 - of_n).log().sum()) / 6
    assert OBJECTIVES[kind].loss(network, a, n, 1).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_short_term_loss_is_eq_2_on_the_scores_and_the_three_matrices() -> None:
    network = undropped(made("bilstm_mil"))
    a, n = material(3, abnormal=True), material(3, abnormal=False)
    of_a, of_n = network(a).scores_BT, network(n).scores_BT
    squares = sum(network.state_dict()[f"fc{layer}.weight"].square().sum() for layer in (1, 2, 3))
    expected = (
        torch.relu(1 - of_a.amax(1) + of_n.amax(1)).mean()
        + 8e-5 * ((of_a[:, :-1] - of_a[:, 1:]) ** 2).sum(1).mean()
        + 8e-5 * of_a.sum(1).mean()
        + 1e-3 * torch.as_tensor(squares).sqrt()
    )
    assert OBJECTIVES["bilstm_mil"].loss(network, a, n, 1).item() == pytest.approx(expected.item(), rel=1e-5)


def test_sultanis_loss_is_on_the_scores_and_the_three_matrices() -> None:
    network = undropped(made("sultani"))
    a, n = material(3, abnormal=True), material(3, abnormal=False)
    weights = [network.state_dict()[f"fc{layer}.weight"] for layer in (1, 2, 3)]
    expected = partners.sultani(network(a).scores_BT, network(n).scores_BT, weights)
    assert OBJECTIVES["sultani"].loss(network, a, n, 1).item() == pytest.approx(expected.item(), rel=1e-5)


def test_rtfms_loss_chooses_each_half_by_its_own_lengths_and_takes_the_abnormal_videos_scores() -> None:
    network = undropped(made("rtfm"))
    a, n = (material(3, abnormal=abnormal, crops=2, segments=20) for abnormal in (True, False))
    both = network.aggregated(torch.cat([a, n]))  # type: ignore[operator]
    scores = network.judged(both).scores_BT  # type: ignore[operator]
    ones = torch.ones(3, 20)
    abnormal = partners.longest(both[:6], scores[:6], ones, 2)
    normal = partners.longest(both[6:], scores[6:], ones, 2)
    of_videos = (scores[0:6:2] + scores[1:6:2]) / 2
    expected = partners.rtfm(abnormal, normal, of_videos)
    network.load_state_dict(undropped(made("rtfm")).state_dict())
    assert OBJECTIVES["rtfm"].loss(network, a, n, 2).item() == pytest.approx(expected.item(), rel=1e-5)


def test_rtfm_drops_segments_of_each_video_from_the_choice_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[Tensor] = []
    longest = partners.longest

    def noted(features: Tensor, scores: Tensor, mask_BT: Tensor, crops: int) -> tuple[Tensor, Tensor]:
        masks.append(mask_BT)
        return longest(features, scores, mask_BT, crops)

    monkeypatch.setattr(partners, "longest", noted)
    a, n = (material(20, abnormal=abnormal, crops=2, segments=20) for abnormal in (True, False))
    network = made("rtfm")
    OBJECTIVES["rtfm"].loss(network.train(), a, n, 2)
    OBJECTIVES["rtfm"].loss(network.eval(), a, n, 2)
    assert [tuple(mask.shape) for mask in masks] == [(20, 20)] * 4
    for mask in masks[:2]:
        assert sorted(set(mask.flatten().tolist())) == [0.0, pytest.approx(1 / 0.3)]
        assert (mask == 0).float().mean().item() == pytest.approx(0.7, abs=0.1)
    assert not torch.equal(masks[0], masks[1])
    assert all(torch.equal(mask, torch.ones(20, 20)) for mask in masks[2:])


def test_ur_dmus_loss_is_on_what_it_says_in_training() -> None:
    network = undropped(made("ur_dmu"))
    a, n = material(3, abnormal=True), material(3, abnormal=False)
    torch.manual_seed(4)
    expected = partners.ur_dmu(network.training_output(torch.cat([a, n])))  # type: ignore[operator]
    torch.manual_seed(4)
    assert OBJECTIVES["ur_dmu"].loss(network, a, n, 1).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns(kind: str) -> None:
    network, crops = made(kind).train(), crops_of(kind)
    batch = (material(8, abnormal=abnormal, crops=crops) for abnormal in (True, False))
    OBJECTIVES[kind].loss(network, *batch, crops).backward()  # type: ignore[call-arg, misc]
    still = {
        name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()
    }
    # Behind the non-local block's last scale, which begins at zero, nothing moves in the first step; a bias before a
    # softmax or a normalisation never counts.
    allowed = {
        "video_classifier": {"attend2.bias"},
        # At the last step the way back has seen one segment: nothing of it recurs.
        "bilstm_classifier": {"lstm.weight_hh_l1_reverse"},
    }.get(kind, set())
    allowed |= {name for name, _ in network.named_parameters() if kind == "rtfm" and name.startswith("far.")}
    assert still - allowed == set()
    if kind == "rtfm":
        assert "far.out.1.weight" not in still


# Machinery


@pytest.mark.parametrize("kind", ["video_classifier", *PARTNERS])  # not every CPU has a bfloat16 LSTM
def test_under_autocast_the_loss_is_one_finite_number_in_float32(kind: str) -> None:
    network, crops = made(kind).train(), crops_of(kind)
    a, n = (material(4, abnormal=abnormal, crops=crops, segments=20) for abnormal in (True, False))
    plain = OBJECTIVES[kind].loss(undropped(network), a, n, crops)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = OBJECTIVES[kind].loss(network, a, n, crops)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(plain.item(), rel=0.05)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_no_loss_looks_at_a_value(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On tensors without values: a branch on one, a shape that depends on one or a copy to the host is an error."""
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **named: nullcontext())  # knows no such device
    crops = crops_of(kind)
    with torch.device("meta"):
        network = made(kind).train()
        batch = torch.zeros(4 * crops, 20, D), torch.zeros(4 * crops, 20, D)
        loss = OBJECTIVES[kind].loss(network, *batch, crops)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.shape == ()
    assert loss.device.type == "meta"


def test_looking_at_a_value_would_be_noticed() -> None:
    with torch.device("meta"), pytest.raises(RuntimeError, match="meta"):
        bool(losses.long_term(torch.zeros(2), torch.zeros(2)) > 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("kind", KINDS)
def test_no_loss_synchronises(kind: str) -> None:
    network, crops = made(kind).cuda().train(), crops_of(kind)
    a, n = (material(4, abnormal=abnormal, crops=crops, segments=20).cuda() for abnormal in (True, False))
    OBJECTIVES[kind].loss(network, a, n, crops).backward()  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        OBJECTIVES[kind].loss(network, a, n, crops).backward()  # type: ignore[no-untyped-call]
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_ablation_shares_the_classifiers_schedule() -> None:
    assert OBJECTIVES["bilstm_classifier"] is OBJECTIVES["video_classifier"] is objectives.CLASSIFIER
