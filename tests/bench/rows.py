"""What a benchmark says: rows of a value, its peer measured in the same run, and whether the target was met."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tests.conftest import ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. ``ratio`` is value / peer_value; the target is one of the ratio where there is a peer."""

    name: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    limit: str | None = None
    """What physics allows, or where the time goes, in words and figures."""
    target: float | None = None
    better: Literal["higher", "lower"] = "lower"

    @property
    def ratio(self) -> float | None:
        return None if not self.peer_value else self.value / self.peer_value

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        judged = self.value if self.ratio is None else self.ratio
        return judged <= self.target if self.better == "lower" else judged >= self.target


def kept(file: Path) -> str:
    """What ``write`` wrote, as the README shows it."""
    said = json.loads(file.read_text(encoding="utf-8"))
    rows = [Row(**{key: row[key] for key in row if key not in ("ratio", "met")}) for row in said["rows"]]
    return f"{said['machine']}, commit {said['commit']}:\n\n{table(rows)}"


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = ["| what | value | peer | ratio | limit | target | met |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        sign = "≤" if row.better == "lower" else "≥"
        cells = (
            row.name,
            f"{row.value:.4g} {row.unit}",
            "–" if row.peer is None else f"{row.peer}: {row.peer_value:.4g} {row.unit}",
            "–" if row.ratio is None else f"{row.ratio:.2f}",
            row.limit or "–",
            "–" if row.target is None else f"{sign} {row.target:g}",
            {None: "–", True: "yes", False: "**no**"}[row.met],
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(rows: Sequence[Row], out: Path, on: str, commit: str | None = None) -> None:
    """As JSON, with the machine (``machine()`` before the first row: a benchmark is a load itself) and the commit."""
    said = {
        "machine": on,
        "commit": commit
        or subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        ).stdout.strip(),
        "rows": [asdict(row) | {"ratio": row.ratio, "met": row.met} for row in rows],
    }  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def machine() -> str:
    """The processor, how many cores of it this process may use, and how loaded it was a minute ago."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return f"{model}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}"
