"""plant.yaml → Plant: read, fill in secrets and defaults, check, and say everything that is wrong at once.

Longer than other files: one pass over one document, whose steps share the places of its values.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from monitor.config.address import HIDDEN, StreamUrl, redact_addresses
from monitor.config.plant import Camera, HttpMetrics, Mqtt, Plant, is_folder, settings_in
from monitor.config.problems import ConfigError, Key, Problem, did_you_mean, sentence, show_key
from monitor.config.secret import SECRET_KEYS
from monitor.config.settings import Settings

if TYPE_CHECKING:
    from monitor.config.lines import Document, Place

LARGEST_FILE = 4_000_000
LARGEST_SECRET = 65_536
ONLY_IN_FILE: dict[type[Settings], tuple[str, ...]] = {
    Plant: ("defaults",),
    Camera: ("url_file", "username", "password", "password_file"),
    Mqtt: ("password_file",),
    HttpMetrics: ("token_file",),
}
"""Keys that a file may have but the settings do not: they are resolved here."""
IN_ADDRESS = (
    "a variable named like a secret stands where the address is shown: in the user's name and password "
    "(rtsp://user:${…}@host/), in a field like ?password=${…}, or under the keys username and password it is hidden"
)
NOT_IN_DEFAULTS = ("name", "url", "url_file")
_UNREAD = "a secret whose file could not be read"


def load(path: Path, env: Mapping[str, str] = os.environ) -> Plant:
    """The settings in ``path``. Raises ConfigError with every mistake and its line; no secret is in it.

    Relative paths begin at the folder of ``path``. ``env`` is where ``${VAR}`` is looked up.
    """
    from monitor.config.lines import read  # YAML is not needed by who only imports the settings

    text = _text(path)
    document = read(text, str(path), env)
    if document.data is None and not document.problems:
        document.problems.append(
            Problem(file=str(path), line=1, key="", message="is empty; it needs site, mqtt and cameras")
        )
    if document.data is None:
        raise ConfigError(document.problems)
    return _Loading(path, document).plant()


def _text(path: Path) -> str:
    def wrong(message: str, line: int = 0) -> ConfigError:
        return ConfigError([Problem(file=str(path), line=line, key="", message=message)])

    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        raise wrong(f"cannot be read: {_reason(error)}") from None
    if len(data) > LARGEST_FILE:
        raise wrong(f"is larger than {LARGEST_FILE // 1_000_000} MB: is that the right file?")
    if b"\0" in data:
        raise wrong("is a binary file (or UTF-16), not YAML in UTF-8", data.count(b"\n", 0, data.index(b"\0")) + 1)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise wrong("is not UTF-8 text: save it as UTF-8", data.count(b"\n", 0, error.start) + 1) from None


def _reason(error: Exception) -> str:
    """`no such file`: the system's words, without the path."""
    said = (error.strerror or "") if isinstance(error, OSError) else ""
    return {"No such file or directory": "there is no such file", "Is a directory": "it is a folder"}.get(
        said, said.lower() or "no such path"
    )


class _Loading:
    """One file on its way to a Plant. Every step adds to ``problems`` and goes on."""

    def __init__(self, path: Path, document: Document) -> None:
        self._file = str(path)
        self._folder = Path(os.path.abspath(path)).parent  # noqa: PTH100 - a link to the file counts where it stands
        self._data, self._places, self._broken = document.data, document.places, document.broken
        self._problems = document.problems
        self._secrets_at = document.secrets_at
        self._hidden: set[str] = set()
        self._in_defaults: list[tuple[Key, Place]] = []

    def plant(self) -> Plant:
        """The checked settings, or ConfigError."""
        self._hide_secrets(self._data, False)
        plant = None
        if isinstance(self._data, dict):
            data = dict(self._data)
            data["mqtt"] = self._mqtt(data)
            self._metrics(data)
            self._cameras(data)
            self._anchor_paths(data)
            plant = self._check(Plant, data, ())
        else:
            self._add((), "expected a mapping: site, mqtt, cameras …")
        if self._problems or not isinstance(plant, Plant):
            raise ConfigError(self._problems)
        return plant

    def _hide_secrets(self, value: Any, secret: bool) -> None:
        """Collects everything that stands under a secret key, so that it is not shown elsewhere either."""
        if isinstance(value, dict):
            for name, item in value.items():
                self._hide_secrets(item, secret or name in SECRET_KEYS)
        elif isinstance(value, tuple):
            for item in value:
                self._hide_secrets(item, secret)
        elif secret and value is not None:
            self._hidden.add(str(value))

    def _mqtt(self, data: dict[str, Any]) -> Any:
        """`embedded` and `off` are short for a mapping; password_file becomes password."""
        mqtt = data.get("mqtt")
        if isinstance(mqtt, str) and mqtt in ("embedded", "off"):
            return {"kind": str(mqtt)}
        if not isinstance(mqtt, dict):
            if "mqtt" not in data:
                self._add(("mqtt",), "missing: a mapping with host, or embedded, or off")
            else:
                meant = did_you_mean(mqtt, ("embedded", "off")) if isinstance(mqtt, str) else ""
                self._add(("mqtt",), f"expected a mapping with host, or embedded, or off{self._got(('mqtt',))}{meant}")
            return {"kind": "off"}
        mqtt = dict(mqtt)
        self._take_secret_file(mqtt, "password", ("mqtt",))
        return mqtt

    def _metrics(self, data: dict[str, Any]) -> None:
        """http.metrics.token_file becomes its token."""
        http = data.get("http")
        if isinstance(http, dict) and isinstance(http.get("metrics"), dict):
            metrics = dict(http["metrics"])
            self._take_secret_file(metrics, "token", ("http", "metrics"))
            data["http"] = {**http, "metrics": metrics}

    def _cameras(self, data: dict[str, Any]) -> None:
        defaults = self._defaults(data.pop("defaults", None))
        cameras = data.get("cameras")
        if not isinstance(cameras, tuple):
            return
        filled: list[Any] = []
        first: dict[str, int] = {}
        for index, own in enumerate(cameras):
            key: Key = ("cameras", index)
            if isinstance(own, dict):
                name = own.get("name")
                if isinstance(name, str) and first.setdefault(str(name), index) != index:
                    line = self._place(("cameras", first[name], "name")).line
                    self._add(
                        (*key, "name"),
                        f"an earlier camera (line {line}) has this name{self._got((*key, 'name'))}",
                    )
                camera = self._merge(defaults, own, ("defaults",), key)
                self._address(camera, own, key)
                filled.append(camera)
            else:
                filled.append(own)
        data["cameras"] = tuple(filled)

    def _defaults(self, defaults: Any) -> dict[str, Any]:
        """Checked by themselves: a mistake in them is said once, not once a camera, and not handed on."""
        if defaults is None:
            return {}
        if not isinstance(defaults, dict):
            self._add(("defaults",), f"expected a mapping (lines of key: value){self._got(('defaults',))}")
            return {}
        defaults = dict(defaults)
        for name in NOT_IN_DEFAULTS:
            if name in defaults:
                self._add(("defaults", name), "belongs to each camera, not under defaults")
                del defaults[name]
        self._take_secret_file(defaults, "password", ("defaults",))
        camera = {name: value for name, value in defaults.items() if name not in ONLY_IN_FILE[Camera]}
        self._check(Camera, {**camera, "name": "x", "url": StreamUrl(0)}, ("defaults",))
        self._in_defaults = [(key, place) for key, place in self._places.items() if key[:1] == ("defaults",)]
        bad = {key[1] for key in self._broken if len(key) > 1 and key[0] == "defaults"}
        return {name: value for name, value in defaults.items() if name not in bad}

    def _merge(self, defaults: dict[str, Any], own: dict[str, Any], source: Key, target: Key) -> dict[str, Any]:
        """The camera's own keys win; mappings are merged key by key, lists replaced."""
        merged = dict(own)
        for name, value in defaults.items():
            if name not in own:
                merged[name] = value
                # A mistake that shows only here stands in the defaults.
                start = (*source, name)
                for key, place in self._in_defaults:
                    if key[: len(start)] == start:
                        self._places[(*target, *key[len(source) :])] = place
            elif isinstance(value, dict) and isinstance(own[name], dict):
                merged[name] = self._merge(value, own[name], (*source, name), (*target, name))
        return merged

    def _address(self, camera: dict[str, Any], own: dict[str, Any], key: Key) -> None:
        """url or url_file, with username and password, become one StreamUrl."""
        given = "url_file" if "url_file" in camera else "url"
        self._take_secret_file(camera, "url", key)
        if "password_file" in own and "password" not in own:
            camera.pop("password", None)  # that of the defaults
        self._take_secret_file(camera, "password", key)
        username, password = camera.pop("username", None), camera.pop("password", None)
        value = camera.get("url")
        camera["url"] = StreamUrl(0)  # stands in for a wrong one: what is wrong is said here
        at = (*key, given)
        if at in self._broken:
            return
        if value is None:
            self._add((*key, "url"), "missing: url or url_file")
            return
        if type(value) is bool or not isinstance(value, (str, int)) or (isinstance(value, int) and value < 0):
            self._add(at, "expected an address as text, or a device number")
            return
        try:
            url = StreamUrl(value).relative_to(self._folder)
        except ValueError as error:
            self._add(at, str(error))
            return
        if any(secret in url.shown for secret in self._secrets_at.get(at, ())):
            self._add(at, IN_ADDRESS)
            return
        self._hidden.update(url.secrets)
        camera["url"] = self._with_login(url, username, password, own, key)

    def _with_login(self, url: StreamUrl, username: Any, password: Any, own: dict[str, Any], key: Key) -> StreamUrl:
        own_login = [name for name in ("username", "password", "password_file") if name in own]
        if own_login and (url.has_credentials or not url.is_network):
            why = "the url has a user name already" if url.is_network else f"a {url.scheme} has no login"
            self._add((*key, own_login[0]), why)
        elif (username, password) != (None, None) and url.is_network and not url.has_credentials:
            for name, value in (("username", username), ("password", password)):
                if value is not None and not isinstance(value, str):
                    self._add((*key, name), "expected text: put quotes around it")
                    return url
            if not username:
                self._add((*key, "username"), "missing: a password needs a username")
                return url
            try:
                return url.with_credentials(username, password)
            except ValueError as error:
                self._add((*key, "username"), str(error))
        return url

    def _take_secret_file(self, data: dict[str, Any], name: str, key: Key) -> None:
        """`password_file: path` → `password: its first line`; both at once are a mistake."""
        if f"{name}_file" not in data:
            return
        path, at = data.pop(f"{name}_file"), (*key, f"{name}_file")
        if name in data:
            self._add(at, f"give either {name} or {name}_file")
            return
        # Where it cannot be read, which is said and refused, nothing else is to be said of its absence.
        data[name] = _UNREAD
        if at in self._broken:
            return
        if not isinstance(path, str) or not path or "\0" in path:
            self._add(at, "expected the path of a file")
            return
        try:
            data[name] = _secret_in(self._anchored(path))
        except (OSError, ValueError) as error:
            said = _reason(error) if isinstance(error, OSError) else str(error)
            self._add(at, f"{said} (relative paths begin at the folder of this file)")
            return
        self._hidden.add(data[name])
        self._places[(*key, name)] = self._place(at)

    def _anchored(self, path: str) -> Path:
        return Path(os.path.normpath(self._folder / os.path.expanduser(path)))  # noqa: PTH111 - never raises

    def _anchor_paths(self, data: dict[str, Any]) -> None:
        """Relative paths begin at the folder of the file, not where somebody happens to stand."""

        def anchor(values: dict[str, Any], name: str, otherwise: str | None = None) -> None:
            path = values.get(name, otherwise)
            if isinstance(path, str) and path and "\0" not in path:
                values[name] = self._anchored(path)

        anchor(data, "state_folder", "state")
        if isinstance(data.setdefault("evidence", {}), dict):
            data["evidence"] = dict(data["evidence"])
            anchor(data["evidence"], "folder", "evidence")
        ingest = data.setdefault("ingest", {})
        if isinstance(ingest, dict):
            folders = ingest.get("file_folders")
            if folders is None:
                data["ingest"] = {**ingest, "file_folders": (self._folder,)}
            elif isinstance(folders, tuple):
                usual = (
                    self._anchored(one) if isinstance(one, str) and one and "\0" not in one else one for one in folders
                )
                data["ingest"] = {**ingest, "file_folders": tuple(usual)}
        if isinstance(data["mqtt"], dict):
            for name in ("ca_file", "cert_file", "key_file"):
                anchor(data["mqtt"], name)
        scoring = data.get("scoring")
        artefact = scoring.get("artefact") if isinstance(scoring, dict) else None
        if isinstance(artefact, str) and artefact and "\0" not in artefact:
            # A bare word may be a shipped artefact's name, or a folder beside this file.
            beside = self._anchored(artefact)
            if is_folder(artefact, beside):
                data["scoring"] = {**data["scoring"], "artefact": str(beside)}

    def _check(self, model: type[Settings], data: dict[str, Any], key: Key) -> Settings | None:
        """The checked settings; None where they are wrong, with the problems added."""
        try:
            return model.model_validate(data)
        except ValidationError as failed:
            errors = failed.errors(include_url=False, include_input=False)
        for error in errors:
            loc = (*key, *error["loc"], *error.get("ctx", {}).get("at", ()))
            if key and error["type"] in ("missing", "mistake"):
                continue  # defaults may be half of something: each camera says whether the rest is there
            place = self._place(loc)
            stands = loc in self._places
            got = self._shown(place) if stands else ""
            known = known_keys(model, error["loc"][:-1])
            if key and len(error["loc"]) == 1:
                known = tuple(name for name in known if name not in NOT_IN_DEFAULTS)
            self._add(loc, sentence({**error, "loc": loc}, got, known))
        return None

    def _place(self, key: Key) -> Place:
        """Where the value stands, or what it would stand in."""
        while key not in self._places:
            key = key[:-1]
        return self._places[key]

    def _shown(self, place: Place) -> str:
        secret = any(part in SECRET_KEYS for part in place.key)
        return "" if secret else self._without_secrets(redact_addresses(place.got))

    def _got(self, key: Key) -> str:
        shown = self._shown(self._place(key))
        return f" (got {shown})" if shown else ""

    def _without_secrets(self, text: str) -> str:
        for secret in sorted(self._hidden, key=len, reverse=True):
            if len(secret) >= 4 or text.strip("'") == secret:
                text = text.replace(secret, HIDDEN) if secret else text
        return text

    def _add(self, key: Key, message: str) -> None:
        """A problem of ``key``, unless one is known of it or of what it stands in."""
        place = self._place(key)
        if any(place.key[:length] in self._broken for length in range(1, len(place.key) + 1)):
            return
        stands = key in self._places
        if stands and key:
            self._broken.add(place.key)
        shown = show_key(place.key if stands else key)
        self._problems.append(Problem(file=self._file, line=place.line, key=shown, message=message))


def _secret_in(path: Path) -> str:
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is not a file")
    data = path.read_bytes()[: LARGEST_SECRET + 1]
    try:
        text = data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("the file is not UTF-8 text") from None
    if not text or len(data) > LARGEST_SECRET or "\n" in text or "\0" in text:
        raise ValueError("the file must hold one line: the secret")
    return text


def known_keys(model: type[Settings], loc: Key) -> tuple[str, ...]:
    """The keys that may stand at ``loc`` of a file, below ``model``."""
    for part in loc:
        if isinstance(part, str):
            inner = settings_in(model.model_fields[part].annotation) if part in model.model_fields else None
            if inner is None:
                return ()
            model = inner
    return (*model.model_fields, *ONLY_IN_FILE.get(model, ()))
