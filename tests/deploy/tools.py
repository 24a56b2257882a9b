"""Checkers from the package index that only these tests use; requirements.txt beside this file lists them."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

_HOW = "pip install -r tests/deploy/requirements.txt"


def needs_module(name: str) -> ModuleType:
    """The module; skips where it is missing, and fails instead when REQUIRE_ALL=1."""
    try:
        return importlib.import_module(name)
    except ImportError:
        _missing(name)


def needs_tool(name: str) -> str:
    """A program beside the interpreter or on PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    return found if found is not None else _missing(name)


def _missing(name: str) -> NoReturn:
    reason = f"{name} is not installed ({_HOW})"
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
