"""Extraction: crops, what is skipped and what is made again, several processes, torchrun, and videos that fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torchvision.transforms.functional import ten_crop  # type: ignore[import-untyped]

from monitor.features.backbone import BackboneError
from monitor.flow import Preprocessing
from monitor.ingest.file import segments_of_file
from tests.conftest import ROOT
from training import extract, features
from training.catalogue import Video
from training.extract import CROPS, ExtractionError
from training.features import FeatureError

Pictures = npt.NDArray[np.uint8]


@dataclass
class Pixels:
    """A backbone that answers with the pixels it was given, so that a test sees what each crop was."""

    preprocessing: Preprocessing
    name: str = "pixels"
    fingerprint: str = "f" * 64
    engine: str = "none"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    calls: int = 0

    @property
    def dimensions(self) -> int:
        return int(np.prod(self.preprocessing.shape))

    def encode(self, pictures_BKHWC: Pictures | Tensor) -> Tensor:
        assert tuple(pictures_BKHWC.shape[1:]) == self.preprocessing.shape
        self.calls += 1
        return torch.as_tensor(pictures_BKHWC).reshape(len(pictures_BKHWC), -1).float()


CENTRE = Preprocessing(height_px=32, width_px=32, fit="crop", short_side_px=36, frames=(0, 8))
STRETCH = Preprocessing(height_px=28, width_px=28, fit="stretch", frames=(0, 8))


def clip(path: Path, frames: int = 40, size_px: tuple[int, int] = (96, 64), seed: int = 0) -> Video:
    """A clip at 15 fps whose every place and frame differ; its id is the file's stem."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ground_HWC = rng.integers(0, 255, (size_px[1] // 4, size_px[0] // 4, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=15)
        stream.width, stream.height = size_px
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(np.roll(ground_HWC, 2 * index, axis=1), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 15)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return Video(id=path.stem, path=path.name, label=0, scene=path.stem)


def clips(folder: Path, count: int) -> list[Video]:
    return [clip(folder / f"v{number}.mp4", seed=number) for number in range(count)]


def test_the_crops_by_number_and_in_order() -> None:
    assert {number: len(names) for number, names in CROPS.items()} == {1: 1, 2: 2, 5: 5, 10: 10}
    assert CROPS[10] == (
        "top left", "top right", "bottom left", "bottom right", "centre",
        "top left of mirrored", "top right of mirrored", "bottom left of mirrored", "bottom right of mirrored",
        "centre of mirrored",
    )  # fmt: skip
    assert CROPS[5] == CROPS[10][:5]


@pytest.mark.parametrize("size_px", [(64, 36), (63, 37), (32, 32), (36, 71)])
def test_ten_crops_are_those_of_torchvision_in_its_order(size_px: tuple[int, int]) -> None:
    pictures_KHWC = np.random.default_rng(1).integers(0, 255, (2, size_px[1], size_px[0], 3), dtype=np.uint8)
    expected = ten_crop(torch.from_numpy(pictures_KHWC).permute(0, 3, 1, 2), [32, 32])
    for name, expected_KCHW in zip(CROPS[10], expected, strict=True):
        cut = torch.from_numpy(extract.crop(pictures_KHWC, name, 32, 32).copy())
        assert torch.equal(cut.permute(0, 3, 1, 2), expected_KCHW), name


@pytest.mark.parametrize("size_px", [(96, 64), (98, 54), (54, 98), (64, 64), (322, 66)])
def test_the_centre_of_a_backbone_that_crops_is_what_the_monitor_serves(
    tmp_path: Path, size_px: tuple[int, int]
) -> None:
    video = clip(tmp_path / "v.mp4", size_px=size_px)
    backbone = Pixels(CENTRE)
    served = [s.pictures for s in segments_of_file(tmp_path / video.path, CENTRE, 15.0) if s.pictures is not None]
    drawn = extract.drawn_for(tmp_path / video.path, CENTRE, CROPS[10])
    found = extract.of_segments(segments_of_file(tmp_path / video.path, drawn, 15.0), backbone, CROPS[10])
    assert found.features_NCD.shape == (3, 10, 2 * 32 * 32 * 3)
    assert min(drawn.height_px, drawn.width_px) == 36
    centre_ND = found.features_NCD[:, CROPS[10].index("centre")]
    assert np.array_equal(centre_ND, np.stack(served).reshape(3, -1))
    assert len({crop.tobytes() for crop in found.features_NCD[0]}) == 10


def test_the_crops_of_a_backbone_that_stretches_come_from_an_eighth_more(tmp_path: Path) -> None:
    video = clip(tmp_path / "v.mp4")
    drawn = extract.drawn_for(tmp_path / video.path, STRETCH, CROPS[5])
    assert (drawn.width_px, drawn.height_px, drawn.fit, drawn.frames) == (32, 32, "stretch", (0, 8))
    embedded = Preprocessing(height_px=224, width_px=224, fit="stretch")
    assert extract.drawn_for(tmp_path / video.path, embedded, CROPS[5]).shape == (16, 256, 256, 3)
    for few in (CROPS[1], CROPS[2]):
        assert extract.drawn_for(tmp_path / video.path, STRETCH, few) == STRETCH


def test_the_second_crop_is_the_mirror_image(tmp_path: Path) -> None:
    video = clip(tmp_path / "v.mp4")
    found = extract.extract([video], tmp_path, tmp_path / "out", Pixels(STRETCH), 15.0, mirrored=True)["v"]
    whole, mirrored = found.features_NCD.reshape(-1, 2, 2, 28, 28, 3).swapaxes(0, 1)
    assert np.array_equal(mirrored, whole[:, :, :, ::-1])


def test_several_segments_a_call_are_the_same_as_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CUDA segments are encoded together; the device is only said here."""
    video = clip(tmp_path / "v.mp4", frames=100)
    results = []
    for device, calls in (("cpu", 6), ("cuda", 3)):
        backbone = Pixels(STRETCH, device=torch.device(device))
        monkeypatch.setattr(extract, "AT_ONCE", 20)
        drawn = extract.drawn_for(tmp_path / video.path, STRETCH, CROPS[10])
        results.append(extract.of_segments(segments_of_file(tmp_path / video.path, drawn, 15.0), backbone, CROPS[10]))
        assert backbone.calls == calls
    assert np.array_equal(results[0].features_NCD, results[1].features_NCD)


def test_what_is_there_and_whole_is_skipped_and_the_rest_made_again(tmp_path: Path) -> None:
    videos = clips(tmp_path, 5)
    backbone = Pixels(STRETCH)
    first = extract.extract(videos, tmp_path, tmp_path / "out", backbone, 15.0)
    held = {key: np.array(found.features_NCD) for key, found in first.items()}
    del first
    assert backbone.calls == 15
    (folder,) = (tmp_path / "out").iterdir()
    (folder / "v1.npy").write_bytes((folder / "v1.npy").read_bytes()[:-100])
    (folder / "v2.segments.npz").unlink()
    (folder / "v3.segments.npz").write_bytes(b"PK half a file")
    (folder / ".v4.part.npy").write_bytes(b"left by a process that was killed")
    again = extract.extract(videos, tmp_path, tmp_path / "out", backbone, 15.0)
    assert backbone.calls == 15 + 3 * 3
    assert all(np.array_equal(again[key].features_NCD, held[key]) for key in held)


def test_videos_that_fail_are_named_at_the_end_and_the_rest_is_done(tmp_path: Path) -> None:
    videos = clips(tmp_path, 2)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "gone").mkdir()
    broken = [
        Video(id="text", path="text.mp4", label=0, scene="s"),
        Video(id="a/b", path="a/b.mp4", label=0, scene="s"),
    ]
    with pytest.raises(ExtractionError, match="2 of 4 videos have no features") as said:
        extract.extract([broken[0], videos[0], broken[1], videos[1]], tmp_path, tmp_path / "out", Pixels(STRETCH), 15.0)
    assert set(said.value.failures) == {"text", "a/b"}
    assert "\n  text: " in str(said.value)
    assert "a/b.mp4" in said.value.failures["a/b"]
    (folder,) = (tmp_path / "out").iterdir()
    assert sorted(path.name for path in folder.glob("*.npy")) == ["v0.npy", "v1.npy"]


def test_a_folder_is_named_after_what_fills_it_and_refuses_anything_else(tmp_path: Path) -> None:
    video = clip(tmp_path / "v.mp4")
    extract.extract([video], tmp_path, tmp_path / "out", Pixels(STRETCH), 15.0, mirrored=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["pixels-ffffffff-15fps-mirrored"]
    with pytest.raises(FeatureError, match="holds features made otherwise"):
        other = Pixels(STRETCH, fingerprint="f" * 8 + "0" * 56)
        extract.extract([video], tmp_path, tmp_path / "out", other, 15.0, mirrored=True)


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the embedded backbone in it, converted once for all processes that the tests start."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAD_MONITOR_CACHE", str(folder))
        extract._Wanted(name="effnet_lite0", device="cpu", weights=None, engine="auto").create()
    return folder


@pytest.fixture
def cache(converted: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VAD_MONITOR_CACHE", str(converted))
    return converted


def arrays(folder: Path) -> dict[str, npt.NDArray[np.floating]]:
    return {path.stem: np.load(path) for path in sorted(folder.glob("[!.]*.npy"))}


def test_one_process_with_ten_crops_in_float16(tmp_path: Path, cache: Path) -> None:
    videos = clips(tmp_path, 1)
    done = extract.run(videos, tmp_path, tmp_path / "full", crops=10)
    half = extract.run(videos, tmp_path, tmp_path / "half", crops=10, as_float16=True)
    assert (done.made, done.skipped, done.segments) == (("v0",), (), 3)
    assert done.folder.name == "effnet_lite0-813e3584-15fps-10crops"
    assert json.loads((done.folder / "extraction.json").read_text())["crop_order"] == list(CROPS[10])
    full_NCD, half_NCD = (arrays(each.folder)["v0"] for each in (done, half))
    assert full_NCD.dtype == np.float32
    assert full_NCD.shape == (3, 10, 2560)
    assert half_NCD.dtype == np.float16
    assert np.array_equal(half_NCD, full_NCD.astype(np.float16))
    again = extract.run(videos, tmp_path, tmp_path / "full", crops=10)
    assert (again.made, again.skipped, again.segments) == ((), ("v0",), 3)


@pytest.mark.slow
def test_several_workers_make_the_same_as_one_and_name_what_failed(tmp_path: Path, cache: Path) -> None:
    videos = clips(tmp_path, 4)
    one = extract.run(videos, tmp_path, tmp_path / "one")
    two = extract.run(videos, tmp_path, tmp_path / "two", workers=2)
    expected, found = arrays(one.folder), arrays(two.folder)
    assert sorted(two.made) == sorted(found) == ["v0", "v1", "v2", "v3"]
    for key in expected:
        assert np.abs(found[key] - expected[key]).max() <= 1e-5 * np.abs(expected[key]).max()
    (tmp_path / "text.mp4").write_text("no video")
    bad = Video(id="text", path="text.mp4", label=0, scene="s")
    with pytest.raises(ExtractionError, match=r"1 of 5 videos have no features \(.*\):\n  text: "):
        extract.run([bad, *videos], tmp_path, tmp_path / "two", workers=2)


def dies_at_v1(video: Video) -> str | None:
    """In a worker: what a crash of libav does."""
    if video.id == "v1":
        os.kill(os.getpid(), signal.SIGKILL)
    return extract._make(video)


@pytest.mark.slow
def test_a_video_that_kills_its_process_fails_alone(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = clips(tmp_path, 4)
    original = extract._pool

    class Deadly:
        """A pool whose task dies at one of the videos."""

        def __init__(self, *given: object) -> None:
            self.pool = original(*given)  # type: ignore[arg-type]

        def submit(self, _make: object, video: Video) -> object:
            return self.pool.submit(dies_at_v1, video)

        def shutdown(self, **how: bool) -> None:
            self.pool.shutdown(**how)

        def __enter__(self) -> Deadly:
            return self

        def __exit__(self, *_: object) -> None:
            self.pool.shutdown()

    monkeypatch.setattr(extract, "_pool", Deadly)
    with pytest.raises(ExtractionError, match=r"1 of 4 videos have no features") as said:
        extract.run(videos, tmp_path, tmp_path / "out", workers=2)
    assert said.value.failures == {
        "v1": f"{tmp_path / 'v1.mp4'}: the process died at it (out of memory, or its decoder crashed)"
    }
    (folder,) = (tmp_path / "out").iterdir()
    assert sorted(arrays(folder)) == ["v0", "v2", "v3"]


SCRIPT = """
import json, os, sys
from pathlib import Path
from training import catalogue, extract

if __name__ == "__main__":
    folder, workers = Path(sys.argv[1]), int(sys.argv[2])
    try:
        done = extract.run(catalogue.read(folder / "clips.csv"), folder, folder / "out", workers=workers)
        print("DONE", os.environ.get("RANK"), *done.made, flush=True)
    except extract.ExtractionError as failed:
        print("FAILED", os.environ.get("RANK"), json.dumps(failed.failures), flush=True)
        sys.exit(1)
"""


def start(script: Path, folder: Path, cache: Path, *before: str, workers: int = 1) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *before, str(script), str(folder), str(workers)],
        cwd=ROOT,
        env=os.environ | {"VAD_MONITOR_CACHE": str(cache), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def listed(folder: Path, videos: Sequence[Video]) -> Path:
    from training import catalogue

    catalogue.write(folder / "clips.csv", videos)
    script = folder / "script.py"
    script.write_text(SCRIPT)
    return script


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.mark.slow
def test_two_processes_of_torchrun_share_the_list_and_the_folder(tmp_path: Path, cache: Path) -> None:
    videos = clips(tmp_path, 5)
    script = listed(tmp_path, videos)
    with start(script, tmp_path, cache, *TORCHRUN) as torchrun:
        said, _ = torchrun.communicate(timeout=200)
    assert torchrun.returncode == 0
    assert sorted(line for line in said.splitlines() if line.startswith("DONE")) == ["DONE 0 v0 v2 v4", "DONE 1 v1 v3"]
    alone = extract.run(videos, tmp_path, tmp_path / "alone")
    expected = arrays(alone.folder)
    found = arrays(tmp_path / "out" / alone.folder.name)
    assert sorted(found) == sorted(expected) == ["v0", "v1", "v2", "v3", "v4"]
    for key in expected:
        assert np.abs(found[key] - expected[key]).max() <= 1e-5 * np.abs(expected[key]).max()


@pytest.mark.slow
def test_torchrun_does_the_rest_though_the_first_process_has_failed_at_once(tmp_path: Path, cache: Path) -> None:
    """The first has nothing but a file that is no video, the second three videos: it must not be ended early."""
    (tmp_path / "text.mp4").write_text("no video")
    bad = [Video(id=f"bad{number}", path="text.mp4", label=0, scene="s") for number in range(3)]
    good = clips(tmp_path, 3)
    videos = [video for pair in zip(bad, good, strict=True) for video in pair]
    with start(listed(tmp_path, videos), tmp_path, cache, *TORCHRUN) as torchrun:
        said, _ = torchrun.communicate(timeout=200)
    assert torchrun.returncode != 0
    (failed,) = (line for line in said.splitlines() if line.startswith("FAILED 0 "))
    assert sorted(json.loads(failed.removeprefix("FAILED 0 "))) == ["bad0", "bad1", "bad2"]
    (folder,) = (tmp_path / "out").iterdir()
    assert sorted(arrays(folder)) == ["v0", "v1", "v2"]


def alive(group: int) -> bool:
    """Whether a process of that session is there that has not ended."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(after_name[3]) == group and after_name[0] != "Z":
            return True
    return False


@pytest.mark.slow
def test_killed_it_leaves_no_half_file_and_no_process_and_goes_on(tmp_path: Path, cache: Path) -> None:
    videos = [clip(tmp_path / f"v{number}.mp4", frames=600, seed=number) for number in range(4)]
    script = listed(tmp_path, videos)
    folder = tmp_path / "out" / "effnet_lite0-813e3584-15fps-mirrored"
    with start(script, tmp_path, cache, workers=2) as killed:
        end_s = time.monotonic() + 120
        while not list(folder.glob("v*.npy")):
            assert time.monotonic() < end_s and killed.poll() is None
            time.sleep(0.02)
        os.kill(killed.pid, signal.SIGKILL)
        end_s = time.monotonic() + 20
        while alive(killed.pid):
            assert time.monotonic() < end_s, "a worker has outlived its parent"
            time.sleep(0.1)
    there = {path: path.stat().st_mtime_ns for path in folder.glob("v*.npy")}
    assert 1 <= len(there) < 4
    assert all(len(features.read(folder, path.stem)) == 38 for path in there)
    done = extract.run(videos, tmp_path, tmp_path / "out")
    assert sorted(done.skipped) == sorted(path.stem for path in there)
    assert done.segments == 4 * 38
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in there.items())


@pytest.mark.parametrize(
    ("asked", "says"),
    [({"crops": 3}, "3 crops: there are 1, 2, 5 and 10"), ({"workers": 0}, "0 workers: at least one is needed")],
)
def test_what_cannot_be_is_refused(tmp_path: Path, asked: dict[str, int], says: str) -> None:
    with pytest.raises(FeatureError, match=says):
        extract.run([], tmp_path, tmp_path / "out", **asked)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_device_is_said_before_any_worker_starts(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(BackboneError, match="torch finds no CUDA device here"):
        extract.run([], tmp_path, tmp_path / "out", device="cuda", workers=4)
