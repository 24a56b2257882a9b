"""All readers as the scorer sees them: segments in shared memory, the oldest dropped when nobody takes them.

Longer than its neighbours, because it is one lock's worth of state: what is queued, what is on the way, and which
camera lives in which process must change together.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from types import TracebackType
from typing import Self

from monitor.config import EvidenceSettings, Ingest
from monitor.flow import Evidence, Preprocessing, Segment
from monitor.ingest.camera import ReaderSettings
from monitor.ingest.process import Placed, ReaderProcess
from monitor.ingest.segment import Resume
from monitor.ingest.wire import (
    Add,
    Beat,
    CameraHealth,
    EvidenceRequest,
    EvidenceResult,
    Free,
    Glanced,
    Gone,
    Health,
    Hello,
    Look,
    Ready,
    Remove,
    Report,
    Save,
    Saved,
    Stop,
)

log = logging.getLogger(__name__)

WAITING_MOST = 64
"""Segments of one camera that may wait to be taken, invalid ones (that need no slot) included."""
SUSPECT_WINDOW_S = 3600.0
SUSPECT_FAULTS = 2
SHORT_LIFE_S = 10.0
"""A process that ends sooner is replaced after a growing wait."""
LONGEST_WAIT_S = 60.0
LOOP_LIVES = 3
"""So many short lives in a row are a crash loop; one ends at the latest after the longest wait and a short life."""
RETRY_S = 10.0
POST_ROLL_MARGIN_S = 5.0


@dataclass(slots=True, eq=False)
class _Camera:
    """What the pool knows of a camera over all its lives."""

    settings: ReaderSettings
    former: CameraHealth = field(default_factory=CameraHealth)
    """The counters of its ended lives."""
    now: CameraHealth = field(default_factory=CameraHealth)
    process: ReaderProcess | None = None
    placed: Placed | None = None
    last: Resume | None = None
    suspected_s: list[float] = field(default_factory=list)
    group: int | None = None
    alone: bool = False
    """Nobody else may join its group."""
    done: bool = False
    """A file that was read to its end."""

    @property
    def health(self) -> CameraHealth:
        return self.now.after(self.former)

    def count(self, **more: int | dict[str, int]) -> None:
        """Adds to the counters that the monitor itself keeps."""
        self.former = CameraHealth(**more).after(self.former)  # type: ignore[arg-type]


class ReaderPool:
    """Owns the reader processes and one receiving thread each; a context manager, started by entering it.

    ``recorder_s``: how many seconds of packets evidence may reach back before the request (bag, delay and
    pre-roll); the post-roll is added here. ``live`` False reads files once, as fast as they are taken:
    nothing is dropped, a few at a time, and a segment marked ``last`` closes each. ``quiet``: no log line
    where a stream comes or goes. ``niceness``: by how much the processes give way to the monitor where the cores do
    not suffice. ``on_change(camera)`` is called when a camera's link or picture fault changed, ``on_evidence(result)``
    once for each request, ``on_picture(camera, jpeg, captured_wall_s)`` after a ``look``; all from a receiving thread.
    """

    def __init__(
        self,
        cameras: Sequence[ReaderSettings],
        preprocessing: Preprocessing,
        *,
        ingest: Ingest,
        evidence: EvidenceSettings,
        recorder_s: float = 60.0,
        live: bool = True,
        quiet: bool = False,
        niceness: int = 0,
    ) -> None:
        self.on_evidence: Callable[[EvidenceResult], None] = lambda _: None
        self.on_picture: Callable[[str, bytes, float], None] = lambda *_: None
        self.on_change: Callable[[str], None] = lambda _: None
        self._live, self._quiet = live, quiet
        self._slots_per_camera = ingest.slots_per_camera
        self._per_process = ingest.cameras_per_process if live else 1
        self._most_processes = None if live else len(os.sched_getaffinity(0))
        self._hello = Hello(
            preprocessing=preprocessing,
            # Many more than are used at a time: slots of a camera that left may be in use for a
            # while, and pages that
            # were never written cost nothing.
            slots=4 * self._per_process * ingest.slots_per_camera,
            live=live,
            recorder_s=recorder_s + evidence.post_roll_s + POST_ROLL_MARGIN_S,
            recorder_bytes=int(evidence.memory_mb * 1e6),
            audio=evidence.audio,
            evidence_folder=evidence.folder.absolute(),
            niceness=niceness,
        )
        self._wanted = {settings.name: self._complete(settings) for settings in cameras}
        self._cameras: dict[str, _Camera] = {}
        self._processes: dict[int, ReaderProcess] = {}
        self._pending: dict[str, tuple[EvidenceRequest, int]] = {}
        self._queue: deque[Segment] = deque()
        self._changed = threading.Condition(threading.RLock())
        self._owners, self._lives, self._groups = count(1), count(1), count(1)
        self._short_lives = self._restarts = 0
        self._short_s, self._last_cause = -math.inf, ""
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        self.update(list(self._wanted.values()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(2.0 if kind is None else 0.5)

    # -- what the scorer does
    # ------------------------------------------------------------------------------------

    def take(self, most: int, deadline_s: float, timeout_s: float) -> list[Segment]:
        """Up to ``most`` segments in order of arrival. Waits ``timeout_s`` for the first (then []), and from
        the first on ``deadline_s`` for more. Every one must be given to ``release``. One consumer."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._queue or self._stopping.is_set(), timeout_s):
                return []
            self._changed.wait_for(lambda: len(self._queue) >= most or self._stopping.is_set(), deadline_s)
            return [self._queue.popleft() for _ in range(min(most, len(self._queue)))]

    def release(self, segments: Iterable[Segment]) -> None:
        """Gives the slots back: the pictures must not be looked at any more."""
        with self._changed:
            for segment in segments:
                if segment.slot is None:
                    continue
                process = self._processes.get(segment.owner)
                placed = None if process is None else process.release(segment.slot)
                if process is not None and placed is not None:
                    process.send(Free(placed.life, segment.slot))

    # -- what everybody may ask
    # -----------------------------------------------------------------------------------

    def health(self) -> dict[str, CameraHealth]:
        """Of all cameras; a snapshot, from any thread. Counters never fall."""
        with self._changed:
            return {name: camera.health for name, camera in self._cameras.items()}

    @property
    def pids(self) -> dict[int, tuple[str, ...]]:
        """The reader processes and the cameras of each."""
        with self._changed:
            return {
                process.pid: tuple(placed.settings.name for placed in process.lives.values())
                for process in self._processes.values()
                if not process.over
            }

    @property
    def waiting(self) -> int:
        """Segments that wait to be taken."""
        return len(self._queue)

    @property
    def restarts(self) -> int:
        """How many reader processes ended unasked and were replaced."""
        return self._restarts

    @property
    def crash_loop(self) -> str | None:
        """A sentence while reader processes end soon after each start and none lives on; any thread.

        Where others live on, the fault is of single cameras: their status says it.
        """
        now_s = time.monotonic()
        with self._changed:
            if self._short_lives < LOOP_LIVES or now_s - self._short_s > LONGEST_WAIT_S + SHORT_LIFE_S:
                return None
            if any(not one.over and now_s - one.started_s >= SHORT_LIFE_S for one in self._processes.values()):
                return None
            return (
                f"reader processes end soon after each start, {self._short_lives} in a row, the last with "
                f"{self._last_cause}: no camera is seen; the log says more"
            )

    def save_evidence(self, request: EvidenceRequest) -> None:
        """Asynchronous; the result comes by ``on_evidence``, also where nothing can be saved."""
        with self._changed:
            camera = self._cameras.get(request.camera)
            process = None if camera is None else camera.process
            if camera is not None and process is not None and camera.placed is not None and not process.over:
                self._pending[request.token] = (request, process.owner)
                process.send(Save(camera.placed.life, request))
                return
        self._no_evidence(request, "no evidence: the camera is not being read")

    def look(self, camera: str) -> None:
        """Asks for a small picture of what the camera shows; it comes by ``on_picture``, or never."""
        with self._changed:
            known = self._cameras.get(camera)
            if known is not None and known.process is not None and known.placed is not None and not known.process.over:
                known.process.send(Look(known.placed.life))

    # -- lifetime
    # -------------------------------------------------------------------------------------------------

    def update(self, cameras: Sequence[ReaderSettings]) -> None:
        """From now on these cameras are read: what did not change goes on undisturbed."""
        wanted = {settings.name: self._complete(settings) for settings in cameras}
        with self._changed:
            for name in [name for name in self._cameras if name not in wanted]:
                self._withdraw(self._cameras.pop(name))
                self._purge(name)
            for name, settings in wanted.items():
                camera = self._cameras.setdefault(name, _Camera(settings=settings))
                if camera.settings != settings:
                    self._withdraw(camera)
                    self._purge(name)  # seen with the former settings
                    camera.now = CameraHealth()
                    camera.settings = settings
            self._fill()
            self._end_idle()

    def stop(self, drain_s: float) -> None:
        """Ends all readers; evidence that is being written has ``drain_s`` to be finished. What was read
        before can still be taken."""
        end_s = time.monotonic() + drain_s
        with self._changed:
            self._stopping.set()
            processes = list(self._processes.values())
            for process in processes:
                process.send(Stop())
            self._changed.notify_all()
        for process in processes:
            process.thread.join(max(end_s - time.monotonic(), 0.0))
            if not process.over:
                process.kill("it did not end in time", set())
        for process in processes:
            if process.thread is not threading.current_thread():
                process.thread.join()
        with self._changed:
            lost = list(self._pending.values())
            self._pending.clear()
        for request, _ in lost:
            self._no_evidence(request, "no evidence: the monitor was ended before it was written")

    # -- placing cameras into processes (under the lock)
    # -----------------------------------------------------------

    def _complete(self, settings: ReaderSettings) -> ReaderSettings:
        return replace(settings, audio=self._hello.audio)

    def _fill(self) -> None:
        """Gives every camera that has no reader one, as far as there is room."""
        for camera in self._cameras.values():
            if camera.placed is None and not camera.done and not self._stopping.is_set():
                camera.group = self._group_of(camera)
                if camera.group is not None:
                    self._begin(camera, camera.group)

    def _group_of(self, camera: _Camera) -> int | None:
        """Cameras of a group share a process, also the one that replaces it; None: there is no room now."""
        if camera.group is not None:
            return camera.group
        sizes = Counter(other.group for other in self._cameras.values() if other.group is not None)
        if not self._live:
            # The process of a file that was read to its end takes the next one: a thousand files are no thousand
            # processes.
            free = (process.group for process in self._processes.values() if not (process.over or process.idle))
            sizes.update(dict.fromkeys(free, 0))
        alone = {other.group for other in self._cameras.values() if other.alone}
        for group, size in sorted(sizes.items()):
            if size < self._per_process and group not in alone:
                return group
        if self._most_processes is not None and len(sizes) >= self._most_processes:
            return None
        return next(self._groups)

    def _begin(self, camera: _Camera, group: int) -> None:
        """In the group's process or, where it has none (or none with slots to spare), in a new one."""
        placed: Placed | None = None
        life = next(self._lives)
        for process in reversed(list(self._processes.values())):
            if process.group == group and not (process.over or process.idle):
                placed = process.place(life, camera.settings, self._slots_per_camera)
                break
        if placed is None:
            process = ReaderProcess(next(self._owners), group, self._hello, report=self._on_report, ended=self._on_end)
            self._processes[process.owner] = process
            placed = process.place(life, camera.settings, self._slots_per_camera)
        if placed is None:
            raise RuntimeError("a fresh reader process has no room for a camera")
        # Until the stream is there again it is known why it went: the camera's status must not flap with each try.
        fault = camera.now.fault if camera.now.link == "lost" else None
        camera.process, camera.placed, camera.now = process, placed, CameraHealth(fault=fault)
        process.send(
            Add(
                life=placed.life,
                settings=camera.settings,
                mark=placed.mark,
                slots=placed.slots,
                resume=camera.last if self._live else None,
            )
        )

    def _withdraw(self, camera: _Camera) -> None:
        """Ends the camera's reader; its thread may need a while to come back from libav."""
        if camera.process is not None and camera.placed is not None:
            camera.placed.leaving = True
            camera.process.send(Remove(camera.placed.life))
        self._close_life(camera)

    def _close_life(self, camera: _Camera) -> None:
        """Adds the counters of the life that ends to those of the former ones."""
        camera.former = camera.health
        camera.now = camera.now.without_counters()
        camera.process = camera.placed = None

    def _end_idle(self) -> None:
        for process in self._processes.values():
            if not process.over and all(placed.leaving for placed in process.lives.values()):
                process.idle = True
                process.send(Stop())

    def _purge(self, name: str) -> None:
        """Nobody wants the segments of a camera that was removed, or is read anew."""
        gone = [segment for segment in self._queue if segment.camera == name]
        self._queue = deque(segment for segment in self._queue if segment.camera != name)
        self.release(gone)

    # -- what the processes say (from their receiving threads)
    # -----------------------------------------------------

    def _on_report(self, process: ReaderProcess, report: Report) -> None:
        match report:
            case Ready():
                self._on_ready(process, report)
            case Health(life, health):
                self._on_health(process, life, health)
            case Gone(life):
                with self._changed:
                    self._on_gone(process, life)
            case Saved(result):
                with self._changed:
                    self._pending.pop(result.token, None)
                self.on_evidence(result)
            case Glanced(life, jpeg, captured_wall_s):
                with self._changed:
                    known = self._camera_of(process, life)
                if known is not None:
                    self.on_picture(known[0].settings.name, jpeg, captured_wall_s)
            case Beat():
                pass

    def _camera_of(self, process: ReaderProcess, life: int) -> tuple[_Camera, Placed] | None:
        placed = process.lives.get(life)
        camera = None if placed is None else self._cameras.get(placed.settings.name)
        if placed is None or camera is None or camera.placed is not placed:
            return None
        return camera, placed

    def _on_ready(self, process: ReaderProcess, ready: Ready) -> None:
        with self._changed:
            placed = process.lives.get(ready.life)
            if placed is not None and ready.slot is not None:
                placed.outstanding.add(ready.slot)
            known = self._camera_of(process, ready.life)
            piece = ready.piece
            segment = Segment(
                camera="" if placed is None else placed.settings.name,
                number=piece.number,
                start_s=piece.start_s,
                end_s=piece.end_s,
                captured_s=piece.captured_s,
                captured_wall_s=piece.captured_wall_s,
                pictures=None if ready.slot is None else process.memory.pictures(ready.slot),
                invalid=piece.invalid,
                last=ready.last,
                slot=ready.slot,
                owner=process.owner,
            )
            if known is None:
                self.release([segment])
                return
            camera = known[0]
            if camera.last is not None and piece.number <= camera.last.number:
                self.release([segment])  # a file that is read again because its process died
                return
            camera.last = Resume(number=piece.number, end_s=piece.end_s, captured_s=piece.captured_s)
            if ready.last:
                camera.done, camera.group = True, None
            self._queue.append(segment)
            self._drop_oldest(camera, known[1], process)
            self._changed.notify_all()

    def _drop_oldest(self, camera: _Camera, placed: Placed, process: ReaderProcess) -> None:
        """A live camera always keeps one slot to draw in: the oldest segment that waits gives up its own."""
        if not self._live:
            return
        waiting = [segment for segment in self._queue if segment.camera == camera.settings.name]
        if len(placed.outstanding) == len(placed.slots):
            full = [s for s in waiting[:-1] if s.slot is not None and s.owner == process.owner]
        else:
            full = waiting if len(waiting) > WAITING_MOST else []
        if full:
            self._queue.remove(full[0])
            self.release([full[0]])
            camera.count(dropped={"queue_full": 1})

    def _on_health(self, process: ReaderProcess, life: int, health: CameraHealth) -> None:
        with self._changed:
            known = self._camera_of(process, life)
            if known is None:
                return
            camera = known[0]
            before = camera.now
            if health.link == "connecting" and health.fault is None:
                health = replace(health, fault=before.fault)
            camera.now = health
        name = camera.settings.name
        if before.link != health.link and not self._quiet:
            _log_link(name, health)
        if (before.link, before.fault, before.picture_faults) != (
            health.link,
            health.fault,
            health.picture_faults,
        ):
            self.on_change(name)

    def _on_gone(self, process: ReaderProcess, life: int) -> None:
        known = self._camera_of(process, life)
        if known is not None:
            self._close_life(known[0])
        placed = process.lives.get(life)
        if placed is not None:
            process.forget(placed)
        if not self._live:
            self._fill()

    def _on_end(self, process: ReaderProcess) -> None:
        """A process is gone: its cameras get another one, unless that was intended."""
        with self._changed:
            lost = [camera for camera in self._cameras.values() if camera.process is process]
            intended = self._stopping.is_set() or process.idle
            for camera in lost:
                self._close_life(camera)
                if not intended:
                    self._suspect(camera, process)
            requests = [item for item in self._pending.values() if item[1] == process.owner]
            for request, _ in requests:
                del self._pending[request.token]
        for request, _ in requests:
            self._no_evidence(request, "no evidence: the reader process ended before it was written")
        if intended or not lost:
            self._forget(process)
            return
        log.warning(
            "the reader process of %s ended (%s); starting another",
            ", ".join(f"'{camera.settings.name}'" for camera in lost),
            process.cause,
        )
        for camera in lost:
            self.on_change(camera.settings.name)
        self._restarts += 1
        self._wait_after(process)
        self._forget(process)
        while not self._stopping.is_set():
            try:
                with self._changed:
                    self._fill()
            except OSError as error:
                # No memory, or too many processes, just now.
                log.exception("no reader process could be started (%s); trying again", error.strerror)
                self._stopping.wait(RETRY_S)
            else:
                return

    def _suspect(self, camera: _Camera, process: ReaderProcess) -> None:
        name, now_s = camera.settings.name, time.monotonic()
        blamed = name in process.blamed
        camera.count(restarts=1, suspected=int(blamed))
        camera.now = replace(camera.now, link="lost", fault=f"its reader process ended ({process.cause})")
        if not blamed:
            return
        recent = [then_s for then_s in camera.suspected_s if now_s - then_s < SUSPECT_WINDOW_S]
        camera.suspected_s = [*recent, now_s]
        if len(camera.suspected_s) >= SUSPECT_FAULTS:
            if not self._live:
                self._give_up(camera)
            elif not camera.alone:
                camera.alone = True
                camera.group = next(self._groups)
                log.warning("camera '%s' ended its reader process twice: it gets one of its own", name)

    def _give_up(self, camera: _Camera) -> None:
        """A file that twice took its process along is at its end."""
        last = camera.last or Resume(number=-1, end_s=0.0, captured_s=0.0)
        camera.done, camera.group = True, None
        camera.now = replace(camera.now, link="ended", fault="reading it crashed the reader process twice")
        self._queue.append(
            Segment(
                camera=camera.settings.name,
                number=last.number + 1,
                start_s=last.end_s,
                end_s=last.end_s,
                captured_s=time.monotonic(),
                captured_wall_s=time.time(),
                pictures=None,
                last=True,
            )
        )
        self._changed.notify_all()

    def _wait_after(self, process: ReaderProcess) -> None:
        """Before a process is replaced that did not live long: what ends every process must not eat the
        machine."""
        now_s = time.monotonic()
        with self._changed:
            lived_s = now_s - process.started_s
            if lived_s >= SHORT_LIFE_S or now_s - self._short_s > LONGEST_WAIT_S + SHORT_LIFE_S:
                self._short_lives = 0  # the next ones lived: a row is one without such a gap
            if lived_s >= SHORT_LIFE_S:
                return
            self._short_lives += 1
            self._short_s, self._last_cause = now_s, process.cause
            wait_s = min(0.25 * 2.0 ** min(self._short_lives - 1, 16), LONGEST_WAIT_S)
        looping = self.crash_loop
        if looping is not None and self._short_lives == LOOP_LIVES:
            log.error("%s", looping)
        self._stopping.wait(wait_s)

    def _forget(self, process: ReaderProcess) -> None:
        """Its memory stays as long as a segment that is on the way shows it."""
        with self._changed:
            self._processes.pop(process.owner, None)

    def _no_evidence(self, request: EvidenceRequest, note: str) -> None:
        self.on_evidence(EvidenceResult(token=request.token, camera=request.camera, evidence=Evidence(note=note)))


def _log_link(name: str, health: CameraHealth) -> None:
    if health.link == "up":
        picture = f"{health.codec} {health.width_px}x{health.height_px}"
        log.info("camera '%s': the stream is there (%s)", name, picture)
    elif health.link == "lost":
        log.info("camera '%s': %s; trying again until it is back", name, health.fault)
    elif health.link == "ended" and health.fault is not None:
        log.warning("'%s': %s", name, health.fault)
