"""Recordings through the monitor's own path."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from monitor.config import Scoring, Thresholds
from monitor.ingest.wire import CameraHealth
from monitor.replay import COLUMNS, Row, alerts, outcome, run
from tests.e2e.clips import moving_clip


def row(segment: int, score: float | None) -> Row:
    return Row(segment=segment, start_s=float(segment), end_s=segment + 1.0, score=score)


THRESHOLDS = Thresholds(raise_at=0.8, clear_at=0.5, clear_after_s=0.0, cooldown_s=0.0)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.1, 0.2, 0.3], []),
        ([0.1, 0.9, 0.6, 0.4, 0.1], [(1.0, 4.0)]),
        ([0.1, 0.9, 0.9], [(1.0, 3.0)]),
        ([0.9, None, 0.1, 0.9], [(0.0, 3.0), (3.0, 4.0)]),
    ],
)
def test_alerts_are_marked_where_the_monitor_would_raise_them(
    scores: list[float | None], expected: list[tuple[float, float]]
) -> None:
    assert alerts([row(n, score) for n, score in enumerate(scores)], THRESHOLDS) == expected


@pytest.mark.parametrize(
    ("rows", "fault", "said"),
    [
        ((row(0, 0.5),), None, None),
        ((row(0, 0.5),), "reading it crashed the reader process twice", "reading it crashed the reader process twice"),
        ((), "a.mp4 does not send a video that can be read", "a.mp4 does not send a video that can be read"),
        ((), None, "a.mp4: no frame could be decoded"),
    ],
)
def test_a_file_that_broke_off_is_at_fault_though_it_has_scores(
    rows: tuple[Row, ...], fault: str | None, said: str | None
) -> None:
    replayed = outcome(Path("a.mp4"), rows, CameraHealth(link="ended", fault=fault))
    assert (replayed.rows, replayed.fault) == (rows, said)


@pytest.mark.slow
def test_every_segment_of_every_file_gets_a_score_and_two_replays_are_identical(tmp_path: Path) -> None:
    files = [
        moving_clip(tmp_path / "long.mp4", seconds=12.3),
        moving_clip(tmp_path / "two seconds.mp4", seconds=2.0),
        moving_clip(tmp_path / "half a second.mp4", seconds=0.5),
        moving_clip(tmp_path / "slow.mp4", seconds=6.0, fps=5),
    ]
    broken = tmp_path / "no video.mp4"
    broken.write_text("not a video")
    written = []
    for name in ("first", "second"):
        replayed = run([*files, broken], tmp_path / name, Scoring(device="cpu"), fps=None, pictures=name == "first")
        assert [one.fault is None for one in replayed] == [True, True, True, True, False]
        written.append((tmp_path / name / "scores.csv").read_bytes())
    assert written[0] == written[1]
    rows = list(csv.DictReader(written[0].decode().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    by_file = {file: [r for r in rows if r["file"] == str(file)] for file in files}
    assert [len(by_file[file]) for file in files] == [12, 2, 1, 6]
    for file in files:
        assert [int(r["segment"]) for r in by_file[file]] == list(range(len(by_file[file])))
    for r in rows:
        mean = (float(r["long_term"]) + float(r["short_term"])) / 2
        assert float(r["score"]) == pytest.approx(mean, abs=2e-6)
    for file in files:
        assert (tmp_path / "first" / f"{file.stem}.png").stat().st_size > 5000
