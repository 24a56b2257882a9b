"""Sultani's detector, RTFM and UR-DMU: published sizes, their equations written out in NumPy, a place in artefacts.

Shape suffixes: B bags, T segments, D dimensions of a feature, E = 512 embedded, H channels, I inner channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from monitor.detectors import artefact, detector
from monitor.detectors.detector import Detector
from monitor.detectors.ensemble import Ensemble
from monitor.detectors.rtfm import NonLocal, Rtfm
from monitor.detectors.sultani import Sultani
from monitor.detectors.ur_dmu import Block, Memory, UrDmu
from tests.monitor.detectors.test_artefact import a_card

Array = npt.NDArray[np.float64]
D = 12
PARTNERS = ["sultani", "rtfm", "ur_dmu"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def lived_in(network: nn.Module) -> None:
    """As after training: nothing is zero, and batch normalisation has seen a mean and a variance."""
    random = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            assert module.running_mean is not None and module.running_var is not None
            for tensor in (module.weight, module.bias, module.running_mean):
                tensor.data.normal_(generator=random)
            module.running_var.uniform_(0.5, 2.0, generator=random)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(0.0, 0.3, generator=random)


def made(kind: str, **arguments: Any) -> Detector:
    torch.manual_seed(3)
    network = detector.make(kind, {"dimensions": D, **arguments}).eval().requires_grad_(False)
    lived_in(network)
    return network


def features(bags: int, segments: int, seed: int = 0) -> Tensor:
    return torch.randn(bags, segments, D, generator=torch.Generator().manual_seed(seed))


def array(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def linear(layer: nn.Linear, x: Array) -> Array:
    return np.asarray(x @ array(layer.weight).T + (0 if layer.bias is None else array(layer.bias)))


def convolved(layer: nn.Conv1d, x_TC: Array, dilation: int = 1) -> Array:
    """(T, C) → (T, O): what lies beyond either end is zero."""
    weight_OCK = array(layer.weight)
    bias_O = np.zeros(len(weight_OCK)) if layer.bias is None else array(layer.bias)
    middle = weight_OCK.shape[2] // 2
    out_TO = np.tile(bias_O, (len(x_TC), 1))
    for at in range(len(x_TC)):
        for step in range(weight_OCK.shape[2]):
            seen = at + (step - middle) * dilation
            if 0 <= seen < len(x_TC):
                out_TO[at] += weight_OCK[:, :, step] @ x_TC[seen]
    return out_TO


def batch_normalised(layer: nn.BatchNorm1d, x_TC: Array) -> Array:
    assert layer.running_mean is not None and layer.running_var is not None
    standard_TC = (x_TC - array(layer.running_mean)) / np.sqrt(array(layer.running_var) + 1e-5)
    return standard_TC * array(layer.weight) + array(layer.bias)


# Sizes


@pytest.mark.parametrize(
    ("kind", "dimensions", "parameters"),
    [
        ("rtfm", 2048, 24_718_849),
        ("ur_dmu", 1024, 6_492_929),
        ("video_classifier", 2048, 328_004),
        ("sultani", 4096, 2_114_113),
    ],
)
def test_a_detector_has_its_published_size(kind: str, dimensions: int, parameters: int) -> None:
    network = detector.make(kind, {"dimensions": dimensions})
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize(("kind", "dropout"), [("sultani", 0.6), ("rtfm", 0.7), ("ur_dmu", 0.5)])
def test_every_dropout_is_the_published_one(kind: str, dropout: float) -> None:
    assert {module.p for module in made(kind).modules() if isinstance(module, nn.Dropout)} == {dropout}


# What holds for each


@pytest.mark.parametrize("kind", PARTNERS)
@pytest.mark.parametrize("segments", [1, 2, 7, 33])
def test_a_bag_of_any_length_is_scored_by_itself_whatever_lies_beside_it(kind: str, segments: int) -> None:
    network = made(kind)
    features_BTD = features(4, segments)
    output = network(features_BTD)
    assert output.logits_BT.shape == output.scores_BT.shape == (4, segments)
    assert output.logits_BT.dtype == output.scores_BT.dtype == torch.float32
    assert output.attention_BT is None
    assert torch.equal(output.scores_BT, torch.sigmoid(output.logits_BT))
    assert output.logits_BT.std() > 1e-3  # or nothing would be compared
    others_BTD = torch.cat([features_BTD[:1], 50 * features(3, segments, seed=9)])
    assert torch.allclose(network(others_BTD).logits_BT[:1], output.logits_BT[:1], atol=1e-5)
    alone_BT = torch.cat([network(features_BTD[i : i + 1]).logits_BT for i in range(4)])
    assert torch.allclose(alone_BT, output.logits_BT, atol=1e-5)


@pytest.mark.parametrize(("kind", "neighbours_count"), [("sultani", False), ("rtfm", True), ("ur_dmu", True)])
def test_neighbours_count_where_a_network_looks_at_them(kind: str, neighbours_count: bool) -> None:
    network = made(kind)
    one_BTD = features(1, 9)
    other_BTD = one_BTD.clone()
    other_BTD[0, 4] += 3.0
    change_T = (network(one_BTD).logits_BT - network(other_BTD).logits_BT)[0].abs()
    assert change_T[4] > 1e-4
    assert bool(change_T[[3, 5]].min() > 1e-6) is neighbours_count


@pytest.mark.parametrize("kind", PARTNERS)
@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
def test_an_artefact_holds_it_in_a_weighted_ensemble(kind: str, half: bool, tmp_path: Path) -> None:
    network = made(kind, **({"blocks": 1} if kind == "ur_dmu" else {}))
    if half:  # what float16 can hold, so that nothing is lost
        for tensor in network.state_dict().values():
            tensor.copy_(tensor.half())
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            assert module.num_batches_tracked is not None
            module.num_batches_tracked.fill_(100_001)  # more than float16 can say
    other = detector.make("bilstm_mil", {"dimensions": D, "hidden": 4, "fc1": 8}).eval().requires_grad_(False)
    for tensor in other.state_dict().values():
        tensor.copy_(tensor.half())
    ensemble = Ensemble({"partner": network, "other": other}, {"partner": 2.0, "other": 1.0}).eval()
    standardise = artefact.Standardisation(mean_D=torch.zeros(D), sd_D=torch.ones(D))
    artefact.save(tmp_path, a_card(backbone_dimensions=D, dimensions=D), standardise, ensemble, half=half)
    loaded = artefact.load(tmp_path)
    assert [(part.name, part.kind, part.weight) for part in loaded.card.detectors] == [
        ("partner", kind, 2.0),
        ("other", "bilstm_mil", 1.0),
    ]
    before, after = ensemble(features(3, 8)), loaded.ensemble(features(3, 8))
    assert torch.equal(after.parts_BT["partner"], before.parts_BT["partner"])
    assert torch.equal(after.scores_BT, before.scores_BT)
    assert torch.allclose(after.scores_BT, (2 * after.parts_BT["partner"] + after.parts_BT["other"]) / 3)
    kept = loaded.ensemble.detectors["partner"].state_dict()
    assert [kept[key].item() for key in kept if key.endswith("tracked")] == [100_001] * (5 if kind == "rtfm" else 0)


# Sultani


def test_sultanis_network_is_its_equations() -> None:
    network = made("sultani")
    assert isinstance(network, Sultani)
    x_TD = array(features(1, 5)[0])
    x_TD = np.asarray([row / math.sqrt(sum(row**2)) for row in x_TD])
    inner = linear(network.fc2, np.maximum(linear(network.fc1, x_TD), 0))  # no activation after the second
    assert array(network(features(1, 5)).logits_BT[0]) == pytest.approx(linear(network.fc3, inner)[:, 0], abs=1e-5)


@pytest.mark.parametrize("scale", [1e-4, 0.3, 7.0, 1e5])
def test_sultanis_scores_do_not_depend_on_a_features_scale(scale: float) -> None:
    network = made("sultani")
    scaled_BTD = features(2, 6)
    scaled_BTD[:, ::2] *= scale  # of each segment for itself
    assert torch.allclose(network(scaled_BTD).logits_BT, network(features(2, 6)).logits_BT, atol=1e-5)
    assert not torch.allclose(network(-features(2, 6)).logits_BT, network(features(2, 6)).logits_BT, atol=1e-2)


def test_a_feature_of_zeros_has_a_score() -> None:
    assert torch.isfinite(made("sultani")(torch.zeros(1, 3, D)).logits_BT).all()


def test_sultanis_weights_begin_after_glorot_and_its_biases_at_zero() -> None:
    torch.manual_seed(0)
    network = Sultani(300)
    spreads = {"fc1": math.sqrt(2 / (300 + 512)), "fc2": math.sqrt(2 / (512 + 32)), "fc3": math.sqrt(2 / (32 + 1))}
    for name, spread in spreads.items():
        layer = getattr(network, name)
        assert layer.weight.std().item() == pytest.approx(spread, rel=0.02 if name != "fc3" else 0.5)
        assert layer.weight.abs().max() > 1.9 * spread or name == "fc3"  # normal, not uniform
        assert not layer.bias.any()


# RTFM


def test_rtfms_layers_at_the_published_size() -> None:
    network = Rtfm(2048)
    shapes = {name: tuple(weight.shape) for name, weight in network.named_parameters() if name.endswith("weight")}
    assert shapes == {
        **{f"scales.{scale}.0.weight": (512, 2048, 3) for scale in range(3)},
        **{f"scales.{scale}.2.weight": (512,) for scale in range(3)},
        "narrow.0.weight": (512, 2048, 1),
        **{f"far.{name}.weight": (256, 512, 1) for name in ("theta", "phi", "g")},
        "far.out.0.weight": (512, 256, 1),
        "far.out.1.weight": (512,),
        "mix.0.weight": (2048, 2048, 3),
        "mix.2.weight": (2048,),
        "fc1.weight": (512, 2048),
        "fc2.weight": (128, 512),
        "fc3.weight": (1, 128),
    }


@pytest.mark.parametrize("training", [True, False])
def test_the_non_local_block_begins_as_the_identity(training: bool) -> None:
    torch.manual_seed(0)
    x_BHT = torch.randn(3, 6, 11)
    assert torch.equal(NonLocal(6).train(training)(x_BHT), x_BHT)
    within = Rtfm(24).train(training).far
    assert torch.equal(within(x_BHT), x_BHT)


def literal_non_local(block: NonLocal, x_TH: Array) -> Array:
    theta_TI, phi_TI, g_TI = (convolved(layer, x_TH) for layer in (block.theta, block.phi, block.g))
    count = len(x_TH)
    taken_TI = np.zeros_like(g_TI)
    for i in range(count):
        for j in range(count):
            taken_TI[i] += (theta_TI[i] @ phi_TI[j]) / count * g_TI[j]
    conv, norm = block.out
    assert isinstance(conv, nn.Conv1d) and isinstance(norm, nn.BatchNorm1d)
    return batch_normalised(norm, convolved(conv, taken_TI)) + x_TH


def test_the_non_local_block_is_its_equations() -> None:
    torch.manual_seed(0)
    block = NonLocal(6).double().eval().requires_grad_(False)
    lived_in(block)
    x_TH = torch.randn(7, 6, dtype=torch.float64)
    expected = literal_non_local(block, array(x_TH))
    assert np.allclose(array(block(x_TH.T[None])[0].T), expected, atol=1e-10)
    assert not np.allclose(expected, array(x_TH), atol=1e-2)


def test_rtfms_network_is_its_equations() -> None:
    network = made("rtfm").double()
    assert isinstance(network, Rtfm)
    x_TD = features(1, 11)[0].double()
    parts = []
    for scale, dilation in zip(network.scales, (1, 2, 4), strict=True):
        conv, _, norm = scale  # type: ignore[misc]
        parts.append(batch_normalised(norm, np.maximum(convolved(conv, array(x_TD), dilation), 0)))
    narrow, (mix, _, mix_norm) = network.narrow[0], network.mix  # type: ignore[misc]
    assert isinstance(narrow, nn.Conv1d)
    parts.append(literal_non_local(network.far, np.maximum(convolved(narrow, array(x_TD)), 0)))
    mixed = batch_normalised(mix_norm, np.maximum(convolved(mix, np.concatenate(parts, axis=1)), 0))
    aggregated = mixed + array(x_TD)
    assert np.allclose(array(network.aggregated(x_TD[None])[0]), aggregated, atol=1e-10)
    inner = np.maximum(linear(network.fc2, np.maximum(linear(network.fc1, aggregated), 0)), 0)
    expected_T = linear(network.fc3, inner)[:, 0]
    assert array(network(x_TD[None]).logits_BT[0]) == pytest.approx(expected_T, abs=1e-5)


def test_rtfm_drops_features_before_it_judges_them() -> None:
    network = made("rtfm").train()
    assert isinstance(network, Rtfm)
    torch.manual_seed(0)
    aggregated_BTD = network.aggregated(features(8, 32))
    assert (aggregated_BTD == 0).float().mean().item() == pytest.approx(0.7, abs=0.03)


def test_rtfms_weights_begin_xavier_uniform_and_its_biases_at_zero() -> None:
    torch.manual_seed(0)
    network = Rtfm(64)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv1d | nn.Linear)]
    assert len(layers) == 3 + 1 + 4 + 1 + 3
    for layer in layers:
        taps = layer.kernel_size[0] if isinstance(layer, nn.Conv1d) else 1
        bound = math.sqrt(6 / ((layer.weight.shape[0] + layer.weight.shape[1]) * taps))
        assert 0.9 * bound < layer.weight.abs().max().item() <= bound
        assert layer.bias is None or not layer.bias.any()


# UR-DMU


def literal_attention(block: Block, x_TE: Array) -> Array:
    """Loops: 4 heads of 128; softmax(qkᵀ/√128)v beside the row-normalised e^(−|i−j|/e)t."""
    count = len(x_TE)
    projected = linear(block.project, x_TE)
    q, k, v, t = (projected[:, part * 512 : (part + 1) * 512] for part in range(4))
    near = np.asarray([[math.exp(-abs(i - j) / math.e) for j in range(count)] for i in range(count)])
    near = np.asarray([row / sum(row) for row in near])
    heads = []
    for head in range(4):
        of = slice(128 * head, 128 * (head + 1))
        far = np.exp(np.asarray([[q[i, of] @ k[j, of] / math.sqrt(128) for j in range(count)] for i in range(count)]))
        far = np.asarray([row / sum(row) for row in far])
        heads += [far @ v[:, of], near @ t[:, of]]
    out = block.out[0]
    assert isinstance(out, nn.Linear)
    return linear(out, np.concatenate(heads, axis=1))


def layer_normalised(layer: nn.LayerNorm, x: Array) -> Array:
    standard = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return standard * array(layer.weight) + array(layer.bias)


def literal_block(block: Block, x_TE: Array) -> Array:
    x_TE = x_TE + literal_attention(block, layer_normalised(block.norm1, x_TE))
    first, last = block.feed[0], block.feed[3]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    inner = linear(first, layer_normalised(block.norm2, x_TE))
    gelu = np.vectorize(lambda value: value * 0.5 * (1 + math.erf(value / math.sqrt(2))))
    return x_TE + linear(last, gelu(inner))


def literal_memory(memory: Memory, x_TE: Array) -> tuple[Array, Array]:
    prototypes = array(memory.prototypes_KE)
    assert prototypes.shape == (60, 512)
    likeness = sigmoid(x_TE @ prototypes.T / math.sqrt(512))
    strength = np.asarray([sum(sorted(row)[-4:]) / 4 for row in likeness])
    return strength, np.asarray([sum(a * m for a, m in zip(row, prototypes, strict=True)) for row in likeness])


@pytest.mark.parametrize("segments", [1, 6])
def test_ur_dmus_attention_is_its_equations(segments: int) -> None:
    torch.manual_seed(0)
    block = Block(0.5).double().eval().requires_grad_(False)
    x_BTE = torch.randn(2, segments, 512, dtype=torch.float64)
    block.project.weight *= 4  # so that the softmax prefers some segments
    ours = array(block._attend(x_BTE))
    for bag in range(2):
        assert np.allclose(ours[bag], literal_attention(block, array(x_BTE[bag])), atol=1e-6)


def test_near_weights_fall_by_e_to_the_power_of_the_distance_over_e_and_sum_to_1_in_each_row() -> None:
    """Nothing but the near half's first head is let through, and t says where a segment is."""
    block = Block(0.5).eval().requires_grad_(False)
    block.project.weight.zero_()
    block.project.weight[1536:1540, :4] = torch.eye(4)  # the first entries of t
    out = block.out[0]
    assert isinstance(out, nn.Linear)
    out.weight.zero_()
    out.bias.zero_()
    out.weight[:4, 128:132] = torch.eye(4)
    found_TT = block._attend(torch.eye(4, 512)[None])[0, :, :4]
    assert found_TT.sum(1).tolist() == pytest.approx([1.0] * 4)
    # e^(−1/e) = 0.6922, e^(−2/e) = 0.4791, e^(−3/e) = 0.3317
    assert found_TT[0].tolist() == pytest.approx([0.39952, 0.27655, 0.19143, 0.13251], abs=2e-5)
    assert found_TT[1].tolist() == pytest.approx([0.24173, 0.34922, 0.24173, 0.16733], abs=2e-5)


def test_ur_dmus_network_is_its_equations() -> None:
    network = made("ur_dmu").double()
    assert isinstance(network, UrDmu)
    x_TE = np.maximum(convolved(network.embed, array(features(1, 5)[0])), 0)
    for block in network.blocks:
        assert isinstance(block, Block)
        x_TE = literal_block(block, x_TE)
    assert len(network.blocks) == 2
    features_BTD = features(1, 5).double()
    assert np.allclose(array(network.embedded(features_BTD)[0]), x_TE, atol=1e-5)
    of_abnormal, of_normal = (literal_memory(memory, x_TE)[1] for memory in (network.abnormal, network.normal))
    recalled = linear(network.mean, of_abnormal) + linear(network.mean, of_normal)
    inner = np.maximum(linear(network.fc1, np.concatenate([x_TE, recalled], axis=1)), 0)
    assert array(network(features_BTD).logits_BT[0]) == pytest.approx(linear(network.fc2, inner)[:, 0], abs=1e-5)


def test_a_memory_is_its_equations() -> None:
    torch.manual_seed(0)
    memory = Memory().double()
    assert memory.prototypes_KE.abs().max().item() == pytest.approx(1 / math.sqrt(512), rel=1e-3)
    x_BTE = 30 * torch.randn(2, 3, 512, dtype=torch.float64)
    strength_BT, recalled_BTE = memory(x_BTE)
    for bag in range(2):
        strength, recalled = literal_memory(memory, array(x_BTE[bag]))
        assert np.allclose(array(strength_BT[bag]), strength)
        assert np.allclose(array(recalled_BTE[bag]), recalled)


def test_what_ur_dmu_says_in_training_is_of_the_right_memory_and_the_right_half(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = made("ur_dmu", blocks=1)
    assert isinstance(network, UrDmu)
    features_BTD = features(6, 7)
    drawn: list[tuple[int, ...]] = []

    def ones(of: Tensor) -> Tensor:
        drawn.append(tuple(of.shape))
        return torch.ones_like(of)

    monkeypatch.setattr(torch, "randn_like", ones)
    seen = network.training_output(features_BTD)
    assert drawn == [(3, 7, 512)]  # nothing is drawn for abnormal videos
    x_BTE = network.embedded(features_BTD)
    x_A, x_N = x_BTE[:3], x_BTE[3:]
    (aa, from_aa), (na, from_na) = network.abnormal(x_A), network.normal(x_A)
    (an, from_an), (nn_, from_nn) = network.abnormal(x_N), network.normal(x_N)
    mean_N, log_variance_N = network.mean(from_nn), network.log_variance(from_nn)
    recalled_N = mean_N + torch.exp(log_variance_N) ** 0.5  # one standard deviation up
    expected = {
        "embedded_A": x_A,
        "embedded_N": x_N,
        "abnormal_of_A": aa,
        "normal_of_A": na,
        "abnormal_of_N": an,
        "normal_of_N": nn_,
        "mean_N": mean_N,
        "log_variance_N": log_variance_N,
        "recalled_A": network.mean(from_aa),
        "recalled_N": recalled_N,
    }
    for name, tensor in expected.items():
        torch.testing.assert_close(getattr(seen, name), tensor, rtol=1e-4, atol=1e-5, msg=name)
    beside_BTE = torch.cat([network.mean(from_aa) + network.mean(from_na), recalled_N + network.mean(from_an)])
    inner = torch.relu(network.fc1(torch.cat([x_BTE, beside_BTE], dim=2)))
    torch.testing.assert_close(seen.logits_BT, network.fc2(inner)[..., 0], rtol=1e-4, atol=1e-5)


def test_without_uncertainty_training_and_serving_give_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    network = made("ur_dmu", blocks=1)
    assert isinstance(network, UrDmu)
    nothing: Callable[[Tensor], Tensor] = torch.zeros_like
    monkeypatch.setattr(torch, "randn_like", nothing)
    features_BTD = features(4, 6)
    torch.testing.assert_close(
        network.training_output(features_BTD).logits_BT, network(features_BTD).logits_BT, rtol=1e-4, atol=1e-5
    )
