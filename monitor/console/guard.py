"""What every request to the console must pass, and what every answer carries. Plain ASGI: streams flow through it.

1. Without users only this machine's names are answered to: a page elsewhere that makes its own name mean
   127.0.0.1 would be this console's friend otherwise.
2. With users, everything under ``api/`` but logging in needs a session's cookie or a token in its header. A token in
   the address is never looked at.
3. Whatever is not GET or HEAD must say ``X-VAD-Console: 1``, which no foreign page's form or image can, and must not
   come from another origin; and it needs an operator. A token in a header is exempt: no browser sends it by itself.
4. One session, or one address that is not logged in, may ask only so much: ``rate.py``. Not one address alone: behind
   a proxy all viewers have the same.
"""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from monitor.config import is_loopback
from monitor.console.access import EVERYBODY, Access, Person, hash_token
from monitor.console.rate import Rate

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "vad_session"
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
FREE = ("/api/v1/session",)
"""Where one logs in, logs out and asks who one is."""
OPERATORS_ONLY = ("/api/v1/audit",)
LONGEST_BODY = 65_536


class Guard:
    """Puts the Person who asks into ``scope['state']['person']``."""

    def __init__(self, app: ASGIApp, access: Access, rate: Rate | None = None) -> None:
        self._app, self._access, self._rate = app, access, rate or Rate()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        person = who_asks(headers, self._access)
        scope.setdefault("state", {})["person"] = person

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    answered.setdefault(name, value)
                answered.setdefault("cache-control", "no-store")
            await send(message)

        refused = self._refusal(scope, headers, person)
        if refused is not None:
            status, sentence = refused
            again = {"retry-after": "1"} if status == 429 else None
            await JSONResponse({"detail": sentence}, status, again)(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)

    def _refusal(self, scope: Scope, headers: Headers, person: Person | None) -> tuple[int, str] | None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path.startswith("/api/") and not self._rate.takes(self._asker(scope, headers, person)):
            return 429, "too many requests: wait a moment"
        if self._access.is_open and not _is_ours(headers.get("host", "")):
            return 403, "without console.users this console answers on this machine only (localhost, 127.0.0.1)"
        acts = scope["method"] not in ("GET", "HEAD")
        if acts and (person is None or person.by_cookie) and _is_foreign(headers):
            return 403, "asked by another page, or without the header X-VAD-Console: 1"
        if acts and not (headers.get("content-length") or "0").isascii():
            return 400, "a length is a number"
        if acts and ("transfer-encoding" in headers or int(headers.get("content-length") or 0) > LONGEST_BODY):
            return 413, "that is too long"
        if not path.startswith("/api/") or path in FREE:
            return None
        if person is None:
            return 401, "log in first"
        if path in OPERATORS_ONLY and person.role != "operator":
            return 403, "the audit log is for operators"
        if acts and person.role != "operator":
            return 403, "a viewer looks; judging, acknowledging and shelving need the role operator"
        return None

    def _asker(self, scope: Scope, headers: Headers, person: Person | None) -> str:
        """Whose requests are counted together."""
        key = session_key(headers)
        if key is not None and person is not None and person.by_cookie and not self._access.is_open:
            return f"session {hash_token(key)}"
        client = scope.get("client")
        return client[0] if client else ""


def who_asks(headers: Headers, access: Access) -> Person | None:
    """By a token in the header, or a session's cookie; nobody needs either where there are no users."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return access.by_token(token.strip())
    if access.is_open:
        return EVERYBODY
    key = session_key(headers)
    return None if key is None else access.by_session(key)


def session_key(headers: Headers) -> str | None:
    try:
        kept = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return None if kept is None else kept.value


def _is_ours(host: str) -> bool:
    name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
    return is_loopback(name)


def _is_foreign(headers: Headers) -> bool:
    """Whether a browser sent it for a page of another origin, or without our header."""
    if headers.get("x-vad-console") != "1" or headers.get("sec-fetch-site", "same-origin") not in (
        "same-origin",
        "none",
    ):
        return True
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host", "")
