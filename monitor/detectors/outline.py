"""Whether an artefact is whole, as far as that can be known without torch, whose import alone takes seconds.

The answer is yes or "not known", never no: what is doubted here is opened with torch, whose sentence is shown. So this
may know less than ``artefact.load``, and must never trust what that refuses: tests hold it to every damaged artefact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from monitor.detectors.card import LARGEST_WEIGHTS, ArtefactError, Card, DetectorCard, content_of

Shapes = dict[str, tuple[int, ...]]
LARGEST_LAYER = 1_000_000


def is_whole(folder: Path, card: Card) -> bool:
    """True: ``artefact.load`` would open it. False: it may not, or this does not know its detectors."""
    try:
        content = content_of(folder / "weights.safetensors", LARGEST_WEIGHTS)
        if hashlib.sha256(content).hexdigest() != card.weights_sha256:
            return False
        tensors = safetensors.numpy.load(content)
    except (ArtefactError, OSError, safetensors.SafetensorError, KeyError, ValueError):
        return False
    stored = all(tensor.dtype in (np.float16, np.float32) and np.isfinite(tensor).all() for tensor in tensors.values())
    return stored and _standardises(tensors, card) and _scores(tensors, card)


def _standardises(tensors: Mapping[str, npt.NDArray[Any]], card: Card) -> bool:
    shapes = {key: tensor.shape for key, tensor in tensors.items() if key.startswith("standardise.")}
    wide, narrow = card.backbone_dimensions, card.dimensions
    wanted: Shapes = {"standardise.mean": (wide,), "standardise.sd": (wide,)}
    if wide != narrow or "standardise.projection" in shapes:
        wanted["standardise.projection"] = (wide, narrow)
    return shapes == wanted and bool((tensors["standardise.sd"] > 0).all())


def _scores(tensors: Mapping[str, npt.NDArray[Any]], card: Card) -> bool:
    """Whether the tensors are those of the card's detectors."""
    wanted: Shapes = {}
    for part in card.detectors:
        shapes = _shapes(part)
        if shapes is None:
            return False
        wanted |= {f"detectors.{part.name}.{key}": shape for key, shape in shapes.items()}
    shapes = {key: tensor.shape for key, tensor in tensors.items() if key.startswith("detectors.")}
    return bool(wanted) and shapes == wanted


def _shapes(part: DetectorCard) -> Shapes | None:
    """The shapes of a detector's tensors; None where its kind or its arguments are not known here."""
    # Not every name can be one of a module of torch's.
    if part.kind not in _KNOWN or part.name != part.kind:
        return None
    shapes_of, defaults = _KNOWN[part.kind]
    given = defaults | part.arguments
    if given.keys() != defaults.keys():
        return None
    for key, default in defaults.items():
        value = given[key]
        if type(default) is int:
            fits = type(value) is int and 0 < value <= LARGEST_LAYER
        elif type(default) is float:
            fits = type(value) is float and 0 <= value <= 1
        else:
            fits = type(value) is type(default) and value == default
        if not fits:
            return None
    return shapes_of(**{key: value for key, value in given.items() if type(value) is int})


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _bi_lstm(dimensions: int, hidden: int) -> Shapes:
    """Two layers."""
    shapes: Shapes = {}
    for layer, inputs in enumerate((dimensions, 2 * hidden)):
        for way in ("", "_reverse"):
            shapes[f"lstm.weight_ih_l{layer}{way}"] = (4 * hidden, inputs)
            shapes[f"lstm.weight_hh_l{layer}{way}"] = (4 * hidden, hidden)
            shapes[f"lstm.bias_ih_l{layer}{way}"] = shapes[f"lstm.bias_hh_l{layer}{way}"] = (4 * hidden,)
    return shapes


def _video_classifier(dimensions: int, hidden: int, heads: int, fc: int) -> Shapes:
    attend = _linear("attend1", dimensions, hidden) | _linear("attend2", hidden, heads)
    return attend | _linear("fc1", heads * dimensions, fc) | _linear("fc2", fc, 1)


def _bilstm_mil(dimensions: int, hidden: int, fc1: int, fc2: int) -> Shapes:
    layers = _linear("fc1", 2 * hidden, fc1) | _linear("fc2", fc1, fc2) | _linear("fc3", fc2, 1)
    return _bi_lstm(dimensions, hidden) | layers


_KNOWN: dict[str, tuple[Callable[..., Shapes], dict[str, Any]]] = {
    "video_classifier": (
        _video_classifier,
        {"dimensions": 0, "hidden": 64, "heads": 3, "fc": 32, "dropout": 0.3, "recurrent": None, "pool": "states"},
    ),
    "bilstm_mil": (_bilstm_mil, {"dimensions": 0, "hidden": 256, "fc1": 512, "fc2": 32, "dropout": 0.6}),
}
"""Kind → the shapes of its tensors by its whole numbers, and its arguments with what they are where a card names none.
An argument without a number must be as it is here."""
