"""``python -m tests.fuzz.media --files 10000 --seed 1``: damaged recordings through the real reader processes.

A reader that libav takes down is allowed: it must be put down to its file, and be replaced. The monitor's side (the
pool) must give each file its end, with every fault a sentence. Writes ``.bench/fuzz.json``; fails where that is not so.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monitor.config import EvidenceSettings, Ingest
from monitor.flow import Preprocessing
from monitor.ingest.camera import ReaderSettings
from monitor.ingest.pool import ReaderPool
from monitor.ingest.wire import EvidenceRequest, EvidenceResult
from tests.fuzz.mutation import KINDS, mutated, recordings
from tests.soak.sample import held

BATCH = 250
PLAYED = 32
"""Of each batch."""
PATIENCE_S = 60.0
"""No file's end for so long: the pool itself hangs."""
SMALL = Preprocessing(height_px=32, width_px=32, fit="stretch", frames=(0, 5, 10, 15))


class Account:
    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.invalid: Counter[str] = Counter()
        self.crashed: list[str] = []
        self.problems: list[str] = []
        self.segments = self.crashes = self.hangs = self.files = 0
        self.played = self.played_clips = self.played_crashes = 0
        self.longest_gap_s = 0.0
        """Between the ends of two files, of all readers together."""
        self.readers_rss_mb: list[float] = []


def batch(files: Sequence[Path], account: Account, folder: Path) -> None:
    """Reads them all once, and says of each what became of it."""
    cameras = [
        ReaderSettings(
            name=file.name,
            url=str(file),
            fps=15.0,
            frozen_after_s=None,
            connect_timeout_s=2.0,
            stall_timeout_s=2.0,
            audio=True,
        )
        for file in files
    ]
    open_files = {file.name for file in files}
    valid: Counter[str] = Counter()
    evidence = EvidenceSettings(folder=folder / "evidence")
    with ReaderPool(cameras, SMALL, ingest=Ingest(), evidence=evidence, live=False) as pool:
        ended_s = looked_s = time.monotonic()
        while open_files:
            taken = pool.take(64, 0.0, 0.1)
            now_s = time.monotonic()
            for segment in taken:
                if segment.last:
                    open_files.discard(segment.camera)
                    account.longest_gap_s = max(account.longest_gap_s, now_s - ended_s)
                    ended_s = now_s
                elif segment.invalid is not None:
                    account.invalid[segment.invalid] += 1
                else:
                    valid[segment.camera] += 1
            pool.release(taken)
            if now_s - looked_s > 2.0:
                looked_s = now_s
                account.readers_rss_mb += [held(pid)["readers_rss_mb"] for pid in pool.pids if held(pid)]
            if now_s - ended_s > PATIENCE_S:
                account.problems.append(f"no end for {PATIENCE_S:.0f} s: {', '.join(sorted(open_files)[:5])} …")
                break
        health = pool.health()
    for name, one in health.items():
        account.files += 1
        account.segments += valid[name]
        account.crashes += one.restarts
        if one.restarts:
            account.crashed.append(f"{name}: {one.fault}")
            if not one.suspected:
                account.problems.append(f"{name}: its reader ended and nobody was blamed")
        account.hangs += one.fault is not None and "hung" in one.fault
        account.outcomes["whole" if one.fault is None else "broken off" if valid[name] else "unreadable"] += 1
        if one.fault is not None:
            account.faults[one.fault.replace(name, "…").replace(str(folder), "")[:80]] += 1


PLAYS_S = 2.0
"""Longer than a file: it is opened again at its end."""


def played(files: Sequence[Path], account: Account, folder: Path) -> None:
    """The same as cameras: paced, recorded, opened again and again, and evidence asked of each."""
    cameras = [
        ReaderSettings(
            name=file.name,
            url=str(file),
            fps=15.0,
            backoff_min_s=0.2,
            backoff_max_s=0.5,
            audio=True,
            connect_timeout_s=2.0,
            stall_timeout_s=2.0,
        )
        for file in files
    ]
    evidence = EvidenceSettings(folder=folder / "evidence", audio=True, post_roll_s=0.5)
    answered: list[EvidenceResult] = []
    with ReaderPool(cameras, SMALL, ingest=Ingest(cameras_per_process=16), evidence=evidence) as pool:
        pool.on_evidence = answered.append

        def until(holds: Callable[[], bool], seconds: float) -> None:
            end_s = time.monotonic() + seconds
            while time.monotonic() < end_s and not holds():
                pool.release(pool.take(64, 0.0, 0.1))

        until(lambda: all(one.link != "connecting" for one in pool.health().values()), 20.0)
        until(lambda: False, PLAYS_S)
        for number, camera in enumerate(cameras):
            now_s = time.monotonic()
            request = EvidenceRequest(
                token=camera.name,
                camera=camera.name,
                clip_path=folder / "evidence" / f"{number}.mp4",
                snapshot_path=folder / "evidence" / f"{number}.jpg",
                from_captured_s=now_s - 2.0,
                to_captured_s=now_s,
                snapshot_captured_s=now_s - 1.0,
            )
            pool.save_evidence(request)
        until(lambda: len(answered) == len(files), 20.0)
        health = pool.health()
    account.played += len(files)
    account.played_clips += sum(result.evidence.clip is not None for result in answered)
    account.played_crashes += sum(one.suspected for one in health.values())
    if len(answered) != len(files):
        account.problems.append(f"evidence: {len(files)} asked for, {len(answered)} answers")


def fuzz(files: int, seed: int, *, seconds: float = float("inf")) -> dict[str, Any]:
    """Until so many files were read, or the time is over."""
    chance = random.Random(seed)
    account = Account()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vad-fuzz-") as name:
        folder = Path(name)
        good = [(path.name, path.read_bytes()) for path in recordings(folder)]
        number = 0
        while number < files and time.monotonic() - began_s < seconds and not account.problems:
            made = []
            for _ in range(min(BATCH, files - number)):
                kind, whole = good[number % len(good)]
                made.append(folder / f"{number}-{kind}")
                made[-1].write_bytes(mutated(whole, chance.choice(good)[1], chance))
                number += 1
            batch(made, account, folder)
            played(made[:PLAYED], account, folder)
            for file in made:
                file.unlink()
    memory = sorted(account.readers_rss_mb)
    return {
        "files": account.files,
        "seed": seed,
        "kinds": len(KINDS),
        "seconds": time.monotonic() - began_s,
        "outcomes": dict(account.outcomes),
        "segments": account.segments,
        "invalid_segments": dict(account.invalid),
        "reader_crashes": account.crashes,
        "reader_hangs": account.hangs,
        "crashed": account.crashed,
        "as_cameras": {
            "files": account.played,
            "clips_saved": account.played_clips,
            "reader_crashes": account.played_crashes,
        },
        "longest_between_two_ends_s": account.longest_gap_s,
        "reader_rss_mb": {"median": memory[len(memory) // 2], "most": memory[-1]} if memory else None,
        "problems": account.problems,
        "faults": dict(account.faults.most_common(40)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.media", description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(".bench/fuzz.json"))
    arguments = parser.parse_args()
    result = fuzz(arguments.files, arguments.seed)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1, ensure_ascii=False))
    sys.exit(bool(result["problems"]))


if __name__ == "__main__":
    main()
