"""What systemd is told of a monitor that it started with ``Type=notify``; without systemd, nothing happens.

The protocol is sd_notify(3): datagrams of ``KEY=value`` lines to the socket that NOTIFY_SOCKET names. WATCHDOG=1 is
sent by the event loop, and only while every watched loop turns: an event loop that stands still sends nothing, and one
that turns says nothing for a scorer that does not.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping
from typing import Self

from monitor.observe.health import Heartbeats

log = logging.getLogger(__name__)

TELL_EVERY_S = 10.0
"""How often the status line is told, where there is no watchdog that asks for more."""
A_WATCHDOG = 3
"""Times a watchdog's period: one message may be late, and none is yet missed."""


class Systemd:
    """``with Systemd(heartbeats) as systemd``: ``ready`` once, ``watch`` as a task, ``stopping`` at the end."""

    def __init__(self, heartbeats: Heartbeats, environment: Mapping[str, str] = os.environ) -> None:
        self._heartbeats = heartbeats
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the null byte of Linux's abstract addresses.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._every_s = TELL_EVERY_S
        if environment.get("WATCHDOG_USEC", "").isdigit() and environment.get("WATCHDOG_PID") in (
            None,
            str(os.getpid()),
        ):
            self._every_s = int(environment["WATCHDOG_USEC"]) / 1e6 / A_WATCHDOG
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()

    def ready(self) -> None:
        """Everything runs. systemd begins to mind the watchdog, and starts what waits for the monitor."""
        self._tell("READY=1")

    def stopping(self) -> None:
        self._tell("STOPPING=1", "STATUS=draining")

    async def watch(self, state: Callable[[], str]) -> None:
        """Until it is cancelled: the watchdog is fed while all loops turn. ``state`` is shown by systemctl status."""
        stood = False
        while self._socket is not None:
            late = [check for check in self._heartbeats.checks() if not check.ok]
            if late:
                words = ", ".join(f"{check.name} {check.note}" for check in late)
                self._tell(f"STATUS=stands still: {words}")
            else:
                self._tell("WATCHDOG=1", f"STATUS={state()}")
            if late and not stood:
                log.error("the watchdog is not fed, so systemd will start the monitor again: %s", words)
            stood = bool(late)
            await asyncio.sleep(self._every_s)

    def _tell(self, *lines: str) -> None:
        """Never waits and never fails: a monitor does not end because nobody listens to how it does."""
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.debug("systemd was not told %s: %s", lines[0], error)
