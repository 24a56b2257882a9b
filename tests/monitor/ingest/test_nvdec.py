"""NVIDIA's decoder: without one every camera is watched all the same; with one the pictures are the CPU's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from monitor.config import Camera, StreamUrl
from monitor.config.plant import Decode
from monitor.ingest import nvdec
from monitor.ingest.camera import ReaderSettings, Stream, open_stream
from monitor.ingest.cutter import Slot
from monitor.ingest.fault import StreamFault
from monitor.ingest.picture import Scaler
from monitor.ingest.reader import Reader
from monitor.ingest.wire import decoded_by
from tests.monitor.ingest.conftest import SMALL, camera, write_clip

on_a_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
without_one = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")


def settings(clip: Path, gpu: int | None = 0) -> ReaderSettings:
    return ReaderSettings(name="gate", url=str(clip), fps=15, gpu=gpu)


@pytest.mark.parametrize(
    ("by", "scores_on", "gpu"),
    [("cpu", 1, None), ("auto", None, None), ("auto", 1, 1), ("nvdec", None, 0), ("nvdec", 1, 1)],
)
def test_the_gpu_that_scores_decodes(by: Any, scores_on: int | None, gpu: int | None) -> None:
    one = Camera(name="gate", url=StreamUrl(0), decode=Decode(by=by))
    assert ReaderSettings.of(one, 15, scores_on=scores_on).gpu == gpu


@without_one
def test_without_a_gpu_the_cpu_decodes_and_the_reason_is_said(watch: Callable[..., Any], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=160, fps=25)
    cameras = [camera("cpu", str(clip)), camera("gpu", str(clip), gpu=3)]
    with watch(cameras, live=False) as w:
        w.until(lambda: sum(s.last for s in w.segments) == 2)
        health = w.pool.health()
        assert [s.number for s in w.valid("gpu")] == [s.number for s in w.valid("cpu")]
    assert (health["cpu"].on_gpu, decoded_by(health["cpu"])) == (None, "CPU")
    assert health["gpu"].on_gpu is False
    assert decoded_by(health["gpu"]) == "CPU: libav finds no NVIDIA driver, or no GPU 3"


class FailingContext:
    """A decoder whose GPU is gone, as libav tells of it; its stream is a real one."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.is_hwaccel = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def decode(self, _packet: object) -> list[Any]:
        raise av.error.ExternalError(542398533, "Generic error in an external library")


def test_a_gpu_that_fails_is_given_up_after_a_few_packets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=30, fps=25)
    with open_stream(settings(clip, gpu=None)) as stream:
        failing = FailingContext(stream.video.codec_context)
        monkeypatch.setattr(stream, "video", type("Video", (), {"codec_context": failing, "index": 0})())
        packets = stream.packets()
        for _ in range(nvdec.PATIENCE - 1):
            assert stream.decode(next(packets)) == []
        with pytest.raises(StreamFault, match="the GPU does not decode any more; the CPU goes on") as caught:
            stream.decode(next(packets))
        assert caught.value.reason == "nvdec"


def test_after_that_the_same_reader_goes_on_with_the_cpu(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=48)
    asked, cuts = [], []

    def opener(wanted: ReaderSettings) -> Stream:
        asked.append(wanted.gpu)
        if wanted.gpu is not None:
            raise StreamFault("nvdec", "the GPU's decoder could not be opened; the CPU goes on")
        return open_stream(wanted)

    pictures = np.empty(SMALL.shape, np.uint8)
    reader = Reader(
        settings(clip), SMALL, live=False, take_slot=lambda: Slot(pictures=pictures), deliver=cuts.append,
        changed=lambda: None, mark=lambda _doing: None, recorder=None, opener=opener,
    )  # fmt: skip
    reader.run()
    assert asked == [0, None]
    assert len(cuts) == 3
    assert decoded_by(reader.health()) == "CPU: the GPU's decoder could not be opened; the CPU goes on"
    assert reader.health().link == "ended"


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("size_px", [(640, 360), (320, 180)])
class TestOnAGpu:
    pytestmark = on_a_gpu

    def test_pictures_and_times_are_the_cpus(self, tmp_path: Path, b_frames: int, size_px: tuple[int, int]) -> None:
        clip = write_clip(tmp_path / "a.mp4", frames=60, fps=25, size_px=size_px, b_frames=b_frames)
        seen = {}
        for gpu in (None, 0):
            with open_stream(settings(clip, gpu)) as stream:
                seen[gpu] = [frame for packet in stream.packets() for frame in stream.decode(packet)]
                assert stream.on_gpu is (gpu is not None)
        assert len(seen[0]) == len(seen[None]) == 60
        assert [one.stamp_s for one in seen[0]] == [one.stamp_s for one in seen[None]]
        assert [one.frame.key_frame for one in seen[0]] == [one.frame.key_frame for one in seen[None]]
        drawn = {}
        for gpu, frames in seen.items():
            scaler, drawn[gpu] = Scaler(SMALL), np.zeros((len(frames), *SMALL.shape[1:]), np.uint8)
            for one, picture in zip(frames, drawn[gpu], strict=True):
                scaler.draw(one.frame, picture)
        # As the monitor scales them: without scaling libav turns the two formats to RGB by different code.
        assert np.array_equal(drawn[0], drawn[None])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_codec_that_the_gpu_does_not_know_is_decoded_by_the_cpu(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mkv", codec="ffv1", frames=20)
    with open_stream(settings(clip)) as stream:
        assert sum(len(stream.decode(packet)) for packet in stream.packets()) == 20
        assert not stream.on_gpu
        assert stream.without_gpu == "NVDEC does not know ffv1"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_reader_process_decodes_many_cameras_on_the_gpu(watch: Callable[..., Any], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=160, fps=25, size_px=(320, 180))
    cameras = [camera("cpu", str(clip)), *(camera(f"gpu-{n}", str(clip), gpu=0) for n in range(6))]
    with watch(cameras, live=False) as w:
        w.until(lambda: sum(s.last for s in w.segments) == len(cameras), 60)
        health = w.pool.health()
        for name in health:
            assert [s.number for s in w.valid(name)] == [s.number for s in w.valid("cpu")]
    assert {name: one.on_gpu for name, one in health.items()} == {
        "cpu": None,
        **dict.fromkeys((f"gpu-{n}" for n in range(6)), True),
    }
