"""The audit log: nothing is lost, nothing is changed, nothing secret is in it."""

from __future__ import annotations

import json
import logging
import re
import stat
import threading
from pathlib import Path

import pytest

from monitor import cli
from monitor.observe import log as log_of
from monitor.observe.audit import NAME, Audit, read, sentence

AT = 1_772_346_600.5


def test_a_row_says_when_what_who_and_from_where_and_only_the_owner_may_read_it(tmp_path: Path) -> None:
    with Audit(tmp_path / "state", wall=lambda: AT) as audit:
        audit.write("verdict", who="ann", address="192.0.2.7", alert="a1", verdict="false")
    file = tmp_path / "state" / NAME
    assert json.loads(file.read_text()) == {
        "at": "2026-03-01T06:30:00.500Z",
        "what": "verdict",
        "who": "ann",
        "address": "192.0.2.7",
        "alert": "a1",
        "verdict": "false",
    }
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    (row,) = read(tmp_path / "state")
    assert sentence(row) == '2026-03-01T06:30:00.500Z verdict ann 192.0.2.7 alert="a1" verdict="false"'


def test_a_later_life_adds_and_never_shortens(tmp_path: Path) -> None:
    for life in range(3):
        with Audit(tmp_path) as audit:
            audit.write("start", life=life)
    assert [row["life"] for row in read(tmp_path)] == [2, 1, 0]


def test_large_files_are_set_aside_and_no_row_is_lost(tmp_path: Path) -> None:
    times = iter(range(1_700_000_000, 1_700_100_000))
    with Audit(tmp_path, wall=lambda: float(next(times)), largest=2_000) as audit:
        threads = [
            threading.Thread(target=lambda n=n: [audit.write("x", n=100 * n + i) for i in range(100)]) for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    files = sorted(tmp_path.iterdir())
    assert len(files) > 10
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    assert all(re.fullmatch(r"audit(-\d{8}T\d{6}\.\d{6}Z\+*)?\.jsonl", file.name) for file in files)
    assert sorted(row["n"] for row in read(tmp_path, 1000)) == list(range(400))
    assert [row["at"] for row in read(tmp_path, 1000)] == sorted((r["at"] for r in read(tmp_path, 1000)), reverse=True)


def test_two_files_set_aside_at_the_same_moment_are_two(tmp_path: Path) -> None:
    with Audit(tmp_path, wall=lambda: AT, largest=1) as audit:
        for n in range(3):
            audit.write("x", n=n)
    assert sorted(row["n"] for row in read(tmp_path)) == [0, 1, 2]


def test_a_row_that_a_power_cut_tore_costs_itself_alone(tmp_path: Path) -> None:
    with Audit(tmp_path) as audit:
        audit.write("one")
    with (tmp_path / NAME).open("a") as file:
        file.write('{"at": "2026-01-01T00:00:00Z", "wh')
    with Audit(tmp_path) as audit:
        audit.write("two")
    assert [row["what"] for row in read(tmp_path)] == ["two", "one"]


def test_rows_wait_in_memory_while_the_disk_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "state"
    folder.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING), Audit(folder) as audit:
        audit.write("one")
        audit.write("two")
        folder.unlink()
        audit.write("three")
    assert [row["what"] for row in read(folder)] == ["three", "two", "one"]
    said = [record.getMessage() for record in caplog.records]
    assert [words.partition("(")[0] for words in said] == [
        "the audit log cannot be written ",
        "the audit log is written again",
    ]


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text("")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / NAME).symlink_to(target)
    with Audit(tmp_path / "state") as audit:
        audit.write("one")
    assert target.read_text() == ""


def test_no_secret_is_in_a_row(tmp_path: Path) -> None:
    before = log_of.RedactedRecord.redaction
    log_of.RedactedRecord.redaction = log_of.Redaction(["s3cret-word"])
    try:
        with Audit(tmp_path) as audit:
            audit.write("shelved", who="ann", reason="password is s3cret-word, see rtsp://u:pw@host/x")
    finally:
        log_of.RedactedRecord.redaction = before
    text = (tmp_path / NAME).read_text()
    assert "s3cret-word" not in text
    assert "pw@" not in text
    assert "password is ***" in text


def test_without_a_folder_nothing_is_kept() -> None:
    with Audit(None) as audit:
        audit.write("start")
    assert audit.rows() == []


def test_the_command_shows_the_newest_rows_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plant.yaml").write_text("site: a\nmqtt: off\ncameras: [{name: a, url: 0}]\n")
    with Audit(tmp_path / "state", wall=lambda: AT) as audit:
        for n in range(5):
            audit.write("login", who="ann", address="192.0.2.7", ok=n % 2 == 0)
    assert cli.main(["audit", str(tmp_path / "plant.yaml"), "--last", "2"]) == cli.OK
    assert capsys.readouterr().out == (
        "2026-03-01T06:30:00.500Z login ann 192.0.2.7 ok=false\n2026-03-01T06:30:00.500Z login ann 192.0.2.7 ok=true\n"
    )
    assert cli.main(["audit", str(tmp_path / "plant.yaml"), "--json"]) == cli.OK
    assert [json.loads(line)["ok"] for line in capsys.readouterr().out.splitlines()] == [True, False, True, False, True]
    assert cli.main(["audit", str(tmp_path / "plant.yaml"), "--last", "0"]) == cli.USAGE
