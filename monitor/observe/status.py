"""What a camera's silence means: facts → (status, reason), and the plant's summary (pure).

| the first that holds, from above | status |
|---|---|
| switched off in the configuration | disabled |
| outside its armed hours, or in a maintenance window | disarmed; a lost stream is named in the reason |
| the stream is lost, has ended, or could not be opened | lost |
| the stream is being opened for the first time | connecting |
| the picture is unfit (frozen, black …), more than 5 % of the latest segments are, or no bag ever is whole | degraded |
| fewer than l segments are in the ring, or none has come since the stream came back | learning |
| less than 95 % of the last five minutes were scored, or clips will be too short | degraded |
| none of these | ok |

A bad picture comes before learning because nothing is learnt from it. Where several things degrade a camera,
the reason names them all. Reasons are sentences for an operator that follow ``camera 'gate': ``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from monitor.flow import PICTURE_FAULTS, UNFIT_PICTURES, CameraStatus
from monitor.observe.picture import WORDS

SCORED_ENOUGH = 0.95
INVALID_TOO_MUCH = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that decides a camera's status. Sentences are those of who found the fact out."""

    enabled: bool = True
    armed: bool = True
    disarmed_because: str | None = None
    publishes_alerts: bool = True
    """False in ``mode: observe``."""
    link: Literal["connecting", "up", "lost", "ended", "disabled"] = "up"
    fault: str | None = None
    """Why the stream is lost, in a sentence, until it is up again."""
    picture_faults: tuple[str, ...] = ()
    """``frozen`` … (monitor/observe/picture.py)"""
    drift_ppm: float | None = None
    drift_limit_ppm: float | None = None
    segments_held: int
    """In the ring."""
    segments_needed: int
    """l."""
    awaited: bool = False
    """The stream is up again, and nothing of it has reached the ring, which still holds what was before."""
    scored_ratio: float | None = None
    """Over the last five minutes; None: too early to say."""
    invalid_share: float | None = None
    """Of the last five minutes' segments; None: too early to say."""
    invalid_reason: str | None = None
    """The latest: ``decode_error`` …"""
    barren: bool = False
    """Frames have come for several bags' time, and not one bag has become whole."""
    recorder_short: bool = False
    recorder_s: float | None = None
    """Seconds of stream that are kept for clips."""


def camera_status(facts: Facts) -> tuple[CameraStatus, str]:
    """The status by the table above, and why."""
    lost = _lost(facts)
    if not facts.enabled or facts.link == "disabled":
        return CameraStatus.DISABLED, "switched off in the configuration (enabled: false)"
    if not facts.armed:
        because = facts.disarmed_because or "outside its armed hours"
        return CameraStatus.DISARMED, because if lost is None else f"{because}; besides, {lost}"
    if lost is not None:
        return CameraStatus.LOST, lost
    if facts.link == "connecting":
        return CameraStatus.CONNECTING, "the stream is being opened"
    learning = facts.awaited or facts.segments_held < facts.segments_needed
    picture = (*_picture_faults(facts), *(_barren(facts) if learning and facts.barren else ()))
    if picture or not learning:
        degraded = (*picture, *(() if learning else _scoring_faults(facts)))
        if degraded:
            return CameraStatus.DEGRADED, "; ".join((*degraded, *_beside(facts)))
    if learning:
        missing = facts.segments_needed - facts.segments_held
        seen = (
            "the stream is back; its first segment has not come yet"
            if facts.awaited
            else f"{facts.segments_held} of {facts.segments_needed} segments seen; scored after {missing} more"
        )
        return CameraStatus.LEARNING, "; ".join((seen, *_beside(facts)))
    if not facts.publishes_alerts:
        return CameraStatus.OK, "; ".join(
            ("watched and scored; in mode observe no alert is published", *_beside(facts))
        )
    return CameraStatus.OK, "; ".join(("watched and scored", *_beside(facts)))


def _lost(facts: Facts) -> str | None:
    if facts.link == "lost":
        return facts.fault or "the stream is lost and will be opened again"
    if facts.link == "ended":
        return facts.fault or "the recording has ended; nothing more will be scored"
    # A camera that tries again after a fault is still lost: its status must not flap with each try.
    return facts.fault if facts.link == "connecting" else None


def _picture_faults(facts: Facts) -> Iterable[str]:
    for kind in PICTURE_FAULTS:
        if kind in facts.picture_faults and kind in UNFIT_PICTURES:
            yield "; ".join(WORDS[kind])
    if facts.invalid_share is not None and facts.invalid_share > INVALID_TOO_MUCH:
        reason = f" ({facts.invalid_reason})" if facts.invalid_reason else ""
        percent = math.ceil(100 * facts.invalid_share - 1e-6)
        yield f"{percent} % of the segments of five minutes were unusable{reason}; look at camera and network"


def _beside(facts: Facts) -> Iterable[str]:
    """What somebody should mend though everything is scored."""
    for kind in PICTURE_FAULTS:
        if kind in facts.picture_faults and kind not in UNFIT_PICTURES:
            yield ", ".join(WORDS[kind])
    ppm, limit_ppm = facts.drift_ppm, facts.drift_limit_ppm
    if ppm is not None and limit_ppm is not None and abs(ppm) > limit_ppm:
        # One figure: the sentence must not change with each look.
        per_hour_s = float(f"{abs(ppm) * 3600 / 1e6:.1g}")
        word = "fast" if ppm > 0 else "slow, or its stream falls behind,"
        yield f"its clock runs {word} by about {per_hour_s:g} s an hour: set it by NTP"


def _barren(facts: Facts) -> Iterable[str]:
    reason = f" ({facts.invalid_reason})" if facts.invalid_reason else ""
    yield (
        f"nothing is scored: frames come, but never {facts.segments_needed} usable segments close enough together"
        f"{reason}; look at camera and network"
    )


def _scoring_faults(facts: Facts) -> Iterable[str]:
    if facts.scored_ratio is not None and facts.scored_ratio < SCORED_ENOUGH:
        yield f"only {math.floor(100 * facts.scored_ratio + 1e-6)} % of the last five minutes were scored"
    if facts.recorder_short:
        held = "" if facts.recorder_s is None else f": {facts.recorder_s:.0f} s of stream are kept"
        yield f"clips will begin late{held}; raise evidence.memory_mb or lower the camera's bit rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantSummary:
    """How many cameras have each status (every status is there), and that in a sentence."""

    cameras: int
    counts: dict[CameraStatus, int]
    sentence: str


_SHOWN_ORDER = (
    CameraStatus.OK,
    CameraStatus.DEGRADED,
    CameraStatus.LOST,
    CameraStatus.LEARNING,
    CameraStatus.CONNECTING,
    CameraStatus.DISARMED,
    CameraStatus.DISABLED,
)


def plant_summary(statuses: Iterable[CameraStatus]) -> PlantSummary:
    """``8 cameras: 6 ok, 1 degraded, 1 lost``."""
    counts = dict.fromkeys(_SHOWN_ORDER, 0)
    for status in statuses:
        counts[status] += 1
    cameras = sum(counts.values())
    shown = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    noun = "camera" if cameras == 1 else "cameras"
    return PlantSummary(
        cameras=cameras, counts=counts, sentence=f"{cameras} {noun}: {shown}" if cameras else "no cameras"
    )
