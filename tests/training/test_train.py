"""Training on tiny generated features: it learns, repeats itself, and what it exports scores alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monitor.config import Thresholds
from monitor.detectors import artefact
from monitor.detectors.card import Card, DataCard
from training import bags, evaluate, export, standardise, train
from training.catalogue import Video
from training.features import Features
from training.train import Recipe, paper_pair

D = 24


def material(videos: int = 60, seed: int = 0) -> tuple[tuple[Video, ...], dict[str, Features]]:
    """Videos of 2 to 6 segments; an abnormal one has one segment that differs in three dimensions."""
    random = np.random.default_rng(seed)
    listed = tuple(
        Video(id=f"a/{k}", path=f"a/{k}.mp4", label=k % 2, scene=f"s{k // 4}", fold=k // 4 % 5) for k in range(videos)
    )
    features: dict[str, Features] = {}
    for video in listed:
        segments = int(random.integers(2, 7))
        values = random.normal(size=(segments, 1, D)).astype(np.float32)
        values[int(random.integers(segments)), 0, :3] += 6.0 * video.label
        times = np.stack([np.arange(segments), np.arange(segments) + 1], axis=1).astype(np.float32)
        features[video.id] = Features(
            features_NCD=values, motion_NM=np.zeros((segments, 6), np.float32), times_N2=times
        )
    return listed, features


SMALL = Recipe(
    projected=8,
    detectors=paper_pair(
        long_term={"steps": 120, "segments": 4, "half_batch": 8, "evaluate_every": 50},
        short_term={"steps": 30, "segments": 4, "half_batch": 8},
    ),
    bag=4,
)


def test_a_trained_ensemble_tells_abnormal_from_normal_videos_it_never_saw() -> None:
    videos, features = material()
    trained = train.train(videos[:40], features, replace(SMALL, projected=None), seed=0)
    scores = np.array(
        [train.score(trained, features[video.id].features_NCD[:, 0]).scores_N.max() for video in videos[40:]]
    )
    assert evaluate.roc_auc(np.array([video.label for video in videos[40:]]), scores) > 0.9


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    videos, features = material(20)
    first, again, other = (
        train.score(train.train(videos, features, SMALL, seed), features["a/1"].features_NCD[:, 0])
        for seed in (1, 1, 2)
    )
    assert first.scores_N.tolist() == again.scores_N.tolist()
    assert first.scores_N.tolist() != other.scores_N.tolist()


def test_scores_are_the_mean_of_both_parts_read_as_the_monitor_reads() -> None:
    videos, features = material(20)
    trained = train.train(videos, features, replace(SMALL, delay=2), seed=0)
    features_NCD = np.concatenate([features[f"a/{k}"].features_NCD for k in range(3)])
    given = train.score(trained, features_NCD[:, 0])
    assert given.scores_N == pytest.approx((given.long_term_N + given.short_term_N) / 2, abs=1e-6)
    for reading in bags.readings(len(features_NCD), 4, 1, 2):
        (alone,) = train.publish(trained, [features_NCD[reading.bag]], length=4, stride=4, delay=0)["ensemble"]
        at = slice(reading.published.start - reading.bag.start, reading.published.stop - reading.bag.start)
        assert given.scores_N[reading.published] == pytest.approx(alone[at], abs=1e-6)


@pytest.mark.parametrize(("length", "stride", "delay"), [(4, 1, 0), (4, 1, 2), (4, 4, 0), (3, 2, 1)])
def test_many_videos_at_once_are_scored_as_one_by_one(length: int, stride: int, delay: int) -> None:
    videos, features = material(20)
    trained = train.train(videos, features, replace(SMALL, bag=length, stride=stride, delay=delay), seed=0)
    together = train.publish(trained, [features[video.id].features_NCD for video in videos])
    for place, video in enumerate(videos):
        alone = train.score(trained, features[video.id].features_NCD[:, 0])
        assert together["ensemble"][place] == pytest.approx(alone.scores_N, abs=1e-6)
        assert together["bilstm_mil"][place] == pytest.approx(alone.short_term_N, abs=1e-6)


def test_the_crops_of_a_video_are_averaged() -> None:
    videos, features = material(20)
    trained = train.train(videos, features, SMALL, seed=0)
    one, two = (features[name].features_NCD[:2] for name in ("a/0", "a/1"))
    (both,) = train.publish(trained, [np.concatenate([one, two], axis=1)])["ensemble"]
    alone = train.publish(trained, [one, two])["ensemble"]
    assert both == pytest.approx((alone[0] + alone[1]) / 2, abs=1e-6)


def test_training_on_one_class_is_refused() -> None:
    videos, features = material(8)
    with pytest.raises(ValueError, match="normal and abnormal"):
        train.train([video for video in videos if video.label == 0], features, SMALL, seed=0)


def test_standardised_features_have_mean_0_and_variance_1_on_average() -> None:
    features_ND = np.random.default_rng(0).normal(3.0, [1.0, 5.0, 0.1, 2.0], size=(500, 4)).astype(np.float32)
    plain = standardise.fit(features_ND, None)
    import torch

    given = plain(torch.from_numpy(features_ND)).numpy()
    assert given.mean(axis=0) == pytest.approx(np.zeros(4), abs=1e-4)
    assert given.std(axis=0) == pytest.approx(np.ones(4), abs=1e-3)
    projected = standardise.fit(features_ND, 2, whiten=1.0)
    given = projected(torch.from_numpy(features_ND)).numpy()
    assert given.shape == (500, 2)
    assert given.std(axis=0) == pytest.approx(np.ones(2), abs=1e-3)


def card() -> Card:
    return Card(
        name="tiny",
        backbone="effnet_lite0",
        backbone_fingerprint="0" * 64,
        backbone_dimensions=D,
        dimensions=8,
        length=4,
        stride=1,
        delay=0,
        fps=15.0,
        thresholds=Thresholds(raise_at=0.5, clear_at=0.4),
        data=(DataCard(name="generated", licence="none"),),
        terms_of_use="a test",
        command="none",
        commit="none",
        created="2026-01-01T00:00:00Z",
    )


def test_an_exported_artefact_scores_a_sample_as_the_trained_ensemble_does(tmp_path: Path) -> None:
    videos, features = material(20)
    trained = train.train(videos, features, SMALL, seed=0)
    samples = [features[video.id].features_NCD[:, 0] for video in videos]
    written = export.export(tmp_path, trained, card(), samples)
    assert written.dimensions == 8
    assert artefact.load(tmp_path).card == written
    assert export.check(tmp_path, trained, samples) < 5e-3


def test_an_artefact_that_scores_otherwise_is_refused(tmp_path: Path) -> None:
    videos, features = material(20)
    samples = [features[video.id].features_NCD[:, 0] for video in videos]
    export.export(tmp_path, train.train(videos, features, SMALL, seed=0), card(), samples)
    with pytest.raises(export.ExportError, match="not to be used"):
        export.check(tmp_path, train.train(videos, features, SMALL, seed=1), samples)
