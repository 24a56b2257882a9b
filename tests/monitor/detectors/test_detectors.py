"""The detectors and their mean against the paper's equations, written out plainly.

Shape suffixes: B bags, T segments, D dimensions of a feature.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from monitor.detectors import detector
from monitor.detectors.bilstm_classifier import BiLstmClassifier
from monitor.detectors.bilstm_mil import BiLstmMil
from monitor.detectors.detector import Detector
from monitor.detectors.ensemble import Ensemble
from monitor.detectors.video_classifier import VideoClassifier

EVERY: list[tuple[str, dict[str, Any]]] = [
    ("video_classifier", {}),
    ("video_classifier", {"recurrent": 16}),
    ("video_classifier", {"recurrent": 16, "pool": "features"}),
    ("bilstm_mil", {}),
    ("bilstm_classifier", {}),
]


def _features(bags: int, segments: int, dimensions: int, seed: int = 0) -> Tensor:
    return torch.randn(bags, segments, dimensions, generator=torch.Generator().manual_seed(seed))


def _make(kind: str, arguments: dict[str, Any], dimensions: int = 24) -> Detector:
    torch.manual_seed(3)
    return detector.make(kind, {"dimensions": dimensions, **arguments}).eval().requires_grad_(False)


def test_the_video_classifier_has_the_papers_size() -> None:
    assert sum(parameter.numel() for parameter in VideoClassifier(2048).parameters()) == 328_004


def test_the_bilstm_with_mil_has_the_papers_layers() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in BiLstmMil(2048).state_dict().items()}
    assert {name: shape for name, shape in shapes.items() if name.startswith("fc")} == {
        "fc1.weight": (512, 512),
        "fc1.bias": (512,),
        "fc2.weight": (32, 512),
        "fc2.bias": (32,),
        "fc3.weight": (1, 32),
        "fc3.bias": (1,),
    }
    assert shapes["lstm.weight_ih_l0"] == (4 * 256, 2048)
    assert shapes["lstm.weight_ih_l1_reverse"] == (4 * 256, 512)
    assert BiLstmMil(2048).dropout.p == 0.6


def test_the_video_classifier_is_its_equations() -> None:
    network = VideoClassifier(24).eval().requires_grad_(False)
    features_TD = _features(1, 7, 24)[0]
    a1 = torch.tanh(features_TD @ network.attend1.weight.T + network.attend1.bias)
    exponents = torch.exp(a1 @ network.attend2.weight.T + network.attend2.bias)
    a2 = exponents / exponents.sum(0)
    memory = torch.cat([(features_TD * a2[:, head : head + 1]).sum(0) for head in range(3)])
    inner = network.fc1.weight @ memory + network.fc1.bias
    logit = (network.fc2.weight @ inner + network.fc2.bias).item()
    output = network(features_TD[None])
    assert output.logits_BT[0].tolist() == pytest.approx([logit] * 7, abs=1e-5)
    assert output.scores_BT[0].tolist() == pytest.approx([1 / (1 + 2.718281828459045**-logit)] * 7, abs=1e-6)
    assert output.attention_BT is not None
    assert torch.allclose(output.attention_BT[0], a2.mean(1), atol=1e-6)


def test_its_dropout_falls_on_the_weights_after_the_softmax() -> None:
    """With every weight dropped nothing is pooled: what is left are the biases of the two last layers."""
    network = VideoClassifier(24, dropout=1.0).train().requires_grad_(False)
    expected = network.fc2.weight @ network.fc1.bias + network.fc2.bias
    assert torch.allclose(network(_features(1, 5, 24)).logits_BT, expected.expand(1, 5))


def test_the_bilstm_with_mil_is_its_equations() -> None:
    network = BiLstmMil(24).eval().requires_grad_(False)
    features_BTD = _features(1, 9, 24)
    states_TE = network.lstm(features_BTD)[0][0]
    inner = network.fc1(states_TE)
    inner = network.fc2(inner * torch.sigmoid(inner))
    expected_T = network.fc3(inner)[:, 0]
    output = network(features_BTD)
    assert torch.allclose(output.logits_BT[0], expected_T, atol=1e-6)
    assert torch.allclose(output.scores_BT[0], torch.sigmoid(expected_T), atol=1e-6)
    assert output.attention_BT is None


def test_the_ablation_reads_the_last_step() -> None:
    network = BiLstmClassifier(24).eval().requires_grad_(False)
    features_BTD = _features(2, 9, 24)
    expected_B1 = network.fc(network.lstm(features_BTD)[0][:, -1])
    assert torch.allclose(network(features_BTD).logits_BT, expected_B1.expand(2, 9))


@pytest.mark.parametrize(("kind", "arguments"), EVERY)
@pytest.mark.parametrize("segments", [1, 2, 32, 45])
def test_a_bag_of_any_length_is_scored_unpadded_and_alone_as_in_a_batch(
    kind: str, arguments: dict[str, Any], segments: int
) -> None:
    network = _make(kind, arguments)
    features_BTD = _features(4, segments, 24)
    output = network(features_BTD)
    assert output.scores_BT.shape == output.logits_BT.shape == (4, segments)
    assert output.scores_BT.dtype == output.logits_BT.dtype == torch.float32
    alone_BT = torch.cat([network(features_BTD[i : i + 1]).logits_BT for i in range(4)])
    assert torch.allclose(output.logits_BT, alone_BT, atol=1e-6)
    if output.attention_BT is not None:
        assert torch.allclose(output.attention_BT.sum(1), torch.ones(4))


@pytest.mark.parametrize(("kind", "arguments"), EVERY)
def test_what_it_was_made_with_makes_it_again(kind: str, arguments: dict[str, Any]) -> None:
    network = _make(kind, arguments)
    assert network.kind == kind
    again = detector.make(network.kind, network.arguments).eval()
    again.load_state_dict(network.state_dict())
    features_BTD = _features(2, 6, 24)
    assert torch.equal(again(features_BTD).logits_BT, network(features_BTD).logits_BT)


def test_every_registered_detector_has_a_horizon_and_its_name() -> None:
    assert {kind: (made.kind, made.horizon) for kind in detector.kinds() if (made := _make(kind, {}))} == {
        "video_classifier": ("video_classifier", "long_term"),
        "bilstm_mil": ("bilstm_mil", "short_term"),
        "bilstm_classifier": ("bilstm_classifier", "long_term"),
        "sultani": ("sultani", "short_term"),
        "rtfm": ("rtfm", "short_term"),
        "ur_dmu": ("ur_dmu", "short_term"),
    }


@pytest.mark.parametrize(
    ("kind", "arguments", "says"),
    [
        ("rtfm2", {}, "there is no detector 'rtfm2'; known are video_classifier, bilstm_mil"),
        ("bilstm_mil", {"heads": 3}, "detector 'bilstm_mil' does not take these arguments: .*'heads'"),
        ("video_classifier", {"pool": "both"}, "pool is 'states' or 'features', not 'both'"),
    ],
)
def test_unknown_detectors_and_arguments_are_refused(kind: str, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _make(kind, arguments)


def test_saturated_scores_keep_their_order_in_the_logits() -> None:
    output = detector.scored(torch.tensor([[30.0, 40.0]]))
    assert output.scores_BT[0].tolist() == [1.0, 1.0]
    assert output.logits_BT[0].tolist() == [30.0, 40.0]


def test_the_ensemble_is_the_mean_of_both_detectors() -> None:
    long_term, short_term = _make("video_classifier", {}), _make("bilstm_mil", {})
    features_BTD = _features(3, 8, 24)
    output = Ensemble({"video_classifier": long_term, "bilstm_mil": short_term})(features_BTD)
    seen = long_term(features_BTD)
    assert torch.equal(output.long_term_BT, seen.scores_BT)
    assert torch.equal(output.short_term_BT, short_term(features_BTD).scores_BT)
    assert torch.equal(output.scores_BT, (output.long_term_BT + output.short_term_BT) / 2)
    assert seen.attention_BT is not None
    assert torch.equal(output.attention_BT, seen.attention_BT)
    assert list(output.parts_BT) == ["video_classifier", "bilstm_mil"]


def test_an_ensemble_takes_any_detectors_and_weighs_them() -> None:
    parts = {
        "one": _make("video_classifier", {}),
        "two": _make("video_classifier", {"recurrent": 8}),
        "three": _make("bilstm_mil", {}),
    }
    features_BTD = _features(2, 5, 24)
    output = Ensemble(parts, {"one": 1.0, "two": 1.0, "three": 2.0})(features_BTD)
    one, two, three = (output.parts_BT[name] for name in parts)
    assert torch.allclose(output.scores_BT, one / 4 + two / 4 + three / 2)
    assert torch.allclose(output.long_term_BT, (one + two) / 2)
    assert torch.allclose(output.short_term_BT, three)


def test_an_ensemble_of_one_horizon_has_the_mean_as_both_parts_and_looks_evenly() -> None:
    output = Ensemble({"only": _make("bilstm_mil", {})})(_features(2, 5, 24))
    assert torch.equal(output.long_term_BT, output.scores_BT)
    assert torch.equal(output.short_term_BT, output.scores_BT)
    assert output.attention_BT.tolist() == [[pytest.approx(0.2)] * 5] * 2


@pytest.mark.parametrize("weights", [{"a": 0.0}, {"b": 1.0}, {}])
def test_wrong_weights_of_an_ensemble_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="each of a has one weight above 0"):
        Ensemble({"a": _make("bilstm_mil", {})}, weights)


def test_an_ensemble_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one detector"):
        Ensemble({})
