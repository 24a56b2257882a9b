"""Three floors that a detector should stand above: metadata, motion energy, logistic regression.

Each gets the same inner search (its C, by held-out folds of the training scenes) as the detectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from training.catalogue import Video
from training.features import FeatureError, Features

Floor = Literal["metadata", "motion energy", "logistic regression"]
FLOORS: tuple[Floor, ...] = ("metadata", "motion energy", "logistic regression")
CS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""The strengths that the inner search chooses from."""

Table = npt.NDArray[np.float64]


def describe(floor: Floor, videos: Sequence[Video], features: Mapping[str, Features]) -> Table:
    """(V, columns) what a floor knows of each video."""
    if floor == "metadata":
        return np.array([_metadata(video) for video in videos])
    if floor == "motion energy":
        return np.array([_mean_and_max(_motion(video.id, features[video.id])) for video in videos])
    return np.array([features[video.id].features_NCD[:, 0].mean(axis=0) for video in videos], dtype=np.float64)


def fit_and_score(learnt: Table, labels: npt.NDArray[np.int64], test: Table, c: float, look: float = 1.0) -> Table:
    """(rows of ``test``,) probabilities by a logistic regression on the rows ``learnt``, columns standardised.

    With more columns than rows it is fitted in the space that the rows span: the L2 penalty keeps the solution
    there, so the probabilities are the same, ten times sooner. ``look``: what the first half of the standardised
    columns is multiplied by.
    """
    scaler = StandardScaler().fit(learnt)
    learnt, test = scaler.transform(learnt), scaler.transform(test)
    for table in (learnt, test):
        table[:, : table.shape[1] // 2] *= look
    if learnt.shape[1] > learnt.shape[0]:
        basis = np.linalg.svd(learnt, full_matrices=False)[2].T
        learnt, test = learnt @ basis, test @ basis
    regression = LogisticRegression(C=c, class_weight="balanced", max_iter=2000).fit(learnt, labels)
    scores: Table = regression.predict_proba(test)[:, 1]
    return scores


def _metadata(video: Video) -> list[float]:
    duration_s, frames = video.duration_s or 0.0, video.frames or 0
    rate = frames / duration_s if duration_s else 0.0
    return [duration_s, float(video.width_px or 0), float(video.height_px or 0), float(frames), rate]


def _motion(video_id: str, features: Features) -> npt.NDArray[np.float32]:
    if features.motion_NM is None:
        raise FeatureError(f"{video_id}: its features came without motion energy; extract them with vad-train extract")
    return features.motion_NM


def _mean_and_max(motion_NM: npt.NDArray[np.float32]) -> list[float]:
    return [*motion_NM.mean(axis=0).tolist(), *motion_NM.max(axis=0).tolist()]
