"""The card of an artefact, ``card.json``: what it was trained on and for, and how to use it. Strict.

Nothing here needs torch, which takes seconds to import.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from monitor.config import Thresholds

SHIPPED = Path(__file__).resolve().parent.parent / "artefacts"
CLIP = "canary.mp4"
LARGEST_CARD = 4_000_000
LARGEST_WEIGHTS = 2_000_000_000
WIDE = 5
"""How many tolerances the scores of a canary's clip are to move by: a constant is off by half of that somewhere."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ArtefactError(ValueError):
    """Why an artefact cannot be used, in a sentence."""


class Part(BaseModel):
    """A card or a part of one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DetectorCard(Part):
    """One detector of the ensemble; its tensors are ``detectors.<name>.*`` of the weights."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    kind: str
    arguments: dict[str, Any]
    """Of its constructor."""
    weight: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 1.0
    """In the mean."""


class DataCard(Part):
    """One source of training data."""

    name: str
    licence: str
    videos: Annotated[int, Field(ge=0)] | None = None
    note: str | None = None


class CanaryCard(Part):
    """What the artefact's clip gives when all is well; canary.py says how it is made and compared."""

    sha256: Sha256
    """Of canary.mp4."""
    shows: str | None = None
    """What is to be seen in it, in words."""
    sketch: tuple[tuple[float, ...], ...]
    """Of the standardised features, a row a segment."""
    scores: tuple[float, ...]
    """Published, one a segment."""
    long_term: tuple[float, ...]
    short_term: tuple[float, ...]
    feature_tolerance: Annotated[float, Field(gt=0)]
    score_tolerance: Annotated[float, Field(gt=0)]

    @property
    def span(self) -> float:
        """How far the score and each of its parts move over the clip, the least of the three."""
        return min(max(part) - min(part) for part in (self.scores, self.long_term, self.short_term))

    @property
    def flat(self) -> str | None:
        """What a clip whose scores hardly move does not prove, in a sentence; None where they do."""
        if self.span >= WIDE * self.score_tolerance:
            return None
        return (
            f"the canary's scores move by {self.span:.4f}, less than {WIDE} times their tolerance of "
            f"{self.score_tolerance:g}: detectors that always gave nearly the same score would not be noticed"
        )


class Card(Part):
    """What ``card.json`` says. Lengths of bags are in segments."""

    schema_version: Literal[1] = 1
    name: str
    backbone: str
    backbone_fingerprint: Sha256
    backbone_dimensions: Annotated[int, Field(gt=0, le=1_000_000)]
    """D of the backbone's features."""
    dimensions: Annotated[int, Field(gt=0, le=1_000_000)]
    """What the detectors take: D, or fewer after the projection."""
    length: Annotated[int, Field(gt=0, le=10_000)]
    """l, the size of a bag."""
    stride: Annotated[int, Field(gt=0)]
    """s: how many segments go by between two bags."""
    delay: Annotated[int, Field(ge=0)]
    """d: how many segments after its own a segment's score is published, at the least; 0 ≤ d ≤ l − s."""
    fps: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
    """Analysed frames a second."""
    thresholds: Thresholds
    detectors: tuple[DetectorCard, ...] = ()
    """Filled in by ``save``."""
    weights_sha256: Sha256 | None = None
    """Of weights.safetensors; filled in by ``save``."""
    canary: CanaryCard | None = None
    """None: the monitor cannot try itself out with this artefact."""
    data: tuple[DataCard, ...]
    terms_of_use: str
    metrics: dict[str, Any] = {}
    command: str
    """What made it, to be typed again."""
    commit: str
    created: str
    """UTC, ISO 8601."""

    @property
    def max_delay(self) -> int:
        """The largest delay at the card's own stride."""
        return self.length - self.stride

    def bag(self, stride: int | None = None, delay: int | None = None) -> tuple[int, int]:
        """Stride and delay where the plant may name its own; ArtefactError where l does not allow them.

        A stride of one's own without a delay takes the card's delay, or what the stride leaves of it.
        """
        s = self.stride if stride is None else stride
        if not 1 <= s <= self.length:
            raise ArtefactError(
                f"stride {s} is not possible with artefact '{self.name}': its bags have {self.length} "
                f"segments, so the stride is 1 to {self.length}"
            )
        d = min(self.delay, self.length - s) if delay is None else delay
        if not 0 <= d <= self.length - s:
            raise ArtefactError(
                f"delay {d} is not possible with artefact '{self.name}': its bags have {self.length} "
                f"segments, so at stride {s} the delay is 0 to {self.length - s}"
            )
        return s, d

    def check_backbone(self, name: str, fingerprint: str) -> None:
        """ArtefactError where features of this backbone are not what the detectors were trained on."""
        if name != self.backbone:
            raise ArtefactError(
                f"artefact '{self.name}' was trained on features of backbone '{self.backbone}', not of '{name}'"
            )
        if fingerprint != self.backbone_fingerprint:
            raise ArtefactError(
                f"artefact '{self.name}' was trained on features of '{self.backbone}' with fingerprint "
                f"{self.backbone_fingerprint[:12]}…, but the one here has {fingerprint[:12]}…: its weights, "
                "preprocessing or recipe differ; use the weights it was trained with, or train it again"
            )

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        if self.stride > self.length:
            raise ValueError(f"stride {self.stride} is more than the bag's length {self.length}")
        if self.delay > self.length - self.stride:
            raise ValueError(f"delay {self.delay} is more than length − stride = {self.length - self.stride}")
        if self.canary is not None:
            rows = (self.canary.sketch, self.canary.scores, self.canary.long_term, self.canary.short_term)
            if len({len(row) for row in rows}) > 1 or len(self.canary.sketch) < self.length:
                raise ValueError(f"canary: expected one length of its lists, {self.length} (the bag's) or more")
        names = [detector.name for detector in self.detectors]
        if len(set(names)) < len(names):
            raise ValueError(f"two detectors have the same name: {', '.join(names)}")
        return self


def gap_of(wanted: int | None, card: Card) -> int:
    """``max_gap`` for bags of this artefact (None: l/8, rounded up); ArtefactError where nothing real would be left."""
    if wanted is None:
        return min(math.ceil(card.length / 8), card.length - 1)
    if wanted >= card.length:
        raise ArtefactError(
            f"max_gap {wanted} is not possible with artefact '{card.name}': its bags have {card.length} segments, "
            f"so max_gap is 0 to {card.length - 1}"
        )
    return wanted


def resolve(name_or_path: str | Path) -> Path:
    """``default`` (or another shipped name) or a folder → the folder; ArtefactError where there is none."""
    shipped = SHIPPED / str(name_or_path)
    if Path(name_or_path).name == str(name_or_path) and (shipped / "card.json").is_file():
        return shipped
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ArtefactError(f"{folder} is a file; an artefact is a folder with card.json and weights.safetensors")
    there = sorted(path.parent.name for path in SHIPPED.glob("*/card.json"))
    raise ArtefactError(
        f"there is no artefact '{name_or_path}': no such folder, and shipped are {', '.join(there) or 'none'}"
    )


def read_card(name_or_path: str | Path) -> Card:
    """The card alone, without its weights."""
    path = resolve(name_or_path) / "card.json"
    try:
        return Card.model_validate_json(content_of(path, LARGEST_CARD))
    except FileNotFoundError as fault:
        raise ArtefactError(f"{path.parent} is no artefact: card.json is missing") from fault
    except ValidationError as fault:
        raise ArtefactError(f"{path}: {_problems(fault)}") from fault


def content_of(path: Path, largest: int) -> bytes:
    """A file's bytes; ArtefactError where it is none, too large, or may not be read. FileNotFoundError is passed on."""
    try:
        if not path.is_file() and path.exists():
            raise ArtefactError(f"{path} is not a file")
        if path.stat().st_size > largest:
            raise ArtefactError(f"{path} is larger than {largest // 1_000_000} MB: is that an artefact?")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as fault:
        raise ArtefactError(f"{path} cannot be read: {(fault.strerror or 'fault').lower()}") from fault


def _problems(fault: ValidationError) -> str:
    """What is wrong with a card, all at once: ``fps: input should be greater than 0; stride: …``."""
    parts = []
    for problem in fault.errors(include_url=False, include_input=False):
        # Settings shared with plant.yaml say in their context which key below the place is wrong.
        place = (*problem["loc"], *problem.get("ctx", {}).get("at", ()))
        where = ".".join(str(step) for step in place)
        what = str(problem["msg"]).removeprefix("Value error, ")
        parts.append(f"{where}: {what}" if where else what)
    return "; ".join(parts)
