"""What each fault did, in figures: ``.bench/faults.json``; ``python -m tests.faults.results`` prints the table."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.conftest import ROOT

FILE = ROOT / ".bench" / "faults.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault. Times in seconds; None: it has none (nothing was to be noticed, or nothing ended)."""

    fault: str
    seen: str
    """What the operator sees: status, metric, log line."""
    detected_s: float | None = None
    detect_limit_s: float | None = None
    recovered_s: float | None = None
    recover_limit_s: float | None = None
    due: int = 0
    """Messages of alerts that were committed while it lasted."""
    delivered: int = 0
    duplicated: int = 0
    others_affected: int = 0
    """Cameras beside the faulty one (and its group mates, where a reader process went) that reconnected or learnt
    anew."""

    def check(self) -> None:
        """The promises that hold for every fault."""
        if self.detected_s is not None and self.detect_limit_s is not None:
            assert self.detected_s <= self.detect_limit_s, f"{self.fault}: noticed after {self.detected_s:.1f} s"
        if self.recovered_s is not None and self.recover_limit_s is not None:
            assert self.recovered_s <= self.recover_limit_s, f"{self.fault}: back after {self.recovered_s:.1f} s"
        assert self.delivered == self.due, f"{self.fault}: {self.due} due, {self.delivered} delivered"
        assert self.others_affected == 0, f"{self.fault}: {self.others_affected} other cameras were affected"


def record(row: Row, file: Path = FILE) -> None:
    """Keeps the row (the newest of each fault), then checks its promises: a broken one is in the file too."""
    rows = {one["fault"]: one for one in _rows(file)}
    rows[row.fault] = asdict(row)
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(list(rows.values()), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    row.check()


def table(file: Path = FILE) -> str:
    """Markdown."""
    lines = [
        "| fault | seen | noticed after (limit) | back after (limit) | due / delivered / twice | others |",
        "|---|---|---|---|---|---|",
    ]
    for row in _rows(file):
        cells = (
            row["fault"],
            row["seen"],
            _time(row["detected_s"], row["detect_limit_s"]),
            _time(row["recovered_s"], row["recover_limit_s"]),
            f"{row['due']} / {row['delivered']} / {row['duplicated']}",
            str(row["others_affected"]),
        )
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)


def _time(seconds: float | None, limit_s: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.1f} s" if limit_s is None else f"{seconds:.1f} s ({round(limit_s, 1):g})"


def _rows(file: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    return rows


if __name__ == "__main__":
    print(table())
