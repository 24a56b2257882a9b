"""What is asked of the history. Every question opens its own connection that only reads, and closes it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monitor.console.history import SCALE, connect

RAW_S = 2 * 3600.0
"""A longer span is answered from the minutes."""
MOST_POINTS = 1000
_ALERT = (
    "SELECT a.*, v.verdict AS said, v.category, v.note, v.who, v.at_ms AS judged_ms, k.at_ms AS acknowledged_ms,"
    " k.who AS acknowledged_by FROM alerts a"
    " LEFT JOIN verdicts v ON v.id = (SELECT max(id) FROM verdicts WHERE alert_id = a.alert_id)"
    " LEFT JOIN acknowledgements k ON k.alert_id = a.alert_id"
)

Answer = dict[str, Any]


def scores(path: Path, camera: str, from_s: float, to_s: float) -> Answer:
    """At most ``MOST_POINTS`` points: the mean, lowest and highest score of each ``step_s``.

    Both detectors' means and the highest attention are None where a former version wrote the minutes.
    """
    span_s = max(to_s - from_s, 1.0)
    raw = span_s <= RAW_S
    least_ms = 1 if raw else 60_000
    step_ms = max(least_ms, -(-round(span_s * 1000) // MOST_POINTS))
    if raw:
        asked = (
            "SELECT avg(at_ms), avg(score), min(score), max(score), avg(long_term), avg(short_term), max(attention),"
            " count(*) FROM scores WHERE camera = ? AND at_ms BETWEEN ? AND ? GROUP BY at_ms / ? ORDER BY 1"
        )
    else:
        asked = (
            "SELECT avg(at_ms) + 30000, 1.0 * sum(total) / sum(segments), min(lowest), max(highest),"
            " 1.0 * sum(long_term) / sum(CASE WHEN long_term IS NULL THEN 0 ELSE segments END),"
            " 1.0 * sum(short_term) / sum(CASE WHEN short_term IS NULL THEN 0 ELSE segments END),"
            " max(attention), sum(segments) FROM minutes"
            " WHERE camera = ? AND at_ms BETWEEN ? AND ? GROUP BY at_ms / ? ORDER BY 1"
        )
    with connect(path) as base:
        known = base.execute("SELECT id FROM cameras WHERE name = ?", (camera,)).fetchone()
        rows: Sequence[sqlite3.Row] = ()
        statuses: list[Answer] = []
        if known is not None:
            bounds = (round(from_s * 1000), round(to_s * 1000))
            rows = base.execute(asked, (known["id"], *bounds, step_ms)).fetchall()
            statuses = _statuses(base, known["id"], *bounds)
    return {
        "camera": camera,
        "step_s": step_ms / 1000,
        "points": [
            {
                "at_s": round(at_ms / 1000, 3),
                "mean": _score(mean),
                "lowest": _score(lowest),
                "highest": _score(highest),
                "long_term": _score(long_term),
                "short_term": _score(short_term),
                "attention": _score(attention),
                "segments": segments,
            }
            for at_ms, mean, lowest, highest, long_term, short_term, attention, segments in rows
        ],
        "statuses": statuses,
    }


def _score(value: float | None) -> float | None:
    return None if value is None else round(value / SCALE, 4)


def _statuses(base: sqlite3.Connection, camera: int, from_ms: int, to_ms: int) -> list[Answer]:
    """Those in the span, after the one that held when it began."""
    rows = base.execute(
        "SELECT at_ms, status, reason FROM statuses WHERE camera = :camera AND at_ms BETWEEN :from_ms AND :to_ms"
        " UNION SELECT * FROM (SELECT at_ms, status, reason FROM statuses WHERE camera = :camera AND at_ms < :from_ms"
        " ORDER BY at_ms DESC LIMIT 1) ORDER BY 1 LIMIT 2000",
        {"camera": camera, "from_ms": from_ms, "to_ms": to_ms},
    )
    return [{"at_s": at_ms / 1000, "status": status, "reason": reason} for at_ms, status, reason in rows]


def alert(path: Path, alert_id: str) -> Answer | None:
    with connect(path) as base:
        row = base.execute(f"{_ALERT} WHERE a.alert_id = ?", (alert_id,)).fetchone()
        if row is None:
            return None
        verdicts = base.execute(
            "SELECT at_ms, verdict, category, note, who FROM verdicts WHERE alert_id = ? ORDER BY id", (alert_id,)
        ).fetchall()
    return _alert(row) | {"verdicts": [_verdict(*found) for found in verdicts]}


def alerts(
    path: Path,
    *,
    camera: str | None = None,
    from_s: float | None = None,
    to_s: float | None = None,
    verdict: str | None = None,
    before: str | None = None,
    most: int = 100,
) -> list[Answer]:
    """Newest first. ``verdict`` may be ``none``: nobody judged yet. ``before``: only those older than this alert."""
    conditions: list[tuple[str, Any]] = []
    if camera is not None:
        conditions.append(("a.camera = ?", camera))
    if from_s is not None:
        conditions.append(("a.raised_ms >= ?", round(from_s * 1000)))
    if to_s is not None:
        conditions.append(("a.raised_ms <= ?", round(to_s * 1000)))
    if verdict is not None:
        conditions.append(("coalesce(a.verdict, 'none') = ?", verdict))
    if before is not None:
        later = "(a.raised_ms, a.alert_id) < (SELECT raised_ms, alert_id FROM alerts WHERE alert_id = ?)"
        conditions.append((later, before))
    where = " AND ".join(condition for condition, _ in conditions) or "1"
    values = [value for _, value in conditions]
    asked = f"{_ALERT} WHERE {where} ORDER BY a.raised_ms DESC, a.alert_id DESC LIMIT ?"
    with connect(path) as base:
        return [_alert(row) for row in base.execute(asked, (*values, most))]


def unjudged(path: Path, since_s: float) -> int:
    """How many alerts that were raised since then nobody has judged."""
    asked = "SELECT count(*) FROM alerts WHERE raised_ms >= ? AND verdict IS NULL"
    with connect(path) as base:
        return int(base.execute(asked, (round(since_s * 1000),)).fetchone()[0])


def neighbours(path: Path, alert_id: str) -> tuple[str | None, str | None]:
    """The next newer and the next older alert of the plant."""
    here = "(SELECT raised_ms, alert_id FROM alerts WHERE alert_id = ?)"
    with connect(path) as base:
        found = [
            base.execute(
                f"SELECT alert_id FROM alerts WHERE (raised_ms, alert_id) {sign} {here}"  # noqa: S608
                f" ORDER BY raised_ms {way}, alert_id {way} LIMIT 1",
                (alert_id,),
            ).fetchone()
            for sign, way in ((">", "ASC"), ("<", "DESC"))
        ]
    return (found[0] and found[0][0], found[1] and found[1][0])


def _alert(row: sqlite3.Row) -> Answer:
    told = json.loads(row["payload"])
    evidence = told["evidence"]
    judged = row["said"] is not None
    return {
        "alert_id": row["alert_id"],
        "camera": row["camera"],
        "kind": told["kind"],
        "reason": told["reason"],
        "raised_s": row["raised_ms"] / 1000,
        "captured_s": row["captured_ms"] / 1000,
        "ended_s": None if row["ended_ms"] is None else row["ended_ms"] / 1000,
        "onset_s": _seconds(told["onset_at"]),
        "score": told["score"],
        "peak_score": told["peak_score"],
        "threshold": told["threshold"],
        "long_term": told["long_term"],
        "short_term": told["short_term"],
        "bridged": told["bridged"],
        "labels": told["labels"],
        "evidence": {
            "state": evidence["state"],
            "clip": evidence["clip"] is not None,
            "snapshot": evidence["snapshot"] is not None,
            "note": evidence["note"],
        },
        "verdict": _verdict(row["judged_ms"], row["said"], row["category"], row["note"], row["who"])
        if judged
        else None,
        "acknowledged": None
        if row["acknowledged_ms"] is None
        else {"at_s": row["acknowledged_ms"] / 1000, "who": row["acknowledged_by"]},
    }


def _verdict(at_ms: int, verdict: str, category: str | None, note: str, who: str) -> Answer:
    return {"at_s": at_ms / 1000, "verdict": verdict, "category": category, "note": note, "who": who}


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def evidence_link(path: Path, alert_id: str, what: str) -> str | None:
    """Where the alert's ``clip`` or ``snapshot`` lies, relative to the evidence folder; None: nowhere."""
    with connect(path) as base:
        row = base.execute("SELECT payload FROM alerts WHERE alert_id = ?", (alert_id,)).fetchone()
    found = None if row is None else json.loads(row["payload"])["evidence"][what]
    return None if found is None else str(found["link"])


def shelves(path: Path, now_s: float) -> dict[str, Answer]:
    """The shelves that hold now, by camera."""
    with connect(path) as base:
        rows = base.execute("SELECT * FROM shelves WHERE until_ms > ? ORDER BY id", (round(now_s * 1000),)).fetchall()
    return {row["camera"]: _shelf(row) for row in rows}


def _shelf(row: sqlite3.Row) -> Answer:
    times = {"at_s": row["at_ms"] / 1000, "until_s": row["until_ms"] / 1000}
    return times | {"reason": row["reason"], "who": row["who"]}


def shift(path: Path, from_s: float, to_s: float) -> Answer:
    """What a shift hands over: alerts by camera and by day, verdicts and how soon, and what was not seen."""
    listed = alerts(path, from_s=from_s, to_s=to_s, most=5000)
    cameras: dict[str, dict[str, int]] = {}
    days: dict[str, dict[str, int]] = {}
    for one in listed:
        said = "none" if one["verdict"] is None else one["verdict"]["verdict"]
        for table, key in ((cameras, one["camera"]), (days, _day(one["raised_s"]))):
            counts = table.setdefault(key, {"alerts": 0, "real": 0, "false": 0, "unsure": 0, "none": 0})
            counts["alerts"] += 1
            counts[said] += 1
    judged = sum(counts["real"] + counts["false"] for counts in cameras.values())
    false = sum(counts["false"] for counts in cameras.values())
    bounds = (round(from_s * 1000), round(to_s * 1000))
    with connect(path) as base:
        # The first verdict of each: who corrects one the next day was not slow.
        (wait_ms,) = base.execute(
            "SELECT avg(first_ms - raised_ms) FROM (SELECT a.raised_ms, min(v.at_ms) AS first_ms FROM alerts a"
            " JOIN verdicts v ON v.alert_id = a.alert_id WHERE a.raised_ms BETWEEN ? AND ? GROUP BY a.alert_id)",
            bounds,
        ).fetchone()
        shelved = base.execute("SELECT * FROM shelves WHERE at_ms <= ? AND until_ms >= ? ORDER BY id", bounds[::-1])
        shelf_rows = [{"camera": row["camera"]} | _shelf(row) for row in shelved]
        named = base.execute("SELECT id, name FROM cameras ORDER BY name").fetchall()
        unseen = {row["name"]: _unseen_s(_statuses(base, row["id"], *bounds), from_s, to_s) for row in named}
    return {
        "from_s": from_s,
        "to_s": to_s,
        "alerts": listed,
        "cameras": [
            {"camera": name} | counts
            for name, counts in sorted(cameras.items(), key=lambda item: (-item[1]["alerts"], item[0]))
        ],
        "days": [{"day": day} | counts for day, counts in sorted(days.items())],
        "judged": judged,
        "false_share": false / judged if judged else None,
        "mean_to_verdict_s": None if wait_ms is None else wait_ms / 1000,
        "shelves": shelf_rows,
        "unseen": [
            {"camera": name, "seconds": round(seconds, 1)}
            for name, seconds in sorted(unseen.items(), key=lambda item: -item[1])
            if seconds >= 1
        ],
    }


def _day(at_s: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(at_s).astimezone().strftime("%Y-%m-%d")


def _unseen_s(statuses: Sequence[Answer], from_s: float, to_s: float) -> float:
    """Seconds of the span in which the camera was meant to be watched and was not."""
    total = 0.0
    ends = [one["at_s"] for one in statuses[1:]] + [to_s]
    for one, end_s in zip(statuses, ends, strict=False):
        if one["status"] in ("lost", "connecting", "learning", "stopped"):
            total += max(min(end_s, to_s) - max(one["at_s"], from_s), 0.0)
    return total
