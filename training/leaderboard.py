"""``vad-train reproduce local``: what real clips and real features say, every table, by one resumable command.

Tables: held-out cameras (industrial and fights), transfer, joined streams, Ped2's weak split, PETS 2009. What is chosen
is chosen on inner folds; what stands in a table was judged on cameras that nothing saw.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from monitor.flow import FRAMES_PER_SEGMENT
from training import catalogue, datasets, evaluate, experiment, extract, figures, joined, local, measure, report, train
from training import features as feature_files
from training.catalogue import Video
from training.commit import commit
from training.experiment import Material, Plan
from training.features import Features
from training.local import Board
from training.truth import Truth

SETS = ("fights", "industrial")
Say = Callable[[str], None]
PETS_LENGTHS = (2, 4, 8, 16, 32)


def reproduce(
    data: Path,
    features: Path,
    results: Path,
    *,
    backbones: Sequence[str],
    seeds: Sequence[int],
    everything: bool,
    device: str,
    say: Say,
    note: Say,
) -> None:
    """Every table that the data are there for; runs that are there are not made again."""
    results.mkdir(parents=True, exist_ok=True)
    machine = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{platform.machine()}, CPU"
    done: dict[str, Any] = {"commit": commit(), "device": machine, "seeds": list(seeds)}
    say(f"commit {done['commit'][:12]}, {machine}, {len(seeds)} seeds; clips: cameras held out, 5 folds\n")
    for backbone in backbones:
        board = _board(data, features, results, backbone, seeds, everything, device, note)
        local.run(board)
        table = local.table(board)
        done[f"clips, {backbone}"] = table
        say(f"**Held-out cameras, {backbone}**\n\n{report.text(table)}\n")
        _curves(board, results / f"{backbone}-curves.png")
        moved = {name: local.transfer(board, parts) for name, parts in board.rows.items() if name in ("ours",)}
        done[f"transfer, {backbone}"] = {
            name: {way: [auc, interval.low, interval.high] for way, (auc, interval) in ways.items()}
            for name, ways in moved.items()
        }
        say(f"**Transfer, {backbone}**\n\n{_transfer(moved)}\n")
        points = _joined(board)
        done[f"joined, {backbone}"] = [
            [p.bag, p.delay, p.pooled_auc, p.within_auc, p.found, p.latency_s] for p in points
        ]
        say(f"**Joined streams (constructed), {backbone}, {board.rows.keys() & {'ours'} and 'ours'}**\n")
        say(f"{joined.table(points)}\n")
        _write(results / "results.json", done)
        if (data / "ped2").is_dir():
            done[f"ped2, {backbone}"] = _ped2(data, features, results, backbone, seeds, everything, device, say, note)
            _write(results / "results.json", done)
    if (data / "pets2009_i3d").is_dir():
        done["pets2009_i3d"] = _pets(data, results, seeds, everything, device, say, note)
    _write(results / "results.json", done)


def detectors(everything: bool) -> dict[str, train.DetectorRecipe]:
    return {**local.CORE, **local.PARTNERS} if everything else dict(local.CORE)


def ensembles(everything: bool) -> dict[str, dict[str, float]]:
    known = detectors(everything)
    return {name: parts for name, parts in local.ENSEMBLES.items() if parts.keys() <= known.keys()}


def _features(
    videos: Sequence[Video], data: Path, features: Path, backbone: str, device: str, fps: float
) -> dict[str, Features]:
    from monitor.features import backbone as backbones

    return extract.extract(videos, data, features, backbones.create(backbone, device), fps, mirrored=True)


def _board(
    data: Path,
    features: Path,
    results: Path,
    backbone: str,
    seeds: Sequence[int],
    everything: bool,
    device: str,
    note: Say,
) -> Board:
    videos = catalogue.local(data, SETS)
    encoder = "cpu" if not device.startswith("cuda") else device
    board = Board(
        backbone=backbone,
        videos=videos,
        features=_features(videos, data, features, backbone, encoder, 15.0),
        detectors=detectors(everything),
        ensembles=ensembles(everything),
        seeds=seeds,
        out=results / "runs",
        device=device,
        told=note,
    )
    if backbone != "effnet_lite0":
        # Only the default backbone's feature has two halves, looks and change.
        board = replace(board, candidates=tuple(c for c in board.candidates if c.look == 1.0))
    return board


def _curves(board: Board, to: Path) -> None:
    """Reliability, ROC and precision-recall of held-out clips, both sets together."""
    labels = catalogue.labels(board.videos)
    shown = [name for name in ("video_classifier", "bilstm_mil", "ours") if name in board.rows]
    scored: dict[str, tuple[evaluate.Labels, evaluate.Scores]] = {
        name: (labels, local.out_of_fold(board, board.rows[name])[0].mean(axis=0)) for name in shown
    }
    scored["logistic regression"] = (labels, local.floor_scores(board)["logistic regression"])
    figures.reliability_and_curves(
        scored, to, title=f"held-out cameras, {board.backbone}, fights and industrial together"
    )


def _transfer(moved: Mapping[str, Mapping[str, tuple[float, evaluate.Interval]]]) -> str:
    lines = ["| | learnt on → judged on | clip AUC [95 % of scenes] |", "|---|---|---|"]
    for name, ways in moved.items():
        lines += [f"| {name} | {way} | {auc:.3f} {interval} |" for way, (auc, interval) in ways.items()]
    return "\n".join(lines)


def _joined(board: Board) -> list[joined.Point]:
    """l against d for the ensemble, each stream by models that never saw its camera."""
    parts = board.rows["ours"]
    choice = local.choose(board, parts)
    made = joined.streams(board.videos, board.features)
    models: dict[int, list[train.Trained]] = {}

    def score(stream: joined.Stream, bag: int, delay: int) -> npt.NDArray[np.floating]:
        fold = stream.fold if stream.fold is not None else -1
        if fold not in models:
            learnt = [video for video in board.videos if video.fold != fold]
            recipe = local.recipe_of(board, board.candidates[choice.of_fold[fold]], parts)
            models[fold] = [train.train(learnt, board.features, recipe, seed, board.device) for seed in board.seeds[:2]]
        given = [
            train.publish(one, [stream.features_ND[:, None]], length=bag, stride=1, delay=delay)["ensemble"][0]
            for one in models[fold]
        ]
        mean_N: npt.NDArray[np.floating] = np.mean(given, axis=0)
        return mean_N

    segment_s = FRAMES_PER_SEGMENT / board.fps
    return [
        joined.point(made, score, bag=bag, delay=delay, segment_s=segment_s)
        for bag in (1, 2, 4, 8)
        for delay in sorted({0, bag // 2, bag - 1})
    ]


# -- sets with frame truth ---------------------------------------------------------------------------------------------


def _plan(
    seeds: Sequence[int], everything: bool, device: str, *, lengths: Sequence[int], stride: int | None, delay: int
) -> Plan:
    return Plan(
        detectors=detectors(everything),
        ensembles=ensembles(everything),
        seeds=seeds,
        lengths=lengths,
        protocols=("last",),
        stride=stride,
        delay=delay,
        standardised=True,
        device=device,
    )


def _ped2(
    data: Path,
    features: Path,
    results: Path,
    backbone: str,
    seeds: Sequence[int],
    everything: bool,
    device: str,
    say: Say,
    note: Say,
) -> Any:
    """Ped2's weak split, bags centred on the segment; its 10 frames a second are analysed as they are."""
    from training import truth

    videos = datasets.read("ped2", data / "ped2")
    found = _features(videos, data, features, backbone, "cpu", 10.0)
    built = truth.run("ped2", data / "ped2", results / "ped2_truth.npz")
    first = {video_id: replace(one, features_NCD=one.features_NCD[:, :1]) for video_id, one in found.items()}
    material = _material("Ped2", videos, first, built, fps=10.0)
    plan = _plan(seeds, everything, device, lengths=(5,), stride=1, delay=2)
    return _judge(material, plan, results / "runs" / f"ped2-{backbone}", f"Ped2, weak split, {backbone}", say, note)


def _material(
    name: str, videos: Sequence[Video], found: Mapping[str, Features], truth: Truth, *, fps: float
) -> Material:
    tested = tuple(video for video in videos if video.split == "test")
    return Material(
        name=name,
        learnt=tuple(video for video in videos if video.split == "train"),
        tested=tested,
        features=found,
        truth=truth.of(video.id for video in tested),
        fps=fps,
    )


def _judge(material: Material, plan: Plan, out: Path, title: str, say: Say, note: Say) -> Any:
    experiment.run(material, plan, out, note)
    found = experiment.results(material, plan, out, rounds=300)
    floor = regression(material)
    say(f"**{title}** ({material.truth.version})\n\n{experiment.text(material, found)}")
    say(
        f"| logistic regression, segments | | | {100 * measure.frame_auc(floor):.2f} | | "
        f"{100 * measure.frame_ap(floor):.2f} | {100 * measure.abnormal_auc(floor):.2f} | | |"
    )
    say(f"| a perfect video-level classifier | | | {100 * measure.video_level(floor):.2f} | | | 50.00 | | |\n")
    return experiment.as_json(material, plan, found) | {
        "logistic_regression": {"auc": measure.frame_auc(floor), "abnormal_auc": measure.abnormal_auc(floor)},
        "video_level": measure.video_level(floor),
    }


def regression(material: Material, c: float = 1e-3) -> list[measure.Judged]:
    """The floor: logistic regression that gives every training segment its video's label. C is fixed, not searched."""
    from training import floors

    rows = [np.asarray(material.features[v.id].features_NCD, dtype=np.float64).mean(1) for v in material.learnt]
    labels = np.repeat([video.label for video in material.learnt], [len(part) for part in rows])
    tested = np.concatenate(
        [np.asarray(material.features[v.id].features_NCD, dtype=np.float64).mean(1) for v in material.tested]
    )
    scores = floors.fit_and_score(np.concatenate(rows), labels, tested, c)
    return experiment.judged(material, scores.astype(np.float32))


def _pets(
    data: Path, results: Path, seeds: Sequence[int], everything: bool, device: str, say: Say, note: Say
) -> dict[str, Any]:
    """PETS 2009 with its published I3D features: both protocols, four views, l swept, and the four views' mean.

    The published splits share footage between train and test (``datasets``); the second table leaves those test videos
    out.
    """
    source = data / "pets2009_i3d"
    videos = datasets.read("pets2009_i3d", source)
    found = feature_files.load(source, videos)
    marks: dict[str, npt.NDArray[np.uint8]] = {}
    for path in sorted(source.glob("*_view?.npz")):
        marks |= feature_files.read_pets(path).frame_labels
    built = Truth(labels=marks)
    plan = _plan(seeds, everything, device, lengths=(8, *(n for n in PETS_LENGTHS if n != 8)), stride=None, delay=0)
    done: dict[str, Any] = {}
    lines = [
        "| PETS 2009 | protocol | detector | l | AUC % ± sd of seeds | abnormal videos | leaked videos left out |",
        "|---" * 7 + "|",
    ]
    curves: dict[str, list[float]] = {}
    for protocol in ("events", "s3"):
        views: list[tuple[Material, Path]] = []
        for view in (1, 2, 3, 4):
            of_view = [video for video in videos if video.source == f"{protocol}_view{view}"]
            material = _material(f"PETS {protocol} view {view}", of_view, found, built, fps=7.0)
            out = results / "runs" / f"pets-{protocol}-{view}"
            experiment.run(material, plan, out, note)
            views.append((material, out))
            floor = regression(material)
            done[material.name] = experiment.as_json(material, plan, experiment.results(material, plan, out, rounds=0))
            done[material.name]["logistic_regression"] = measure.frame_auc(floor)
            lines += _pets_lines(material, plan, out, f"{protocol}, view {view}", floor)
        lines += _four_views(views, plan, f"{protocol}, four views' mean")
        for name in ("video_classifier", "bilstm_mil", "ours"):
            curves[f"{protocol}: {name}"] = [
                float(np.mean([experiment.result(m, plan, o, name, "last", n, rounds=0).mean("auc") for m, o in views]))
                for n in PETS_LENGTHS
            ]
    figures.against_length(PETS_LENGTHS, curves, results / "pets-length.png", title="PETS 2009, mean of four views")
    say("\n".join(lines) + "\n")
    return done


def clean(material: Material) -> set[str]:
    """Test videos whose recording is in no training video (scene: the recording's time)."""
    learnt = {video.scene for video in material.learnt}
    return {video.id for video in material.tested if video.scene not in learnt}


def _pets_lines(material: Material, plan: Plan, out: Path, title: str, floor: Sequence[measure.Judged]) -> list[str]:
    kept = clean(material)
    lines = []
    for name in (*plan.detectors, *plan.ensembles):
        length = plan.lengths[0]
        one = experiment.result(material, plan, out, name, "last", length, rounds=0)
        parts = [
            experiment.judged(material, experiment.scores(plan, out, name, "last", length, seed)) for seed in plan.seeds
        ]
        aucs = [_auc_or_nan([v for v in part if v.id in kept]) for part in parts]
        lines.append(
            f"| {title} | last | {name} | {length} | {100 * one.mean('auc'):.1f} ± {100 * one.sd('auc'):.1f} "
            f"| {100 * one.mean('abnormal_auc'):.1f} | {100 * float(np.mean(aucs)):.1f} |"
        )
    without = _auc_or_nan([video for video in floor if video.id in kept])
    lines.append(
        f"| {title} | | logistic regression, segments | | {100 * measure.frame_auc(floor):.1f} "
        f"| {100 * measure.abnormal_auc(floor):.1f} | {100 * without:.1f} |"
    )
    lines.append(
        f"| {title} | | a perfect video-level classifier | | {100 * measure.video_level(floor):.1f} | 50.0 | |"
    )
    return lines


def _auc_or_nan(judged: Sequence[measure.Judged]) -> float:
    marks = np.concatenate([video.truth_F for video in judged])
    return measure.frame_auc(judged) if 0 < marks.sum() < len(marks) else float("nan")


def _four_views(views: Sequence[tuple[Material, Path]], plan: Plan, title: str) -> list[str]:
    """The mean of the four cameras' scores of one moment, judged by each view's own truth, averaged."""
    lines = []
    for name in (*plan.detectors, *plan.ensembles):
        length = plan.lengths[0]
        aucs, abnormal = [], []
        for seed in plan.seeds:
            scores = [experiment.scores(plan, out, name, "last", length, seed) for _, out in views]
            if len({len(one) for one in scores}) > 1:
                return [f"| {title} | | the views' videos differ in length: no mean | | | | |"]
            mean_S = np.mean(np.stack(scores), axis=0).astype(np.float32)
            of_view = [experiment.judged(material, mean_S) for material, _ in views]
            aucs.append(float(np.mean([measure.frame_auc(one) for one in of_view])))
            abnormal.append(float(np.mean([measure.abnormal_auc(one) for one in of_view])))
        spread = float(np.std(aucs, ddof=1)) if len(aucs) > 1 else float("nan")
        lines.append(
            f"| {title} | last | {name} | {length} | {100 * float(np.mean(aucs)):.1f} ± {100 * spread:.1f} "
            f"| {100 * float(np.mean(abnormal)):.1f} | |"
        )
    return lines


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, default=float) + "\n", encoding="utf-8")
