"""The canary of an artefact: a clip of a staged room, and what its features and scores are here and now."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from monitor.detectors import artefact
from monitor.detectors.canary import card_of, curve
from monitor.detectors.card import CLIP, Card
from monitor.features import backbone
from monitor.flow import FRAMES_PER_SEGMENT
from monitor.ingest.file import segments_of_file
from monitor.stage.layout import SEEDS
from monitor.stage.scenes import IncidentKind, Scene, Staged, write_clip

LARGEST_KBIT = 3_000
"""Of the whole clip: an artefact is mailed and kept in repositories."""


def add(folder: Path) -> Card:
    """Renders the clip, records it (on this CPU, in float32) and writes both into the artefact.

    Raises:
        ArtefactError, BackboneError: the artefact or its backbone's weights are not there or do not fit, a sentence.
    """
    loaded = artefact.load(folder)
    card = loaded.card
    encoder = backbone.create(card.backbone)
    card.check_backbone(encoder.name, encoder.fingerprint)
    seconds = card.length * FRAMES_PER_SEGMENT / card.fps
    # Something happens half-way, so that the curve is no straight line.
    incident = Staged(kind=IncidentKind.FIGHT, start_s=seconds / 2, end_s=seconds)
    scene = Scene(
        SEEDS["canary"].start, width_px=320, height_px=180, fps=card.fps, incidents=(incident,), night=False, people=2
    )
    clip = folder / CLIP
    write_clip(clip, scene, seconds, bit_rate_kbit=max(40, min(400, round(LARGEST_KBIT / seconds))))
    pictures = [one.pictures for one in segments_of_file(clip, encoder.preprocessing, card.fps)]
    shown = np.stack([one for one in pictures if one is not None])
    with torch.inference_mode():
        features_ND = loaded.standardise(encoder.encode(shown))
    return artefact.add_canary(folder, card_of(clip, curve(features_ND, loaded.ensemble)))
