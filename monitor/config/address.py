"""The address of a stream, which carries credentials and never shows them."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from pydantic_core import CoreSchema, core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue

HIDDEN = "***"
NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https")
LONGEST_RTSP_CREDENTIALS = 127
"""libavformat/rtsp.c keeps `user:password`, encoded, in `char auth[128]`; the rest is cut off unsaid."""

_CREDENTIALS = re.compile(r"(?<=://)\S*@")
# Some cameras take the password in the path or the query: ?user=a&pwd=b, /user=a_password=b_channel=1
_PASSWORD_FIELD = re.compile(
    r"(?i)((?:^|[?&;/_])(?:pass(?:word|wd|phrase)?|pwd|token|auth|apikey|api_key|key|secret)=)"
    r"(?:(?!_[a-z]+=)[^&;\s])+"
)
_DEVICE = re.compile(r"(?:/dev/video)?(\d{1,3})\Z")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,19}):")
_HOST = re.compile(r"\[[0-9A-Fa-f:.%]+\]\Z|[\w-]+(?:\.[\w-]+)*\.?\Z")
_ACCEPTED = "rtsp://, rtsps://, http://, https://, file:, a device number or /dev/videoN"


def redact_addresses(text: str) -> str:
    """The text with the credentials of every address in it hidden: `rtsp://***@host/path`."""
    if "=" in text:
        text = _PASSWORD_FIELD.sub(rf"\1{HIDDEN}", text)
    return _CREDENTIALS.sub(f"{HIDDEN}@", text) if "://" in text else text


class StreamUrl:
    """Where a camera's pictures come from: an address, a file or a video device.

    ``secret`` is what libav opens; it has the credentials, percent-encoded. ``str()`` and ``repr()`` never
    show them. Picklable, hashable, compared by ``secret``. ``ValueError`` says in a sentence what is wrong
    with an address and never repeats it.
    """

    __slots__ = ("host", "path", "port", "scheme", "secret", "secrets", "shown")

    scheme: str
    """rtsp, rtsps, http, https, file or device."""
    host: str
    """Empty for files and devices."""
    port: int | None
    path: str
    """The path within the server, or that of the file or device in the file system."""
    secret: str
    secrets: tuple[str, ...]
    """What must never be logged: the password as it is and as it is encoded."""
    shown: str

    def __init__(self, secret: str | int) -> None:
        text = f"/dev/video{secret}" if isinstance(secret, int) else secret.strip()
        self.host, self.port, self.secrets = "", None, ()
        device = _DEVICE.match(text)
        if device is not None:
            self.scheme = "device"
            self.secret = self.path = self.shown = f"/dev/video{int(device[1])}"
            return
        scheme = _SCHEME.match(text)
        if scheme is None:
            raise ValueError(f"an address begins with its scheme: {_ACCEPTED}")
        self.scheme = scheme[1].lower()
        if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
            raise ValueError("an address has no line breaks or control characters")
        if self.scheme == "file":
            self._take_file(text[len("file:") :])
        elif self.scheme in NETWORK_SCHEMES:
            self._take_network(text[len(self.scheme) + 1 :])
        else:
            raise ValueError(f"the scheme of an address is one of {_ACCEPTED}")

    def _take_file(self, rest: str) -> None:
        if rest.startswith("//"):
            host, slash, path = rest[2:].partition("/")
            if host not in ("", "localhost"):
                raise ValueError("a file is written file:///folder/name.mp4 or file:name.mp4")
            rest = slash + path
        self.path = unquote(rest)
        if self.path.strip("/") in ("", ".", "..") or "\0" in self.path:
            raise ValueError("a file is written file:///folder/name.mp4 or file:name.mp4")
        self.secret = "file:" + self.path
        self.shown = redact_addresses(self.secret)

    def _take_network(self, rest: str) -> None:
        if not rest.startswith("//"):
            raise ValueError(f"after the scheme comes //: {self.scheme}://host/path")
        end = min((i for i in map(rest[2:].find, "/?#") if i >= 0), default=len(rest) - 2) + 2
        authority, tail = rest[2:end], rest[end:]
        credentials, _, place = authority.rpartition("@")
        if ":" in authority and "@" in tail:
            # `rtsp://user:pa/ss@host` and `http://host:80/a@b` look alike: never guess which is the password.
            raise ValueError("the @ is ambiguous: write %40 in a path, or use the keys username and password")
        if any(letter.isspace() for letter in place + tail):
            raise ValueError("an address has no spaces: write %20")
        self.host, self.port = _host_and_port(self.scheme, place)
        self.path = tail
        login = self._encode(credentials) + "@" if credentials else ""
        self.secret = f"{self.scheme}://{login}{place}{tail}"
        split = urlsplit(f"//x{tail}")
        query = f"?{HIDDEN}" if split.query else ""
        self.shown = f"{self.scheme}://{HIDDEN + '@' if login else ''}{place}{redact_addresses(split.path)}{query}"
        hidden_fields = [found[0].partition("=")[2] for found in _PASSWORD_FIELD.finditer(tail)]
        self.secrets = tuple(dict.fromkeys(text for text in (*self.secrets, *hidden_fields) if text))

    def _encode(self, credentials: str) -> str:
        """`user:pa ss` → `user:pa%20ss`; what is percent-encoded already stays."""
        parts = [unquote(part) for part in credentials.split(":", 1)]
        if not parts[0]:
            raise ValueError("the address has a password but no user name")
        if any(ord(letter) < 32 for part in parts for letter in part):
            raise ValueError("user name and password have no line breaks or control characters")
        if ":" in parts[0]:
            raise ValueError("a user name has no colon (libav cannot tell it from the password)")
        encoded = [quote(part, safe="!$&'()*+,;=") for part in parts]
        if self.scheme.startswith("rtsp") and len(":".join(encoded)) > LONGEST_RTSP_CREDENTIALS:
            raise ValueError(f"user name and password are longer than {LONGEST_RTSP_CREDENTIALS} characters, encoded")
        if len(parts) == 2:
            self.secrets = tuple(dict.fromkeys((parts[1], encoded[1], credentials.split(":", 1)[1])))
        return ":".join(encoded)

    @staticmethod
    def redact(text: str) -> str:
        """The text with the credentials of every address in it hidden; also for what is no address at all."""
        return redact_addresses(text)

    @property
    def is_network(self) -> bool:
        return self.scheme in NETWORK_SCHEMES

    @property
    def has_credentials(self) -> bool:
        """Whether `user:password@` stands in it."""
        return self.is_network and f"//{HIDDEN}@" in self.shown

    def with_credentials(self, username: str, password: str | None) -> StreamUrl:
        """The same address with a login, percent-encoded. ValueError where it is not a network address."""
        if not self.is_network:
            raise ValueError("only rtsp, rtsps, http and https addresses take a user name and password")
        login = quote(username, safe="") + ("" if password is None else ":" + quote(password, safe=""))
        return StreamUrl(f"{self.scheme}://{login}@{self.secret.partition('://')[2].rpartition('@')[2]}")

    def relative_to(self, folder: str | os.PathLike[str]) -> StreamUrl:
        """A file's address with its path taken from ``folder``; any other address as it is."""
        if self.scheme != "file" or self.path.startswith("/"):
            return self
        return StreamUrl("file:" + quote(os.path.normpath(os.path.join(os.path.abspath(folder), self.path))))  # noqa: PTH100, PTH118 - no symlinks are followed

    def __str__(self) -> str:
        return self.shown

    def __repr__(self) -> str:
        return f"StreamUrl({self.shown!r})"

    def __eq__(self, other: object) -> bool:
        return self.secret == other.secret if isinstance(other, StreamUrl) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.secret)

    def __reduce__(self) -> tuple[type[StreamUrl], tuple[str]]:
        # A file's secret is not encoded, and reading it must give the same file.
        return StreamUrl, ("file:" + quote(self.path) if self.scheme == "file" else self.secret,)

    @classmethod
    def _of(cls, value: Any) -> StreamUrl:
        if isinstance(value, StreamUrl):
            return value
        if isinstance(value, str) or (type(value) is int and value >= 0):
            return cls(value)
        raise ValueError(f"an address is text: {_ACCEPTED}")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._of, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0, "maximum": 999}]}


def _host_and_port(scheme: str, place: str) -> tuple[str, int | None]:
    """`[::1]:554` → ('::1', 554)."""
    host, colon, port = place.rpartition(":")
    if not colon or place.endswith("]"):
        host, port = place, ""
    if not _HOST.match(host):
        raise ValueError(f"the host is missing or has a character no host has: {scheme}://host:port/path")
    if colon and port and not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        raise ValueError(
            "the port is a number from 1 to 65535 (special characters of a password go into the keys "
            "username and password, or are percent-encoded)"
        )
    return host.strip("[]"), int(port) if port else None
