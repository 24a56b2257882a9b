"""An artefact: a folder with trained detectors, the standardisation of their features, and a card.

``weights.safetensors`` holds ``standardise.mean`` (D,), ``standardise.sd`` (D,), maybe
``standardise.projection`` (D, D'), and the tensors of each detector as ``detectors.<name>.<tensor>``;
float16 or float32 on disk, always float32 in use. ``card.json`` names its sha256, so the two belong
together. Nothing in it can run.

Shape suffixes: N segments, D dimensions of the backbone's feature.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from monitor.detectors.card import (
    LARGEST_WEIGHTS,
    SHIPPED,
    ArtefactError,
    CanaryCard,
    Card,
    DetectorCard,
    content_of,
    read_card,
    resolve,
)
from monitor.detectors.detector import Detector, make
from monitor.detectors.ensemble import Ensemble
from monitor.files import replacing

__all__ = [
    "SHIPPED",
    "Artefact",
    "ArtefactError",
    "Card",
    "Standardisation",
    "add_canary",
    "load",
    "read_card",
    "resolve",
    "save",
    "verify",
]

STORED = (torch.float16, torch.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standardisation:
    """(x − mean) / sd, then the projection if there is one; all float32, fitted on training scenes only."""

    mean_D: Tensor
    sd_D: Tensor
    projection_DE: Tensor | None = None
    """(D, D')."""

    def __call__(self, features_ND: Tensor) -> Tensor:
        """(…, D) → (…, D')."""
        standard_ND = (features_ND - self.mean_D) / self.sd_D
        return standard_ND if self.projection_DE is None else standard_ND @ self.projection_DE

    @property
    def dimensions(self) -> int:
        """D'."""
        return len(self.sd_D) if self.projection_DE is None else self.projection_DE.shape[1]

    def to(self, device: torch.device | str) -> Standardisation:
        projection = self.projection_DE
        return Standardisation(
            mean_D=self.mean_D.to(device),
            sd_D=self.sd_D.to(device),
            projection_DE=None if projection is None else projection.to(device),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Artefact:
    """A loaded artefact on its device, ready to score."""

    card: Card
    standardise: Standardisation
    """(N, D) features of the backbone → (N, D')."""
    ensemble: Ensemble
    """In eval mode; its parameters take no gradient."""
    folder: Path

    @property
    def dimensions(self) -> int:
        """D', what the detectors take."""
        return self.card.dimensions


def load(name_or_path: str | Path, device: torch.device | str = "cpu") -> Artefact:
    """An artefact by name or folder, checked against its card; ArtefactError says what is wrong with it."""
    folder = resolve(name_or_path)
    card = read_card(folder)
    tensors = _read_weights(folder / "weights.safetensors", card)
    try:
        standardise = _standardisation(tensors)
        ensemble = _ensemble(card, tensors)
    except (ValueError, KeyError, RuntimeError, ArithmeticError, AssertionError) as fault:
        last = (str(fault).strip().splitlines() or [type(fault).__name__])[-1].strip()
        raise ArtefactError(f"{folder}: card.json and weights.safetensors do not fit together: {last}") from fault
    if (len(standardise.mean_D), standardise.dimensions) != (card.backbone_dimensions, card.dimensions):
        raise ArtefactError(
            f"{folder}: the card says {card.backbone_dimensions} → {card.dimensions} dimensions, the weights "
            f"{len(standardise.mean_D)} → {standardise.dimensions}"
        )
    return Artefact(card=card, standardise=standardise.to(device), ensemble=ensemble.to(device), folder=folder)


def verify(name_or_path: str | Path) -> Card:
    """Loads an artefact as far as it takes to know that it is whole; ArtefactError says what is wrong."""
    return load(name_or_path).card


def save(folder: Path, card: Card, standardise: Standardisation, ensemble: Ensemble, *, half: bool = True) -> Card:
    """Writes an artefact; returns its card, ``detectors``, ``dimensions`` and ``weights_sha256`` filled in.

    ``half`` stores float16 (a mean or sd beyond its range is an ArtefactError), else the values bit for bit.
    """
    tensors = {"standardise.mean": standardise.mean_D, "standardise.sd": standardise.sd_D}
    if standardise.projection_DE is not None:
        tensors["standardise.projection"] = standardise.projection_DE
    described = []
    for name, detector in ensemble.detectors.items():
        if not isinstance(detector, Detector):
            raise TypeError(f"'{name}' is no Detector")
        described.append(
            DetectorCard(
                name=name,
                kind=detector.kind,
                arguments=detector.arguments,
                weight=ensemble.weights[name],
            )
        )
        tensors |= {f"detectors.{name}.{key}": tensor for key, tensor in detector.state_dict().items()}
    stored = {key: _storable(key, tensor, half) for key, tensor in tensors.items()}
    _check_sd(stored["standardise.sd"].float())
    content = safetensors.torch.save(stored)
    facts = card.model_dump() | {
        "detectors": tuple(part.model_dump() for part in described),
        "dimensions": standardise.dimensions,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
    }
    whole = Card.model_validate(facts)
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / "weights.safetensors", content)
    _replace(folder / "card.json", (whole.model_dump_json(indent=2) + "\n").encode())
    return whole


def add_canary(folder: Path, canary: CanaryCard) -> Card:
    """Writes the canary into the card of an artefact that is there; returns the card."""
    whole = Card.model_validate(read_card(folder).model_dump() | {"canary": canary.model_dump()})
    _replace(folder / "card.json", (whole.model_dump_json(indent=2) + "\n").encode())
    return whole


def _storable(key: str, tensor: Tensor, half: bool) -> Tensor:
    # A count (batch normalisation keeps one of its batches) would be beyond float16 after 65,504.
    dtype = torch.float16 if half and tensor.is_floating_point() else torch.float32
    stored = tensor.detach().cpu().to(dtype).contiguous()
    if not torch.isfinite(stored).all():
        raise ArtefactError(f"'{key}' has values that are no finite numbers{' in float16' if half else ''}")
    return stored


def _replace(path: Path, content: bytes) -> None:
    with replacing(path) as part:
        part.write_bytes(content)


def _read_weights(path: Path, card: Card) -> dict[str, Tensor]:
    try:
        content = content_of(path, LARGEST_WEIGHTS)
    except FileNotFoundError as fault:
        raise ArtefactError(f"{path.parent} is no whole artefact: {path.name} is missing") from fault
    measured = hashlib.sha256(content).hexdigest()
    if measured != card.weights_sha256:
        raise ArtefactError(
            f"{path} is damaged or belongs to another card: its sha256 is {measured}, the card says "
            f"{card.weights_sha256}"
        )
    try:
        tensors = safetensors.torch.load(content)
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError) as fault:  # KeyError: a type of its own
        raise ArtefactError(f"{path} is not a whole safetensors file ({fault})") from fault
    for key, tensor in tensors.items():
        if tensor.dtype not in STORED or not bool(torch.isfinite(tensor).all()):
            raise ArtefactError(f"{path}: '{key}' has values that are no finite numbers in float16 or float32")
    return tensors


def _standardisation(tensors: dict[str, Tensor]) -> Standardisation:
    projection = tensors.get("standardise.projection")
    standardise = Standardisation(
        mean_D=tensors["standardise.mean"].float(),
        sd_D=tensors["standardise.sd"].float(),
        projection_DE=None if projection is None else projection.float(),
    )
    _check_sd(standardise.sd_D)
    d = len(standardise.sd_D)
    if len(standardise.mean_D) != d or (projection is not None and len(projection) != d):
        raise ValueError("mean, sd and projection have different dimensions")
    return standardise


def _check_sd(sd_D: Tensor) -> None:
    if not bool((sd_D > 0).all()):
        raise ArtefactError("the standardisation divides by zero: an sd is 0 or less (in float16)")


def _ensemble(card: Card, tensors: dict[str, Tensor]) -> Ensemble:
    if not card.detectors:
        raise ValueError("the card names no detectors")
    detectors: dict[str, Detector] = {}
    for part in card.detectors:
        prefix = f"detectors.{part.name}."
        shapes = {key.removeprefix(prefix): value.shape for key, value in tensors.items() if key.startswith(prefix)}
        _check_shapes(part, shapes)
        detector = make(part.kind, dict(part.arguments))
        detector.load_state_dict(
            {key.removeprefix(prefix): value.float() for key, value in tensors.items() if key.startswith(prefix)}
        )
        detectors[part.name] = detector
    ensemble = Ensemble(detectors, {part.name: part.weight for part in card.detectors})
    return ensemble.eval().requires_grad_(False)


def _check_shapes(part: DetectorCard, shapes: dict[str, torch.Size]) -> None:
    """Before anything is allocated: a card may ask for a detector larger than the machine."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers without neurons: the file has none of these
        wanted = {key: value.shape for key, value in make(part.kind, dict(part.arguments)).state_dict().items()}
    for key in sorted(wanted.keys() | shapes.keys()):
        if key not in shapes:
            raise ValueError(f"Missing key {key} of detector '{part.name}'")
        if key not in wanted:
            raise ValueError(f"Unexpected key {key} of detector '{part.name}'")
        if wanted[key] != shapes[key]:
            raise ValueError(
                f"size mismatch for {key} of detector '{part.name}': {tuple(shapes[key])}, not {tuple(wanted[key])}"
            )
