"""Which keys of plant.yaml are kept secret, and which environment variables are named like one."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitor.config.problems import Key

SECRET_KEYS = frozenset({"url", "url_file", "username", "password", "password_file", "users", "token", "token_file"})
"""What stands under these is never shown in a sentence about the file."""

_LOGIN = frozenset({"url", "url_file", "username", "password", "password_file"})
_HASHES = frozenset({"password_hash", "token_sha256"})

_SECRET = re.compile(
    r"(?i)(passw|passphrase|secret|token|credential|api_?key|private_?key)|(?:\A|_)(?:pass|key|keys|auth)(?:_|\Z)"
    r"|_pwd(?:_|\Z)|\Apwd_"
)
_PLACE = re.compile(r"(?i)_(?:file|path|folder|dir|directory|user|username|host|port)\Z")
"""MQTT_PASSWORD_FILE and CREDENTIALS_DIRECTORY say where a secret lies."""


def is_secret_variable(name: str) -> bool:
    """Whether the name of an environment variable says that its value is secret: CAMERA_PASSWORD, API_KEY."""
    return _SECRET.search(name) is not None and _PLACE.search(name) is None


def for_a_child(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process of ours that meets foreign bytes: no secrets, and the same modules in reach."""
    return {name: value for name, value in environment.items() if not is_secret_variable(name)} | {
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
    }


def is_kept_secret(key: Key) -> bool:
    """Whether what stands at ``key`` of plant.yaml is never shown, not even in the settings' repr."""
    match key:
        case ("defaults", name) | ("cameras", int(), name):
            return name in _LOGIN
        case ("mqtt", "password" | "password_file") | ("mqtt", "users", _):
            return True
        case ("http", "metrics", "token" | "token_file"):
            return True
        case ("console", "users", _, name):
            return name in _HASHES
        case _:
            return False
