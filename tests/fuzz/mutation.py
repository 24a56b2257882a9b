"""Good recordings of several containers and codecs, and ways to damage their bytes; all from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FRAMES, FPS, SIZE_PX = 20, 15, (96, 64)
"""One segment and a little: files are small, so that damage often hits what matters."""
KINDS: dict[str, tuple[str, str | None]] = {
    "h264.mp4": ("libx264", None),
    "h264-aac.mp4": ("libx264", "aac"),
    "h265.mp4": ("libx265", None),
    "h264.mkv": ("libx264", None),
    "h265-flac.mkv": ("libx265", "flac"),
    "mjpeg.mkv": ("mjpeg", None),
    "h264.ts": ("libx264", None),
    "h264-mp2.ts": ("libx264", "mp2"),
    "h265.ts": ("libx265", None),
    "mjpeg.avi": ("mjpeg", None),
    "mjpeg-pcm.avi": ("mjpeg", "pcm_s16le"),
    "h264.avi": ("libx264", None),
    "h264.flv": ("libx264", None),
    "raw.mjpeg": ("mjpeg", None),
    "raw.h264": ("libx264", None),
    "raw.hevc": ("libx265", None),
}
"""Name: video codec, audio codec."""


def recordings(folder: Path) -> list[Path]:
    return [_record(folder / name, *codecs) for name, codecs in KINDS.items()]


def _record(path: Path, video: str, audio: str | None) -> Path:
    chance = np.random.default_rng(1)
    with av.open(str(path), "w") as out:
        pictures = out.add_stream(video, rate=FPS)
        pictures.width, pictures.height = SIZE_PX
        pictures.pix_fmt = "yuvj420p" if video == "mjpeg" else "yuv420p"
        pictures.codec_context.gop_size = 8
        pictures.codec_context.thread_count = 1
        if video == "libx265":
            pictures.codec_context.options = {"preset": "ultrafast", "x265-params": "log-level=none:pools=1"}
        if video == "libx264":
            pictures.codec_context.options = {"preset": "veryfast"}
        sound = None if audio is None else out.add_stream(audio, rate=44_100, layout="mono")
        for number in range(FRAMES):
            picture = chance.integers(60, 120, (SIZE_PX[1], SIZE_PX[0], 3), dtype=np.uint8)
            picture[20:40, 3 * number : 3 * number + 20] = (230, 200, 40)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            out.mux(pictures.encode(frame))
        if sound is not None:
            tone = (3000 * np.sin(np.arange(44_100) / 20)).astype(np.int16)[None]
            resampled = av.AudioResampler(
                sound.codec_context.format, "mono", 44_100, sound.codec_context.frame_size or 1024
            )
            heard = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            heard.sample_rate, heard.pts = 44_100, 0
            for piece in (*resampled.resample(heard), *resampled.resample(None)):
                out.mux(sound.encode(piece))
            out.mux(sound.encode(None))
        out.mux(pictures.encode(None))
    return path


def flip(data: bytearray, chance: random.Random) -> None:
    """Bits: a few, or up to one in a hundred bytes."""
    for _ in range(chance.choice((1, 3, 10, 100, max(1, len(data) // 100)))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(1, len(data)) :]


def shuffle(data: bytearray, chance: random.Random) -> None:
    """Blocks change places, are doubled or left out."""
    size = chance.choice((16, 188, 512, 4096))
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    for _ in range(chance.randrange(1, 8)):
        one, other = chance.randrange(len(blocks)), chance.randrange(len(blocks))
        what = chance.randrange(3)
        if what == 0:
            blocks[one], blocks[other] = blocks[other], blocks[one]
        elif what == 1:
            blocks.insert(one, blocks[other])
        elif len(blocks) > 1:
            del blocks[one]
    data[:] = b"".join(blocks)


LENGTHS = (0, 1, 7, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def stretch(data: bytearray, chance: random.Random) -> None:
    """Fields that tell lengths, counts and sizes: of MP4's boxes by their names, of others by luck."""
    names = [at for at in _names(data) if at >= 4]
    for _ in range(chance.randrange(1, 5)):
        width = chance.choice((1, 2, 4, 8))
        near = bool(names) and chance.random() < 0.7
        # A box: its length before its name, its counts and sizes behind.
        at = chance.choice(names) + chance.choice((-4, 4, 8, 12, 16)) if near else chance.randrange(len(data))
        value = chance.choice(LENGTHS) & ((1 << 8 * width) - 1)
        data[at : at + width] = value.to_bytes(width, chance.choice(("big", "little")))[: max(0, len(data) - at)]


def _names(data: bytearray) -> list[int]:
    """Where four letters name a box (MP4) or a chunk (AVI), in the first two kilobytes and the last two."""
    return [
        at
        for part in (range(4, min(2048, len(data) - 4)), range(max(4, len(data) - 2048), len(data) - 4))
        for at in part
        if data[at : at + 4].isalpha()
    ]


def blank(data: bytearray, chance: random.Random) -> None:
    """A stretch of zeros, as of a disk that lost power; or of noise."""
    at = chance.randrange(len(data))
    length = min(chance.choice((4, 64, 1024, 8192)), len(data) - at)
    data[at : at + length] = bytes(length) if chance.random() < 0.5 else chance.randbytes(length)


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (flip, truncate, shuffle, stretch, blank)


def mutated(good: bytes, other: bytes, chance: random.Random) -> bytes:
    """One to three kinds of damage; now and then the head of one recording on the tail of another."""
    data = bytearray(good)
    if chance.random() < 0.05:
        at = chance.randrange(len(data))
        data[at:] = other[chance.randrange(len(other)) :]
    for _ in range(chance.choice((1, 1, 2, 3))):
        if not data:
            break
        chance.choice(MUTATIONS)(data, chance)
    return bytes(data)
