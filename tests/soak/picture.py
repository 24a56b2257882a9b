"""The soak at one look: memory, what is held, lag, alerts, cameras; the faults behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

COLOURS = {"server": "#4477aa", "reader": "#ee6677", "broker": "#228833", "packets": "#ccbb44"}
ELSE = "#aa3377"


def draw(path: Path, result: dict[str, Any]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    samples = result["samples"]
    minutes = [one["at_s"] / 60 for one in samples]

    def line(key: str) -> list[float]:
        return [one.get(key, float("nan")) for one in samples]

    figure, rows = plt.subplots(5, 1, figsize=(11, 12), sharex=True, layout="constrained")
    memory, held, lag, alerts, cameras = rows
    for of, colour in (("monitor", "#222222"), ("readers", "#66ccee")):
        memory.plot(minutes, line(f"{of}_rss_mb"), label=f"{of}, resident", color=colour)
        memory.plot(minutes, line(f"{of}_anonymous_mb"), "--", label=f"{of}, anonymous", color=colour)
    memory.set(ylabel="memory, MB", ylim=(0, None))
    for key, style in (("descriptors", "-"), ("threads", "--")):
        held.plot(minutes, line(f"monitor_{key}"), style, label=f"monitor's {key}", color="#222222")
        held.plot(minutes, line(f"readers_{key}"), style, label=f"readers' {key}", color="#66ccee")
    held.set(ylabel="held", ylim=(0, None))
    points = result["lags"]
    for calm, colour, label in ((False, "#bbbbbb", "in a fault or after one"), (True, "#222222", "in calm")):
        chosen = [(at_s / 60, lag_s) for at_s, lag_s, is_calm in points if is_calm is calm]
        lag.plot([x for x, _ in chosen], [y for _, y in chosen], ".", ms=2, label=label, color=colour)
    lag.set(ylabel="picture to\nsubscriber, s", yscale="log")
    alerts.plot(minutes, line("alerts_heard"), label="alert messages heard", color="#222222")
    waiting = alerts.twinx()
    waiting.plot(minutes, line("outbox_messages"), label="waiting in the outbox", color="#aa3377", lw=1)
    waiting.set(ylabel="waiting", ylim=(0, None))
    alerts.set(ylabel="alerts", ylim=(0, None))
    cameras.plot(minutes, line("up"), label="cameras up", color="#222222", drawstyle="steps-post")
    cameras.plot(minutes, line("processes"), label="processes", color="#66ccee", drawstyle="steps-post")
    cameras.set(ylabel="count", ylim=(0, None), xlabel="minutes")
    for axes in rows:
        for fault in result["faults"]:
            colour = COLOURS.get(fault["kind"].split()[0], ELSE)
            axes.axvspan(
                fault["at_s"] / 60, max(fault["over_s"], fault["at_s"] + 3) / 60, color=colour, alpha=0.3, lw=0
            )
        handles, labels = axes.get_legend_handles_labels()
        if axes is alerts:
            more = waiting.get_legend_handles_labels()
            handles, labels = handles + more[0], labels + more[1]
        axes.legend(handles, labels, loc="upper left", fontsize=8, ncols=2)
    patches = [Patch(color=colour, alpha=0.3, label=name) for name, colour in COLOURS.items()]
    figure.legend(
        handles=[*patches, Patch(color=ELSE, alpha=0.3, label="disk, configuration")],
        loc="outside upper center",
        ncols=5,
        title=f"{result['cameras']} cameras, {result['minutes']:g} minutes, seed {result['seed']}: faults",
    )
    figure.savefig(path, dpi=100)
    plt.close(figure)
