"""Every series the monitor exports, in one list, and the figures that most of them are read from."""
# ruff: noqa: E501 - the list has one row a line, so that it reads as the table it is

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from monitor.flow import CameraStatus

CAMERA_BUDGET = 50
"""At most so many series a camera: 1,000 cameras are 50,000 series, which one Prometheus holds with ease."""
DROPPED_REASONS = 8
INVALID_REASONS = 6
"""At most so many values of the label ``reason`` a camera, ``other`` among them."""
VERDICTS = ("real", "false", "unsure")

_UPTO_MINUTES = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0)
"""A bag alone lasts from seconds to half a minute, and an outage of the broker minutes."""
_UPTO_A_DAY = (5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 86400.0)
_UPTO_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraFigures:
    """What one camera's series say, taken at one moment. Counters are cumulative since the camera was added
    and never fall, over restarts of its reader too. None leaves the series out.
    """

    camera: str
    status: CameraStatus
    up: bool
    frames_decoded: int = 0
    segments: int = 0
    """Made by the reader, the dropped and the invalid ones included."""
    segments_scored: int = 0
    segments_bridged: int = 0
    segments_dropped: Mapping[str, int] = field(default_factory=dict)
    segments_invalid: Mapping[str, int] = field(default_factory=dict)
    decode_errors: int = 0
    reconnects: int = 0
    stalls: int = 0
    last_frame_wall_s: float | None = None
    evidence_held_s: float | None = None
    picture: Mapping[str, int] = field(default_factory=dict)
    """1 for what is wrong with the picture, 0 for what is not."""
    drift_ppm: float | None = None
    lag_s: float | None = None
    score: float | None = None
    long_term: float | None = None
    short_term: float | None = None
    raise_at: float | None = None
    clear_at: float | None = None
    alarms: int = 0
    alarm_raised: bool = False
    verdicts: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(VERDICTS, 0))
    scored_ratio: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFigures:
    """What the monitor's own series say, taken at one moment. None leaves the series out."""

    queue_segments: int | None = None
    mqtt_connected: bool | None = None
    outbox_messages: int | None = None
    outbox_durable: bool | None = None
    nvdec_asked: int | None = None
    nvdec_cameras: int | None = None
    incidents: int | None = None
    incidents_open: int | None = None
    alerts_late: int | None = None
    held_back: Mapping[str, int] = field(default_factory=dict)
    """By cause."""
    readers: int | None = None
    reader_restarts: int | None = None
    disk_free_bytes: Mapping[str, int] | None = None
    disk_size_bytes: Mapping[str, int] | None = None
    canary_ok: bool | None = None
    canary_passed_wall_s: float | None = None
    canary_latency_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One row of the list. ``figure`` names the field of CameraFigures or ProcessFigures that holds its value at
    each scrape; without one the value is pushed (or, for ``vad_process_*``, read from the kernel).
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    meaning: str
    labels: tuple[str, ...] = ()
    figure: str | None = None
    buckets: tuple[float, ...] = ()

    @property
    def of_camera(self) -> bool:
        return self.labels[:1] == ("camera",)


def _camera(
    name: str,
    kind: Literal["counter", "gauge"],
    unit: str,
    figure: str,
    meaning: str,
    label: str | None = None,
) -> Series:
    labels = ("camera",) if label is None else ("camera", label)
    return Series(name=f"vad_camera_{name}", kind=kind, unit=unit, meaning=meaning, labels=labels, figure=figure)


def _process(
    name: str,
    kind: Literal["counter", "gauge", "histogram"],
    unit: str,
    meaning: str,
    *,
    figure: str | None = None,
    labels: tuple[str, ...] = (),
    buckets: tuple[float, ...] = (),
) -> Series:
    return Series(
        name=f"vad_{name}",
        kind=kind,
        unit=unit,
        meaning=meaning,
        labels=labels,
        figure=figure,
        buckets=buckets,
    )


# fmt: off
SERIES: tuple[Series, ...] = (
    # One camera.
    _camera("up", "gauge", "0 or 1", "up", "1 while the camera's stream delivers frames."),
    _camera("status", "gauge", "0 or 1", "status", "1 for the camera's present status, 0 for all others; only ok means that silence is calm.", "status"),
    _camera("frames_decoded_total", "counter", "frames", "frames_decoded", "Frames decoded."),
    _camera("segments_total", "counter", "segments", "segments", "Segments of 16 analysed frames made, the dropped and the invalid ones included."),
    _camera("segments_scored_total", "counter", "segments", "segments_scored", "Segments whose score was published."),
    _camera("segments_bridged_total", "counter", "segments", "segments_bridged", "Missing or invalid segments that a bag was scored across."),
    _camera("segments_dropped_total", "counter", "segments", "segments_dropped", "Whole segments dropped before they were scored.", "reason"),
    _camera("segments_invalid_total", "counter", "segments", "segments_invalid", "Segments not scored because their pictures are not real (corrupt, frozen …).", "reason"),
    _camera("decode_errors_total", "counter", "errors", "decode_errors", "Packets or frames that could not be decoded."),
    _camera("reconnects_total", "counter", "reconnects", "reconnects", "Times the stream was opened again after a fault."),
    _camera("stalls_total", "counter", "stalls", "stalls", "Times the stream stayed open but delivered no frame for stall_timeout_s."),
    _camera("last_frame_timestamp_seconds", "gauge", "seconds since 1970", "last_frame_wall_s", "When the last frame arrived, on the monitor's clock; absent before the first."),
    _camera("evidence_held_seconds", "gauge", "seconds", "evidence_held_s", "Length of encoded stream that is kept in memory for clips."),
    _camera("picture_fault", "gauge", "0 or 1", "picture", "1 while this is wrong with the picture (frozen, black, covered, smeared, blurred, moved): maintenance, never an anomaly.", "kind"),
    _camera("clock_drift_ppm", "gauge", "millionths", "drift_ppm", "By how much the camera's time stamps run too fast (below 0: too slow, or its stream falls behind), over the last five minutes; absent in the first."),
    _camera("lag_seconds", "gauge", "seconds", "lag_s", "How much later frames come than they did at best since the stream was opened, by their time stamps."),
    _camera("score", "gauge", "0 to 1", "score", "Anomaly score of the newest scored segment: the mean of both detectors (eq. 3)."),
    _camera("long_term_score", "gauge", "0 to 1", "long_term", "The long-term detector's part of the score (Video Classifier)."),
    _camera("short_term_score", "gauge", "0 to 1", "short_term", "The short-term detector's part of the score (Bi-LSTM+MIL)."),
    _camera("raise_threshold", "gauge", "0 to 1", "raise_at", "Score from which an alarm is raised."),
    _camera("clear_threshold", "gauge", "0 to 1", "clear_at", "Score below which a raised alarm is cleared."),
    _camera("alarms_total", "counter", "alarms", "alarms", "Alarms raised."),
    _camera("alarm_raised", "gauge", "0 or 1", "alarm_raised", "1 while the camera's alarm is raised."),
    _camera("scored_ratio", "gauge", "ratio", "scored_ratio", "Seconds covered by a published score per second since the camera was started."),
    # From capture to broker.
    _process("batch_segments", "histogram", "segments", "Segments that were encoded together.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)),
    _process("backbone_seconds", "histogram", "seconds", "Time the backbone took for one batch.", buckets=_UPTO_SECONDS),
    _process("detectors_seconds", "histogram", "seconds", "Time the detectors took for the bags of one batch.", buckets=_UPTO_SECONDS),
    _process("capture_to_score_seconds", "histogram", "seconds", "From the arrival of a bag's last packet to the bag's score.", buckets=_UPTO_MINUTES),
    _process("capture_to_acknowledged_seconds", "histogram", "seconds", "From the arrival of the last packet that caused an alert to the broker's acknowledgement of it.", buckets=_UPTO_MINUTES),
    _process("queue_segments", "gauge", "segments", "Segments that wait for the scorer.", figure="queue_segments"),
    _process("mqtt_connected", "gauge", "0 or 1", "1 while the MQTT broker is connected.", figure="mqtt_connected"),
    _process("nvdec_asked_cameras", "gauge", "cameras", "Cameras that NVIDIA's decoder was asked to decode.", figure="nvdec_asked"),
    _process("nvdec_cameras", "gauge", "cameras", "Cameras that it decodes; for those that are asked for beside, the CPU does.", figure="nvdec_cameras"),
    _process("outbox_messages", "gauge", "messages", "Alerts that the broker has not acknowledged yet.", figure="outbox_messages"),
    _process("outbox_durable", "gauge", "0 or 1", "1 while alerts are committed to disk; 0: they would be lost with the process.", figure="outbox_durable"),
    _process("incidents_total", "counter", "incidents", "Incidents of many cameras at once.", figure="incidents"),
    _process("incidents_open", "gauge", "incidents", "Incidents with a member whose alarm is raised.", figure="incidents_open"),
    _process("alerts_late_total", "counter", "messages", "Alert messages that the broker took more than 30 s after their decision.", figure="alerts_late"),
    _process("updates_held_back_total", "counter", "messages", "Updates not sent because of an incident, a backlog, the rate; alarms of a camera with too many of them (flapping).", figure="held_back", labels=("cause",)),
    _process("evidence_written_total", "counter", "alerts", "Alerts whose evidence was written whole."),
    _process("evidence_failed_total", "counter", "alerts", "Alerts whose evidence is missing or incomplete."),
    # What people said of alerts.
    _camera("verdicts_total", "counter", "verdicts", "verdicts", "Verdicts of people on the camera's alerts; a later one on the same alert counts again.", label="verdict"),
    _process("verdict_seconds", "histogram", "seconds", "From an alert to its first verdict; the mean is _sum / _count.", buckets=_UPTO_A_DAY),
    _process("disk_free_bytes", "gauge", "bytes", "What this user may still write on the disk of a folder: state or evidence.", figure="disk_free_bytes", labels=("folder",)),
    _process("disk_size_bytes", "gauge", "bytes", "The size of that disk.", figure="disk_size_bytes", labels=("folder",)),
    # The watch on itself; without a canary (off, or an artefact that has none) these are absent.
    _process("canary_ok", "gauge", "0 or 1", "1 while the canary's last run passed; 0 also before the first.", figure="canary_ok"),
    _process("canary_passed_timestamp_seconds", "gauge", "seconds since 1970", "When the canary last passed; absent before that.", figure="canary_passed_wall_s"),
    _process("canary_latency_seconds", "gauge", "seconds", "How long the last run that passed took, from decoding to the broker's acknowledgement.", figure="canary_latency_s"),
    _process("canary_runs_total", "counter", "runs", "Runs of the canary: passed, or the part that failed (decode, features, scores, broker).", labels=("result",)),
    # What was commanded over MQTT.
    _process("commands_total", "counter", "commands", "Commands over MQTT: done or refused; what names no known command counts as other.", labels=("command", "result")),
    # The process.
    _process("readers", "gauge", "processes", "Reader processes that run.", figure="readers"),
    _process("reader_restarts_total", "counter", "restarts", "Reader processes started again after they ended or were killed.", figure="reader_restarts"),
    _process("config_reloads_total", "counter", "reloads", "Reloads of the configuration, by result.", labels=("result",)),
    _process("event_loop_lag_seconds", "histogram", "seconds", "How late the event loop woke a task that slept.", buckets=_UPTO_SECONDS),
    _process("build_info", "gauge", "1", "Versions this monitor runs on.", labels=("version", "python", "torch")),
    _process("artefact_info", "gauge", "1", "What scores: the artefact, its backbone, and how it is used.", labels=("artefact", "backbone", "device", "l", "stride", "delay")),
    _process("process_cpu_seconds_total", "counter", "seconds", "Total user and system CPU time spent in seconds."),
    _process("process_resident_memory_bytes", "gauge", "bytes", "Resident memory size in bytes."),
    _process("process_virtual_memory_bytes", "gauge", "bytes", "Virtual memory size in bytes."),
    _process("process_start_time_seconds", "gauge", "seconds since 1970", "Start time of the process since unix epoch in seconds."),
    _process("process_open_fds", "gauge", "descriptors", "Number of open file descriptors."),
    _process("process_max_fds", "gauge", "descriptors", "Maximum number of open file descriptors."),
)
# fmt: on


def reference() -> str:
    """The list as a Markdown table, for the README."""
    lines = ["| series | type | labels | unit | meaning |", "|---|---|---|---|---|"]
    for row in SERIES:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        lines.append(f"| `{row.name}` | {row.kind} | {labels} | {row.unit} | {row.meaning} |")
    return "\n".join(lines)
