"""Whatever stands in plant.yaml: it is read, or refused by sentences that point into it and show no secret."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from monitor.config import ConfigError, load
from tests.conftest import ROOT

EXAMPLE = (ROOT / "configs" / "plant.example.yaml").read_text(encoding="utf-8")
SECRETS = ("Zq7-envsecret", "Zq7-literal", "Zq7-inurl", "Zq7-infile")
PLANTED = (
    EXAMPLE.replace("password: ${MQTT_PASSWORD:-change-me}", "password: Zq7-literal")
    .replace("rtsp://192.0.2.10:554/stream1", "rtsp://viewer:Zq7-inurl@192.0.2.10:554/stream1")
    .replace("password: ${PRESS_PASSWORD:-change-me}", "password_file: secret.txt")
)
ENV = {"CAMERA_PASSWORD": "Zq7-envsecret", "MQTT_USER": "vad"}
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "250"))
"""Of each test. By hand: FUZZ_EXAMPLES=3000 pytest --hypothesis-seed=1 tests/monitor/test_config_fuzz.py"""
fuzz = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)


def check(text: str, data: bytes | None = None) -> None:
    """Loads it; fails on any other exception, a line outside the file, a problem of more lines, a secret shown."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "secret.txt").write_text("Zq7-infile\n")
        file = Path(folder) / "plant.yaml"
        file.write_bytes(text.encode("utf-8", "surrogatepass") if data is None else data)
        try:
            plant = load(file, ENV)
        except ConfigError as error:
            last = max(1, file.read_bytes().decode("utf-8", "replace").replace("\r", "\n").count("\n") + 1)
            assert error.problems
            for problem in error.problems:
                assert 1 <= problem.line <= last, problem
                assert "\n" not in str(problem)
                assert problem.message
            assert not [secret for secret in SECRETS if secret in str(error) or secret in repr(error)]
            assert error.__cause__ is None
        else:
            assert not [secret for secret in SECRETS if secret in str(plant) or secret in repr(plant)]


def test_the_planted_example_is_right_as_it_is() -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "secret.txt").write_text("Zq7-infile\n")
        (Path(folder) / "plant.yaml").write_text(PLANTED, encoding="utf-8")
        secrets = load(Path(folder) / "plant.yaml", ENV).secrets()
    assert set(SECRETS) - {"Zq7-envsecret"} <= set(secrets)


LINES = PLANTED.splitlines()
SNIPPETS = st.sampled_from(
    ["", " ", "  ", "\t", ":", "-", "- ", "'", '"', "{", "}", "[", "]", "&a ", "*a", "!!set ", "!x ", "|\n", ">", "#",
     "${", "${X}", "${CAMERA_PASSWORD}", "$${", "null", "-1", "1e999", "0x1F", "99999999999999999999", "yes", "\x00",
     "\x85", "\ufeff", "\ud800", "é", "---\n", "...", "%", "@", "`", "? ", "<<: ", "\\", "off", "embedded", "inherit"]
)  # fmt: skip


def at(start: str) -> int:
    """The line of the example that begins so."""
    return next(number for number, line in enumerate(LINES) if line.startswith(start))


@fuzz
@given(
    st.lists(
        st.tuples(st.integers(0, len(LINES) - 1), st.integers(0, 60), SNIPPETS, st.sampled_from("irdcs")),
        min_size=1,
        max_size=6,
    )
)
@example([(0, 0, "\ud800", "i")])
@example([(0, 0, "\x85", "i"), (at("http:"), 0, "\t", "i")])
@example([(at("  client_id:"), 13, "${CAMERA_PASSWORD}", "i")])
@example([(at("    building:"), 14, "${CAMERA_PASSWORD}", "i")])
@example([(at("    url: rtsp://"), 46, "${CAMERA_PASSWORD}", "i")])
@example([(at("  # password_file:"), 0, "  users: {password: Zq7-literal}", "r")])
def test_a_damaged_example_is_read_or_refused(changes: list[tuple[int, int, str, str]]) -> None:
    lines = list(LINES)
    for number, column, snippet, way in changes:
        at = min(number, len(lines) - 1)
        line = lines[at]
        match way:
            case "i":
                lines[at] = line[:column] + snippet + line[column:]
            case "r":
                lines[at] = line[:column] + snippet + line[column + max(1, len(snippet)) :]
            case "d" if len(lines) > 1:
                del lines[at]
            case "c":
                lines.insert(at, line)
            case "s":
                lines[at] = snippet + line.lstrip()
    text = "\n".join(lines)
    check(text)


DATA: Any = yaml.safe_load(PLANTED)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12),
    st.sampled_from(["off", "inherit", "auto", "rtsp://u:p@h/", "/dev/zero", "..", "\0", "${A}", "9" * 400]),
)  # fmt: skip
KEYS = st.one_of(st.text(max_size=8), st.sampled_from(["fps", "url", "password_file", "url_file", "users", "tls", "x"]))
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, item in inner for path in paths(item, (*here, key)))]


@fuzz
@given(st.lists(st.tuples(st.sampled_from(paths(DATA)[1:]), TREES), min_size=1, max_size=5))
def test_any_value_anywhere_is_read_or_refused(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    data = yaml.safe_load(PLANTED)
    for path, value in changes:
        target = data
        with contextlib.suppress(KeyError, IndexError, TypeError):
            for key in path[:-1]:
                target = target[key]
            target[path[-1]] = value
    check(yaml.safe_dump(data, allow_unicode=True))


@fuzz
@given(TREES)
def test_any_tree_is_read_or_refused(tree: Any) -> None:
    check(yaml.safe_dump(tree))


@fuzz
@given(st.binary(max_size=200))
@example(b"")
@example(b"\xef\xbb\xbf")
@example(b"site: \xff")
@example(b"? [a, b]\n: c")
@example(b"{{{{")
@example(b"- &a [*a]")
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    check("", data)
