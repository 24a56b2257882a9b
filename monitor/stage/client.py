"""One client of a mount: what it is sent, what is withheld from it, and the two roads to it (TCP, UDP).

Nothing here ever waits: what the kernel does not take at once waits in the transport, up to ``LARGEST_BACKLOG``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol, cast

from monitor.stage.rtp import Burst, Packetiser, interleaved

LARGEST_BACKLOG = 1 << 20
"""Bytes that may wait in this process for one client before access units are withheld from it: at 4 Mbit/s, 2 s."""
REPORT_EVERY_S = 5.0


class Road(Protocol):
    """A way for packets."""

    transport_header: str
    """What SETUP answers, without the ssrc."""

    def backlog(self) -> int:
        """Bytes that still wait in this process."""
        ...

    def send(self, burst: Burst) -> None: ...

    def send_report(self, report: bytes) -> None: ...

    def close(self) -> None: ...


class TcpRoad:
    """Inside the RTSP connection, on two channels (RFC 2326, 10.12)."""

    def __init__(self, transport: asyncio.WriteTransport, rtp: int, rtcp: int) -> None:
        self._transport, self._rtp, self._rtcp = transport, rtp, rtcp
        self.transport_header = f"RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp}"

    def backlog(self) -> int:
        return self._transport.get_write_buffer_size()

    def send(self, burst: Burst) -> None:
        self._transport.write(burst.usual if self._rtp == 0 else interleaved(self._rtp, burst.packets))

    def send_report(self, report: bytes) -> None:
        self._transport.write(interleaved(self._rtcp, (report,)))

    def close(self) -> None:
        """The connection is not the road's."""


class UdpRoad(asyncio.DatagramProtocol):
    """A pair of our UDP ports, the first one even (RFC 3550, 11), to a pair of the client's."""

    def __init__(self, peer: str, rtp: int, rtcp: int, heard: Callable[[], None]) -> None:
        self._peers = ((peer, rtp), (peer, rtcp))
        self._heard = heard
        self._transports: list[asyncio.DatagramTransport] = []
        self.transport_header = ""

    async def open(self, host: str) -> None:
        """Binds the pair. Raises OSError if there are no ports."""
        loop = asyncio.get_running_loop()
        pair = _even_pair(host)
        for own in pair:
            transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=own)
            self._transports.append(transport)
        ports = "-".join(str(own.getsockname()[1]) for own in pair)
        theirs = "-".join(str(port) for _, port in self._peers)
        self.transport_header = f"RTP/AVP;unicast;client_port={theirs};server_port={ports}"

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """Any packet of the client's host says that it is alive: receiver reports, holes punched in firewalls."""
        if addr[0] == self._peers[0][0]:
            self._heard()

    def backlog(self) -> int:
        # Selector event loops have it for datagrams too; only the abstract class does not say so.
        return int(cast(Any, self._transports[0]).get_write_buffer_size())

    def send(self, burst: Burst) -> None:
        for packet in burst.packets:
            self._transports[0].sendto(packet, self._peers[0])

    def send_report(self, report: bytes) -> None:
        self._transports[1].sendto(report, self._peers[1])

    def close(self) -> None:
        for transport in self._transports:
            transport.abort()


def _even_pair(host: str) -> tuple[socket.socket, socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(100):
        with contextlib.ExitStack() as unwanted:
            first = unwanted.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            second = unwanted.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            first.bind((host, 0))
            port: int = first.getsockname()[1]
            if port % 2 == 0 and port < 65535:
                with contextlib.suppress(OSError):
                    second.bind((host, port + 1))
                    unwanted.pop_all()
                    return first, second
    raise OSError(f"no two UDP ports side by side are free on {host}")


class Client:
    """One session's share of a mount. ``cut`` ends a connection that takes nothing for ``stuck_s``."""

    def __init__(self, road: Road, packetiser: Packetiser, stuck_s: float, cut: Callable[[], None]) -> None:
        self.road = road
        self._packetiser, self._stuck_s, self._cut = packetiser, stuck_s, cut
        self._waits_for_key = True
        self._report_due_s = 0.0
        self._stuck_since_s: float | None = None

    def restart(self) -> None:
        """Begins at the next key frame."""
        self._waits_for_key = True

    def offer(self, burst: Burst, now_s: float) -> bool:
        """Sends the access unit; False if it was withheld: the client is slow, or waits for its key frame."""
        full = self.road.backlog() > LARGEST_BACKLOG
        if full:
            self._waits_for_key = True
            self._stuck(now_s)
            return False
        self._stuck_since_s = None
        if self._waits_for_key and not burst.keyframe:
            return False
        self._waits_for_key = False
        self.road.send(burst)
        if now_s >= self._report_due_s:
            self._report_due_s = now_s + REPORT_EVERY_S
            self.road.send_report(self._packetiser.report(time.time()))
        return True

    def _stuck(self, now_s: float) -> None:
        if self._stuck_since_s is None:
            self._stuck_since_s = now_s
        elif now_s - self._stuck_since_s > self._stuck_s:
            self._cut()
