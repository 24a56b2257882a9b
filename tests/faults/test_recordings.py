"""Damaged recordings, many at once, from a seed: what is whole is scored, what is not is named, nothing crashes."""

from __future__ import annotations

import csv
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.faults.results import Row, record
from tests.monitor.ingest.conftest import write_clip

SEED = 20261123
FLIPPED, TRUNCATED = 6, 4
STAMPS: dict[str, Callable[[int], int]] = {
    "jump": lambda index: index + (900 if index >= 40 else 0),
    "hole": lambda index: index + (60 if index >= 40 else 0),
    "slow": lambda index: index * 3,
}


def damaged(folder: Path) -> list[Path]:
    """Truncated and bit-flipped copies of a good recording, and recordings with strange time stamps."""
    chance = random.Random(SEED)
    whole = write_clip(folder / "whole.mkv", frames=90, size_px=(160, 96))
    good = whole.read_bytes()
    files = [whole]
    for number in range(TRUNCATED):
        file = folder / f"truncated-{number}.mkv"
        file.write_bytes(good[: chance.randrange(1, len(good))])
        files.append(file)
    for number in range(FLIPPED):
        bytes_ = bytearray(good)
        for _ in range(chance.choice((1, 10, 100))):
            bytes_[chance.randrange(len(bytes_))] ^= 1 << chance.randrange(8)
        file = folder / f"flipped-{number}.mkv"
        file.write_bytes(bytes_)
        files.append(file)
    files += [
        write_clip(folder / f"{name}.mkv", frames=90, size_px=(160, 96), stamps=stamps)
        for name, stamps in STAMPS.items()
    ]
    raw = folder / "no-stamps.h264"  # an elementary stream has none
    files.append(write_clip(raw, frames=90, size_px=(160, 96)))
    back = folder / "backward.ts"  # two recordings behind each other: their stamps begin anew
    half = write_clip(folder / "half.ts", frames=45, size_px=(160, 96)).read_bytes()
    back.write_bytes(half + half)
    return [*files, back]


@pytest.mark.slow
def test_damaged_recordings_crash_nothing_and_the_good_one_is_scored_whole(tmp_path: Path) -> None:
    files = damaged(tmp_path)
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "monitor", "replay", *map(str, files), "--out", str(tmp_path / "out"), "--no-pictures"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode in (0, 1), said
    assert "Traceback" not in said, said
    assert "crashed the reader" not in said, said
    with (tmp_path / "out" / "scores.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    scored: dict[str, int] = {}
    for row in rows:
        name = Path(row["file"]).name
        scored[name] = scored.get(name, 0) + bool(row["score"])
        assert not row["score"] or 0 <= float(row["score"]) <= 1
    whole = scored["whole.mkv"]
    assert whole == 6
    for name in ("no-stamps.h264", "backward.ts"):
        assert scored.get(name, 0) >= 3, (name, said)
    for name in ("jump.mkv", "hole.mkv", "slow.mkv"):
        assert scored.get(name, 0) >= 3, (name, said)
    named = sum(1 for line in done.stderr.splitlines() if "truncated-" in line or "flipped-" in line)
    record(
        Row(
            fault=f"{TRUNCATED} truncated, {FLIPPED} bit-flipped files; stamps missing, jumping, backward",
            seen=f"{named} named as unreadable or broken off; else invalid segments with empty scores",
            recovered_s=time.monotonic() - began_s,
        )
    )
