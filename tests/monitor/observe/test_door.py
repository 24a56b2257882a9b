"""Who is told what over HTTP, and how long a client is waited for: real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from pathlib import Path

import pytest

from monitor import config
from monitor.observe.door import Door
from monitor.observe.health import Check
from monitor.observe.http import app, scrapes
from monitor.observe.metrics import Metrics
from monitor.observe.patience import Limits
from tests.monitor.observe.test_http import Answer, get, serving

TOKEN = "t0ken-of-the-scraper-1234"
WHY = (Check(name="artefact", ok=True, note="the-artefact's-name"),)
START = "site: hall\nmqtt: off\ncameras: [{name: gate, url: 0}]\n"


def own_address() -> str:
    """An address of this machine that is not loopback."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asked:
        try:
            asked.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            pytest.skip("this machine has no network address")
        return str(asked.getsockname()[0])


def answers(door: Door | None, host: str, *asked: tuple[str, dict[str, str]]) -> list[Answer]:
    """From a service on all addresses, asked at ``host``."""

    async def all_of_them() -> list[Answer]:
        async with serving(app(Metrics(list), lambda: WHY, lambda: WHY, door=door), "0.0.0.0") as address:
            there = f"http://{host}:{address.rpartition(':')[2]}"
            return [await asyncio.to_thread(get, there, path, **headers) for path, headers in asked]

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_strangers_hear_one_word_and_this_machine_hears_why(path: str) -> None:
    verbose = f"{path}?verbose"
    (strange,) = answers(None, own_address(), (verbose, {}))
    assert (strange.status, strange.text) == (200, "ok\n")
    here, renamed = answers(None, "127.0.0.1", (verbose, {}), (verbose, {"Host": "evil.example"}))
    assert "the-artefact's-name" in here.text
    assert renamed.text == "ok\n", "a page elsewhere that makes its own name mean 127.0.0.1"


def test_where_there_is_a_token_everybody_shows_it() -> None:
    right, wrong = {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": f"Bearer {TOKEN[:-1]}"}
    bare, bad, good, plain, why = answers(
        Door(TOKEN),
        "127.0.0.1",
        ("/metrics", {}),
        ("/metrics", wrong),
        ("/metrics", right),
        ("/readyz?verbose", {}),
        ("/readyz?verbose", right),
    )
    assert (bare.status, bad.status, good.status) == (401, 401, 200)
    assert bare.headers["www-authenticate"] == "Bearer"
    assert b"vad_" not in bare.body + bad.body
    assert b"vad_" in good.body
    assert plain.text == "ok\n"
    assert "the-artefact's-name" in why.text


def test_a_token_in_the_address_or_of_other_kinds_opens_nothing() -> None:
    refused = answers(
        Door(TOKEN),
        "127.0.0.1",
        (f"/metrics?token={TOKEN}", {}),
        ("/metrics", {"Authorization": f"Basic {TOKEN}"}),
        ("/metrics", {"Authorization": TOKEN}),
        ("/metrics", {"Authorization": "Bearer"}),
        ("/metrics", {"Authorization": "Bearer \xff"}),
    )
    assert [one.status for one in refused] == [401] * 5


def test_who_has_logged_in_may_scrape() -> None:
    door = Door(None, lambda headers: headers.get("cookie") == "well", guarded=True)
    no, yes = answers(door, "127.0.0.1", ("/metrics", {}), ("/metrics", {"Cookie": "well"}))
    assert (no.status, yes.status) == (401, 200)


def test_metrics_may_have_an_address_of_their_own() -> None:
    async def asked() -> tuple[int, int, int]:
        main = app(Metrics(list), lambda: WHY, lambda: WHY, scraped=False)
        async with serving(main) as here, serving(scrapes(Metrics(list), Door())) as there:
            found = [(here, "/metrics"), (there, "/metrics"), (there, "/livez")]
            first, second, third = [(await asyncio.to_thread(get, *one)).status for one in found]
            return first, second, third

    assert asyncio.run(asked()) == (404, 200, 404)


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz", "/", "/nothing"])
def test_every_answer_has_the_strict_headers(path: str) -> None:
    (answer,) = answers(None, "127.0.0.1", (path, {}))
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert (answer.headers["x-content-type-options"], answer.headers["x-frame-options"]) == ("nosniff", "DENY")
    assert (answer.headers["referrer-policy"], answer.headers["cache-control"]) == ("no-referrer", "no-store")


# -- what the configuration allows --------------------------------------------------------------------------------


def load(folder: Path, text: str) -> config.Plant:
    (folder / "token").write_text(TOKEN + "\n")
    (folder / "plant.yaml").write_text(START + text)
    return config.load(folder / "plant.yaml", {})


@pytest.mark.parametrize(
    "text",
    [
        "http: {host: 0.0.0.0}\n",
        "http: {host: '::'}\n",
        "http: {host: 192.0.2.7, metrics: {token: null}}\n",
        "http: {metrics: {host: 0.0.0.0, port: 9109}}\n",
    ],
)
def test_metrics_are_not_given_to_anybody_who_reaches_the_machine(tmp_path: Path, text: str) -> None:
    with pytest.raises(config.ConfigError, match=r"plant.yaml:4: http.*host: /metrics would answer anybody"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "http: {host: localhost}\n",
        "http: {host: 0.0.0.0, metrics: {token_file: token}}\n",
        "http: {host: 0.0.0.0, metrics: {host: 127.0.0.1, port: 9109}}\n",
        f"http: {{host: 0.0.0.0}}\nconsole: {{users: {{ann: {{token_sha256: {'a' * 64}}}}}}}\n",
    ],
)
def test_a_token_users_or_an_address_of_its_own_guard_the_metrics(tmp_path: Path, text: str) -> None:
    plant = load(tmp_path, text)
    assert TOKEN not in repr(plant) + str(config.redacted(plant))
    assert (TOKEN in plant.secrets()) is ("token_file" in text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http: {metrics: {host: 127.0.0.1}}\n", "http.metrics.port: an address of its own needs host and port"),
        ("http: {metrics: {host: 127.0.0.1, port: 9108}}\n", "http.metrics.port: is the port of everything else"),
        ("http: {metrics: {token: short}}\n", "http.metrics.token: a token has 16 characters or more"),
        ("http: {metrics: {token_file: nothing}}\n", "http.metrics.token_file: there is no such file"),
        ("http: {host: 0.0.0.0, metrics: {token_file: nothing}}\n", "http.metrics.token_file: there is no such file"),
    ],
)
def test_half_an_address_and_a_token_to_be_guessed_are_mistakes(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(config.ConfigError) as raised:
        load(tmp_path, text)
    assert str(raised.value).count("plant.yaml:") == 1
    assert f"plant.yaml:4: {said}" in str(raised.value)
    assert "short" not in str(raised.value).replace("shorter", "")


# -- clients that take their time -----------------------------------------------------------------------------------


QUICK = Limits(request_s=1.0, connections=20, of_one=12)


def closed_after_s(sent: bytes, drip: bytes, port: int) -> float:
    """How long the service keeps a connection on which, after ``sent``, a byte of ``drip`` comes now and then."""
    began_s = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(sent)
        connection.settimeout(0.2)
        while time.monotonic() - began_s < 8:
            try:
                connection.sendall(drip)
                if connection.recv(65536) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        return time.monotonic() - began_s


@pytest.mark.parametrize(
    ("sent", "drip"),
    [
        (b"", b""),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\n", b"x"),
        (b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n", b"y"),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /livez HTTP/1.1\r\nHo", b"s"),
    ],
    ids=["silent", "head", "body", "second head"],
)
def test_a_request_that_never_becomes_whole_is_cut_off(sent: bytes, drip: bytes) -> None:
    async def kept_s() -> float:
        async with serving(app(Metrics(list), lambda: WHY, lambda: WHY), limits=QUICK) as address:
            return await asyncio.to_thread(closed_after_s, sent, drip, int(address.rpartition(":")[2]))

    assert asyncio.run(kept_s()) < 4


def test_one_address_cannot_take_every_connection() -> None:
    async def flooded() -> tuple[int, int, Answer]:
        limits = Limits(connections=20, of_one=12)
        async with serving(app(Metrics(list), lambda: WHY, lambda: WHY), "0.0.0.0", limits) as address:
            port = int(address.rpartition(":")[2])
            other = own_address()
            with contextlib.ExitStack() as stack:
                held = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 5)) for _ in range(40)]
                await asyncio.sleep(0.3)
                open_ones = [one for one in held if await asyncio.to_thread(is_open, one)]
                answer = await asyncio.to_thread(get, f"http://{other}:{port}", "/livez")
            return len(held), len(open_ones), answer

    tried, kept, answer = asyncio.run(flooded())
    assert (tried, kept) == (40, 12)
    assert answer.text == "ok\n"


def is_open(connection: socket.socket) -> bool:
    connection.settimeout(0.05)
    try:
        return connection.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


def test_a_head_without_end_is_refused() -> None:
    async def said() -> bytes:
        async with serving(app(Metrics(list), lambda: WHY, lambda: WHY)) as address:
            port = int(address.rpartition(":")[2])

            def send() -> bytes:
                with socket.create_connection(("127.0.0.1", port), 5) as connection:
                    with contextlib.suppress(OSError):
                        connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * 2_000_000)
                    try:
                        return connection.recv(100)
                    except OSError:
                        return b""

            return await asyncio.to_thread(send)

    assert b" 200 " not in asyncio.run(said())
