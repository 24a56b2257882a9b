"""One reader process as the monitor sees it: its start, its pipe, its memory, and its end."""

from __future__ import annotations

import contextlib
import heapq
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from monitor.config.secret import for_a_child
from monitor.ingest.camera import ReaderSettings
from monitor.ingest.memory import MARKS, Doing, SlotMemory
from monitor.ingest.wire import CameraHealth, Hello, Order, Report

LOOK_S = 0.5
SILENT_LOOKS = 20
"""A process that says nothing for so many looks in a row (10 s; it owes a beat every 0.5 s) is hung or
stopped."""
HELD_LOOKS = 3
"""A process that has said nothing for so long is held up as a whole: no single camera is to blame for that."""
STUCK = {Doing.OPENING: 3.0, Doing.READING: 2.0, Doing.DECODING: 2.0}
"""A thread that is inside libav for so many of its time-outs will not come back: opening has one for looking
the host up, one for connecting and one for finding the streams."""
STUCK_GRACE_S = 2.0
CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})
BUG = 70
"""The exit status of a process that ended because of an exception that nobody expected."""


@dataclass(slots=True, eq=False)
class Placed:
    """One life of a camera's reader in a process: its mark, its slots, and those of them that are on the way."""

    life: int
    settings: ReaderSettings
    mark: int
    slots: tuple[int, ...]
    outstanding: set[int] = field(default_factory=set)
    health: CameraHealth = field(default_factory=CameraHealth)
    leaving: bool = False
    """It was told to end; what it still says is not wanted."""


class ReaderProcess:
    """``owner`` is unique among all processes of a pool's life: it names the process and its generation.

    ``report`` and ``ended`` are called from the receiving thread. The slots' and marks' books (``place``,
    ``forget``, ``release``) are the caller's to guard by its own lock.
    """

    def __init__(
        self,
        owner: int,
        group: int,
        hello: Hello,
        *,
        report: Callable[[ReaderProcess, Report], None],
        ended: Callable[[ReaderProcess], None],
    ) -> None:
        self.owner = owner
        self.group = group
        self.lives: dict[int, Placed] = {}
        self.blamed: set[str] = set()
        """Names of the cameras that likely caused its end."""
        self.cause = ""
        self.started_s = time.monotonic()
        self.over = False
        self.idle = False
        """It was told to end because it has no cameras."""
        self.memory = SlotMemory.create(hello.preprocessing, hello.slots)
        self._free_slots = list(range(hello.slots))
        self._free_marks = list(range(MARKS))
        self._slot_life: dict[int, Placed] = {}
        self._report = report
        self._ended = ended
        self._sending = threading.Lock()
        try:
            self._process, self._pipe = _spawn(self.memory.fd)
        except OSError:
            self.memory.discard()  # whoever tries again while descriptors are short must not eat more of them
            raise
        self.send(hello)
        self.thread = threading.Thread(target=self._receive, name=f"receive from readers {owner}", daemon=True)
        self.thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, order: Order) -> None:
        """Never raises: the orders of a dead process are of no use to anybody."""
        with self._sending, contextlib.suppress(OSError):
            self._pipe.send(order)

    def kill(self, cause: str, blamed: set[str]) -> None:
        """By its pid; the end is told by ``ended``."""
        self.cause = self.cause or cause
        self.blamed |= blamed
        self._process.kill()

    def place(self, life: int, settings: ReaderSettings, slots: int) -> Placed | None:
        """A mark and slots for one more reader; None where there are none left."""
        if len(self._free_slots) < slots or not self._free_marks:
            return None
        taken = tuple(heapq.heappop(self._free_slots) for _ in range(slots))
        placed = Placed(life=life, settings=settings, mark=heapq.heappop(self._free_marks), slots=taken)
        self.lives[life] = placed
        self._slot_life.update(dict.fromkeys(taken, placed))
        return placed

    def forget(self, placed: Placed) -> None:
        """A reader has ended: its mark is free, and so are its slots as soon as they are back."""
        if self.lives.pop(placed.life, None) is None:
            return
        heapq.heappush(self._free_marks, placed.mark)
        for slot in placed.slots:
            if slot not in placed.outstanding:
                self._reuse(slot)

    def release(self, slot: int) -> Placed | None:
        """A slot came back; its reader, where that still lives and waits for it."""
        placed = self._slot_life.get(slot)
        if placed is None or slot not in placed.outstanding:
            return None
        placed.outstanding.discard(slot)
        if placed.life in self.lives:
            return placed
        self._reuse(slot)
        return None

    def _reuse(self, slot: int) -> None:
        del self._slot_life[slot]
        heapq.heappush(self._free_slots, slot)

    def _receive(self) -> None:
        quiet = 0
        looked_s = time.monotonic()
        while True:
            try:
                if self._pipe.poll(LOOK_S):
                    report = self._pipe.recv()
                    quiet = 0
                    self._report(self, report)
                else:
                    quiet += 1
            except (EOFError, OSError):
                break
            if quiet == SILENT_LOOKS:
                self.kill("it did not answer for 10 s", self._inside_libav())
            if time.monotonic() - looked_s >= LOOK_S:
                looked_s = time.monotonic()
                if quiet < HELD_LOOKS:
                    self._look_for_stuck(looked_s)
        self._finish()

    def _look_for_stuck(self, now_s: float) -> None:
        for placed in list(self.lives.values()):
            doing, since_s = self.memory.doing(placed.mark)
            if doing is Doing.WAITING:
                continue
            settings = placed.settings
            limit_s = settings.connect_timeout_s if doing is Doing.OPENING else settings.stall_timeout_s
            if now_s - since_s > STUCK[doing] * limit_s + STUCK_GRACE_S:
                cause = f"camera '{settings.name}' hung while {doing.name.lower()}"
                self.kill(cause, {settings.name})

    def _inside_libav(self) -> set[str]:
        """The cameras that were being opened or decoded."""
        return {
            placed.settings.name
            for placed in list(self.lives.values())
            if self.memory.doing(placed.mark)[0] in (Doing.OPENING, Doing.DECODING)
        }

    def _finish(self) -> None:
        try:
            status = self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self.kill("it closed its pipe but did not end", set())
            status = self._process.wait()
        crashed = status == BUG or (status < 0 and -status in CRASHES)
        if not self.cause:
            self.cause = f"signal {-status}" if status < 0 else f"exit status {status}"
        if crashed and not self.blamed:
            self.blamed = self._inside_libav() or self._latest()
        self.over = True
        self.memory.close_fd()
        with self._sending:
            self._pipe.close()
        self._ended(self)

    def _latest(self) -> set[str]:
        """The camera whose mark was written last."""
        lives = list(self.lives.values())
        if not lives:
            return set()
        return {max(lives, key=lambda placed: self.memory.doing(placed.mark)[1]).settings.name}


def _spawn(memory_fd: int) -> tuple[subprocess.Popen[bytes], Connection]:
    """A fresh interpreter, as multiprocessing's ``spawn`` makes one, without its resource tracker and
    ``__main__``."""
    ours, theirs = socket.socketpair()
    # A reader is told the passwords of its own cameras, and need not have all others in its environment.
    environment = for_a_child(os.environ) | {
        # Nothing here computes with BLAS; its threads would cost each process memory.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "monitor.ingest.worker", str(theirs.fileno()), str(memory_fd)],
            pass_fds=(theirs.fileno(), memory_fd),
            stdin=subprocess.DEVNULL,
            env=environment,
            # Out of the terminal's foreground group: its Ctrl-C is for the monitor alone.
            process_group=0,
        )
        return process, Connection(ours.detach())
