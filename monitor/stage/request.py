"""RTSP requests out of bytes (RFC 2326), and who may send them. No I/O.

``Inbox`` takes bytes as they arrive and gives requests and interleaved packets. It has two states: it waits for more
bytes, or it has raised ``BadRequest`` and must not be fed again. What it holds is bounded.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

LONGEST_HEAD = 16 * 1024
LONGEST_BODY = 64 * 1024
REALM = "stage"
_START = re.compile(r"([A-Z_]{1,20}) (\S{1,2048}) RTSP/1\.[0-9]")
_PAIR = re.compile(r"\b(\w{1,20})=(?:\"([^\"]*)\"|([^\s,]*))")


class BadRequest(Exception):  # noqa: N818 - the name of status 400
    """The bytes are no RTSP request; the connection has to be closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """``headers`` have lower-case names; ``path`` is decoded, without query and without a slash at its end."""

    method: str
    url: str
    path: str
    cseq: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interleaved:
    """A packet that the client sent inside the connection: a receiver report, as a rule."""

    channel: int
    payload: bytes


class Inbox:
    """Bytes of one connection → requests and packets, however the bytes were cut on their way."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[Request | Interleaved]:
        """Everything complete so far. Raises BadRequest on the first thing that is neither a request nor a packet."""
        self._held += data
        while (found := self._next()) is not None:
            yield found

    def _next(self) -> Request | Interleaved | None:
        held = self._held
        while held.startswith((b"\r", b"\n")):
            del held[:1]
        if held.startswith(b"$"):
            size = 4 + int.from_bytes(held[2:4])
            if len(held) < 4 or len(held) < size:
                return None
            packet = Interleaved(channel=held[1], payload=bytes(held[4:size]))
            del held[:size]
            return packet
        end = held.find(b"\r\n\r\n", 0, LONGEST_HEAD + 4)
        if end < 0:
            if len(held) > LONGEST_HEAD:
                raise BadRequest(f"no request within {LONGEST_HEAD} bytes")
            return None
        method, url, headers = _head(bytes(held[:end]))
        start = end + 4
        size = _number(headers, "content-length", "0", LONGEST_BODY)
        if len(held) < start + size:
            return None
        body = bytes(held[start : start + size])
        del held[: start + size]
        cseq = _number(headers, "cseq", "", 2**32)
        return Request(method=method, url=url, path=path_of(url), cseq=cseq, headers=headers, body=body)


def _head(head: bytes) -> tuple[str, str, dict[str, str]]:
    try:
        first, *lines = head.decode("utf-8").split("\r\n")
    except UnicodeDecodeError:
        raise BadRequest("the request is not text") from None
    start = _START.fullmatch(first)
    if start is None:
        raise BadRequest("the first line is no RTSP/1.0 request")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest("a header has no colon")
        headers[name.strip().lower()] = value.strip()
    return start[1], start[2], headers


def _number(headers: Mapping[str, str], name: str, default: str, most: int) -> int:
    text = headers.get(name, default)
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > most:
        raise BadRequest(f"{name} must be a number up to {most}")
    return int(text)


def path_of(url: str) -> str:
    """``rtsp://host:port/gate%201/?x=y`` → ``/gate 1``. Raises BadRequest if it is no URL."""
    try:
        path = unquote(urlsplit(url).path)
    except ValueError:
        raise BadRequest("the URL cannot be read") from None
    return "/" + path.strip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a client wants its packets: two interleaved channels (TCP), or two of its UDP ports; RTP, RTCP."""

    tcp: bool
    rtp: int
    rtcp: int


def route_of(header: str) -> Route | None:
    """The first alternative of a Transport header that can be served (unicast, TCP or UDP), or None."""
    for alternative in header.split(","):
        profile, *fields = (part.strip() for part in alternative.split(";"))
        values = dict(part.partition("=")[::2] for part in fields)
        if "multicast" in values:
            continue
        if profile.upper() == "RTP/AVP/TCP":
            route = _route(values.get("interleaved", "0-1"), tcp=True, least=0, most=255)
        elif profile.upper() in ("RTP/AVP", "RTP/AVP/UDP"):
            route = _route(values.get("client_port", ""), tcp=False, least=1, most=65535)
        else:
            continue
        if route is not None:
            return route
    return None


def _route(text: str, *, tcp: bool, least: int, most: int) -> Route | None:
    found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
    if found is None:
        return None
    rtp = int(found[1])
    rtcp = int(found[2]) if found[2] else rtp + 1
    return Route(tcp=tcp, rtp=rtp, rtcp=rtcp) if least <= rtp <= most and least <= rtcp <= most else None


class Gate:
    """Lets in those who know a user's password; everybody where there are no users. One gate a connection."""

    def __init__(self, users: Mapping[str, str], schemes: tuple[str, ...]) -> None:
        self._users = users
        self._schemes = schemes
        self._nonce = secrets.token_hex(16)

    def challenges(self) -> list[str]:
        """Values of the WWW-Authenticate headers of a refusal."""
        texts = {
            "digest": f'Digest realm="{REALM}", nonce="{self._nonce}", algorithm=MD5',
            "basic": f'Basic realm="{REALM}"',
        }
        return [texts[scheme] for scheme in self._schemes]

    def admits(self, request: Request) -> bool:
        """Whether the request's Authorization is that of a user."""
        if not self._users:
            return True
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() not in self._schemes:
            return False
        return self._basic(rest) if scheme.lower() == "basic" else self._digest(rest, request.method)

    def _basic(self, text: str) -> bool:
        try:
            user, _, password = base64.b64decode(text, validate=True).decode("utf-8").partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return False
        return user in self._users and hmac.compare_digest(self._users[user].encode(), password.encode())

    def _digest(self, text: str, method: str) -> bool:
        given = {name.lower(): quoted or plain for name, quoted, plain in _PAIR.findall(text)}
        user = given.get("username", "")
        if user not in self._users or given.get("nonce") != self._nonce:
            return False
        secret = _md5(f"{user}:{REALM}:{self._users[user]}")
        asked = _md5(f"{method}:{given.get('uri', '')}")
        wanted = _md5(f"{secret}:{self._nonce}:{asked}")
        return hmac.compare_digest(wanted.encode(), given.get("response", "").lower().encode())


def _md5(text: str) -> str:
    # RFC 2069 demands MD5; it is what cameras and their clients speak.
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
