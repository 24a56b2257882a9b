"""VGGish: the front end against a slow literal one, the network's shape and names, and sound found at its time.

The published weights are not here: the network has random ones, and what a trained one hears is not tested.
"""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import safetensors.torch
import torch

from monitor.features.tensors import WeightsError
from training import features, vggish
from training.catalogue import Video
from training.extract import ExtractionError
from training.features import FeatureError, Features
from training.vggish import VGGish

Floats = npt.NDArray[np.float32]


def literal_log_mel(samples: Floats) -> npt.NDArray[np.float64]:
    """The published front end with loops: every sum written out, nothing shared with ours."""
    rows = []
    for start in range(0, len(samples) - 400 + 1, 160):
        window = [samples[start + n] * (0.5 - 0.5 * math.cos(2 * math.pi * n / 400)) for n in range(400)]
        magnitudes = []
        for k in range(257):
            real = sum(x * math.cos(2 * math.pi * k * n / 512) for n, x in enumerate(window))
            imaginary = sum(x * math.sin(2 * math.pi * k * n / 512) for n, x in enumerate(window))
            magnitudes.append(math.hypot(real, imaginary))
        mels = [1127 * math.log(1 + 8000 * k / 256 / 700) for k in range(257)]
        low, high = 1127 * math.log(1 + 125 / 700), 1127 * math.log(1 + 7500 / 700)
        edges = [low + (high - low) * step / 65 for step in range(66)]
        row = []
        for m in range(64):
            total = 0.0
            for k in range(1, 257):
                rising = (mels[k] - edges[m]) / (edges[m + 1] - edges[m])
                falling = (edges[m + 2] - mels[k]) / (edges[m + 2] - edges[m + 1])
                total += magnitudes[k] * max(0.0, min(rising, falling))
            row.append(math.log(total + 0.01))
        rows.append(row)
    return np.array(rows)


def sine(hz: float, seconds: float, loud: float = 0.5) -> Floats:
    return (loud * np.sin(2 * np.pi * hz * np.arange(round(16_000 * seconds)) / 16_000)).astype(np.float32)


def test_the_front_end_is_the_published_one() -> None:
    samples = np.random.default_rng(3).normal(0, 0.1, 400 + 2 * 160 + 159).astype(np.float32)
    expected = literal_log_mel(samples)
    assert expected.shape == (3, 64)
    assert np.allclose(vggish.log_mel(samples), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("hz", "loudest"),
    [(434, 8), (804, 16), (1296, 24), (1947, 32), (2812, 40), (3959, 48), (5481, 56), (7215, 63)],
)
def test_a_sine_is_loudest_in_the_bin_whose_peak_it_is(hz: float, loudest: int) -> None:
    """Peaks lie in 65 equal steps of mel between 125 and 7500 Hz: the m-th at 700 (exp(mel / 1127) - 1)."""
    assert set(vggish.log_mel(sine(hz, 0.5)).argmax(axis=1)) == {loudest}


def test_silence_is_the_logarithm_of_the_offset_and_an_example_has_96_frames() -> None:
    assert np.allclose(vggish.log_mel(np.zeros(400 + 95 * 160, np.float32)), np.full((96, 64), math.log(0.01)))
    assert vggish.log_mel(np.zeros(399, np.float32)).shape == (0, 64)


def test_the_network_has_the_published_tensors() -> None:
    with torch.device("meta"):
        shapes = {key: tuple(tensor.shape) for key, tensor in VGGish().state_dict().items() if key.endswith("weight")}
    assert shapes == {
        "features.0.weight": (64, 1, 3, 3),
        "features.3.weight": (128, 64, 3, 3),
        "features.6.weight": (256, 128, 3, 3),
        "features.8.weight": (256, 256, 3, 3),
        "features.11.weight": (512, 256, 3, 3),
        "features.13.weight": (512, 512, 3, 3),
        "embeddings.0.weight": (4096, 12288),
        "embeddings.2.weight": (4096, 4096),
        "embeddings.4.weight": (128, 4096),
    }


@pytest.fixture(scope="module")
def network() -> VGGish:
    """Random weights that let every example through differently."""
    torch.manual_seed(5)
    made = VGGish().eval().requires_grad_(False)
    for module in made.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight)
    return made


@pytest.fixture(scope="module")
def weights(network: VGGish, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vggish") / "vggish.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    return path


def test_channels_vary_fastest_where_the_picture_of_sound_becomes_a_row(network: VGGish) -> None:
    """As in TensorFlow, whose weights these are: (frames, mels, channels)."""
    examples = torch.randn(1, 96, 64)
    maps_CFM = network.features(examples[:, None])[0]
    assert maps_CFM.shape == (512, 6, 4)
    row = torch.stack([maps_CFM[c, f, m] for f in range(6) for m in range(4) for c in range(512)])
    assert torch.allclose(network(examples)[0], network.embeddings(row), atol=1e-5)


def test_weights_come_as_safetensors_or_as_the_ports_file_and_nothing_else_is_taken(
    network: VGGish, weights: Path, tmp_path: Path
) -> None:
    pproc = {"pproc.pca_eigen_vectors": torch.eye(128), "pproc.pca_means": torch.zeros(128, 1)}
    torch.save({**network.state_dict(), **pproc}, tmp_path / "whole.pth")
    examples = np.random.default_rng(0).normal(size=(3, 96, 64)).astype(np.float32)
    safe, port = vggish.load(weights), vggish.load(tmp_path / "whole.pth")
    assert safe.fingerprint == port.fingerprint
    found = safe.encode(examples)
    assert (found.shape, str(found.dtype)) == ((3, 128), "float32")
    assert np.array_equal(found, port.encode(examples))
    assert np.allclose(found, network(torch.from_numpy(examples)).numpy(), rtol=1e-4, atol=1e-5)
    assert safe.encode(examples[:0]).shape == (0, 128)
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="holds no weights of VGGish by torchvggish's names"):
        vggish.load(tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="there is no file"):
        vggish.load(tmp_path / "none.pth")


def test_post_processing_is_pca_clipped_in_256_steps(weights: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    vectors, means = np.linalg.qr(rng.normal(size=(128, 128)))[0], rng.normal(size=(128, 1))
    np.savez(tmp_path / "pca.npz", pca_eigen_vectors=vectors, pca_means=means)
    torch.save(
        {"pproc.pca_eigen_vectors": torch.tensor(vectors).float(), "pproc.pca_means": torch.tensor(means).float()},
        tmp_path / "pca.pth",
    )
    examples = rng.normal(size=(2, 96, 64)).astype(np.float32)
    raw = vggish.load(weights).encode(examples)
    found = vggish.load(weights, tmp_path / "pca.npz").encode(examples)
    expected = np.array(
        [
            [
                round((min(max(sum(vectors[i, j] * (row[j] - means[j, 0]) for j in range(128)), -2), 2) + 2) * 255 / 4)
                for i in range(128)
            ]
            for row in raw.astype(np.float64)
        ]
    )
    assert np.abs(found - expected).max() <= 1  # what lies on the edge of two steps
    assert (found == expected).mean() > 0.98
    assert np.array_equal(vggish.load(weights, tmp_path / "pca.pth").encode(examples), found)
    np.savez(tmp_path / "wrong.npz", pca_eigen_vectors=vectors)
    with pytest.raises(WeightsError, match="holds no pca_means of shape"):
        vggish.load(weights, tmp_path / "wrong.npz")


def film(path: Path, sound_LS: Floats | None, *, seconds: float, rate: int = 16_000, late_s: float = 0.0) -> Video:
    """A grey film at 15 fps with a sound track of L channels in PCM that begins ``late_s`` after the picture."""
    with av.open(str(path), "w") as output:
        picture = output.add_stream("mpeg4", rate=15)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        layout = None if sound_LS is None else {1: "mono", 2: "stereo"}[len(sound_LS)]
        track = None if layout is None else output.add_stream("pcm_f32le", rate=rate, layout=layout)
        for index in range(round(seconds * 15)):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 15)
            output.mux(picture.encode(frame))
        output.mux(picture.encode(None))
        if track is not None and sound_LS is not None and layout is not None:
            for first in range(0, sound_LS.shape[1], 1024):
                piece = np.ascontiguousarray(sound_LS[:, first : first + 1024].T.reshape(1, -1), np.float32)
                heard = av.AudioFrame.from_ndarray(piece, format="flt", layout=layout)
                heard.sample_rate, heard.pts, heard.time_base = rate, first + round(late_s * rate), Fraction(1, rate)
                output.mux(track.encode(heard))
            output.mux(track.encode(None))
    return Video(id=path.stem, path=path.name, label=0, scene=path.stem)


def test_sound_is_decoded_and_both_channels_count_the_same(tmp_path: Path) -> None:
    left, right = sine(440, 1.0, 0.8), sine(1000, 1.0, 0.4)
    film(tmp_path / "v.mkv", np.stack([left, right]), seconds=1)
    found = vggish.sound(tmp_path / "v.mkv")
    assert abs(len(found) - 16_000) <= 160
    assert np.allclose(found[:15_000], ((left + right) / 2)[:15_000], atol=1e-4)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_another_rate_is_resampled(tmp_path: Path, rate: int) -> None:
    heard = (0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.float32)
    film(tmp_path / "v.mkv", heard[None], seconds=1, rate=rate)
    found = vggish.sound(tmp_path / "v.mkv")
    assert abs(len(found) - 16_000) <= 200
    assert np.allclose(found[2000:14_000], sine(440, 1.0)[2000:14_000], atol=0.02)


def test_sound_that_begins_late_is_silence_before(tmp_path: Path) -> None:
    film(tmp_path / "v.mkv", sine(440, 1.0)[None], seconds=2, late_s=0.5)
    found = vggish.sound(tmp_path / "v.mkv")
    assert np.abs(found[:7_900]).max() == 0
    assert np.abs(found[8_100:9_000]).max() > 0.4


def of_pictures(folder: Path, name: str, times_N2: npt.ArrayLike) -> None:
    times = np.array(times_N2, np.float32)
    pictures = np.zeros((len(times), 2, 8), np.float32)
    features.write(
        folder, name, Features(features_NCD=pictures, times_N2=times, motion_NM=np.zeros((len(times), 6), np.float32))
    )


def test_a_segment_hears_the_example_that_covers_its_middle(weights: Path) -> None:
    """A second of a low, then a high tone, then nothing; the table says which example is whose."""
    samples = np.concatenate([sine(300, 0.96), sine(3000, 0.96), np.zeros(1600, np.float32)])
    ear = vggish.load(weights)
    examples = np.stack([vggish.log_mel(np.pad(samples, (0, 99_999))[n * 15_360 :][:15_600]) for n in range(4)])
    low, high, rest, silence = ear.encode(examples)
    table = [
        ((0.0, 1.067), low),  # middle 0.53 s
        ((1.067, 2.133), high),  # 1.60 s
        ((0.9, 1.0), low),  # 0.95 s
        ((0.9, 1.05), high),  # 0.975 s: the later of the two it touches
        ((2.133, 3.2), rest),  # 2.67 s: mostly silence
        ((3.2, 4.267), silence),  # behind the end of the sound
    ]
    found = vggish.of_segments(samples, np.array([times for times, _ in table]), ear)
    assert found.shape == (6, 128)
    for row, (times, expected) in zip(found, table, strict=True):
        assert np.allclose(row, expected, rtol=1e-4, atol=1e-4), times
    assert not np.allclose(low, high, rtol=0.05)


def test_files_lie_beside_the_pictures_and_are_joined_by_the_loader(weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    times = [(0.0, 1.067), (1.067, 2.133)]
    videos = [
        film(tmp_path / f"{name}.mkv", sine(hz, 2.2)[None], seconds=2.2) for name, hz in (("a", 300), ("b", 3000))
    ]
    for video in videos:
        of_pictures(folder, video.id, times)
    done = vggish.run(videos, tmp_path, folder, weights=weights)
    assert (done.made, done.skipped, done.segments) == (("a", "b"), (), 4)
    heard = np.load(folder / "a__vggish.npy")
    assert (heard.shape, str(heard.dtype)) == ((2, 128), "float32")
    joined = features.load(folder, videos, audio=folder)["a"].features_NCD
    assert joined.shape == (2, 2, 8 + 128)
    assert np.array_equal(joined[:, 0, 8:], heard) and np.array_equal(joined[:, 1, 8:], heard)
    (folder / "b__vggish.npy").write_bytes((folder / "b__vggish.npy").read_bytes()[:-9])
    again = vggish.run(videos, tmp_path, folder, weights=weights)
    assert (again.made, again.skipped) == (("b",), ("a",))
    said = json.loads((folder / "vggish.json").read_text())
    assert said == {"fingerprint": vggish.load(weights).fingerprint, "postprocessed": False, "example_s": 0.96}
    np.savez(tmp_path / "pca.npz", pca_eigen_vectors=np.eye(128), pca_means=np.zeros((128, 1)))
    with pytest.raises(FeatureError, match="holds VGGish features made otherwise"):
        vggish.run(videos, tmp_path, folder, weights=weights, pca=tmp_path / "pca.npz")


def test_videos_without_sound_or_without_pictures_features_are_named_and_the_rest_is_done(
    weights: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    mute = film(tmp_path / "mute.mkv", None, seconds=1)
    good = film(tmp_path / "good.mkv", sine(300, 1.1)[None], seconds=1.1)
    unknown = film(tmp_path / "unknown.mkv", sine(300, 1.1)[None], seconds=1.1)
    for video in (mute, good):
        of_pictures(folder, video.id, [(0.0, 1.067)])
    with pytest.raises(ExtractionError, match="2 of 3 videos have no features") as said:
        vggish.run([mute, unknown, good], tmp_path, folder, weights=weights)
    assert said.value.failures == {
        "mute": f"{tmp_path / 'mute.mkv'}: it has no sound track",
        "unknown": f"unknown: no features at {folder / 'unknown.npy'}",
    }
    assert (folder / "good__vggish.npy").is_file()
