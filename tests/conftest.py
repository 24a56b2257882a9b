"""What all tests share: real programs where they are there, real data where it is there."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def needs_program(name: str, package: str) -> str:
    """Path of a program of the system; skips where it is missing, and fails instead when REQUIRE_ALL=1."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin")
    if found is not None:
        return found
    reason = f"{name} is not installed (Debian package {package})"
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real clips beside the repository, or VAD_DATA; skips where there is none."""
    folder = Path(os.environ.get("VAD_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "industrial" / "clips.csv").is_file():
        pytest.skip(f"no real clips in {folder} (set VAD_DATA to a folder that has them)")
    return folder


@pytest.fixture(scope="session")
def movinet_file() -> Path:
    """Google's MoViNet-A0-Stream, beside the repository or VAD_MOVINET; skips without it and without LiteRT."""
    beside = ROOT.parent / "shared" / "data" / "weights" / "movinet_a0_stream_kinetics600_int8.tflite"
    path = Path(os.environ.get("VAD_MOVINET", beside))
    if not path.is_file():
        pytest.skip(f"no weights of MoViNet at {path} (set VAD_MOVINET to the file)")
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra movinet)")
    return path
