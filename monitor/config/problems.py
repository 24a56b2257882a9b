"""What is wrong with a plant.yaml, said so that a person can act on it and no secret is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Key = tuple[str | int, ...]
"""('cameras', 1, 'fps'): where in the data."""

_PLAIN_WORD = re.compile(r"[\w.-]{1,40}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake. ``line`` counts from 1 (0: the whole file). ``key`` is empty or like `cameras[1].fps`."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigError(Exception):
    """A plant.yaml that cannot be used. ``problems``: every mistake found, by line; str(): a line for each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        unique = dict.fromkeys(problems)
        self.problems: tuple[Problem, ...] = tuple(sorted(unique, key=lambda problem: problem.line))
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Problem, ...]]]:
        return ConfigError, (self.problems,)


def show_key(key: Key) -> str:
    """('cameras', 1, 'fps') → `cameras[1].fps`. What is no plain word may be a misplaced secret: hidden."""
    shown = ""
    for part in key:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            shown += ("." if shown else "") + (part if _PLAIN_WORD.match(part) or part == "<<" else "…")
    return shown


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'fps'?`, or nothing where no word is near."""
    from difflib import get_close_matches  # only where there is a mistake: importing it takes time

    near = get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


_EXPECTED = {
    "missing": "missing",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a whole number or decimal",
    "finite_number": "expected a finite number",
    "string_type": "expected text",
    "bool_type": "expected true or false",
    "tuple_type": "expected a list",
    "dict_type": "expected a mapping (lines of key: value)",
    "model_type": "expected a mapping (lines of key: value)",
    "model_attributes_type": "expected a mapping (lines of key: value)",
    "path_type": "expected the path of a file or folder",
}
_LIMITS = {
    "greater_than": ("must be above {}", "gt"),
    "greater_than_equal": ("must be at least {}", "ge"),
    "less_than": ("must be below {}", "lt"),
    "less_than_equal": ("must be at most {}", "le"),
}


def sentence(error: Mapping[str, Any], got: str, known: Iterable[str]) -> str:
    """pydantic's error in our words.

    ``got``: the value as the file has it, '' to hide it. ``known``: the keys that exist there.
    """
    kind, context = error["type"], error.get("ctx", {})
    name = str(error["loc"][-1]) if error["loc"] else ""
    if kind == "extra_forbidden":
        return f"unknown key{did_you_mean(name, known) or '; known here: ' + ', '.join(known)}"
    hidden = not got or (got in ("a list", "a mapping") and not kind.endswith("_type"))
    shown = "" if hidden else f" (got {got})"
    if kind in _LIMITS:
        words, limit = _LIMITS[kind]
        return words.format(f"{context[limit]:g}") + shown
    if kind == "literal_error":
        options = re.findall(r"'([^']+)'", context["expected"])
        return f"expected {context['expected']}{shown}{did_you_mean(got.strip(chr(39)), options) if got else ''}"
    if kind == "value_error":
        return f"{context['error']}{shown}"
    if kind == "mistake":
        return f"{context['sentence']}{shown}"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    if kind == "string_type" and not got.startswith(("a ", "nothing")):
        return f"expected text{shown}: put quotes around it"
    if kind == "missing":
        return "missing"
    return _EXPECTED.get(kind, "has a wrong value") + shown
