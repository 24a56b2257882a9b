"""The console as the monitor has it: mounted beside /metrics, fed from the event loop, asked by viewers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from monitor import __version__
from monitor.config import Plant
from monitor.config.secret import for_a_child
from monitor.console import api, history, reading
from monitor.console.access import Access
from monitor.console.bags import Recent
from monitor.console.evidence import find
from monitor.console.guard import Guard
from monitor.console.history import AlertRow, BagRow, History, ScoreRow, StatusRow
from monitor.console.wall import CameraNow, Wall
from monitor.flow import BagScore

PICTURE_S = 2.0
"""A camera is asked for a new picture at most this often, however many look."""
PICTURE_WAIT_S = 1.5
CONVERT_S = 180.0
VIEW_S = 600.0
"""Parts of the same evidence that the same person asks for within so long are one view."""
MOST_CONVERTED = 50
"""Copies that browsers play; the least lately looked at goes first."""
PICTURE_OLD_S = 6.0
"""An older one is waited for before it is shown again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A verdict on its way to MQTT."""

    alert_id: str
    camera: str
    verdict: str
    category: str | None
    note: str
    who: str
    at_s: float
    after_s: float | None
    """From the alert to this, its first verdict; None: it is a later one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What only the monitor can do. ``detail``: facts and effective settings of a camera, without secrets."""

    tell_verdict: Callable[[Judged], Awaitable[None]]
    detail: Callable[[str], tuple[dict[str, Any], dict[str, Any]]]
    ask_picture: Callable[[str], None]
    audit: Callable[..., None] = lambda _what, **_facts: None
    """``audit(what, who=…, address=…, **facts)``: on the disk when it returns."""
    canary: Callable[[], dict[str, Any]] = lambda: {"state": "off"}
    """How the watch on the monitor itself stands, as answers.CanaryNow."""
    audited: Callable[[int], list[dict[str, Any]]] = lambda _most: []
    """The newest rows of the audit log, newest first."""


@dataclass(slots=True)
class _Picture:
    jpeg: bytes = b""
    captured_s: float = 0.0
    asked_s: float = float("-inf")
    """On the monotonic clock."""


class Console:
    """``asgi`` answers from the start; ``open`` begins the history; ``close`` sends the viewers away. ``dry``: what it
    keeps goes when the monitor does."""

    def __init__(
        self, plant: Plant, outside: Outside, *, dry: bool = False, wall: Callable[[], float] = time.time
    ) -> None:
        self.site, self.version = plant.site, __version__
        self.pictures = plant.console.pictures
        self.post_roll_s = plant.evidence.post_roll_s
        self.folder = plant.evidence.folder.absolute()
        self.outside = outside
        state = plant.state_folder.absolute()
        self.access = Access(plant.console.users, file=None if dry else state / "sessions.json", wall=wall)
        self.wall = Wall(plant.site)
        self.bags = Recent()
        self.clock = wall
        self._settings = plant.console
        self._dry, self._path = dry, state / "history.sqlite"
        self.history: History | None = None
        self._shelves: dict[str, dict[str, Any]] = {}
        self._acknowledged: set[str] = set()
        self._pictures: dict[str, _Picture] = {}
        self._picture_came = asyncio.Event()
        self._converting = asyncio.Lock()
        self._viewed: dict[tuple[str, str, str], float] = {}
        self._keep_clips_s = plant.evidence.keep_days * 86_400
        self.asgi: ASGIApp = Guard(api.build(self), self.access)

    @property
    def path(self) -> Path:
        return self._path

    # -- its life ---------------------------------------------------------------------------------------------------

    def open(self, stack: ExitStack) -> None:
        """Blocks on the disk."""
        if self._dry:
            self._path = (
                Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vad-console-"))) / "history.sqlite"
            )
        self._forget_converted()
        kept = History(self._path, keep_days=self._settings.keep_days, keep_mb=self._settings.keep_mb, wall=self.clock)
        self.history = stack.enter_context(kept)
        kept.act(history.mark_stopped("the monitor was not running"))
        try:
            self._shelves = reading.shelves(self._path, self.clock())
        except sqlite3.Error:
            self._shelves = {}

    def close(self) -> None:
        """On the event loop, before the monitor drains."""
        self.wall.close()
        if self.history is not None:
            now_s = self.clock()
            stopped = (StatusRow(camera=n, at_s=now_s, status="stopped", reason="") for n in self.wall.names)
            self.history.put(stopped)

    # -- what the monitor tells, on the event loop ------------------------------------------------------------------

    def scored(self, bags: Sequence[BagScore]) -> None:
        rows: list[ScoreRow] = []
        for bag in bags:
            scores = []
            for index in sorted(bag.published):
                times = bag.times[index]
                if times is None:
                    continue
                scores.append(float(bag.scores_N[index]))
                rows.append(
                    ScoreRow(
                        camera=bag.camera,
                        at_s=times.captured_wall_s,
                        score=float(bag.scores_N[index]),
                        long_term=float(bag.long_term_N[index]),
                        short_term=float(bag.short_term_N[index]),
                        attention=float(bag.attention_N[index]) * len(bag.attention_N),
                    )
                )
            self.bags.add(bag)
            self.wall.scored(bag.camera, scores, [round(float(weight), 4) for weight in bag.attention_N])
        if self.history is not None:
            self.history.put(rows)

    def changed(self, rows: Iterable[StatusRow]) -> None:
        if self.history is not None:
            self.history.put(rows)

    def alerted(self, payloads: Iterable[str]) -> None:
        """Committed messages of alerts, as JSON."""
        payloads = list(payloads)
        rows: list[AlertRow | BagRow] = []
        for payload in payloads:
            told = json.loads(payload)
            bag = self.bags.raised(told)
            rows += [AlertRow(payload=payload)] if bag is None else [AlertRow(payload=payload), bag]
            news = {key: told[key] for key in ("alert_id", "camera", "kind", "peak_score", "reason")}
            self.wall.tell("alert", news | {"evidence": told["evidence"]["state"]})
        if self.history is not None:
            self.history.put(rows)

    def look(self, cameras: Iterable[CameraNow]) -> None:
        """Once a second."""
        cameras, now_s = list(cameras), self.clock()
        self._shelves = {name: shelf for name, shelf in self._shelves.items() if shelf["until_s"] > now_s}
        more: dict[str, Mapping[str, Any]] = {
            camera.name: {
                "shelf": self._shelves.get(camera.name),
                "acknowledged": camera.alert_id in self._acknowledged,
            }
            for camera in cameras
        }
        self.bags.forget({camera.name for camera in cameras})
        self._acknowledged &= {camera.alert_id for camera in cameras if camera.alert_id is not None}
        self.wall.look(cameras, more)

    def picture_came(self, camera: str, jpeg: bytes, captured_wall_s: float) -> None:
        known = self._pictures.setdefault(camera, _Picture())
        known.jpeg, known.captured_s = jpeg, captured_wall_s
        came, self._picture_came = self._picture_came, asyncio.Event()
        came.set()

    def forget_pictures(self, cameras: Iterable[str]) -> None:
        """What was shown of these may since have become private."""
        for known in (self._pictures[camera] for camera in cameras if camera in self._pictures):
            # In place: somebody may be waiting for the next one.
            known.jpeg, known.captured_s, known.asked_s = b"", 0.0, float("-inf")

    # -- what viewers do --------------------------------------------------------------------------------------------

    async def picture(self, camera: str, wait_s: float = PICTURE_WAIT_S) -> tuple[bytes, float] | None:
        """The newest picture and when it was captured; None: there is none to be had. An old one is waited for."""
        known = self._pictures.setdefault(camera, _Picture())
        now_s = time.monotonic()
        if now_s - known.asked_s >= PICTURE_S:
            known.asked_s = now_s
            self.outside.ask_picture(camera)
        until_s = now_s + wait_s
        while self.clock() - known.captured_s > PICTURE_OLD_S and time.monotonic() < until_s:
            came = self._picture_came
            try:
                await asyncio.wait_for(came.wait(), until_s - time.monotonic())
            except TimeoutError:
                break
        fresh = self.clock() - known.captured_s <= 10 * PICTURE_OLD_S
        return (known.jpeg, known.captured_s) if known.jpeg and fresh else None

    async def judge(self, alert_id: str, *, verdict: str, category: str | None, note: str, who: str) -> bool:
        at_s = self.clock()
        call = history.add_verdict(alert_id, at_s=at_s, verdict=verdict, category=category, note=note, who=who)
        if not await self._act(call):
            return False
        found = await run_in_threadpool(reading.alert, self._path, alert_id)
        if found is not None:
            judged = Judged(
                alert_id=alert_id,
                camera=found["camera"],
                verdict=verdict,
                category=category,
                note=note,
                who=who,
                at_s=at_s,
                after_s=max(at_s - found["raised_s"], 0.0) if len(found["verdicts"]) == 1 else None,
            )
            await self.outside.tell_verdict(judged)
            self._acknowledged.add(alert_id)
            self.wall.tell("verdict", {"alert_id": alert_id, "camera": found["camera"], "verdict": verdict, "who": who})
        return True

    async def acknowledge(self, alert_id: str, *, who: str) -> bool:
        done = await self._act(history.add_acknowledgement(alert_id, at_s=self.clock(), who=who))
        if done:
            self._acknowledged.add(alert_id)
            self.wall.tell("acknowledged", {"alert_id": alert_id, "who": who})
        return done

    async def shelve(self, camera: str, *, seconds: int, reason: str, who: str) -> None:
        at_s = self.clock()
        await self._act(history.add_shelf(camera, at_s=at_s, until_s=at_s + seconds, reason=reason, who=who))
        self._shelves.pop(camera, None)
        if seconds:
            self._shelves[camera] = {"at_s": at_s, "until_s": at_s + seconds, "reason": reason, "who": who}

    async def audit(self, what: str, *, who: str | None, address: str | None, **facts: Any) -> None:
        await run_in_threadpool(self.outside.audit, what, who=who, address=address, **facts)

    async def viewed(self, alert_id: str, what: str, *, who: str, address: str | None) -> None:
        """A player asks for a clip in many parts: they are one row of the audit log."""
        now_s = time.monotonic()
        key = (who, alert_id, what)
        seen = self._viewed.get(key)
        if seen is None or now_s - seen > VIEW_S:
            self._viewed = {one: at_s for one, at_s in self._viewed.items() if now_s - at_s <= VIEW_S}
            self._viewed[key] = now_s
            await self.audit(f"{what} viewed", who=who, address=address, alert=alert_id)

    async def _act(self, call: history.Act) -> bool:
        if self.history is None:
            raise history.HistoryError("the monitor is still starting")
        return bool(await asyncio.wrap_future(self.history.act(call)))

    async def playable(self, alert_id: str) -> Path | None:
        """A copy of the alert's clip as H.264, made at its first view, one at a time, by a process of its own."""
        source = await run_in_threadpool(self.evidence, alert_id, "clip")
        if source is None:
            return None
        changed = source.stat().st_mtime_ns
        name = hashlib.sha256(f"{source.relative_to(self.folder)} {changed}".encode()).hexdigest()[:32]
        target = self._converted / f"{name}.mp4"
        async with self._converting:
            if not target.exists():
                self._converted.mkdir(mode=0o700, parents=True, exist_ok=True)
                part = target.with_suffix(".part")
                arguments = (sys.executable, "-m", "monitor.console.playable", str(source), str(part))
                process = await asyncio.create_subprocess_exec(
                    *arguments, stderr=asyncio.subprocess.DEVNULL, env=for_a_child(os.environ)
                )
                try:
                    done = await asyncio.wait_for(process.wait(), CONVERT_S) == 0
                except BaseException as error:  # also where the viewer went away
                    process.kill()
                    await process.wait()
                    part.unlink(missing_ok=True)
                    if isinstance(error, TimeoutError):
                        return None
                    raise
                if not done:
                    part.unlink(missing_ok=True)
                    return None
                part.replace(target)
                await run_in_threadpool(self._forget_converted)
        target.touch()
        return target

    @property
    def _converted(self) -> Path:
        return self._path.parent / "playable"

    def _forget_converted(self) -> None:
        """Copies are kept no longer than the clips themselves, and few of them."""
        if not self._converted.is_dir():
            return
        found = sorted(self._converted.iterdir(), key=lambda path: -path.stat().st_mtime)
        for number, path in enumerate(found):
            if number >= MOST_CONVERTED or self.clock() - path.stat().st_mtime > self._keep_clips_s:
                path.unlink(missing_ok=True)

    def evidence(self, alert_id: str, what: str) -> Path | None:
        """Blocks on the disk."""
        link = reading.evidence_link(self._path, alert_id, what)
        return None if link is None else find(self.folder, link)
