"""A recipe and weakly labelled videos → a trained ensemble: standardise, resample, fit each detector.

V videos, N segments of a video, C crops, D dimensions of the backbone's feature, P after standardisation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monitor.detectors.artefact import Standardisation
from monitor.detectors.detector import Detector, make
from monitor.detectors.ensemble import Ensemble
from training import bags, fit, reading, resident, standardise
from training.catalogue import Video
from training.features import Features
from training.fit import Schedule
from training.objectives import OBJECTIVES

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorRecipe:
    """One detector of an ensemble: which, how long it is trained, and its weight in the mean."""

    kind: str
    arguments: dict[str, Any] = field(default_factory=dict)
    """Of its constructor, but for ``dimensions``."""
    schedule: dict[str, Any] = field(default_factory=dict)
    """What differs from the published defaults (``fit.Schedule``)."""
    weight: float = 1.0

    def schedule_of(self) -> Schedule:
        return Schedule.of(OBJECTIVES[self.kind], **self.schedule)


def paper_pair(*, long_term: dict[str, Any], short_term: dict[str, Any]) -> dict[str, DetectorRecipe]:
    """The paper's ensemble, with schedules of one's own: Video Classifier and Bi-LSTM+MIL, in equal parts (eq. 3)."""
    return {
        "video_classifier": DetectorRecipe(kind="video_classifier", schedule=long_term),
        "bilstm_mil": DetectorRecipe(kind="bilstm_mil", schedule=short_term),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All choices of a training run but the data and the seed."""

    fps: float = 15.0
    projected: int | None = None
    whiten: float = 0.0
    look: float = 1.0
    """How much the first half of the backbone's feature (how a segment looks) weighs against the second (how it
    changes), before the projection: below 1, since a room's looks do not carry over to the next room."""
    detectors: Mapping[str, DetectorRecipe]
    extra_share: float = 0.2
    """Of the draws of each label, what videos without a fold (calm footage, staged scenes) get."""
    extra_long_term: bool = True
    """Whether long-term detectors learn from them too. They must give a whole video one label; a long staged clip is
    mostly calm, which only a MIL loss, looking for one segment, can live with."""
    bag: int = 8
    """l of the deployed bags, in segments."""
    stride: int = 1
    delay: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """What a run leaves: the features' standardisation and the ensemble in eval mode, on the CPU."""

    recipe: Recipe
    standardisation: Standardisation
    ensemble: Ensemble


def train(
    videos: Sequence[Video],
    features: Mapping[str, Features],
    recipe: Recipe,
    seed: int,
    device: str = "cpu",
) -> Trained:
    """Every detector of the recipe on these videos, the last step's weights kept (nothing is selected on anything).

    Videos without a fold are extra material: of each label, ``recipe.extra_share`` of the draws are theirs.
    The same seed on the same machine gives the same numbers. Raises ValueError where a label has no video.
    """
    labels = np.array([video.label for video in videos])
    standardisation = fit_standardisation([features[video.id] for video in videos], recipe, device)
    standard = standard_features(standardisation, [features[video.id] for video in videos], device)
    detectors: dict[str, Detector] = {}
    placed: dict[tuple[int, bool], resident.Resident] = {}
    for name, part in recipe.detectors.items():
        schedule = part.schedule_of()
        torch.manual_seed(seed)
        network = make(part.kind, {"dimensions": standardisation.dimensions, **part.arguments}).to(device)
        everything = recipe.extra_long_term or network.horizon != "long_term"
        key = (schedule.segments, everything)
        if key not in placed:
            chances = draw_chances(videos, recipe.extra_share if everything else 0.0)
            placed[key] = resident.place(standard, labels, schedule.segments, device, chances=chances)
        fitted = fit.fit(network, placed[key], OBJECTIVES[part.kind], schedule, seed)
        detectors[name] = fitted.network
    weights = {name: part.weight for name, part in recipe.detectors.items()}
    return Trained(
        recipe=recipe, standardisation=standardisation, ensemble=Ensemble(detectors, weights).to("cpu").eval()
    )


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


def fit_standardisation(features: Sequence[Features], recipe: Recipe, device: str = "cpu") -> Standardisation:
    """Mean, sd and projection of these videos' segments (their first crop)."""
    features_ND = np.concatenate([np.asarray(video.features_NCD[:, 0], dtype=np.float32) for video in features])
    emphasis_D = np.ones(features_ND.shape[1], dtype=np.float32)
    emphasis_D[: len(emphasis_D) // 2] = recipe.look
    return standardise.fit(features_ND, recipe.projected, whiten=recipe.whiten, emphasis_D=emphasis_D, device=device)


def standard_features(
    standardisation: Standardisation, features: Sequence[Features], device: str = "cpu"
) -> list[Tensor]:
    """(N, C, P) of each video, on the device."""
    there = standardisation.to(device)
    return [there(resident.on_device(video.features_NCD, device).float()) for video in features]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SegmentScores:
    """(N,) published scores of one video's segments, and their two parts."""

    scores_N: Floats
    long_term_N: Floats
    short_term_N: Floats


def score(trained: Trained, features_ND: npt.NDArray[np.floating]) -> SegmentScores:
    """What the monitor would publish for a file with these features, by the recipe's l, stride and delay."""
    recipe = trained.recipe
    standard_NP = trained.standardisation(resident.on_device(features_ND, "cpu").float())
    out = np.empty((3, len(features_ND)), dtype=np.float32)
    with torch.inference_mode():
        for read in bags.readings(len(features_ND), recipe.bag, recipe.stride, recipe.delay):
            given = trained.ensemble(standard_NP[read.bag][None])
            within = slice(read.published.start - read.bag.start, read.published.stop - read.bag.start)
            for row, part_BT in enumerate((given.scores_BT, given.long_term_BT, given.short_term_BT)):
                out[row, read.published] = part_BT[0, within].numpy()
    return SegmentScores(scores_N=out[0], long_term_N=out[1], short_term_N=out[2])


def publish(
    trained: Trained,
    features: Sequence[npt.NDArray[np.floating]],
    *,
    length: int | None = None,
    stride: int | None = None,
    delay: int | None = None,
    device: str = "cpu",
) -> dict[str, list[Floats]]:
    """Published scores (N,) of many videos (N, C, D), crops averaged: of each detector, and of the ``ensemble``.

    Equal to ``score`` to rounding, and faster where the videos are many; l, s and d are the recipe's where None.
    """
    recipe = trained.recipe
    there = trained.standardisation.to(device)
    read = reading.Reading(
        [there(resident.on_device(video, device).float()) for video in features],
        length=recipe.bag if length is None else length,
        stride=recipe.stride if stride is None else stride,
        delay=recipe.delay if delay is None else delay,
        device=device,
    )
    ensemble = trained.ensemble.to(device)
    parts = {name: read.scores(detector) for name, detector in ensemble.detectors.items()}  # type: ignore[arg-type]
    parts["ensemble"] = weighted_mean(parts, ensemble.weights)
    ensemble.to("cpu")
    return {name: read.split(scores_S) for name, scores_S in parts.items()}


def weighted_mean(parts: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Eq. 3 with weights: of any tensors alike in shape; with one detector it is the identity."""
    total = sum(weights[name] for name in parts)
    return torch.stack([part * (weights[name] / total) for name, part in parts.items()]).sum(0)
