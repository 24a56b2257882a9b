"""What else is asked of settings: show them without secrets, describe them to editors, compare two."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from monitor.config.plant import Plant, settings_in
from monitor.config.settings import Settings

_VARIABLE = {"type": "string", "pattern": r"\$\{", "description": "from the environment"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a reload changes. Names of cameras; ``changed``: there before and after, but not the same."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    restart_needed: tuple[str, ...]
    """Keys outside the cameras that differ, like `mqtt.host`: they take effect at the next start."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.restart_needed)


def diff(old: Plant, new: Plant) -> Changes:
    """What must be done to get from ``old`` to ``new``; the order of cameras does not count."""
    before = {camera.name: camera for camera in old.cameras}
    after = {camera.name: camera for camera in new.cameras}
    return Changes(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(name for name in after if name in before and before[name] != after[name]),
        restart_needed=tuple(key for key in _differences(old, new, "") if key != "cameras"),
    )


def _differences(old: Settings, new: Settings, prefix: str) -> list[str]:
    found: list[str] = []
    for name in type(old).model_fields:
        was, now = getattr(old, name), getattr(new, name)
        if isinstance(was, Settings) and isinstance(now, Settings):
            found += _differences(was, now, f"{prefix}{name}.")
        elif was != now:
            found.append(prefix + name)
    return found


def redacted(plant: Plant) -> dict[str, Any]:
    """plain data in the shape of plant.yaml, every key given, every secret `***`."""
    shown: dict[str, Any] = plant.model_dump(mode="json")
    shown["mqtt"]["users"] = dict.fromkeys(shown["mqtt"]["users"], "***")
    if shown["mqtt"]["password"] is not None:
        shown["mqtt"]["password"] = "***"  # noqa: S105 - what is shown for it
    shown["canary"]["every_s"] = shown["canary"]["every_s"] or "off"
    for camera in shown["cameras"]:
        camera["thresholds"] = camera["thresholds"] or "inherit"
        for settings, key in ((camera, "frozen_after_s"), (camera, "drift_limit_ppm"), (camera, "lag_limit_s")):
            settings[key] = settings[key] or "off"
        camera["picture"] = {key: after_s or "off" for key, after_s in camera["picture"].items()}
    return shown


def json_schema() -> dict[str, Any]:
    """The JSON schema of plant.yaml (draft 2020-12), for editors; `load` is stricter than it can say."""
    schema: dict[str, Any] = Plant.model_json_schema()
    parts: dict[str, Any] = schema["$defs"]
    _describe({**parts, "Plant": schema})
    text = {"type": "string"}
    camera = parts["Camera"]
    camera["properties"]["thresholds"]["anyOf"].append({"const": "inherit"})
    for rule in (
        *(camera["properties"][key] for key in ("frozen_after_s", "drift_limit_ppm", "lag_limit_s")),
        *parts["Picture"]["properties"].values(),
    ):
        rule["anyOf"].append({"const": "off"})
    parts["CanarySettings"]["properties"]["every_s"]["anyOf"].append({"const": "off"})
    camera["properties"] |= {
        "url_file": {**text, "description": "A file that holds the url (one line)."},
        "username": {**text, "description": "Goes into the url, percent-encoded."},
        "password": {**text, "description": "Goes into the url; better as ${VAR} or password_file."},
        "password_file": {**text, "description": "A file that holds the password (one line)."},
    }
    camera["required"] = ["name"]
    # Conditions of url stand in `load`: an editor would show them as riddles.
    shared = {
        name: deepcopy(rule) for name, rule in camera["properties"].items() if name not in ("name", "url", "url_file")
    }
    parts["Defaults"] = {
        "type": "object",
        "title": "Defaults",
        "description": "For every camera that does not say otherwise; mappings are merged key by key.",
        "properties": shared,
        "additionalProperties": False,
    }
    parts["Mqtt"]["properties"]["password_file"] = {
        **text,
        "description": "A file that holds the password (one line).",
    }
    parts["HttpMetrics"]["properties"]["token_file"] = {
        **text,
        "description": "A file that holds the token (one line).",
    }
    schema["properties"]["mqtt"] = {"anyOf": [{"$ref": "#/$defs/Mqtt"}, {"enum": ["embedded", "off"]}]}
    schema["properties"]["defaults"] = {"$ref": "#/$defs/Defaults"}
    schema["title"] = "plant.yaml of vad-monitor"
    _relax(parts["Thresholds"])
    _allow_variables(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _describe(parts: dict[str, Any]) -> None:
    """The docstring below a field becomes its description. (pydantic can do so too, but at every import.)"""
    models: list[type[Settings]] = [*_models(Plant), Plant]
    for model in models:
        docstrings: dict[str, str] = {}
        body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
        assert isinstance(body, ast.ClassDef)  # noqa: S101 - for the type checker
        for line, below in pairwise(body.body):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(below, ast.Expr):
                docstrings[line.target.id] = str(ast.literal_eval(below.value))
        for name, rule in parts[model.__name__]["properties"].items():
            if name in docstrings:
                rule["description"] = docstrings[name]


def _models(model: type[Settings]) -> Iterator[type[Settings]]:
    for name in model.model_fields:
        inner = settings_in(model.model_fields[name].annotation)
        if inner is not None:
            yield inner
            yield from _models(inner)


def _relax(part: dict[str, Any]) -> None:
    """Defaults and a camera may give half of it each."""
    part.pop("required", None)


def _allow_variables(node: Any) -> None:
    """A number or a truth value may be written ${VAR}, which is text to an editor."""
    if isinstance(node, list):
        for item in node:
            _allow_variables(item)
    elif isinstance(node, dict):
        node.pop("format", None)
        for item in list(node.values()):
            _allow_variables(item)
        if node.get("type") in ("integer", "number", "boolean"):
            rule = {key: node.pop(key) for key in list(node) if key not in ("title", "description", "default")}
            node["anyOf"] = [rule, _VARIABLE]
