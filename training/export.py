"""A trained ensemble → an artefact the monitor loads; what it re-scores differently is refused."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from monitor.config import Thresholds
from monitor.detectors import artefact
from monitor.detectors.artefact import Standardisation
from monitor.detectors.card import Card, DataCard
from monitor.detectors.detector import Detector, make
from monitor.detectors.ensemble import Ensemble
from training import datasets, experiment, features, train
from training.commit import commit
from training.config import ExperimentSettings
from training.experiment import Protocol
from training.train import Recipe, Trained

Floats = npt.NDArray[np.floating]

LARGEST_BYTES = 10_000_000
"""The package index frowns on more, and an operator's link may be slow."""
TOLERANCE = 5e-3
"""How far a published score may move by float16 weights."""


class ExportError(RuntimeError):
    """An artefact that must not be used, in a sentence."""


def export(folder: Path, trained: Trained, card: Card, samples: Sequence[Floats]) -> Card:
    """Writes the artefact, loads it as the monitor does and re-scores the sample videos ((N, D) features each).

    Raises:
        ExportError: a score moved by more than the tolerance, or the weights are larger than 10 MB.
    """
    whole = artefact.save(folder, card, trained.standardisation, trained.ensemble)
    size = (folder / "weights.safetensors").stat().st_size
    if size > LARGEST_BYTES:
        raise ExportError(f"{folder}: {size} bytes of weights; at most {LARGEST_BYTES} are shipped")
    check(folder, trained, samples)
    return whole


def check(folder: Path, trained: Trained, samples: Sequence[Floats]) -> float:
    """The largest difference between the artefact's published scores and the trained ensemble's.

    Raises:
        ExportError: it is above the tolerance.
    """
    loaded = artefact.load(folder)
    as_loaded = Trained(recipe=trained.recipe, standardisation=loaded.standardise, ensemble=loaded.ensemble)
    worst = 0.0
    for features_ND in samples:
        ours, theirs = train.score(trained, features_ND), train.score(as_loaded, features_ND)
        for before, after in (
            (ours.long_term_N, theirs.long_term_N),
            (ours.short_term_N, theirs.short_term_N),
            (ours.scores_N, theirs.scores_N),
        ):
            worst = max(worst, float(np.abs(before - after).max()))
    if not worst <= TOLERANCE:
        raise ExportError(
            f"{folder}: the loaded artefact scores a sample {worst:.4f} away from what was trained: not to be used"
        )
    return worst


def of_experiment(
    settings: ExperimentSettings,
    name: str,
    seed: int,
    protocol: Protocol,
    out: Path,
    *,
    terms: str,
    command: str,
) -> Card:
    """A detector or ensemble of an experiment as an artefact; its features must be ours: the monitor makes them.

    Thresholds: one normal test video in ten reaches ``raise_at``, a normal segment in four is above ``clear_at``.

    Raises:
        ExportError: features that no backbone of the monitor makes, a name that the file does not have, or runs that
            are not there.
    """
    plan, material = settings.plan(), settings.material()
    parts = plan.ensembles.get(name, {name: 1.0})
    unknown = sorted(parts.keys() - plan.detectors.keys())
    if unknown:
        known = ", ".join((*plan.detectors, *plan.ensembles))
        raise ExportError(f"'{name}' is no detector or ensemble of this experiment; known are {known}")
    if settings.audio:
        raise ExportError("the monitor has no sound: an experiment with sound cannot be exported")
    made_by = features.extraction_of(settings.feature_folder)
    if made_by is None:
        raise ExportError(
            f"{settings.feature_folder} has no extraction.json: which backbone made these features is not "
            "known, so the monitor cannot make them; extract them with vad-train extract"
        )
    detectors: dict[str, Detector] = {}
    for part in parts:
        recipe = plan.detectors[part]
        detectors[part] = make(recipe.kind, {"dimensions": material.dimensions, **recipe.arguments})
        detectors[part].load_state_dict(experiment.weights(settings.out, part, protocol, seed))
    mean_D, sd_D = experiment.standardisation(material) if plan.standardised else (None, None)
    length = plan.lengths[0]
    stride = length if plan.stride is None else plan.stride
    trained = Trained(
        recipe=Recipe(
            fps=made_by.fps,
            detectors={part: plan.detectors[part] for part in parts},
            bag=length,
            stride=stride,
            delay=plan.delay,
        ),
        standardisation=Standardisation(
            mean_D=torch.zeros(material.dimensions) if mean_D is None else torch.from_numpy(mean_D),
            sd_D=torch.ones(material.dimensions) if sd_D is None else torch.from_numpy(sd_D),
        ),
        ensemble=Ensemble(detectors, dict(parts)).eval(),
    )
    judged = experiment.judged(material, experiment.scores(plan, settings.out, name, protocol, length, seed))
    normal = [video.scores_F for video in judged if video.label == 0]
    raise_at = float(np.quantile([scores_F.max() for scores_F in normal], 0.9))
    clear_at = min(float(np.quantile(np.concatenate(normal), 0.75)), raise_at)
    found = experiment.result(material, plan, settings.out, name, protocol, length)
    page = datasets.of(settings.data)
    card = Card(
        name=out.name,
        backbone=made_by.backbone,
        backbone_fingerprint=made_by.fingerprint,
        backbone_dimensions=material.dimensions,
        dimensions=material.dimensions,
        length=length,
        stride=stride,
        delay=plan.delay,
        fps=made_by.fps,
        thresholds=Thresholds(raise_at=round(raise_at, 3), clear_at=round(clear_at, 3)),
        data=(DataCard(name=page.paper, licence=page.licence, videos=len(material.learnt)),),
        terms_of_use=terms,
        metrics={
            "protocol": protocol,
            "truth": material.truth.version,
            "seed": seed,
            "seeds": {str(k): one for k, one in zip(plan.seeds, found.seeds, strict=True)},
            "interval": found.interval,
        },
        command=command,
        commit=commit(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    samples = [material.features[video.id].features_NCD[:, 0] for video in material.tested[:20]]
    return export(out, trained, card, samples)
