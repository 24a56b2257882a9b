"""A small JPEG of a decoded frame, for somebody who looks at the wall; private areas are black."""

from __future__ import annotations

from fractions import Fraction

import av
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from monitor.flow import Pictures
from monitor.ingest.picture import Polygons, paint

WIDTH_PX = 480
QUALITY = "6"
"""libav's scale, 2 (best) to 31: some 15 KB a picture."""


class Glance:
    """Of one stream; one thread. Scales before anything else: 2 ms a picture of 1080p, JPEG included."""

    def __init__(self, private: Polygons = ()) -> None:
        self._private = private
        self._reformatter = VideoReformatter()

    def jpeg(self, frame: VideoFrame) -> bytes:
        """Raises FFmpegError or ValueError for a frame that cannot be shown."""
        width_px = min(WIDTH_PX, frame.width) // 2 * 2
        height_px = max(round(frame.height * width_px / frame.width) // 2 * 2, 2)
        shown = self._scaled(frame, width_px, height_px, "rgb24" if self._private else "yuvj420p")
        if self._private:
            picture: Pictures = shown.to_ndarray(format="rgb24")  # type: ignore[assignment]
            paint(picture, self._private)
            shown = self._scaled(VideoFrame.from_ndarray(picture, format="rgb24"), width_px, height_px, "yuvj420p")
        # Not OpenCV's: it would cost every reader process 25 MB.
        encoder = av.CodecContext.create("mjpeg", "w")
        encoder.width, encoder.height, encoder.pix_fmt = width_px, height_px, "yuvj420p"
        encoder.time_base = Fraction(1, 25)
        encoder.thread_count = 1
        encoder.options = {"qmin": QUALITY, "qmax": QUALITY, "color_range": "pc"}
        shown.pts, shown.time_base = 0, Fraction(1, 25)
        return b"".join(bytes(packet) for packet in (*encoder.encode(shown), *encoder.encode(None)))

    def _scaled(self, frame: VideoFrame, width_px: int, height_px: int, form: str) -> VideoFrame:
        return self._reformatter.reformat(
            frame, width=width_px, height=height_px, format=form, interpolation=Interpolation.AREA, threads=1
        )
