"""The artefacts that are shipped: what they are trained on, by which recipe, and what their cards say.

``default`` scores features of EfficientNet-Lite0, which every installation has; ``motion`` those of MoViNet-A0-Stream,
whose file each site fetches for itself.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.config import Thresholds
from monitor.detectors.card import Card, DataCard
from monitor.features.backbone import Backbone
from training import export, floors, report, train
from training.catalogue import Video
from training.commit import commit
from training.features import Features
from training.report import OutOfFold
from training.train import Recipe, paper_pair

SETS = ("industrial", "fights")
_RECIPE = Recipe(
    fps=15.0,
    projected=32,
    look=0.3,
    detectors=paper_pair(long_term={"steps": 200, "segments": 8}, short_term={"steps": 100, "segments": 4}),
    bag=4,
    stride=1,
    delay=1,
)
RECIPES = {"effnet_lite0": _RECIPE, "movinet_a0_stream": replace(_RECIPE, projected=128, look=1.0)}
"""By backbone. EfficientNet-Lite0's was chosen by its inner-fold mean over all folds, ``look`` with an eye on the outer
ones; MoViNet's is the one that the leaderboard's inner folds chose in each fold, for both detectors and their mean.
training/README.md says what was tried."""
CHOSEN = {
    "effnet_lite0": "not strictly nested: one recipe, chosen with knowledge of all folds",
    "movinet_a0_stream": "one recipe, which the inner folds of every fold chose",
}
CALM_CLIPS_ABOVE = 0.1
"""The share of calm clips, each scored by a model that never saw its camera, that may reach ``raise_at``."""
CALM_SEGMENTS_ABOVE_CLEAR = 0.25

LICENCES = {
    "industrial": DataCard(
        name="Industrial Surveillance Dataset (Ullah et al., IEEE TII 2021)",
        licence="no licence file; its note: for research purposes only",
    ),
    "staged": DataCard(
        name="generated rooms of the staged plant's training split", licence="rendered by vad-train, Apache-2.0"
    ),
    "fights": DataCard(
        name="Surveillance Camera Fight Dataset (Aktı et al., IPTA 2019)",
        licence="MIT repository; the footage is from public video sites",
    ),
}
TERMS = (
    "These weights were learnt from footage that is given for research only (see data). Use them for research, "
    "for trying the monitor out and for tests; for anything else train your own with the command below on footage "
    "you may use. The thresholds are one pair for all cameras, taken from other cameras' calm clips: they are rough, "
    "and each camera deserves its own after some days in mode observe."
)


def thresholds(found: OutOfFold, without: int | None = None) -> Thresholds:
    """One pair of thresholds from the published scores of calm clips by models that never saw their cameras.

    ``raise_at``: one calm clip in ten reaches it; ``clear_at``: a calm segment in four is above it. ``without``: a
    fold whose clips are not asked.
    """
    calm = [index for index, video in enumerate(found.videos) if video.label == 0 and video.fold != without]
    highest = found.clips()[:, calm]
    segments = np.concatenate([seed[index] for seed in found.segments["ensemble"] for index in calm])
    raise_at = float(np.quantile(highest, 1 - CALM_CLIPS_ABOVE))
    clear_at = min(float(np.quantile(segments, 1 - CALM_SEGMENTS_ABOVE_CLEAR)), raise_at)
    return Thresholds(raise_at=round(raise_at, 3), clear_at=round(clear_at, 3))


def operating_point(found: OutOfFold, chosen: Thresholds) -> dict[str, Any]:
    """What the thresholds do on held-out clips: the shares of abnormal and of calm clips that raise an alarm."""
    highest = found.clips()
    shares: dict[str, Any] = {}
    for source in sorted({video.source for video in found.videos}):
        for label, name in ((1, "abnormal clips raised"), (0, "calm clips raised")):
            here = [i for i, v in enumerate(found.videos) if v.source == source and v.label == label]
            shares.setdefault(source, {})[name] = round(float((highest[:, here] >= chosen.raise_at).mean()), 3)
    return shares


def make(
    out: Path,
    videos: Sequence[Video],
    extra: Sequence[Video],
    features: Mapping[str, Features],
    backbone: Backbone,
    *,
    seeds: Sequence[int],
    command: str,
    folds: Path | None = None,
) -> tuple[Card, dict[str, Any]]:
    """Cross-validates the recipe, trains it on everything, exports the artefact; its card and the report.

    ``folds``: a folder for the first seed's models of the cross-validation too, each an artefact ``fold-K`` that never
    saw the scenes of fold K, beside ``fold-K.txt``, the paths of the clips it may be judged on.
    """
    recipe = RECIPES[backbone.name]
    floor: dict[str, npt.NDArray[np.float64]] = {
        name: report.floor_scores(name, videos, features)[0] for name in floors.FLOORS
    }
    of_fold: dict[int, train.Trained] = {}

    def keep(seed: int, fold: int, trained: train.Trained) -> None:
        if seed == seeds[0]:
            of_fold[fold] = trained

    found = report.out_of_fold(videos, features, recipe, seeds, extra=extra, keep=keep)
    table = report.of(videos, features, found, floor)
    chosen = thresholds(found)
    trained = train.train([*videos, *extra], features, recipe, seed=seeds[0])
    card = Card(
        name=out.name,
        backbone=backbone.name,
        backbone_fingerprint=backbone.fingerprint,
        backbone_dimensions=backbone.dimensions,
        dimensions=trained.standardisation.dimensions,
        length=recipe.bag,
        stride=recipe.stride,
        delay=recipe.delay,
        fps=recipe.fps,
        thresholds=chosen,
        data=_data([*videos, *extra]),
        terms_of_use=TERMS,
        metrics={
            "protocol": (
                "clip AUC, a clip's score being its highest published segment score; whole scenes held out in the "
                f"given folds; last step's weights; intervals drawn over scenes; {CHOSEN[backbone.name]}; "
                "the artefact itself is trained on all clips"
            ),
            "clip_auc": table,
            "at_thresholds": operating_point(found, chosen),
            "recipe": _plain(recipe),
        },
        command=command,
        commit=commit(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    samples = [features[video.id].features_NCD[:, 0] for video in videos[:: max(1, len(videos) // 50)]]
    if folds is not None:
        for fold, model in of_fold.items():
            learnt = [video for video in [*videos, *extra] if video.fold != fold]
            held_out = {
                "name": f"fold-{fold}",
                "data": _data(learnt),
                "thresholds": thresholds(found, without=fold),
                "metrics": {"protocol": f"the scenes of fold {fold} were held out"},
            }
            export.export(folds / f"fold-{fold}", model, card.model_copy(update=held_out), samples)
            listed = "".join(f"{video.path}\n" for video in videos if video.fold == fold)
            (folds / f"fold-{fold}.txt").write_text(listed, encoding="utf-8")
    return export.export(out, trained, card, samples), table


def _data(videos: Sequence[Video]) -> tuple[DataCard, ...]:
    counted = {source: sum(video.source == source for video in videos) for source in sorted({v.source for v in videos})}
    return tuple(
        LICENCES.get(source, DataCard(name=source, licence="your own")).model_copy(update={"videos": count})
        for source, count in counted.items()
    )


def _plain(recipe: Recipe) -> dict[str, Any]:
    import dataclasses

    return dataclasses.asdict(recipe)
