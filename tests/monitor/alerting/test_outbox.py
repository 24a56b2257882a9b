from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from monitor.alerting.outbox import Letter, Outbox, OutboxError

from .support import NOON


def letter(number: int, kind: str = "raised", alert_id: str | None = None, seq: int = 1) -> Letter:
    return Letter(
        alert_id=alert_id or f"a{number}",
        seq=seq,
        kind=kind,
        topic="vad/plant-7/cameras/gate/alert",
        payload=f'{{"n": {number}}}',
        created=NOON,
        captured_s=float(number),
    )


def opened(path: Path | None, **bounds: int) -> Outbox:
    return Outbox(path, wall=lambda: NOON, **bounds)


def ids(box: Outbox) -> list[str]:
    taken = []
    while (first := box.first()) is not None:
        taken.append(first.alert_id)
        box.acknowledged(first)
    return taken


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.sqlite"


def test_letters_come_in_the_order_of_their_commit_until_acknowledged(path: Path) -> None:
    with opened(path) as box:
        box.commit([letter(1), letter(2)], {})
        box.commit([letter(3)], {})
        assert len(box) == 3
        assert [box.first().alert_id, box.first().alert_id] == ["a1", "a1"]  # type: ignore[union-attr]
        assert ids(box) == ["a1", "a2", "a3"]
        assert (len(box), box.first()) == (0, None)


def test_letters_and_open_alarms_outlive_the_process_that_committed_them(path: Path) -> None:
    with opened(path) as box:
        box.commit([letter(1)], {"gate": "{}", "yard": "{}"})
        box.commit([letter(2)], {"yard": None})
        box.remember_retained(["vad/plant-7/availability"])
    with opened(path) as box:
        assert (box.durable, box.reason, len(box)) == (True, None, 2)
        assert box.open_alarms() == {"gate": "{}"}
        assert box.retained() == {"vad/plant-7/availability"}
        first = box.first()
        assert first is not None
        assert first.captured_s is None, "a former life's clock means nothing"
        assert ids(box) == ["a1", "a2"]


def test_a_commit_is_on_disk_when_it_returns_even_if_the_process_is_killed(path: Path) -> None:
    code = f"""
import os, signal, sys
from pathlib import Path
from tests.monitor.alerting.test_outbox import letter, opened
box = opened(Path({str(path)!r}))
box.commit([letter(1)], {{"gate": "open"}})
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).parents[3]
    killed = subprocess.run([sys.executable, "-c", code], cwd=root, check=False)
    assert killed.returncode == -9
    with opened(path) as box:
        assert (len(box), box.open_alarms()) == (1, {"gate": "open"})


def test_the_file_is_for_its_owner_only_and_in_wal_with_full_synchronisation(path: Path) -> None:
    with opened(path) as box:
        box.commit([letter(1)], {})
        for part in path.parent.iterdir():
            assert stat.S_IMODE(part.stat().st_mode) == 0o600, part
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        base = box._need_base()
        assert base.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert base.execute("PRAGMA synchronous").fetchone() == (2,)
        assert base.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_second_monitor_on_the_same_state_is_refused_in_a_sentence(path: Path) -> None:
    with opened(path):
        with pytest.raises(OutboxError) as caught:
            opened(path)
        assert str(caught.value) == (
            f"another vad-monitor uses {path}; stop it, or give this one a state_folder of its own"
        )


@pytest.mark.parametrize("damage", ["garbage", "torn", "empty"])
def test_a_damaged_database_is_moved_aside_and_begun_anew(
    path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(path) as box:
        box.commit([letter(n) for n in range(200)], {})
    content = path.read_bytes()
    match damage:
        case "garbage":
            path.write_bytes(b"this is no database" * 400)
        case "torn":
            path.write_bytes(content[:4096] + b"\xff" * 4096 + content[8192:])
        case "empty":
            path.write_bytes(b"")
    with opened(path) as box:
        assert (box.durable, len(box)) == (True, 0)
        box.commit([letter(1)], {})
        assert ids(box) == ["a1"]
    aside = [part.name for part in path.parent.iterdir() if ".bad" in part.name]
    if damage == "empty":  # a file without content is a new database: nothing was lost by it
        assert aside == []
    else:
        assert aside == ["outbox.sqlite.20260301T120000Z.bad"]
        assert "moved to outbox.sqlite.20260301T120000Z.bad and begun anew" in caplog.text


def test_a_database_of_a_later_version_is_moved_aside(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(path).close()
    base = sqlite3.connect(path)
    base.execute("PRAGMA user_version=7")
    base.close()
    with opened(path) as box:
        assert box.durable
    assert "written by another version (schema 7, this one writes 1)" in caplog.text


def full(box: Outbox, pages: int | None) -> None:
    """A disk that is full for SQLite: no page more than there are now. None: room again."""
    base = box._need_base()
    count = base.execute("PRAGMA page_count").fetchone()[0]
    base.execute(f"PRAGMA max_page_count={count if pages is None else pages}")


def test_a_full_disk_costs_no_alert_and_the_disk_is_used_again_when_it_has_room(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(path) as box:
        box.commit([letter(1)], {"gate": "first"})
        full(box, None)
        monkeypatch.setattr(box, "recover", lambda: box.durable)  # the disk stays full for now
        big = Letter(
            alert_id="big", seq=1, kind="raised", topic="t", payload="x" * 50_000, created=NOON, captured_s=1.0
        )
        box.commit([big], {"gate": "second"})
        assert (box.durable, len(box)) == (False, 2)
        assert box.reason == f"{path} cannot be written (database or disk is full)"
        assert caplog.text.count("alerts are kept in memory") == 1
        box.commit([letter(3)], {"yard": "third"})
        first = box.first()
        assert first is not None
        assert first.alert_id == "a1", "what is on disk goes first"
        box.acknowledged(first)
        assert len(box) == 2
        monkeypatch.undo()
        assert box.recover()
        assert (box.durable, box.reason, len(box)) == (True, None, 2)
    with opened(path) as box:
        assert box.open_alarms() == {"gate": "second", "yard": "third"}
        assert ids(box) == ["big", "a3"]


def test_what_a_disk_holds_that_can_no_longer_be_opened_is_still_told_first(path: Path) -> None:
    with opened(path) as box:
        box.commit([letter(1), letter(2)], {})
        full(box, None)
        gone = path.parent.rename(path.parent.with_name("elsewhere"))
        path.parent.write_text("a file where the folder was")
        box.commit([Letter(alert_id="a3", seq=1, kind="raised", topic="t", payload="x" * 50_000, created=NOON)], {})
        box.commit([letter(4)], {})
        assert (box.durable, len(box)) == (False, 4)
        assert ids(box) == ["a1", "a2", "a3", "a4"]
        path.parent.unlink()
        gone.rename(path.parent)
        assert box.recover()
        assert len(box) == 0


def test_a_state_folder_that_is_a_file_is_no_crash_and_is_used_once_it_is_right(tmp_path: Path, path: Path) -> None:
    with opened(path) as box:
        box.commit([letter(1)], {"yard": "left open"})
    kept = path.parent.rename(tmp_path / "elsewhere")
    path.parent.write_text("not a folder")
    with opened(path) as box:
        assert not box.durable
        assert "cannot be opened" in (box.reason or "")
        box.commit([letter(2)], {"gate": "{}"})
        assert len(box) == 1
        path.parent.unlink()
        kept.rename(path.parent)
        assert box.recover()
        assert box.open_alarms() == {"yard": "left open", "gate": "{}"}, "a former life is heard late"
        assert ids(box) == ["a1", "a2"]


def test_memory_is_bounded_and_updates_are_given_up_first(caplog: pytest.LogCaptureFixture) -> None:
    with opened(None, most=4) as box:
        for seq, kind in enumerate(["raised", "updated", "updated", "ended"], start=1):
            box.commit([letter(1, kind, "a", seq)], {})
        box.commit([letter(2, "raised", "b", 1), letter(3, "ended", "b", 2)], {})
        assert (len(box), box.discarded) == (4, 2)
        assert ids(box) == ["a", "a", "b", "b"]
    assert caplog.text.count("the oldest alerts are given up") == 1


def test_the_disk_is_bounded_too(path: Path) -> None:
    with opened(path, most=20) as box:
        for number in range(15):
            box.commit([letter(number, "updated", "a", number + 2)], {})
        for number in range(12):
            box.commit([letter(number, "raised", f"r{number}")], {})
        assert len(box) <= 20
        assert box.discarded == 8
        assert len(box._captured) <= 20, "what is known of letters that were given up is given up too"
        assert ids(box)[-12:] == [f"r{number}" for number in range(12)]


def test_without_mqtt_no_letter_is_kept_but_open_alarms_are(path: Path) -> None:
    with opened(path, most=0) as box:
        box.commit([letter(1)], {"gate": "{}"})
        assert (len(box), box.first(), box.open_alarms()) == (0, None, {"gate": "{}"})


def test_a_letter_acknowledged_on_a_read_only_disk_is_not_told_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(path) as box:
        box.commit([letter(1), letter(2)], {})
        box._need_base().execute("PRAGMA query_only=ON")
        monkeypatch.setattr(box, "recover", lambda: box.durable)
        first = box.first()
        assert first is not None
        box.acknowledged(first)
        assert "cannot be written (attempt to write a readonly database)" in (box.reason or "")
        assert ids(box) == ["a2"]
        assert len(box) == 0
        monkeypatch.undo()
        assert box.recover()
        assert len(box) == 0
