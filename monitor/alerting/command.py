"""Commands over MQTT: any bytes of a command topic → a command, or why not (pure).

Whoever may publish there is a stranger until the broker says otherwise: nothing is guessed, and a command that is
late, retained or half understood is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitor.alerting.contract import SCHEMA_VERSION, Payload, iso
from monitor.config.plant import COMMANDS

LARGEST_BYTES = 4096
OLD_S = 60.0
"""A command that was said earlier (or, by a clock that is wrong, so much later) is not obeyed."""
LONGEST_S = 86_400.0
_KEYS = {"schema_version", "id", "command", "at", "for_s", "reason", "who"}
_LONGEST = {"id": 64, "command": 64, "at": 64, "reason": 200, "who": 64}
"""In characters."""
_LASTS = ("disarm", "shelve")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One that may be obeyed. ``for_s`` and ``reason`` are there for disarm and shelve."""

    id: str
    camera: str
    command: str
    for_s: float | None = None
    reason: str | None = None
    who: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """One that is not. Without an ``id`` nobody can be answered: it is only counted."""

    reason: str
    id: str | None = None
    command: str | None = None
    who: str | None = None


def judge(
    payload: bytes, *, camera: str | None, retained: bool, allowed: Collection[str], now_wall_s: float
) -> Command | Refused:
    """``camera``: the one the topic names; None: there is none of that name. Never raises."""
    said = _read(payload)
    if isinstance(said, str):
        return Refused(reason=said)
    fault = _form(said)
    own, who = _text(said, "id"), _text(said, "who")
    command = _text(said, "command")
    if command not in COMMANDS:
        fault, command = fault or f"expected a command of: {', '.join(COMMANDS)}", None
    fault = fault or _standing(said, str(command), retained, allowed, now_wall_s)
    if fault is None and camera is None:
        fault = "there is no such camera in this monitor's configuration"
    if fault is not None or camera is None or own is None or command is None:
        return Refused(reason=str(fault), id=own, command=command, who=who)
    if command not in _LASTS:
        return Command(id=own, camera=camera, command=command, who=who)
    for_s, reason = said.get("for_s"), _text(said, "reason")
    if reason is None or not reason.strip():
        return Refused(reason=f"{command} needs a reason", id=own, command=command, who=who)
    if for_s is None:
        return Refused(reason=f"{command} needs for_s, in seconds, at most a day", id=own, command=command, who=who)
    return Command(id=own, camera=camera, command=command, for_s=float(for_s), reason=reason.strip(), who=who)


def _read(payload: bytes) -> dict[str, Any] | str:
    if len(payload) > LARGEST_BYTES:
        return f"a command has at most {LARGEST_BYTES} bytes"
    try:
        said = json.loads(payload.decode("utf-8"))
    except (ValueError, RecursionError):
        return "not JSON in UTF-8"
    return said if isinstance(said, dict) else "not a JSON object"


def _text(said: dict[str, Any], key: str) -> str | None:
    """Printable (so it can be logged and sent back), not empty, and not long."""
    text = said.get(key)
    return text if isinstance(text, str) and text.isprintable() and 0 < len(text) <= _LONGEST[key] else None


def _form(said: dict[str, Any]) -> str | None:
    """What is wrong with the keys, in a sentence."""
    if type(said.get("schema_version")) is not int or said["schema_version"] != SCHEMA_VERSION:
        return f"schema_version must be {SCHEMA_VERSION}"
    unknown = sum(key not in _KEYS for key in said)
    if unknown:
        return f"{unknown} unknown keys; known are {', '.join(sorted(_KEYS))}"
    for key, longest in _LONGEST.items():
        if (key in ("id", "command") or said.get(key) is not None) and _text(said, key) is None:
            return f"{key} must be 1 to {longest} printable characters"
    for_s = said.get("for_s")
    if for_s is not None and (type(for_s) not in (int, float) or not 1 <= for_s <= LONGEST_S):
        return f"for_s must be 1 to {LONGEST_S:.0f} seconds"
    return None


def _standing(
    said: dict[str, Any], command: str, retained: bool, allowed: Collection[str], now_wall_s: float
) -> str | None:
    """What forbids a well-formed command, in a sentence."""
    if retained:
        return "a retained command is not obeyed: publish it without retain"
    if command not in allowed:
        return f"{command} is not among mqtt.commands of this monitor"
    if said.get("at") is None:
        return None
    at_s = _wall_s(said["at"])
    if at_s is None:
        return "at must be a time with its zone, like 2026-03-01T12:00:00Z"
    if abs(now_wall_s - at_s) > OLD_S:
        when = "ago" if at_s < now_wall_s else "ahead"
        return f"said {abs(now_wall_s - at_s):.0f} s {when}, by our clock; {OLD_S:.0f} s are the most"
    return None


def _wall_s(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if _TIME.fullmatch(text) else None
    except (ValueError, OverflowError):
        return None


def answer_payload(
    site: str,
    level: str,
    *,
    id: str,  # noqa: A002 - the key's name
    command: str | None,
    done: bool,
    reason: str,
    who: str | None,
    at_wall_s: float,
    until_wall_s: float | None = None,
    snapshot: Payload | None = None,
) -> Payload:
    """``level``: the camera as it stands in the topic. ``until``: when a disarm or shelf ends by itself."""
    return {
        "schema_version": SCHEMA_VERSION,
        "site": site,
        "camera": level,
        "id": id,
        "command": command,
        "state": "done" if done else "refused",
        "reason": reason,
        "who": who,
        "until": None if until_wall_s is None else iso(until_wall_s),
        "snapshot": snapshot,
        "answered_at": iso(at_wall_s),
    }
