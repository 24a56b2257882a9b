"""The leaderboard: what a fold chooses was judged on others, what is there is not run again, floors stand beside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.test_train import material
from training import local, train
from training.catalogue import Video
from training.local import Board, Candidate
from training.train import DetectorRecipe

SHORT = {"steps": 12, "segments": 4, "half_batch": 6, "evaluate_every": 12}


def board(out: Path, **changes: object) -> Board:
    videos, features = material()
    made = Board(
        backbone="tiny",
        videos=videos,
        features=features,
        detectors={
            "sultani": DetectorRecipe(kind="sultani", schedule=SHORT | {"learning_rate": 0.05}),
            "video_classifier": DetectorRecipe(kind="video_classifier", schedule=SHORT),
        },
        ensembles={"both": {"sultani": 3.0, "video_classifier": 1.0}},
        seeds=(0, 1),
        out=out,
        candidates=(Candidate(projected=4, look=1.0), Candidate(projected=None, look=0.3)),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_models_never_saw_the_folds_that_they_are_judged_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[set[int | None], set[str]]] = []
    real = train.train

    def noted(videos: list[Video], *rest: object) -> train.Trained:
        seen.append(({video.fold for video in videos}, {video.id for video in videos}))
        return real(videos, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(train, "train", noted)
    it = board(tmp_path)
    local.run(it)
    assert sorted({len(folds) for folds, _ in seen}) == [3, 4]
    inner = [folds for folds, _ in seen if len(folds) == 3]
    assert len(inner) == 2 * 10, "each pair of folds left out once, for each candidate"
    for path in tmp_path.rglob("*.npz"):
        held = {int(fold) for fold in path.stem.rpartition("without-")[2].split("-")}
        with np.load(path) as kept:
            folds = {video.fold for video in it.videos if video.id in kept.files}
        assert folds == held


def test_what_is_there_is_not_run_again_and_another_recipe_is(tmp_path: Path) -> None:
    told: list[str] = []
    local.run(board(tmp_path, told=told.append))
    assert told
    again: list[str] = []
    local.run(board(tmp_path, told=again.append))
    assert again == []
    longer = {"sultani": DetectorRecipe(kind="sultani", schedule=SHORT | {"steps": 13})}
    local.run(board(tmp_path, detectors=longer, ensembles={}, told=again.append))
    assert len(again) > 20


def test_the_table_has_floors_every_row_and_what_each_fold_chose(tmp_path: Path) -> None:
    it = board(tmp_path)
    local.run(it)
    lines = local.table(it)["a"]
    assert list(lines) == ["metadata", "motion energy", "logistic regression", "sultani", "video_classifier", "both"]
    assert lines["both"]["seeds"] == 2
    assert set(lines["both"]["chosen"]) == {"0", "1", "2", "3", "4"}
    assert set(lines["both"]["chosen"].values()) <= {"4-look1", "all-look0.3"}
    assert "gain_over_logistic_regression_interval" in lines["both"]
    scores, choice = local.out_of_fold(it, it.rows["both"])
    fold = it.videos[0].fold
    assert fold is not None
    alone = local.clip_scores(it, it.candidates[choice.of_fold[fold]], it.rows["both"], (fold,), 1)
    assert scores[1, 0] == pytest.approx(alone[it.videos[0].id])


def test_an_ensemble_weighs_its_detectors_segment_by_segment(tmp_path: Path) -> None:
    it = board(tmp_path)
    candidate = it.candidates[0]
    local.run(it, [(candidate, name, (0,), 0) for name in it.detectors])
    found = local.clip_scores(it, candidate, it.rows["both"], (0,), 0)
    for name, score in found.items():
        parts = []
        for detector, share in (("sultani", 0.75), ("video_classifier", 0.25)):
            (path,) = tmp_path.rglob(f"{detector}-*/seed-0-without-0.npz")
            with np.load(path) as kept:
                parts.append(kept[name] * share)
        assert score == pytest.approx((parts[0] + parts[1]).max(), abs=1e-6)


def test_scenes_that_both_sets_share_are_not_learnt_from_in_a_transfer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos, features = material()
    # The second set has the first one's scenes in part.
    others = tuple(
        replace(v, id=f"b/{v.id[2:]}", scene=v.scene if k < 12 else f"b{v.scene}") for k, v in enumerate(videos)
    )
    features = features | {f"b/{name[2:]}": one for name, one in features.items()}
    learnt: list[set[str]] = []
    real = train.train

    def noted(given: list[Video], *rest: object) -> train.Trained:
        learnt.append({video.scene for video in given})
        return real(given, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(train, "train", noted)
    it = board(tmp_path, videos=(*videos, *others), features=features, candidates=(Candidate(projected=4, look=1.0),))
    moved = local.transfer(it, {"sultani": 1.0})
    assert set(moved) == {"a → b", "b → a"}
    shared = {video.scene for video in videos[:12]}
    assert all(not scenes & shared for scenes in learnt)
