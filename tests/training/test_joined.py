"""Joined streams: boundaries are known, latency counts the delay, and no model judges a scene it saw."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training import joined
from training.catalogue import Video
from training.features import Features


def clips() -> tuple[tuple[Video, ...], dict[str, Features]]:
    """Two calm and one abnormal clip of each scene, of two segments, whose first feature is the label."""
    videos = tuple(
        Video(id=f"a/{scene}-{k}", path=f"{k}.mp4", label=label, scene=scene, fold=number)
        for number, scene in enumerate(joined.SCENES)
        for k, label in enumerate((0, 1, 0))
    )
    features = {
        video.id: Features(
            features_NCD=np.full((2, 1, 3), float(video.label), np.float32),
            motion_NM=np.zeros((2, 6), np.float32),
            times_N2=np.zeros((2, 2), np.float32),
        )
        for video in videos
    }
    return videos, features


def test_a_stream_alternates_calm_and_abnormal_clips_of_one_scene_and_keeps_their_labels() -> None:
    made = joined.streams(*clips())
    assert [stream.scene for stream in made] == list(joined.SCENES)
    assert [stream.fold for stream in made] == [0, 1, 2, 3, 4, 5]
    assert made[0].labels_N.tolist() == [0, 0, 1, 1, 0, 0]
    assert made[0].features_ND[:, 0].tolist() == [0, 0, 1, 1, 0, 0]
    assert made[0].onsets == [(2, 4)]


def test_latency_runs_from_the_begin_of_a_run_to_the_publication_of_its_first_crossing() -> None:
    def second_segment(stream: joined.Stream, bag: int, delay: int) -> npt.NDArray[np.floating]:
        return np.array([0.1, 0.1, 0.1, 0.9, 0.1, 0.1])

    point = joined.point(joined.streams(*clips()), second_segment, bag=4, delay=3, segment_s=0.5)
    assert (point.found, point.latency_s) == (1.0, 2.5)  # two segments and three of delay


def test_a_perfect_score_has_an_auc_of_one_pooled_and_within() -> None:
    def truth(stream: joined.Stream, bag: int, delay: int) -> npt.NDArray[np.floating]:
        return stream.labels_N.astype(np.float64)

    point = joined.point(joined.streams(*clips()), truth, bag=2, delay=0, segment_s=1.0)
    assert (point.pooled_auc, point.within_auc, point.found, point.latency_s) == (1.0, 1.0, 1.0, 1.0)
