"""The canary: a short clip in the artefact, and what its features and scores are when all is well.

Engines differ in their last digits (OpenVINO, torch, half precision on a GPU), so a hash of features would cry without
need. The card keeps a sketch of them, 16 numbers a segment: their products with 16 fixed vectors of ±1. A change of
the features changes the sketch as much, relative to its length (Johnson and Lindenstrauss, 1984). The clip itself is
kept by its sha256.

It is as long as two bags and cuts from one scene to another where the second begins, two that the detectors tell apart:
so each detector's scores move, and one that gives constants, or the right ones at the wrong time, is found out.

Shape suffixes: N segments (2 l of them; l in older artefacts), D dimensions of a standardised feature, S = 16 of a
sketch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from monitor.detectors.card import CLIP, ArtefactError, CanaryCard

SKETCH = 16
FEATURE_TOLERANCE = 0.08
"""Of the sketch, relative. Measured with effnet_lite0 on the clips of `default` and `staged`: OpenVINO and torch in
float32 are off by 2e-6 at most, bfloat16 by 0.055 and 0.047; with 20 of the 112 channels of one layer dead it is 0.88
and 0.49."""
SCORE_TOLERANCE = 0.02
"""Of a score: what two engines may differ by before thresholds would need to know of it. Measured alike: float32 1e-6,
bfloat16 0.012 and 0.019, both of the long-term part."""

Part = Literal["decode", "features", "scores", "broker"]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """What a run of the clip gave: ``sketch_NS``, and what was published of each segment, (N,): score and its parts."""

    sketch_NS: Floats
    scores_N: Floats
    long_term_N: Floats
    short_term_N: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Where a run went wrong, and a sentence that says how."""

    part: Part
    reason: str


def sketch(features_ND: Tensor) -> Floats:
    """(N, D) → (N, S) float32."""
    signs_DS = np.random.default_rng(0).choice([-1.0, 1.0], (features_ND.shape[1], SKETCH))
    made: Floats = (features_ND.double().cpu().numpy() @ signs_DS).astype(np.float32)
    return made


def card_of(clip: Path, found: Curve, shows: str) -> CanaryCard:
    """What the card keeps of a run that is to be the measure; ``shows``: what is to be seen, in words."""

    def plain(values: Floats) -> tuple[float, ...]:
        return tuple(round(float(value), 6) for value in values)

    return CanaryCard(
        sha256=hashlib.sha256(clip.read_bytes()).hexdigest(),
        shows=shows,
        sketch=tuple(plain(row) for row in found.sketch_NS),
        scores=plain(found.scores_N),
        long_term=plain(found.long_term_N),
        short_term=plain(found.short_term_N),
        feature_tolerance=FEATURE_TOLERANCE,
        score_tolerance=SCORE_TOLERANCE,
    )


def judge(found: Curve, card: CanaryCard) -> Fault | None:
    """None where the run gave what the card says, within its tolerances."""
    wanted_NS = np.array(card.sketch, np.float32)
    if found.sketch_NS.shape != wanted_NS.shape:
        return Fault(part="decode", reason=f"{len(found.sketch_NS)} segments came, {len(wanted_NS)} were expected")
    away = float(np.linalg.norm(found.sketch_NS - wanted_NS) / max(float(np.linalg.norm(wanted_NS)), 1e-9))
    if not away <= card.feature_tolerance:
        return Fault(
            part="features",
            reason=f"features differ from the card by {away:.3f} of their length, {card.feature_tolerance:g} is "
            "allowed: the backbone's weights, engine or device are not as they were",
        )
    ours_3N = np.stack([found.scores_N, found.long_term_N, found.short_term_N])
    theirs_3N = np.array([card.scores, card.long_term, card.short_term], np.float32)
    if ours_3N.shape != theirs_3N.shape:
        return Fault(
            part="scores", reason=f"{ours_3N.shape[1]} segments have scores, {theirs_3N.shape[1]} were expected to"
        )
    worst = float(np.abs(ours_3N - theirs_3N).max())  # a NaN stays one, and is within nothing
    if not worst <= card.score_tolerance:
        return Fault(
            part="scores",
            reason=f"a score differs from the card by {worst:.3f}, {card.score_tolerance:g} is allowed: the "
            "detectors or their device are not as they were",
        )
    return None


def clip_of(folder: Path, card: CanaryCard) -> Path:
    """The artefact's clip, checked; ArtefactError where it is missing or another one."""
    path = folder / CLIP
    try:
        measured = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as fault:
        raise ArtefactError(f"{path} cannot be read: {fault.strerror}") from fault
    if measured != card.sha256:
        raise ArtefactError(f"{path} is damaged or another clip: its sha256 is not the one in card.json")
    return path
