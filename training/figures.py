"""Pictures of results, each a function: matplotlib without a screen, SVG or PNG by the file's suffix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.joined import Point


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
    to.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(to, dpi=110)
