"""YAML text → plain data that remembers where each value stands.

Scalars are read by YAML 1.2's rules, as editors do: ``off`` and ``20:00`` are text, not false and 1200.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import yaml

from monitor.config.problems import Key, Problem, show_key
from monitor.config.secret import is_kept_secret, is_secret_variable
from monitor.config.settings import FromEnvironment

DEEPEST = 30
MOST_VALUES = 200_000
"""Aliases of aliases can make a small file endless."""

SHORTEST_SECRET = 4
"""Less is part of too many words to be looked for."""
SHOWN_HERE = (
    "{name} is named like a secret, and what stands here is shown: such a variable goes under password, url, "
    "users or a hash (one that holds a path is named {name}_FILE)"
)

_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("null", "bool", "int", "float", "str", "seq", "map", "timestamp", "value", "merge")
)
"""What PyYAML finds by itself; others were written by somebody, and could ask for anything."""
_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|(false|False|FALSE))\Z")
_INT = re.compile(r"[-+]?[0-9]{1,18}\Z")
_FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]{1,300}|[0-9]{1,300}(?:\.[0-9]{0,300})?)(?:[eE][-+]?[0-9]{1,4})?|[-+]?\.inf|\.nan)\Z"
)
_OTHER_BREAK = re.compile("[\x85\u2028\u2029]")
"""Line breaks to PyYAML and to no editor: every line after one would be named wrongly."""
_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a value stands in the file. ``got`` shows it as written there, for errors."""

    key: Key
    line: int
    got: str


@dataclass(slots=True)
class Document:
    """``data``: dicts, tuples and scalars. ``places``: from each key to where it stands."""

    data: Any = None
    places: dict[Key, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    broken: set[Key] = field(default_factory=set)
    """Keys whose value is known to be wrong: nothing more is said of them."""
    secrets_at: dict[Key, set[str]] = field(default_factory=dict)
    """What variables named like a secret put there, where it is long enough to be recognised."""


def plain_scalar(text: str) -> Any:
    """What an unquoted scalar means: None, bool, int, float or str."""
    if _NULL.match(text):
        return None
    truth = _BOOL.match(text)
    if truth:
        return truth[1] is None
    if _INT.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))
    return text


def read(text: str, file: str, env: Mapping[str, str]) -> Document:
    """Everything that can be read; what cannot is in ``problems`` and left out of ``data``."""
    document = Document()
    hidden = _OTHER_BREAK.search(text)
    if hidden is not None:
        line = text.count("\n", 0, hidden.start()) + 1
        said = f"not YAML: the invisible line break U+{ord(hidden[0]):04X}: delete it"
        document.problems.append(Problem(file=file, line=line, key="", message=said))
        return document
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)  # nodes: nothing is constructed from them
        if node is not None:
            document.data = _Reader(document, file, env).value(node, (), 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        _add_syntax(document, file, text, mark.line + 1 if mark else 1, error.problem or "")
    except yaml.reader.ReaderError as error:
        _add_syntax(
            document,
            file,
            text,
            text.count("\n", 0, error.position) + 1,
            "a character that YAML does not allow",
        )
    except (RecursionError, _TooMuchError):
        document.data = None
        _add_syntax(document, file, text, 1, "nested too deeply, or endless")
    except (ValueError, OverflowError):  # PyYAML, on an escape like "\UFFFFFFFF"
        _add_syntax(document, file, text, 1, "a character that does not exist")
    return document


class _TooMuchError(Exception):
    """Deeper than DEEPEST or longer than MOST_VALUES."""


_SYNTAX = (
    ("but found another document", "only one document is read (---)"),
    ("expected <block end>", "the indentation does not match the lines above, or a quote is missing"),
    ("found character '\\t'", "indent with spaces, not tabs"),
    ("mapping values are not allowed", "a second colon, or wrong indentation: quote values that have a colon"),
    ("could not find expected ':'", "a key without its colon, or wrong indentation"),
    ("unexpected end of stream", "a quote is not closed"),
    ("undefined alias", "an alias (*) of nothing: quote values that begin with *"),
    ("but got '{'", "quote a ${VAR} that stands inside { } or [ ]"),
    ("but got '<stream end>'", "a bracket is not closed"),
)
"""PyYAML's words and ours, for what happens most."""


def _add_syntax(document: Document, file: str, text: str, line: int, problem: str) -> None:
    said = next((ours for words, ours in _SYNTAX if words in problem), "")
    if not said:
        # PyYAML quotes names it found, which may be a piece of a password; characters and <tokens> may stay.
        said = re.sub(r"""\s*(?:"[^"]{3,}"|'(?!<)[^'\s]{3,}')""", "", problem.split("\n", 1)[0]).strip()
        said += " (mind the indentation; quote values that have special characters)"
    last = max(1, len(text.splitlines()))
    document.problems.append(Problem(file=file, line=min(max(line, 1), last), key="", message=f"not YAML: {said}"))


class _Reader:
    """Walks the nodes of one file."""

    def __init__(self, document: Document, file: str, env: Mapping[str, str]) -> None:
        self._document, self._file, self._env = document, file, env
        self._values = 0

    def value(self, node: yaml.Node, key: Key, depth: int) -> Any:
        self._values += 1
        line = node.start_mark.line + 1
        if depth > DEEPEST or self._values > MOST_VALUES:
            raise _TooMuchError
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, key, line)
        if node.tag not in _TAGS:
            self._add(line, key, "YAML tags (!name) are not used here")
            return None
        if isinstance(node, yaml.SequenceNode):
            self._document.places[key] = Place(key=key, line=line, got="a list")
            return tuple(self.value(item, (*key, index), depth + 1) for index, item in enumerate(node.value))
        self._document.places[key] = Place(key=key, line=line, got="a mapping")
        return self._mapping(node, key, depth)

    def _mapping(self, node: yaml.Node, key: Key, depth: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        first_line: dict[str, int] = {}
        for name_node, value_node in node.value:
            line = name_node.start_mark.line + 1
            if not isinstance(name_node, yaml.ScalarNode):
                self._add(line, (*key, ""), "a key is a plain word (a value that begins with { or [ goes in quotes)")
                continue
            name = name_node.value
            if name == "<<" and name_node.style is None:
                self._add(line, (*key, name), "merge keys (<<) are not read: what cameras share goes under defaults")
            elif name in data:
                self._add(line, (*key, name), f"given twice (first in line {first_line[name]})")
            else:
                first_line[name] = line
                data[name] = self.value(value_node, (*key, name), depth + 1)
                place = self._document.places.get((*key, name))
                # A mapping or list begins in the line after its key, or far away where it is an alias.
                self._document.places[(*key, name)] = Place(key=(*key, name), line=line, got=place.got if place else "")
        return data

    def _scalar(self, node: yaml.ScalarNode, key: Key, line: int) -> Any:
        quoted = node.style is not None
        plain = node.value if quoted else plain_scalar(node.value)
        got = "nothing" if plain is None else f"'{_shown(node.value)}'" if isinstance(plain, str) else node.value
        self._document.places[key] = Place(key=key, line=line, got=got)
        if node.tag not in _TAGS:
            self._add(line, key, "YAML tags (!name) are not used here")
            return None
        if not isinstance(plain, str):
            return plain
        text = self._expand(plain, key, line) if "${" in plain else plain
        if text is not None and any("\ud800" <= letter <= "\udfff" for letter in text):
            self._add(line, key, "has characters that are no text (not UTF-8)")
            return None
        # Also where it was quoted: inside { } a ${VAR} must be.
        return text if text is plain or text is None else FromEnvironment.of(text, plain_scalar(text))

    def _expand(self, text: str, key: Key, line: int) -> str | None:
        wrong: list[str] = []

        def replace(found: re.Match[str]) -> str:
            if found[0] == "$${":
                return "${"
            name, default = found[1], found[2]
            if name is None:
                wrong.append("a variable is written ${NAME} or ${NAME:-default}; a plain ${ is written $${")
                return ""
            if is_secret_variable(name) and not is_kept_secret(key):
                wrong.append(SHOWN_HERE.format(name=name))
                return ""
            value = self._env.get(name, "")
            if not value and default is None and name not in self._env:
                wrong.append(f"the environment variable {name} is not set")
            value = value or default or ""
            if is_secret_variable(name) and len(value) >= SHORTEST_SECRET:
                self._document.secrets_at.setdefault(key, set()).update((value, unquote(value)))
            return value

        expanded = _VARIABLE.sub(replace, text)
        for sentence in dict.fromkeys(wrong):
            self._add(line, key, sentence)
        return None if wrong else expanded

    def _add(self, line: int, key: Key, message: str) -> None:
        self._document.broken.add(key)
        self._document.problems.append(Problem(file=self._file, line=line, key=show_key(key), message=message))


def _shown(text: str) -> str:
    """One short line of it, without what a ${NAME:-default} would give away."""
    text = _VARIABLE.sub(lambda found: f"${{{found[1]}}}" if found[1] else found[0], text)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= 40 else text[:39] + "…"
