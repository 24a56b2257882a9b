"""Do people who watch slow down the scorer? ``python -m tests.bench.viewers`` (make viewers).

A plant of ``tests.bench.paced``, two of its cameras raised all the time, is watched by nobody and by 20 viewers in
turn, again and again, so that all have the same machine. A viewer is logged in, follows the events, and asks for
pictures as often as the page does; some are the page itself in a headless Chromium. In life they sit elsewhere. Here
they run on the machine that they measure, where it is idle (SCHED_IDLE), and two threads of one core still slow each
other: so there is a third turn, in which the same viewers watch a console that is another process on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
import numpy as np
from playwright.async_api import Browser, Page, async_playwright

from monitor.console.access import hash_password
from tests.bench.console import picture
from tests.bench.paced import cameras
from tests.bench.rows import Row, machine, table, write
from tests.conftest import ROOT, needs_program
from tests.console.support import Served, camera, plant, served, waving
from tests.e2e.running import RunningMonitor
from tests.faults.rig import UNBOUNDED
from tests.monitor.alerting.servers import mosquitto
from tests.soak.sample import held

KEPT = ROOT / "tests" / "bench" / "results" / "viewers.json"
API = "/console/api/v1"
JPEG = b"Content-Type: image/jpeg"
OURS = {"X-VAD-Console": "1"}
NAME, PASSWORD = "guard", "look at everything"
USER = {"role": "viewer", "password_hash": hash_password(PASSWORD)}
RAISED = 2
EVERY_S, OTHERS_EVERY = 2.0, 2
"""How often the page asks for the raised cameras' pictures, and in which of these times for all (static/wall.js)."""
LIKE_A_BROWSER = httpx.Limits(max_connections=6, keepalive_expiry=2.0)
SETTLE_S = 4.0
"""Between two spans: viewers come or go, the page is drawn."""
TARGET = 1.1
HERE, ELSEWHERE, NOBODY = 0, 1, 2


@dataclass(slots=True)
class Got:
    """What viewers were given in one span."""

    events: int = 0
    pictures: int = 0
    """Those of the pages, which are few, are not counted."""
    refused: int = 0


class Viewer:
    """One that is logged in."""

    def __init__(self, address: str, names: Sequence[str], got: Got) -> None:
        self._client = httpx.AsyncClient(base_url=address, timeout=30, limits=LIKE_A_BROWSER)
        self._names, self._got = names, got

    async def log_in(self) -> None:
        answer = await self._client.post(f"{API}/session", json={"name": NAME, "password": PASSWORD}, headers=OURS)
        answer.raise_for_status()

    async def watch(self, after_s: float) -> None:
        """Until it is cancelled. Viewers do not come all at once (``after_s``)."""
        await asyncio.sleep(after_s)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._look())

    async def _follow(self) -> None:
        async with self._client.stream("GET", f"{API}/live") as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                self._got.events += line.startswith("event: change")

    async def _look(self) -> None:
        for turn in itertools.count():
            names = self._names[: None if turn % OTHERS_EVERY == 0 else RAISED]
            answer = await self._client.get(f"{API}/pictures", params=[("camera", name) for name in names])
            self._got.pictures += answer.content.count(JPEG)
            self._got.refused += answer.status_code >= 400
            await asyncio.sleep(EVERY_S)

    async def close(self) -> None:
        await self._client.aclose()


async def _page(browser: Browser, address: str, got: Got) -> Page:
    """A page that is logged in and shows nothing yet."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    page = await context.new_page()
    page.on("response", lambda answer: _count(answer.status, got))
    await page.goto(f"{address}/console/")
    await page.locator("#name").fill(NAME)
    await page.locator("#password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await page.locator(".tile").first.wait_for()
    await page.goto("about:blank")
    return page


def _count(status: int, got: Got) -> None:
    got.refused += status >= 400


def watching(pipe: Connection, addresses: Sequence[str], names: Sequence[str], viewers: int, pages: int) -> None:
    """A process: a number through the pipe lets the viewers in to that address, NOBODY sends them away. Each is
    answered."""

    async def run() -> None:
        got = [Got() for _ in addresses]
        places = list(zip(addresses, got, strict=True))
        crowds = [[Viewer(at, names, here) for _ in range(viewers - pages)] for at, here in places]
        for one in itertools.chain(*crowds):
            await one.log_in()
        async with async_playwright() as drivers:
            path = needs_program("chromium", "chromium")
            browser = await drivers.chromium.launch(executable_path=path, args=["--no-sandbox"])
            shown = [[await _page(browser, at, here) for _ in range(pages)] for at, here in places]
            for here in got:
                here.events = here.pictures = here.refused = 0
            tasks: list[asyncio.Task[None]] = []
            pipe.send(None)
            while (turn := await asyncio.to_thread(pipe.recv)) is not None:
                for number, page in [(number, page) for number, some in enumerate(shown) for page in some]:
                    await page.goto(f"{addresses[number]}/console/" if number == turn else "about:blank")
                for task in tasks:
                    if task.done():
                        task.result()  # a viewer who was sent away is no viewer
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                crowd = [] if turn == NOBODY else crowds[turn]
                tasks = [
                    asyncio.create_task(one.watch(EVERY_S * number / len(crowd))) for number, one in enumerate(crowd)
                ]
                pipe.send((got[HERE].events, got[HERE].pictures, sum(here.refused for here in got)))
            await browser.close()
        for one in itertools.chain(*crowds):
            await one.close()

    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    asyncio.run(run())


def once_a_second(one: Served) -> None:
    """As the monitor tells: the console of tests looks at its cameras twice as often."""
    if time.time() % 1 < 0.5:
        waving(one)


def another(pipe: Connection, folder: str, count: int) -> None:
    """A process: a console that is not the monitor's, of as many cameras, until the pipe closes."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with served(plant(Path(folder), count, console={"users": {NAME: USER}}), picture()) as one:
        one.cameras[:RAISED] = [camera(number, raised=True, alert_id="a1") for number in range(RAISED)]
        one.beating = once_a_second
        pipe.send(one.address)
        with contextlib.suppress(EOFError):
            pipe.recv()


@dataclass(frozen=True, slots=True)
class Span:
    turn: int
    late_s: np.ndarray
    cores: float
    theirs: float
    """Cores that the viewers took."""


def measure(count: int, viewers: int, pages: int, rounds: int, seconds: float) -> tuple[list[Span], Got]:
    with tempfile.TemporaryDirectory(prefix="vad-viewers-") as name:
        folder = Path(name)
        with cameras(folder, count) as watched, mosquitto(folder / "broker") as broker:
            names = [str(one["name"]) for one in watched]
            for number, one in enumerate(watched):
                level = 0.0 if number < RAISED else 1.0
                one["thresholds"] = {"raise_at": level, "clear_at": level}
            settings = {
                "site": "viewers",
                "mqtt": {"port": broker.port},
                "alerts": UNBOUNDED,
                "console": {"users": {NAME: USER}},
                "cameras": watched,
            }
            (folder / "monitor").mkdir()
            times = folder / "times"
            os.environ["TIMES"] = str(times)
            monitor = RunningMonitor(folder / "monitor", settings, program=("-m", "tests.bench.timed_monitor"))
            try:
                for name in names[:RAISED]:
                    monitor.said(f"camera '{name}': alarm raised", 120)
                with console_of_its_own(folder / "another", count) as other:
                    addresses = (monitor.address, other)
                    return _in_turn(monitor.process.pid, addresses, names, viewers, pages, rounds, seconds, times)
            finally:
                monitor.end()
                monitor.close()


@contextlib.contextmanager
def console_of_its_own(folder: Path, count: int) -> Iterator[str]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=another, args=(theirs, str(folder), count))
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.close()
        process.join(20)


def _in_turn(
    monitor: int,
    addresses: Sequence[str],
    names: Sequence[str],
    viewers: int,
    pages: int,
    rounds: int,
    seconds: float,
    times: Path,
) -> tuple[list[Span], Got]:
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=watching, args=(theirs, addresses, names, viewers, pages))
    process.start()
    theirs.close()
    spans, counts = [], (0, 0, 0)
    try:
        ours.recv()
        for turn in [NOBODY, ELSEWHERE, HERE] * rounds:
            ours.send(turn)
            counts = ours.recv()
            time.sleep(SETTLE_S)
            pids = [pid for pid in (monitor, process.pid) if pid is not None]
            before, began_s, began_wall_s = [held(pid)["cpu_s"] for pid in pids], time.monotonic(), time.time()
            time.sleep(seconds)
            took_s = time.monotonic() - began_s
            cores = [(held(pid)["cpu_s"] - then) / took_s for pid, then in zip(pids, before, strict=True)]
            rows = np.loadtxt(times.read_text().splitlines()[:-1])
            spans.append(Span(turn, rows[(rows[:, 0] >= began_wall_s)][:, 1], *cores))
        ours.send(NOBODY)
        counts = ours.recv()
        ours.send(None)
    finally:
        ours.close()
        process.join(30)
        if process.is_alive():
            process.kill()
    return spans, Got(*counts)


def rows(spans: Sequence[Span], got: Got, viewers: int, pages: int) -> list[Row]:
    turns = [[span for span in spans if span.turn == turn] for turn in (HERE, ELSEWHERE, NOBODY)]
    late_s = [np.concatenate([span.late_s for span in some]) for some in turns]
    cores = [float(np.mean([span.cores for span in some])) for some in turns]
    found = []
    for share in (50, 95, 99):
        here, elsewhere, nobody = (1000 * float(np.percentile(some, share)) for some in late_s)
        found.append(
            Row(
                name=f"capture to score, p{share}, with {viewers} viewers, {pages} a page",
                value=here,
                unit="ms",
                peer="who watch another console on this machine",
                peer_value=elsewhere,
                limit=f"{nobody:.0f} ms with no viewers on the machine",
                target=TARGET if share == 99 else None,
            )
        )
    found.append(
        Row(
            name=f"the monitor and its readers with {viewers} viewers",
            value=cores[HERE],
            unit="cores",
            peer="with none",
            peer_value=cores[NOBODY],
            limit=f"{', '.join(f'{len(some):,}' for some in late_s)} bags in {len(turns[HERE])} turns each; "
            f"given to viewers: {got.events:,} events, {got.pictures:,} pictures; refused {got.refused}",
        )
    )
    return found


def main() -> None:
    ask = argparse.ArgumentParser(prog="python -m tests.bench.viewers", description=__doc__)
    ask.add_argument("--cameras", type=int, default=8)
    ask.add_argument("--viewers", type=int, default=20)
    ask.add_argument("--pages", type=int, default=2, help="of the viewers, in a Chromium")
    ask.add_argument("--rounds", type=int, default=10)
    ask.add_argument("--seconds", type=float, default=20.0, help="of each turn")
    ask.add_argument("--out", type=Path, default=Path(".bench/viewers.json"))
    ask.add_argument("--keep", action="store_true", help=f"also into {KEPT.relative_to(ROOT)}, which the README shows")
    said = ask.parse_args()
    on = machine()
    spans, got = measure(said.cameras, said.viewers, said.pages, said.rounds, said.seconds)
    found = rows(spans, got, said.viewers, said.pages)
    for out in (said.out, KEPT) if said.keep else (said.out,):
        write(found, out, on)
    print(table(found))
    for span in spans:
        p50, p99 = (1000 * float(np.percentile(span.late_s, share)) for share in (50, 99))
        turn = ("here", "elsewhere", "nobody")[span.turn]
        print(f"{turn:9} p50 {p50:.0f} ms, p99 {p99:.0f} ms, {span.cores:.2f} cores + {span.theirs:.2f}")


if __name__ == "__main__":
    main()
