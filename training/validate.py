"""Cross-validation with whole scenes held out, and the choice of a recipe inside it.

The outer folds are those of the list. Everything chosen for outer fold k is chosen on models that saw neither
fold k nor the inner fold j they are judged on; it serves both (k, j) and (j, k): five folds need ten.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from training import catalogue, evaluate
from training.catalogue import Video

Key = TypeVar("Key", bound=Hashable)
Scores = npt.NDArray[np.float64]
Fit = Callable[[Sequence[Video], Sequence[Video]], Scores]
"""(train, test) → a clip score of each test video."""


def inner_aucs(videos: Sequence[Video], fit: Fit) -> dict[tuple[int, int], float]:
    """{(k, j): mean over data sets of the clip AUC on fold j of a model that saw neither k nor j}."""
    found: dict[tuple[int, int], float] = {}
    for pair in itertools.combinations(catalogue.folds(videos), 2):
        learnt = [video for video in videos if video.fold not in pair]
        test = [video for video in videos if video.fold in pair]
        scores = fit(learnt, test)
        for outer, inner in (pair, pair[::-1]):
            mask = np.array([video.fold == inner for video in test])
            judged = [video for video in test if video.fold == inner]
            found[outer, inner] = set_mean_auc(judged, scores[mask])
    return found


def set_mean_auc(videos: Sequence[Video], scores: Scores) -> float:
    """The clip AUC of each data set, averaged: a large set does not outvote a small one."""
    of_set: list[float] = []
    for source in sorted({video.source for video in videos}):
        mask = np.array([video.source == source for video in videos])
        of_set.append(evaluate.roc_auc(catalogue.labels(videos)[mask], scores[mask]))
    return float(np.mean(of_set))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Generic[Key]):
    """What the inner folds chose: for each outer fold, and over all of them (what is shipped)."""

    of_fold: Mapping[int, Key]
    overall: Key
    table: Mapping[Key, Mapping[int, float]]
    """Mean inner AUC of each candidate, by outer fold."""


def choose(found: Mapping[Key, Mapping[tuple[int, int], float]]) -> Choice[Key]:
    """The candidate with the highest mean inner AUC; the earlier one of equals."""
    table: dict[Key, dict[int, float]] = {}
    for key, aucs in found.items():
        outers = sorted({outer for outer, _ in aucs})
        table[key] = {k: float(np.mean([auc for (o, _), auc in aucs.items() if o == k])) for k in outers}
    outers = sorted(next(iter(table.values())))
    return Choice(
        of_fold={k: max(table, key=lambda key: table[key][k]) for k in outers},
        overall=max(table, key=lambda key: float(np.mean(list(table[key].values())))),
        table=table,
    )
