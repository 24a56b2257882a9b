"""Rings and detectors together: the published scores against the paper's own equations, written out in NumPy."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from monitor.config import Thresholds
from monitor.detectors.artefact import Artefact, Card, Standardisation
from monitor.detectors.bilstm_mil import BiLstmMil
from monitor.detectors.card import ArtefactError, gap_of
from monitor.detectors.ensemble import Ensemble
from monitor.detectors.video_classifier import VideoClassifier
from monitor.flow import BagScore, Preprocessing, Segment
from monitor.scoring.rings import BagSettings, Rings

D = 8
Array = npt.NDArray[np.float64]


class FirstBytes:
    """A backbone small enough to be written out: a segment's feature is its first D bytes / 255."""

    name = "first_bytes"
    dimensions = D
    fingerprint = "0" * 64
    engine = "eager"
    device = torch.device("cpu")
    preprocessing = Preprocessing(height_px=2, width_px=2, fit="stretch", frames=(0,))

    def encode(self, pictures_BKHWC: Any) -> torch.Tensor:
        bytes_BN = torch.from_numpy(np.asarray(pictures_BKHWC)).reshape(len(pictures_BKHWC), -1)
        return bytes_BN[:, :D].to(self.device).float() / 255


@pytest.fixture
def artefact() -> Artefact:
    torch.manual_seed(3)
    ensemble = Ensemble(
        {
            "video_classifier": VideoClassifier(dimensions=D, hidden=6, heads=3, fc=5),
            "bilstm_mil": BiLstmMil(dimensions=D, hidden=4, fc1=7, fc2=5),
        }
    ).eval()
    card = Card(
        name="test",
        backbone="first_bytes",
        backbone_fingerprint="0" * 64,
        backbone_dimensions=D,
        dimensions=D,
        length=32,
        stride=32,
        delay=0,
        fps=15.0,
        thresholds=Thresholds(raise_at=0.6, clear_at=0.4),
        data=(),
        terms_of_use="none",
        command="none",
        commit="none",
        created="2026-01-01T00:00:00Z",
    )
    standardise = Standardisation(mean_D=torch.full((D,), 0.5), sd_D=torch.full((D,), 0.25))
    return Artefact(card=card, standardise=standardise, ensemble=ensemble, folder=Path())


def rings(artefact: Artefact, length: int, stride: int, delay: int, max_gap: int = 0) -> Rings:
    bags = BagSettings(length=length, stride=stride, delay=delay, max_gap=max_gap, files=True)
    return Rings(FirstBytes(), artefact, bags)


def segments(camera: str, count: int, seed: int = 0) -> list[Segment]:
    pictures = np.random.default_rng(seed).integers(0, 256, (count, 1, 2, 2, 3), dtype=np.uint8)
    return [
        Segment(
            camera=camera,
            number=n,
            start_s=float(n),
            end_s=float(n + 1),
            captured_s=float(n + 1),
            captured_wall_s=float(n + 1),
            pictures=pictures[n],
        )
        for n in range(count)
    ]


def end(camera: str) -> Segment:
    return Segment(
        camera=camera, number=-1, start_s=0, end_s=0, captured_s=0, captured_wall_s=0, pictures=None, last=True
    )


def score(engine: Rings, batch: list[Segment]) -> list[BagScore]:
    real = [segment for segment in batch if segment.pictures is not None]
    return engine.score(batch, engine.encode(real) if real else None)


def published(bags: list[BagScore], camera: str) -> dict[int, float]:
    found: dict[int, float] = {}
    for bag in bags:
        for index in bag.published if bag.camera == camera else ():
            times = bag.times[index]
            assert times is not None
            assert times.number not in found, "published twice"
            found[times.number] = float(bag.scores_N[index])
    return found


# -- the paper, literally ------------------------------------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def weights(module: torch.nn.Module) -> dict[str, Array]:
    return {name: tensor.detach().numpy().astype(np.float64) for name, tensor in module.named_parameters()}


def plain_video_classifier(f_TD: Array, w: dict[str, Array]) -> float:
    a1 = np.tanh(f_TD @ w["attend1.weight"].T + w["attend1.bias"])
    a2 = np.exp(a1 @ w["attend2.weight"].T + w["attend2.bias"])
    a2 /= a2.sum(0)
    m = np.concatenate([a2[:, head] @ f_TD for head in range(3)])
    fc1 = m @ w["fc1.weight"].T + w["fc1.bias"]
    return float(sigmoid(fc1 @ w["fc2.weight"].T + w["fc2.bias"])[0])


def plain_lstm(x_TD: Array, w: dict[str, Array], layer: int, suffix: str) -> Array:
    w_ih, w_hh = w[f"lstm.weight_ih_l{layer}{suffix}"], w[f"lstm.weight_hh_l{layer}{suffix}"]
    bias = w[f"lstm.bias_ih_l{layer}{suffix}"] + w[f"lstm.bias_hh_l{layer}{suffix}"]
    size = w_hh.shape[1]
    h, c, out = np.zeros(size), np.zeros(size), []
    for x in x_TD if not suffix else x_TD[::-1]:
        i, f, g, o = np.split(w_ih @ x + w_hh @ h + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.array(out if not suffix else out[::-1])


def plain_bilstm_mil(f_TD: Array, w: dict[str, Array]) -> Array:
    x = f_TD
    for layer in (0, 1):
        x = np.concatenate([plain_lstm(x, w, layer, ""), plain_lstm(x, w, layer, "_reverse")], axis=1)
    y = x @ w["fc1.weight"].T + w["fc1.bias"]
    y = (y * sigmoid(y)) @ w["fc2.weight"].T + w["fc2.bias"]
    return sigmoid(y @ w["fc3.weight"].T + w["fc3.bias"])[:, 0]


def plain_paper(artefact: Artefact, pictures: list[Segment], length: int) -> list[float]:
    """Sections 3 and 4: eq. 1 cuts the video, each detector scores each bag, eq. 3 is their mean."""
    f_ND = np.array([s.pictures.reshape(-1)[:D] for s in pictures if s.pictures is not None]) / 255
    f_ND = (f_ND - 0.5) / 0.25
    long_w = weights(artefact.ensemble.detectors["video_classifier"])
    short_w = weights(artefact.ensemble.detectors["bilstm_mil"])
    scores: list[float] = []
    for start in range(0, len(f_ND), length):
        bag_TD = f_ND[start : start + length]
        scores += list((plain_video_classifier(bag_TD, long_w) + plain_bilstm_mil(bag_TD, short_w)) / 2)
    return scores


@pytest.mark.parametrize("count", [64, 70, 32, 33, 5])
def test_stride_l_and_delay_0_is_the_papers_inference(artefact: Artefact, count: int) -> None:
    engine = rings(artefact, length=32, stride=32, delay=0)
    video = segments("gate", count)
    bags = score(engine, [*video, end("gate")])
    expected = plain_paper(artefact, video, length=32)
    got = published(bags, "gate")
    assert list(got) == list(range(count))
    np.testing.assert_allclose(list(got.values()), expected, atol=1e-6)


def test_the_mean_is_of_the_parts_and_the_attention_sums_to_one(artefact: Artefact) -> None:
    (bag, _) = score(rings(artefact, 8, 4, 2), segments("gate", 12))
    np.testing.assert_allclose(bag.scores_N, (bag.long_term_N + bag.short_term_N) / 2, atol=1e-6)
    assert float(bag.attention_N.sum()) == pytest.approx(1.0, abs=1e-5)
    assert len(set(bag.long_term_N.tolist())) == 1, "the long-term detector gives a bag one score"


def test_a_bags_feature_is_its_segments_features_weighted_by_the_attention(artefact: Artefact) -> None:
    held, fed = rings(artefact, 8, 4, 2), segments("gate", 8)
    features_TD = held.encode(fed).numpy()
    (bag,) = score(rings(artefact, 8, 4, 2), fed)
    assert bag.feature_D is not None
    np.testing.assert_allclose(bag.feature_D, bag.attention_N @ features_TD, atol=5e-3)


def test_batching_across_cameras_changes_no_score(artefact: Artefact) -> None:
    yard, gate = segments("yard", 20, seed=1), segments("gate", 20, seed=2)
    alone = rings(artefact, 8, 2, 3)
    single = [bag for segment in yard for bag in score(alone, [segment])]
    together = rings(artefact, 8, 2, 3)
    mixed = [s for pair in zip(yard, gate, strict=True) for s in pair]
    batched = [bag for at in range(0, 40, 16) for bag in score(together, mixed[at : at + 16])]
    expected, got = published(single, "yard"), published(batched, "yard")
    assert got.keys() == expected.keys()
    np.testing.assert_allclose(list(got.values()), list(expected.values()), atol=1e-6)


def test_a_bridged_gap_holds_the_feature_before_it_and_is_counted(artefact: Artefact) -> None:
    video = segments("gate", 8)
    engine = rings(artefact, length=8, stride=8, delay=0, max_gap=2)
    (bag,) = score(engine, video[:3] + video[5:])
    assert bag.bridged == 2
    assert [times.number if times else None for times in bag.times] == [0, 1, 2, None, None, 5, 6, 7]
    held = rings(artefact, length=8, stride=8, delay=0)
    filled = [Segment(**{**_fields(video[n]), "pictures": video[2 if n in (3, 4) else n].pictures}) for n in range(8)]
    (expected,) = score(held, filled)
    np.testing.assert_allclose(bag.scores_N, expected.scores_N, atol=1e-6)


def test_an_invalid_segment_is_noted_and_not_scored(artefact: Artefact) -> None:
    engine = rings(artefact, length=4, stride=4, delay=0, max_gap=1)
    video = segments("gate", 4)
    video[1] = Segment(**{**_fields(video[1]), "pictures": None, "invalid": "frozen"})
    (bag,) = score(engine, video)
    assert bag.published == (0, 2, 3)
    assert engine.progress["gate"].invalid == 1


def test_a_forgotten_camera_begins_anew_and_its_row_is_used_again(artefact: Artefact) -> None:
    engine = rings(artefact, length=4, stride=1, delay=0)
    score(engine, segments("gate", 3))
    engine.forget("gate")
    assert "gate" not in engine.progress
    assert score(engine, segments("yard", 3, seed=9)) == []
    bags = score(engine, segments("gate", 4))
    expected = score(rings(artefact, length=4, stride=1, delay=0), segments("gate", 4))
    np.testing.assert_allclose(bags[0].scores_N, expected[0].scores_N, atol=1e-6)


@pytest.mark.parametrize(
    ("length", "wanted", "gap"),
    [(32, None, 4), (4, None, 1), (2, None, 1), (1, None, 0), (4, 0, 0), (4, 3, 3), (1, 0, 0)],
)
def test_a_bag_is_never_bridged_from_end_to_end(artefact: Artefact, length: int, wanted: int | None, gap: int) -> None:
    card = artefact.card.model_copy(update={"length": length})
    assert gap_of(wanted, card) == gap
    with pytest.raises(ArtefactError, match=f"so max_gap is 0 to {length - 1}"):
        gap_of(length, card)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_rings_on_cuda_score_as_on_the_cpu(artefact: Artefact) -> None:
    """The shipped way: features, rings and detectors on the device, many cameras in a batch."""
    cameras = [f"camera-{n}" for n in range(40)]
    videos = {name: segments(name, 20, seed=n) for n, name in enumerate(cameras)}
    mixed = [videos[name][at] for at in range(20) for name in cameras]
    expected_engine = rings(artefact, 8, 2, 3)
    expected = [bag for at in range(0, len(mixed), 64) for bag in score(expected_engine, mixed[at : at + 64])]
    cuda = torch.device("cuda", 0)
    moved = Artefact(
        card=artefact.card,
        standardise=artefact.standardise.to(cuda),
        ensemble=copy.deepcopy(artefact.ensemble).to(cuda),
        folder=artefact.folder,
    )
    backbone = FirstBytes()
    backbone.device = cuda
    bags = BagSettings(length=8, stride=2, delay=3, max_gap=0, files=True)
    engine = Rings(backbone, moved, bags)
    got = [bag for at in range(0, len(mixed), 64) for bag in score(engine, mixed[at : at + 64])]
    for name in cameras:
        on_cpu, on_cuda = published(expected, name), published(got, name)
        assert on_cuda.keys() == on_cpu.keys()
        np.testing.assert_allclose(list(on_cuda.values()), list(on_cpu.values()), atol=1e-5)


def _fields(segment: Segment) -> dict[str, Any]:
    return {name: getattr(segment, name) for name in segment.__dataclass_fields__}
