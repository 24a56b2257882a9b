"""NVIDIA's decoder (NVDEC): whether it is there, and a turn for each camera that begins with it.

Its pictures are those of the CPU's decoders, bit by bit, in the same order; they come back to the host's memory and go
the same way on. All cameras of a reader process share one context on the GPU (about 0.5 GB of its memory, and 15 to 20
MB for each camera): a context for each camera made 800 frames/s of them all on an H100, this more than 8,000.
"""

from __future__ import annotations

import threading
from functools import cache

import av.error
from av.codec import Codec
from av.codec.hwaccel import HWAccel
from av.video.frame import VideoFrame

FORMATS = frozenset({"nv12", "p010le", "p016le"})
"""What it gives. The CPU's decoders of the same codecs give planes: so it shows that libav fell back to them."""

TURN = threading.Lock()
"""Held while a camera's first picture is decoded: the driver makes one decoder after the other (50 ms each), and who
waits for it in here is waiting, not stuck."""

FAILURES = (av.error.ExternalError, av.error.PermissionError, av.error.MemoryError)
"""What libav raises for a driver that does not do what it was asked to."""
PATIENCE = 3
"""So many of them in a row, without a picture between, and the GPU is given up."""


class NvdecError(RuntimeError):
    """Why the GPU does not decode; a part of a sentence."""


@cache
def _context(gpu: int) -> object:
    """Whether there is such a GPU; kept, for it is this process's context on it."""
    try:
        return accelerator(gpu).create(Codec("h264", "r"))
    except (av.error.FFmpegError, OSError, RuntimeError, ValueError, NotImplementedError) as error:
        return error


def accelerator(gpu: int) -> HWAccel:
    """For ``av.open``: codecs that the GPU does not know, and pictures that it has no room for, go to the CPU."""
    return HWAccel("cuda", device=str(gpu), allow_software_fallback=True, options={"primary_ctx": "1"})


def offered(gpu: int) -> HWAccel:
    """Raises NvdecError where there is none."""
    if isinstance(_context(gpu), BaseException):
        raise NvdecError(f"libav finds no NVIDIA driver, or no GPU {gpu}")
    return accelerator(gpu)


def decoded(frame: VideoFrame) -> bool:
    """Whether it was the GPU's."""
    return frame.format.name in FORMATS
