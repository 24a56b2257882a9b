"""Videos → features, through the monitor's own cut into segments and its own backbone.

Crop 0 is the whole picture, crop 1 (optional) its mirror image.

N segments, C crops, K frames handed over, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from monitor.features.backbone import Backbone
from monitor.flow import Pictures, Segment
from monitor.ingest.file import segments_of_file
from training import features
from training.catalogue import Video
from training.features import Extraction, FeatureError, Features

Floats = npt.NDArray[np.float32]


def folder_of(root: Path, extraction: Extraction) -> Path:
    """Where features of this kind lie under a root: backbone, hash and rate in the name."""
    mirrored = "-mirrored" if "mirrored whole" in extraction.crop_order else ""
    return root / f"{extraction.backbone}-{extraction.fingerprint[:8]}-{extraction.fps:g}fps{mirrored}"


def extract(
    videos: Sequence[Video], data: Path, root: Path, backbone: Backbone, fps: float, *, mirrored: bool = False
) -> dict[str, Features]:
    """Features of the videos by id; what is there already is read, the rest is made and kept.

    Raises:
        FeatureError: a video without a single segment, or a folder with other features.
    """
    from tqdm import tqdm

    made_by = Extraction(
        backbone=backbone.name,
        fingerprint=backbone.fingerprint,
        dimensions=backbone.dimensions,
        fps=fps,
        crop_order=("whole", "mirrored whole") if mirrored else ("whole",),
    )
    folder = folder_of(root, made_by)
    made_by.check(folder)
    found: dict[str, Features] = {}
    for video in tqdm(videos, desc=f"features at {fps:g} fps", unit="clip", disable=None):
        if not (folder / f"{video.id}.npy").is_file():
            features.write(
                folder,
                video.id,
                of_segments(
                    segments_of_file(data / video.path, backbone.preprocessing, fps),
                    backbone,
                    mirrored=mirrored,
                ),
            )
        found[video.id] = features.read(folder, video.id)
        if len(found[video.id]) == 0:
            raise FeatureError(f"{video.path}: not one segment of 16 frames in it; take it off the list")
    return found


def of_segments(segments: Iterable[Segment], backbone: Backbone, *, mirrored: bool = False) -> Features:
    """Features of one video's segments; those the reader calls invalid are left out, as in the monitor."""
    encoded: list[Floats] = []
    motion: list[Floats] = []
    times: list[tuple[float, float]] = []
    for segment in segments:
        if segment.pictures is None:
            continue
        crops = [segment.pictures, segment.pictures[:, :, ::-1]] if mirrored else [segment.pictures]
        encoded.append(backbone.encode(np.ascontiguousarray(np.stack(crops))).cpu().numpy())
        motion.append(motion_energy(segment.pictures))
        times.append((segment.start_s, segment.end_s))
    return Features(
        features_NCD=np.array(encoded, dtype=np.float32).reshape(-1, 2 if mirrored else 1, backbone.dimensions),
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
