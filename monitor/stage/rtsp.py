"""A small RTSP 1.0 server for the staged plant and for tests: live H.264, many mounts, many clients, one event loop.

    async with RtspServer() as server:
        gate = server.mount("/gate")
        gate.send(access_unit, pts_90k, keyframe)     # again and again; server.url("/gate") is where

It is our own because the package index has nothing that does this: rtsp-rs 0.1.8 gives Python one mount over UDP only
and calls itself "use at your own risk", aio-rtsp-toolkit 0.1.4 serves files only, GStreamer has no wheels for Linux.
It stands in for cameras on the same machine or network; it is no relay to put before the world: no TLS, no multicast,
no recording, no seeking, one video track a mount.

Rules:
- A client starts at the next key frame: its first picture is whole, and its time never jumps.
- Whoever is slow loses whole access units up to the next key frame, sees that in the sequence numbers, and holds up
  nobody; one that takes nothing for ``stuck_s`` is cut off. The server never waits for a client.
- A session ends with its connection. A connection that neither plays over TCP nor is heard of ends after ``timeout_s``.
- Whatever bytes arrive: at worst their connection is answered 400 and closed.

``python -m monitor.stage.rtsp FILE…`` serves files as cameras.

Above 300 lines, so that a request can be followed from the socket to its answer without leaving the file; what needs
no socket is in request.py, rtp.py and client.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from monitor.stage.client import Client, Road, TcpRoad, UdpRoad
from monitor.stage.request import BadRequest, Gate, Inbox, Request, Route, route_of
from monitor.stage.rtp import CLOCK_HZ, PAYLOAD_TYPE, Packetiser, ParameterSets, nal_units

Scheme = Literal["digest", "basic"]
TRACK = "trackID=0"
METHODS = ("OPTIONS", "DESCRIBE", "SETUP", "PLAY", "PAUSE", "GET_PARAMETER", "SET_PARAMETER", "TEARDOWN")
_REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed",
    454: "Session Not Found", 455: "Method Not Valid in This State", 461: "Unsupported Transport",
    503: "Service Unavailable",
}  # fmt: skip


class Refusal(Exception):  # noqa: N818 - an answer, not an error of ours
    """A request is answered with this status instead of 200."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status} {_REASONS[status]}")
        self.status = status


class Mount:
    """One camera. Not thread-safe but for ``send_threadsafe``."""

    def __init__(self, path: str, parameters: ParameterSets | None) -> None:
        self.path = path
        self.parameters = parameters
        self.packetiser = Packetiser()
        self.connections: set[Connection] = set()
        """Those that have a session here."""
        self.clients: set[Client] = set()
        """Those that play."""
        self.sent = self.withheld = 0
        """Access units times clients; withheld counts what slow or just arrived clients did not get."""
        self._known = asyncio.Event()
        if parameters is not None:
            self._known.set()
        self._loop = asyncio.get_running_loop()

    def send(self, access_unit: bytes, pts_90k: int, keyframe: bool) -> None:
        """One access unit (H.264, Annex B) to everybody who plays, on the loop. ``pts_90k``: 1/90,000 s, may wrap.

        Parameter sets are learnt from it; a key frame without them gets the known ones put before it.
        """
        units = nal_units(access_unit)
        found = ParameterSets.among(units)
        if found is not None:
            self.parameters = found
            self._known.set()
        elif keyframe and self.parameters is not None:
            units = [self.parameters.sps, self.parameters.pps, *units]
        if not units or not self.clients:
            return
        burst = self.packetiser.burst(units, pts_90k, keyframe)
        now_s = time.monotonic()
        for client in tuple(self.clients):
            if client.offer(burst, now_s):
                self.sent += 1
            else:
                self.withheld += 1

    def send_threadsafe(self, access_unit: bytes, pts_90k: int, keyframe: bool) -> None:
        """``send`` from any thread. Raises RuntimeError once the loop is closed."""
        self._loop.call_soon_threadsafe(self.send, access_unit, pts_90k, keyframe)

    async def description(self, host: str, wait_s: float) -> bytes:
        """The SDP; waits for the first key frame. Raises Refusal (503) if none comes within ``wait_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._known.wait()
        if self.parameters is None:
            raise Refusal(503)
        family, anywhere = ("IP6", "::") if ":" in host else ("IP4", "0.0.0.0")  # noqa: S104 - an SDP, no socket
        lines = (
            "v=0", f"o=- {self.packetiser.ssrc} 1 IN {family} {host}", "s=stage", f"c=IN {family} {anywhere}", "t=0 0",
            "a=control:*", "a=range:npt=now-", f"m=video 0 RTP/AVP {PAYLOAD_TYPE}",
            f"a=rtpmap:{PAYLOAD_TYPE} H264/{CLOCK_HZ}", f"a=fmtp:{PAYLOAD_TYPE} {self.parameters.fmtp}",
            f"a=control:{TRACK}",
        )  # fmt: skip
        return "".join(f"{line}\r\n" for line in lines).encode()

    def cut(self) -> None:
        """Ends every client's connection at once, as a camera does that loses its power."""
        for connection in tuple(self.connections):
            connection.cut()


class RtspServer:
    """Listens while its ``async with`` block runs. ``host`` is an address; ``port`` 0 takes a free one, read it inside.

    ``users``: names and passwords; without them everybody may look. ``schemes``: what is offered then.
    Entering raises OSError if the address cannot be had. Leaving cuts all connections, and raises what a connection's
    task died of, if one did (bytes from outside never do that).
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        users: Mapping[str, str] | None = None,
        *,
        schemes: tuple[Scheme, ...] = ("digest", "basic"),
        timeout_s: float = 60.0,
        stuck_s: float = 10.0,
        describe_wait_s: float = 5.0,
    ) -> None:
        self.host, self.port = host, port
        self.users, self.schemes = dict(users or {}), schemes
        self.timeout_s, self.stuck_s, self.describe_wait_s = timeout_s, stuck_s, describe_wait_s
        self.mounts: dict[str, Mount] = {}
        self.connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._faults: list[BaseException] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, self.port, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for connection in tuple(self.connections):
            connection.cut()
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._faults and error is None:
            raise self._faults[0]

    def mount(self, path: str, parameters: ParameterSets | None = None) -> Mount:
        """A new camera at the path, in the running loop. Raises ValueError if there is one already."""
        path = "/" + path.strip("/")
        if path in self.mounts:
            raise ValueError(f"{path} is mounted already")
        self.mounts[path] = Mount(path, parameters)
        return self.mounts[path]

    def unmount(self, path: str) -> None:
        """Removes the camera and cuts its clients. Raises KeyError if there is none."""
        self.mounts.pop("/" + path.strip("/")).cut()

    def url(self, path: str) -> str:
        """Where a mount is, without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"rtsp://{host}:{self.port}/{quote(path.strip('/'))}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(Connection(self, reader, writer).run(), name="rtsp connection")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._faults.append(fault)


class Connection:
    """One client's connection and its one session."""

    def __init__(self, server: RtspServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self._reader, self._writer = reader, writer
        self._gate = Gate(server.users, server.schemes)
        self._heard_s = time.monotonic()
        self._session = ""
        self._mount: Mount | None = None
        self._client: Client | None = None

    async def run(self) -> None:
        """Until either side ends it."""
        self.server.connections.add(self)
        try:
            # Whatever the network does to a connection ends it and nothing else.
            with contextlib.suppress(OSError):
                await self._converse()
                self._writer.close()
                async with asyncio.timeout(1.0):
                    await self._writer.wait_closed()
        finally:
            self._end_session()
            self.cut()
            self.server.connections.discard(self)

    def cut(self) -> None:
        """Ends the connection at once; what waits in it is lost."""
        self._writer.transport.abort()

    async def _converse(self) -> None:
        inbox = Inbox()
        try:
            while data := await self._read():
                for found in inbox.feed(data):
                    if isinstance(found, Request) and not await self._answer(found):
                        return
        except BadRequest:
            await self._reply(400, {})

    async def _read(self) -> bytes:
        """The next bytes; none at the end, or if nothing was heard for too long."""
        while True:
            quiet_s = time.monotonic() - self._heard_s
            if quiet_s >= self.server.timeout_s:
                return b""
            try:
                async with asyncio.timeout(self.server.timeout_s - quiet_s):
                    data = await self._reader.read(1 << 16)
            except TimeoutError:
                if self._plays_over_tcp():
                    self._hear()
                continue
            self._hear()
            return data

    def _hear(self) -> None:
        self._heard_s = time.monotonic()

    def _plays_over_tcp(self) -> bool:
        # TCP itself tells when such a client is gone; not all clients send keep-alives then.
        playing = self._mount is not None and self._client in self._mount.clients
        return playing and self._client is not None and isinstance(self._client.road, TcpRoad)

    async def _answer(self, request: Request) -> bool:
        """False if that was the last answer of the connection."""
        headers = {"CSeq": str(request.cseq)}
        body = b""
        status = 200
        try:
            if request.method != "OPTIONS" and not self._gate.admits(request):
                raise Refusal(401)
            body = await self._obey(request, headers)
        except Refusal as refusal:
            status = refusal.status
        await self._reply(status, headers, body)
        return request.method != "TEARDOWN" or status != 200

    async def _obey(self, request: Request, headers: dict[str, str]) -> bytes:
        """The answer's body; adds headers. Raises Refusal."""
        if request.method not in METHODS:
            headers["Allow"] = ", ".join(METHODS)
            raise Refusal(405)
        if request.method == "OPTIONS":
            headers["Public"] = ", ".join(METHODS)
            return b""
        if request.method == "DESCRIBE":
            body = await self._wanted(request.path).description(self.server.host, self.server.describe_wait_s)
            headers |= {
                "Content-Type": "application/sdp",
                "Content-Base": request.url.partition("?")[0].rstrip("/") + "/",
            }
            return body
        if request.headers.get("session", self._session).partition(";")[0] != self._session:
            raise Refusal(454)
        if request.method == "SETUP":
            await self._set_up(request, headers)
        elif request.method in ("GET_PARAMETER", "SET_PARAMETER"):
            pass  # keep-alives; we have no parameters
        elif self._client is None or self._mount is None:
            raise Refusal(455)
        elif request.method == "PLAY":
            self._client.restart()
            self._mount.clients.add(self._client)
            headers["Range"] = "npt=now-"
        elif request.method == "PAUSE":
            self._mount.clients.discard(self._client)
        else:
            self._end_session()
        if self._session:
            headers.setdefault("Session", self._session)
        return b""

    def _wanted(self, path: str) -> Mount:
        mount = self.server.mounts.get(path)
        if mount is None:
            raise Refusal(404)
        return mount

    async def _set_up(self, request: Request, headers: dict[str, str]) -> None:
        mount = self._wanted(request.path.removesuffix(f"/{TRACK}") or "/")
        route = route_of(request.headers.get("transport", ""))
        if route is None:
            raise Refusal(461)
        self._end_session()  # one session a connection: a client that sets up again has changed its mind
        road = await self._road(route)
        self._client = Client(road, mount.packetiser, self.server.stuck_s, self.cut)
        self._mount, self._session = mount, secrets.token_hex(8)
        mount.connections.add(self)
        headers["Transport"] = f"{road.transport_header};ssrc={mount.packetiser.ssrc:08X}"
        headers["Session"] = f"{self._session};timeout={max(1, int(self.server.timeout_s))}"

    async def _road(self, route: Route) -> Road:
        if route.tcp:
            return TcpRoad(self._writer.transport, route.rtp, route.rtcp)
        road = UdpRoad(self._writer.get_extra_info("peername")[0], route.rtp, route.rtcp, self._hear)
        await road.open(self._writer.get_extra_info("sockname")[0])
        return road

    def _end_session(self) -> None:
        if self._client is not None and self._mount is not None:
            self._mount.clients.discard(self._client)
            self._mount.connections.discard(self)
            self._client.road.close()
        self._client = self._mount = None
        self._session = ""

    async def _reply(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        lines = [f"RTSP/1.0 {status} {_REASONS[status]}", *(f"{name}: {value}" for name, value in headers.items())]
        if status == 401:
            lines += [f"WWW-Authenticate: {challenge}" for challenge in self._gate.challenges()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self._writer.write("\r\n".join((*lines, "", "")).encode() + body)
        # A client that asks and asks and never reads is asked no more.
        async with asyncio.timeout(self.server.stuck_s):
            await self._writer.drain()


if __name__ == "__main__":
    from monitor.stage.files import main

    sys.exit(main())
