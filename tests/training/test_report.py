"""Cross-validation: nothing of a scene is seen before it is judged, and the choice is made inside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from tests.training.test_train import SMALL, material
from training import floors, report, train, validate
from training.catalogue import Video

Array = npt.NDArray[np.float64]


def test_inner_models_see_neither_the_outer_nor_the_inner_fold() -> None:
    videos, _ = material()
    seen: list[tuple[set[int | None], set[int | None]]] = []

    def fit(learnt: Sequence[Video], test: Sequence[Video]) -> Array:
        seen.append(({video.fold for video in learnt}, {video.fold for video in test}))
        return np.array([float(video.label) for video in test])

    aucs = validate.inner_aucs(videos, fit)
    assert len(seen) == 10
    assert all(len(learnt) == 3 and len(test) == 2 and not learnt & test for learnt, test in seen)
    assert set(aucs) == {(outer, inner) for outer in range(5) for inner in range(5) if outer != inner}
    assert set(aucs.values()) == {1.0}


def test_each_outer_fold_chooses_for_itself() -> None:
    chosen = validate.choose(
        {
            "a": {(0, 1): 0.9, (0, 2): 0.8, (1, 0): 0.5, (1, 2): 0.5},
            "b": {(0, 1): 0.6, (0, 2): 0.6, (1, 0): 0.7, (1, 2): 0.9},
        }
    )
    assert chosen.of_fold == {0: "a", 1: "b"}
    assert chosen.overall == "b"


def test_out_of_fold_scores_are_of_models_that_learnt_the_other_folds_and_the_extra_videos(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    videos, features = material()
    extra = [Video(id="x/0", path="x/0.mp4", label=0, scene="x")]
    features["x/0"] = features["a/0"]
    learnt: list[list[Video]] = []
    real = train.train(videos, features, SMALL, seed=0)

    def noted(given: Sequence[Video], *_: object) -> train.Trained:
        learnt.append(list(given))
        return real

    monkeypatch.setattr(train, "train", noted)
    found = report.out_of_fold(videos, features, SMALL, [0], extra=extra)
    assert [{video.fold for video in given if video.fold is not None} for given in learnt] == [
        set(range(5)) - {fold} for fold in range(5)
    ]
    assert all(extra[0] in given for given in learnt)
    assert found.clips().shape == (1, 60)
    assert [len(scores) for scores in found.segments["ensemble"][0]] == [len(features[v.id]) for v in videos]


def test_a_line_of_the_table_has_every_fold_and_both_spreads() -> None:
    videos, _ = material()
    labels = np.array([float(video.label) for video in videos])
    line = report.row(videos, np.stack([labels, 1 - labels]), labels)
    assert line["folds"] == {str(fold): 0.5 for fold in range(5)}
    assert (line["mean"], line["sd_folds"]) == (0.5, 0.0)
    assert line["sd_seeds"] == pytest.approx(0.7071)
    assert "| a | both | 0.50 0.50 0.50 0.50 0.50 | 0.500 ± 0.000 (0.707)" in report.text({"a": {"both": line}})


def test_a_regression_in_the_space_of_the_rows_is_the_regression_itself() -> None:
    random = np.random.default_rng(0)
    table, labels = random.normal(size=(30, 50)), np.arange(30) % 2
    narrow = floors.fit_and_score(table[:20], labels[:20], table[20:], 0.1)
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(table[:20])
    whole = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-8, max_iter=5000)
    whole.fit(scaler.transform(table[:20]), labels[:20])
    expected = whole.predict_proba(scaler.transform(table[20:]))[:, 1]
    assert narrow == pytest.approx(expected, abs=1e-3)


def test_a_floor_finds_what_is_there_and_no_more() -> None:
    videos, features = material()
    found, _ = report.floor_scores("logistic regression", videos, features)
    blind, _ = report.floor_scores("metadata", videos, features)
    assert report.row(videos, found[None])["mean"] > 0.8
    assert set(blind.round(6)) == {0.5}
