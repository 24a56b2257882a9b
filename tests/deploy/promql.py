"""What a PromQL expression names: its series, and the labels it asks each of them for. Not a parser of all PromQL:
what it does not know it takes for a series, and that is then found missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_NAME = re.compile(r"(?<![\w.:$])([a-zA-Z_:][\w:]*+)\s*+(\{[^}]*\})?+(?!\()")
_WORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """``series``: name → the labels that its selectors match on; ``grouped``: labels of by (…), without (…), on (…)."""

    series: dict[str, set[str]]
    grouped: set[str]


def named(expr: str) -> Named:
    bare = _RANGE.sub("", _STRING.sub('""', re.sub(r"#.*", "", expr)))
    grouped = {label.strip() for _, labels in _GROUPING.findall(bare) for label in labels.split(",") if label.strip()}
    series: dict[str, set[str]] = {}
    for name, selector in _NAME.findall(_GROUPING.sub(" ", bare)):
        if name not in _WORDS:
            series.setdefault(name, set()).update(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector or ""))
    return Named(series=series, grouped=grouped)
