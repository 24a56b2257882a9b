"""Connections that end: a client that sends its request a byte a minute, or opens thousands, finds its limit here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    request_s: float = 15.0
    """A request, head and body, arrives within so long."""
    connections: int = 512
    """Of all clients together: half of the 1,024 descriptors that a process usually has."""
    of_one: int = 128
    """Of one address: nobody alone keeps the others, and the probes of whoever restarts the monitor, out."""


LIMITS = Limits()


def bounded(limits: Limits) -> type[H11Protocol]:
    """uvicorn takes a class; this one has its limits in it."""
    return type("Bounded", (Bounded,), {"limits": limits})


class Bounded(H11Protocol):
    """uvicorn's protocol, which by itself waits for ever for the rest of a request and takes every connection."""

    limits = LIMITS
    _deadline: asyncio.TimerHandle | None = None

    @property
    def address(self) -> str:
        return "" if self.client is None else self.client[0]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        same = sum(isinstance(one, Bounded) and one.address == self.address for one in self.connections)
        if len(self.connections) > self.limits.connections or same > self.limits.of_one:
            transport.abort()
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """From the first moment of a request until its last byte; while it is answered, no clock runs."""
        cycle: Any = self.cycle
        answering = cycle is not None and not cycle.response_complete and not cycle.more_body
        if answering or self.transport.is_closing():
            self._forget()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.limits.request_s, self._too_slow)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        self.transport.abort()
