"""Decoded frame → analysed picture: sws AREA scaling, centre crop, ignored areas black. Part of the model:
training too."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from monitor.flow import Pictures, Preprocessing

Polygons = Sequence[Sequence[tuple[float, float]]]


class Scaler:
    """Turns the frames of one stream into pictures; one reformatter a stream, one thread.

    ``ignore``: polygons in fractions of the whole picture's width and height; what lies within is black.
    """

    def __init__(self, preprocessing: Preprocessing, ignore: Polygons = ()) -> None:
        self._preprocessing = preprocessing
        self._ignore = ignore
        self._reformatter = VideoReformatter()
        self._ignored: tuple[tuple[int, ...], npt.NDArray[np.bool_]] | None = None

    def ignored(self, frame: VideoFrame, height_px: int, width_px: int) -> npt.NDArray[np.bool_] | None:
        """(H, W): which pixels of an analysed picture of ``frame`` are painted black; None: none are."""
        if not self._ignore:
            return None
        sizes = (frame.width, frame.height, width_px, height_px)
        if self._ignored is None or self._ignored[0] != sizes:
            scaled_px = size_before_crop(self._preprocessing, frame.width, frame.height)
            offset_px = (round((scaled_px[0] - width_px) / 2), round((scaled_px[1] - height_px) / 2))
            white: Pictures = np.full((height_px, width_px, 3), 255, np.uint8)
            paint(white, self._ignore, whole_px=scaled_px, offset_px=offset_px)
            self._ignored = sizes, white[:, :, 0] == 0
        return self._ignored[1]

    def draw(self, frame: VideoFrame, picture: Pictures) -> None:
        """Writes the analysed picture of ``frame`` into ``picture``, (H, W, 3) uint8 RGB, contiguous."""
        height_px, width_px, _ = picture.shape
        scaled_px = size_before_crop(self._preprocessing, frame.width, frame.height)
        scaled = self._reformatter.reformat(
            frame,
            width=scaled_px[0],
            height=scaled_px[1],
            format="rgb24",
            interpolation=Interpolation.AREA,
            threads=1,
        )
        top = round((scaled_px[1] - height_px) / 2)
        left = round((scaled_px[0] - width_px) / 2)
        np.copyto(picture, rgb_view(scaled)[top : top + height_px, left : left + width_px])
        if self._ignore:
            paint(picture, self._ignore, whole_px=scaled_px, offset_px=(left, top))


def size_before_crop(preprocessing: Preprocessing, width_px: int, height_px: int) -> tuple[int, int]:
    """(width, height) to which the whole picture is scaled before its centre is cut out."""
    if preprocessing.fit == "stretch":
        return preprocessing.width_px, preprocessing.height_px
    short_px = preprocessing.short_side_px or min(preprocessing.width_px, preprocessing.height_px)
    if width_px < height_px:
        return short_px, max(math.floor(height_px / width_px * short_px), preprocessing.height_px)
    return max(math.floor(width_px / height_px * short_px), preprocessing.width_px), short_px


def rgb_view(frame: VideoFrame) -> Pictures:
    """The picture of an rgb24 frame without a copy; valid as long as the frame lives."""
    plane = frame.planes[0]
    rows: Pictures = np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, plane.line_size)
    return rows[:, : frame.width * 3].reshape(frame.height, frame.width, 3)


def paint(
    picture: Pictures,
    polygons: Polygons,
    *,
    whole_px: tuple[int, int] | None = None,
    offset_px: tuple[int, int] = (0, 0),
) -> None:
    """Blackens polygons (fractions of ``whole_px``, default the picture's size) in place."""
    # Only where polygons are configured: OpenCV costs a reader process 25 MB and 0.1 s.
    import cv2

    width_px, height_px = whole_px or (picture.shape[1], picture.shape[0])
    for polygon in polygons:
        corners = np.array(polygon, np.float64) * (width_px, height_px) - offset_px
        cv2.fillPoly(picture, [np.rint(corners).astype(np.int32)], (0, 0, 0))
