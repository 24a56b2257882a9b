"""A recipe's cross-validated numbers: every fold, every seed, intervals over scenes, and the floors beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training import catalogue, evaluate, floors, train, validate
from training.catalogue import Video
from training.features import Features
from training.train import Recipe, Trained

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutOfFold:
    """Published segment scores of every clip by models that never saw its scene: {part: [seed][video] (N,)}."""

    videos: tuple[Video, ...]
    segments: Mapping[str, list[list[npt.NDArray[np.float32]]]]

    def clips(self, part: str = "ensemble", reduce: evaluate.Reduce = "max") -> Scores:
        """(seeds, V) clip scores."""
        return np.array([[evaluate.clip_score(scores, reduce) for scores in seed] for seed in self.segments[part]])


def out_of_fold(
    videos: Sequence[Video],
    features: Mapping[str, Features],
    recipe: Recipe,
    seeds: Sequence[int],
    *,
    extra: Sequence[Video] = (),
    learn: Callable[[Video], bool] = lambda _: True,
    keep: Callable[[int, int, Trained], None] = lambda seed, fold, trained: None,
    device: str = "cpu",
) -> OutOfFold:
    """Trains a model a fold and seed. ``extra`` videos are learnt from by all; ``learn`` may leave some out.

    ``keep`` is given each seed, fold held out and model.
    """
    from tqdm import tqdm

    judged = tuple(video for video in videos if video.fold is not None)
    runs = [(seed, fold) for seed in seeds for fold in catalogue.folds(judged)]
    of_video: dict[tuple[str, int, str], npt.NDArray[np.float32]] = {}
    for seed, fold in tqdm(runs, desc="cross-validation", unit="model", disable=None):
        learnt = [video for video in judged if video.fold != fold and learn(video)]
        trained = train.train([*learnt, *extra], features, recipe, seed, device)
        keep(seed, fold, trained)
        held_out = [video for video in judged if video.fold == fold]
        # The first crop alone: a monitor sees the whole picture.
        given = train.publish(trained, [features[video.id].features_NCD[:, :1] for video in held_out], device=device)
        for part, scores in given.items():
            of_video |= {(part, seed, video.id): scores_N for video, scores_N in zip(held_out, scores, strict=True)}
    parts = (*recipe.detectors, "ensemble")
    return OutOfFold(
        videos=judged,
        segments={part: [[of_video[part, seed, v.id] for v in judged] for seed in seeds] for part in parts},
    )


def row(videos: Sequence[Video], clips_SV: Scores, floor_V: Scores | None = None) -> dict[str, Any]:
    """One line of the table for one data set: clip AUC by fold and seed, and its interval over scenes.

    ``mean`` and ``sd_folds`` are of the folds' AUCs (seeds averaged within a fold), ``sd_seeds`` of the seeds'
    means over folds. ``pooled`` ranks the seeds' mean scores of all folds at once; its interval, and that of the
    gain over a floor, come from drawing scenes.
    """
    by_fold = [evaluate.by_fold(videos, scores_V) for scores_V in clips_SV]
    table = np.array([[aucs[fold] for fold in sorted(aucs)] for aucs in by_fold])
    mean_V = clips_SV.mean(axis=0)
    interval = evaluate.auc_interval(videos, mean_V)
    line: dict[str, Any] = {
        "folds": {str(fold): _short(table[:, i].mean()) for i, fold in enumerate(sorted(by_fold[0]))},
        "mean": _short(table.mean()),
        "sd_folds": _short(table.mean(axis=0).std(ddof=1)),
        "sd_seeds": _short(table.mean(axis=1).std(ddof=1)) if len(table) > 1 else None,
        "seeds": len(table),
        "pooled": _short(evaluate.roc_auc(catalogue.labels(videos), mean_V)),
        "pooled_interval": [_short(interval.low), _short(interval.high)],
    }
    if floor_V is not None:
        gain = evaluate.gain_interval(videos, mean_V, floor_V)
        line["gain_over_logistic_regression_interval"] = [_short(gain.low), _short(gain.high)]
    return line


def floor_scores(
    floor: floors.Floor, videos: Sequence[Video], features: Mapping[str, Features], *, looks: Sequence[float] = (1.0,)
) -> tuple[Scores, tuple[float, float]]:
    """(V,) out-of-fold scores of a floor, its C and ``look`` chosen for each fold on inner folds; and those of all.

    ``looks``: how much the first half of a feature may weigh (``train.Recipe.look``), for logistic regression.
    """
    table = floors.describe(floor, videos, features)
    labels = catalogue.labels(videos)
    position = {video.id: index for index, video in enumerate(videos)}

    def fit(c: float, look: float) -> validate.Fit:
        def score(learnt: Sequence[Video], test: Sequence[Video]) -> Scores:
            return floors.fit_and_score(
                table[[position[video.id] for video in learnt]],
                labels[[position[video.id] for video in learnt]],
                table[[position[video.id] for video in test]],
                c,
                look if floor == "logistic regression" else 1.0,
            )

        return score

    tried = [(c, look) for look in (looks if floor == "logistic regression" else (1.0,)) for c in floors.CS]
    choice = validate.choose({one: validate.inner_aucs(videos, fit(*one)) for one in tried})
    scores = np.empty(len(videos))
    for fold, chosen in choice.of_fold.items():
        here = np.array([video.fold == fold for video in videos])
        learnt = [video for video in videos if video.fold != fold]
        scores[here] = fit(*chosen)(learnt, [video for video in videos if video.fold == fold])
    return scores, choice.overall


def of(
    videos: Sequence[Video], features: Mapping[str, Features], found: OutOfFold, floor: Mapping[str, Scores]
) -> dict[str, Any]:
    """The whole report: {data set: {row name: line}}; clip score = the highest published segment score."""
    report: dict[str, Any] = {}
    for source in sorted({video.source for video in videos}):
        here = np.array([video.source == source for video in videos])
        of_set = [video for video in videos if video.source == source]
        regression = floor["logistic regression"][here]
        lines = {name: row(of_set, scores_V[None, here]) for name, scores_V in floor.items()}
        for part in found.segments:
            lines[part] = row(of_set, found.clips(part)[:, here], regression)
        report[source] = lines
    return report


def text(report: Mapping[str, Any]) -> str:
    """The report as a Markdown table."""
    heads = ("data", "", "folds", "mean ± sd of folds (of seeds)", "pooled [95 % of scenes]", "gain over regression")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for source, rows in report.items():
        for name, line in rows.items():
            folds = " ".join(f"{auc:.2f}" for auc in line["folds"].values())
            seeds = "" if line["sd_seeds"] is None else f" ({line['sd_seeds']:.3f})"
            low, high = line["pooled_interval"]
            gain = line.get("gain_over_logistic_regression_interval")
            gained = "" if gain is None else f"[{gain[0]:+.2f}, {gain[1]:+.2f}]"
            lines.append(
                f"| {source} | {name} | {folds} | {line['mean']:.3f} ± {line['sd_folds']:.3f}{seeds} "
                f"| {line['pooled']:.3f} [{low:.2f}, {high:.2f}] | {gained} |"
            )
    return "\n".join(lines)


def _short(number: float) -> float:
    return round(float(number), 4)
