"""Videos → features, through the monitor's own cut into segments and its own backbone.

``run`` is ``vad-train extract``: any backbone, several processes, several machines; it may be killed at any time and
run again. ``extract`` is the same for those who want the features at once, in this process.

Crops, by their number, in the order in which they lie in the files:

==  ==========================================================================================================
1   ``whole``: the backbone's input as the monitor serves it (the centre, for a backbone that looks at the centre)
2   ``whole``, ``mirrored whole``
5   ``top left``, ``top right``, ``bottom left``, ``bottom right``, ``centre``
10  the five, then the five of the mirrored picture: the order of torchvision's ten_crop, whose sixth is the top
    left of the mirrored picture, that is the mirror image of the top *right*
==  ==========================================================================================================

Five and ten are cut from a larger picture, each as large as the backbone's input:

- A backbone that crops (``i3d_r50``: short side 256, centre 224): the whole scaled picture, before the monitor cuts its
  centre out. ``centre`` is the monitor's own input to the last byte, as long as the video keeps one size of picture.
  Where input and short side are equal (x3d_s, x3d_m), top and bottom of a wide picture are the same.
- A backbone that stretches (``effnet_lite0``, ``movinet_a0_stream``): the whole picture stretched to 8/7 of the input
  in both directions (224 from 256, as above), with the distortion that it will see when it serves. None of the five is
  the monitor's input then, ``centre`` neither: that is ``whole``, at 7/8 of their scale.

N segments, C crops, K frames handed over, H, W of the whole picture, h, w of a crop, D dimensions.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.features.backbone import Backbone, EngineName
from monitor.features.engine import cpu_threads, resolve_device
from monitor.flow import Pictures, Preprocessing, Segment
from monitor.ingest.camera import ReaderSettings, open_stream
from monitor.ingest.file import segments_of_file
from monitor.ingest.picture import size_before_crop
from training import features
from training.catalogue import Video
from training.features import Extraction, FeatureError, Features

Floats = npt.NDArray[np.float32]

_CORNERS: Mapping[str, tuple[float, float]] = {
    "top left": (0, 0),
    "top right": (0, 1),
    "bottom left": (1, 0),
    "bottom right": (1, 1),
    "centre": (0.5, 0.5),
}
"""Where a crop lies in what is left over: 0 at the top or left, 1 at the bottom or right."""
_OF_MIRRORED = " of mirrored"

CROPS: Mapping[int, tuple[str, ...]] = {
    1: ("whole",),
    2: ("whole", "mirrored whole"),
    5: tuple(_CORNERS),
    10: (*_CORNERS, *(name + _OF_MIRRORED for name in _CORNERS)),
}
"""Number of crops → their names in order, ``Extraction.crop_order``."""

STRETCHED = 8 / 7
"""How much larger than the input a stretched picture is that crops are cut from: 256 to 224."""
AT_ONCE = 32
"""Crops of segments that CUDA encodes in one call. A CPU gets one segment after the other."""


class ExtractionError(FeatureError):
    """Videos that have no features though everything else was done. ``failures``: id → reason."""

    def __init__(self, failures: Mapping[str, str], total: int, folder: Path) -> None:
        self.failures = dict(failures)
        listed = "".join(f"\n  {key}: {reason}" for key, reason in self.failures.items())
        super().__init__(f"{len(failures)} of {total} videos have no features (the others are in {folder}):{listed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What ``run`` did: the ids of this process's share."""

    folder: Path
    made: tuple[str, ...]
    skipped: tuple[str, ...]
    """Were there already, whole."""
    segments: int
    """In all of them."""


def folder_of(root: Path, extraction: Extraction) -> Path:
    """Where features of this kind lie under a root: backbone, hash, rate and crops in the name."""
    suffix = {1: "", 2: "-mirrored"}.get(len(extraction.crop_order), f"-{len(extraction.crop_order)}crops")
    return root / f"{extraction.backbone}-{extraction.fingerprint[:8]}-{extraction.fps:g}fps{suffix}"


def extract(
    videos: Sequence[Video], data: Path, root: Path, backbone: Backbone, fps: float, *, mirrored: bool = False
) -> dict[str, Features]:
    """Features of the videos by id; what is there already is read, the rest is made, one after the other, and kept.

    Raises:
        ExtractionError: videos that cannot be read or have not a single segment; the others are kept.
        FeatureError: a folder with other features.
    """
    extraction = Extraction(
        backbone=backbone.name,
        fingerprint=backbone.fingerprint,
        dimensions=backbone.dimensions,
        fps=fps,
        crop_order=CROPS[2 if mirrored else 1],
    )
    task = _Task.of(data, root, extraction)
    missing = [video for video in videos if not task.has(video)]
    failures: dict[str, str] = {}
    for video in _progress(missing, f"features at {fps:g} fps", of=len(videos)):
        reason = task.make(video, backbone)
        if reason is not None:
            failures[video.id] = reason
    if failures:
        raise ExtractionError(failures, len(videos), task.folder)
    return {video.id: features.read(task.folder, video.id) for video in videos}


def run(
    videos: Sequence[Video],
    data: Path,
    root: Path,
    *,
    backbone: str = "effnet_lite0",
    device: str = "cpu",
    weights: Path | None = None,
    engine: EngineName = "auto",
    fps: float = 15.0,
    crops: int = 2,
    as_float16: bool = False,
    workers: int = 1,
) -> Done:
    """Makes and keeps the features of the videos that have none yet: ``vad-train extract``.

    A video whose files are there and whole is skipped, so an extraction that was killed goes on where it was. One that
    fails does not stop the others.

    Under torchrun, and wherever RANK and WORLD_SIZE are set, the processes share one folder and the list of videos
    (every WORLD_SIZE-th each); device ``cuda`` is then the one of LOCAL_RANK. They exchange nothing: only at the end
    those of torchrun wait for each other, for it ends all as soon as one has failed.

    Args:
        videos: paths are below ``data``; features go to a folder below ``root`` named after what makes them.
        weights: a file for the backbone, None for what the monitor's cache has.
        crops: 1, 2, 5 or 10, see above.
        as_float16: kept as float16, half the size; an error of up to 5e-4 of a value. Files that are there stay as
            they are.
        workers: processes that each decode and encode whole videos. On a GPU each has a copy of the network there.

    Raises:
        ExtractionError: videos that failed, each with its reason; under torchrun the first process names those of all.
        FeatureError: a number of crops that there is not, no worker, or a folder with other features.
        BackboneError: no such backbone, device or weights.
    """
    if crops not in CROPS:
        raise FeatureError(f"{crops} crops: there are 1, 2, 5 and 10")
    if workers < 1:
        raise FeatureError(f"{workers} workers: at least one is needed")
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if device == "cuda" and world > 1:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    wanted = _Wanted(name=backbone, device=device, weights=weights, engine=engine)
    # Several workers make theirs for themselves; that there is such a device is found out before they do.
    own = wanted.create() if workers == 1 else None
    resolve_device(device)
    extraction = Extraction(
        backbone=backbone,
        fingerprint=wanted.fingerprint() if own is None else own.fingerprint,
        dimensions=wanted.dimensions if own is None else own.dimensions,
        fps=fps,
        crop_order=CROPS[crops],
    )
    task = _Task.of(data, root, extraction, as_float16=as_float16)
    share = list(videos[rank::world])
    missing = [video for video in share if not task.has(video)]
    results = (
        ((video, task.make(video, own)) for video in missing)
        if own is not None
        else _by_workers(missing, task, wanted, workers)
    )
    failures: dict[str, str] = {}
    label = f"{backbone}, {crops} crops, {fps:g} fps" + (f", {rank + 1} of {world}" if world > 1 else "")
    for video, reason in _progress(results, label, of=len(share), missing=len(missing), line=rank):
        if reason is not None:
            failures[video.id] = reason
    total = len(share)
    if world > 1 and "TORCHELASTIC_RUN_ID" in os.environ:
        failures, total = _of_all(failures, rank, world), len(videos)
    if failures:
        raise ExtractionError(failures, total, task.folder)
    undone = {video.id for video in missing}
    return Done(
        folder=task.folder,
        made=tuple(video.id for video in missing),
        skipped=tuple(video.id for video in share if video.id not in undone),
        segments=sum(len(features.read(task.folder, video.id)) for video in share),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A backbone that a worker can make for itself."""

    name: str
    device: str
    weights: Path | None
    engine: EngineName
    threads: int | None = None

    def create(self) -> Backbone:
        from monitor.features import backbone

        return backbone.create(self.name, self.device, self.weights, self.engine, threads=self.threads)

    def fingerprint(self) -> str:
        """As of the backbone, without making one."""
        from monitor.features import backbone, weights
        from monitor.features.tensors import tensors_sha256

        return backbone.recipe(self.name).fingerprint(tensors_sha256(weights.load(self.name, self.weights)))

    @property
    def dimensions(self) -> int:
        from monitor.features import backbone

        return backbone.recipe(self.name).dimensions


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What is to be made of every video."""

    data: Path
    folder: Path
    extraction: Extraction
    as_float16: bool = False

    @classmethod
    def of(cls, data: Path, root: Path, extraction: Extraction, *, as_float16: bool = False) -> _Task:
        """Claims the folder; FeatureError where it holds something else."""
        folder = folder_of(root, extraction)
        if not (folder / "extraction.json").is_file():
            # Several processes may begin at once, and any may be killed: the file appears whole or not at all.
            folder.mkdir(parents=True, exist_ok=True)
            part = folder / f".extraction.json.{os.getpid()}"
            part.write_text(json.dumps(dataclasses.asdict(extraction), indent=2) + "\n", encoding="utf-8")
            part.replace(folder / "extraction.json")
        extraction.check(folder)
        return cls(data=data, folder=folder, extraction=extraction, as_float16=as_float16)

    def has(self, video: Video) -> bool:
        """Whether its files are there and whole; damaged ones are made again."""
        if not (self.folder / f"{video.id}.npy").is_file():
            return False
        try:
            found = features.read(self.folder, video.id)
        except Exception:  # the many ways in which a file can be damaged
            return False
        shape = (len(self.extraction.crop_order), self.extraction.dimensions)
        return len(found) > 0 and found.times_N2 is not None and found.features_NCD.shape[1:] == shape

    def make(self, video: Video, backbone: Backbone) -> str | None:
        """Makes and keeps one video's features; None, or the reason why there are none."""
        try:
            path = self.data / video.path
            preprocessing = backbone.preprocessing
            drawn = drawn_for(path, preprocessing, self.extraction.crop_order)
            segments = segments_of_file(path, drawn, self.extraction.fps)
            found = of_segments(segments, backbone, self.extraction.crop_order)
            if len(found) == 0:
                return f"{video.path}: not one segment of 16 frames in it; take it off the list"
            if self.as_float16:
                found = dataclasses.replace(found, features_NCD=_halved(found.features_NCD))
            features.write(self.folder, video.id, found)
        except Exception as fault:  # whatever is wrong with one video, the others are not to suffer
            return str(fault) or type(fault).__name__
        return None


def drawn_for(path: Path, preprocessing: Preprocessing, crop_order: Sequence[str]) -> Preprocessing:
    """How a video's frames have to be drawn for these crops: as the backbone says, or larger."""
    if crop_order[0] not in _CORNERS:
        return preprocessing
    if preprocessing.fit == "stretch":
        width_px, height_px = (round(size * STRETCHED) for size in (preprocessing.width_px, preprocessing.height_px))
    else:
        with open_stream(ReaderSettings(name=str(path), url=str(path), fps=1.0)) as stream:
            width_px, height_px = size_before_crop(preprocessing, stream.width_px, stream.height_px)
    return dataclasses.replace(preprocessing, fit="stretch", width_px=width_px, height_px=height_px, short_side_px=None)


def crop(pictures_KHWC: Pictures, name: str, height_px: int, width_px: int) -> Pictures:
    """(K, h, w, 3) the crop of that name, a view."""
    if name == "whole":
        return pictures_KHWC
    mirrored_KHWC = pictures_KHWC[:, :, ::-1]
    if name == "mirrored whole":
        return mirrored_KHWC
    from_KHWC = mirrored_KHWC if name.endswith(_OF_MIRRORED) else pictures_KHWC
    down, right = _CORNERS[name.removesuffix(_OF_MIRRORED)]
    top = round((from_KHWC.shape[1] - height_px) * down)
    left = round((from_KHWC.shape[2] - width_px) * right)
    return from_KHWC[:, top : top + height_px, left : left + width_px]


def of_segments(segments: Iterable[Segment], backbone: Backbone, crop_order: Sequence[str] = CROPS[1]) -> Features:
    """Features of one video's segments; those the reader calls invalid are left out, as in the monitor.

    The segments' pictures are drawn as ``drawn_for`` says; motion is that of the whole drawn picture.
    """
    kept = (segment for segment in segments if segment.pictures is not None)
    at_once = max(1, AT_ONCE // len(crop_order)) if backbone.device.type == "cuda" else 1
    height_px, width_px = backbone.preprocessing.height_px, backbone.preprocessing.width_px
    encoded: list[Floats] = []
    motion: list[Floats] = []
    times: list[tuple[float, float]] = []
    while batch := list(islice(kept, at_once)):
        pictures_XKHWC: list[Pictures] = []
        for segment in batch:
            assert segment.pictures is not None  # noqa: S101 - for mypy: chosen so above
            pictures_XKHWC += [crop(segment.pictures, name, height_px, width_px) for name in crop_order]
            motion.append(motion_energy(segment.pictures))
            times.append((segment.start_s, segment.end_s))
        features_XD = backbone.encode(np.stack(pictures_XKHWC)).cpu().numpy()
        encoded.append(features_XD.reshape(len(batch), len(crop_order), backbone.dimensions))
    empty = np.empty((0, len(crop_order), backbone.dimensions), np.float32)
    return Features(
        features_NCD=np.concatenate(encoded).astype(np.float32) if encoded else empty,
        motion_NM=np.array(motion, dtype=np.float32).reshape(-1, MOTION),
        times_N2=np.array(times, dtype=np.float32).reshape(-1, 2),
    )


def _halved(features_NCD: npt.NDArray[np.floating]) -> npt.NDArray[np.float16]:
    largest = float(np.abs(features_NCD).max())
    if not largest <= float(np.finfo(np.float16).max):
        raise FeatureError(f"a feature of {largest:g} does not fit into float16; keep float32")
    return features_NCD.astype(np.float16)


def _by_workers(
    videos: Sequence[Video], task: _Task, wanted: _Wanted, workers: int
) -> Iterator[tuple[Video, str | None]]:
    """(video, None or why it failed), in order of completion.

    A process that dies (memory, a crash within libav) takes the whole pool along, and nobody says with which video:
    those under way are tried again at the end, each in a process of its own.
    """
    wanted = dataclasses.replace(wanted, threads=max(1, cpu_threads() // workers))
    waiting, suspects = list(reversed(videos)), []
    under_way: dict[Future[str | None], Video] = {}
    pool = _pool(task, wanted, workers)
    try:
        while waiting or under_way:
            broken = False
            # No more than there are processes: what was under way is then known when one dies.
            while waiting and len(under_way) < workers and not broken:
                try:
                    under_way[pool.submit(_make, waiting[-1])] = waiting[-1]
                    waiting.pop()
                except BrokenProcessPool:
                    broken = True
            for done in wait(under_way, return_when=FIRST_COMPLETED).done:
                video = under_way.pop(done)
                if isinstance(done.exception(), BrokenProcessPool):
                    suspects.append(video)
                    broken = True
                else:
                    yield video, done.result()
            if broken:
                suspects += under_way.values()
                under_way.clear()
                pool.shutdown(cancel_futures=True)
                pool = _pool(task, wanted, workers)
        for video in suspects:
            with _pool(task, wanted, 1) as alone:
                try:
                    reason = alone.submit(_make, video).result()
                except BrokenProcessPool:
                    reason = f"{task.data / video.path}: the process died at it (out of memory, or its decoder crashed)"
            yield video, reason
    finally:
        pool.shutdown(cancel_futures=True)


def _pool(task: _Task, wanted: _Wanted, workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin, initargs=(task, wanted))


_of_worker: list[tuple[_Task, Backbone]] = []
"""In a worker: what it does, and with which backbone."""


def _begin(task: _Task, wanted: _Wanted) -> None:
    import torch

    threading.Thread(target=_end_with_parent, daemon=True).start()
    if wanted.threads is not None:
        torch.set_num_threads(wanted.threads)
    _of_worker.append((task, wanted.create()))


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for ever, or write beside the next attempt."""
    parent = parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _make(video: Video) -> str | None:
    ((task, backbone),) = _of_worker
    return task.make(video, backbone)


def _of_all(failures: Mapping[str, str], rank: int, world: int) -> dict[str, str]:
    """The failures of all processes of torchrun for the first, none for the others, when all are done.

    A store of strings in torchrun's own process is all it takes; torchrun would end the others at the first failure.
    """
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(iter(rendezvous("env://")))
    store.set(f"extract/{rank}", json.dumps(failures))
    keys = [f"extract/{other}" for other in range(world)]
    store.wait(keys, timedelta(days=100))
    if rank > 0:
        return {}
    return {key: reason for each in keys for key, reason in json.loads(store.get(each)).items()}


def _progress(items: Iterable[Any], label: str, *, of: int, missing: int | None = None, line: int = 0) -> Iterable[Any]:
    """A bar on a terminal; it begins at what was there already."""
    from tqdm import tqdm

    todo = len(items) if isinstance(items, Sequence) else missing or 0
    bar: Iterable[Any] = tqdm(
        items, desc=label, unit="video", total=of, initial=of - todo, position=line, disable=None, dynamic_ncols=True
    )
    return bar


MOTION = 6


def motion_energy(pictures_KHWC: Pictures) -> Floats:
    """(6,) how much a segment's pictures change, for the floor that looks at nothing else.

    Mean, sd, 90th and 99th percentile of the absolute grey difference, the share above 25 and the mean of the
    liveliest sixteenth of the picture.
    """
    grey_KHW = pictures_KHWC[:, ::2, ::2].astype(np.float32).mean(axis=-1)
    change_KHW = np.abs(np.diff(grey_KHW, axis=0))
    height, width = (size // 4 * 4 for size in change_KHW.shape[1:])
    tiles = change_KHW[:, :height, :width].reshape(-1, 4, height // 4, 4, width // 4).mean(axis=(0, 2, 4))
    percentiles = np.percentile(change_KHW, (90, 99))
    return np.array(
        [change_KHW.mean(), change_KHW.std(), *percentiles, (change_KHW > 25).mean(), tiles.max()],
        dtype=np.float32,
    )
