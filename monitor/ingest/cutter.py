"""One camera's decoded frames → whole segments with their pictures: segment.py decides, picture.py draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from av.video.frame import VideoFrame

from monitor.flow import Pictures, Preprocessing
from monitor.ingest.camera import Decoded, ReaderSettings
from monitor.ingest.drift import Drift
from monitor.ingest.figures import CELLS
from monitor.ingest.freeze import Freeze
from monitor.ingest.picture import Scaler
from monitor.ingest.segment import Arrival, Piece, Place, Resume, Segmenter
from monitor.ingest.sight import Patience, Sight


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slot:
    """Where the pictures of one segment are drawn: (K, H, W, 3) uint8. ``index``: its place in shared memory."""

    pictures: Pictures
    index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cut:
    """A segment that is complete. ``slot`` is None where it is invalid, or ``lost`` because no slot was free."""

    piece: Piece
    slot: Slot | None
    lost: bool = False


class Cutter:
    """Cuts the frames of one camera. ``take_slot`` is asked once a segment, when its first picture is to be
    drawn; None: no slot is free and the segment is lost. Only the frames named in ``preprocessing.frames``
    are converted."""

    def __init__(
        self,
        settings: ReaderSettings,
        preprocessing: Preprocessing,
        take_slot: Callable[[], Slot | None],
        *,
        live: bool,
        resume: Resume | None = None,
    ) -> None:
        self._row_of = {frame: row for row, frame in enumerate(preprocessing.frames)}
        self._take_slot = take_slot
        self._scaler = Scaler(preprocessing, settings.ignore)
        self._freeze = Freeze(settings.frozen_after_s if live else None)
        wide = min(preprocessing.height_px, preprocessing.width_px) >= CELLS
        self.sight = Sight(settings.picture_after_s if live and wide else {})
        smeared_after_s = settings.picture_after_s.get("smeared") if live else None
        self._smear = None if smeared_after_s is None else Patience(smeared_after_s)
        self._looked_rows = {0, len(self._row_of) - 1}
        self.drift = Drift()
        self._live = live
        self.segmenter = Segmenter(fps=settings.fps, live=live, resume=resume)
        self._slot: Slot | None = None
        self._lost = False
        self._invalid: str | None = None
        self._before: VideoFrame | None = None

    @property
    def picture_faults(self) -> tuple[str, ...]:
        """What lasts (``PICTURE_FAULTS``)."""
        frozen = ("frozen",) if self._freeze.frozen else ()
        smeared = ("smeared",) if self._smear is not None and self._smear.lasts else ()
        return (*frozen, *smeared, *self.sight.faults)

    def interrupt(self, nominal_s: float | None) -> None:
        """The stream was opened (anew); ``nominal_s`` is the frame interval that it claims."""
        self.segmenter.interrupt(nominal_s)
        self._before = None
        self._freeze.forget()
        self.sight.forget_time()
        self.drift.begin()

    def push(self, decoded: Decoded, captured_s: float, captured_wall_s: float) -> Iterator[Cut]:
        arrival = Arrival(stamp_s=decoded.stamp_s, captured_s=captured_s, captured_wall_s=captured_wall_s)
        if self._live:
            self.drift.see(decoded.stamp_s, captured_s)
        events = self.segmenter.push(arrival, decoded.fault)
        if decoded.frame.key_frame:
            self._freeze.key()
        yield from self._follow(events, decoded.frame, captured_s)
        self._before = decoded.frame

    def finish(self) -> Iterator[Cut]:
        """The file is at its end."""
        if self._before is not None:
            yield from self._follow(self.segmenter.finish(), self._before, 0.0)
        self._before = None

    def give_up(self) -> Slot | None:
        """The slot of the open segment, which will not be completed."""
        slot, self._slot = self._slot, None
        return slot

    def _follow(self, events: list[Place | Piece], frame: VideoFrame, captured_s: float) -> Iterator[Cut]:
        for event in events:
            if isinstance(event, Piece):
                yield self._complete(event)
            elif event.index in self._row_of:
                shown = self._before if event.held and self._before is not None else frame
                self._draw(shown, self._row_of[event.index], captured_s)

    def _draw(self, frame: VideoFrame, row: int, captured_s: float) -> None:
        if self._lost or self.segmenter.open_fault is not None:
            return
        if self._slot is None:
            self._slot = self._take_slot()
            if self._slot is None:
                self._lost = True
                return
        self._scaler.draw(frame, self._slot.pictures[row])
        if self._freeze.see(self._slot.pictures[row], captured_s):
            self._invalid = "frozen"
        if self.sight.watches and row in self._looked_rows:
            # Its first and its last picture: a hand that comes while it lasts makes it unfit.
            picture = self._slot.pictures[row]
            ignored = self._scaler.ignored(frame, *picture.shape[:2])
            self._invalid = self.sight.see(picture, captured_s, ignored) or self._invalid

    def _complete(self, piece: Piece) -> Cut:
        if self._smear is not None and piece.invalid in (None, "decode_error"):
            self._smear.turn(piece.end_s - piece.start_s, shows=piece.invalid is not None)
        invalid = piece.invalid or self._invalid
        lost, slot = self._lost and invalid is None, None
        if invalid is None:
            # Only a segment whose pictures were all drawn takes its slot along; else the next
            # one draws over it.
            slot, self._slot = self._slot, None
        elif piece.invalid is None:
            piece = piece.because(invalid)
        self._lost, self._invalid = False, None
        return Cut(piece=piece, slot=slot, lost=lost)
