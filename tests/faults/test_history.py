"""The console's history on a disk that is full, or whose files cannot be written: said, waited for, and survived.

The history runs in a process of its own, for what a mapped page does to a process is what is looked for.
"""

from __future__ import annotations

import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.console import history, reading
from tests.conftest import ROOT
from tests.faults.disks import Disk, disk

HEARD_S = 60.0
WRITER = """
import sys, time
from pathlib import Path
from monitor.console import history, reading
path = Path(sys.argv[1])
with history.History(path, most_waiting=5000) as kept:
    print("open", flush=True)
    for line in sys.stdin:
        rows = [history.ScoreRow(camera="gate", at_s=time.time() + n / 1000, score=0.5, long_term=0.5, short_term=0.5)
                for n in range(500)]
        kept.put(rows)
        try:
            kept.act(lambda _: None).result(20)
            said = "written"
        except history.HistoryError:
            said = "refused"
        try:
            reading.scores(path, "gate", 0, time.time() + 10)
        except history.sqlite3.Error:
            said += ", unread"
        print(said, flush=True)
"""


class Writer:
    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self.heard() == "open"

    def heard(self) -> str:
        assert self.process.stdout is not None
        there, _, _ = select.select([self.process.stdout], [], [], HEARD_S)
        assert there, f"the writer said nothing for {HEARD_S:.0f} s"
        return self.process.stdout.readline().strip()

    def write(self) -> str:
        """What came of 500 scores; nothing: the process is dead."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.heard()

    def end(self) -> int:
        with self.process as process:
            assert process.stdin is not None
            process.stdin.close()
            return process.wait(30)

    def until(self, wanted: str) -> None:
        until_s = time.monotonic() + 60
        while (said := self.write()).split(",")[0] != wanted:
            assert said, f"the process ended ({self.process.wait(10)})"
            assert time.monotonic() < until_s, said
            time.sleep(0.05)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Disk]:
    with disk(tmp_path / "state", tmp_path / "state.img") as made:
        yield made


@pytest.mark.parametrize("kind", ["full", "unwritable"])
def test_a_disk_that_takes_nothing_more_is_said_and_survived(state: Disk, kind: str) -> None:
    path = state.folder / "history.sqlite"
    writer = Writer(path)
    try:
        writer.until("written")
        with getattr(state, kind)():
            writer.until("refused")
            for _ in range(5):
                assert writer.write().startswith("refused")
        writer.until("written")
        with history.connect(path) as base:
            (kept,) = base.execute("SELECT count(*) FROM scores").fetchone()
            assert kept > 500, "what waited was written when the disk could"
            assert base.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert reading.scores(path, "gate", 0, time.time() + 10)["points"] is not None
    finally:
        code = writer.end()
    assert code == 0


def test_a_former_versions_wal_is_taken_in_and_no_index_is_left(state: Disk) -> None:
    path = state.folder / "history.sqlite"
    with history.History(path) as kept:
        kept.act(lambda base: base.execute("INSERT INTO cameras (name) VALUES ('gate')")).result(10)
    left = (
        "import os, sqlite3, sys; base = sqlite3.connect(sys.argv[1]); base.execute('PRAGMA journal_mode=WAL');"
        " base.execute(\"INSERT INTO cameras (name) VALUES ('yard')\"); base.commit(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", left, str(path)], check=True, timeout=30)
    assert path.with_name("history.sqlite-wal").exists(), "as a killed monitor leaves it"
    with history.History(path) as kept:
        kept.act(lambda _: None).result(10)
        assert kept.fault is None
        assert not path.with_name("history.sqlite-shm").exists()
        with history.connect(path) as base:
            assert [name for (name,) in base.execute("SELECT name FROM cameras ORDER BY id")] == ["gate", "yard"]
