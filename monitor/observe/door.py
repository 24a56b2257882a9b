"""Who may read /metrics and the long answers of /livez and /readyz; one word of these is anybody's."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import sha256

from starlette.datastructures import Headers
from starlette.requests import Request

from monitor.config import is_loopback


def _nobody(_: Headers) -> bool:
    return False


class Door:
    """``token``: what a scraper must show. ``known``: whether headers are those of somebody who has logged in.
    ``guarded``: without either nothing is told; else whoever reaches the service may scrape."""

    def __init__(
        self, token: str | None = None, known: Callable[[Headers], bool] = _nobody, *, guarded: bool = False
    ) -> None:
        self._token = None if token is None else sha256(token.encode()).digest()
        self._known = known
        self._guarded = guarded or token is not None

    def may_scrape(self, request: Request) -> bool:
        return not self._guarded or self._knows(request.headers)

    def may_hear_why(self, request: Request) -> bool:
        """The checks name cameras, files and artefacts: not for strangers. Where nobody can log in, this machine's
        users may, by one of its own names (a proxy on it would ask for others by another)."""
        if self._guarded:
            return self._knows(request.headers)
        peer = request.client.host if request.client is not None else ""
        return is_loopback(peer) and is_loopback(request.url.hostname or "")

    def _knows(self, headers: Headers) -> bool:
        kind, _, said = headers.get("authorization", "").partition(" ")
        # Of hashes: neither length nor beginning of the token shows in the time that it takes.
        shown = sha256(said.strip().encode()).digest() if kind.lower() == "bearer" else b""
        right = self._token is not None and hmac.compare_digest(shown, self._token)
        return right or self._known(headers)
