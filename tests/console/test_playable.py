"""Copies of clips that every browser plays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest


def clip(path: Path, sound: str | None) -> Path:
    """Three seconds of MJPEG, with a tone."""
    rate = 8_000
    tone = (8_000 * np.sin(2 * np.pi * 440 * np.arange(3 * rate) / rate)).astype(np.int16)
    with av.open(str(path), "w") as out:
        shown = out.add_stream("mjpeg", rate=10)
        shown.width, shown.height, shown.pix_fmt = 160, 90, "yuvj420p"
        heard = None if sound is None else out.add_stream(sound, rate=rate, layout="mono")
        for number in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((90, 160, 3), 8 * number, np.uint8), format="rgb24")
            out.mux(shown.encode(frame))
            if heard is not None:
                part = av.AudioFrame.from_ndarray(tone[None, number * 800 : (number + 1) * 800], "s16", "mono")
                part.sample_rate, part.pts = rate, number * 800
                out.mux(heard.encode(part))
        out.mux(shown.encode())
        if heard is not None:
            out.mux(heard.encode())
    return path


def played(source: Path, target: Path) -> list[tuple[str, str]]:
    """The streams of the copy, made as the console makes it."""
    done = subprocess.run([sys.executable, "-m", "monitor.console.playable", source, target], check=False)
    assert done.returncode == 0
    with av.open(str(target)) as made:
        return [(stream.type, stream.codec_context.name) for stream in made.streams]


@pytest.mark.parametrize("codec", ["pcm_s16le", "flac"])
def test_the_sound_of_a_clip_that_has_any_is_kept(tmp_path: Path, codec: str) -> None:
    made = tmp_path / "made.mp4"
    assert played(clip(tmp_path / "clip.mkv", codec), made) == [("video", "h264"), ("audio", "aac")]
    with av.open(str(made)) as copy:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in copy.decode(audio=0)])
        assert copy.streams.audio[0].sample_rate == 48_000
    assert 2.9 < len(heard) / 48_000 < 3.2
    loudest = np.argmax(np.abs(np.fft.rfft(heard[:48_000])))
    assert abs(loudest - 440) < 5, "the same tone, neither slower nor faster"
    with av.open(str(made)) as copy:
        assert sum(1 for _ in copy.decode(video=0)) == 30


def test_a_clip_without_sound_gets_none(tmp_path: Path) -> None:
    assert played(clip(tmp_path / "clip.mkv", None), tmp_path / "made.mp4") == [("video", "h264")]


def test_sound_that_cannot_be_decoded_does_not_take_the_pictures_with_it(tmp_path: Path) -> None:
    source = clip(tmp_path / "clip.mkv", "pcm_s16le")
    unknown = source.read_bytes().replace(b"A_PCM/INT", b"A_XXX/INT")
    assert unknown != source.read_bytes()
    source.write_bytes(unknown)
    assert played(source, tmp_path / "made.mp4")[0] == ("video", "h264")
