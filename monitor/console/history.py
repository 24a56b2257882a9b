"""What was: scores, alerts, verdicts, statuses in SQLite, written by one thread.

Whoever scores or decides only puts things into a bounded queue, which never waits: where the disk is slower than
the cameras, the oldest scores are dropped and counted. What a person did (``act``) waits for its commit and is told
where it failed. Readers open the file themselves (reading.py). The journal is a rollback journal and
not a WAL: a WAL's index is shared by a mapped file, and where the disk refuses a write to a mapped page (an immutable
file, a broken block) the kernel ends the whole monitor by SIGBUS. Who reads holds up the writer's commit, and the
writer holds up who reads, both for milliseconds; neither is the scorer.

Two tables of scores: every segment, and each minute's lowest, mean and highest, which stays when the size asks
for the segments to go. Scores are kept as whole ten-thousandths: 200 cameras make 17 million a day.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

log = logging.getLogger(__name__)

SCHEMA_VERSION = 3
SCALE = 10_000
WRITE_EVERY_S = 1.0
RETAIN_EVERY_S = 300.0
RETRY_S = 5.0
_TABLES = """
CREATE TABLE cameras (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE scores (camera INTEGER NOT NULL, at_ms INTEGER NOT NULL, score INTEGER NOT NULL, long_term INTEGER,
    short_term INTEGER, PRIMARY KEY (camera, at_ms)) WITHOUT ROWID;
CREATE TABLE minutes (camera INTEGER NOT NULL, at_ms INTEGER NOT NULL, lowest INTEGER NOT NULL, total INTEGER NOT NULL,
    highest INTEGER NOT NULL, segments INTEGER NOT NULL, PRIMARY KEY (camera, at_ms)) WITHOUT ROWID;
CREATE TABLE statuses (id INTEGER PRIMARY KEY, camera INTEGER NOT NULL, at_ms INTEGER NOT NULL, status TEXT NOT NULL,
    reason TEXT NOT NULL);
CREATE INDEX statuses_of_camera ON statuses (camera, at_ms);
CREATE TABLE alerts (alert_id TEXT PRIMARY KEY, camera TEXT NOT NULL, seq INTEGER NOT NULL, raised_ms INTEGER NOT NULL,
    captured_ms INTEGER NOT NULL, ended_ms INTEGER, payload TEXT NOT NULL, verdict TEXT);
CREATE INDEX alerts_by_time ON alerts (raised_ms);
CREATE INDEX alerts_of_camera ON alerts (camera, raised_ms);
CREATE TABLE verdicts (id INTEGER PRIMARY KEY, alert_id TEXT NOT NULL, at_ms INTEGER NOT NULL, verdict TEXT NOT NULL,
    category TEXT, note TEXT NOT NULL, who TEXT NOT NULL);
CREATE INDEX verdicts_of_alert ON verdicts (alert_id, id);
CREATE TABLE acknowledgements (alert_id TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, who TEXT NOT NULL);
CREATE TABLE shelves (id INTEGER PRIMARY KEY, camera TEXT NOT NULL, at_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL,
    reason TEXT NOT NULL, who TEXT NOT NULL);
CREATE INDEX shelves_by_time ON shelves (until_ms);
"""
_BAGS = """
CREATE TABLE bags (alert_id TEXT PRIMARY KEY, camera TEXT NOT NULL, artefact TEXT NOT NULL, feature BLOB NOT NULL,
    attention TEXT NOT NULL);
"""
"""Since version 2."""
_PARTS = """
ALTER TABLE scores ADD COLUMN attention INTEGER;
ALTER TABLE minutes ADD COLUMN long_term INTEGER;
ALTER TABLE minutes ADD COLUMN short_term INTEGER;
ALTER TABLE minutes ADD COLUMN attention INTEGER;
"""
"""Since version 3: a minute's totals of both detectors, and the highest attention. NULL in rows of former versions."""
_SINCE = {1: _BAGS + _PARTS, 2: _PARTS}
"""What a history of a former version gets."""


class HistoryError(Exception):
    """The history cannot keep what a person did; a sentence for that person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """The score of one segment, captured at ``at_s`` (seconds since 1970). ``attention``: how much the detector looked
    at it in the bag that gave the score; 1 is the bag's mean."""

    camera: str
    at_s: float
    score: float
    long_term: float
    short_term: float
    attention: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRow:
    camera: str
    at_s: float
    status: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """One message of an alert; ``payload`` is that of the MQTT contract, as JSON."""

    payload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BagRow:
    """The bag that raised an alert; ``feature`` is little-endian float16, ``attention`` JSON (bags.py)."""

    alert_id: str
    camera: str
    artefact: str
    feature: bytes
    attention: str


Act = Callable[[sqlite3.Connection], Any]
"""Something a person did, done in a transaction of its own on the writer's connection."""


class History:
    """A context manager. ``put`` from any thread, at once; ``act`` gives a future."""

    def __init__(
        self,
        path: Path,
        *,
        keep_days: float = 90.0,
        keep_mb: float = 2_000.0,
        most_waiting: int = 100_000,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self._keep_s, self._keep_bytes = keep_days * 86_400, keep_mb * 1e6
        self._most = most_waiting
        self._wall = wall
        self._changed = threading.Condition()
        self._scores: deque[ScoreRow] = deque()
        self._rows: deque[StatusRow | AlertRow | BagRow] = deque()
        self._acts: deque[tuple[Act, Future[Any]]] = deque()
        self._ids: dict[str, int] = {}
        self._base: sqlite3.Connection | None = None
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self.dropped = 0
        """Scores and messages that were given up because they came faster than the disk takes them."""
        self.fault: str | None = None
        """Why nothing is kept just now, in a sentence."""

    def __enter__(self) -> Self:
        self._open()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What waits is written, if the disk takes it."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()
        self._close()

    # -- from any thread --------------------------------------------------------------------------------------------

    def put(self, rows: Iterable[ScoreRow | StatusRow | AlertRow | BagRow]) -> None:
        """Never waits for the disk. Scores give way first; messages and statuses have room of their own."""
        with self._changed:
            for row in rows:
                queue: deque[Any] = self._scores if isinstance(row, ScoreRow) else self._rows
                if len(queue) >= self._most:
                    queue.popleft()
                    self._drop(1)
                queue.append(row)

    def act(self, call: Act) -> Future[Any]:
        """Runs ``call`` behind everything that was put before; the future is done when it is committed."""
        future: Future[Any] = Future()
        with self._changed:
            if self._ending:
                future.set_exception(HistoryError("the monitor is ending"))
            else:
                self._acts.append((call, future))
                self._changed.notify()
        return future

    # -- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        retained_s = tried_s = time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._acts or self._ending, WRITE_EVERY_S)
                ending, acts = self._ending, list(self._acts)
                self._acts.clear()
            if self._base is None and (acts or time.monotonic() - tried_s >= RETRY_S):
                tried_s = time.monotonic()
                self._open()
            self._write()
            for call, future in acts:
                self._do(call, future)
            if time.monotonic() - retained_s >= RETAIN_EVERY_S:
                retained_s = time.monotonic()
                self._guarded(self._retain)
            if ending:
                return

    def _write(self) -> None:
        if self._base is None:
            return
        with self._changed:
            scores, rows = list(self._scores), list(self._rows)
            self._scores.clear()
            self._rows.clear()
        if not (scores or rows) or self._guarded(lambda base: self._insert(base, scores, rows)):
            return
        with self._changed:  # kept for the next try, as far as there is room
            self._scores.extendleft(reversed(scores))
            self._rows.extendleft(reversed(rows))
            for queue in (self._scores, self._rows):
                while len(queue) > self._most:
                    queue.popleft()
                    self._drop(1)

    def _drop(self, count: int) -> None:
        if self.dropped == 0:
            log.warning("history: the disk is too slow or cannot be written; the oldest scores are dropped and counted")
        self.dropped += count

    def _do(self, call: Act, future: Future[Any]) -> None:
        base = self._base
        if base is None:
            future.set_exception(HistoryError(self.fault or "the history cannot be written"))
            return
        try:
            with base:
                base.execute("BEGIN IMMEDIATE")
                result = call(base)
        except (sqlite3.Error, OSError) as error:
            future.set_exception(HistoryError(f"not kept: {error}"))
            self._fail(error)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def _guarded(self, call: Callable[[sqlite3.Connection], None]) -> bool:
        base = self._base
        if base is None:
            return False
        try:
            with base:
                base.execute("BEGIN IMMEDIATE")
                call(base)
        except (sqlite3.Error, OSError) as error:
            self._fail(error)
            return False
        return True

    def _fail(self, error: Exception) -> None:
        if self.fault is None:
            log.error("history: %s cannot be written (%s); tried again every %.0f s", self.path, error, RETRY_S)
        self.fault = f"the history cannot be written ({error})"
        self._close()

    # -- rows -------------------------------------------------------------------------------------------------------

    def _insert(
        self, base: sqlite3.Connection, scores: list[ScoreRow], rows: list[StatusRow | AlertRow | BagRow]
    ) -> None:
        values = [
            (
                self._id(base, row.camera),
                round(row.at_s * 1000),
                *map(scaled, (row.score, row.long_term, row.short_term, row.attention)),
            )
            for row in scores
        ]
        base.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?)", values)
        base.executemany(
            "INSERT INTO minutes VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?) ON CONFLICT (camera, at_ms) DO UPDATE SET"
            " lowest = min(lowest, excluded.lowest), total = total + excluded.total,"
            " highest = max(highest, excluded.highest), segments = segments + 1,"
            " long_term = long_term + excluded.long_term, short_term = short_term + excluded.short_term,"
            " attention = max(attention, excluded.attention)",
            [(camera, at_ms - at_ms % 60_000, score, score, score, *more) for camera, at_ms, score, *more in values],
        )
        for row in rows:
            if isinstance(row, StatusRow):
                status = (self._id(base, row.camera), round(row.at_s * 1000), row.status, row.reason)
                base.execute("INSERT INTO statuses (camera, at_ms, status, reason) VALUES (?, ?, ?, ?)", status)
            elif isinstance(row, BagRow):
                bag = (row.alert_id, row.camera, row.artefact, row.feature, row.attention)
                base.execute("INSERT OR IGNORE INTO bags VALUES (?, ?, ?, ?, ?)", bag)
            else:
                insert_alert(base, json.loads(row.payload))

    def _id(self, base: sqlite3.Connection, name: str) -> int:
        if name not in self._ids:
            base.execute("INSERT OR IGNORE INTO cameras (name) VALUES (?)", (name,))
            (self._ids[name],) = base.execute("SELECT id FROM cameras WHERE name = ?", (name,)).fetchone()
        return self._ids[name]

    def _retain(self, base: sqlite3.Connection) -> None:
        """Age first; then, where the file is too large, the oldest tenth of the segments' scores, again and again."""
        limit_ms = round((self._wall() - self._keep_s) * 1000)
        cameras = [camera for (camera,) in base.execute("SELECT id FROM cameras")]
        for camera in cameras:
            for table in ("scores", "minutes"):
                base.execute(f"DELETE FROM {table} WHERE camera = ? AND at_ms < ?", (camera, limit_ms))  # noqa: S608
        base.execute("DELETE FROM statuses WHERE at_ms < ?", (limit_ms,))
        base.execute("DELETE FROM shelves WHERE until_ms < ?", (limit_ms,))
        base.execute("DELETE FROM alerts WHERE raised_ms < ? AND verdict IS NULL", (limit_ms,))
        for table in ("acknowledgements", "bags"):
            base.execute(f"DELETE FROM {table} WHERE alert_id NOT IN (SELECT alert_id FROM alerts)")  # noqa: S608
        for table in ("scores", "minutes"):
            while self._size(base) > self._keep_bytes and self._shorten(base, table, cameras):
                pass
        base.execute("PRAGMA incremental_vacuum(2000)").fetchall()

    def _shorten(self, base: sqlite3.Connection, table: str, cameras: list[int]) -> bool:
        edges = [
            base.execute(f"SELECT min(at_ms), max(at_ms) FROM {table} WHERE camera = ?", (camera,)).fetchone()  # noqa: S608
            for camera in cameras
        ]
        known = [edge for edge in edges if edge[0] is not None]
        if not known:
            return False
        oldest, newest = min(edge[0] for edge in known), max(edge[1] for edge in known)
        cut_ms = oldest + max((newest - oldest) // 10, 1)
        gone = sum(
            base.execute(f"DELETE FROM {table} WHERE camera = ? AND at_ms <= ?", (camera, cut_ms)).rowcount  # noqa: S608
            for camera in cameras
        )
        return gone > 0

    def _size(self, base: sqlite3.Connection) -> int:
        pages, free, page = (
            base.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * page)

    # -- the file ---------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """One that is damaged or of another version is moved aside, never deleted."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                self._base = self._set_up()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                self._close()
                stamp = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y%m%dT%H%M%SZ")
                for end in ("", "-wal", "-shm"):
                    part = self.path.with_name(self.path.name + end)
                    if part.exists():
                        part.rename(part.with_name(f"{self.path.name}.{stamp}.bad{end}"))
                log.error("history %s: %s; moved aside and begun anew", self.path, error)
                self._base = self._set_up()
        except (sqlite3.Error, OSError) as error:
            self._fail(error)
            return
        self._ids.clear()
        if self.fault is not None:
            log.info("history %s: written again", self.path)
        self.fault = None

    def _set_up(self) -> sqlite3.Connection:
        base = sqlite3.connect(self.path, timeout=5.0, check_same_thread=False, isolation_level=None)
        try:
            self.path.chmod(0o600)
            base.execute("PRAGMA auto_vacuum=INCREMENTAL")
            # A WAL of a former version is taken in without its mapped index: an exclusive connection needs none.
            base.execute("PRAGMA locking_mode=EXCLUSIVE")
            base.execute("PRAGMA journal_mode=TRUNCATE")
            base.execute("PRAGMA locking_mode=NORMAL")
            base.execute("SELECT count(*) FROM sqlite_master").fetchone()  # lets go of the lock
            base.execute("PRAGMA synchronous=FULL")
            base.execute("PRAGMA journal_size_limit=16777216")
            (version,) = base.execute("PRAGMA user_version").fetchone()
            (tables,) = base.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if version == 0 and tables == 0:
                base.executescript(
                    f"BEGIN IMMEDIATE; {_TABLES} {_SINCE[1]} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
                )
            elif version in _SINCE:
                base.executescript(f"BEGIN IMMEDIATE; {_SINCE[version]} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
            elif version != SCHEMA_VERSION:
                raise sqlite3.DatabaseError(f"written by another version (schema {version})")
        except BaseException:
            base.close()
            raise
        return base

    def _close(self) -> None:
        base, self._base = self._base, None
        if base is not None:
            try:
                base.close()
            except sqlite3.Error as error:
                log.warning("history %s: not closed cleanly (%s)", self.path, error)


def scaled(score: float) -> int:
    return round(score * SCALE)


def insert_alert(base: sqlite3.Connection, payload: Mapping[str, Any]) -> None:
    """A message that is older than what is known of its alert changes nothing; ``captured_ms`` stays the first's."""
    decided_ms, captured_ms = _ms(payload["decided_at"]), _ms(payload["captured_at"])
    base.execute(
        "INSERT INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?, NULL) ON CONFLICT (alert_id) DO UPDATE SET"
        " seq = excluded.seq, ended_ms = excluded.ended_ms, payload = excluded.payload WHERE excluded.seq > alerts.seq",
        (
            payload["alert_id"],
            payload["camera"],
            payload["seq"],
            decided_ms,
            captured_ms,
            decided_ms if payload["kind"] == "ended" else None,
            json.dumps(payload, ensure_ascii=False),
        ),
    )


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def add_verdict(
    alert_id: str, *, at_s: float, verdict: str, category: str | None, note: str, who: str
) -> Callable[[sqlite3.Connection], bool]:
    """The newest verdict of an alert counts; the former ones stay. False: there is no such alert."""

    def call(base: sqlite3.Connection) -> bool:
        changed = base.execute("UPDATE alerts SET verdict = ? WHERE alert_id = ?", (verdict, alert_id)).rowcount
        if changed:
            base.execute(
                "INSERT INTO verdicts (alert_id, at_ms, verdict, category, note, who) VALUES (?, ?, ?, ?, ?, ?)",
                (alert_id, round(at_s * 1000), verdict, category, note, who),
            )
            _acknowledge(base, alert_id, at_s, who)
        return changed > 0

    return call


def add_acknowledgement(alert_id: str, *, at_s: float, who: str) -> Callable[[sqlite3.Connection], bool]:
    """The first one stays. False: there is no such alert."""

    def call(base: sqlite3.Connection) -> bool:
        if base.execute("SELECT 1 FROM alerts WHERE alert_id = ?", (alert_id,)).fetchone() is None:
            return False
        _acknowledge(base, alert_id, at_s, who)
        return True

    return call


def _acknowledge(base: sqlite3.Connection, alert_id: str, at_s: float, who: str) -> None:
    base.execute("INSERT OR IGNORE INTO acknowledgements VALUES (?, ?, ?)", (alert_id, round(at_s * 1000), who))


def add_shelf(
    camera: str, *, at_s: float, until_s: float, reason: str, who: str
) -> Callable[[sqlite3.Connection], bool]:
    """Shelved until then; a former shelf ends now. ``until_s`` not after ``at_s``: taken off the shelf."""

    def call(base: sqlite3.Connection) -> bool:
        at_ms = round(at_s * 1000)
        base.execute("UPDATE shelves SET until_ms = ? WHERE camera = ? AND until_ms > ?", (at_ms, camera, at_ms))
        if until_s > at_s:
            base.execute(
                "INSERT INTO shelves (camera, at_ms, until_ms, reason, who) VALUES (?, ?, ?, ?, ?)",
                (camera, at_ms, round(until_s * 1000), reason, who),
            )
        return True

    return call


def connect(path: Path) -> closing[sqlite3.Connection]:
    """A connection that only reads; for one question, then closed."""
    base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2.0, check_same_thread=False)
    base.row_factory = sqlite3.Row
    return closing(base)


def mark_stopped(reason: str) -> Act:
    """Nobody wrote when a former life was killed: what it saw last is when it stopped."""

    def call(base: sqlite3.Connection) -> None:
        base.execute(
            "INSERT INTO statuses (camera, at_ms, status, reason)"
            " SELECT id, 1 + max(told, coalesce((SELECT max(at_ms) FROM scores WHERE camera = id), 0)), 'stopped', ?"
            " FROM (SELECT c.id, s.at_ms AS told, s.status FROM cameras c JOIN statuses s ON s.id ="
            " (SELECT max(id) FROM statuses WHERE camera = c.id)) WHERE status != 'stopped'",
            (reason,),
        )

    return call
