"""Features on disk and in memory: one array a video, crops beside each other, and what made them.

The layout is the field's (RTFM's): ``<folder>/<video id>.npy`` with (N, C, D), float16 or float32, memory-mapped.
Ours adds ``<video id>.segments.npz`` (each segment's times and motion) and, once a folder, ``extraction.json``.

N segments, C crops, D dimensions, M numbers of motion energy.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


class FeatureError(ValueError):
    """Features that are missing or do not fit, in a sentence with the video's id."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Features:
    """What is kept of one video. ``features_NCD`` may be memory-mapped, float16 or float32."""

    features_NCD: Floats
    times_N2: npt.NDArray[np.float32] | None = None
    """Start and end of each segment in seconds; None where the files do not say."""
    motion_NM: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.features_NCD)

    @property
    def crops(self) -> int:
        return int(self.features_NCD.shape[1])

    @property
    def dimensions(self) -> int:
        return int(self.features_NCD.shape[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """What made the features of a folder; two folders with the same one are interchangeable."""

    backbone: str
    fingerprint: str
    """sha256 of the backbone's weights and preprocessing."""
    dimensions: int
    fps: float
    """Analysed frames a second; a segment is 16 of them, the rest at a video's end is no segment."""
    crop_order: tuple[str, ...]
    """Names of the C crops, in order: ``whole``, ``mirrored whole``, ``top left`` …"""

    def check(self, folder: Path) -> None:
        """Writes extraction.json, or refuses a folder that something else has filled. Raises FeatureError."""
        said = folder / "extraction.json"
        if said.is_file():
            held = json.loads(said.read_text(encoding="utf-8"))
            if held != json.loads(json.dumps(asdict(self))):
                raise FeatureError(f"{folder} holds features made otherwise ({said}); choose another folder")
            return
        folder.mkdir(parents=True, exist_ok=True)
        said.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def read(folder: Path, video_id: str) -> Features:
    """One video's features, memory-mapped. Raises FeatureError where there are none or they have another shape."""
    path = folder / f"{video_id}.npy"
    if not path.is_file():
        raise FeatureError(f"{video_id}: no features at {path}")
    features_NCD = np.load(path, mmap_mode="r", allow_pickle=False)
    if features_NCD.ndim != 3:
        raise FeatureError(f"{video_id}: {path} has shape {features_NCD.shape}; expected (segments, crops, dimensions)")
    beside = folder / f"{video_id}.segments.npz"
    if not beside.is_file():
        return Features(features_NCD=features_NCD)
    with np.load(beside, allow_pickle=False) as held:
        found = Features(features_NCD=features_NCD, times_N2=held["times"], motion_NM=held["motion"])
        if len(held["times"]) != len(features_NCD):
            raise FeatureError(
                f"{video_id}: {len(features_NCD)} segments of features, but {len(held['times'])} in {beside}"
            )
    return found


def write(folder: Path, video_id: str, features: Features) -> None:
    """Whole or not at all: an interrupted extraction leaves no half file behind. The ``.npy`` comes last."""
    path = folder / f"{video_id}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    if features.times_N2 is not None and features.motion_NM is not None:
        half = path.with_name(f".{path.stem}.segments.part.npz")
        np.savez(half, times=features.times_N2, motion=features.motion_NM)
        half.replace(folder / f"{video_id}.segments.npz")
    half = path.with_name(f".{path.stem}.part.npy")
    np.save(half, features.features_NCD)
    half.replace(path)
