"""The bag that raised an alert: where the detector looked in it, and which other alerts of the camera were like it.

A bag's feature is the mean of its segments' features, weighted by the attention: what was looked at is compared.
Features of two artefacts are never compared, for their directions mean different things.
"""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from monitor.console.history import BagRow, connect
from monitor.flow import BagScore

RECENT = 8
"""Bags kept of a camera: an alert is committed to the disk while later bags are scored."""
MOST_COMPARED = 2000
"""The newest alerts of the camera; 2,000 features of 1,280 numbers are 5 MB."""
MOST_SIMILAR = 6


@dataclass(frozen=True, slots=True)
class _Bag:
    captured_s: tuple[float | None, ...]
    attention: tuple[float, ...]
    feature: bytes


class Recent:
    """The newest bags of every camera. One thread."""

    def __init__(self) -> None:
        self.artefact = ""
        """What scores now; set before the first bag."""
        self._bags: dict[str, deque[_Bag]] = {}

    def add(self, bag: BagScore) -> None:
        kept = _Bag(
            tuple(None if times is None else times.captured_wall_s for times in bag.times),
            tuple(round(float(weight), 4) for weight in bag.attention_N),
            b"" if bag.feature_D is None else bag.feature_D.astype("<f2").tobytes(),
        )
        self._bags.setdefault(bag.camera, deque(maxlen=RECENT)).append(kept)

    def forget(self, others_than: set[str]) -> None:
        """Cameras that are no more."""
        for camera in [camera for camera in self._bags if camera not in others_than]:
            del self._bags[camera]

    def raised(self, told: Mapping[str, Any]) -> BagRow | None:
        """The bag of an alert's first message: the latest that has the segment which raised it."""
        bags = self._bags.get(told["camera"])
        if told["kind"] != "raised" or not bags:
            return None
        at_s = datetime.fromisoformat(told["captured_at"]).timestamp()
        having = (bag for bag in reversed(bags) if any(s is not None and abs(s - at_s) < 0.002 for s in bag.captured_s))
        bag = next(having, bags[-1])
        weights = [[at, weight] for at, weight in zip(bag.captured_s, bag.attention, strict=True)]
        return BagRow(
            alert_id=told["alert_id"],
            camera=told["camera"],
            artefact=self.artefact,
            feature=bag.feature,
            attention=json.dumps(weights),
        )


def attention(path: Path, alert_id: str) -> list[dict[str, float | None]]:
    """Of the bag that raised the alert, a weight a segment; empty: not kept. ``at_s`` None: a bridged segment."""
    with connect(path) as base:
        row = base.execute("SELECT attention FROM bags WHERE alert_id = ?", (alert_id,)).fetchone()
    return [] if row is None else [{"at_s": at_s, "weight": weight} for at_s, weight in json.loads(row["attention"])]


def similar(path: Path, alert_id: str) -> list[dict[str, Any]]:
    """Other alerts of the same camera, the most alike first; ``likeness`` is the cosine of the bags' features."""
    with connect(path) as base:
        own = base.execute("SELECT * FROM bags WHERE alert_id = ? AND feature != x''", (alert_id,)).fetchone()
        if own is None:
            return []
        rows = base.execute(
            "SELECT b.feature, a.alert_id, a.raised_ms, a.verdict, json_extract(a.payload, '$.peak_score') AS peak"
            " FROM alerts a JOIN bags b ON b.alert_id = a.alert_id"
            " WHERE a.camera = ? AND b.artefact = ? AND length(b.feature) = ? AND a.alert_id != ?"
            " ORDER BY a.raised_ms DESC LIMIT ?",
            (own["camera"], own["artefact"], len(own["feature"]), alert_id, MOST_COMPARED),
        ).fetchall()
    if not rows:
        return []
    others_RD = np.frombuffer(b"".join(row["feature"] for row in rows), "<f2").reshape(len(rows), -1).astype(np.float32)
    feature_D = np.frombuffer(own["feature"], "<f2").astype(np.float32)
    lengths_R = np.linalg.norm(others_RD, axis=1) * np.linalg.norm(feature_D)
    likeness_R = others_RD @ feature_D / np.maximum(lengths_R, 1e-12)
    return [_similar(rows[at], float(likeness_R[at])) for at in np.argsort(-likeness_R, kind="stable")[:MOST_SIMILAR]]


def _similar(row: sqlite3.Row, likeness: float) -> dict[str, Any]:
    return {
        "alert_id": row["alert_id"],
        "raised_s": row["raised_ms"] / 1000,
        "peak_score": row["peak"],
        "verdict": row["verdict"],
        "likeness": round(likeness, 3),
    }
