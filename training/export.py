"""A trained ensemble → an artefact the monitor loads; what it re-scores differently is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from monitor.detectors import artefact
from monitor.detectors.card import Card
from training import train
from training.train import Trained

Floats = npt.NDArray[np.float32]

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
