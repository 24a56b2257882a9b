"""Runs on one data set with frame truth: every detector × seed, kept in files; tables are made of what is there.

A run is a folder ``<out>/<detector>/seed-<k>/<whole | held-out>/`` with ``run.json`` (what was done; written last, so a
folder with it is done), ``looks.csv``, ``weights-<protocol>.safetensors`` and ``scores-<protocol>-l<l>.npy`` (published
segment scores of all test videos, one after another). A killed experiment goes on where it was.

V videos, S segments of all test videos together, F frames of a video.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch

from monitor.detectors.detector import Detector, make
from training import evaluate, fit, measure, resident, train, truth
from training.catalogue import Video
from training.commit import commit
from training.features import Features
from training.fit import Look, Precision
from training.measure import Judged
from training.objectives import OBJECTIVES
from training.reading import Reading
from training.train import DetectorRecipe
from training.truth import Truth

Scores = npt.NDArray[np.float32]

Protocol = Literal["last", "validation", "paper-test-selected"]
"""Whose weights are judged. ``last``: the last step's, nothing selected. ``validation``: the best on videos that were
held out of training. ``paper-test-selected``: the best **on the test videos themselves**, as the paper and nearly the
whole field have it; such a number is not an estimate of what new videos will see, and is never shown without its
stamp."""
PROTOCOLS: tuple[Protocol, ...] = ("last", "validation", "paper-test-selected")


class ExperimentError(ValueError):
    """An experiment that cannot be run or read, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Material:
    """What an experiment is made on."""

    name: str
    learnt: tuple[Video, ...]
    tested: tuple[Video, ...]
    features: Mapping[str, Features]
    truth: Truth
    """Of every test video."""
    headline: Literal["auc", "ap"] = "auc"
    sound: bool = False
    """Whether sound was joined on, which may cost a video its last segment."""
    fps: float = 30.0
    """Of the original videos: frames into hours."""

    @property
    def dimensions(self) -> int:
        return self.features[self.learnt[0].id].dimensions

    def versions(self) -> dict[str, str]:
        """What a result was learnt and judged by: sha256 of the lists, and the version of the frame truth."""
        lists = json.dumps([(v.id, v.label) for v in self.learnt] + [(v.id, v.label) for v in self.tested])
        return {
            "lists": hashlib.sha256(lists.encode()).hexdigest(),
            "truth": self.truth.of(video.id for video in self.tested).version,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is run on it."""

    detectors: Mapping[str, DetectorRecipe]
    ensembles: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Name → detectors and their weights in the mean (eq. 3)."""
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    lengths: Sequence[int] = (32,)
    """l of the bags at test. The first one is what weights are selected by."""
    protocols: Sequence[Protocol] = PROTOCOLS
    held_out: float = 0.125
    """Share of the training videos that ``validation`` judges by."""
    stride: int | None = None
    """None: l, the paper's inference."""
    delay: int = 0
    standardised: bool = False
    """Features standardised on the training videos; the paper takes them as they are."""
    precision: Precision = "float32"
    device: str = "cpu"
    resident: Literal["float32", "float16"] = "float32"
    """How features are kept on the device."""


def run(material: Material, plan: Plan, out: Path, told: Callable[[str], None] = lambda line: None) -> None:
    """Makes every run of the plan that is not there yet. ``told`` is given a line for each.

    Raises:
        ExperimentError: a folder holds a run of another recipe or other data.
    """
    out.mkdir(parents=True, exist_ok=True)
    _write_json(out / "videos.json", [[video.id, len(material.features[video.id])] for video in material.tested])
    missing = [job for job in _jobs(plan, out) if not _done(job, material, plan)]
    if not missing:
        return
    bench = _Bench(material, plan)
    for job in missing:
        told(f"{material.name}: {job.detector}, seed {job.seed}, {job.part}")
        bench.make(job)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    detector: str
    seed: int
    part: Literal["whole", "held-out"]
    protocols: tuple[Protocol, ...]
    folder: Path


def _jobs(plan: Plan, out: Path) -> Iterator[_Job]:
    of_part: dict[Literal["whole", "held-out"], tuple[Protocol, ...]] = {
        "whole": tuple(p for p in plan.protocols if p != "validation"),
        "held-out": tuple(p for p in plan.protocols if p == "validation"),
    }
    for seed in plan.seeds:
        for name in plan.detectors:
            for part, protocols in of_part.items():
                if protocols:
                    folder = out / name / f"seed-{seed}" / part
                    yield _Job(detector=name, seed=seed, part=part, protocols=protocols, folder=folder)


def _said(job: _Job, material: Material, plan: Plan) -> dict[str, Any]:
    """What must be equal for a run to be the one that is wanted."""
    recipe = plan.detectors[job.detector]
    return {
        "data": material.name,
        **material.versions(),
        "kind": recipe.kind,
        "arguments": recipe.arguments,
        "schedule": asdict(recipe.schedule_of()),
        "seed": job.seed,
        "part": job.part,
        "held_out": plan.held_out if job.part == "held-out" else 0.0,
        "standardised": plan.standardised,
        "precision": plan.precision,
        "stride": plan.stride,
        "delay": plan.delay,
    }


def _done(job: _Job, material: Material, plan: Plan) -> bool:
    kept = job.folder / "run.json"
    if not kept.is_file():
        return False
    held = json.loads(kept.read_text(encoding="utf-8"))
    wanted = json.loads(json.dumps(_said(job, material, plan)))
    other = [key for key, value in wanted.items() if held.get(key) != value]
    if other:
        raise ExperimentError(
            f"{job.folder} holds a run with another {other[0]} ({held.get(other[0])!r}, wanted {wanted[other[0]]!r}); "
            "choose another folder, or delete it"
        )
    files = [f"scores-{protocol}-l{length}.npy" for protocol in job.protocols for length in plan.lengths]
    return all((job.folder / file).is_file() for file in files)


class _Bench:
    """Features on the device, shared by all runs."""

    def __init__(self, material: Material, plan: Plan) -> None:
        self._material, self._plan = material, plan
        self._dtype = torch.float16 if plan.resident == "float16" else torch.float32
        self._mean_sd = standardisation(material) if plan.standardised else None
        self._test = self._videos(material.tested)
        self._readings: dict[int, Reading] = {}
        self._placed: dict[tuple[int, int | None], resident.Resident] = {}
        self._counts = segment_counts(material)

    def _videos(self, videos: Sequence[Video]) -> list[npt.NDArray[np.floating]]:
        found: list[npt.NDArray[np.floating]] = [self._material.features[video.id].features_NCD for video in videos]
        if self._mean_sd is not None:
            mean_D, sd_D = self._mean_sd
            found = [(np.asarray(video, dtype=np.float32) - mean_D) / sd_D for video in found]
        return found

    def _reading(self, length: int) -> Reading:
        if length not in self._readings:
            self._readings[length] = self._read(self._test, length)
        return self._readings[length]

    def _read(self, videos: Sequence[npt.NDArray[np.floating]], length: int) -> Reading:
        plan = self._plan
        return Reading(
            videos, length=length, stride=plan.stride, delay=plan.delay, device=plan.device, dtype=self._dtype
        )

    def _place(self, segments: int, seed: int | None) -> tuple[resident.Resident, list[Video]]:
        """Training videos on the device, and those held out by this seed (none for None)."""
        learnt, kept = (list(self._material.learnt), []) if seed is None else self._split(seed)
        key = (segments, seed)
        if key not in self._placed:
            self._placed = {k: v for k, v in self._placed.items() if k[1] is None}  # one split at a time
            labels = np.array([video.label for video in learnt])
            self._placed[key] = resident.place(
                self._videos(learnt), labels, segments, self._plan.device, dtype=self._dtype
            )
        return self._placed[key], kept

    def _split(self, seed: int) -> tuple[list[Video], list[Video]]:
        return hold_out(self._material.learnt, self._plan.held_out, seed)

    def make(self, job: _Job) -> None:
        """Trains what is not trained, and scores what is not scored."""
        if not (job.folder / "run.json").is_file():
            self._train(job)
        for protocol in job.protocols:
            for length in self._plan.lengths:
                kept = job.folder / f"scores-{protocol}-l{length}.npy"
                if not kept.is_file():
                    scores_S = self._reading(length).scores(self._trained(job, protocol))
                    _save(kept, scores_S.cpu().numpy().astype(np.float32))

    def _trained(self, job: _Job, protocol: Protocol) -> Detector:
        network = self._fresh(job)
        network.load_state_dict(safetensors.torch.load_file(job.folder / f"weights-{protocol}.safetensors"))
        return network.eval()

    def _fresh(self, job: _Job) -> Detector:
        recipe = self._plan.detectors[job.detector]
        torch.manual_seed(job.seed)
        dimensions = self._material.dimensions
        return make(recipe.kind, {"dimensions": dimensions, **recipe.arguments}).to(self._plan.device)

    def _train(self, job: _Job) -> None:
        plan, recipe = self._plan, self._plan.detectors[job.detector]
        schedule = recipe.schedule_of()
        placed, kept = self._place(schedule.segments, job.seed if job.part == "held-out" else None)
        network = self._fresh(job)
        evaluations: Callable[[Detector], dict[str, float]] = nothing
        if job.part == "held-out":
            reading = self._read(self._videos(kept), plan.lengths[0])
            labels = np.array([video.label for video in kept])

            def on_held_out(network: Detector) -> dict[str, float]:
                return {"validation": evaluate.rank_auc(labels, reading.highest(reading.scores(network)))}

            evaluations = on_held_out
        elif "paper-test-selected" in job.protocols:
            whole = self._reading(plan.lengths[0])

            def on_test(network: Detector) -> dict[str, float]:
                return {"paper-test-selected": self._headline(whole.scores(network).cpu().numpy())}

            evaluations = on_test
        job.folder.mkdir(parents=True, exist_ok=True)
        with _board(job.folder) as told:
            fitted = fit.fit(
                network,
                placed,
                OBJECTIVES[recipe.kind],
                schedule,
                job.seed,
                evaluate=evaluations,
                saved=job.folder / "state.pt",
                precision=plan.precision,
                told=told,
            )
        steps = {}
        for protocol in job.protocols:
            measured = None if protocol == "last" else protocol
            chosen = fitted.select(measured)
            steps[protocol] = schedule.steps if measured is None else fitted.best[measured][0]
            safetensors.torch.save_file(
                {key: tensor.cpu().contiguous() for key, tensor in chosen.state_dict().items()},
                job.folder / f"weights-{protocol}.safetensors",
            )
        _write_looks(job.folder / "looks.csv", fitted.looks)
        about = {"selected_step": steps, "commit": commit(), "torch": torch.__version__, "device": _device(plan.device)}
        _write_json(job.folder / "run.json", _said(job, self._material, plan) | about)
        (job.folder / "state.pt").unlink(missing_ok=True)

    def _headline(self, scores_S: Scores) -> float:
        of = measure.counted_auc if self._material.headline == "auc" else measure.counted_ap
        return of(scores_S, *self._counts)


def nothing(network: Detector) -> dict[str, float]:
    """The protocol ``last`` looks at nothing."""
    return {}


def segment_counts(material: Material) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(S,) abnormal and normal frames that each test segment's score stands for."""
    abnormal, normal = [], []
    for video in material.tested:
        segments = len(material.features[video.id])
        marks_F = material.truth.labels[video.id]
        places = np.arange(segments, dtype=np.float64)
        segment_F = truth.frame_scores(places, len(marks_F), video_id=video.id, sound=material.sound).astype(np.int64)
        ones = np.bincount(segment_F, weights=marks_F, minlength=segments).astype(np.int64)
        abnormal.append(ones)
        normal.append(np.bincount(segment_F, minlength=segments) - ones)
    return np.concatenate(abnormal), np.concatenate(normal)


def hold_out(videos: Sequence[Video], share: float, seed: int) -> tuple[list[Video], list[Video]]:
    """(learnt, held out): about ``share`` of each label's videos, whole scenes where both labels stay on both sides.

    Where scenes cannot be parted so (one camera alone), single videos are.
    """
    for by_scene in (True, False):
        groups: dict[str, list[Video]] = {}
        for video in videos:
            groups.setdefault(video.scene if by_scene else video.id, []).append(video)
        names = sorted(groups)
        wanted = [share * sum(video.label == label for video in videos) for label in (0, 1)]
        kept: list[Video] = []
        for index in np.random.default_rng((seed, 12)).permutation(len(names)):
            group = groups[names[index]]
            have = [sum(video.label == label for video in kept) for label in (0, 1)]
            more = [sum(video.label == label for video in group) for label in (0, 1)]
            # A group comes in while it brings what is missing and does not bring far too much of anything.
            if any(m and h < w for m, h, w in zip(more, have, wanted, strict=True)) and all(
                h + m <= max(1.0, 1.5 * w) or not m for m, h, w in zip(more, have, wanted, strict=True)
            ):
                kept += group
        held = {video.id for video in kept}
        learnt = [video for video in videos if video.id not in held]
        if {video.label for video in kept} == {0, 1} == {video.label for video in learnt}:
            return learnt, kept
    raise ExperimentError("too few videos to hold some of both labels out; use the protocol last")


# -- what the runs say -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """A detector or an ensemble, under one protocol, at one l: each seed's measures, and what they say together."""

    name: str
    protocol: Protocol
    length: int
    seeds: tuple[dict[str, float], ...]
    interval: tuple[float, float] | None
    """Bootstrap over test videos, of the seeds' mean score."""

    def mean(self, key: str) -> float:
        return float(np.mean([seed[key] for seed in self.seeds]))

    def sd(self, key: str) -> float:
        return float(np.std([seed[key] for seed in self.seeds], ddof=1)) if len(self.seeds) > 1 else float("nan")


def scores(plan: Plan, out: Path, name: str, protocol: Protocol, length: int, seed: int) -> Scores:
    """(S,) published scores of a detector, or an ensemble's weighted mean of its detectors'.

    Raises:
        ExperimentError: the run is not there.
    """
    weights = plan.ensembles.get(name, {name: 1.0})
    parts: dict[str, torch.Tensor] = {}
    part = "held-out" if protocol == "validation" else "whole"
    for detector in weights:
        kept = out / detector / f"seed-{seed}" / part / f"scores-{protocol}-l{length}.npy"
        if not kept.is_file():
            raise ExperimentError(f"{kept} is missing: run the experiment first")
        parts[detector] = torch.from_numpy(np.load(kept, allow_pickle=False))
    mean: Scores = train.weighted_mean(parts, weights).numpy().astype(np.float32)
    return mean


def judged(material: Material, scores_S: Scores) -> list[Judged]:
    """Every test video with the score of each frame: its segment's, repeated (the paper, section 4)."""
    ends = np.cumsum([len(material.features[video.id]) for video in material.tested])
    found = []
    for video, scores_N in zip(material.tested, np.split(scores_S, ends[:-1]), strict=True):
        marks_F = material.truth.labels[video.id]
        scores_F = truth.frame_scores(scores_N, len(marks_F), video_id=video.id, sound=material.sound)
        found.append(Judged(id=video.id, label=video.label, truth_F=marks_F, scores_F=scores_F, kind=video.kind))
    return found


def result(
    material: Material, plan: Plan, out: Path, name: str, protocol: Protocol, length: int, *, rounds: int = 1000
) -> Result:
    """The measures of every seed, and the headline's interval over videos (none for ``rounds`` 0)."""
    of_seed = [scores(plan, out, name, protocol, length, seed) for seed in plan.seeds]
    interval = None
    if rounds:
        found = measure.interval(
            judged(material, np.mean(of_seed, axis=0, dtype=np.float32)), material.headline, rounds=rounds
        )
        interval = (found.low, found.high)
    return Result(
        name=name,
        protocol=protocol,
        length=length,
        seeds=tuple(measure.all_of(judged(material, one), fps=material.fps) for one in of_seed),
        interval=interval,
    )


def results(material: Material, plan: Plan, out: Path, *, rounds: int = 1000) -> list[Result]:
    """Every detector and ensemble × protocol × l of the plan."""
    return [
        result(material, plan, out, name, protocol, length, rounds=rounds)
        for name in (*plan.detectors, *plan.ensembles)
        for protocol in plan.protocols
        for length in plan.lengths
    ]


def as_json(material: Material, plan: Plan, found: Sequence[Result]) -> dict[str, Any]:
    """A result file: which data, which truth, which protocol, which seeds, which commit, and every number."""
    return {
        "data": material.name,
        **material.versions(),
        "frames": int(sum(len(material.truth.labels[video.id]) for video in material.tested)),
        "headline": material.headline,
        "commit": commit(),
        "device": _device(plan.device),
        "results": [
            {
                "name": one.name,
                "protocol": one.protocol,
                "length": one.length,
                "seeds": dict(zip(map(str, plan.seeds), one.seeds, strict=True)),
                "mean": {key: one.mean(key) for key in one.seeds[0]},
                "sd": {key: one.sd(key) for key in one.seeds[0]},
                "interval": one.interval,
            }
            for one in found
        ],
    }


def text(material: Material, found: Sequence[Result]) -> str:
    """The results as a Markdown table; the headline first, in percent."""
    head = "AUC" if material.headline == "auc" else "AP"
    keys = [material.headline, "auc" if material.headline == "ap" else "ap", "abnormal_auc"]
    lines = [
        f"| {material.name} | protocol | l | {head} % ± sd of seeds | 95 % over videos "
        f"| {'AUC' if head == 'AP' else 'AP'} | AUC, abnormal videos | false alarms an hour | event F1 |",
        "|---" * 9 + "|",
    ]
    for one in found:
        values = [f"{100 * one.mean(key):.2f}" for key in keys]
        low_high = "" if one.interval is None else f"[{100 * one.interval[0]:.1f}, {100 * one.interval[1]:.1f}]"
        spread = "" if len(one.seeds) == 1 else f" ± {100 * one.sd(keys[0]):.2f}"
        lines.append(
            f"| {one.name} | {one.protocol} | {one.length} | {values[0]}{spread} | {low_high} | {values[1]} "
            f"| {values[2]} | {one.mean('false_alarms_per_hour'):.1f} | {one.mean('event_f1'):.2f} |"
        )
    return "\n".join(lines)


# -- files -------------------------------------------------------------------------------------------------------------


def weights(out: Path, detector: str, protocol: Protocol, seed: int) -> dict[str, torch.Tensor]:
    """The tensors of a run. Raises ExperimentError where it is not there."""
    part = "held-out" if protocol == "validation" else "whole"
    kept = out / detector / f"seed-{seed}" / part / f"weights-{protocol}.safetensors"
    if not kept.is_file():
        raise ExperimentError(f"{kept} is missing: run the experiment first")
    return safetensors.torch.load_file(kept)


def standardisation(material: Material) -> tuple[Scores, Scores]:
    """(D,) mean and sd of the training videos' features, all crops."""
    total, squares, count = 0.0, 0.0, 0
    for video in material.learnt:
        values = np.asarray(material.features[video.id].features_NCD, dtype=np.float64).reshape(-1, material.dimensions)
        total, squares, count = total + values.sum(0), squares + (values**2).sum(0), count + len(values)
    mean = total / count
    sd = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return np.asarray(mean, dtype=np.float32), np.maximum(np.asarray(sd, dtype=np.float32), 1e-3)


@contextlib.contextmanager
def _board(folder: Path) -> Iterator[Callable[[Look], None]]:
    """TensorBoard's log of a run, where that package is there; else nothing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        yield lambda look: None
        return
    writer = SummaryWriter(str(folder / "board"))

    def tell(look: Look) -> None:
        writer.add_scalar("loss", look.loss, look.step)
        for name, value in look.measures.items():
            writer.add_scalar(name, value, look.step)

    try:
        yield tell
    finally:
        writer.close()


def _write_looks(path: Path, looks: Sequence[Look]) -> None:
    names = sorted({name for look in looks for name in look.measures})
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["step", "loss", *names])
        writer.writerows([look.step, look.loss, *(look.measures.get(name, "") for name in names)] for look in looks)


def _save(path: Path, scores_S: Scores) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.npy")
    np.save(part, scores_S)
    part.replace(path)


def _write_json(path: Path, content: Any) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def _device(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"
