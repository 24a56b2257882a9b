"""Features → what the detectors see: mean and sd, and a linear projection, fitted on training scenes only.

N segments, D dimensions of the backbone's feature, P dimensions after projection.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from monitor.detectors.artefact import Standardisation

Floats = npt.NDArray[np.float32]

SMALLEST_SD = 1e-3
"""A dimension that hardly ever changes is not blown up, and its sd stays well within float16."""


def fit(
    features_ND: Floats, projected: int | None, *, whiten: float = 0.0, emphasis_D: Floats | None = None
) -> Standardisation:
    """Mean and sd of every dimension, and the first ``projected`` principal directions of what they leave.

    ``emphasis_D``: what each standardised dimension is multiplied by before the projection (1 where None).

    The projection is scaled so that the P dimensions have variance 1 on average. ``whiten`` between 0 and 1
    evens them out: each direction is divided by its sd to that power (0: principal components as they are).
    """
    mean_D = features_ND.mean(axis=0)
    sd_D = np.maximum(features_ND.std(axis=0), SMALLEST_SD)
    if emphasis_D is not None:
        sd_D = sd_D / emphasis_D
    mean, sd = torch.from_numpy(mean_D), torch.from_numpy(sd_D.astype(np.float32))
    if projected is None:
        return Standardisation(mean_D=mean, sd_D=sd)
    standard_ND = (features_ND - mean_D) / sd_D
    directions_DP = _principal(standard_ND)[:, :projected]
    sd_P = (standard_ND @ directions_DP).std(axis=0)
    scaled_DP = directions_DP / np.maximum(sd_P, 1e-6) ** whiten
    scaled_DP = scaled_DP / np.sqrt(np.mean((standard_ND @ scaled_DP).var(axis=0)))
    projection = torch.from_numpy(np.ascontiguousarray(scaled_DP, dtype=np.float32))
    return Standardisation(mean_D=mean, sd_D=sd, projection_DE=projection)


def _principal(standard_ND: Floats) -> Floats:
    """(D, min(N, D)) unit directions, the strongest first, each with its largest entry positive."""
    directions_DP: Floats = np.linalg.svd(standard_ND, full_matrices=False)[2].T
    # A direction's sign is open; fixing it makes two machines project alike.
    largest_P = np.abs(directions_DP).argmax(axis=0)
    signs_P: Floats = np.sign(directions_DP[largest_P, np.arange(directions_DP.shape[1])])
    signed_DP: Floats = directions_DP * signs_P
    return signed_DP
