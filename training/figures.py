"""Pictures of results, each a function: matplotlib without a screen, SVG or PNG by the file's suffix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.evaluate import Labels, Scores
from training.joined import Point
from training.measure import Judged, runs


def accuracy_latency(points: Sequence[Point], to: Path, *, chosen: tuple[int, int], segment_s: float) -> None:
    """AUC within joined streams against the delay d, a line for each l; a ring around what is chosen (l, d)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    accuracy, waiting = figure.subplots(1, 2)
    for bag in sorted({point.bag for point in points}):
        line = sorted((point for point in points if point.bag == bag), key=lambda point: point.delay)
        delays_s = [point.delay * segment_s for point in line]
        accuracy.plot(delays_s, [point.within_auc for point in line], "o-", label=f"l = {bag}")
        waiting.plot([point.latency_s for point in line], [point.found for point in line], "o-", label=f"l = {bag}")
        for point in line:
            if (point.bag, point.delay) == chosen:
                ring = {"s": 180, "facecolors": "none", "edgecolors": "black"}
                accuracy.scatter([point.delay * segment_s], [point.within_auc], **ring)
                waiting.scatter([point.latency_s], [point.found], **ring)
    accuracy.set(xlabel="delay d, seconds (left: causal)", ylabel="AUC within streams")
    waiting.set(xlabel="median seconds from begin to crossing", ylabel="runs found (10 % of calm above)")
    accuracy.legend()
    accuracy.grid(alpha=0.3)
    waiting.grid(alpha=0.3)
    figure.suptitle("Joined streams (constructed), models that never saw the scene; ring: shipped")
    _save(figure, to)


def by_class(kinds: Sequence[str], of_class: Mapping[str, Sequence[float]], to: Path) -> None:
    """AUC of each class of anomaly (Fig. 4), bars of the methods side by side."""
    figure, axes = _axes(10, 3.4)
    width = 0.8 / len(of_class)
    for place, (name, values) in enumerate(of_class.items()):
        at = [index + (place - (len(of_class) - 1) / 2) * width for index in range(len(kinds))]
        axes.bar(at, [100 * value for value in values], width, label=name)
    axes.set_xticks(range(len(kinds)), kinds, rotation=30, ha="right")
    axes.set(ylabel="frame AUC %, the class's own videos")
    axes.axhline(50, color="#888888", lw=0.8, ls=":")
    axes.legend(loc="lower right")
    _save(figure, to)


def against_length(
    lengths: Sequence[int], curves: Mapping[str, Sequence[float]], to: Path, *, title: str, ylabel: str = "frame AUC %"
) -> None:
    """AUC against the length l of the bags at test (Figs. 5 and 6); a ring around each curve's best point."""
    figure, axes = _axes(6.5, 3.6)
    for name, values in curves.items():
        percent = [100 * value for value in values]
        (line,) = axes.plot(lengths, percent, "o-", ms=3, label=name)
        best = percent.index(max(percent))
        axes.scatter([lengths[best]], [percent[best]], s=110, facecolors="none", edgecolors=line.get_color())
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(lengths), [str(length) for length in lengths], fontsize=7)
    axes.minorticks_off()
    axes.set(xlabel="l, segments a bag", ylabel=ylabel, title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    _save(figure, to)


def score_curves(
    shown: Sequence[str], curves: Mapping[str, Mapping[str, Judged]], to: Path, *, every: Sequence[str]
) -> None:
    """Scores of each frame with bands where the truth is abnormal (Fig. 7); the last video with all methods."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.0 * len(shown)), layout="constrained")
    for place, (name, axes) in enumerate(zip(shown, figure.subplots(len(shown), 1, squeeze=False)[:, 0], strict=True)):
        for method, videos in curves.items():
            if method in every or place == len(shown) - 1:
                axes.plot(videos[name].scores_F, lw=1.6 if method in every else 0.9, label=method)
        truth_F = next(iter(curves.values()))[name].truth_F
        for number, (first, end) in enumerate(runs(truth_F)):
            axes.axvspan(
                first, end, color="#ee6677", alpha=0.25, lw=0, label="abnormal" if number == 0 else "_abnormal"
            )
        axes.set(ylim=(0, 1), xlim=(0, len(truth_F)), ylabel="score", title=name)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
    axes.set(xlabel="frame")
    _save(figure, to)


def reliability_and_curves(scored: Mapping[str, tuple[Labels, Scores]], to: Path, *, title: str) -> None:
    """Reliability (is a score of 0.8 right in eight of ten cases?), ROC and precision-recall, side by side."""
    import numpy as np
    from matplotlib.figure import Figure
    from sklearn import calibration, metrics

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    reliable, roc, precise = figure.subplots(1, 3)
    reliable.plot([0, 1], [0, 1], color="#888888", lw=0.8, ls=":")
    roc.plot([0, 1], [0, 1], color="#888888", lw=0.8, ls=":")
    for name, (labels, scores) in scored.items():
        true, predicted = calibration.calibration_curve(labels, np.clip(scores, 0, 1), n_bins=10, strategy="quantile")
        reliable.plot(predicted, true, "o-", ms=3, label=name)
        wrong, right, _ = metrics.roc_curve(labels, scores)
        roc.plot(wrong, right, label=f"{name}, {metrics.auc(wrong, right):.3f}")
        precision, recall, _ = metrics.precision_recall_curve(labels, scores)
        precise.plot(recall, precision, label=f"{name}, {metrics.average_precision_score(labels, scores):.3f}")
    reliable.set(xlabel="score", ylabel="share abnormal", title="reliability")
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC (AUC)")
    precise.set(xlabel="recall", ylabel="precision", title="precision-recall (AP)")
    for axes in (reliable, roc, precise):
        axes.set(xlim=(0, 1), ylim=(0, 1.01))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(title)
    _save(figure, to)


def _axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _save(figure: Any, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(to, dpi=110)
