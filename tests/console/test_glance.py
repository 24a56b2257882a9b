"""Pictures for the wall: small, of the right shape, and black where nobody may look."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from monitor.ingest.glance import WIDTH_PX, Glance


def frame(width_px: int, height_px: int) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.full((height_px, width_px, 3), 200, np.uint8), format="rgb24")


def shown(jpeg: bytes) -> np.ndarray:
    with av.open(io.BytesIO(jpeg), format="mjpeg") as made:
        return next(made.decode(video=0)).to_ndarray(format="rgb24")


@pytest.mark.parametrize(
    ("size", "expected"), [((1920, 1080), (270, 480)), ((320, 180), (180, 320)), ((1080, 1920), (852, 480))]
)
def test_a_picture_is_small_and_keeps_its_shape(size: tuple[int, int], expected: tuple[int, int]) -> None:
    picture = shown(Glance().jpeg(frame(*size).reformat(format="yuv420p")))
    assert picture.shape == (*expected, 3)
    assert picture.shape[1] <= WIDTH_PX
    assert abs(int(picture.mean()) - 200) < 6, "full range, neither washed out nor dark"


def test_private_areas_are_black_in_it() -> None:
    left = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    picture = shown(Glance((left,)).jpeg(frame(1280, 720)))
    assert picture[:, :236].max() < 20
    assert picture[:, 248:].min() > 170


def test_one_glance_serves_frames_of_changing_size() -> None:
    glance = Glance()
    assert [shown(glance.jpeg(frame(*size))).shape[:2] for size in ((640, 360), (1280, 720), (160, 90))] == [
        (270, 480),
        (270, 480),
        (90, 160),
    ]
