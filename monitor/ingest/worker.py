"""The reader process: a thread per camera, one for evidence, and the main thread that serves the pipe.

It ignores SIGINT, SIGTERM and SIGHUP and ends when the pipe closes: the monitor decides, also by dying.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from types import TracebackType
from urllib.parse import unquote, urlsplit

import av.logging

from monitor.ingest.cutter import Cut, Slot
from monitor.ingest.fault import StreamFault
from monitor.ingest.memory import Doing, SlotMemory
from monitor.ingest.reader import Reader
from monitor.ingest.recorder import Recorder
from monitor.ingest.saver import Saver
from monitor.ingest.segment import Piece
from monitor.ingest.source import Source
from monitor.ingest.wire import (
    Add,
    Beat,
    CameraHealth,
    EvidenceResult,
    Free,
    Glanced,
    Gone,
    Health,
    Hello,
    Look,
    Order,
    Ready,
    Remove,
    Report,
    Save,
    Saved,
    Stop,
)

REPORT_S = 0.5
"""How often counters are told; changes of the link are told at once."""
FREE_S = 0.05
CLOSE_S = 1.0
"""How long the end waits for threads that are inside libav: closing the process frees everything they hold.
"""


class Life:
    """One reader in its thread, and its slots."""

    def __init__(self, order: Add, hello: Hello, memory: SlotMemory, send: Sender) -> None:
        self.id = order.life
        self._send = send
        self._memory = memory
        self._live = hello.live
        self._free = list(order.slots)
        self._freed = threading.Condition()
        self._told: CameraHealth | None = None
        records = hello.live and hello.recorder_s > 0
        recorder = Recorder(hello.recorder_s, hello.recorder_bytes) if records else None
        self.reader = Reader(
            order.settings,
            hello.preprocessing,
            live=hello.live,
            take_slot=self._take_slot,
            deliver=self._deliver,
            changed=self.tell,
            mark=lambda doing: memory.mark(order.mark, doing),
            recorder=recorder,
            resume=order.resume,
            show=lambda jpeg, captured_wall_s: send(Glanced(order.life, jpeg, captured_wall_s)),
        )
        self.thread = threading.Thread(target=self._run, name=f"camera {order.settings.name}", daemon=True)

    def tell(self) -> None:
        """Sends the health if it is new."""
        health = self.reader.health()
        if health != self._told:
            self._told = health
            self._send(Health(self.id, health))

    def free(self, slot: int) -> None:
        with self._freed:
            self._free.append(slot)
            self._freed.notify()

    def stop(self) -> None:
        self.reader.stop()
        with self._freed:
            self._freed.notify()

    def _run(self) -> None:
        self.reader.run()
        self.tell()
        if not self._live and not self.reader.stopped:
            self._send(Ready(self.id, self._end_mark(), None, last=True))
        self._send(Gone(self.id))

    def _end_mark(self) -> Piece:
        segmenter = self.reader.cutter.segmenter
        return Piece(
            number=segmenter.next_number,
            start_s=segmenter.end_s,
            end_s=segmenter.end_s,
            captured_s=time.monotonic(),
            captured_wall_s=time.time(),
            invalid=None,
        )

    def _take_slot(self) -> Slot | None:
        """A free slot; none is None for a live camera, while a file waits for one."""
        with self._freed:
            while not self._free:
                if self.reader.stopped:
                    return None
                # The monitor frees the oldest segment's slot when it hears of the newest:
                # that takes a moment, which
                # frames that come in a burst would not leave it.
                if not self._freed.wait(FREE_S if self._live else None) and self._live:
                    return None
            # The one that came back last: slots that are not needed are never written, and this one is in the cache.
            index = self._free.pop()
        return Slot(pictures=self._memory.pictures(index), index=index)

    def _deliver(self, cut: Cut) -> None:
        self._send(Ready(self.id, cut.piece, None if cut.slot is None else cut.slot.index))


class Sender:
    """Sends reports; its lock is only among the threads of this process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def __call__(self, report: Report) -> None:
        with self._lock:
            try:
                self._pipe.send(report)
            except OSError:
                os._exit(0)  # the monitor is gone: nobody is left to work for


class Worker:
    """Serves the orders that come over the pipe."""

    def __init__(self, pipe: Connection, memory_fd: int) -> None:
        self._pipe = pipe
        self._send = Sender(pipe)
        hello = pipe.recv()
        if not isinstance(hello, Hello):
            raise TypeError("the first order must be Hello")
        self._hello = hello
        os.nice(hello.niceness)
        self._memory = SlotMemory(memory_fd, hello.preprocessing, hello.slots)
        self._lives: dict[int, Life] = {}
        self._saver = Saver(hello.evidence_folder, self._saved)
        self.secrets: set[str] = set()

    def serve(self) -> None:
        """Until Stop; the end of the pipe ends the process at once."""
        told_s = 0.0
        while True:
            if self._pipe.poll(REPORT_S / 2):
                order: Order = self._pipe.recv()
                if isinstance(order, Stop):
                    break
                self._obey(order)
            if time.monotonic() - told_s >= REPORT_S:
                told_s = time.monotonic()
                self._tell()
        self._end()

    def _tell(self) -> None:
        for life in self._lives.values():
            life.tell()
        self._send(Beat())

    def _obey(self, order: Order) -> None:
        match order:
            case Add():
                self._add(order)
            case Free(life, slot) if life in self._lives:
                self._lives[life].free(slot)
            case Remove(life) if life in self._lives:
                self._lives.pop(life).stop()
            case Look(life) if life in self._lives:
                self._lives[life].reader.look()
            case Save(life, request) if life in self._lives:
                reader = self._lives[life].reader
                self._saver.ask(request, reader.recorder, reader.settings.private)
            case _:
                pass  # of a life that has ended meanwhile

    def _add(self, order: Add) -> None:
        self.secrets.add(order.settings.url)
        life = Life(order, self._hello, self._memory, self._send)
        self._lives[order.life] = life
        self._memory.mark(order.mark, Doing.WAITING)
        life.thread.start()

    def _saved(self, result: EvidenceResult) -> None:
        self._send(Saved(result))

    def _end(self) -> None:
        lives = list(self._lives.values())
        for life in lives:
            life.stop()
        self._saver.finish()
        end_s = time.monotonic() + CLOSE_S
        for life in lives:
            life.thread.join(max(end_s - time.monotonic(), 0.0))
        self._tell()


def redacted(text: str, secrets: set[str]) -> str:
    """``text`` without any camera's address or password."""
    for secret in sorted(secrets, key=len, reverse=True):
        try:
            shown, password = Source.of(secret).shown, urlsplit(secret).password
        except (StreamFault, ValueError):
            shown, password = "(address)", None
        text = text.replace(secret, shown)
        for spelled in (password, unquote(password)) if password else ():
            text = text.replace(spelled, "***")
    return text


def main() -> None:
    """``python -m monitor.ingest.worker PIPE_FD MEMORY_FD``: started by the pool only."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # `systemctl kill -s HUP` reaches the whole control group: a reload must not cost every stream.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # libav's log tells of lost packets (camera.py reads it), but holds addresses with passwords: it
    # goes nowhere else.
    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)
    logging.disable()
    worker: Worker | None = None

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        text = "".join(traceback.format_exception(kind, error, trace))
        print(redacted(text, worker.secrets if worker else set()), file=sys.stderr, flush=True)

    def report_thread(args: threading.ExceptHookArgs) -> None:
        # A bug, not a fault of a stream: the process ends, and the monitor starts another.
        report(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)
        os._exit(70)

    threading.excepthook = report_thread
    sys.excepthook = report
    try:
        worker = Worker(Connection(int(sys.argv[1])), int(sys.argv[2]))
        worker.serve()
    except (EOFError, ConnectionError):
        os._exit(0)  # the monitor is gone
    os._exit(0)  # threads that are still inside libav are not waited for


if __name__ == "__main__":
    main()
