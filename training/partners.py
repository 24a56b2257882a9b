"""The losses of the paper's partners, one function an equation: Sultani, RTFM, UR-DMU.

B bags, T segments a bag, C crops of a video, D dimensions; a = abnormal, n = normal. Scores are in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from monitor.detectors.ur_dmu import Remembered
from training import losses


def sultani(abnormal_BT: Tensor, normal_BT: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """CVPR 2018, eq. 7, weighted as in the authors' code: everything is summed over the batch's abnormal bags.

    That is a hinge of each with all normal bags (their mean), smoothness and sparsity (8e-5 each); and once 1e-3 times
    the squares of all weight matrices, which the sum makes 30 times lighter than a mean would.
    """
    of_a_bag = (
        losses.ranking(abnormal_BT, normal_BT, margin=1.0, pairing="all_pairs")
        + 8e-5 * losses.smoothness(abnormal_BT)
        + 8e-5 * losses.sparsity(abnormal_BT)
    )
    return len(abnormal_BT) * of_a_bag + 1e-3 * losses.weight_norm(weights, "squared")


def longest(aggregated_BTD: Tensor, scores_BT: Tensor, mask_BT: Tensor, crops: int) -> tuple[Tensor, Tensor]:
    """RTFM's choice: of each video the k = T // 10 (at least 1) segments whose features are longest, crops averaged.

    ``mask_BT`` (videos, T) is multiplied onto the lengths: dropout of segments in training, else ones. Returns the mean
    chosen feature of every crop, (videos · C, D), and the mean chosen score of each video, (videos,).
    """
    videos = len(aggregated_BTD) // crops
    segments, dimensions = aggregated_BTD.shape[1:]
    lengths_BT = aggregated_BTD.norm(dim=2).reshape(videos, crops, segments).mean(1) * mask_BT
    chosen_Bk = lengths_BT.topk(max(1, segments // 10), dim=1).indices
    of_crops_Bk = chosen_Bk.repeat_interleave(crops, dim=0)
    features_BkD = aggregated_BTD.gather(1, of_crops_Bk[:, :, None].expand(-1, -1, dimensions))
    mean_scores_BT = scores_BT.reshape(videos, crops, segments).mean(1)
    return features_BkD.mean(1), mean_scores_BT.gather(1, chosen_Bk).mean(1)


def magnitude(abnormal_BD: Tensor, normal_BD: Tensor, margin: float = 100.0) -> Tensor:
    """RTFM, eq. 3 as its code has it: ``mean (|margin − ‖a‖| + ‖n‖)²`` of the mean chosen features, every crop."""
    lengths_B: Tensor = (margin - abnormal_BD.norm(dim=1)).abs() + normal_BD.norm(dim=1)
    return lengths_B.square().mean()


def cross_entropy(scores: Tensor, target: float) -> Tensor:
    """Mean binary cross-entropy of scores with one target; logarithms are cut at −100, as torch does."""
    with torch.autocast(scores.device.type, enabled=False):
        scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
        return functional.binary_cross_entropy(scores, torch.full_like(scores, target))


def rtfm(abnormal: tuple[Tensor, Tensor], normal: tuple[Tensor, Tensor], abnormal_scores_BT: Tensor) -> Tensor:
    """RTFM's loss: cross-entropy of the chosen segments' mean scores, 1e-4 times their features' magnitudes, 8e-4 times
    smoothness summed over, and 8e-3 times the Euclidean norm of, the abnormal scores.

    ``abnormal`` and ``normal`` are ``longest``'s. The authors' smoothness crosses from one video into the next; ours
    does not.
    """
    labels = (cross_entropy(abnormal[1], 1.0) + cross_entropy(normal[1], 0.0)) / 2
    sparsity: Tensor = abnormal_scores_BT.norm()
    smoothness = len(abnormal_scores_BT) * losses.smoothness(abnormal_scores_BT)
    return labels + 1e-4 * magnitude(abnormal[0], normal[0]) + 8e-4 * smoothness + 8e-3 * sparsity


def top(values_BT: Tensor) -> Tensor:
    """(B,) the mean of the T // 16 + 1 highest."""
    return values_BT.topk(values_BT.shape[1] // 16 + 1, dim=1).values.mean(1)


def at_top(features_BTE: Tensor, by_BT: Tensor) -> Tensor:
    """(B, E) the mean feature of the T // 16 + 1 segments where ``by`` is highest."""
    chosen_Bk = by_BT.topk(by_BT.shape[1] // 16 + 1, dim=1).indices
    return features_BTE.gather(1, chosen_Bk[:, :, None].expand(-1, -1, features_BTE.shape[2])).mean(1)


def memories(seen: Remembered) -> Tensor:
    """UR-DMU's four cross-entropies, as its code has them: each memory answers to its own and not to the other's.

    Of a normal video that is said of every segment, of an abnormal one only of the T // 16 + 1 where it is most so.
    """
    return (
        cross_entropy(top(seen.abnormal_of_A), 1.0)
        + cross_entropy(top(1 - seen.normal_of_A), 1.0)
        + cross_entropy(seen.normal_of_N, 1.0)
        + cross_entropy(seen.abnormal_of_N, 0.0)
    )


def triplet(anchor_BE: Tensor, near_BE: Tensor, far_BE: Tensor, margin: float = 1.0) -> Tensor:
    """``mean max(0, ‖anchor − near‖ − ‖anchor − far‖ + margin)`` of unit vectors."""
    anchor_BE, near_BE, far_BE = (functional.normalize(x_BE, dim=1) for x_BE in (anchor_BE, near_BE, far_BE))
    return torch.relu((anchor_BE - near_BE).norm(dim=1) - (anchor_BE - far_BE).norm(dim=1) + margin).mean()


def divergence(mean_BTE: Tensor, log_variance_BTE: Tensor) -> Tensor:
    """Kullback-Leibler divergence from the standard normal: summed over dimensions, the mean over segments.

    The authors' code sums over segments and takes the mean over dimensions: T / 512 of ours.
    """
    return -0.5 * (1 + log_variance_BTE - mean_BTE.square() - log_variance_BTE.exp()).sum(2).mean()


def distance(abnormal_BE: Tensor, normal_BE: Tensor, margin: float = 100.0) -> Tensor:
    """``mean max(0, margin − ‖a‖ + ‖n‖)``."""
    return torch.relu(margin - abnormal_BE.norm(dim=1) + normal_BE.norm(dim=1)).mean()


def ur_dmu(seen: Remembered) -> Tensor:
    """UR-DMU's loss: labels + 0.1 memories + 0.1 triplet + 1e-3 divergence + 1e-4 distance."""
    scores_A, scores_N = torch.sigmoid(seen.logits_BT).chunk(2)
    labels = (cross_entropy(top(scores_A), 1.0) + cross_entropy(top(scores_N), 0.0)) / 2
    return (
        labels
        + 0.1 * memories(seen)
        + 0.1
        * triplet(
            at_top(seen.embedded_N, seen.normal_of_N),
            at_top(seen.embedded_A, seen.normal_of_A),
            at_top(seen.embedded_A, seen.abnormal_of_A),
        )
        + 1e-3 * divergence(seen.mean_N, seen.log_variance_N)
        + 1e-4 * distance(at_top(seen.recalled_A, seen.abnormal_of_A), at_top(seen.recalled_N, seen.normal_of_N))
    )
