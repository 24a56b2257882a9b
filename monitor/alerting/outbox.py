"""What must still be told: alerts in SQLite until the broker has acknowledged them.

An alert is *due* once ``commit`` has returned. Its row and the table of open alarms change in one transaction
(WAL, synchronous=FULL), so a monitor that is killed at any moment finds, in its next life, every alert it had
decided and every alarm it had left open.

A disk that is full, read-only or broken must not silence an alarm: rows are then kept in memory (bounded),
``durable`` is False with the reason, and the disk is tried again (``recover``). A database that cannot be
read is moved aside, never deleted.

One lock guards everything; every method may be called from any thread and may wait for the disk. (Longer
than a file should be: the rules of the fallback are only seen to be right beside the transactions that they
replace.)
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
"""Of the database (``PRAGMA user_version``); another one is moved aside."""

_TABLES = """
CREATE TABLE alerts (
    id INTEGER PRIMARY KEY,
    alert_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    topic TEXT NOT NULL,
    payload TEXT NOT NULL,
    created REAL NOT NULL,
    UNIQUE (alert_id, seq)
);
CREATE TABLE open_alarms (camera TEXT PRIMARY KEY, payload TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE retained (topic TEXT PRIMARY KEY) WITHOUT ROWID;
"""


_INCIDENT = "incident/"
"""Open incidents lie among the open alarms, so that one transaction has both; no camera's name has a slash."""


def incident_key(incident_id: str) -> str:
    """Under what name ``commit`` keeps an open incident."""
    return _INCIDENT + incident_id


class OutboxError(Exception):
    """The outbox belongs to another monitor that is running; a sentence a person can act on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One alert on its way. ``payload`` is JSON without ``published_at``. ``id`` is given by the outbox."""

    alert_id: str
    seq: int
    kind: str
    topic: str
    payload: str
    created: float
    """time.time() of the commit's decision."""
    captured_s: float | None = None
    """time.monotonic() of the capture, for the latency; unknown (None) for a letter of a former life."""
    id: int = 0
    """Its row; 0 for a letter that is only in memory."""


_INSERT = "INSERT INTO alerts (id, alert_id, seq, kind, topic, payload, created) VALUES (?, ?, ?, ?, ?, ?, ?)"
_WAITING = "SELECT id, alert_id, seq, kind, topic, payload, created FROM alerts WHERE id > ? ORDER BY id LIMIT ?"
_FIRST = "SELECT id, alert_id, seq, kind, topic, payload, created FROM alerts WHERE id > ? ORDER BY id LIMIT 1"


_TRIM = "DELETE FROM alerts WHERE id IN (SELECT id FROM alerts ORDER BY kind = 'updated' DESC, id LIMIT ?)"


class Outbox:
    """Context manager. ``path`` None keeps everything in memory (``--dry-run``), and nothing outlives the
    process.

    ``most`` bounds the letters kept, on disk and in memory alike: beyond it the oldest ``updated`` go
    first, then the oldest of all, counted in ``discarded``. With ``most=0`` no letter is kept: for a
    monitor without MQTT.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        wall: Callable[[], float],
        most: int = 100_000,
        most_in_memory: int = 10_000,
    ) -> None:
        self._path = path
        self._wall = wall
        self._most = most
        self._most_in_memory = most if path is None else min(most, most_in_memory)
        self._lock = threading.RLock()
        self._base: sqlite3.Connection | None = None
        self._memory: deque[Letter] = deque()  # newer than every row; empty while durable
        self._stranded: list[Letter] = []  # rows of a disk that cannot be opened just now: they are told first
        self._open: dict[str, str] = {}
        self._retained: set[str] = set()
        self._captured: dict[tuple[str, int], float] = {}
        self._rows = 0
        self._next = 1
        self._read = False  # whether the disk was ever read in this life
        self._told_until = 0  # rows that the broker has but a failing disk still holds: their newest id …
        self._told = 0  # … and their number
        self.discarded = 0
        self.durable = False
        self.reason: str | None = None
        if path is None:
            self.reason = "the outbox is kept in memory only"
            return
        with self._guarded("opened"):
            self._open_base(path)
            self.durable = True

    def __enter__(self) -> Outbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Whatever is in memory gets a last chance to reach the disk."""
        with self._lock:
            if not self.recover() and self._memory and self._path is not None:
                log.error("outbox: %d alerts are lost: %s", len(self._memory), self.reason)
            self._close_base()
            self.durable, self.reason = False, "the outbox is closed"
            self._path = None

    def __len__(self) -> int:
        """How many letters the broker has not acknowledged. Never waits for the disk."""
        return self._rows - self._told + len(self._memory)

    # -- telling -----------------------------------------------------------------------------------

    def commit(self, letters: Sequence[Letter], opened: Mapping[str, str | None]) -> None:
        """Letters, and the open alarms that go with them (camera → last alert's JSON, None: closed), as one.

        Returns when both are on disk, or, where that is impossible, in memory with ``durable`` False.
        """
        with self._lock:
            for camera, payload in opened.items():
                if payload is None:
                    self._open.pop(camera, None)
                else:
                    self._open[camera] = payload
            letters = letters if self._most > 0 else ()
            for letter in letters:
                if letter.captured_s is not None:
                    self._captured[letter.alert_id, letter.seq] = letter.captured_s
            if self.recover():
                with self._guarded("written"), self._transaction() as base:
                    self._insert(base, letters)
                    self._write_open(base, opened)
                    self._trim_rows(base)
                if self.durable:
                    self._rows = self._count()
                    return
            self._memory.extend(letters)
            self._trim_memory()

    def backlog_s(self) -> float:
        """How long ago the oldest letter was decided that the broker has not acknowledged; 0 without one."""
        with self._lock:
            oldest = self.first() if len(self) else None
            return 0.0 if oldest is None else max(0.0, self._wall() - oldest.created)

    def first(self) -> Letter | None:
        """The oldest letter that the broker has not acknowledged."""
        with self._lock:
            if self._base is not None and self._rows > self._told:
                row = None
                with self._guarded("read"):
                    row = self._base.execute(_FIRST, (self._told_until,)).fetchone()
                if row is not None:
                    return self._letter(row)
            stranded = next((letter for letter in self._stranded if letter.id > self._told_until), None)
            return stranded or (self._memory[0] if self._memory else None)

    def acknowledged(self, letter: Letter) -> None:
        """The broker has it: it is never told again in this life, and forgotten as soon as the disk
        allows."""
        key = (letter.alert_id, letter.seq)
        with self._lock:
            self._captured.pop(key, None)
            if letter.id == 0 and self._memory and (self._memory[0].alert_id, self._memory[0].seq) == key:
                self._memory.popleft()
                return
            if self.durable:
                with self._guarded("written"), self._transaction() as base:
                    base.execute("DELETE FROM alerts WHERE alert_id = ? AND seq = ?", key)
                if self.durable:
                    self._rows = self._count()
                    return
            if letter.id > self._told_until:
                self._told_until = letter.id
                self._told += 1

    # -- what a former life left -------------------------------------------------------------------

    def open_alarms(self) -> dict[str, str]:
        """camera → the last alert of its open alarm, as JSON."""
        with self._lock:
            return {key: text for key, text in self._open.items() if not key.startswith(_INCIDENT)}

    def open_incidents(self) -> dict[str, str]:
        """incident_id → the open incident, as JSON."""
        with self._lock:
            ours = {key: text for key, text in self._open.items() if key.startswith(_INCIDENT)}
        return {key.removeprefix(_INCIDENT): text for key, text in ours.items()}

    def retained(self) -> set[str]:
        """Topics that may hold a retained message of this or a former life."""
        with self._lock:
            return set(self._retained)

    def remember_retained(self, topics: Iterable[str]) -> None:
        """Before a topic is first published retained: whoever lives then can clear it."""
        with self._lock:
            new = set(topics) - self._retained
            self._retained |= new
            if new and self.durable:
                with self._guarded("written"), self._transaction() as base:
                    self._write_retained(base, new)

    def forget_retained(self, topic: str) -> None:
        with self._lock:
            self._retained.discard(topic)
            if self.durable:
                with self._guarded("written"), self._transaction() as base:
                    base.execute("DELETE FROM retained WHERE topic = ?", (topic,))

    # -- a disk that fails -------------------------------------------------------------------------

    def recover(self) -> bool:
        """Tries a disk that failed again and brings it up to date. True when everything is on disk."""
        with self._lock:
            if self.durable or self._path is None:
                return self.durable
            opened, retained, read = self._open, self._retained, self._read
            if self._base is not None and self._rows > self._told:
                with suppress(sqlite3.Error):
                    rows = self._base.execute(_WAITING, (self._told_until, self._most_in_memory))
                    self._stranded = [self._letter(row) for row in rows]
            with self._guarded("written"):
                self._close_base()
                try:
                    self._open_base(self._path)
                except OutboxError as fault:
                    raise OSError(str(fault)) from None
                # What this life knows is newer than what the disk says; but a disk that it reads for the
                # first time tells what a former life left open.
                opened = opened if read else {**self._open, **opened}
                retained = retained | self._retained
                with self._transaction() as base:
                    base.execute("DELETE FROM alerts WHERE id <= ?", (self._told_until,))
                    self._insert(base, self._memory)
                    base.execute("DELETE FROM open_alarms")
                    self._write_open(base, opened)
                    self._write_retained(base, retained)
                log.info("outbox %s: written again, %d alerts from memory too", self._path, len(self._memory))
                self._memory.clear()
                self._stranded = []
                self._told_until = self._told = 0
                self._rows = self._count()
                self.durable, self.reason = True, None
            self._open, self._retained = opened, retained
            return self.durable

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        """Turns a failing disk into ``durable`` False; what was half written has been rolled back by then."""
        try:
            yield
        except (sqlite3.Error, OSError) as fault:
            self._fail(f"{self._path} cannot be {what} ({_words(fault)})")

    def _fail(self, reason: str) -> None:
        known, self.reason, self.durable = self.reason, reason, False
        if known is None:
            log.error(
                "outbox: %s; alerts are kept in memory until it can: free the disk or make it writable",
                reason,
            )

    # -- the database ------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        base = self._need_base()
        with base:
            yield base

    def _need_base(self) -> sqlite3.Connection:
        if self._base is None:
            raise sqlite3.OperationalError("it is not open")
        return self._base

    def _open_base(self, path: Path) -> None:
        """Opens or makes the database; one that is corrupt or of another version is moved aside first."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fault = self._try_base(path)
        if fault is not None:
            stamp = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y%m%dT%H%M%SZ")
            aside = f"{path.name}.{stamp}.bad"
            for end in ("", "-wal", "-shm"):
                part = path.with_name(path.name + end)
                if part.exists():
                    part.rename(path.with_name(aside + end))
            log.error("outbox %s: %s; moved to %s and begun anew", path, fault, aside)
            fault = self._try_base(path)
            if fault is not None:
                raise OSError(f"a new database is not usable: {fault}")
        base = self._need_base()
        self._open = dict(base.execute("SELECT camera, payload FROM open_alarms"))
        self._retained = {topic for (topic,) in base.execute("SELECT topic FROM retained")}
        self._rows = self._count()
        self._next = 1 + base.execute("SELECT coalesce(max(id), 0) FROM alerts").fetchone()[0]
        self._read = True

    def _try_base(self, path: Path) -> str | None:
        """None, or why this file cannot be our database. A disk's fault is raised."""
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            self._base = sqlite3.connect(path, timeout=2.0, check_same_thread=False)
            return self._set_up(self._base)
        except sqlite3.DatabaseError as fault:
            self._close_base()
            if "locked" in str(fault):
                raise OutboxError(
                    f"another vad-monitor uses {path}; stop it, or give this one a state_folder of its own"
                ) from None
            if isinstance(fault, sqlite3.OperationalError):
                raise
            return f"damaged ({_words(fault)})"

    def _set_up(self, base: sqlite3.Connection) -> str | None:
        # EXCLUSIVE: a second monitor on the same state folder must find out at once, not share the rows.
        base.execute("PRAGMA locking_mode=EXCLUSIVE")
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=FULL")
        base.execute("PRAGMA journal_size_limit=4194304")
        (version,) = base.execute("PRAGMA user_version").fetchone()
        (tables,) = base.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version == 0 and tables == 0:
            base.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
            return None
        fault = None
        if version != SCHEMA_VERSION:
            fault = f"written by another version (schema {version}, this one writes {SCHEMA_VERSION})"
        else:
            (health,) = base.execute("PRAGMA quick_check(1)").fetchone()
            fault = None if health == "ok" else f"damaged ({health})"
        if fault is not None:
            self._close_base()
            return fault
        # A write, so that a disk that cannot be written is found now.
        base.executescript(f"BEGIN IMMEDIATE; PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
        return None

    def _close_base(self) -> None:
        base, self._base = self._base, None
        if base is not None:
            try:
                base.close()
            except sqlite3.Error as fault:
                log.warning("outbox %s: not closed cleanly (%s)", self._path, _words(fault))

    def _letter(self, row: tuple[int, str, int, str, str, str, float]) -> Letter:
        number, alert_id, seq, kind, topic, payload, created = row
        captured_s = self._captured.get((alert_id, seq))
        return Letter(
            id=number,
            alert_id=alert_id,
            seq=seq,
            kind=kind,
            topic=topic,
            payload=payload,
            created=created,
            captured_s=captured_s,
        )

    def _insert(self, base: sqlite3.Connection, letters: Iterable[Letter]) -> None:
        for letter in letters:
            row = (letter.alert_id, letter.seq, letter.kind, letter.topic, letter.payload, letter.created)
            base.execute(_INSERT, (self._next, *row))
            self._next += 1

    def _write_open(self, base: sqlite3.Connection, opened: Mapping[str, str | None]) -> None:
        for camera, payload in opened.items():
            if payload is None:
                base.execute("DELETE FROM open_alarms WHERE camera = ?", (camera,))
            else:
                base.execute("INSERT OR REPLACE INTO open_alarms VALUES (?, ?)", (camera, payload))

    def _write_retained(self, base: sqlite3.Connection, topics: Iterable[str]) -> None:
        base.executemany("INSERT OR IGNORE INTO retained VALUES (?)", [(topic,) for topic in topics])

    def _count(self) -> int:
        count: int = self._need_base().execute("SELECT count(*) FROM alerts").fetchone()[0]
        return count

    # -- bounds ------------------------------------------------------------------------------------

    def _trim_rows(self, base: sqlite3.Connection) -> None:
        over = base.execute("SELECT count(*) FROM alerts").fetchone()[0] - self._most
        if over > 0:
            # A tenth at once: with a broker away for weeks this must not cost a sort for every alert.
            over = max(over, self._most // 10)
            self._discard(base.execute(_TRIM, (over,)).rowcount)
        while len(self._captured) > self._most:
            del self._captured[next(iter(self._captured))]  # the oldest: only a latency is lost

    def _trim_memory(self) -> None:
        while len(self._memory) > self._most_in_memory:
            victim = next((letter for letter in self._memory if letter.kind == "updated"), self._memory[0])
            self._memory.remove(victim)
            self._captured.pop((victim.alert_id, victim.seq), None)
            self._discard(1)

    def _discard(self, count: int) -> None:
        if self.discarded == 0:
            log.error("outbox: full; the oldest alerts are given up, updates first; is the broker reachable?")
        self.discarded += count


def _words(fault: Exception) -> str:
    return (fault.strerror or str(fault)) if isinstance(fault, OSError) else str(fault)
