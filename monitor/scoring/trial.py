"""The canary's clip on the cameras' way: a ring and bags of its own, as the artefact's card wants them.

One feature after another, each bag scored when it is full, each segment's score taken when it is published: what
breaks ring, store or bags breaks the clip's scores too. Stride and delay are the card's, whatever the plant names.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from monitor.detectors.artefact import Artefact
from monitor.detectors.canary import Curve, sketch
from monitor.features.backbone import Backbone
from monitor.flow import BagScore, Segment
from monitor.scoring.rings import BagSettings, Rings

_ENCODED = np.zeros((0,), np.uint8)
"""In the pictures' place: their feature is there already."""


class Trial:
    """One run of the clip through the detectors: ``take`` each feature in order, then ``curve``, once."""

    def __init__(self, backbone: Backbone, artefact: Artefact) -> None:
        card = artefact.card
        bags = BagSettings(length=card.length, stride=card.stride, delay=card.delay, max_gap=0)
        self._rings = Rings(backbone, artefact, bags)
        self._features: list[Tensor] = []
        self._bags: list[BagScore] = []

    def take(self, feature_1D: Tensor) -> None:
        """A segment's standardised feature (1, D)."""
        self._push(feature_1D)
        self._features.append(feature_1D)

    def curve(self) -> Curve:
        """Of all that was taken, each segment with the score that was published of it."""
        self._push(None)

        def published(part: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
            scores = [getattr(bag, part)[list(bag.published)] for bag in self._bags]
            return np.concatenate(scores) if scores else np.zeros(0, np.float32)

        return Curve(
            sketch_NS=sketch(torch.cat(self._features)),
            scores_N=published("scores_N"),
            long_term_N=published("long_term_N"),
            short_term_N=published("short_term_N"),
        )

    def _push(self, feature_1D: Tensor | None) -> None:
        number = len(self._features)
        segment = Segment(
            camera="canary",
            number=number,
            start_s=float(number),
            end_s=float(number + 1),
            captured_s=0.0,
            captured_wall_s=0.0,
            pictures=None if feature_1D is None else _ENCODED,
            last=feature_1D is None,
        )
        self._bags += self._rings.score([segment], feature_1D)
