"""The rings of all cameras on one device: segments in, scores of bags out, batched across cameras.

Shape suffixes: B segments in a batch, K frames, H, W, C of a picture; D of a feature; R rows of the store
(one a camera); T positions of a bag; G bags of one size.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from monitor.config import Scoring
from monitor.detectors import artefact as artefacts
from monitor.detectors.artefact import Artefact
from monitor.detectors.card import gap_of
from monitor.features import backbone as backbones
from monitor.features.backbone import Backbone
from monitor.features.engine import cpu_threads
from monitor.flow import BagScore, Segment, SegmentTimes
from monitor.scoring.choice import chosen, device_of
from monitor.scoring.ring import Bag, Ring

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BagSettings:
    """l, s, d and the gap rule, in segments; ``files``: streams that end (their last bag may be short)."""

    length: int
    stride: int
    delay: int
    max_gap: int
    files: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a camera is: ``filled`` of l positions of its ring; the rest counts from the start."""

    filled: int = 0
    restarts: int = 0
    invalid: int = 0
    scored: int = 0


class Rings:
    """Rings of all cameras on one device, without a thread: ``score`` turns segments into scores of bags.

    Features of all cameras lie in one (R, l, D) tensor on the device; rings name rows and slots of it.
    """

    def __init__(self, backbone: Backbone, artefact: Artefact, bags: BagSettings) -> None:
        self.backbone, self.artefact, self.bags, self.device = backbone, artefact, bags, backbone.device
        self._rings: dict[str, tuple[int, Ring]] = {}
        self._free_rows: list[int] = []
        self._store_RTD = torch.zeros(0, bags.length, artefact.dimensions, device=self.device)
        self.progress: dict[str, Progress] = {}
        """One frozen value a camera; other threads read it by ``dict(scoring.progress)``."""

    def forget(self, camera: str) -> None:
        """Drops a removed camera's ring; its row is used again."""
        held = self._rings.pop(camera, None)
        if held is not None:
            self._free_rows.append(held[0])
        self.progress.pop(camera, None)

    def encode(self, segments: Sequence[Segment]) -> Tensor:
        """(B, D) standardised features of the segments, on the device."""
        with torch.inference_mode():
            features_BD = self.backbone.encode([s.pictures for s in segments if s.pictures is not None])
            if not self.bags.files:
                return self.artefact.standardise(features_BD)
            # Which segments share a batch is a matter of timing, and a product's last bits depend on its size: files
            # go one by one, so that two replays are identical.
            return torch.cat([self.artefact.standardise(feature_1D) for feature_1D in torch.split(features_BD, 1)])

    def score(self, segments: Sequence[Segment], features_BD: Tensor | None) -> list[BagScore]:
        """Pushes segments and scores bags; ``features_BD`` are of those with pictures, in the same order."""
        gathered: list[tuple[str, Bag, Tensor]] = []
        features = iter(() if features_BD is None else features_BD)
        with torch.inference_mode():
            for segment in segments:
                index, ring = self._ring(segment.camera)
                if segment.last:
                    gathered += [self._gather(segment.camera, index, bag) for bag in ring.end()]
                elif segment.pictures is None:
                    self._note(segment.camera, ring, invalid=1)
                else:
                    step = ring.push(_times(segment))
                    gathered += [self._gather(segment.camera, index, bag) for bag in step.before]
                    self._store_RTD[index, step.slot] = next(features)
                    gathered += [self._gather(segment.camera, index, bag) for bag in step.bags]
                    self._note(segment.camera, ring, restarts=int(step.restarted), scored=1)
            return self._detect(gathered)

    def _ring(self, camera: str) -> tuple[int, Ring]:
        held = self._rings.get(camera)
        if held is None:
            index = self._free_rows.pop() if self._free_rows else len(self._rings)
            if index >= len(self._store_RTD):
                grown_RTD = self._store_RTD.new_zeros(max(8, 2 * index), *self._store_RTD.shape[1:])
                grown_RTD[: len(self._store_RTD)] = self._store_RTD
                self._store_RTD = grown_RTD
            bags = self.bags
            ring = Ring(bags.length, bags.stride, bags.delay, bags.max_gap, file=bags.files)
            held = self._rings[camera] = (index, ring)
        return held

    def _gather(self, camera: str, index: int, bag: Bag) -> tuple[str, Bag, Tensor]:
        return camera, bag, self._store_RTD[index, list(bag.slots)]

    def _note(self, camera: str, ring: Ring, *, restarts: int = 0, invalid: int = 0, scored: int = 0) -> None:
        old = self.progress.get(camera, Progress())
        self.progress[camera] = Progress(
            filled=ring.filled,
            restarts=old.restarts + restarts,
            invalid=old.invalid + invalid,
            scored=old.scored + scored,
        )

    def _detect(self, gathered: list[tuple[str, Bag, Tensor]]) -> list[BagScore]:
        """One call of the ensemble for each size of bag (files: for each bag); ``gathered``'s order is kept."""
        scores: list[BagScore | None] = [None] * len(gathered)
        sizes: dict[tuple[int, int], list[int]] = {}
        for at, (_, bag, _) in enumerate(gathered):
            sizes.setdefault((len(bag.slots), at if self.bags.files else 0), []).append(at)
        for places in sizes.values():
            features_GTD = torch.stack([gathered[at][2] for at in places])
            output = self.artefact.ensemble(features_GTD)
            looked_at_G1D = output.attention_BT.to(features_GTD.dtype).unsqueeze(1) @ features_GTD
            looked_at_GD = looked_at_G1D.squeeze(1).to(dtype=torch.float16, device="cpu").numpy()
            parts = torch.stack([output.scores_BT, output.long_term_BT, output.short_term_BT, output.attention_BT])
            parts_4GT = parts.to(dtype=torch.float32, device="cpu").numpy()
            now_s = time.monotonic()
            for g, at in enumerate(places):
                camera, bag, _ = gathered[at]
                scores[at] = BagScore(
                    camera=camera,
                    times=bag.times,
                    scores_N=parts_4GT[0, g],
                    long_term_N=parts_4GT[1, g],
                    short_term_N=parts_4GT[2, g],
                    attention_N=parts_4GT[3, g],
                    bridged=bag.bridged,
                    published=bag.published,
                    scored_s=now_s,
                    last=bag.last,
                    feature_D=looked_at_GD[g],
                )
        return [score for score in scores if score is not None]


def open_rings(settings: Scoring, *, files: bool) -> Rings:
    """Artefact and backbone as the plant wants them, checked against each other, on their device.

    Raises ArtefactError, BackboneError or WeightsError in a sentence. ``files``: streams that end.
    """
    torch.set_num_threads(cpu_threads())
    settings, why = chosen(settings)
    if why:
        log.info(why)
    device = device_of(settings.device)
    artefact = artefacts.load(settings.artefact, device)
    card = artefact.card
    stride, delay = card.bag(settings.stride, settings.delay)
    backbone = backbones.create(card.backbone, device)
    card.check_backbone(backbone.name, backbone.fingerprint)
    max_gap = gap_of(settings.max_gap, card)
    bags = BagSettings(length=card.length, stride=stride, delay=delay, max_gap=max_gap, files=files)
    return Rings(backbone, artefact, bags)


def _times(segment: Segment) -> SegmentTimes:
    return SegmentTimes(
        number=segment.number,
        start_s=segment.start_s,
        end_s=segment.end_s,
        captured_s=segment.captured_s,
        captured_wall_s=segment.captured_wall_s,
    )
