"""Trains both detectors of the paper on weakly labelled videos: RAdam, balanced batches, random MIL steps.

V videos, C crops, T segments a resampled video, P dimensions after standardisation, B = 2 · half a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monitor.detectors.artefact import Standardisation
from monitor.detectors.bilstm_mil import BiLstmMil
from monitor.detectors.detector import Detector
from monitor.detectors.ensemble import Ensemble
from monitor.detectors.video_classifier import VideoClassifier
from training import bags, losses, standardise
from training.catalogue import Video
from training.features import Features

Floats = npt.NDArray[np.float32]
Random = np.random.Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long a detector is trained, and on how many segments a video is resampled to."""

    steps: int
    segments: int
    """T; short, because the clips are: 5 seconds are 4 to 8 segments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All choices of a training run but the data and the seed."""

    fps: float = 15.0
    projected: int | None = 128
    whiten: float = 0.0
    look: float = 1.0
    """How much the first half of the backbone's feature (how a segment looks) weighs against the second (how it
    changes), before the projection: below 1, since a room's looks do not carry over to the next room."""
    long_term: Schedule = field(default_factory=lambda: Schedule(steps=150, segments=8))
    short_term: Schedule = field(default_factory=lambda: Schedule(steps=150, segments=8))
    half_batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    """The paper has none; the authors' code neither."""
    feature_dropout: float = 0.0
    """Share of the standardised dimensions that are zeroed, a whole video alike, in training."""
    label_smoothing: float = 0.0
    extra_share: float = 0.2
    """Of the draws of each label, what videos without a fold (calm footage, staged scenes) get."""
    extra_long_term: bool = True
    """Whether Video Classifier learns from them too. It must give a whole video one label; a long staged clip is
    mostly calm, which only the MIL loss, looking for one segment, can live with."""
    loss: losses.ShortTermLoss = field(default_factory=losses.ShortTermLoss)
    bag: int = 8
    """l of the deployed bags, in segments."""
    stride: int = 1
    delay: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """What a run leaves: the features' standardisation and the ensemble in eval mode."""

    recipe: Recipe
    standardisation: Standardisation
    ensemble: Ensemble


def train(
    videos: Sequence[Video],
    features: Mapping[str, Features],
    recipe: Recipe,
    seed: int,
) -> Trained:
    """Both detectors on these videos, the last step's weights kept (nothing is selected on anything).

    Videos without a fold are extra material: of each label, ``recipe.extra_share`` of the draws are theirs.
    The same seed on the same machine gives the same numbers.
    """
    if {video.label for video in videos} != {0, 1}:
        raise ValueError("training needs normal and abnormal videos")
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    standardisation = _fit_standardisation([features[video.id].features_NCD[:, 0] for video in videos], recipe)
    standard = [_standard(standardisation, features[video.id].features_NCD) for video in videos]
    labels = np.array([video.label for video in videos])
    detectors: dict[str, Detector] = {}
    for name, schedule in (("video_classifier", recipe.long_term), ("bilstm_mil", recipe.short_term)):
        everything = recipe.extra_long_term or name != "video_classifier"
        chances = draw_chances(videos, recipe.extra_share if everything else 0.0)
        batches = Batches(standard, labels, chances, schedule.segments, recipe, random)
        if name == "video_classifier":
            detectors[name] = long_term(batches, standardisation.dimensions, schedule, recipe)
        else:
            detectors[name] = short_term(batches, standardisation.dimensions, schedule, recipe)
    return Trained(recipe=recipe, standardisation=standardisation, ensemble=Ensemble(detectors).eval())


def draw_chances(videos: Sequence[Video], extra_share: float) -> npt.NDArray[np.float64]:
    """(V,) how often a video is drawn; of each label, those without a fold get ``extra_share`` of all draws.

    Where a label has only videos with a fold, or only without, each of its videos has the same chance.
    """
    labels = np.array([video.label for video in videos])
    extra = np.array([video.fold is None for video in videos])
    chances = np.ones(len(videos))
    for label in (0, 1):
        for group, share in ((extra, extra_share), (~extra, 1 - extra_share)):
            here = (labels == label) & group
            if here.any():
                chances[here] = share / here.sum() if (labels == label)[~group].any() else 1.0
    return chances


class Batches:
    """Random balanced batches of resampled videos: the abnormal half first. Crops are independent samples."""

    def __init__(
        self,
        standard: Sequence[Floats],
        labels: npt.NDArray[np.int64],
        chances: npt.NDArray[np.float64],
        segments: int,
        recipe: Recipe,
        random: Random,
    ) -> None:
        self._resampled: list[tuple[Tensor, npt.NDArray[np.float64]]] = []
        for label in (1, 0):
            rows, odds = [], []
            for features_NCP, of_video, chance in zip(standard, labels, chances, strict=True):
                if of_video == label:
                    for crop in range(features_NCP.shape[1]):
                        rows.append(bags.resample(features_NCP[:, crop], segments))
                        odds.append(chance / features_NCP.shape[1])
            self._resampled.append((torch.from_numpy(np.stack(rows)), np.array(odds) / np.sum(odds)))
        self._recipe, self._random = recipe, random

    def draw(self) -> Tensor:
        """(B, T, P): half a batch of abnormal videos, then as many normal ones."""
        halves = [
            rows_VTP[self._random.choice(len(rows_VTP), size=self._recipe.half_batch, p=odds)]
            for rows_VTP, odds in self._resampled
        ]
        drawn_BTP = torch.cat(halves)
        dropped = self._recipe.feature_dropout
        if dropped > 0:
            keep_B1P = torch.rand(len(drawn_BTP), 1, drawn_BTP.shape[2]) >= dropped
            drawn_BTP = drawn_BTP * keep_B1P / (1 - dropped)
        return drawn_BTP

    @property
    def half(self) -> int:
        return self._recipe.half_batch


def long_term(batches: Batches, dimensions: int, schedule: Schedule, recipe: Recipe) -> Detector:
    """Video Classifier by cross-entropy of the video's label (section 2)."""
    network = VideoClassifier(dimensions)
    labels_B = torch.cat([torch.ones(batches.half), torch.zeros(batches.half)])
    labels_B = labels_B * (1 - recipe.label_smoothing) + recipe.label_smoothing / 2
    optimiser = _radam(network, recipe)
    network.train()
    for _ in range(schedule.steps):
        output = network(batches.draw())
        _step(optimiser, losses.long_term(output.logits_BT[:, 0], labels_B))
    return network.eval()


def short_term(batches: Batches, dimensions: int, schedule: Schedule, recipe: Recipe) -> Detector:
    """Bi-LSTM+MIL by eq. 2 on randomly drawn mini-batches (section 3)."""
    network = BiLstmMil(dimensions)
    matrices = [network.fc1.weight, network.fc2.weight, network.fc3.weight]
    optimiser = _radam(network, recipe)
    network.train()
    for _ in range(schedule.steps):
        scores_BT = network(batches.draw()).scores_BT
        abnormal_BT, normal_BT = scores_BT[: batches.half], scores_BT[batches.half :]
        _step(optimiser, losses.short_term(abnormal_BT, normal_BT, matrices, recipe.loss))
    return network.eval()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SegmentScores:
    """(N,) published scores of one video's segments, and their two parts."""

    scores_N: Floats
    long_term_N: Floats
    short_term_N: Floats


def score(
    trained: Trained,
    features_ND: Floats,
    *,
    bag: int | None = None,
    stride: int | None = None,
    delay: int | None = None,
) -> SegmentScores:
    """What the monitor would publish for a file with these features, by the recipe's l, stride and delay."""
    recipe = trained.recipe
    standard_NP = trained.standardisation(torch.from_numpy(features_ND))
    out = np.empty((3, len(features_ND)), dtype=np.float32)
    read = bags.readings(
        len(features_ND),
        recipe.bag if bag is None else bag,
        recipe.stride if stride is None else stride,
        recipe.delay if delay is None else delay,
    )
    with torch.inference_mode():
        for reading in read:
            given = trained.ensemble(standard_NP[reading.bag][None])
            within = slice(reading.published.start - reading.bag.start, reading.published.stop - reading.bag.start)
            for row, part_BT in enumerate((given.scores_BT, given.long_term_BT, given.short_term_BT)):
                out[row, reading.published] = part_BT[0, within].numpy()
    return SegmentScores(scores_N=out[0], long_term_N=out[1], short_term_N=out[2])


def _fit_standardisation(features: Sequence[Floats], recipe: Recipe) -> Standardisation:
    features_ND = np.concatenate(features)
    emphasis_D = np.ones(features_ND.shape[1], dtype=np.float32)
    emphasis_D[: len(emphasis_D) // 2] = recipe.look
    return standardise.fit(features_ND, recipe.projected, whiten=recipe.whiten, emphasis_D=emphasis_D)


def _standard(standardisation: Standardisation, features_NCD: Floats) -> Floats:
    standard: Floats = standardisation(torch.from_numpy(features_NCD)).numpy()
    return standard


def _radam(network: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """torch's RAdam, which steps from the first batch; the authors' takes no step in the first five."""
    return torch.optim.RAdam(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
