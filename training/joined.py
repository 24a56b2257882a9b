"""Long untrimmed videos made of the clips of one camera, with known boundaries: for latency and false alarms.

The videos are **constructed**: clips of both classes of one scene, in an order drawn once, joined where a
segment ends. Every segment carries its clip's weak label. Say so wherever a number comes from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.flow import FRAMES_PER_SEGMENT
from training import evaluate, train
from training.catalogue import Video
from training.features import Features
from training.train import Recipe

Floats = npt.NDArray[np.float32]

SCENES = ("scene-00", "scene-01", "scene-02", "scene-03", "scene-05", "scene-06")
"""The cameras with many clips of both classes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stream:
    """One joined video: (N, D) features, (N,) labels, and the fold of its scene."""

    scene: str
    fold: int | None
    features_ND: Floats
    labels_N: npt.NDArray[np.int64]

    @property
    def onsets(self) -> list[tuple[int, int]]:
        """(first, end) of each run of abnormal segments."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], self.labels_N, [0]])))
        return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def streams(videos: Sequence[Video], features: Mapping[str, Features], seed: int = 0) -> tuple[Stream, ...]:
    """A stream a scene; calm and abnormal clips alternate while both last, each kind in a drawn order."""
    random = np.random.default_rng(seed)
    made: list[Stream] = []
    for scene in SCENES:
        halves = [[v for v in videos if v.scene == scene and v.label == label] for label in (0, 1)]
        calm, abnormal = ([half[i] for i in random.permutation(len(half))] for half in halves)
        ordered = [clip for pair in zip(calm, abnormal, strict=False) for clip in pair]
        ordered += calm[len(abnormal) :] + abnormal[len(calm) :]
        parts = [features[video.id].features_NCD[:, 0] for video in ordered]
        made.append(
            Stream(
                scene=scene,
                fold=ordered[0].fold,
                features_ND=np.concatenate(parts),
                labels_N=np.repeat([video.label for video in ordered], [len(part) for part in parts]),
            )
        )
    return tuple(made)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of the accuracy–latency curve."""

    bag: int
    delay: int
    pooled_auc: float
    within_auc: float
    """Mean over streams of the AUC within each."""
    found: float
    """Share of abnormal runs that cross a threshold which one calm segment in ten crosses."""
    latency_s: float
    """Median, over found runs, of the time from the run's begin to its first published crossing."""


def point(
    made: Sequence[Stream],
    score: Callable[[Stream, int, int], npt.NDArray[np.floating]],
    *,
    bag: int,
    delay: int,
    segment_s: float,
) -> Point:
    """``score(stream, l, d)`` gives the published score of every segment by a model that never saw the scene."""
    scores = [score(stream, bag, delay) for stream in made]
    labels = np.concatenate([stream.labels_N for stream in made])
    pooled = np.concatenate(scores)
    threshold = np.quantile(pooled[labels == 0], 0.9)
    waits: list[float] = []
    runs = 0
    for stream, scores_N in zip(made, scores, strict=True):
        for first, end in stream.onsets:
            runs += 1
            crossed = np.flatnonzero(scores_N[first:end] > threshold)
            if len(crossed):
                waits.append((int(crossed[0]) + 1 + delay) * segment_s)
    return Point(
        bag=bag,
        delay=delay,
        pooled_auc=evaluate.roc_auc(labels, pooled),
        within_auc=float(
            np.mean([evaluate.roc_auc(s.labels_N, scored) for s, scored in zip(made, scores, strict=True)])
        ),
        found=len(waits) / runs,
        latency_s=float(np.median(waits)) if waits else float("nan"),
    )


def curve(
    videos: Sequence[Video],
    features: Mapping[str, Features],
    recipe: Recipe,
    seeds: Sequence[int],
    bags: Sequence[int],
) -> list[Point]:
    """The accuracy–latency curve: every l of ``bags`` at stride 1 with every delay, scores averaged over seeds.

    The training clips do not depend on l, so a model a fold and seed serves the whole curve.
    """
    made = streams(videos, features)
    folds = sorted({stream.fold for stream in made if stream.fold is not None})
    models = {
        fold: [train.train([video for video in videos if video.fold != fold], features, recipe, seed) for seed in seeds]
        for fold in folds
    }

    def score(stream: Stream, bag: int, delay: int) -> npt.NDArray[np.floating]:
        given = [
            train.publish(trained, [stream.features_ND[:, None]], length=bag, stride=1, delay=delay)["ensemble"][0]
            for trained in models[stream.fold or 0]
        ]
        mean_N: npt.NDArray[np.floating] = np.mean(given, axis=0)
        return mean_N

    segment_s = FRAMES_PER_SEGMENT / recipe.fps
    return [point(made, score, bag=bag, delay=delay, segment_s=segment_s) for bag in bags for delay in range(bag)]


def table(points: Sequence[Point]) -> str:
    """The curve as a Markdown table."""
    lines = ["| l | d | pooled AUC | AUC within | runs found | median s to crossing |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {p.bag} | {p.delay} | {p.pooled_auc:.3f} | {p.within_auc:.3f} | {p.found:.2f} | {p.latency_s:.1f} |"
        for p in points
    ]
    return "\n".join(lines)
