"""What commands over MQTT do: one after the other, each answered, counted, and a row of the audit log.

``alerting/command.py`` says which may be obeyed; here they are. What needs another part of the monitor comes as
a function.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import secrets
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from monitor.alerting.command import Command, Refused, answer_payload, judge
from monitor.alerting.contract import Payload, Topics, iso, level
from monitor.console.history import HistoryError
from monitor.ingest.clip import write_whole

log = logging.getLogger(__name__)

WAITING = 1000
"""Commands that may wait their turn; more are refused."""
REMEMBERED = 1000
"""Answers that are given again to a command that comes a second time: QoS 1 may deliver it twice."""
PICTURE_WAIT_S = 5.0
PICTURE_OLD_S = 10.0
"""A camera whose newest frame is older gives no snapshot."""


class CannotError(Exception):
    """Why a command is refused, in a sentence for who gave it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was done, in a sentence; ``answer_payload`` has the rest."""

    reason: str
    until_wall_s: float | None = None
    snapshot: Payload | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the commands reach of the monitor. All are called on the event loop.

    ``arm`` and ``disarm`` raise CannotError; disarm returns when it ends, on the wall clock, and has ended the
    alarm when it is done. ``shelve`` None: there is no console. ``audit`` blocks on the disk.
    """

    disarm: Callable[[str, float, str], Awaitable[float]]
    arm: Callable[[str], Awaitable[str]]
    shelve: Callable[..., Awaitable[None]] | None
    ask_picture: Callable[[str], None]
    answer: Callable[[str, Payload], None]
    audit: Callable[..., None]
    count: Callable[[str, bool], None]


class Commands:
    """``took`` takes what came; ``run`` obeys until it is cancelled; ``picture_came`` on the event loop too.

    ``cameras``: those of the present configuration. ``alone`` False: other monitors share the site, and cameras
    that are not ours may be theirs: they are passed over in silence.
    """

    def __init__(
        self,
        topics: Topics,
        parts: Parts,
        *,
        allowed: Collection[str],
        cameras: Callable[[], Collection[str]],
        folder: Path,
        alone: bool = True,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._topics, self._parts, self._allowed, self._cameras = topics, parts, frozenset(allowed), cameras
        self._folder, self._alone, self._wall = folder, alone, wall
        self._waiting: asyncio.Queue[tuple[str, str, Command | Refused]] = asyncio.Queue(WAITING)
        self._answers: OrderedDict[tuple[str, str], Payload] = OrderedDict()
        self._wanted: tuple[str, asyncio.Future[tuple[bytes, float]]] | None = None

    # -- what comes, on the event loop ---------------------------------------------------------------------------

    def took(self, topic: str, payload: bytes, retained: bool) -> None:
        """A message of a command topic; returns at once."""
        names = {self._topics.camera(name, "command"): name for name in self._cameras()}
        camera = names.get(topic)
        if camera is None and not self._alone:
            return
        judged = judge(payload, camera=camera, retained=retained, allowed=self._allowed, now_wall_s=self._wall())
        if judged.id is None:
            self._parts.count(judged.command or "other", False)
            log.info("a command was refused: %s", judged.reason if isinstance(judged, Refused) else "")
            return
        try:
            self._waiting.put_nowait((topic, camera or topic.split("/")[-2], judged))
        except asyncio.QueueFull:
            self._parts.count(judged.command or "other", False)

    def picture_came(self, camera: str, jpeg: bytes, captured_wall_s: float) -> None:
        fresh = self._wall() - captured_wall_s <= PICTURE_OLD_S
        if fresh and self._wanted is not None and self._wanted[0] == camera and not self._wanted[1].done():
            self._wanted[1].set_result((jpeg, captured_wall_s))

    # -- one after the other -------------------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            topic, camera, judged = await self._waiting.get()
            await self._obey(topic, camera, judged)

    async def _obey(self, topic: str, camera: str, judged: Command | Refused) -> None:
        own = str(judged.id)
        former = self._answers.get((topic, own)) if isinstance(judged, Command) else None
        if former is not None:
            self._parts.answer(self._topics.answer(topic), former)
            return
        who = "mqtt" if judged.who is None else f"mqtt {judged.who}"
        try:
            if isinstance(judged, Refused):
                raise CannotError(judged.reason)
            done, obeyed = await self._do(judged, who), True
        except CannotError as fault:
            done, obeyed = Done(reason=str(fault)), False
        except (HistoryError, sqlite3.Error, OSError) as fault:
            why = (fault.strerror if isinstance(fault, OSError) else None) or fault
            done, obeyed = Done(reason=f"it could not be kept: {why}"), False
        answer = answer_payload(
            self._topics.site,
            camera,
            id=own,
            command=judged.command,
            done=obeyed,
            reason=done.reason,
            who=judged.who,
            at_wall_s=self._wall(),
            until_wall_s=done.until_wall_s,
            snapshot=done.snapshot,
        )
        facts = {"camera": camera, "command": judged.command, "id": own, "done": obeyed, "said": done.reason}
        await asyncio.to_thread(self._parts.audit, "command", who=who, **facts)
        self._parts.count(judged.command or "other", obeyed)
        log.info("camera '%s': command %s of '%s': %s", camera, judged.command or "unknown", who, done.reason)
        if isinstance(judged, Command):
            self._answers[topic, own] = answer
            while len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)
        self._parts.answer(self._topics.answer(topic), answer)

    async def _do(self, command: Command, who: str) -> Done:
        if command.camera not in self._cameras():  # gone since it came
            raise CannotError("there is no such camera in this monitor's configuration")
        if command.command == "disarm":
            until_wall_s = await self._parts.disarm(command.camera, command.for_s or 0.0, command.reason or "")
            return Done(reason=f"disarmed until {iso(until_wall_s)}", until_wall_s=until_wall_s)
        if command.command == "arm":
            return Done(reason=await self._parts.arm(command.camera))
        if command.command == "snapshot":
            return await self._snapshot(command.camera)
        return await self._shelve(command, who)

    async def _shelve(self, command: Command, who: str) -> Done:
        if self._parts.shelve is None:
            raise CannotError("this monitor serves no console, and shelves are the console's")
        seconds = math.ceil(command.for_s or 0.0)  # 0: unshelve
        await self._parts.shelve(command.camera, seconds=seconds, reason=command.reason or "", who=who)
        if not seconds:
            return Done(reason="not shelved on the console")
        until_wall_s = self._wall() + seconds
        return Done(reason=f"shelved on the console until {iso(until_wall_s)}", until_wall_s=until_wall_s)

    # -- snapshots -----------------------------------------------------------------------------------------------

    async def _snapshot(self, camera: str) -> Done:
        coming: asyncio.Future[tuple[bytes, float]] = asyncio.get_running_loop().create_future()
        self._wanted = (camera, coming)
        try:
            self._parts.ask_picture(camera)
            async with asyncio.timeout(PICTURE_WAIT_S):
                jpeg, captured_wall_s = await coming
        except TimeoutError:
            raise CannotError(f"no picture came within {PICTURE_WAIT_S:.0f} s; look at the camera's status") from None
        finally:
            self._wanted = None
        link = snapshot_link(camera, captured_wall_s)
        await asyncio.to_thread(write_whole, self._folder / link, lambda part: part.write_bytes(jpeg))
        facts: Mapping[str, str] = {"link": link, "sha256": hashlib.sha256(jpeg).hexdigest()}
        return Done(reason="written", snapshot={**facts, "captured_at": iso(captured_wall_s)})


def snapshot_link(camera: str, captured_wall_s: float) -> str:
    """Where retention finds it as it finds evidence; nothing of a command becomes a part of the path."""
    at = datetime.fromtimestamp(captured_wall_s, UTC)
    return f"{level(camera)}/{at:%Y-%m-%d}/command-{at:%Y%m%dT%H%M%S}-{secrets.token_hex(5)}.jpg"
