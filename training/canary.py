"""The canary of an artefact: a clip of two staged scenes, and what its features and scores are here and now.

Scores that stand still prove nothing of a detector, and which scenes move them differs from artefact to artefact. So
the clip is searched for. Scenes of the canary's split, as many segments long as a bag, are rendered and scored alone;
of the pairs that are furthest apart each is scored as a clip that cuts from one to the other; the best are rendered as
such, for the codec makes another clip of two scenes than two clips. Wanted is the clip over which the score and both
its parts move most, and which features that are a little off do not move as well. The same artefact, engine and code
find the same clip.

Shape suffixes: N segments, D dimensions of a standardised feature, P scenes; 3: the score, its long-term and its
short-term part.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from monitor.detectors import artefact
from monitor.detectors.artefact import Artefact
from monitor.detectors.canary import SCORE_TOLERANCE, Curve, Floats, card_of
from monitor.detectors.card import CLIP, Card
from monitor.features import backbone
from monitor.features.backbone import Backbone
from monitor.files import replacing
from monitor.flow import FRAMES_PER_SEGMENT, Pictures
from monitor.ingest.file import segments_of_file
from monitor.scoring.trial import Trial
from monitor.stage.layout import SEEDS
from monitor.stage.scenes import Footage, IncidentKind, Scene, Staged, write_clip

LARGEST_KBIT = 1_700
"""Of the whole clip: an artefact is mailed and kept in repositories."""
SEGMENTS = 192
"""How many the search renders and encodes: 48 scenes of 4 segments, 6 of 32."""
PAIRS = 128
"""How many clips it tries, times the length of a bag: 32 of two bags of 4 segments, 4 of two bags of 32."""
FINALISTS = 16
"""How many of them are rendered, times the length of a bag: 4 of two bags of 4 segments, 1 of two bags of 32."""
SHAKES, SHAKEN_BY = 8, 0.05
"""How often the features of each are moved at random, and by how much of their length: about what bfloat16 does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """One half of a clip: a room, and what happens there from ``start_s`` of the half to its end."""

    seed: int
    kind: IncidentKind | None
    start_s: float
    seconds: float
    night: bool
    people: int

    def scene(self, fps: float) -> Scene:
        happens = () if self.kind is None else (Staged(kind=self.kind, start_s=self.start_s, end_s=self.seconds),)
        return Scene(
            self.seed, width_px=320, height_px=180, fps=fps, incidents=happens, night=self.night, people=self.people
        )

    def __str__(self) -> str:
        happens = "calm" if self.kind is None else f"{self.kind} from {self.start_s:.1f} s"
        return f"room {self.seed} by {'night' if self.night else 'day'}, people: {self.people}, {happens}"


class Cut:
    """One scene, and from frame ``at`` another."""

    def __init__(self, first: Scene, second: Scene, at: int) -> None:
        self.fps = first.fps
        self._first, self._second, self._at = first, second, at

    def frame(self, number: int) -> Pictures:
        return self._first.frame(number) if number < self._at else self._second.frame(number - self._at)


def add(folder: Path, say: Callable[[str], None]) -> Card:
    """Finds the clip, records it (on this CPU) and writes both into the artefact; ``say`` hears what was chosen.

    Raises:
        ArtefactError, BackboneError: the artefact or its backbone's weights are not there or do not fit, a sentence.
    """
    loaded = artefact.load(folder)
    encoder = backbone.create(loaded.card.backbone)
    loaded.card.check_backbone(encoder.name, encoder.fingerprint)
    clips = _Clips(loaded, encoder)
    with TemporaryDirectory() as drafts:
        clip, shows, features_ND = clips.best(Path(drafts), say)
        found = clips.curve(features_ND)
        with replacing(folder / CLIP) as part:
            part.write_bytes(clip.read_bytes())
    card = artefact.add_canary(folder, card_of(folder / CLIP, found, shows))
    if card.canary is None:
        raise AssertionError("it was just written")
    score, long_term, short_term = _spans(found)
    say(f"canary in {folder}: {len(features_ND)} segments, {(folder / CLIP).stat().st_size // 1000} kB: {shows}")
    say(
        f"over it the score moves by {score:.3f}, its long-term part by {long_term:.3f}, its short-term part by "
        f"{short_term:.3f} (tolerance {SCORE_TOLERANCE:g}); features off by {SHAKEN_BY:.0%} at random move one "
        f"by {clips.shaken(features_ND, found):.3f}"
    )
    if card.canary.flat:
        say(f"beware: {card.canary.flat}; of {len(clips.takes)} staged scenes no two make a better one")
    return card


class _Clips:
    """What can be staged for one artefact, and how its detectors see it."""

    def __init__(self, loaded: Artefact, encoder: Backbone) -> None:
        self._loaded, self._encoder, self._card = loaded, encoder, loaded.card
        self._frames = self._card.length * FRAMES_PER_SEGMENT
        kinds = (None, *IncidentKind)
        random = np.random.default_rng(SEEDS["canary"].start)
        self.takes = [
            Take(
                seed=SEEDS["canary"].start + number,
                kind=kinds[number % len(kinds)],
                start_s=float(random.choice([0, 1 / 4, 1 / 2])) * self._frames / self._card.fps,
                seconds=self._frames / self._card.fps,
                night=bool(random.random() < 1 / 2),
                people=int(random.integers(0, 5)),
            )
            for number in range(max(len(kinds), SEGMENTS // self._card.length))
        ]

    def best(self, drafts: Path, say: Callable[[str], None]) -> tuple[Path, str, Tensor]:
        """The best clip, written among the drafts, what it shows, and its features (N, D)."""
        length, fps = self._card.length, self._card.fps
        tried, finalists = max(4, PAIRS // length), max(1, FINALISTS // length)
        say(
            f"{len(self.takes)} staged scenes of {length} segments are scored alone, then clips of two: the {tried} "
            f"that are furthest apart, and {finalists} of them as rendered"
        )
        takes_PND = [self.write(drafts / CLIP, take.scene(fps)) for take in self.takes]
        alone_P3 = np.stack([_stacked(self.curve(take_ND)).mean(1) for take_ND in takes_PND])

        def apart(pair: tuple[int, int]) -> float:
            return float(np.abs(alone_P3[pair[0]] - alone_P3[pair[1]]).min())

        def joined(pair: tuple[int, int]) -> float:
            return self._worth(torch.cat([takes_PND[one] for one in pair]))

        pairs = sorted(itertools.permutations(range(len(self.takes)), 2), key=apart, reverse=True)[:tried]
        drawn: list[tuple[Path, str, Tensor]] = []
        for first, second in sorted(pairs, key=joined, reverse=True)[:finalists]:
            clip, one, other = drafts / f"{first}-{second}.mp4", self.takes[first], self.takes[second]
            features_ND = self.write(clip, Cut(one.scene(fps), other.scene(fps), self._frames))
            drawn.append((clip, f"{one}; then {other}", features_ND))
        return max(drawn, key=lambda one: self._worth(one[2]))

    def write(self, clip: Path, footage: Footage) -> Tensor:
        """Renders it whole, two bags where it is a cut, else one; the features (N, D) of what was written."""
        seconds = self._frames / self._card.fps
        rate_kbit = max(40, min(200, round(LARGEST_KBIT / (2 * seconds))))
        write_clip(clip, footage, seconds * (2 if isinstance(footage, Cut) else 1), bit_rate_kbit=rate_kbit)
        features = [
            self._loaded.standardise(self._encoder.encode(one.pictures[None]))
            for one in segments_of_file(clip, self._encoder.preprocessing, self._card.fps)
            if one.pictures is not None
        ]
        return torch.cat(features)

    def curve(self, features_ND: Tensor) -> Curve:
        """As the monitor will see it."""
        trial = Trial(self._encoder, self._loaded)
        for feature_1D in torch.split(features_ND, 1):
            trial.take(feature_1D)
        return trial.curve()

    def _worth(self, features_ND: Tensor) -> float:
        """The least of the three spans, against what moves by chance; shakes are few, so half a tolerance is enough."""
        found = self.curve(features_ND)
        return min(_spans(found)) / max(SCORE_TOLERANCE / 2, self.shaken(features_ND, found))

    def shaken(self, features_ND: Tensor, found: Curve) -> float:
        """How far a score or a part of one moves at most, when features are moved at random."""
        generator = torch.Generator().manual_seed(0)
        worst = 0.0
        for _ in range(SHAKES):
            noise_ND = torch.randn(features_ND.shape, generator=generator)
            moved_ND = features_ND + noise_ND * (SHAKEN_BY * features_ND.norm() / noise_ND.norm())
            worst = max(worst, float(np.abs(_stacked(self.curve(moved_ND)) - _stacked(found)).max()))
        return worst


def _stacked(found: Curve) -> Floats:
    """(3, N)."""
    return np.stack([found.scores_N, found.long_term_N, found.short_term_N])


def _spans(found: Curve) -> Sequence[float]:
    """Of the score, its long-term and its short-term part: from the least to the most over the clip."""
    return [float(span) for span in np.ptp(_stacked(found), axis=1)]
