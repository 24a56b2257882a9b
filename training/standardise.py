"""Features → what the detectors see: mean and sd, and a linear projection, fitted on training scenes only.

N segments, D dimensions of the backbone's feature, P dimensions after projection.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monitor.detectors.artefact import Standardisation

Floats = npt.NDArray[np.float32]

SMALLEST_SD = 1e-3
"""A dimension that hardly ever changes is not blown up, and its sd stays well within float16."""


def fit(
    features_ND: Floats,
    projected: int | None,
    *,
    whiten: float = 0.0,
    emphasis_D: Floats | None = None,
    device: torch.device | str = "cpu",
) -> Standardisation:
    """Mean and sd of every dimension, and the first ``projected`` principal directions of what they leave.

    ``emphasis_D``: what each standardised dimension is multiplied by before the projection (1 where None). ``device``:
    where it is computed; the result is on the CPU.

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
    standard_ND = (torch.from_numpy(features_ND).to(device, torch.float64) - mean.to(device)) / sd.to(device)
    directions_DP = _principal(standard_ND, projected)
    sd_P = (standard_ND @ directions_DP).std(dim=0, correction=0)
    scaled_DP = directions_DP / sd_P.clamp_min(1e-6) ** whiten
    scaled_DP = scaled_DP / (standard_ND @ scaled_DP).var(dim=0, correction=0).mean().sqrt()
    return Standardisation(mean_D=mean, sd_D=sd, projection_DE=scaled_DP.float().cpu().contiguous())


def _principal(standard_ND: Tensor, most: int) -> Tensor:
    """(D, P) unit directions, the strongest first, each with its largest entry positive; P = ``most`` or the rank.

    By the eigenvectors of the smaller of the two Gram matrices, in float64: twenty times as fast as a singular value
    decomposition, and as good for the few strongest directions.
    """
    wide = standard_ND.shape[1] > standard_ND.shape[0]
    gram = standard_ND @ standard_ND.T if wide else standard_ND.T @ standard_ND
    values, vectors = torch.linalg.eigh(gram)
    kept = (values > values[-1] * 1e-10).nonzero().flatten().flip(0)[:most]
    directions_DP = standard_ND.T @ vectors[:, kept] if wide else vectors[:, kept]
    directions_DP = directions_DP / directions_DP.norm(dim=0)
    # A direction's sign is open; fixing it makes two machines project alike.
    largest_P = directions_DP.abs().argmax(dim=0)
    signed_DP: Tensor = directions_DP * directions_DP[largest_P, torch.arange(len(kept))].sign()
    return signed_DP
