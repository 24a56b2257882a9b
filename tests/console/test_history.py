"""What was: kept, bounded, and never in the way of whoever scores."""

from __future__ import annotations

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from monitor.console import history, reading
from monitor.console.history import AlertRow, History, HistoryError, ScoreRow, StatusRow
from tests.console.support import alert

NOON = 1_767_268_800.0


def score(camera: str, at_s: float, value: float = 0.5) -> ScoreRow:
    return ScoreRow(camera=camera, at_s=at_s, score=value, long_term=value, short_term=value)


def flush(kept: History) -> None:
    kept.act(lambda _: None).result(10)


def count(path: Path, table: str) -> int:
    with history.connect(path) as base:
        found: int = base.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return found


def test_scores_come_back_as_a_curve_with_its_statuses(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with History(path) as kept:
        kept.put(score("gate", NOON + n, n / 100) for n in range(100))
        kept.put([StatusRow(camera="gate", at_s=NOON - 50, status="ok", reason="watched")])
        kept.put([StatusRow(camera="gate", at_s=NOON + 40, status="lost", reason="no frame for 10 s")])
        flush(kept)
        curve = reading.scores(path, "gate", NOON, NOON + 200)
        assert len(curve["points"]) == 100
        assert curve["points"][7] | {"segments": 1} == {
            "at_s": NOON + 7,
            "mean": 0.07,
            "lowest": 0.07,
            "highest": 0.07,
            "long_term": 0.07,
            "short_term": 0.07,
            "attention": 1.0,
            "segments": 1,
        }
        assert [one["status"] for one in curve["statuses"]] == ["ok", "lost"], "and what held when the span began"
        assert reading.scores(path, "nobody", NOON, NOON + 200)["points"] == []


def test_a_long_span_is_answered_from_minutes_and_never_with_more_than_a_thousand_points(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with History(path, wall=lambda: NOON) as kept:
        kept.put(
            ScoreRow(
                camera="gate",
                at_s=NOON - 30 * n,
                score=0.25 if n % 2 else 0.75,
                long_term=0.25,
                short_term=0.25 if n % 2 else 1.0,
                attention=3.0 if n % 2 else 0.5,
            )
            for n in range(20_000)
        )
        flush(kept)
        week = reading.scores(path, "gate", NOON - 600_000, NOON)
        assert 500 < len(week["points"]) <= 1001
        assert {(p["lowest"], p["mean"], p["highest"]) for p in week["points"][1:-1]} == {(0.25, 0.5, 0.75)}
        parts = {(p["long_term"], p["short_term"], p["attention"]) for p in week["points"][1:-1]}
        assert parts == {(0.25, 0.625, 3.0)}, "both detectors' means and the highest attention, over days too"


def test_age_takes_scores_and_alerts_but_never_a_verdict(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with History(path, keep_days=10, wall=lambda: NOON) as kept:
        for name, age_days in (("old", 11), ("judged", 11), ("young", 9)):
            at_s = NOON - age_days * 86_400
            kept.put([score("gate", at_s), AlertRow(payload=alert(name, decided_wall_s=at_s, captured_wall_s=at_s))])
        judged = history.add_verdict("judged", at_s=NOON, verdict="real", category=None, note="", who="ann")
        assert kept.act(judged).result(10) is True
        kept.act(kept._retain).result(10)
        assert {one["alert_id"] for one in reading.alerts(path)} == {"judged", "young"}
        assert count(path, "scores") == 1


def test_size_takes_the_oldest_scores_and_leaves_the_minutes_for_last(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with History(path, keep_mb=1, wall=lambda: NOON, most_waiting=200_000) as kept:
        kept.put(score("gate", NOON - n) for n in range(100_000))
        flush(kept)
        minutes = count(path, "minutes")
        kept.act(kept._retain).result(10)
        left = count(path, "scores")
        assert 0 < left < 60_000
        assert count(path, "minutes") == minutes
        curve = reading.scores(path, "gate", NOON - 60, NOON)
        assert len(curve["points"]) == 61, "the newest are still there"


def test_putting_never_waits_and_what_is_too_much_is_dropped_and_counted(tmp_path: Path) -> None:
    with History(tmp_path / "history.sqlite", most_waiting=1000) as kept:
        longest_s = 0.0
        for n in range(200):
            rows = [score("gate", NOON + n * 50 + m) for m in range(50)]
            began_s = time.perf_counter()
            kept.put(rows)
            longest_s = max(longest_s, time.perf_counter() - began_s)
        assert longest_s < 0.5
        assert kept.dropped > 0
        assert len(kept._scores) <= 1000


def test_a_disk_that_fails_is_said_and_a_verdict_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    with History(tmp_path / "state" / "history.sqlite") as kept:
        assert kept.fault is not None
        kept.put([score("gate", NOON)])
        with pytest.raises(HistoryError, match="cannot be written"):
            kept.act(history.add_shelf("gate", at_s=1, until_s=2, reason="", who="ann")).result(10)
        (tmp_path / "state").unlink()
        assert kept.act(history.add_shelf("gate", at_s=1, until_s=2, reason="", who="ann")).result(10) is True
        assert kept.fault is None
        flush(kept)
        assert count(tmp_path / "state" / "history.sqlite", "scores") == 1, "what waited is kept too"


def test_a_damaged_file_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    path.write_bytes(b"this is no database" * 1000)
    with History(path) as kept:
        assert kept.fault is None
        flush(kept)
    assert list(tmp_path.glob("history.sqlite.*.bad"))


def test_messages_of_an_alert_change_it_in_their_order_only(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    from monitor.flow import AlertKind

    with History(path) as kept:
        kept.put(
            AlertRow(payload=alert("a", seq=seq, kind=kind, decided_wall_s=NOON + seq, captured_wall_s=NOON + seq))
            for seq, kind in ((1, AlertKind.RAISED), (3, AlertKind.ENDED), (2, AlertKind.UPDATED))
        )
        flush(kept)
        found = reading.alert(path, "a")
        assert found is not None
        assert (found["kind"], found["raised_s"], found["ended_s"], found["captured_s"]) == (
            "ended",
            NOON + 1,
            NOON + 3,
            NOON + 1,
        )


def test_a_killed_monitor_leaves_a_gap_and_not_a_calm_camera(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with History(path) as kept:
        kept.put([StatusRow(camera="gate", at_s=NOON, status="ok", reason=""), score("gate", NOON + 60)])
    with History(path) as kept:
        kept.act(history.mark_stopped("the monitor was not running")).result(10)
        kept.act(history.mark_stopped("the monitor was not running")).result(10)
        statuses = reading.scores(path, "gate", NOON - 1, NOON + 100)["statuses"]
    assert [(one["status"], round(one["at_s"] - NOON)) for one in statuses] == [("ok", 0), ("stopped", 60)]


def test_the_newest_verdict_counts_and_the_former_stay(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with History(path) as kept:
        kept.put([AlertRow(payload=alert("a"))])
        for said in ("unsure", "false"):
            kept.act(
                history.add_verdict("a", at_s=NOON, verdict=said, category="animal", note="cat", who="ann")
            ).result(9)
        nobody = history.add_verdict("nothing", at_s=NOON, verdict="real", category=None, note="", who="ann")
        assert kept.act(nobody).result(10) is False
        found = reading.alert(path, "a")
        assert found is not None
        assert found["verdict"]["verdict"] == "false"
        assert [one["verdict"] for one in found["verdicts"]] == ["unsure", "false"]
        assert found["acknowledged"] is not None, "who judges has seen it"
        assert [one["alert_id"] for one in reading.alerts(path, verdict="none")] == []


def test_the_time_to_a_verdict_is_that_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with History(path, wall=lambda: NOON) as kept:
        times = {"onset_wall_s": NOON - 6, "captured_wall_s": NOON - 1, "decided_wall_s": NOON}
        kept.put([AlertRow(payload=alert(one, **times)) for one in ("a1", "a2", "a3")])
        for alert_id, after_s in (("a1", 10.0), ("a2", 30.0), ("a1", 40_000.0)):
            said = {"verdict": "false", "category": None, "note": "", "who": "ann"}
            kept.act(history.add_verdict(alert_id, at_s=NOON + after_s, **said)).result(10)
        assert reading.shift(path, NOON - 60, NOON + 60)["mean_to_verdict_s"] == pytest.approx(20.0)
        assert reading.unjudged(path, NOON - 60) == 1
        assert reading.unjudged(path, NOON + 1) == 0


def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    with History(tmp_path / "history.sqlite") as kept:
        flush(kept)
    assert (tmp_path / "history.sqlite").stat().st_mode & 0o077 == 0


def test_reading_cannot_write(tmp_path: Path) -> None:
    with History(tmp_path / "history.sqlite") as kept:
        flush(kept)
        with history.connect(kept.path) as base, pytest.raises(sqlite3.OperationalError, match="readonly"):
            base.execute("DELETE FROM scores")


def test_many_readers_hold_up_neither_the_writer_nor_whoever_puts(tmp_path: Path) -> None:
    """A reader holds up a commit, and a commit a reader: for milliseconds, and nobody gives up."""
    path, readers = tmp_path / "history.sqlite", 6
    with History(path) as kept:
        kept.put(score(f"camera-{n % 50}", NOON - n / 50, 0.4) for n in range(50_000))
        kept.put(
            AlertRow(payload=alert(f"a{n}", decided_wall_s=NOON - n, captured_wall_s=NOON - n)) for n in range(500)
        )
        flush(kept)
        until_s = time.monotonic() + 6

        def read(number: int) -> int:
            asked = 0
            while time.monotonic() < until_s:
                reading.scores(path, f"camera-{number}", NOON - 7000, NOON + 1000)
                reading.shift(path, NOON - 7000, NOON + 1000)
                asked += 1
            return asked

        commits_s: list[float] = []
        puts_s: list[float] = []
        with ThreadPoolExecutor(readers) as pool:
            asked = [pool.submit(read, number) for number in range(readers)]
            while time.monotonic() < until_s:
                began_s = time.perf_counter()
                kept.put(score(f"camera-{n}", NOON + len(puts_s), 0.4) for n in range(200))
                puts_s.append(time.perf_counter() - began_s)
                flush(kept)
                commits_s.append(time.perf_counter() - began_s)
                time.sleep(0.1)
            total = sum(one.result() for one in asked)
        print(f"{total} readings by {readers}, {len(commits_s)} commits, the longest {max(commits_s) * 1000:.0f} ms")
        assert kept.fault is None
        assert kept.dropped == 0
        assert total > readers
        assert max(puts_s) < 0.5
