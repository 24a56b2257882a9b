"""What a soak must show: nothing due is lost, and its last part is like its first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

WARM_UP = 0.15
"""Share of the soak in which memory may still grow: engines allocate, recorders fill."""
PART = 0.3
"""Share of what comes after it that is the first part, and the last."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The last part's median may be ``times`` the first's ``plus`` something; ``unit`` is for people."""

    what: str
    times: float
    plus: float
    unit: str


BOUNDS = (
    # Not PSS: it steps by a hundred megabytes when any other process with the same libraries starts or ends.
    Bound("monitor_anonymous_mb", 1.10, 20.0, "MB"),
    Bound("readers_anonymous_mb", 1.10, 20.0, "MB"),
    Bound("monitor_rss_mb", 1.10, 20.0, "MB"),
    Bound("readers_rss_mb", 1.10, 20.0, "MB"),
    Bound("monitor_descriptors", 1.0, 4.0, ""),
    Bound("readers_descriptors", 1.0, 4.0, ""),
    Bound("monitor_threads", 1.0, 3.0, ""),
    Bound("readers_threads", 1.0, 4.0, ""),
    Bound("processes", 1.0, 1.0, ""),
)
LAG = Bound("lag_p95_s", 1.5, 1.0, "s")
"""Of alerts in calm; other work on the machine moves it, too."""
DROPPED_MORE = 0.02
"""Share of segments that the last part may have dropped beyond the first's share."""


def parts(samples: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    warm = list(samples[int(len(samples) * WARM_UP) :])
    length = max(1, int(len(warm) * PART))
    return warm[:length], warm[-length:]


def compared(samples: Sequence[dict[str, Any]], lags: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
    """Rows of ``{what, first, last, most, unit}``. ``lags``: (second of the soak, lag in s) of alerts in calm."""
    first, last = parts(samples)
    rows = []
    for bound in BOUNDS:
        before, after = (median(one[bound.what] for one in part) for part in (first, last))
        rows.append(_row(bound, before, after))
    early, late = (
        p95([lag for at_s, lag in lags if part[0]["at_s"] <= at_s <= part[-1]["at_s"]]) for part in (first, last)
    )
    if early is not None and late is not None:
        rows.append(_row(LAG, early, late))
    before, after = (share_dropped(part) for part in (first, last))
    rows.append(_row(Bound("dropped_share", 1.0, DROPPED_MORE, ""), before, after))
    return rows


def _row(bound: Bound, first: float, last: float) -> dict[str, Any]:
    most = first * bound.times + bound.plus
    return {"what": bound.what, "first": first, "last": last, "most": most, "unit": bound.unit}


def share_dropped(part: Sequence[dict[str, Any]]) -> float:
    """Of the segments made from the part's first sample to its last."""
    made = part[-1]["segments_total"] - part[0]["segments_total"]
    dropped = sum(part[-1][key] - part[0].get(key, 0.0) for key in part[-1] if key.startswith("dropped: "))
    return float(dropped / made) if made else 0.0


def p95(values: Sequence[float]) -> float | None:
    return sorted(values)[int(0.95 * (len(values) - 1))] if len(values) >= 10 else None


def problems(result: dict[str, Any]) -> list[str]:
    """Sentences; none: it is passed."""
    found = [
        f"{row['what']} went from {row['first']:.4g} to {row['last']:.4g} {row['unit']}, above {row['most']:.4g}"
        for row in result["compared"]
        if row["last"] > row["most"]
    ]
    alerts = result["alerts"]
    if alerts["delivered"] != alerts["due"]:
        found.append(f"of {alerts['due']} alert messages due {alerts['delivered']} were delivered")
    found += alerts["problems"]
    if result["not_well"]:
        found.append(f"in the end not watched: {', '.join(result['not_well'])}")
    if result["exit_code"] != 0:
        found.append(f"the monitor ended with {result['exit_code']}")
    if result["left_behind"]:
        found.append(f"processes left behind: {result['left_behind']}")
    if max(one["zombies"] for one in result["samples"]) > 1:
        found.append("zombies gathered")  # one may be seen between a reader's end and its burial
    return found
