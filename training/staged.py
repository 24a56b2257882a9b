"""Staged clips to learn from: generated rooms of the training split, calm and with one incident each.

Weakly labelled like the rest: a clip with an incident is abnormal as a whole, though its beginning and end are calm.
Demo, canary and tests have other seeds, rooms and camera poses (``monitor.stage.layout``).
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from monitor.stage.layout import SEEDS, families
from monitor.stage.scenes import IncidentKind, Scene, Staged, write_clip
from training import catalogue
from training.catalogue import Video

SECONDS = 16.0
CLIPS_A_FAMILY = 10
"""Two of each kind of incident, and as many calm ones."""


def render(folder: Path, *, clips_a_family: int = CLIPS_A_FAMILY, seconds: float = SECONDS) -> tuple[Video, ...]:
    """Writes what is not there yet under ``folder/staged`` with its clips.csv, and lists it; paths are relative.

    Each seed gives two clips of one room: calm, and with an incident. The scene of both is the room's family.
    """
    from tqdm import tqdm

    named = families("training")
    seeds = SEEDS["training"]
    rows: list[tuple[str, int, str]] = []
    (folder / "staged").mkdir(parents=True, exist_ok=True)
    for turn in tqdm(range(clips_a_family * len(named)), desc="staged clips", unit="pair", disable=None):
        seed, family = seeds.start + turn, named[turn % len(named)]
        for label, incidents in ((0, ()), (1, (_incident(seed, turn // len(named)),))):
            path = f"staged/{seed}-{'abnormal' if label else 'calm'}.mp4"
            rows.append((path, label, f"staged {family}"))
            if not (folder / path).is_file():
                _write(folder / path, Scene(seed, incidents=incidents, family=family), seconds)
    with (folder / "staged" / "clips.csv").open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows([("path", "label", "scene"), *rows])
    return catalogue.read(folder / "staged" / "clips.csv")


def kind_of(video: Video) -> IncidentKind:
    """What happens in an abnormal clip of the list that ``render`` gave."""
    seed = int(Path(video.path).stem.split("-")[0])
    return _incident(seed, (seed - SEEDS["training"].start) // len(families("training"))).kind


def _incident(seed: int, turn: int) -> Staged:
    random = np.random.default_rng((seed, 20))
    start_s = float(random.uniform(3.0, 5.0))
    kinds = tuple(IncidentKind)
    return Staged(kind=kinds[turn % len(kinds)], start_s=start_s, end_s=start_s + float(random.uniform(7.0, 10.0)))


def _write(path: Path, scene: Scene, seconds: float) -> None:
    half = path.with_suffix(".part.mp4")
    write_clip(half, scene, seconds)
    half.replace(path)
