"""What the monitor and its readers hold, read from the kernel; what they count, read from a real scrape."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

READER = b"monitor.ingest.worker"
_SERIES = re.compile(r"^(\w+)(?:\{([^}]*)\})? (\S+)$", re.M)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
TOTALS = (
    "vad_camera_segments_total",
    "vad_camera_segments_scored_total",
    "vad_camera_reconnects_total",
    "vad_camera_alarms_total",
    "vad_reader_restarts_total",
    "vad_evidence_written_total",
    "vad_evidence_failed_total",
    "vad_outbox_messages",
    "vad_mqtt_connected",
    "vad_camera_up",
)
REASONS = ("vad_camera_segments_dropped_total", "vad_camera_segments_invalid_total", "vad_config_reloads_total")


def family(pid: int) -> list[int]:
    """A process and all that came from it, whichever of its threads started them."""
    members = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                members += [m for child in (task / "children").read_text().split() for m in family(int(child))]
    return members


def readers(pid: int) -> list[int]:
    """The reader processes of a monitor."""
    found = []
    for member in family(pid):
        with contextlib.suppress(OSError):
            if READER in Path(f"/proc/{member}/cmdline").read_bytes():
                found.append(member)
    return found


def held(pid: int) -> dict[str, float]:
    """Memory in MB (PSS: shared pages once), descriptors, threads and CPU seconds, of the monitor and its readers;
    CPU seconds of both together too."""
    found: Counter[str] = Counter()
    for member in family(pid):
        with contextlib.suppress(OSError):
            of = "readers" if READER in Path(f"/proc/{member}/cmdline").read_bytes() else "monitor"
            rollup = _kilobytes(Path(f"/proc/{member}/smaps_rollup").read_text())
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            found[f"{of}_pss_mb"] += rollup["Pss"] / 1024
            found[f"{of}_rss_mb"] += rollup["Rss"] / 1024
            found[f"{of}_anonymous_mb"] += rollup["Anonymous"] / 1024
            found[f"{of}_descriptors"] += len(list(Path(f"/proc/{member}/fd").iterdir()))
            found[f"{of}_threads"] += int(fields[17])
            found["cpu_s"] += (used_s := (int(fields[11]) + int(fields[12])) / 100)
            found[f"{of}_cpu_s"] += used_s
            found["processes"] += 1
            found["zombies"] += fields[0] == "Z"
    return dict(found)


def _kilobytes(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"^(\w+): +(\d+) kB$", text, re.M)}


def series(scrape: str) -> dict[str, float]:
    """Name and labels, as they stand there, → value."""
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in scrape.splitlines() if line[:1] != "#"}


def total(scraped: Mapping[str, float], name: str) -> float:
    """The sum of a name's series, whatever their labels."""
    return sum(value for key, value in scraped.items() if key.partition("{")[0] == name)


def counted(scrape: str) -> dict[str, float]:
    """Sums over all cameras, by reason where there is one: ``invalid: decode_error``."""
    found: Counter[str] = Counter()
    for name, labels, value in _SERIES.findall(scrape):
        if name in TOTALS:
            found[name.removeprefix("vad_").removeprefix("camera_")] += float(value)
        if name in REASONS:
            of = dict(_LABEL.findall(labels))
            kind = name.removesuffix("_total").rpartition("_")[2]
            found[f"{kind}: {of.get('reason') or of.get('result')}"] += float(value)
    return dict(found)
