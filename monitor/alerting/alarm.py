"""Scores → raised, updated, ended. Pure: no clock, no log, no file.

One camera has one ``Alarm``, calm or raised. ``step`` takes the next published score of that camera and says
what changed, if anything. ``at`` is the score's capture time in seconds on any clock that does not go back.

The rules, in the words of ``config.Thresholds``:

- calm → raised when the score has been at or above ``raise_at`` for ``min_duration_s`` without a score
  below it, and the last alarm ended at least ``cooldown_s`` ago;
- raised → calm when the score has been below ``clear_at`` for ``clear_after_s`` without a score at or above
  it;
- while raised, an update every ``update_every_s``.

A duration runs from the first score that crossed to the present one, so with 0 the first crossing score
decides. ``Thresholds`` promises ``clear_at <= raise_at``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from monitor.flow import AlertKind, BagScore, Floats

if TYPE_CHECKING:
    from monitor.config import Thresholds

ABOVE = "score above threshold"
STILL = "alarm still raised"
BELOW = "score below clear threshold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """The state of one camera. ``*_at`` and ``*_since`` are on the clock of ``step``'s ``at``, in seconds."""

    raised: bool = False
    peak: float = 0.0
    """Highest score since it was raised; 0 while calm."""
    above_since: float | None = None
    """Calm only: first of the present run of scores at or above raise_at."""
    below_since: float | None = None
    """Raised only: first of the present run of scores below clear_at."""
    told_at: float | None = None
    """Raised only: when it was last spoken of (raised or updated)."""
    ended_at: float | None = None
    """When the last alarm ended: the cool-down runs from here."""
    at: float | None = None
    """The newest score's time."""
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a score, or an end from outside, did to an alarm."""

    kind: AlertKind
    at: float
    score: float
    peak: float
    crossed_at: float | None
    """``raised`` only: the first score of the run that raised it."""
    reason: str


CALM = Alarm()


def step(alarm: Alarm, score: float, at: float, settings: Thresholds) -> tuple[Alarm, Change | None]:
    """The alarm after the next score, and what changed.

    Raises ValueError for a score outside [0, 1] (NaN too) and for a time before the alarm's last one: both
    are faults of the caller, and an alarm must not be decided on them.
    """
    if not 0.0 <= score <= 1.0:
        raise ValueError(f"a score must be in [0, 1] (got {score})")
    if not math.isfinite(at) or (alarm.at is not None and at < alarm.at):
        raise ValueError(f"scores must come in the order of their time (got {at} after {alarm.at})")
    alarm = replace(alarm, at=at, score=score)
    return _while_raised(alarm, score, at, settings) if alarm.raised else _while_calm(alarm, score, at, settings)


def _while_calm(alarm: Alarm, score: float, at: float, settings: Thresholds) -> tuple[Alarm, Change | None]:
    if score < settings.raise_at:
        return replace(alarm, above_since=None), None
    crossed_at = at if alarm.above_since is None else alarm.above_since
    cooling = alarm.ended_at is not None and at - alarm.ended_at < settings.cooldown_s
    if cooling or at - crossed_at < settings.min_duration_s:
        return replace(alarm, above_since=crossed_at), None
    raised = replace(alarm, raised=True, peak=score, above_since=None, below_since=None, told_at=at)
    return raised, Change(kind=AlertKind.RAISED, at=at, score=score, peak=score, crossed_at=crossed_at, reason=ABOVE)


def _while_raised(alarm: Alarm, score: float, at: float, settings: Thresholds) -> tuple[Alarm, Change | None]:
    alarm = replace(alarm, peak=max(alarm.peak, score))
    below_since = alarm.below_since
    if score >= settings.clear_at:
        below_since = None
    elif below_since is None:
        below_since = at
    if below_since is not None and at - below_since >= settings.clear_after_s:
        return end(alarm, at, BELOW)
    alarm = replace(alarm, below_since=below_since)
    if alarm.told_at is not None and at - alarm.told_at < settings.update_every_s:
        return alarm, None
    change = Change(kind=AlertKind.UPDATED, at=at, score=score, peak=alarm.peak, crossed_at=None, reason=STILL)
    return replace(alarm, told_at=at), change


def end(alarm: Alarm, at: float, reason: str) -> tuple[Alarm, Change | None]:
    """Ends the alarm for a reason of its own or from outside (camera lost, disarmed …); calm stays calm.

    What was on its way to an alarm is forgotten too. ``at`` before the last score counts as the last
    score's time.
    """
    at = at if alarm.at is None else max(at, alarm.at)
    if not alarm.raised:
        return replace(alarm, above_since=None), None
    change = Change(
        kind=AlertKind.ENDED, at=at, score=alarm.score or 0.0, peak=alarm.peak, crossed_at=None, reason=reason
    )
    return Alarm(ended_at=at, at=at, score=alarm.score), change


def localised(bag: BagScore) -> Floats:
    """(N,) float32 in [0, 1]: eq. 3, with the long-term part given to the segments by attention.

    The long-term detector has one score for the whole bag, so ``scores_N`` cannot say where in the bag the
    incident lies. Its attention can: segment i gets ``(long_i · a_i / max a + short_i) / 2``. Where the
    attention is flat this is ``scores_N`` itself.
    """
    top = float(bag.attention_N.max(initial=0.0))
    share_N = bag.attention_N / top if top > 0 and math.isfinite(top) else np.ones_like(bag.attention_N)
    return np.asarray((bag.long_term_N * share_N + bag.short_term_N) / 2, dtype=np.float32)


def onset(bag: BagScore, crossed: int, settings: Thresholds, not_before: float | None = None) -> int:
    """Index (into the bag's N segments) at which the incident is estimated to have begun.

    Walks back from ``crossed``, the index of the crossing segment, while ``localised`` stays at or above
    half of ``clear_at``. The half, because onsets are gradual: what is over ``clear_at`` would already be
    an alarm, and the attention weighting pulls down what lies far from the incident. Bridged segments are
    walked over and never the answer; neither is one captured at or before ``not_before`` (the end of the
    alarm before). The answer is never after the crossing and never before the bag: an incident that began
    earlier began at least then.
    """
    local_N = localised(bag)
    floor = settings.clear_at / 2
    found = crossed
    for index in range(crossed - 1, -1, -1):
        times = bag.times[index]
        if times is None:
            continue
        if local_N[index] < floor or (not_before is not None and times.captured_s <= not_before):
            break
        found = index
    return found


def most_attended(bag: BagScore) -> int | None:
    """Index of the segment the attention weighs most, bridged ones left out; None for a bag with no
    segment."""
    real = [index for index, times in enumerate(bag.times) if times is not None]
    return max(real, key=lambda index: float(bag.attention_N[index]), default=None)
