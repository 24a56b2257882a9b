"""vad-monitor replay: recordings through the very same path, as fast as the machine can, with nothing dropped."""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from monitor.alerting import alarm
from monitor.config import EvidenceSettings, Ingest, Scoring, Thresholds
from monitor.flow import AlertKind, BagScore, Segment
from monitor.ingest.camera import ReaderSettings
from monitor.ingest.pool import ReaderPool
from monitor.ingest.wire import CameraHealth
from monitor.scoring.rings import open_rings
from monitor.scoring.scorer import Scorer

COLUMNS = ("file", "segment", "start_s", "end_s", "score", "long_term", "short_term")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One segment of one file. The scores of an invalid segment are None and ``invalid`` says why."""

    segment: int
    start_s: float
    end_s: float
    score: float | None = None
    long_term: float | None = None
    short_term: float | None = None
    invalid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What became of one file: its rows in order, and why there are no more if it could not be read to its end."""

    file: Path
    rows: tuple[Row, ...]
    fault: str | None = None


@dataclass(slots=True)
class _Collecting:
    """Source and sink of the scorer: hands on the pool's segments, keeps what is said of them."""

    pool: ReaderPool
    open_files: set[str]
    rows: dict[str, dict[int, Row]] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    finished: int = 0
    segments: int = 0
    """Taken so far: one long recording shows nothing else for minutes."""

    def take(self, most: int, deadline_s: float, timeout_s: float) -> list[Segment]:
        segments = self.pool.take(most, deadline_s, timeout_s)
        self.segments += len(segments)
        for segment in segments:
            if segment.invalid is not None:
                self.rows.setdefault(segment.camera, {})[segment.number] = Row(
                    segment=segment.number,
                    start_s=segment.start_s,
                    end_s=segment.end_s,
                    invalid=segment.invalid,
                )
        self._closing = [segment.camera for segment in segments if segment.last]
        return segments

    _closing: list[str] = field(default_factory=list)

    def release(self, segments: Iterable[Segment]) -> None:
        self.pool.release(segments)

    def scored(self, bags: Sequence[BagScore]) -> None:
        for bag in bags:
            for index in bag.published:
                times = bag.times[index]
                if times is not None:
                    self.rows.setdefault(bag.camera, {})[times.number] = Row(
                        segment=times.number,
                        start_s=times.start_s,
                        end_s=times.end_s,
                        score=float(bag.scores_N[index]),
                        long_term=float(bag.long_term_N[index]),
                        short_term=float(bag.short_term_N[index]),
                    )

    def batch(self, segments: int, backbone_s: float, detectors_s: float) -> None:
        pass  # a replay shows its progress by files, not by batches

    def turned(self) -> None:
        self.finished += len(self.open_files & set(self._closing))
        self.open_files -= set(self._closing)
        self._closing = []
        if not self.open_files:
            self.done.set()

    def failed(self, error: BaseException) -> None:
        self.error = error
        self.done.set()


def replay(
    files: Sequence[Path], scoring: Scoring, *, fps: float | None = None, quiet: bool = False
) -> tuple[list[Replayed], Thresholds]:
    """Scores every file. Returns them in the order given, and the artefact's thresholds.

    Two replays of the same files are identical on a CPU: nothing is dropped, and files are cut, encoded and scored
    in batches whose composition does not change the numbers beyond the engine's own rounding.
    """
    rings = open_rings(scoring, files=True)
    card = rings.artefact.card
    by_name = {str(file): file for file in files}
    cameras = [
        ReaderSettings(name=name, url=file.resolve().as_uri(), fps=fps or card.fps, frozen_after_s=None)
        for name, file in by_name.items()
    ]
    with ReaderPool(
        cameras, rings.backbone.preprocessing, ingest=Ingest(), evidence=EvidenceSettings(), live=False
    ) as pool:
        collecting = _Collecting(pool=pool, open_files=set(by_name))
        scorer = Scorer(rings, collecting, collecting, batch_max=scoring.batch_max, deadline_s=scoring.batch_deadline_s)
        scorer.start()
        _wait(collecting, len(by_name), quiet=quiet)
        scorer.stop(drain_s=10.0)
        if collecting.error is not None:
            raise collecting.error
        health = pool.health()
    replayed = []
    for name, file in by_name.items():
        rows = tuple(row for _, row in sorted(collecting.rows.get(name, {}).items()))
        replayed.append(outcome(file, rows, health[name]))
    return replayed, card.thresholds


def outcome(file: Path, rows: tuple[Row, ...], health: CameraHealth) -> Replayed:
    """A file that broke off keeps the scores of what came before, and says that it broke off."""
    nothing = None if rows else f"{file}: no frame could be decoded"
    return Replayed(file=file, rows=rows, fault=health.fault or nothing)


def _wait(collecting: _Collecting, files: int, *, quiet: bool) -> None:
    taken = TextColumn("files, {task.fields[segments]} segments")
    columns = (TextColumn("replay"), BarColumn(), MofNCompleteColumn(), taken, TimeElapsedColumn())
    with Progress(*columns, disable=quiet, transient=True) as progress:
        task = progress.add_task("files", total=files, segments=0)
        while not collecting.done.wait(0.1):
            progress.update(task, completed=collecting.finished, segments=collecting.segments)
        progress.update(task, completed=files)


def write_csv(path: Path, replayed: Iterable[Replayed]) -> None:
    """``file,segment,start_s,end_s,score,long_term,short_term``; an invalid segment's scores are empty."""
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(COLUMNS)
        for one in replayed:
            for row in one.rows:
                scores = [
                    "" if score is None else f"{score:.6f}" for score in (row.score, row.long_term, row.short_term)
                ]
                writer.writerow([str(one.file), row.segment, f"{row.start_s:.3f}", f"{row.end_s:.3f}", *scores])


def alerts(rows: Sequence[Row], thresholds: Thresholds) -> list[tuple[float, float]]:
    """(start_s, end_s) of the alarms that the monitor would have raised on these scores."""
    spans: list[tuple[float, float]] = []
    state = alarm.CALM
    raised_s: float | None = None
    for row in rows:
        if row.score is None:
            continue
        state, change = alarm.step(state, row.score, row.end_s, thresholds)
        if change is not None and change.kind is AlertKind.RAISED:
            raised_s = row.start_s if change.crossed_at is None else min(change.crossed_at, row.start_s)
        if change is not None and change.kind is AlertKind.ENDED and raised_s is not None:
            spans.append((raised_s, row.end_s))
            raised_s = None
    if raised_s is not None:
        spans.append((raised_s, rows[-1].end_s))
    return spans


def draw(path: Path, one: Replayed, thresholds: Thresholds) -> None:
    """The score curve of one file: the mean, both parts, the thresholds, alerts and what was not scored."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 3.2), layout="constrained")
    edges = [row.start_s for row in one.rows] + [one.rows[-1].end_s]
    nothing = float("nan")
    for label, values, colour, width in (
        ("long term", [nothing if row.long_term is None else row.long_term for row in one.rows], "#4477aa", 1),
        ("short term", [nothing if row.short_term is None else row.short_term for row in one.rows], "#ccbb44", 1),
        ("score", [nothing if row.score is None else row.score for row in one.rows], "#222222", 2),
    ):
        axes.stairs(values, edges, baseline=None, label=label, color=colour, lw=width)
    for at, name in ((thresholds.raise_at, "raise"), (thresholds.clear_at, "clear")):
        axes.axhline(at, color="#aa3377", lw=1, ls="--" if name == "raise" else ":", label=f"{name} at {at:.2f}")
    for span, colour, alpha, label in (
        (alerts(one.rows, thresholds), "#ee6677", 0.25, "alert"),
        ([(row.start_s, row.end_s) for row in one.rows if row.invalid is not None], "#bbbbbb", 0.6, "not scored"),
    ):
        for number, (start_s, end_s) in enumerate(span):
            # An underscore keeps the second and later ones out of the legend.
            axes.axvspan(start_s, end_s, color=colour, alpha=alpha, lw=0, label=label if number == 0 else f"_{label}")
    axes.set(xlabel="seconds", ylabel="score", ylim=(0, 1), title=one.file.name)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def run(files: Sequence[Path], out: Path, scoring: Scoring, *, fps: float | None, pictures: bool) -> list[Replayed]:
    """Replays, writes ``scores.csv`` and a picture a file into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    started_s = time.monotonic()
    replayed, thresholds = replay(files, scoring, fps=fps)
    write_csv(out / "scores.csv", replayed)
    taken: set[str] = set()
    for one in replayed:
        if pictures and one.rows:
            name = one.file.stem
            while name in taken:
                name += "_"
            taken.add(name)
            draw(out / f"{name}.png", one, thresholds)
    seconds = sum(one.rows[-1].end_s for one in replayed if one.rows)
    passed_s = time.monotonic() - started_s
    segments = sum(len(one.rows) for one in replayed)
    print(
        f"{len(replayed)} files, {segments} segments, {seconds:.0f} s of video in {passed_s:.0f} s → {out}/scores.csv"
    )
    return replayed
