"""What travels between the monitor and its reader processes, and what both sides tell of a camera.

One duplex pipe a process; every message is one of the frozen classes below. ``life`` numbers one reader of
one camera in one process: what an ended life still says is not believed for the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from monitor.flow import Evidence, Preprocessing
from monitor.ingest.camera import ReaderSettings
from monitor.ingest.segment import Piece, Resume

Link = Literal["connecting", "up", "lost", "ended", "disabled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraHealth:
    """How a camera's reader fares. The counters are cumulative and never fall, over restarts of reader and
    process too."""

    link: Link = "connecting"
    fault: str | None = None
    """A sentence: why the link is lost, or what was wrong with a file."""
    width_px: int = 0
    height_px: int = 0
    codec: str = ""
    on_gpu: bool | None = None
    """Whether NVDEC decodes; None: it was not asked to."""
    without_gpu: str | None = None
    """Part of a sentence: why it does not."""
    source_fps: float = 0.0
    """Measured by time stamps, not the container's claim."""
    frames_decoded: int = 0
    segments: int = 0
    """Made and handed over, invalid ones not counted."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Whole segments lost, by reason: ``queue_full`` (the oldest waiting one), ``no_slot`` (all being
    scored)."""
    invalid: dict[str, int] = field(default_factory=dict)
    decode_errors: int = 0
    reconnects: int = 0
    """How often the stream came back after it was lost."""
    stalls: int = 0
    restarts: int = 0
    """How often its reader process was replaced."""
    suspected: int = 0
    """How often it is the likely cause of that."""
    last_frame_s: float | None = None
    """time.monotonic() of the last decoded frame."""
    picture_faults: tuple[str, ...] = ()
    """What is wrong with the picture, lasting: ``frozen`` and the kinds of sight.py."""
    picture_learnt: bool = False
    """Whether there is a reference that tells covered, blurred and moved."""
    drift_ppm: float | None = None
    """How much too fast the camera's time stamps run (below 0: too slow); None: too early to say."""
    lag_s: float | None = None
    """How much later frames come than they did at best since the stream was opened."""
    recorder_s: float = 0.0
    """Seconds of encoded packets held for evidence."""
    recorder_short: bool = False
    """The byte bound makes that less than evidence needs."""

    def after(self, former: CameraHealth) -> CameraHealth:
        """This health with the counters of former lives added."""
        return replace(
            self,
            last_frame_s=self.last_frame_s or former.last_frame_s,
            frames_decoded=self.frames_decoded + former.frames_decoded,
            segments=self.segments + former.segments,
            dropped=_sum(self.dropped, former.dropped),
            invalid=_sum(self.invalid, former.invalid),
            decode_errors=self.decode_errors + former.decode_errors,
            reconnects=self.reconnects + former.reconnects,
            stalls=self.stalls + former.stalls,
            restarts=self.restarts + former.restarts,
            suspected=self.suspected + former.suspected,
        )

    def without_counters(self) -> CameraHealth:
        """The same state, all counted from zero."""
        return replace(
            self,
            frames_decoded=0,
            segments=0,
            dropped={},
            invalid={},
            decode_errors=0,
            reconnects=0,
            stalls=0,
            restarts=0,
            suspected=0,
        )


def decoded_by(health: CameraHealth) -> str:
    """For people."""
    if health.on_gpu:
        return "NVDEC"
    return "CPU" if health.without_gpu is None else f"CPU: {health.without_gpu}"


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in sorted({*one, *other})}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRequest:
    """Save what camera ``camera`` showed. Times are ``captured_s`` (time.monotonic()); the paths are
    absolute."""

    token: str
    camera: str
    clip_path: Path
    snapshot_path: Path
    from_captured_s: float
    to_captured_s: float
    snapshot_captured_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceResult:
    """What became of a request: links relative to the evidence folder with their sha256, or a note why not."""

    token: str
    camera: str
    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """To a process, first: what holds for all its cameras."""

    preprocessing: Preprocessing
    slots: int
    live: bool
    recorder_s: float
    recorder_bytes: int
    audio: bool
    evidence_folder: Path
    niceness: int
    """By how much it gives way to the monitor where the cores do not suffice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Add:
    life: int
    settings: ReaderSettings
    mark: int
    """Which mark in the shared memory tells what this reader is doing."""
    slots: tuple[int, ...]
    resume: Resume | None


@dataclass(frozen=True, slots=True)
class Remove:
    life: int


@dataclass(frozen=True, slots=True)
class Free:
    """A slot is given back."""

    life: int
    slot: int


@dataclass(frozen=True, slots=True)
class Save:
    life: int
    request: EvidenceRequest


@dataclass(frozen=True, slots=True)
class Look:
    """Somebody wants to see this camera: the next frame that is well, as a small JPEG."""

    life: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End all readers, finish the evidence that is being written, and end."""


Order = Hello | Add | Remove | Free | Save | Look | Stop


@dataclass(frozen=True, slots=True)
class Ready:
    """A segment; ``slot`` is None where it is invalid. ``piece`` None: the file's end."""

    life: int
    piece: Piece
    slot: int | None
    last: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    life: int
    health: CameraHealth


@dataclass(frozen=True, slots=True)
class Gone:
    """The reader has ended; its mark and the slots that are not on the way are free."""

    life: int


@dataclass(frozen=True, slots=True)
class Saved:
    result: EvidenceResult


@dataclass(frozen=True, slots=True)
class Glanced:
    life: int
    jpeg: bytes
    captured_wall_s: float


@dataclass(frozen=True, slots=True)
class Beat:
    """The process lives, though nothing happens."""


Report = Ready | Health | Gone | Saved | Glanced | Beat
