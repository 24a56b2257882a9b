"""Verdicts → a list of videos that training reads: an alert's clip with its verdict is a weak label.

The columns are those of ``training.catalogue`` (the monitor never imports it; a test reads one through the other).
Paths are relative to the evidence folder. ``real`` is 1, ``false`` is 0; what nobody was sure of is left out, and so is
an alert whose clip is gone. One camera is one scene: no held-out part ever parts it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from monitor.console.history import connect

COLUMNS = ("id", "path", "label", "class", "scene", "split", "fold", "frames", "width", "height", "duration_s")


def write(path: Path, is_there: Callable[[str], bool]) -> str:
    """The CSV. ``is_there`` says whether a link of the evidence folder still leads to a clip."""
    with connect(path) as base:
        rows = base.execute(
            "SELECT a.camera, json_extract(a.payload, '$.evidence.clip.link') AS link, v.verdict, v.category"
            " FROM alerts a"
            " JOIN verdicts v ON v.id = (SELECT max(id) FROM verdicts WHERE alert_id = a.alert_id)"
            " WHERE v.verdict IN ('real', 'false') AND link IS NOT NULL ORDER BY a.raised_ms, a.alert_id"
        ).fetchall()
    out = io.StringIO()
    lines = csv.writer(out)
    lines.writerow(COLUMNS)
    for camera, link, verdict, category in rows:
        if is_there(link):
            key = PurePosixPath(link).with_suffix("").as_posix()
            real = verdict == "real"
            lines.writerow((key, link, int(real), (category or "") if real else "", camera, *[""] * 6))
    return out.getvalue()
