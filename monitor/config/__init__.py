"""plant.yaml → frozen settings; every mistake at once, each with its line.

plant.py     the settings, their defaults and limits: read this first
schedule.py  when a camera is armed
address.py   StreamUrl: credentials that are never shown
lines.py     YAML → data that knows its lines
loading.py   secrets, defaults, checks → Plant
problems.py  ConfigError and its sentences
shard.py     which of several monitors watches which camera
views.py     redacted, json_schema, diff
"""

from monitor.config.address import StreamUrl, redact_addresses
from monitor.config.loading import load
from monitor.config.plant import (
    AlertSettings,
    Camera,
    ConsoleSettings,
    ConsoleUser,
    EvidenceSettings,
    Http,
    Ingest,
    Mqtt,
    Plant,
    Point,
    Polygon,
    Scoring,
    Storm,
    Thresholds,
    is_loopback,
)
from monitor.config.problems import ConfigError, Problem
from monitor.config.schedule import Period, Schedule, Window
from monitor.config.settings import Settings
from monitor.config.shard import WHOLE, Shard
from monitor.config.views import Changes, diff, json_schema, redacted

__all__ = [
    "WHOLE",
    "AlertSettings",
    "Camera",
    "Changes",
    "ConfigError",
    "ConsoleSettings",
    "ConsoleUser",
    "EvidenceSettings",
    "Http",
    "Ingest",
    "Mqtt",
    "Period",
    "Plant",
    "Point",
    "Polygon",
    "Problem",
    "Schedule",
    "Scoring",
    "Settings",
    "Shard",
    "Storm",
    "StreamUrl",
    "Thresholds",
    "Window",
    "diff",
    "is_loopback",
    "json_schema",
    "load",
    "redact_addresses",
    "redacted",
]
