"""Videos → features, through the monitor's own cut into segments and its own backbone.

Layout on disk, beside what the field uses: one ``.npz`` a video under ``<folder>/<video id>.npz`` with
``features`` (N, crops, D) float32, ``motion`` (N, 6) float32 and ``times`` (N, 2) start and end in seconds;
``extraction.json`` beside them says what made them. Crop 0 is the picture, crop 1 (optional) its mirror
image.

N segments, C crops, K frames handed over, D dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from monitor.features.backbone import Backbone
from monitor.flow import Pictures, Segment
from monitor.ingest.file import segments_of_file
from training.catalogue import Video

Floats = npt.NDArray[np.float32]


class ExtractionError(ValueError):
    """Features that cannot be made or used, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Features:
    """What is kept of one video."""

    features_NCD: Floats
    motion_NM: Floats
    times_N2: Floats

    def __len__(self) -> int:
        return len(self.features_NCD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """What made the features of a folder; two folders with the same one are interchangeable."""

    backbone: str
    fingerprint: str
    fps: float
    mirrored: bool

    def check(self, folder: Path) -> None:
        """Writes extraction.json, or refuses a folder that something else has filled."""
        said = folder / "extraction.json"
        if said.is_file():
            if json.loads(said.read_text()) != asdict(self):
                raise ExtractionError(f"{folder} holds features made otherwise ({said}); choose another folder")
            return
        folder.mkdir(parents=True, exist_ok=True)
        said.write_text(json.dumps(asdict(self), indent=2) + "\n")


def folder_of(root: Path, extraction: Extraction) -> Path:
    """Where features of this kind lie under a root: backbone, hash and rate in the name."""
    mirrored = "-mirrored" if extraction.mirrored else ""
    return root / f"{extraction.backbone}-{extraction.fingerprint[:8]}-{extraction.fps:g}fps{mirrored}"


def extract(
    videos: Sequence[Video], data: Path, root: Path, backbone: Backbone, fps: float, *, mirrored: bool = False
) -> dict[str, Features]:
    """Features of the videos by id; what is there already is read, the rest is made and kept.

    Raises:
        ExtractionError: a video without a single segment, or a folder with other features.
    """
    from tqdm import tqdm

    made_by = Extraction(backbone=backbone.name, fingerprint=backbone.fingerprint, fps=fps, mirrored=mirrored)
    folder = folder_of(root, made_by)
    made_by.check(folder)
    found: dict[str, Features] = {}
    for video in tqdm(videos, desc=f"features at {fps:g} fps", unit="clip", disable=None):
        kept = folder / f"{video.id}.npz"
        if not kept.is_file():
            _keep(
                kept,
                of_segments(
                    segments_of_file(data / video.path, backbone.preprocessing, fps),
                    backbone,
                    mirrored=mirrored,
                ),
            )
        found[video.id] = read(kept)
        if len(found[video.id]) == 0:
            raise ExtractionError(f"{video.path}: not one segment of 16 frames in it; take it off the list")
    return found


def of_segments(segments: Iterable[Segment], backbone: Backbone, *, mirrored: bool = False) -> Features:
    """Features of one video's segments; those the reader calls invalid are left out, as in the monitor."""
    features: list[Floats] = []
    motion: list[Floats] = []
    times: list[tuple[float, float]] = []
    for segment in segments:
        if segment.pictures is None:
            continue
        crops = [segment.pictures, segment.pictures[:, :, ::-1]] if mirrored else [segment.pictures]
        features.append(backbone.encode(np.ascontiguousarray(np.stack(crops))).cpu().numpy())
        motion.append(motion_energy(segment.pictures))
        times.append((segment.start_s, segment.end_s))
    return Features(
        features_NCD=np.array(features, dtype=np.float32).reshape(-1, 2 if mirrored else 1, backbone.dimensions),
        motion_NM=np.array(motion, dtype=np.float32).reshape(-1, MOTION),
        times_N2=np.array(times, dtype=np.float32).reshape(-1, 2),
    )


MOTION = 6


def motion_energy(pictures_KHWC: Pictures) -> Floats:
    """(6,) how much a segment's pictures change, for the floor that looks at nothing else.

    Mean, sd, 90th and 99th percentile of the absolute grey difference, the share above 25 and the mean of the
    liveliest sixteenth of the picture.
    """
    grey_KHW = pictures_KHWC[:, ::2, ::2].astype(np.float32).mean(axis=-1)
    change_KHW = np.abs(np.diff(grey_KHW, axis=0))
    height, width = (size // 4 * 4 for size in change_KHW.shape[1:])
    tiles = change_KHW[:, :height, :width].reshape(-1, 4, height // 4, 4, width // 4).mean(axis=(0, 2, 4))
    percentiles = np.percentile(change_KHW, (90, 99))
    return np.array(
        [change_KHW.mean(), change_KHW.std(), *percentiles, (change_KHW > 25).mean(), tiles.max()],
        dtype=np.float32,
    )


def read(kept: Path) -> Features:
    """The features of one video from its file."""
    with np.load(kept, allow_pickle=False) as held:
        return Features(features_NCD=held["features"], motion_NM=held["motion"], times_N2=held["times"])


def _keep(path: Path, features: Features) -> None:
    """Whole or not at all: an interrupted extraction leaves no half file behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(path.stem + ".part.npz")
    np.savez(half, features=features.features_NCD, motion=features.motion_NM, times=features.times_N2)
    half.replace(path)
