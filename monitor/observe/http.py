"""The monitor's HTTP service: /metrics for Prometheus, /livez and /readyz for whoever starts and stops it.

There are no secrets in any answer, and no page loads anything from elsewhere. Strangers get one word: ``door.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import html
import socket
from collections.abc import Callable, Iterable, Iterator

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitor.observe.door import Door
from monitor.observe.health import Check
from monitor.observe.metrics import Metrics, compress
from monitor.observe.patience import LIMITS, Limits, bounded

GRACE_S = 2
"""Answers that are under way at the end may take so long."""

_ADDRESSES = (
    ("/metrics", "what is measured, for Prometheus"),
    ("/livez", "ok while the monitor's loops turn (with ?verbose: each of them)"),
    ("/readyz", "ok while the monitor can do its work (with ?verbose: what was checked)"),
)


HEADERS = {
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
"""Of every answer; the console brings its own."""


class ListenError(Exception):
    """The service cannot listen where it was told to; str() is a sentence that says what to change."""


def app(
    metrics: Metrics,
    liveness: Callable[[], Iterable[Check]],
    readiness: Callable[[], Iterable[Check]],
    *,
    title: str = "vad-monitor",
    console: ASGIApp | None = None,
    door: Door | None = None,
    scraped: bool = True,
) -> FastAPI:
    """``liveness`` is asked on the event loop and must not block; ``readiness`` is asked on a thread and may
    look at disks. All checks ok: 200 and ``ok``; else, or where there are none at all, 503 and ``no``.
    ``console`` answers below ``/console/``, and ``/`` leads there. ``scraped`` false: /metrics has an address of its
    own (``scrapes``).
    """
    door = door or Door()
    # The documentation pages of FastAPI load their scripts from a CDN: none of them.
    made = FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url=None)
    made.add_middleware(_Strict)
    page = _index(title)

    @made.api_route("/", methods=["GET", "HEAD"])
    async def index() -> Response:
        return HTMLResponse(page) if console is None else RedirectResponse("console/", 307)

    if scraped:
        _add_metrics(made, metrics, door)

    def wordy(request: Request) -> bool:
        return "verbose" in request.query_params and door.may_hear_why(request)

    @made.api_route("/livez", methods=["GET", "HEAD"])
    async def livez(request: Request) -> Response:
        return _answer(liveness(), verbose=wordy(request))

    @made.api_route("/readyz", methods=["GET", "HEAD"])
    def readyz(request: Request) -> Response:
        return _answer(readiness(), verbose=wordy(request))

    if console is not None:
        made.mount("/console", console)
    return made


def scrapes(metrics: Metrics, door: Door) -> FastAPI:
    """/metrics alone, for an address of its own."""
    made = FastAPI(title="vad-monitor", docs_url=None, redoc_url=None, openapi_url=None)
    made.add_middleware(_Strict)
    _add_metrics(made, metrics, door)
    return made


def _add_metrics(made: FastAPI, metrics: Metrics, door: Door) -> None:
    # A plain function: FastAPI runs it on a thread, and the event loop turns while 1,000 cameras are written.
    @made.api_route("/metrics", methods=["GET", "HEAD"])
    def scrape(request: Request) -> Response:
        if not door.may_scrape(request):
            said = "a bearer token is asked for: http.metrics.token_file, or that of a user of the console\n"
            return PlainTextResponse(said, 401, {"www-authenticate": "Bearer"})
        body, content_type = metrics.exposition()
        headers = {"content-type": content_type, "vary": "accept-encoding"}
        if _accepts_gzip(request.headers.get("accept-encoding", "")):
            body = compress(body)
            headers["content-encoding"] = "gzip"
        return Response(body, headers=headers)


class _Strict:
    """Puts HEADERS on every answer that has none of its own. Plain ASGI: streams flow through it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    answered.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)


async def serve(app: FastAPI, host: str, port: int, started: Callable[[str], None], *, limits: Limits = LIMITS) -> None:
    """Serves until it is cancelled, then lets answers under way finish (``GRACE_S``) and closes its sockets.

    ``started`` is called once connections are accepted, with the address to open (``http://127.0.0.1:9108``);
    port 0 takes any free one. Signals are left alone: the monitor's own handlers end it. Raises ListenError
    at once where it cannot listen.
    """
    sockets = _listen(host, port)
    config = uvicorn.Config(
        app,
        http=bounded(limits),
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config, lambda: started(_url(host, sockets[0])))
    try:
        task = asyncio.create_task(server.serve(sockets=sockets), name="http server")
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            server.should_exit = True
            await task
            raise
    finally:
        for listening in sockets:
            listening.close()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which would take SIGTERM from the monitor's drain."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()


def _listen(host: str, port: int) -> list[socket.socket]:
    """A listening socket for each address of ``host`` (``localhost`` has two), all on the same port."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ListenError(f"http.host: {host!r} is no known host name or address; try 127.0.0.1") from error
    sockets: list[socket.socket] = []
    refused: OSError | None = None
    for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
        if port == 0 and sockets:
            address = (address[0], sockets[0].getsockname()[1], *address[2:])
        try:
            sockets.append(_bound(family, address))
        except OSError as error:
            refused = error
            # A container without IPv6 still resolves localhost to ::1.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                break
    else:
        if sockets:
            return sockets
    for listening in sockets:
        listening.close()
    raise ListenError(_why_not(host, port, refused)) from refused


def _bound(family: int, address: tuple[object, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Without it a restart would wait a minute for the old connections' TIME_WAIT to pass.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        # uvicorn will listen again with the same backlog. With SO_REUSEADDR on both sides bind() succeeds on
        # a port that is taken, and only listen() finds out; that is to be said before anything else starts.
        made.listen(2048)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


def _why_not(host: str, port: int, refused: OSError | None) -> str:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    code = None if refused is None else refused.errno
    if code == errno.EADDRINUSE:
        return (
            f"http.port: {where} is in use by another program (another vad-monitor?); "
            "stop it, or set http.port to a free port"
        )
    if code == errno.EACCES:
        return f"http.port: this user may not listen on {where}; set http.port to a port above 1023"
    if code in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return f"http.host: {host!r} is no address of this machine; set it to one of its own, or to 127.0.0.1"
    reason = "no address was found" if refused is None else (refused.strerror or str(refused))
    return f"http.host, http.port: cannot listen on {where}: {reason}"


def _url(host: str, listening: socket.socket) -> str:
    """What to type into a browser on this machine; 0.0.0.0 and :: are no addresses to open."""
    port = listening.getsockname()[1]
    any_address = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound
    shown = any_address.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _answer(checks: Iterable[Check], *, verbose: bool) -> Response:
    seen = tuple(checks)
    ok = bool(seen) and all(check.ok for check in seen)
    lines = ["ok" if ok else "no"]
    if verbose:
        lines += [f"{'ok' if c.ok else 'no'}: {c.name}{': ' if c.note else ''}{c.note}" for c in seen]
    return PlainTextResponse(
        "\n".join(lines) + "\n", status_code=200 if ok else 503, headers={"cache-control": "no-store"}
    )


def _accepts_gzip(accept_encoding: str) -> bool:
    for entry in accept_encoding.lower().split(","):
        coding, _, parameters = entry.partition(";")
        if coding.strip() == "gzip":
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _index(title: str) -> str:
    rows = "".join(f'<li><a href="{path}">{path}</a>: {html.escape(what)}</li>' for path, what in _ADDRESSES)
    name = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>'
        f"<h1>{name}</h1><p>This monitor answers at</p><ul>{rows}</ul></html>\n"
    )
