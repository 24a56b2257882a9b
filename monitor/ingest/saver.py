"""The thread of a reader process that writes evidence, when what comes after the alert has come too."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from monitor.flow import Evidence
from monitor.ingest import clip
from monitor.ingest.picture import Polygons
from monitor.ingest.recorder import Recorder
from monitor.ingest.wire import EvidenceRequest, EvidenceResult

GRACE_S = 3.0
"""A camera that sends nothing more is waited for no longer than this after the time asked for."""
LOOK_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    request: EvidenceRequest
    recorder: Recorder
    private: Polygons

    def due(self) -> bool:
        return (
            self.recorder.newest_s >= self.request.to_captured_s
            or time.monotonic() >= self.request.to_captured_s + GRACE_S
        )


class Saver:
    """``ask`` from the main thread; ``done`` is called from the saver's own thread, once for each request."""

    def __init__(self, folder: Path, done: Callable[[EvidenceResult], None]) -> None:
        self._folder = folder
        self._done = done
        self._wanted: list[_Wanted] = []
        self._changed = threading.Condition()
        self._ending = False
        self._thread: threading.Thread | None = None

    def ask(self, request: EvidenceRequest, recorder: Recorder | None, private: Polygons) -> None:
        if recorder is None:
            note = "no evidence: this camera's packets are not recorded"
            self._done(EvidenceResult(token=request.token, camera=request.camera, evidence=Evidence(note=note)))
            return
        with self._changed:
            self._wanted.append(_Wanted(request=request, recorder=recorder, private=private))
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Writes all that was asked for, with what is there, and ends."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (wanted := self._next()) is not None:
            request = wanted.request
            packets = wanted.recorder.between(request.from_captured_s, request.to_captured_s)
            evidence = clip.save(request, packets, self._folder, wanted.private)
            self._done(EvidenceResult(token=request.token, camera=request.camera, evidence=evidence))

    def _next(self) -> _Wanted | None:
        """The first request that is due; None at the end."""
        with self._changed:
            while True:
                for wanted in self._wanted:
                    if self._ending or wanted.due():
                        self._wanted.remove(wanted)
                        return wanted
                if self._ending:
                    return None
                # A recorder does not call when a packet came: it would do so for every
                # packet of every camera.
                self._changed.wait(LOOK_S if self._wanted else None)
