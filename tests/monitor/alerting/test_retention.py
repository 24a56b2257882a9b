from __future__ import annotations

import os
from pathlib import Path

import pytest

from monitor.alerting.retention import Swept, sweep

from .support import NOON

DAY = 86_400.0


def proof(folder: Path, stem: str, age_s: float, size: int = 1000, ends: str = "mp4 jpg") -> None:
    for end in ends.split():
        path = folder / f"{stem}.{end}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        os.utime(path, (NOON - age_s, NOON - age_s))


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_is_too_old_goes_with_one_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    proof(tmp_path, "gate/2026-01-01/a1", 31 * DAY)
    proof(tmp_path, "gate/2026-02-28/a2", 1 * DAY)
    swept = sweep(tmp_path, keep_days=30, keep_mb=100, wall=lambda: NOON)
    assert swept == Swept(files=2, freed_bytes=2000, kept_bytes=2000)
    assert left(tmp_path) == ["gate/2026-02-28/a2.jpg", "gate/2026-02-28/a2.mp4"]
    assert not (tmp_path / "gate/2026-01-01").exists()
    assert caplog.messages == ["evidence: 2 files (0.0 MB) deleted, older than 30 days or beyond 100 MB"]


def test_beyond_the_size_the_oldest_goes_first_clip_and_snapshot_together(tmp_path: Path) -> None:
    proof(tmp_path, "gate/2026-02-27/a1", 3 * DAY)
    proof(tmp_path, "yard/2026-02-26/a0", 4 * DAY)
    proof(tmp_path, "gate/2026-02-28/a2", 2 * DAY)
    swept = sweep(tmp_path, keep_days=30, keep_mb=0.004, wall=lambda: NOON)
    assert swept == Swept(files=2, freed_bytes=2000, kept_bytes=4000)
    assert "yard/2026-02-26/a0.mp4" not in left(tmp_path)


def test_what_is_being_written_or_is_fresh_stays(tmp_path: Path) -> None:
    proof(tmp_path, "gate/2026-03-01/a1", 4000)
    proof(tmp_path, "gate/2026-03-01/a2", 200)
    sweep(tmp_path, keep_days=30, keep_mb=0, wall=lambda: NOON, writing=["gate/2026-03-01/a1.mp4"])
    assert len(left(tmp_path)) == 4


def test_what_is_not_ours_is_never_touched(tmp_path: Path) -> None:
    proof(tmp_path, "gate/notes/old", 99 * DAY)
    proof(tmp_path, "gate/2026-01-01/report", 99 * DAY, ends="pdf")
    proof(tmp_path, "top", 99 * DAY)
    elsewhere = tmp_path / "elsewhere"
    proof(elsewhere, "2026-01-01/a9", 99 * DAY)
    folder = tmp_path / "evidence"
    folder.mkdir()
    (folder / "gate").symlink_to(elsewhere)
    before = left(tmp_path)
    sweep(tmp_path / "evidence", keep_days=1, keep_mb=0, wall=lambda: NOON)
    assert left(tmp_path) == before
    # The same tree as a folder of cameras: "elsewhere" is one, so its clip goes, and nothing else does.
    sweep(tmp_path, keep_days=1, keep_mb=0, wall=lambda: NOON)
    assert set(before) - set(left(tmp_path)) == {"elsewhere/2026-01-01/a9.mp4", "elsewhere/2026-01-01/a9.jpg"}


def test_matroska_clips_and_what_a_killed_writer_left_go_too(tmp_path: Path) -> None:
    proof(tmp_path, "gate/2026-01-01/a1", 31 * DAY, ends="mkv jpg")
    proof(tmp_path, "gate/2026-01-01/.a2.mp4", 31 * DAY, ends="part")
    proof(tmp_path, "gate/2026-03-01/.a3.mp4", 60, ends="part")
    swept = sweep(tmp_path, keep_days=30, keep_mb=100, wall=lambda: NOON)
    assert swept == Swept(files=3, freed_bytes=3000, kept_bytes=1000)
    assert left(tmp_path) == ["gate/2026-03-01/.a3.mp4.part"]


def test_a_folder_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert sweep(tmp_path / "none", keep_days=1, keep_mb=1, wall=lambda: NOON) == Swept()
