"""The painted clock."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.flow import Pictures
from monitor.stage import clock
from monitor.stage.plant import encoder
from monitor.stage.scenes import Scene

TIMES = st.integers(0, 2**48 - 1)


def noise(seed: int = 0) -> Pictures:
    return np.random.default_rng(seed).integers(0, 256, (360, 640, 3), dtype=np.uint8)


@given(TIMES)
def test_what_is_painted_is_read_at_full_and_at_half_size(wall_ms: int) -> None:
    picture = noise()
    clock.paint(picture, wall_ms)
    assert clock.read(picture) == wall_ms
    assert clock.read(np.asarray(cv2.resize(picture, (320, 180), interpolation=cv2.INTER_AREA))) == wall_ms


def test_a_picture_without_a_clock_has_no_time() -> None:
    assert [clock.read(noise(seed)) for seed in range(50)] == [None] * 50


def test_one_wrong_cell_is_found_out() -> None:
    picture = noise()
    clock.paint(picture, 1_795_000_000_000)
    for cell in range(clock.CELLS):
        spoilt = picture.copy()
        columns = slice(cell * 10, cell * 10 + 10)
        spoilt[:8, columns] = 255 - spoilt[:8, columns]
        assert clock.read(spoilt) is None, f"cell {cell}"


def test_a_time_beyond_48_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="no time in milliseconds"):
        clock.paint(noise(), 2**48)


def test_it_outlives_h264_at_a_low_bit_rate() -> None:
    import av

    scene, encode = Scene(3_000_001), encoder(640, 360, 15)
    encode.bit_rate = 200_000
    decode = av.CodecContext.create("h264", "r")
    read: list[int | None] = []
    for number in range(45):
        picture = scene.frame(number)
        clock.paint(picture, 1_795_000_000_000 + number * 67)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = number * 6000
        for packet in encode.encode(frame):
            read += [clock.read(seen.to_ndarray(format="rgb24")) for seen in decode.decode(packet)]
    assert read == [1_795_000_000_000 + number * 67 for number in range(len(read))]
    assert len(read) >= 40
