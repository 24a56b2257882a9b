"""What flows through the monitor, from a decoded frame to an alert.

Everything here is frozen, says its units in its names, and depends on nothing but NumPy.

Times: ``*_s`` are seconds. ``pts_s``, ``start_s`` and ``end_s`` are stream time (0 = the stream's first
analysed frame). ``captured_s`` is ``time.monotonic()`` (one clock for all processes of a machine) and
``captured_wall_s`` is ``time.time()``, both taken when the last packet of the thing arrived; cameras'
own clocks are not trusted.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FRAMES_PER_SEGMENT = 16
"""The paper, section 1: 16 consecutive frames make a segment."""

PICTURE_FAULTS = ("frozen", "black", "covered", "smeared", "blurred", "moved")
"""What may be wrong with a camera's picture, the worst first."""
UNFIT_PICTURES = frozenset({"frozen", "black", "covered", "smeared"})
"""Pictures that are not scored: what a detector would say of them says nothing of the place."""

Pictures = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How a backbone wants its frames; the readers and the training code obey the same one.

    ``fit``: ``stretch`` scales the whole picture to height x width; ``crop`` scales the short side to
    ``short_side_px`` and takes the centre. Scaling is sws AREA everywhere: it is part of the model.
    ``frames``: which of the 16 frames of a segment are converted and handed over, ascending.
    """

    height_px: int
    width_px: int
    fit: Literal["stretch", "crop"]
    short_side_px: int | None = None
    frames: tuple[int, ...] = tuple(range(FRAMES_PER_SEGMENT))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(K, H, W, 3) of a segment's pictures."""
        return (len(self.frames), self.height_px, self.width_px, 3)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One analysed frame. ``picture`` is (H, W, 3) uint8 RGB, or None where the backbone does not look."""

    picture: Pictures | None
    pts_s: float
    captured_s: float
    captured_wall_s: float
    fault: str | None = None
    """Why this frame must not be analysed as if it were real: ``decode_error``, ``frozen`` …"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment:
    """16 consecutive analysed frames of one camera; encoded or dropped, whole.

    ``number`` counts up for the life of the camera, over reconnects too: a jump says how many segments
    were lost between. ``pictures`` is (K, H, W, 3) uint8 RGB with K = len(Preprocessing.frames), a view of
    a shared slot that is only valid until it is released; None for an invalid segment.
    """

    camera: str
    number: int
    start_s: float
    end_s: float
    captured_s: float
    captured_wall_s: float
    pictures: Pictures | None
    invalid: str | None = None
    """None, or why it is not scored as if it were real: ``decode_error``, ``frozen``, ``time_jump`` …"""
    last: bool = False
    """True for the closing mark of a file (``pictures`` None, ``invalid`` None): the stream ends here."""
    slot: int | None = None
    """Where its pictures lie in shared memory; whoever took the segment gives the slot back."""
    owner: int = 0
    """Which reader process owns the slot, and in which generation: set by the pool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentTimes:
    """What is kept of a segment after its pictures are gone."""

    number: int
    start_s: float
    end_s: float
    captured_s: float
    captured_wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BagScore:
    """The scores of one bag of one camera (eq. 3). N = number of segments in the bag (l, or fewer at a file's end).

    ``scores_N`` is the mean of the detectors' segment scores; ``long_term_N`` and ``short_term_N`` are its parts
    (Video Classifier repeated over the bag; Bi-LSTM+MIL), each float32 in [0, 1]. ``attention_N`` sums to 1 and
    says where the long-term detector looked. ``times`` are the N segments, oldest first; a bridged one is None.
    ``published`` are the indices (into N) whose scores are made public now; each segment is so exactly once,
    and a bridged one never.
    """

    camera: str
    times: tuple[SegmentTimes | None, ...]
    scores_N: Floats
    long_term_N: Floats
    short_term_N: Floats
    attention_N: Floats
    bridged: int
    published: tuple[int, ...]
    scored_s: float
    """time.monotonic() when the bag's scores were ready."""
    last: bool = False
    """True for the bag that closes a file."""
    feature_D: npt.NDArray[np.float16] | None = None
    """The standardised features' mean, weighted by the attention: to find bags that are alike."""


class AlertKind(enum.StrEnum):
    RAISED = "raised"
    UPDATED = "updated"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Where an alert's proof lies. Links are relative to the evidence folder; sha256 are of whole files."""

    clip: str | None = None
    clip_sha256: str | None = None
    snapshot: str | None = None
    snapshot_sha256: str | None = None
    snapshot_wall_s: float | None = None
    """Capture time of the segment whose last frame the snapshot is."""
    note: str | None = None
    """Why something is missing or shorter than asked for, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A message about an alarm. ``alert_id`` is the same from raised to ended, ``seq`` counts from 1 within it.

    All ``*_wall_s`` are seconds since 1970 (UTC). ``onset_wall_s`` is the estimated beginning of the incident,
    ``captured_wall_s`` the capture time of the segment that caused this message, ``decided_wall_s`` when the
    monitor decided. The publish time is added when the message is handed to the broker.
    """

    alert_id: str
    seq: int
    kind: AlertKind
    site: str
    camera: str
    score: float
    peak_score: float
    threshold: float
    long_term: float
    short_term: float
    bridged: int
    onset_wall_s: float
    captured_wall_s: float
    decided_wall_s: float
    reason: str
    """Why: ``score above threshold``, ``score below clear threshold``, ``camera removed``, ``monitor restarted`` …"""
    evidence: Evidence = field(default_factory=Evidence)
    labels: tuple[tuple[str, str], ...] = ()
    incident_id: str | None = None
    """The incident that this alarm is a member of, from the moment it is."""
    extra: dict[str, Any] = field(default_factory=dict)


class CameraStatus(enum.StrEnum):
    """What a camera's silence means. Only ``ok`` means calm."""

    CONNECTING = "connecting"
    LEARNING = "learning"
    """Frames come, but fewer than l segments have."""
    OK = "ok"
    DEGRADED = "degraded"
    """Scored, but not all of what happens: the reason says why."""
    LOST = "lost"
    DISARMED = "disarmed"
    DISABLED = "disabled"
