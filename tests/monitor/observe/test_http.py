"""The HTTP service, by real requests to a real uvicorn on a port of the system's choice."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.client
import json
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from monitor.flow import CameraStatus
from monitor.observe.health import Check, Heartbeats, watch_event_loop
from monitor.observe.http import ListenError, app, serve
from monitor.observe.metrics import CameraFigures, Metrics
from monitor.observe.patience import LIMITS, Limits
from tests.conftest import needs_program

WELL = (Check(name="event loop", ok=True, note="turned 0.1 s ago"),)
SICK = (*WELL, Check(name="scorer cpu", ok=False, note="turned 11.0 s ago"))


def made(live: tuple[Check, ...] = WELL, ready: tuple[Check, ...] = WELL, cameras: int = 1) -> FastAPI:
    figures = [
        CameraFigures(
            camera=f"camera-{number}",
            status=CameraStatus.OK,
            up=True,
            segments_dropped={f"why_{n}": n for n in range(12)},
            segments_invalid={f"bad_{n}": n for n in range(12)},
            last_frame_wall_s=1_700_000_000.25,
            evidence_held_s=31.5,
            score=0.123456789,
            long_term=0.0625,
            short_term=0.1875,
            raise_at=0.5,
            clear_at=0.25,
            scored_ratio=0.9375,
        )
        for number in range(cameras)
    ]
    return app(Metrics(lambda: figures), lambda: live, lambda: ready, title="vad-monitor hall <3>")


@contextlib.asynccontextmanager
async def serving(application: FastAPI, host: str = "127.0.0.1", limits: Limits = LIMITS) -> AsyncIterator[str]:
    """The service's address, while it serves; at the end it is cancelled as the monitor cancels it."""
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(application, host, 0, address.set_result, limits=limits))
    either: list[asyncio.Future[Any]] = [task, address]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    try:
        yield address.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def text(self) -> str:
        return self.body.decode()


def get(address: str, path: str, method: str = "GET", **headers: str) -> Answer:
    host = address.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, headers={name.replace("_", "-"): v for name, v in headers.items()})
        reply = connection.getresponse()
        return Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())


def ask(application: FastAPI, path: str, method: str = "GET", **headers: str) -> Answer:
    async def one() -> Answer:
        async with serving(application) as address:
            return await asyncio.to_thread(get, address, path, method, **headers)

    return asyncio.run(one())


@pytest.mark.parametrize(
    ("path", "live", "ready", "status", "text"),
    [
        ("/livez", WELL, SICK, 200, "ok\n"),
        ("/livez", SICK, WELL, 503, "no\n"),
        ("/readyz", SICK, WELL, 200, "ok\n"),
        ("/readyz", WELL, SICK, 503, "no\n"),
        ("/readyz", WELL, (), 503, "no\n"),  # nothing was looked at: nothing is known
        ("/livez?verbose", WELL, WELL, 200, "ok\nok: event loop: turned 0.1 s ago\n"),
        (
            "/readyz?verbose",
            WELL,
            SICK,
            503,
            "no\nok: event loop: turned 0.1 s ago\nno: scorer cpu: turned 11.0 s ago\n",
        ),
    ],
)
def test_health_is_one_word_and_a_list_for_those_who_ask(
    path: str, live: tuple[Check, ...], ready: tuple[Check, ...], status: int, text: str
) -> None:
    answer = ask(made(live, ready), path)
    assert (answer.status, answer.text) == (status, text)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"


def test_metrics_are_prometheus_text() -> None:
    answer = ask(made(), "/metrics", accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'vad_camera_up{camera="camera-0"} 1.0\n' in answer.text


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [("gzip", True), ("deflate, GZIP;q=0.5", True), ("identity", False), ("gzip;q=0", False), ("*", False)],
)
def test_metrics_are_compressed_for_those_who_accept_it(accepted: str, compressed: bool) -> None:
    answer = ask(made(), "/metrics", accept_encoding=accepted)
    assert (answer.headers.get("content-encoding") == "gzip") is compressed
    assert answer.headers["vary"] == "accept-encoding"
    body = gzip.decompress(answer.body) if compressed else answer.body
    assert b"vad_camera_up" in body


def test_the_index_names_the_addresses_and_loads_nothing_from_elsewhere() -> None:
    text = ask(made(), "/").text
    for path in ("/metrics", "/livez", "/readyz"):
        assert f'<a href="{path}">' in text
    assert "hall &lt;3&gt;" in text
    assert "://" not in text
    assert "<script" not in text


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/nothing"])
def test_there_are_no_pages_that_load_from_elsewhere(path: str) -> None:
    assert ask(made(), path).status == 404


def test_head_is_answered_and_writing_is_not_possible() -> None:
    assert (ask(made(), "/livez", "HEAD").status, ask(made(), "/livez", "HEAD").body) == (200, b"")
    assert ask(made(), "/metrics", "HEAD").status == 200
    assert ask(made(), "/metrics", "POST").status == 405


def test_the_server_does_not_say_what_it_is_made_of() -> None:
    assert "server" not in ask(made(), "/").headers


def test_a_scrape_of_a_thousand_cameras_takes_less_than_a_second_and_leaves_the_event_loop_turning() -> None:
    lags: list[float] = []

    async def scrapes() -> tuple[float, Answer]:
        watch = asyncio.create_task(watch_event_loop(Heartbeats(), lags.append, every_s=0.02))
        async with serving(made(cameras=1000)) as address:
            took_s = []
            for _ in range(3):
                begun_s = time.perf_counter()
                answer = await asyncio.to_thread(get, address, "/metrics", accept_encoding="gzip")
                took_s.append(time.perf_counter() - begun_s)
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        return min(took_s), answer

    took_s, answer = asyncio.run(scrapes())
    series = gzip.decompress(answer.body).count(b"\nvad_camera_")
    print(f"scrape of 1,000 cameras: {series} series in {took_s:.3f} s, event loop late by {max(lags):.3f} s")
    assert series == 42_000
    assert took_s < 1.0
    assert max(lags) < 1.0


def test_cancelling_ends_the_service_cleanly_and_frees_its_port() -> None:
    async def live() -> float:
        async with serving(made()) as address:
            port = int(address.rsplit(":", 1)[1])
            kept_open = socket.create_connection(("127.0.0.1", port))
            kept_open.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await asyncio.to_thread(kept_open.recv, 100)
            begun_s = time.perf_counter()
        took_s = time.perf_counter() - begun_s
        kept_open.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
        return took_s

    assert asyncio.run(live()) < 1.5


def test_an_answer_that_does_not_end_holds_the_end_up_for_two_seconds_at_most() -> None:
    application = made()

    @application.get("/slow")
    async def slow() -> None:
        await asyncio.sleep(60)

    async def live() -> float:
        async with serving(application) as address:
            asking = asyncio.create_task(asyncio.to_thread(get, address, "/slow"))
            await asyncio.sleep(0.2)
            begun_s = time.perf_counter()
        took_s = time.perf_counter() - begun_s
        await asyncio.gather(asking, return_exceptions=True)
        return took_s

    assert asyncio.run(live()) < 4.0


def test_signal_handlers_are_left_alone() -> None:
    async def live() -> None:
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        async with serving(made()):
            assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before

    asyncio.run(live())


def message(host: str, port: int) -> str:
    with pytest.raises(ListenError) as refused:
        asyncio.run(serve(made(), host, port, lambda _: None))
    return str(refused.value)


@pytest.mark.parametrize("reuse", [False, True])
def test_a_port_in_use_is_said_in_one_sentence_with_the_key_to_change(reuse: bool) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert message("127.0.0.1", port) == (
            f"http.port: 127.0.0.1:{port} is in use by another program (another vad-monitor?); "
            "stop it, or set http.port to a free port"
        )


def test_an_address_of_another_machine_and_an_unknown_name_are_said_so() -> None:
    assert message("192.0.2.1", 9108) == (
        "http.host: '192.0.2.1' is no address of this machine; set it to one of its own, or to 127.0.0.1"
    )
    assert message("no-such-host.invalid", 9108) == (
        "http.host: 'no-such-host.invalid' is no known host name or address; try 127.0.0.1"
    )


def test_a_second_service_on_the_same_port_is_refused_and_the_first_goes_on() -> None:
    async def live() -> int:
        async with serving(made()) as address:
            with pytest.raises(ListenError):
                await serve(made(), "127.0.0.1", int(address.rsplit(":", 1)[1]), lambda _: None)
            return (await asyncio.to_thread(get, address, "/livez")).status

    assert asyncio.run(live()) == 200


@pytest.mark.parametrize(("host", "begins"), [("localhost", "http://localhost:"), ("0.0.0.0", "http://127.0.0.1:")])
def test_the_address_that_is_told_can_be_opened(host: str, begins: str) -> None:
    async def live() -> str:
        async with serving(made(), host) as address:
            assert (await asyncio.to_thread(get, address, "/livez")).status == 200
            return address

    assert asyncio.run(live()).startswith(begins)


async def until(holds: Callable[[], bool], timeout_s: float) -> bool:
    end_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end_s:
            return False
        await asyncio.sleep(0.1)
    return True


def test_a_real_prometheus_scrapes_it(tmp_path: Path) -> None:
    prometheus = needs_program("prometheus", "prometheus")

    async def live() -> bool:
        async with serving(made(cameras=3)) as address:
            config = tmp_path / "prometheus.yml"
            target = address.removeprefix("http://")
            config.write_text(
                "global: {scrape_interval: 1s}\n"
                f"scrape_configs: [{{job_name: vad, static_configs: [{{targets: ['{target}']}}]}}]\n"
            )
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                listen = f"127.0.0.1:{probe.getsockname()[1]}"
            command = [prometheus, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
            with subprocess.Popen(
                [*command, f"--web.listen-address={listen}", "--log.level=error"], stderr=subprocess.DEVNULL
            ) as server:
                try:
                    question = "/api/v1/query?query=count(vad_camera_up%3D%3D1)"

                    def scraped() -> bool:
                        with contextlib.suppress(OSError, ValueError):  # it answers before it is ready
                            result = json.loads(get(f"http://{listen}", question).body)["data"]["result"]
                            return bool(result) and result[0]["value"][1] == "3"
                        return False

                    return await asyncio.to_thread(lambda: asyncio.run(until(scraped, 20)))
                finally:
                    server.kill()

    assert asyncio.run(live())
