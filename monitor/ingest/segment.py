"""Frames → segments: time stamps are repaired, frames are chosen for the analysed rate, sixteen make a
segment.

Pure: no clock, no picture, no libav. The caller tells when a frame arrived and what its time stamp claims,
and is told which position of which segment the frame takes. Rules:

* ``Timeline`` turns the stamps of one camera into stream time that never goes back. A stamp is trusted as
  long as it advances by no more than the tolerance. Where it does not (missing, repeated, backward, jumping),
  time advances by what the monitor's own clock says (live) or by the typical interval (files).
* Analysed frames lie on a grid of 1/fps. A grid point takes the first frame that is not more than a quarter
  of an interval early; a source slower than the grid, or a missing frame, repeats the frame before
  (``held``).
* A hole beyond the tolerance breaks: the open segment is given up (one invalid ``time_jump`` piece) and the
  numbers jump by as many segments as the hole swallowed.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import deque
from dataclasses import dataclass

from monitor.flow import FRAMES_PER_SEGMENT

EARLY = 0.25
"""How early a frame may be for its grid point, as a fraction of the analysed interval: half the jitter that a
camera at exactly the analysed rate may have."""
TICK_S = 0.001
"""What a repeated or slightly backward stamp counts for."""
STUCK_FRAMES = 3
"""After so many stamps in a row that do not advance, the stamps are not believed until they do."""
LONGEST_TOLERANCE_S = 3.0
SLOW_FRAMES, ALIKE = 4, 1.5
"""So many holes in a row, the longest at most so many times the shortest, are none: the source is that slow."""
LONGEST_HOLE_S = 86_400.0
"""A file's stamps that jump further ahead are wrong, not a hole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """When a frame came. ``stamp_s`` is what its container claims (None: nothing); the others are as in
    flow.py."""

    stamp_s: float | None
    captured_s: float
    captured_wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Position ``index`` (0..15) of the open segment takes the frame just pushed, or the one before it
    (``held``)."""

    index: int
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The open segment is whole (or given up, then ``invalid`` says why): a Segment without its pictures."""

    number: int
    start_s: float
    end_s: float
    captured_s: float
    captured_wall_s: float
    invalid: str | None

    def because(self, invalid: str) -> Piece:
        """The same piece, invalid for that reason."""
        return dataclasses.replace(self, invalid=invalid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Where a former life of this camera's reader ended: its last segment."""

    number: int
    end_s: float
    captured_s: float


class Timeline:
    """The stream time of one camera: strictly increasing seconds, 0 at the first frame.

    ``place`` returns (time, broken); broken means that the stream was interrupted for longer than the
    tolerance.
    """

    def __init__(self, *, fps: float, live: bool, resume: Resume | None = None) -> None:
        self._live = live
        self._nominal_s = 1 / fps
        self._least_tolerance_s = FRAMES_PER_SEGMENT / 2 / fps
        self._steps_s: deque[float] = deque(maxlen=15)
        self._holes_s: deque[float] = deque(maxlen=SLOW_FRAMES)
        self._last_s: float | None = None if resume is None else resume.end_s
        self._captured_s = 0.0 if resume is None else resume.captured_s
        self._stamp_s: float | None = None
        self._offset_s: float | None = None
        self._stuck = 0
        self._interrupted = resume is not None

    @property
    def typical_s(self) -> float:
        """The usual time between two frames of this source."""
        return statistics.median(self._steps_s) if self._steps_s else self._nominal_s

    @property
    def tolerance_s(self) -> float:
        """The longest time without a frame that is not a hole: half a segment, or three frames of a slow
        source."""
        return max(self._least_tolerance_s, min(3 * self.typical_s, LONGEST_TOLERANCE_S))

    def interrupt(self, nominal_s: float | None) -> None:
        """The stream was opened (anew): its stamps start over."""
        self._nominal_s = nominal_s or self._nominal_s
        self._interrupted = self._last_s is not None
        self._stamp_s = self._offset_s = None
        self._stuck = 0

    def place(self, arrival: Arrival) -> tuple[float, bool]:
        if self._last_s is None:
            step_s, broken, now_s = 0.0, False, 0.0
        else:
            interrupted = self._interrupted
            step_s, broken = self._step(self._last_s, arrival)
            now_s = self._last_s + step_s
            if interrupted:
                self._holes_s.clear()  # waiting for the stream says nothing of its rate
            elif broken:
                self._doubt(step_s)
            elif step_s > TICK_S:
                self._steps_s.append(step_s)
                self._holes_s.clear()
        if arrival.stamp_s is not None and (self._offset_s is None or self._rebase):
            self._offset_s = now_s - arrival.stamp_s
        self._last_s, self._captured_s = now_s, arrival.captured_s
        self._stamp_s = arrival.stamp_s if arrival.stamp_s is not None else self._stamp_s
        return now_s, broken

    def _doubt(self, hole_s: float) -> None:
        """A source may be slower than it claims, or claim nothing: then each of its frames comes after a hole."""
        self._holes_s.append(hole_s)
        longest_s = min(ALIKE * min(self._holes_s), LONGEST_TOLERANCE_S)
        if len(self._holes_s) == SLOW_FRAMES and max(self._holes_s) <= longest_s:
            self._steps_s.clear()
            self._steps_s.extend(self._holes_s)

    _rebase = False

    def _step(self, last_s: float, arrival: Arrival) -> tuple[float, bool]:
        """How far time goes on with this frame, and whether the stream was interrupted before it."""
        waited_s = max(arrival.captured_s - self._captured_s, 0.0)
        own_s = max(waited_s, TICK_S) if self._live else self.typical_s
        self._rebase = False
        if self._interrupted:
            self._interrupted = False
            return max(own_s, TICK_S), True
        if arrival.stamp_s is None or self._offset_s is None or self._stamp_s is None:
            return own_s, own_s > self.tolerance_s
        stamped_s = arrival.stamp_s - self._stamp_s
        step_s = arrival.stamp_s + self._offset_s - last_s
        if 0 < step_s <= self.tolerance_s and stamped_s > 0:
            self._stuck = 0
            return step_s, False
        if step_s > self.tolerance_s:
            return self._forward(step_s, waited_s)
        if -self.tolerance_s <= stamped_s <= 0:
            self._stuck += 1
            return (TICK_S, False) if self._stuck <= STUCK_FRAMES else (own_s, own_s > self.tolerance_s)
        self._stuck = 0
        if step_s > -self.tolerance_s and stamped_s > 0:
            return TICK_S, False
        self._rebase = True  # the source's clock was set back, or advances again after it stood still
        return own_s, own_s > self.tolerance_s or (stamped_s < 0 and not self._live)

    def _forward(self, step_s: float, waited_s: float) -> tuple[float, bool]:
        self._stuck = 0
        if self._live:
            if waited_s >= step_s / 2:
                return step_s, True
            self._rebase = True  # nobody waited that long: the camera's clock was set forward
            own_s = max(waited_s, self.typical_s)
            return own_s, own_s > self.tolerance_s
        self._rebase = step_s > LONGEST_HOLE_S
        return (self.typical_s if self._rebase else step_s), True


class Segmenter:
    """Cuts one camera's frames into pieces of sixteen analysed frames.

    ``push`` answers with the places the frame takes and the pieces that are complete with it, in order.
    ``fault`` marks the open piece invalid. ``interrupt`` says that the stream was opened anew. ``finish``
    closes a file: a tail of at least 8 frames, or any tail where there was no segment at all, is filled up
    with its last frame; a shorter one is given up.
    """

    def __init__(self, *, fps: float, live: bool, resume: Resume | None = None) -> None:
        self.fps = fps
        self._timeline = Timeline(fps=fps, live=live, resume=resume)
        self._seconds = FRAMES_PER_SEGMENT / fps
        self._number = 0 if resume is None else resume.number + 1
        self._expected_s = 0.0 if resume is None else resume.end_s
        self._origin_s: float | None = None
        self._slot = 0
        self._cut = 0
        self._fault: str | None = None
        self._this_fault: str | None = None
        self._last: Arrival | None = None

    @property
    def filled(self) -> int:
        """How many frames the open piece has."""
        return self._slot % FRAMES_PER_SEGMENT

    @property
    def tolerance_s(self) -> float:
        return self._timeline.tolerance_s

    @property
    def open_fault(self) -> str | None:
        """Why the open piece will be invalid, so far."""
        return self._fault

    @property
    def source_fps(self) -> float:
        """How many frames a second the source has, by its time stamps."""
        return 1 / self._timeline.typical_s

    @property
    def end_s(self) -> float:
        """Stream time at which the last piece ended."""
        return self._expected_s

    @property
    def next_number(self) -> int:
        return self._number

    def fault(self, reason: str) -> None:
        """What is open must not be scored as if it were real."""
        self._fault = self._fault or reason

    def interrupt(self, nominal_s: float | None = None) -> None:
        """The stream was opened (anew); ``nominal_s`` is the frame interval that it claims, where believable."""
        self._timeline.interrupt(nominal_s)

    def push(self, arrival: Arrival, fault: str | None = None) -> list[Place | Piece]:
        """A frame came; ``fault`` says why it is not to be trusted."""
        now_s, broken = self._timeline.place(arrival)
        events: list[Place | Piece] = []
        if self._origin_s is None or broken:
            events += self._break(now_s)
            self._origin_s, self._slot = now_s, 0
        before, self._this_fault = self._this_fault, fault
        if fault is not None:
            self.fault(fault)
        due = math.floor((now_s - self._origin_s) * self.fps + EARLY) + 1 - self._slot
        for place in range(due):
            held = place < due - 1
            shown = before if held else fault
            if shown is not None:
                self.fault(shown)
            events.append(Place(index=self.filled, held=held))
            self._slot += 1
            if self.filled == 0:
                events.append(self._piece(arrival, FRAMES_PER_SEGMENT))
        self._last = arrival
        return events

    def finish(self) -> list[Place | Piece]:
        filled = self.filled
        if self._last is None or filled == 0 or (filled < FRAMES_PER_SEGMENT // 2 and self._cut > 0):
            return []
        missing = range(filled, FRAMES_PER_SEGMENT)
        events: list[Place | Piece] = [Place(index=index, held=True) for index in missing]
        self._slot += FRAMES_PER_SEGMENT - filled
        return [*events, self._piece(self._last, filled)]

    def _piece(self, arrival: Arrival, frames: int, invalid: str | None = None) -> Piece:
        """Closes the piece of which ``frames`` real frames were placed; the grid stands behind its sixteenth."""
        start_s = (self._origin_s or 0.0) + (math.ceil(self._slot / FRAMES_PER_SEGMENT) - 1) * self._seconds
        piece = Piece(
            number=self._number,
            start_s=start_s,
            end_s=start_s + frames / self.fps,
            captured_s=arrival.captured_s,
            captured_wall_s=arrival.captured_wall_s,
            invalid=invalid or self._fault,
        )
        self._number += 1
        self._cut += 1
        self._expected_s = start_s + self._seconds
        self._fault = None
        return piece

    def _break(self, now_s: float) -> list[Place | Piece]:
        """Gives up the open piece, and lets the numbers jump over what is lost until ``now_s``."""
        first = self._origin_s is None and self._number == 0
        events: list[Place | Piece] = []
        if self.filled > 0 and self._last is not None:
            events.append(self._piece(self._last, self.filled, self._fault or "time_jump"))
        lost = math.floor((now_s - self._expected_s) / self._seconds + 0.5)
        self._number += 0 if first else max(lost, 0 if events else 1)
        self._fault = None
        return events
