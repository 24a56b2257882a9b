"""The leaderboard on real clips: every detector and ensemble, cameras held out, choices made inside, floors beside it.

One run is (backbone, candidate, detector, held-out folds, seed) → published segment scores of the held-out clips, kept
in a file. Models without one fold are judged on it; models without two folds choose the candidate: what is chosen for
fold k was judged on folds that neither k nor its models saw. The regression chooses its C and ``look`` alike.

V clips, N segments of a clip.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training import catalogue, evaluate, floors, report, train, validate
from training.catalogue import Video
from training.features import Features
from training.train import DetectorRecipe, Recipe

Scores = npt.NDArray[np.float64]
Held = tuple[int, ...]

STEPS, SEGMENTS = 200, 8
"""Of all detectors: clips are 2 to 5 seconds long, 2 to 5 segments; fewer than 100 steps leave MIL undertrained."""


def _short(kind: str, **changes: Any) -> DetectorRecipe:
    schedule = {"steps": STEPS, "segments": SEGMENTS, "evaluate_every": STEPS} | changes.pop("schedule", {})
    return DetectorRecipe(kind=kind, schedule=schedule, **changes)


CORE: dict[str, DetectorRecipe] = {
    "video_classifier": _short("video_classifier"),
    "bilstm_mil": _short("bilstm_mil", schedule={"steps": 100, "segments": 4, "evaluate_every": 100}),
}
PARTNERS: dict[str, DetectorRecipe] = {
    "video_classifier_dagger": _short("video_classifier", arguments={"recurrent": 256}),
    "bilstm_classifier": _short("bilstm_classifier"),
    "sultani": _short("sultani"),
    "rtfm": _short("rtfm"),
    "ur_dmu": _short("ur_dmu"),
}
ENSEMBLES: dict[str, dict[str, float]] = {
    "ours": {"video_classifier": 1.0, "bilstm_mil": 1.0},
    "ours_dagger": {"video_classifier_dagger": 1.0, "bilstm_mil": 1.0},
    "rtfm+ours": {"rtfm": 1.0, "video_classifier": 1.0, "bilstm_mil": 1.0},
    "ur_dmu+ours": {"ur_dmu": 1.0, "video_classifier": 1.0, "bilstm_mil": 1.0},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to prepare features: what the inner folds choose among."""

    projected: int | None
    look: float

    @property
    def name(self) -> str:
        return f"{'all' if self.projected is None else self.projected}-look{self.look:g}"


CANDIDATES = (
    Candidate(projected=32, look=0.3),
    Candidate(projected=32, look=1.0),
    Candidate(projected=128, look=0.3),
    Candidate(projected=128, look=1.0),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Board:
    """What is compared on which clips."""

    backbone: str
    videos: tuple[Video, ...]
    features: Mapping[str, Features]
    detectors: Mapping[str, DetectorRecipe]
    ensembles: Mapping[str, Mapping[str, float]]
    seeds: Sequence[int]
    out: Path
    candidates: Sequence[Candidate] = CANDIDATES
    bag: int = 4
    stride: int = 1
    delay: int = 1
    fps: float = 15.0
    device: str = "cpu"
    told: Callable[[str], None] = field(default=lambda line: None)

    @property
    def rows(self) -> dict[str, Mapping[str, float]]:
        """Every detector and ensemble, by the detectors it is made of."""
        return {**{name: {name: 1.0} for name in self.detectors}, **self.ensembles}

    @property
    def folds(self) -> tuple[int, ...]:
        return catalogue.folds(self.videos)


def run(board: Board, jobs: Iterable[tuple[Candidate, str, Held, int]] | None = None) -> None:
    """Makes every run that is not there: the inner ones of the first seed, then the outer ones that were chosen."""
    if jobs is None:
        first = board.seeds[0]
        pairs = list(itertools.combinations(board.folds, 2))
        run(board, [(c, d, pair, first) for c in board.candidates for d in board.detectors for pair in pairs])
        wanted = {
            (board.candidates[index], detector, (fold,), seed)
            for parts, choice in ((parts, choose(board, parts)) for parts in board.rows.values())
            for fold, index in choice.of_fold.items()
            for detector in parts
            for seed in board.seeds
        }
        run(board, sorted(wanted, key=str))
        return
    together: dict[tuple[Candidate, Held, int], list[str]] = {}
    for candidate, detector, held, seed in jobs:
        if not _file(board, candidate, detector, held, seed).is_file():
            together.setdefault((candidate, held, seed), []).append(detector)
    for number, ((candidate, held, seed), detectors) in enumerate(together.items(), start=1):
        without = "+".join(map(str, held))
        board.told(
            f"{board.backbone} {number}/{len(together)}: {candidate.name}, without fold {without}, seed {seed}: "
            f"{', '.join(detectors)}"
        )
        _make(board, candidate, detectors, held, seed)


def recipe_of(board: Board, candidate: Candidate, detectors: Iterable[str]) -> Recipe:
    return Recipe(
        fps=board.fps,
        projected=candidate.projected,
        look=candidate.look,
        detectors={name: board.detectors[name] for name in detectors},
        bag=board.bag,
        stride=board.stride,
        delay=board.delay,
    )


def _make(board: Board, candidate: Candidate, detectors: Sequence[str], held: Held, seed: int) -> None:
    learnt = [video for video in board.videos if video.fold not in held]
    judged = [video for video in board.videos if video.fold in held]
    trained = train.train(learnt, board.features, recipe_of(board, candidate, detectors), seed, board.device)
    given = train.publish(
        trained, [board.features[video.id].features_NCD[:, :1] for video in judged], device=board.device
    )
    for name in detectors:
        path = _file(board, candidate, name, held, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.stem}.{os.getpid()}.npz")
        kept: dict[str, Any] = {video.id: scores for video, scores in zip(judged, given[name], strict=True)}
        np.savez(part, **kept)
        part.replace(path)


def _file(board: Board, candidate: Candidate, detector: str, held: Held, seed: int) -> Path:
    """The recipe is in the name: another recipe is another run."""
    recipe = json.dumps(asdict(board.detectors[detector]), sort_keys=True) + f"{board.bag} {board.stride} {board.delay}"
    mark = hashlib.sha256(recipe.encode()).hexdigest()[:8]
    without = "-".join(map(str, held))
    return board.out / board.backbone / candidate.name / f"{detector}-{mark}" / f"seed-{seed}-without-{without}.npz"


def clip_scores(
    board: Board, candidate: Candidate, parts: Mapping[str, float], held: Held, seed: int
) -> dict[str, float]:
    """Id → clip score, the highest published segment score, of a detector or an ensemble (eq. 3), held out."""
    total = sum(parts.values())
    sums: dict[str, npt.NDArray[np.float64]] = {}
    for detector, weight in parts.items():
        with np.load(_file(board, candidate, detector, held, seed), allow_pickle=False) as kept:
            for video_id in kept.files:
                share = kept[video_id].astype(np.float64) * (weight / total)
                sums[video_id] = sums[video_id] + share if video_id in sums else share
    return {video_id: float(scores_N.max()) for video_id, scores_N in sums.items()}


def choose(board: Board, parts: Mapping[str, float]) -> validate.Choice[int]:
    """The candidate (its place) with the highest inner mean AUC, for each outer fold and over all."""
    found: dict[int, dict[tuple[int, int], float]] = {}
    for place, candidate in enumerate(board.candidates):

        def fit(learnt: Sequence[Video], test: Sequence[Video], candidate: Candidate = candidate) -> Scores:
            held = tuple(sorted({video.fold for video in test if video.fold is not None}))
            scores = clip_scores(board, candidate, parts, held, board.seeds[0])
            return np.array([scores[video.id] for video in test])

        found[place] = validate.inner_aucs(board.videos, fit)
    return validate.choose(found)


def out_of_fold(board: Board, parts: Mapping[str, float]) -> tuple[Scores, validate.Choice[int]]:
    """(seeds, V) clip scores by models that never saw the clip's camera, each fold with what its inner folds chose."""
    choice = choose(board, parts)
    scores = np.empty((len(board.seeds), len(board.videos)))
    for row, seed in enumerate(board.seeds):
        for fold, place in choice.of_fold.items():
            of_fold = clip_scores(board, board.candidates[place], parts, (fold,), seed)
            for column, video in enumerate(board.videos):
                if video.fold == fold:
                    scores[row, column] = of_fold[video.id]
    return scores, choice


def floor_scores(board: Board) -> dict[str, Scores]:
    """(V,) out-of-fold scores of each floor; logistic regression chooses its C and ``look`` inside too."""
    found: dict[str, Scores] = {}
    for floor in floors.FLOORS:
        found[floor] = report.floor_scores(
            floor, board.videos, board.features, looks=sorted({c.look for c in board.candidates})
        )[0]
    return found


def table(board: Board) -> dict[str, Any]:
    """{data set: {row: line}}; floors first, then every detector and ensemble with its gain over the regression."""
    floor = floor_scores(board)
    lines: dict[str, Any] = {}
    rows = {name: out_of_fold(board, parts) for name, parts in board.rows.items()}
    for source in sorted({video.source for video in board.videos}):
        here = np.array([video.source == source for video in board.videos])
        of_set = [video for video in board.videos if video.source == source]
        of_source = {name: report.row(of_set, scores_V[None, here]) for name, scores_V in floor.items()}
        for name, (scores, choice) in rows.items():
            line = report.row(of_set, scores[:, here], floor["logistic regression"][here])
            line["chosen"] = {str(fold): board.candidates[place].name for fold, place in choice.of_fold.items()}
            of_source[name] = line
        lines[source] = of_source
    return lines


def transfer(board: Board, parts: Mapping[str, float]) -> dict[str, tuple[float, evaluate.Interval]]:
    """``a → b``: learnt on a without the scenes that b shares, judged on b; a's inner folds choose the candidate."""
    found: dict[str, tuple[float, evaluate.Interval]] = {}
    sources = sorted({video.source for video in board.videos})
    for learnt_on, judged_on in itertools.permutations(sources, 2):
        judged = [video for video in board.videos if video.source == judged_on]
        scenes = {video.scene for video in judged}
        learnt = tuple(v for v in board.videos if v.source == learnt_on and v.scene not in scenes)
        # Folds may lie empty on one set alone: the choice made on both sets' inner folds is not used here.
        inner = replace(board, videos=learnt, out=board.out / f"transfer-{learnt_on}")
        usable = [fold for fold in inner.folds if {v.label for v in learnt if v.fold == fold} == {0, 1}]
        inner = replace(inner, videos=tuple(video for video in learnt if video.fold in usable))
        pairs = list(itertools.combinations(inner.folds, 2))
        run(inner, [(c, d, pair, board.seeds[0]) for c in board.candidates for d in parts for pair in pairs])
        candidate = board.candidates[choose(inner, parts).overall]
        of_seed = []
        for seed in board.seeds:
            trained = train.train(learnt, board.features, recipe_of(board, candidate, parts), seed, board.device)
            given = train.publish(
                trained, [board.features[v.id].features_NCD[:, :1] for v in judged], device=board.device
            )
            total = sum(parts.values())
            of_seed.append(
                [sum(parts[d] / total * given[d][k] for d in parts).max() for k in range(len(judged))]  # type: ignore[union-attr]
            )
        scores = np.mean(of_seed, axis=0)
        auc = evaluate.roc_auc(catalogue.labels(judged), scores)
        found[f"{learnt_on} → {judged_on}"] = (auc, evaluate.auc_interval(judged, scores))
    return found
