"""What was opened once and found good: ``vad-monitor check`` need not open it again while nothing of it changes.

This is for what foresight.py is not sure of: opening it takes torch, whose import alone is 2 s. Everything that
opening depends on goes into one sum, and the sums of what opened without a fault are kept. A start of the monitor
never asks here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from monitor.config import Scoring
from monitor.detectors.card import CLIP, ArtefactError, read_card, resolve
from monitor.features.backbone import cache_folder, names, weights_folder
from monitor.files import replacing

KEPT = 16
"""The sums of the last so many artefacts, settings and versions."""
LIBRARIES = ("torch", "openvino", "safetensors", "numpy", "pytorchvideo", "ai-edge-litert")
PROGRAM = Path(__file__).resolve().parent.parent


def sum_of(scoring: Scoring, *, canary: bool) -> str | None:
    """sha256 over the settings, the files, the program and the machine; None where opening alone can tell.

    That is where a file is missing, and where a GPU is asked for: it may be gone the next moment.
    """
    if scoring.device not in ("auto", "cpu"):
        return None
    digest = hashlib.sha256()
    try:
        for part in (*_surroundings(), scoring.model_dump_json(), str(canary)):
            digest.update(f"{part}\n".encode())
        for file in _files(scoring, canary):
            if not file.is_file():
                return None  # a pipe would be waited for
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return digest.hexdigest()


def known(wanted: str) -> bool:
    """Whether this sum was kept."""
    return wanted in _kept()


def keep(opened: str) -> None:
    """Remembers the sum of what opened without a fault; a cache that cannot be written costs seconds, no more."""
    path = _path()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_text("\n".join([opened, *_kept()][:KEPT]) + "\n")


def _path() -> Path:
    return cache_folder() / "opened"


def _kept() -> list[str]:
    try:
        return _path().read_text().split()
    except (OSError, ValueError):
        return []


def _files(scoring: Scoring, canary: bool) -> Iterator[Path]:
    """Every file that opening reads."""
    folder, card = resolve(scoring.artefact), read_card(scoring.artefact)
    if card.backbone not in names():
        raise ArtefactError(f"there is no backbone '{card.backbone}'")
    record = weights_folder() / f"{card.backbone}.json"
    inside = ["card.json", "weights.safetensors", *([CLIP] if canary and card.canary is not None else [])]
    yield from (folder / name for name in inside)
    yield record
    yield weights_folder() / json.loads(record.read_text())["kept"]


def _surroundings() -> Iterator[str]:
    """The program (a file that is edited has another time), its libraries, the machine and whether it shows a GPU."""
    for file in sorted(PROGRAM.rglob("*.py")):
        about = file.stat()
        yield f"{file} {about.st_mtime_ns} {about.st_size}"
    for library in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            yield f"{library} {metadata.version(library)}"
    yield f"{os.uname()} {Path('/dev/nvidiactl').exists()} {os.environ.get('CUDA_VISIBLE_DEVICES')}"
