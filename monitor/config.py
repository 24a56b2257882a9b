"""plant.yaml → frozen settings; every mistake at once, each with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Point = tuple[float, float]
"""x, y as fractions of width and height, 0..1."""
Polygon = tuple[Point, ...]


class Thresholds(Settings):
    """When an alarm is raised and cleared (hysteresis), for one camera."""

    raise_at: Annotated[float, Field(ge=0, le=1)]
    clear_at: Annotated[float, Field(ge=0, le=1)]
    min_duration_s: Annotated[float, Field(ge=0)] = 0.0
    """How long the score must stay at or above raise_at before an alarm is raised."""
    clear_after_s: Annotated[float, Field(ge=0)] = 3.0
    """How long the score must stay below clear_at before the alarm ends."""
    cooldown_s: Annotated[float, Field(ge=0)] = 10.0
    """After an alarm ended, none is raised for so long."""
    update_every_s: Annotated[float, Field(gt=0)] = 10.0


class StreamUrl:
    """A stream's address. ``secret`` has the credentials and goes to libav only; str() and repr() never show them."""

    # owned by the config helper: __init__(secret: str), .secret, .scheme, .host, __str__ redacted, picklable, hashable,
    # usable as a pydantic field type


class Period(Settings):
    """days: subset of mon..sun; start/end "HH:MM" local time; end before start runs over midnight."""

    days: tuple[str, ...]
    start: str
    end: str


class Window(Settings):
    """A maintenance window: from/until are ISO local times."""

    start: str
    end: str
    reason: str


class Schedule(Settings):
    timezone: str = "UTC"
    armed: tuple[Period, ...] = ()
    """Empty: always armed."""
    maintenance: tuple[Window, ...] = ()


class Camera(Settings):
    name: str
    url: StreamUrl
    enabled: bool = True
    mode: Literal["alert", "observe"] = "alert"
    transport: Literal["tcp", "udp"] = "tcp"
    fps: float | None = None
    """Analysed frames per second; None: what the artefact was trained with."""
    ignore: tuple[Polygon, ...] = ()
    private: tuple[Polygon, ...] = ()
    thresholds: Thresholds | None = None
    """None (``inherit``): those of the artefact's card."""
    schedule: Schedule = Schedule()
    labels: dict[str, str] = {}
    connect_timeout_s: float = 10.0
    stall_timeout_s: float = 10.0
    frozen_after_s: float | None = 10.0
    """None (``off`` in YAML): a frozen picture is not looked for."""
    backoff_min_s: float = 1.0
    backoff_max_s: float = 60.0


class Mqtt(Settings):
    kind: Literal["external", "embedded", "off"]
    host: str = "127.0.0.1"
    port: int = 1883
    username: str | None = None
    password: str | None = None
    """Resolved from password / password_file / ${VAR}; SecretStr in the final form."""
    users: dict[str, str] = {}
    """embedded only: with users it may listen beyond loopback."""
    client_id: str = "vad-monitor"
    prefix: str = "vad"
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    tls: bool = False
    keepalive_s: int = 15
    score_every_s: float = 1.0
    """At most one score message per camera in so many seconds."""
    home_assistant: bool = False


class Http(Settings):
    host: str = "127.0.0.1"
    port: int = 9108


class Scoring(Settings):
    artefact: str = "default"
    device: str = "auto"
    """auto | cpu | cuda | cuda:N"""
    stride: int | None = None
    delay: int | None = None
    max_gap: int | None = None
    """None: stride and delay from the card; max_gap l/8."""
    batch_deadline_s: float = 0.05
    batch_max: int = 64


class EvidenceSettings(Settings):
    folder: Path = Path("evidence")
    pre_roll_s: float = 5.0
    post_roll_s: float = 5.0
    memory_mb: float = 64.0
    """Encoded packets kept in memory, per camera."""
    audio: bool = False
    keep_days: float = 30.0
    keep_mb: float = 10_000.0


class Ingest(Settings):
    cameras_per_process: int = 8
    slots_per_camera: int = 4


class Plant(Settings):
    """The whole of plant.yaml, defaults filled in, secrets resolved."""

    site: str
    state_folder: Path = Path("state")
    """Where the outbox lies."""
    drain_s: float = 10.0
    mqtt: Mqtt
    http: Http = Http()
    scoring: Scoring = Scoring()
    evidence: EvidenceSettings = EvidenceSettings()
    ingest: Ingest = Ingest()
    cameras: tuple[Camera, ...]
