"""Where the monitor counts and measures; the only module that touches prometheus_client.

Histograms and counts of events are pushed through the methods of ``Metrics``. Everything whose truth lies
elsewhere (the readers' cumulative counters, the outbox, the alarms) is asked for at each scrape as frozen
figures, so that no number is kept twice and a removed camera's series vanish by themselves. The list of all
series is series.py.

``python -m monitor.observe.metrics`` prints the list as the README's table.
"""

from __future__ import annotations

import gzip
import platform
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter

from prometheus_client import Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import CollectorRegistry
from prometheus_client.samples import Sample

from monitor.config.plant import COMMANDS
from monitor.flow import CameraStatus
from monitor.observe.series import (
    DROPPED_REASONS,
    INVALID_REASONS,
    SERIES,
    CameraFigures,
    ProcessFigures,
    Series,
    reference,
)

__all__ = ["CameraFigures", "Metrics", "ProcessFigures", "compress"]

_ROW = {row.name: row for row in SERIES}
_CAMERA_ROWS = tuple(row for row in SERIES if row.of_camera)
_PROCESS_ROWS = tuple(row for row in SERIES if row.figure is not None and not row.of_camera)
_MOST_REASONS = {
    "vad_camera_segments_dropped_total": DROPPED_REASONS,
    "vad_camera_segments_invalid_total": INVALID_REASONS,
}


class _Reasons:
    """Keeps the label ``reason`` within its budget: the first reasons ever seen keep their name for the life
    of the process, all later ones are ``other``, so that no counter falls by being renamed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, str] = {}

    def __call__(self, counts: Mapping[str, int]) -> dict[str, int]:
        folded: dict[str, int] = {}
        for reason, count in sorted(counts.items()):
            if reason not in self._known and len(self._known) < self._most - 1:
                self._known[reason] = reason
            label = self._known.get(reason, "other")
            folded[label] = folded.get(label, 0) + count
        return folded


class _Figures:
    """The custom collector: asks for the figures at each scrape and lays them out as samples.

    One labels dict a camera is shared by all its plain samples: 39,000 samples take 0.07 s to make here.
    """

    def __init__(self, cameras: Callable[[], Iterable[CameraFigures]], process: Callable[[], ProcessFigures]) -> None:
        self._cameras = cameras
        self._process = process
        self._reasons = {name: _Reasons(most) for name, most in _MOST_REASONS.items()}

    def describe(self) -> Iterator[Metric]:
        for row in (*_CAMERA_ROWS, *_PROCESS_ROWS):
            yield _family(row)

    def collect(self) -> Iterator[Metric]:
        cameras = [(figures, {"camera": figures.camera}) for figures in self._cameras()]
        for row in _CAMERA_ROWS:
            family = _family(row)
            read = attrgetter(row.figure or "")
            for figures, labels in cameras:
                family.samples.extend(self._samples(row, labels, read(figures)))
            yield family
        figures_of_process = self._process()
        for row in _PROCESS_ROWS:
            family = _family(row)
            value = getattr(figures_of_process, row.figure or "")
            if value is not None:
                if row.labels:
                    family.samples += [Sample(row.name, {row.labels[0]: of}, float(n)) for of, n in value.items()]
                else:
                    family.samples.append(Sample(row.name, {}, float(value)))
                yield family

    def _samples(self, row: Series, labels: dict[str, str], value: object) -> Iterable[Sample]:
        if value is None:
            return ()
        if isinstance(value, CameraStatus):
            return (
                Sample(row.name, labels | {"status": status.value}, 1.0 if status is value else 0.0)
                for status in CameraStatus
            )
        if isinstance(value, Mapping):
            fold, label = self._reasons.get(row.name), row.labels[1]
            counts = value if fold is None else fold(value)
            return (Sample(row.name, labels | {label: which}, n) for which, n in counts.items())
        return (Sample(row.name, labels, float(value)),)  # type: ignore[arg-type]


def _family(row: Series) -> Metric:
    return Metric(row.name.removesuffix("_total"), row.meaning, row.kind)


class Metrics:
    """All series of one monitor on a registry of its own. Every method may be called from any thread."""

    def __init__(
        self,
        cameras: Callable[[], Iterable[CameraFigures]] = tuple,
        process: Callable[[], ProcessFigures] = ProcessFigures,
    ) -> None:
        """``cameras`` and ``process`` are asked at each scrape, on the thread that scrapes."""
        # The library would add a series x_created to every counter and histogram;
        # ours are in the list, all of them.
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library's own, without annotations
        # One scrape at a time: two would share one core's time, and the reasons' memory.
        self._scraping = threading.Lock()
        self._registry = registry = CollectorRegistry()
        registry.register(_Figures(cameras, process))
        self._batch_segments = _histogram("vad_batch_segments", registry)
        self._backbone = _histogram("vad_backbone_seconds", registry)
        self._detectors = _histogram("vad_detectors_seconds", registry)
        self._scored = _histogram("vad_capture_to_score_seconds", registry)
        self._acknowledged = _histogram("vad_capture_to_acknowledged_seconds", registry)
        self._lag = _histogram("vad_event_loop_lag_seconds", registry)
        self._evidence_written = _counter("vad_evidence_written_total", registry)
        self._evidence_failed = _counter("vad_evidence_failed_total", registry)
        self._reloads = _counter("vad_config_reloads_total", registry)
        for result in ("applied", "refused"):
            self._reloads.labels(result)
        self._judged = _histogram("vad_verdict_seconds", registry)
        self._canary = _counter("vad_canary_runs_total", registry)
        self._commands = _counter("vad_commands_total", registry)
        for command in (*COMMANDS, "other"):
            for result in ("done", "refused"):
                self._commands.labels(command, result)
        self._build = _gauge("vad_build_info", registry)
        self._artefact = _gauge("vad_artefact_info", registry)
        ProcessCollector(namespace="vad", registry=registry)

    def observe_batch(self, segments: int, backbone_s: float, detectors_s: float) -> None:
        """One batch went through the scorer."""
        self._batch_segments.observe(segments)
        self._backbone.observe(backbone_s)
        self._detectors.observe(detectors_s)

    def observe_scored(self, seconds: float) -> None:
        """A bag's score was ready ``seconds`` after its last packet arrived."""
        self._scored.observe(seconds)

    def observe_acknowledged(self, seconds: float) -> None:
        """The broker acknowledged an alert ``seconds`` after the packet that caused it arrived."""
        self._acknowledged.observe(seconds)

    def observe_event_loop_lag(self, seconds: float) -> None:
        self._lag.observe(seconds)

    def count_evidence(self, *, written: bool) -> None:
        """An alert's evidence was written whole, or not."""
        (self._evidence_written if written else self._evidence_failed).inc()

    def count_reload(self, *, applied: bool) -> None:
        """A new configuration was applied, or refused and the old one kept."""
        self._reloads.labels("applied" if applied else "refused").inc()

    def observe_verdict(self, seconds: float) -> None:
        """An alert got its first verdict ``seconds`` after it was raised."""
        self._judged.observe(seconds)

    def expect_canary(self) -> None:
        """There is one: its results count from zero."""
        for result in ("passed", "decode", "features", "scores", "broker"):
            self._canary.labels(result)

    def count_canary(self, result: str) -> None:
        """A run of the canary ended: ``passed``, or the part that failed."""
        self._canary.labels(result).inc()

    def count_command(self, command: str, done: bool) -> None:
        """One came over MQTT: ``disarm`` …, or ``other``."""
        self._commands.labels(command, "done" if done else "refused").inc()

    def set_build(self, version: str, torch: str) -> None:
        self._build.clear()
        self._build.labels(version, platform.python_version(), torch).set(1)

    def set_artefact(self, *, name: str, backbone: str, device: str, bag_length: int, stride: int, delay: int) -> None:
        """``name`` is the artefact's, not its path; ``device`` as torch names it (``cpu``, ``cuda:0``)."""
        self._artefact.clear()
        self._artefact.labels(name, backbone, device, str(bag_length), str(stride), str(delay)).set(1)

    def exposition(self) -> tuple[bytes, str]:
        """The whole scrape and its content type, the Prometheus text format.

        Never OpenMetrics, though Prometheus would rather have it: it says nothing more of our series, and at
        1,000 cameras (39,000 samples) it took 0.72 s of a core where the text took 0.40 s. Call it off the
        event loop.
        """
        encode, content_type = choose_encoder("")
        with self._scraping:
            return encode(self._registry), content_type


def compress(scrape: bytes) -> bytes:
    """gzip at its lowest level, which shrinks text as repetitive as this nearly twentyfold in 9 ms."""
    return gzip.compress(scrape, compresslevel=1)


def _histogram(name: str, registry: CollectorRegistry) -> Histogram:
    row = _ROW[name]
    return Histogram(row.name, row.meaning, row.labels, registry=registry, buckets=row.buckets)


def _counter(name: str, registry: CollectorRegistry) -> Counter:
    row = _ROW[name]
    return Counter(row.name, row.meaning, row.labels, registry=registry)


def _gauge(name: str, registry: CollectorRegistry) -> Gauge:
    row = _ROW[name]
    return Gauge(row.name, row.meaning, row.labels, registry=registry)


if __name__ == "__main__":
    print(reference())
