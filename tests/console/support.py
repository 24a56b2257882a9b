"""A console with a plant of our making behind it, served as the monitor serves it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from monitor.alerting.contract import alert_payload
from monitor.config import Plant
from monitor.console.service import Console, Judged, Outside
from monitor.console.wall import CameraNow
from monitor.flow import Alert, AlertKind, BagScore, Evidence, SegmentTimes
from monitor.observe import http
from monitor.observe.audit import Audit
from monitor.observe.health import Check
from monitor.observe.metrics import Metrics

PLANTED = "pl4nted-s3cret"
ADDRESS = f"rtsp://viewer:{PLANTED}@192.0.2.10:554/stream1"
Picture = bytes | Callable[[str], bytes] | None
"""What every camera shows, or each."""
WELL = (Check(name="test", ok=True, note=""),)


def plant(folder: Path, cameras: int = 2, **more: Any) -> Plant:
    return Plant.model_validate(
        {
            "site": "hall-3",
            "state_folder": folder / "state",
            "evidence": {"folder": folder / "evidence"},
            "mqtt": {"kind": "off", "password": None},
            "cameras": tuple(
                {"name": name_of(n), "url": ADDRESS, "labels": {"hall": str(n % 4 + 1)}} for n in range(cameras)
            ),
        }
        | more
    )


def name_of(number: int) -> str:
    return f"camera-{number + 1}"


def alert(alert_id: str = "a1", **more: Any) -> str:
    """The payload of one message of an alert, as JSON."""
    now_s = time.time()
    facts: dict[str, Any] = {
        "alert_id": alert_id,
        "seq": 1,
        "kind": AlertKind.RAISED,
        "site": "hall-3",
        "camera": name_of(0),
        "score": 0.91,
        "peak_score": 0.95,
        "threshold": 0.6,
        "long_term": 0.9,
        "short_term": 0.92,
        "bridged": 0,
        "onset_wall_s": now_s - 6,
        "captured_wall_s": now_s - 1,
        "decided_wall_s": now_s,
        "reason": "score above threshold",
        "evidence": Evidence(),
    }
    return json.dumps(alert_payload(Alert(**(facts | more)), evidence_pending=False))


def bag(camera: str, at_s: float, score: float, feature_D: list[float] | None = None) -> BagScore:
    """One published segment."""
    times = SegmentTimes(number=1, start_s=0.0, end_s=1.0, captured_s=0.0, captured_wall_s=at_s)
    one = np.array([score], np.float32)
    return BagScore(
        camera=camera,
        times=(times,),
        scores_N=one,
        long_term_N=one,
        short_term_N=one,
        attention_N=np.ones(1, np.float32),
        bridged=0,
        published=(0,),
        scored_s=0.0,
        feature_D=None if feature_D is None else np.array(feature_D, np.float16),
    )


def camera(number: int, **more: Any) -> CameraNow:
    facts: dict[str, Any] = {
        "name": name_of(number),
        "status": "ok",
        "reason": "watched and scored",
        "since_s": 1_700_000_000.0,
        "mode": "alert",
        "labels": {"hall": str(number % 4 + 1)},
        "raise_at": 0.6,
        "clear_at": 0.4,
    }
    return CameraNow(**(facts | more))


class Served:
    """The console on a loop and a port of its own. ``judged``: what would go to MQTT."""

    def __init__(self, settings: Plant, picture: Picture = None, port: int = 0) -> None:
        self.settings, self._port = settings, port
        self.judged: list[Judged] = []
        self.cameras: list[CameraNow] = [camera(n) for n in range(len(settings.cameras))]
        self.canary: dict[str, Any] = {"state": "off"}
        self.beating: Callable[[Served], None] = lambda _: None
        self._picture = picture
        self._stack = ExitStack()
        self.loop = asyncio.new_event_loop()
        self._ready: Future[str] = Future()
        self._thread = threading.Thread(target=self._run, name="served console", daemon=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._serve())
        self.loop.close()

    async def _serve(self) -> None:
        async def tell(judged: Judged) -> None:
            self.judged.append(judged)

        def ask(name: str) -> None:
            picture = self._picture(name) if callable(self._picture) else self._picture
            if picture is not None:
                self.console.picture_came(name, picture, time.time())

        def detail(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
            from monitor.config import redacted

            return {"codec": "h264"}, next(c for c in redacted(self.settings)["cameras"] if c["name"] == name)

        audit = self._stack.enter_context(Audit(self.settings.state_folder))
        outside = Outside(
            tell_verdict=tell,
            detail=detail,
            ask_picture=ask,
            audit=audit.write,
            audited=audit.rows,
            canary=lambda: self.canary,
        )
        self.console = Console(self.settings, outside)
        self.console.open(self._stack)
        service = http.app(Metrics(list), lambda: WELL, lambda: WELL, console=self.console.asgi)
        self._end = asyncio.Event()
        serving = asyncio.create_task(http.serve(service, "127.0.0.1", self._port, self._ready.set_result))
        while not self._end.is_set():
            self.beating(self)
            self.console.look(self.cameras)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._end.wait(), 0.5)
        self.console.close()
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    def __enter__(self) -> Served:
        self._thread.start()
        self.address = self._ready.result(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(20)
        self._stack.close()

    def do(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """On the console's loop."""

        async def done() -> Any:
            return call(*arguments)

        return asyncio.run_coroutine_threadsafe(done(), self.loop).result(10)

    def written(self) -> None:
        """Waits until everything put so far is in the history."""
        assert self.console.history is not None
        self.console.history.act(lambda _: None).result(10)


@contextlib.contextmanager
def served(settings: Plant, picture: Picture = None, port: int = 0) -> Iterator[Served]:
    with Served(settings, picture, port) as one:
        yield one


def waving(one: Served) -> None:
    """New scores for every camera; for ``beating``."""
    now_s = time.time()
    one.console.scored(
        [
            bag(c.name, now_s, 0.2 + 0.15 * math.sin(now_s / 3 + n) + (0.6 if c.raised else 0))
            for n, c in enumerate(one.cameras)
        ]
    )
