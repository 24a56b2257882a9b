"""Bags: every segment once, and the fixed length as the paper's code makes it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training import bags


def test_a_video_is_cut_into_bags_of_l_and_its_last_bag_is_short() -> None:
    assert bags.cut(10, 4) == (slice(0, 4), slice(4, 8), slice(8, 10))


def test_a_video_shorter_than_l_is_one_bag_and_an_empty_one_none() -> None:
    assert bags.cut(3, 32) == (slice(0, 3),)
    assert bags.cut(0, 32) == ()


@given(st.integers(0, 100), st.integers(1, 40))
def test_bags_cover_each_segment_once(segments: int, length: int) -> None:
    covered = [k for bag in bags.cut(segments, length) for k in range(bag.start, bag.stop)]
    assert covered == list(range(segments))


def test_resampling_takes_the_mean_of_bins() -> None:
    features_ND = torch.arange(6.0)[:, None]
    assert bags.resample(features_ND, 3).tolist() == [[0.5], [2.5], [4.5]]
    assert bags.resample(features_ND, 4).tolist() == [[0.0], [1.5], [3.0], [4.5]]


def test_resampling_repeats_segments_where_there_are_fewer_than_t() -> None:
    features_ND = torch.tensor([[1.0], [2.0]])
    assert bags.resample(features_ND, 5).tolist() == [[1.0], [1.0], [1.0], [2.0], [2.0]]


@given(st.integers(1, 40), st.integers(1, 40))
def test_resampling_is_the_published_loop(segments: int, length: int) -> None:
    features_NCD = torch.randn(segments, 2, 3, generator=torch.Generator().manual_seed(segments * 41 + length))
    edges = np.linspace(0, segments, length + 1, dtype=int)
    expected = [
        features_NCD[a:b].mean(0) if b > a else features_NCD[min(a, segments - 1)] for a, b in pairwise(edges.tolist())
    ]
    torch.testing.assert_close(bags.resample(features_NCD, length), torch.stack(expected))


def test_a_video_without_segments_cannot_be_resampled() -> None:
    with pytest.raises(ValueError, match="without segments"):
        bags.resample(torch.zeros(0, 3), 4)


def test_at_stride_l_and_no_delay_the_readings_are_eq_1() -> None:
    for segments in range(1, 20):
        read = bags.readings(segments, 4, 4, 0)
        assert tuple(r.bag for r in read) == bags.cut(segments, 4)
        assert tuple(r.published for r in read) == bags.cut(segments, 4)


@given(st.integers(1, 30), st.integers(1, 6), st.data())
def test_readings_publish_each_segment_once_from_a_bag_that_holds_it(
    segments: int, length: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, length))
    delay = data.draw(st.integers(0, length - stride))
    read = bags.readings(segments, length, stride, delay)
    published = [k for r in read for k in range(r.published.start, r.published.stop)]
    assert published == list(range(segments))
    assert all(r.bag.start <= r.published.start and r.published.stop <= r.bag.stop for r in read)
