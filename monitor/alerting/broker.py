"""The embedded broker (amqtt) for the demo and for a monitor and its subscribers in one room.

It keeps nothing on disk and knows neither TLS nor access lists. Without users it listens on loopback only.
amqtt is not given a listener of its own: we accept the connections, so that the port is known, "port in
use" is one sentence, and the end is ours.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import ipaddress
import logging
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session

log = logging.getLogger(__name__)

_NOISY = ("amqtt", "transitions")
"""amqtt logs every connection and packet, and port scans as errors."""
_MOST_CONNECTIONS = 100
_STOP_S = 1.0


class BrokerError(Exception):
    """The broker cannot be started; a sentence a person can act on."""


class UsersPlugin(BaseAuthPlugin):  # type: ignore[misc]
    """amqtt's question who may connect: the users of plant.yaml, or anybody where there are none."""

    @dataclass
    class Config:
        users: dict[str, str] = field(default_factory=dict)

    async def authenticate(self, *, session: Session) -> bool:
        users: dict[str, str] = self.config.users
        if not users:
            return True
        expected = users.get(session.username or "")
        given = session.password or ""
        # Compared also for an unknown user, so that the answer takes as long.
        same = hmac.compare_digest(given.encode(), (expected or "").encode())
        return same and expected is not None


class EmbeddedBroker:
    """Async context manager; runs in the caller's event loop. ``port`` is known once it is entered.

    ``users`` (name → password) are needed to listen anywhere but on loopback. Raises BrokerError.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, users: Mapping[str, str] | None = None) -> None:
        self._users = dict(users or {})
        if not self._users and not _is_loopback(host):
            raise BrokerError(
                f"the embedded broker would listen on {host} for anybody: give it mqtt.users, or host: 127.0.0.1"
            )
        self.host = host
        self.port = port
        self._broker: Broker | None = None
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> EmbeddedBroker:
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        config = BrokerConfig(
            listeners={"default": ListenerConfig(type=ListenerType.EXTERNAL)},
            plugins={f"{UsersPlugin.__module__}.{UsersPlugin.__name__}": {"users": self._users}},
        )
        self._broker = Broker(config)
        try:
            self._server = await asyncio.start_server(self._serve, self.host, self.port)
        except OSError as fault:
            why, key = _why_not(fault)
            raise BrokerError(
                f"the embedded broker cannot listen on {self.host}:{self.port} ({why}): choose another {key}"
            ) from None
        await self._broker.start()
        self.port = self._server.sockets[0].getsockname()[1]
        log.info(
            "embedded broker: listening on %s:%d (%s)",
            self.host,
            self.port,
            f"{len(self._users)} users" if self._users else "anybody on this machine",
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        if self._broker is not None:
            # Bounded: amqtt waits for ever for a reader that was cancelled before it had begun.
            shutting = asyncio.create_task(self._broker.shutdown(), name="embedded broker shutdown")
            await asyncio.wait({shutting}, timeout=_STOP_S)
            await _end([shutting, *self._talks])
        for writer in list(self._writers):
            writer.transport.abort()
        if self._server is not None:
            await self._server.wait_closed()

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._talks) >= _MOST_CONNECTIONS:
            writer.close()
            return
        talk = asyncio.create_task(self._talk(reader, writer), name="embedded broker connection")
        self._talks.add(talk)
        self._writers.add(writer)
        talk.add_done_callback(self._talks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._broker is None:
            return
        try:
            await self._broker.external_connected(StreamReaderAdapter(reader), StreamWriterAdapter(writer), "default")
        except Exception as fault:  # one client's nonsense must not reach the others
            log.debug("embedded broker: a connection ended with %r", fault)
        finally:
            writer.close()
            self._writers.discard(writer)


def _why_not(fault: OSError) -> tuple[str, str]:
    """What is wrong, and which key mends it."""
    if isinstance(fault, socket.gaierror):
        return "no known host name or address", "mqtt.host"
    known = {
        errno.EADDRINUSE: ("another program uses it", "mqtt.port"),
        errno.EACCES: ("this user may not", "mqtt.port, above 1023"),
        errno.EADDRNOTAVAIL: ("no address of this machine", "mqtt.host"),
    }
    return known.get(fault.errno or 0, (fault.strerror or str(fault), "mqtt.port"))


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancels what still runs and waits, within bounds, until it does not."""
    late = [task for task in tasks if not task.done()]
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=1.0)
    for task in tasks:
        if task.done() and not task.cancelled() and task.exception() is not None:
            log.debug("embedded broker: ended with %r", task.exception())


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
