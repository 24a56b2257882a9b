"""Measures: how well scores tell abnormal from normal, and how sure that is."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn import metrics

from training.catalogue import Video

Reduce = Literal["max", "mean"]
Scores = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]


def roc_auc(labels: Labels, scores: Scores) -> float:
    """Area under the ROC curve. Raises ValueError where only one class is there."""
    if len(np.unique(labels)) < 2:
        raise ValueError("a ROC curve needs both classes")
    return float(metrics.roc_auc_score(labels, np.asarray(scores, dtype=np.float64)))


def average_precision(labels: Labels, scores: Scores) -> float:
    """Average precision (no interpolation between points)."""
    return float(metrics.average_precision_score(labels, np.asarray(scores, dtype=np.float64)))


def clip_score(scores_N: Scores, reduce: Reduce = "max") -> float:
    """One score of a clip from its published segment scores; ``max`` is what an alarm sees."""
    return float(scores_N.max() if reduce == "max" else scores_N.mean())


def rank_auc(labels: Labels, scores: Scores) -> float:
    """The same area by ranks (Mann and Whitney), ties counting half: twenty times as fast, for the bootstrap."""
    abnormal = labels == 1
    positives, negatives = int(abnormal.sum()), int((~abnormal).sum())
    if positives == 0 or negatives == 0:
        raise ValueError("a ROC curve needs both classes")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[abnormal].sum() - positives * (positives + 1) / 2) / (positives * negatives))


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A percentile interval of a bootstrap."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{self.low:.2f}, {self.high:.2f}]"


def bootstrap(
    groups: Sequence[str],
    measure: Callable[[npt.NDArray[np.int64]], float],
    *,
    rounds: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of a measure when whole groups (scenes) are drawn with replacement.

    ``measure`` is given the indices of the drawn items (with repeats). Draws it cannot measure (it raises
    ValueError: one class only) are drawn again, at most ten times as many as ``rounds``.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    arrays = [np.array(items, dtype=np.int64) for items in members.values()]
    random = np.random.default_rng(seed)
    values: list[float] = []
    for _ in range(10 * rounds):
        drawn = random.integers(0, len(arrays), size=len(arrays))
        try:
            values.append(measure(np.concatenate([arrays[group] for group in drawn])))
        except ValueError:
            continue
        if len(values) == rounds:
            break
    else:
        raise ValueError("too few draws held both classes: no interval for so few scenes")
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high))


def auc_interval(videos: Sequence[Video], scores: Scores, *, rounds: int = 1000, seed: int = 0) -> Interval:
    """Bootstrap interval, over scenes, of the clip AUC."""
    labels = np.array([video.label for video in videos])
    return bootstrap(
        [video.scene for video in videos],
        lambda drawn: rank_auc(labels[drawn], scores[drawn]),
        rounds=rounds,
        seed=seed,
    )


def gain_interval(
    videos: Sequence[Video], scores: Scores, floor: Scores, *, rounds: int = 1000, seed: int = 0
) -> Interval:
    """Bootstrap interval, over scenes, of the difference of two clip AUCs on the same clips."""
    labels = np.array([video.label for video in videos])
    return bootstrap(
        [video.scene for video in videos],
        lambda drawn: rank_auc(labels[drawn], scores[drawn]) - rank_auc(labels[drawn], floor[drawn]),
        rounds=rounds,
        seed=seed,
    )


def by_fold(videos: Sequence[Video], scores: Scores) -> dict[int, float]:
    """Clip AUC of each fold."""
    labels = np.array([video.label for video in videos])
    of_video = np.array([-1 if video.fold is None else video.fold for video in videos])
    return {
        int(fold): roc_auc(labels[of_video == fold], scores[of_video == fold])
        for fold in np.unique(of_video)
        if fold >= 0
    }


def read_replay(
    table: Path, column: Literal["score", "long_term", "short_term"] = "score"
) -> dict[str, npt.NDArray[np.float64]]:
    """Segment scores of each file from the CSV of ``vad-monitor replay``, in the order of segments.

    Segments without a score (invalid ones: decode errors) are left out.

    Raises:
        ValueError: a column is missing, or a segment of a file is scored twice.
    """
    found: dict[str, dict[int, float]] = defaultdict(dict)
    with table.open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        missing = {"file", "segment", column} - set(rows.fieldnames or ())
        if missing:
            raise ValueError(f"{table}: the column {sorted(missing)[0]} is missing")
        for row in rows:
            if not row[column]:
                continue
            segment = int(row["segment"])
            if segment in found[row["file"]]:
                raise ValueError(f"{table}: segment {segment} of {row['file']} is scored twice")
            found[row["file"]][segment] = float(row[column])
    return {file: np.array([scores[number] for number in sorted(scores)]) for file, scores in sorted(found.items())}


def read_replays(tables: Sequence[Path]) -> dict[str, npt.NDArray[np.float64]]:
    """The segment scores of several replays together. Raises ValueError where a file is in two of them."""
    found: dict[str, npt.NDArray[np.float64]] = {}
    for table in tables:
        of_table = read_replay(table)
        twice = sorted(found.keys() & of_table.keys())
        if twice:
            raise ValueError(f"{table}: {twice[0]} was scored in an earlier table already")
        found |= of_table
    return found


def replayed(
    videos: Sequence[Video], scores_of_file: Mapping[str, Scores], reduce: Reduce = "max"
) -> npt.NDArray[np.float64]:
    """(V,) clip scores of the videos from a replay's table; files are matched by the end of their paths.

    Raises:
        ValueError: a video has no score, or two files answer to its path.
    """
    scores = np.empty(len(videos))
    for index, video in enumerate(videos):
        answers = [file for file in scores_of_file if file == video.path or file.endswith("/" + video.path)]
        if len(answers) != 1:
            raise ValueError(f"{video.path}: {len(answers)} files of the replay answer to it, expected one")
        scores[index] = clip_score(scores_of_file[answers[0]], reduce)
    return scores
