"""The settings themselves: what stands in plant.yaml, with defaults, limits and what each key means.

Longer than other files, so that everything a plant.yaml may say is on one page.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from monitor.config.address import StreamUrl
from monitor.config.schedule import Schedule
from monitor.config.settings import Settings, mistake

LONGEST_NAME = 64
SHORTEST_TOKEN = 16


def _topic_level(text: str) -> str:
    """It becomes a level of MQTT topics, a label of metrics and the name of a folder."""
    if not text.strip():
        raise ValueError("must not be empty")
    if text != text.strip() or any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise ValueError("must not begin or end with a space or have line breaks or control characters")
    if any(letter in text for letter in "/+#\\") or text in (".", "..") or text.startswith("$"):
        raise ValueError("becomes part of MQTT topics: it must not have / + # or \\, begin with $, or be . or ..")
    if len(text) > LONGEST_NAME:
        raise ValueError(f"must not be longer than {LONGEST_NAME} characters")
    return text


def _topic_prefix(text: str) -> str:
    for level in text.split("/"):
        _topic_level(level)
    return text


def _path(value: Any) -> Any:
    if value == "" or (isinstance(value, str) and "\0" in value):
        raise ValueError("expected the path of a file or folder")
    return Path(value) if isinstance(value, str) else value


def _readable(path: Path) -> Path:
    if not path.is_file():
        raise ValueError("there is no such file (relative paths begin at the folder of this file)")
    if not os.access(path, os.R_OK):
        raise ValueError("this user may not read that file")
    return path


def _folder(path: Path) -> Path:
    """It need not be there yet, and a disk may be missing just now; but a file never becomes a folder."""
    if os.path.isfile(path):  # noqa: PTH113 - never raises
        raise ValueError("is a file; expected a folder")
    return path


def _host(text: str) -> str:
    if not text or any(letter.isspace() or letter in "/@" for letter in text):
        raise ValueError("expected a host name or an IP address")
    return text


def _device(text: str) -> str:
    if text in ("auto", "cpu", "cuda") or (text.startswith("cuda:") and text[5:].isascii() and text[5:].isdigit()):
        return text
    raise ValueError("expected 'auto', 'cpu', 'cuda' or 'cuda:N'")


def _off(value: Any) -> Any:
    return None if value == "off" else value


def _inherit(value: Any) -> Any:
    return None if value == "inherit" else value


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it: 127.0.0.0/8, ::1 or localhost."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


Name = Annotated[str, AfterValidator(_topic_level)]
Host = Annotated[str, AfterValidator(_host)]
Port = Annotated[int, Field(ge=0, le=65535)]
AnyFolder = Annotated[Path, BeforeValidator(_path), AfterValidator(_folder)]
ExistingFile = Annotated[Path, BeforeValidator(_path), AfterValidator(_readable)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Duration = Annotated[float, Field(ge=0, le=31_622_400)]
"""Seconds, up to a year."""
Timeout = Annotated[float, Field(ge=0.1, le=3600)]

Point = tuple[Fraction, Fraction]
"""x, y as fractions of width and height, 0..1; 0, 0 is the upper left corner."""


def _is_point(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(type(number) in (int, float) for number in value)


def _points(value: Any) -> Any:
    """One sentence for a malformed polygon, in place of one for each of its parts."""
    if not isinstance(value, tuple):
        raise mistake("expected a polygon: a list of at least 3 points [x, y]")
    for index, point in enumerate(value):
        if not _is_point(point):
            raise mistake("expected a point [x, y]", index)
        if not all(0 <= number <= 1 for number in point):
            raise mistake("x and y are fractions of the picture's width and height, from 0 to 1", index)
    if len(set(value)) < 3:
        raise ValueError("a polygon has at least 3 different points")
    pairs = zip(value, value[1:] + value[:1], strict=True)
    if sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairs) == 0:
        raise ValueError("the polygon has no area")
    return tuple((float(x), float(y)) for x, y in value)


def _polygons(value: Any) -> Any:
    if isinstance(value, tuple) and value and all(map(_is_point, value)):
        raise mistake("expected a list of polygons: write one more pair of brackets around this one")
    return value


Polygon = Annotated[tuple[Point, ...], BeforeValidator(_points)]
Polygons = Annotated[tuple[Polygon, ...], BeforeValidator(_polygons)]


class Thresholds(Settings):
    """When an alarm is raised and cleared (hysteresis), for one camera."""

    raise_at: Fraction
    """The alarm is raised at this score or above."""
    clear_at: Fraction
    """The alarm ends below this score; at most raise_at."""
    min_duration_s: Duration = 0.0
    """How long the score must stay at or above raise_at before an alarm is raised."""
    clear_after_s: Duration = 3.0
    """How long the score must stay below clear_at before the alarm ends."""
    cooldown_s: Duration = 10.0
    """After an alarm ended, none is raised for so long."""
    update_every_s: Annotated[float, Field(gt=0, le=86_400)] = 10.0
    """While it is raised, a message at most this often."""

    @model_validator(mode="after")
    def _clears_below_raising(self) -> Self:
        if self.clear_at > self.raise_at:
            raise mistake("must not be above raise_at", "clear_at")
        return self


LookedFor = Annotated[Annotated[float, Field(gt=0, le=86_400)] | None, BeforeValidator(_off)]


class Picture(Settings):
    """When a camera's picture is said to be bad: how long each kind must last; `off`: it is not looked for."""

    black_after_s: LookedFor = 10.0
    """No part of the picture is bright; not scored meanwhile."""
    covered_after_s: LookedFor = 10.0
    """Most of the picture has lost its edges and its layout; not scored meanwhile."""
    smeared_after_s: LookedFor = 20.0
    """Most segments are damaged on their way (lost packets, broken data); they are not scored anyway."""
    blurred_after_s: LookedFor = 60.0
    """Fine detail has gone; scored on."""
    moved_after_s: LookedFor = 30.0
    """The view is not the learnt one; scored on. `off` for a camera that pans."""


class Decode(Settings):
    """Where a stream is decoded, and what the decoder leaves out to save CPU, at the cost of accuracy."""

    by: Literal["cpu", "nvdec", "auto"] = "cpu"
    """cpu; nvdec: by NVIDIA's decoder, by the CPU where it cannot; auto: nvdec where a GPU scores, else cpu. NVDEC does
    not say which pictures of a damaged stream are spoilt."""
    skip_loop_filter: Literal["none", "nonref", "all"] = "none"
    """H.264 and H.265: frames that are not smoothed at block borders: none, those that no other refers to, all."""
    skip_frame: Literal["none", "nonref"] = "none"
    """nonref: frames that no other refers to are not decoded; nothing changes where a camera sends none."""


class Camera(Settings):
    """One camera. In plant.yaml every key but name and url may also stand under ``defaults``."""

    name: Name
    """Unique; part of the MQTT topics."""
    url: StreamUrl
    """rtsp://, rtsps://, http://, https://, file:, a device number or /dev/videoN."""
    enabled: bool = True
    """false: the camera is not opened at all."""
    mode: Literal["alert", "observe"] = "alert"
    """observe: scored and logged, but no alert is published (the first days of a new site)."""
    transport: Literal["tcp", "udp"] = "tcp"
    """How RTSP carries the pictures."""
    fps: Annotated[float, Field(gt=0, le=120)] | None = None
    """Analysed frames per second; null: what the artefact was trained with."""
    decode: Decode = Field(default_factory=Decode)
    """What the decoder leaves out to save CPU."""
    ignore: Polygons = ()
    """Parts of the picture that are not analysed: polygons of points [x, y] from 0 to 1."""
    private: Polygons = ()
    """Parts of the picture that are never stored or shown."""
    thresholds: Annotated[Thresholds | None, BeforeValidator(_inherit)] = None
    """``inherit`` (or null): those of the artefact's card."""
    schedule: Schedule = Field(default_factory=Schedule)
    """When alerts of this camera are wanted."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Sent with every alert of this camera."""
    connect_timeout_s: Timeout = 10.0
    """How long opening the stream may take."""
    stall_timeout_s: Timeout = 10.0
    """Without a frame for so long, the stream is opened anew."""
    frozen_after_s: Annotated[Annotated[float, Field(gt=0, le=86_400)] | None, BeforeValidator(_off)] = 10.0
    """A picture that has not changed for so long is not scored; ``off``: it is not looked for."""
    picture: Picture = Field(default_factory=Picture)
    """When its picture is black, covered, smeared, blurred or moved."""
    drift_limit_ppm: Annotated[Annotated[float, Field(gt=0, le=1e6)] | None, BeforeValidator(_off)] = 3000.0
    """A clock of the camera that runs faster or slower by more is said in its status; 1000 ppm are 3.6 s an hour."""
    lag_limit_s: Annotated[Annotated[float, Field(ge=1, le=86_400)] | None, BeforeValidator(_off)] = 30.0
    """A stream that comes so much later than it did at first is opened anew; ``off``: never for that."""
    backoff_min_s: Timeout = 1.0
    """The first wait before a lost stream is opened again; it doubles with each failure …"""
    backoff_max_s: Timeout = 60.0
    """… up to this."""

    @model_validator(mode="after")
    def _backs_off_upwards(self) -> Self:
        if self.backoff_max_s < self.backoff_min_s:
            raise mistake("must not be below backoff_min_s", "backoff_max_s")
        return self

    def is_armed(self, wall: datetime) -> tuple[bool, str]:
        """Whether alerts are wanted at ``wall`` (with a time zone), and why: see ``Schedule.is_armed``."""
        return self.schedule.is_armed(wall)


ARTEFACT_NAMES = ("auto", "default", "motion")


def is_folder(artefact: str, beside: Path) -> bool:
    """Whether ``scoring.artefact`` means the folder ``beside`` the file, not a name of ours."""
    return "/" in artefact or (artefact not in ARTEFACT_NAMES and os.path.exists(beside))  # noqa: PTH110 - never raises


COMMANDS = ("disarm", "arm", "shelve", "unshelve", "snapshot")
"""All there are over MQTT."""


class Mqtt(Settings):
    """Where alerts go. In plant.yaml: a mapping, or `embedded`, or `off`."""

    kind: Literal["external", "embedded", "off"] = "external"
    """external: your broker; embedded: one inside the monitor, for one room; off: nothing is published."""
    host: Host = "127.0.0.1"
    """The broker's host; for embedded, the address it listens at."""
    port: Port = 1883
    """1883, or 8883 with tls, unless given."""
    username: str | None = None
    """external only."""
    password: SecretStr | None = None
    """external only; better as ${VAR} or password_file."""
    users: dict[str, SecretStr] = Field(default_factory=dict)
    """embedded only, user: password. With users it may listen beyond loopback."""
    client_id: Name = "vad-monitor"
    """Stable, and different for each monitor of one broker."""
    prefix: Annotated[str, AfterValidator(_topic_prefix)] = "vad"
    """Topics are prefix/site/…"""
    ca_file: ExistingFile | None = None
    """Certificates that the broker's is checked against, when not the system's."""
    cert_file: ExistingFile | None = None
    """The monitor's own certificate, where the broker asks for one."""
    key_file: ExistingFile | None = None
    """The key of cert_file."""
    tls: bool = False
    keepalive_s: Annotated[int, Field(ge=1, le=3600)] = 15
    score_every_s: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """At most one score message per camera in so many seconds."""
    home_assistant: bool = False
    """Announces the cameras by Home Assistant's MQTT discovery."""
    commands: tuple[Literal["disarm", "arm", "shelve", "unshelve", "snapshot"], ...] = ()
    """What may be commanded over MQTT; empty: the monitor subscribes to nothing."""

    @model_validator(mode="before")
    @classmethod
    def _usual_port(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("tls") is True and "port" not in values:
            return {**values, "port": 8883}
        return values

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind == "embedded":
            for key in ("username", "password", "tls", "ca_file", "cert_file", "key_file"):
                if getattr(self, key):
                    raise mistake("is for an external broker; the embedded one takes users", key)
            if not self.users and not is_loopback(self.host):
                raise mistake("the embedded broker listens beyond this machine only with users: add mqtt.users", "host")
            if not all(user and password.get_secret_value() for user, password in self.users.items()):
                raise mistake("a user has a name and a password", "users")
        elif self.users:
            raise mistake("users are for the embedded broker (kind: embedded)", "users")
        elif self.kind == "external":
            self._check_external()
        return self

    def _check_external(self) -> None:
        if self.port == 0:
            raise mistake("expected a port from 1 to 65535", "port")
        if self.password is not None and not self.username:
            raise mistake("a password needs a username", "password")
        for key in ("ca_file", "cert_file", "key_file"):
            if getattr(self, key) and not self.tls:
                raise mistake("is used with tls: true only", key)
        if (self.cert_file is None) != (self.key_file is None):
            raise mistake("cert_file and key_file go together", "cert_file" if self.cert_file else "key_file")


class HttpMetrics(Settings):
    """Who may scrape /metrics, and where."""

    host: Host | None = None
    """An address of its own, with a port of its own; null: http.host and http.port."""
    port: Port | None = None
    """Not that of http.port."""
    token: SecretStr | None = None
    """Asked of whoever scrapes, `Authorization: Bearer …`; better as token_file."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.host is None) != (self.port is None):
            raise mistake("an address of its own needs host and port", "port" if self.port is None else "host")
        if self.token is not None and len(self.token.get_secret_value()) < SHORTEST_TOKEN:
            said = f"a token has {SHORTEST_TOKEN} characters or more: `openssl rand -hex 24` makes one"
            raise mistake(said, "token")
        return self


class Http(Settings):
    """Where /metrics, /livez and /readyz are served."""

    host: Host = "127.0.0.1"
    """0.0.0.0 or :: for all interfaces."""
    port: Port = 9108
    """0: the system chooses a free one."""
    metrics: HttpMetrics = Field(default_factory=HttpMetrics)
    """Beyond this machine /metrics needs a token, or users of the console."""

    @model_validator(mode="after")
    def _has_two_ports(self) -> Self:
        if self.metrics.port is not None and self.metrics.port == self.port != 0:
            raise mistake("is the port of everything else (http.port)", "metrics", "port")
        return self


PASSWORD_HASH = r"scrypt:[0-9A-Za-z+/=]{16,64}:[0-9A-Za-z+/=]{40,128}"  # noqa: S105 - its form
"""Salt and hash in base 64; ``python -m monitor.console.password`` makes one."""


class ConsoleUser(Settings):
    """Who may use the operators' console. Passwords and tokens are kept as hashes only."""

    role: Literal["viewer", "operator"] = "viewer"
    """viewer: looks; operator: also judges, acknowledges and shelves."""
    password_hash: SecretStr | None = None
    """What `python -m monitor.console.password` prints."""
    token_sha256: SecretStr | None = None
    """For programs, `Authorization: Bearer …`: what `python -m monitor.console.password --token` prints."""

    @model_validator(mode="after")
    def _can_log_in(self) -> Self:
        for key, form in (("password_hash", PASSWORD_HASH), ("token_sha256", "[0-9a-f]{64}")):
            given = getattr(self, key)
            if given is not None and re.fullmatch(form, given.get_secret_value()) is None:
                raise mistake("expected a hash that `python -m monitor.console.password` prints", key)
        if self.password_hash is None and self.token_sha256 is None:
            raise mistake("a user of the console needs password_hash or token_sha256")
        return self


class ConsoleSettings(Settings):
    """The operators' page, served beside /metrics."""

    enabled: bool | None = None
    """null: served where http.host is this machine alone (127.0.0.1) or where there are users."""
    users: dict[str, ConsoleUser] = Field(default_factory=dict)
    """By name. Without users everybody on this machine is an operator."""
    pictures: bool = True
    """Pictures of the cameras on the wall, a new one every few seconds while somebody looks; private areas black."""
    keep_days: Annotated[float, Field(gt=0, le=36_500)] = 90.0
    """Older scores, and alerts nobody judged, are deleted from the history; verdicts and their alerts stay."""
    keep_mb: Annotated[float, Field(ge=1, le=1e9)] = 2_000.0
    """The oldest scores are deleted when the history is larger."""


class Scoring(Settings):
    """What scores the cameras, and how. null: what the artefact's card says."""

    artefact: Annotated[str, Field(min_length=1)] = "default"
    """default, motion (needs MoViNet), auto (the best of these that can run here), or the path of an artefact's
    folder."""
    device: Annotated[str, AfterValidator(_device)] = "auto"
    """auto, cpu, cuda or cuda:N."""
    stride: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Segments between two bags of a camera; null: from the card."""
    delay: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """How many segments old the newest published score is; null: from the card."""
    max_gap: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """How many missing segments of a bag are bridged; null: l/8, rounded up."""
    batch_deadline_s: Annotated[float, Field(ge=0, le=10)] = 0.05
    """How long a segment waits for others to be encoded with it."""
    batch_max: Annotated[int, Field(ge=1, le=4096)] = 64
    """Segments encoded at once, at most."""


class EvidenceSettings(Settings):
    """Snapshots and clips of alerts."""

    folder: AnyFolder = Path("evidence")
    pre_roll_s: Annotated[float, Field(ge=0, le=600)] = 5.0
    """Seconds before the onset that a clip shows."""
    post_roll_s: Annotated[float, Field(ge=0, le=600)] = 5.0
    """Seconds after the alert that a clip shows."""
    memory_mb: Annotated[float, Field(gt=0, le=65_536)] = 64.0
    """Encoded packets kept in memory, per camera."""
    audio: bool = False
    """true: clips keep the sound (mind the law)."""
    keep_days: Annotated[float, Field(gt=0, le=36_500)] = 30.0
    """Older evidence is deleted."""
    keep_mb: Annotated[float, Field(gt=0, le=1e9)] = 10_000.0
    """The oldest evidence is deleted when the folder is larger."""


class CanarySettings(Settings):
    """The watch on itself: the artefact's clip goes the cameras' way, and must give what its card says."""

    every_s: Annotated[Annotated[float, Field(ge=10, le=86_400)] | None, BeforeValidator(_off)] = 300.0
    """Seconds between two runs; ``off``: none."""


class Ingest(Settings):
    """How cameras are spread over reader processes."""

    cameras_per_process: Annotated[int, Field(ge=1, le=256)] = 8
    slots_per_camera: Annotated[int, Field(ge=1, le=256)] = 4
    """Segments of a camera that may wait to be scored before the oldest is dropped."""
    file_folders: tuple[AnyFolder, ...] | None = None
    """Where files that stand for cameras (`file:`) may lie; null: the folder of plant.yaml and what is below it."""


class Storm(Settings):
    """When many alarms at once are one incident."""

    cameras: Annotated[int, Field(ge=2, le=10_000)] = 5
    """So many alarms, raised within within_s and all still raised, open an incident."""
    within_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """See cameras."""
    lull_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """An alarm that is raised so long after the last one that joined does not join any more."""
    update_every_s: Annotated[float, Field(gt=0, le=86_400)] = 5.0
    """While the incident is open, a message about its members at most this often."""


class AlertSettings(Settings):
    """What keeps subscribers from being buried; what is raised is always told, and so is its end."""

    storm: Annotated[Storm | None, BeforeValidator(_off)] = Field(default_factory=Storm)
    """Many alarms at once become one incident; ``off``: they do not."""
    most_per_hour: Annotated[Annotated[int, Field(ge=1, le=3600)] | None, BeforeValidator(_off)] = 30
    """Alarms of one camera within an hour; one more is told as one lasting alert, until the camera is calm. ``off``:
    no limit."""
    updates_per_s: Annotated[float, Field(gt=0, le=10_000)] = 20.0
    """`updated` messages of all cameras together, at most."""
    late_per_s: Annotated[float, Field(ge=1, le=10_000)] = 50.0
    """Alert messages that waited more than 30 s for the broker are told no faster than this."""


class Plant(Settings):
    """The whole of plant.yaml, defaults filled in, secrets resolved."""

    site: Name
    """The name of the place; part of the MQTT topics."""
    state_folder: AnyFolder = Path("state")
    """Where the outbox lies: alerts that the broker has not acknowledged yet."""
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """How long a shutdown may take to score and send what is under way."""
    mqtt: Mqtt
    http: Http = Field(default_factory=Http)
    console: ConsoleSettings = Field(default_factory=ConsoleSettings)
    """The operators' page."""
    scoring: Scoring = Field(default_factory=Scoring)
    evidence: EvidenceSettings = Field(default_factory=EvidenceSettings)
    alerts: AlertSettings = Field(default_factory=AlertSettings)
    """What keeps subscribers from being buried."""
    ingest: Ingest = Field(default_factory=Ingest)
    canary: CanarySettings = Field(default_factory=CanarySettings)
    """The watch on itself."""
    cameras: tuple[Camera, ...]
    """At least one."""

    @model_validator(mode="after")
    def _has_cameras(self) -> Self:
        if not self.cameras:
            raise mistake("must not be empty", "cameras")
        return self

    @model_validator(mode="after")
    def _files_are_allowed(self) -> Self:
        """By what is written; where links lead is looked at when the file is opened."""
        folders = self.ingest.file_folders
        for index, camera in enumerate(self.cameras):
            if folders is None or camera.url.scheme != "file":
                continue
            if not any(Path(os.path.normpath(camera.url.path)).is_relative_to(folder) for folder in folders):
                raise mistake(
                    "lies outside the folders of ingest.file_folders (when not given: the folder of this file)",
                    "cameras",
                    index,
                    "url",
                )
        return self

    @model_validator(mode="after")
    def _console_is_guarded(self) -> Self:
        if self.console.enabled and not self.console.users and not is_loopback(self.http.host):
            raise mistake("a console that others can reach (http.host) needs users", "console", "users")
        return self

    @model_validator(mode="after")
    def _metrics_are_guarded(self) -> Self:
        metrics = self.http.metrics
        guarded = metrics.token is not None or bool(self.console.users)
        if not guarded and not is_loopback(metrics.host or self.http.host):
            at = ("http", "host") if metrics.host is None else ("http", "metrics", "host")
            raise mistake(
                "/metrics would answer anybody who reaches this machine: give http.metrics.token_file or "
                "console.users, or http.metrics an address of its own, {host: 127.0.0.1, port: 9109}",
                *at,
            )
        return self

    @property
    def serves_console(self) -> bool:
        if self.console.enabled is None:
            return bool(self.console.users) or is_loopback(self.http.host)
        return self.console.enabled

    def secrets(self) -> tuple[str, ...]:
        """Every password in these settings, for ``monitor.observe.log.set_up``."""
        passwords = [secret.get_secret_value() for secret in self.mqtt.users.values()]
        if self.mqtt.password is not None:
            passwords.append(self.mqtt.password.get_secret_value())
        if self.http.metrics.token is not None:
            passwords.append(self.http.metrics.token.get_secret_value())
        for user in self.console.users.values():
            passwords += [kept.get_secret_value() for kept in (user.password_hash, user.token_sha256) if kept]
        streams = [secret for camera in self.cameras for secret in camera.url.secrets]
        return tuple(dict.fromkeys(secret for secret in (*passwords, *streams) if secret))


def settings_in(annotation: Any) -> type[Settings] | None:
    """The settings a field holds: Thresholds | None → Thresholds; tuple[Camera, ...] → Camera."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    return next((found for part in get_args(annotation) if (found := settings_in(part))), None)
