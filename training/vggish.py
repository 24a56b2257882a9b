"""VGGish: what a video sounds like, 128 numbers for each of its segments, beside the features of its pictures.

The network and its front end are Google's (Hershey et al., "CNN architectures for large-scale audio classification",
and the AudioSet release); the weights are a file of the caller's with the names of the published PyTorch port
(torchvggish): ``features.0.weight`` … ``embeddings.4.bias``, .safetensors or .pth. This code was run from end to end
with random weights, on sound generated for it, and **never with the published ones**, nor with the published PCA. What
is checked is the front end (against a slow literal one, and where a sine of known pitch comes out), the layers, shapes
and names, and the time at which a sound is found.

Front end: 16 kHz mono (the mean of the channels), windows of 25 ms (periodic Hann) every 10 ms, FFT of 512, magnitudes,
64 triangles equally wide in mel from 125 to 7500 Hz, log(mel + 0.01); an example is 96 such frames, 0.96 s.

Alignment is by time: examples follow each other without a gap from the video's first frame on, and each segment takes
the example that covers its middle: several short segments share one, and long ones skip some. Sound that begins late or
ends early is silence there; a video without a sound track is a failure.

Post-processing (optional, a file of the caller's with ``pca_eigen_vectors`` (128, 128) and ``pca_means`` (128, 1),
.npz, .safetensors or .pth): PCA, clipped to ±2, in 256 steps, as AudioSet publishes its features: whole numbers of 0 to
255.

S samples, F frames, E examples of 96 frames, M = 64 mel bins, N segments.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
import av.error
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from monitor.features.engine import resolve_device
from monitor.features.tensors import State, WeightsError, file_sha256, read, tensors_sha256
from training import features
from training.catalogue import Video
from training.extract import Done, ExtractionError
from training.features import FeatureError

Floats = npt.NDArray[np.float32]

RATE = 16_000
WINDOW, HOP, FFT = 400, 160, 512
MELS, LOWEST_HZ, HIGHEST_HZ = 64, 125.0, 7500.0
OFFSET = 0.01
FRAMES = 96
EXAMPLE_S = 0.96
EXAMPLE = FRAMES * HOP
"""Samples from one example to the next; the last window of an example reaches 240 further."""
DIMENSIONS = 128
AT_ONCE = 32
"""Examples in one call of the network."""


class VGGish(nn.Module):
    """(E, 96, 64) log-mel → (E, 128), not negative. Named as the published port: its files fit."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for outs in ((64,), (128,), (256, 256), (512, 512)):
            for out in outs:
                layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU()]
                channels = out
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(512 * 6 * 4, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 128), nn.ReLU()
        )

    def forward(self, examples_EFM: Tensor) -> Tensor:
        x_ECFM = self.features(examples_EFM[:, None])
        # TensorFlow's order: channels vary fastest.
        embedded: Tensor = self.embeddings(x_ECFM.permute(0, 2, 3, 1).flatten(1))
        return embedded


@dataclass(frozen=True, slots=True, kw_only=True)
class Ear:
    """The network with its weights, on a device, and what follows it."""

    network: VGGish
    device: torch.device
    pca: State | None
    fingerprint: str
    """sha256 over the tensors of both files."""

    def encode(self, examples_EFM: Floats) -> Floats:
        """(E, 96, 64) → (E, 128) float32."""
        parts = [np.empty((0, DIMENSIONS), np.float32)]
        with torch.inference_mode():
            for first in range(0, len(examples_EFM), AT_ONCE):
                examples = torch.from_numpy(examples_EFM[first : first + AT_ONCE]).to(self.device)
                parts.append(self._finished(self.network(examples).cpu()).numpy())
        return np.concatenate(parts)

    def _finished(self, embedded_ED: Tensor) -> Tensor:
        if self.pca is None:
            return embedded_ED
        turned_ED = (self.pca["pca_eigen_vectors"] @ (embedded_ED.T - self.pca["pca_means"])).T
        return ((turned_ED.clamp(-2, 2) + 2) * (255 / 4)).round()


def load(weights: Path, pca: Path | None = None, device: str = "cpu") -> Ear:
    """VGGish with the weights of a file, nothing in it is run.

    Raises:
        WeightsError: a file that is missing, damaged or of another network.
        BackboneError: no such device.
    """
    place = resolve_device(device)
    state = _tensors(weights)
    # The port's whole model has the network and the PCA beside it.
    state = {key: value for key, value in state.items() if not key.startswith("pproc.")}
    network = VGGish()
    try:
        network.load_state_dict(state)
    except RuntimeError as fault:
        last = str(fault).strip().splitlines()[-1].strip()
        raise WeightsError(f"{weights} holds no weights of VGGish by torchvggish's names: {last}") from fault
    turned = None if pca is None else _pca(pca)
    fingerprint = tensors_sha256({**state, **(turned or {})})
    network = network.eval().requires_grad_(False).to(place)
    return Ear(network=network, device=place, pca=turned, fingerprint=fingerprint)


def run(
    videos: Sequence[Video],
    data: Path,
    folder: Path,
    *,
    weights: Path,
    pca: Path | None = None,
    device: str = "cpu",
) -> Done:
    """Writes ``ID__vggish.npy``, (N, 128) float32, beside the features of the pictures, whose segments it takes.

    ``folder`` is one that ``extract.run`` has filled: its times say where the segments lie. What is there with as many
    rows as segments is skipped; ``features.load(folder, videos, audio=folder)`` joins both.

    Raises:
        ExtractionError: videos without sound, or without features of their pictures; the others are done.
        FeatureError: a folder with other VGGish features.
        WeightsError: as ``load``.
    """
    from tqdm import tqdm

    ear = load(weights, pca, device)
    _claim(folder, ear, pca)
    made: list[str] = []
    skipped: list[str] = []
    failures: dict[str, str] = {}
    segments = 0
    for video in tqdm(videos, desc="sound", unit="video", disable=None):
        try:
            times_N2 = features.read(folder, video.id).times_N2
            if times_N2 is None:
                raise FeatureError(f"{video.id}: its features came without times of segments; extract them again")
            path = folder / f"{video.id}__vggish.npy"
            if _rows(path) == len(times_N2):
                skipped.append(video.id)
            else:
                _write(path, of_segments(sound(data / video.path), times_N2, ear))
                made.append(video.id)
            segments += len(times_N2)
        except Exception as fault:  # whatever is wrong with one video, the others are not to suffer
            failures[video.id] = str(fault) or type(fault).__name__
    if failures:
        raise ExtractionError(failures, len(videos), folder)
    return Done(folder=folder, made=tuple(made), skipped=tuple(skipped), segments=segments)


def of_segments(samples_S: Floats, times_N2: npt.NDArray[np.floating], ear: Ear) -> Floats:
    """(N, 128): for each segment, the example that covers its middle. Examples that nobody asks for are not made."""
    middles_N = times_N2.astype(np.float64).mean(axis=1)
    wanted_E, of_segment_N = np.unique(np.floor(middles_N / EXAMPLE_S).astype(np.int64), return_inverse=True)
    parts = [np.empty((0, DIMENSIONS), np.float32)]
    for first in range(0, len(wanted_E), AT_ONCE):
        examples = [log_mel(_example(samples_S, int(number))) for number in wanted_E[first : first + AT_ONCE]]
        parts.append(ear.encode(np.stack(examples)))
    return np.concatenate(parts)[of_segment_N]


def log_mel(samples_S: Floats) -> Floats:
    """(F, 64) float32 of 16 kHz samples in ±1; a window that is not whole is left out."""
    if len(samples_S) < WINDOW:
        return np.empty((0, MELS), np.float32)
    windows_FS = np.lib.stride_tricks.sliding_window_view(samples_S.astype(np.float64), WINDOW)[::HOP]
    hann_S = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    magnitudes_FB = np.abs(np.fft.rfft(windows_FS * hann_S, FFT))
    return np.log(magnitudes_FB @ mel_matrix() + OFFSET).astype(np.float32)


@functools.cache
def mel_matrix() -> npt.NDArray[np.float64]:
    """(257, 64) triangles, linear in mel between the neighbours' peaks."""
    bins_B1 = _mel(np.linspace(0, RATE / 2, FFT // 2 + 1))[:, None]
    edges = np.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), MELS + 2)
    low, peak, high = edges[:-2], edges[1:-1], edges[2:]
    matrix = np.maximum(0, np.minimum((bins_B1 - low) / (peak - low), (high - bins_B1) / (high - peak)))
    return cast("npt.NDArray[np.float64]", matrix)


def sound(path: Path) -> Floats:
    """(S,) a video's sound at 16 kHz, in ±1, from the time of its first frame on: cut or filled up with silence.

    Raises:
        FeatureError: no file, no sound track, or one that cannot be read.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise FeatureError(f"{path}: it has no sound track")
            audio = container.streams.audio[0]
            begins_s = 0.0
            if container.streams.video:
                video = container.streams.video[0]
                begins_s = float((video.start_time or 0) * (video.time_base or 0))
            resampler = av.AudioResampler(format="fltp", rate=RATE)
            first_s: float | None = None
            parts: list[Floats] = []
            for frame in container.decode(audio):
                if first_s is None:
                    first_s = begins_s if frame.time is None else float(frame.time)
                parts += [piece.to_ndarray().mean(axis=0, dtype=np.float32) for piece in resampler.resample(frame)]
            parts += [piece.to_ndarray().mean(axis=0, dtype=np.float32) for piece in resampler.resample(None)]
    except (av.error.FFmpegError, OSError) as fault:
        raise FeatureError(f"{path}: its sound cannot be read ({type(fault).__name__})") from fault
    if first_s is None or not parts:
        raise FeatureError(f"{path}: its sound track is empty")
    samples_S = np.concatenate(parts)
    late = round((first_s - begins_s) * RATE)
    return samples_S[-late:] if late < 0 else np.concatenate([np.zeros(late, np.float32), samples_S])


def _example(samples_S: Floats, number: int) -> Floats:
    """The samples of an example, 96 windows, with silence where there are none."""
    found = samples_S[number * EXAMPLE : number * EXAMPLE + (FRAMES - 1) * HOP + WINDOW]
    return np.pad(found, (0, (FRAMES - 1) * HOP + WINDOW - len(found)))


def _mel(hz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return 1127 * np.log1p(np.asarray(hz, np.float64) / 700)


def _tensors(path: Path) -> State:
    # Also says in a sentence that there is no file.
    file_sha256(path)
    return read(path)


def _pca(path: Path) -> State:
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as held:
                found = {key: torch.from_numpy(np.array(held[key], np.float32)) for key in held.files}
        except (OSError, ValueError) as fault:
            raise WeightsError(f"{path} cannot be read ({fault})") from fault
    else:
        found = {key.removeprefix("pproc."): value.float() for key, value in _tensors(path).items()}
    shapes = {"pca_eigen_vectors": (DIMENSIONS, DIMENSIONS), "pca_means": (DIMENSIONS, 1)}
    state: State = {}
    for key, shape in shapes.items():
        if key not in found or found[key].numel() != shape[0] * shape[1]:
            raise WeightsError(f"{path} holds no {key} of shape {shape}: it is no PCA of VGGish")
        state[key] = found[key].reshape(shape).contiguous()
    return state


def _claim(folder: Path, ear: Ear, pca: Path | None) -> None:
    """vggish.json says what made the sound's features of a folder."""
    said = folder / "vggish.json"
    made_by = {"fingerprint": ear.fingerprint, "postprocessed": pca is not None, "example_s": EXAMPLE_S}
    if not folder.is_dir():
        raise FeatureError(f"{folder}: no such folder; VGGish goes beside features of pictures")
    if not said.is_file():
        part = folder / f".vggish.json.{os.getpid()}"
        part.write_text(json.dumps(made_by, indent=2) + "\n", encoding="utf-8")
        part.replace(said)
    if json.loads(said.read_text(encoding="utf-8")) != made_by:
        raise FeatureError(f"{folder} holds VGGish features made otherwise ({said}); choose another folder")


def _rows(path: Path) -> int | None:
    """How many rows a whole file has; None where there is none."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    return len(found) if found.ndim == 2 and found.shape[1] == DIMENSIONS else None


def _write(path: Path, features_ND: Floats) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.npy")
    np.save(part, features_ND)
    part.replace(path)
