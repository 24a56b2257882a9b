"""What the monitor knows of each camera at this moment: status, figures, newest scores."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from monitor.alerting.contract import AlarmState, iso
from monitor.config import Camera, Thresholds
from monitor.flow import FRAMES_PER_SEGMENT, PICTURE_FAULTS, BagScore, CameraStatus
from monitor.ingest.wire import CameraHealth
from monitor.observe.picture import PictureState, picture_state
from monitor.observe.scored import InvalidShare, Tally
from monitor.observe.series import VERDICTS, CameraFigures
from monitor.observe.status import Facts, camera_status
from monitor.scoring.rings import BagSettings, Progress

SCORING_SLACK_S = 2.0
"""What decoding, batching and scoring may take before a late score counts as a missing one."""
BARREN_BAGS = 3.0
BARREN_LEAST_S = 20.0
"""A camera whose frames have come for so many bags' time, and for no less than this, without one whole bag is not
learning: it will never be watched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A camera's status and since when it has it (wall time)."""

    status: CameraStatus
    reason: str
    since_wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSeen:
    """How a camera's picture is and since when it has this state (wall time)."""

    now: PictureState
    since_wall_s: float


@dataclass(slots=True)
class _Watched:
    camera: Camera
    thresholds: Thresholds
    tally: Tally
    invalid: InvalidShare
    seen: Seen
    health: CameraHealth | None = None
    picture: PictureSeen | None = None
    looked_s: float | None = None
    """When it was last looked at, if its stream was up then."""
    at_loss: Progress | None = None
    """How far its ring was when the stream was last not up; None: it was empty, or something has come since."""
    barren_s: float = 0.0
    """How long frames have come since the ring was last full."""
    invalid_then: Mapping[str, int] = field(default_factory=dict)
    invalid_reason: str | None = None
    """Of the latest invalid segment."""
    verdicts: Counter[str] = field(default_factory=Counter)
    told: bool = False
    """Whether ``look`` has returned it: what a former life told may still be shown somewhere."""


class Watch:
    """All cameras of the plant. ``add`` runs in the scorer's thread, everything else on the event loop."""

    def __init__(
        self,
        bags: BagSettings,
        fps: float,
        thresholds: Thresholds,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._bags, self._fps, self._thresholds = bags, fps, thresholds
        self._clock, self._wall = clock, wall
        self._watched: dict[str, _Watched] = {}
        self._states: Mapping[str, AlarmState] = {}
        self._by_command: dict[str, tuple[float, str]] = {}
        """Disarmed until (on the monotonic clock: a clock that is set must not make it longer), and why."""

    def configure(self, cameras: Iterable[Camera], anew: Iterable[str] = ()) -> None:
        """The cameras of the present configuration. The ratio of those in ``anew``, which are read anew, begins
        again; their counters go on. A camera that is new, or was switched on or off, begins with nothing known."""
        anew = set(anew)
        old = self._watched
        self._watched = {
            camera.name: self._begin(camera, old.get(camera.name), anew=camera.name in anew) for camera in cameras
        }
        self._by_command = {name: kept for name, kept in self._by_command.items() if name in self._watched}

    def disarm(self, name: str, for_s: float, reason: str) -> tuple[float, str]:
        """For so long, whatever the schedule says. When it ends, on the wall clock, and the status' reason."""
        until_wall_s = self._wall() + for_s
        sentence = f"disarmed by command until {iso(until_wall_s)}: {reason}"
        self._by_command[name] = (self._clock() + for_s, sentence)
        return until_wall_s, sentence

    def arm(self, name: str) -> tuple[bool, str]:
        """Ends that; what the schedule says then."""
        self._by_command.pop(name, None)
        return self._armed(self._watched[name].camera)

    def _armed(self, camera: Camera) -> tuple[bool, str]:
        until_s, sentence = self._by_command.get(camera.name, (-math.inf, ""))
        if self._clock() < until_s:
            return False, sentence
        self._by_command.pop(camera.name, None)
        return camera.is_armed(datetime.fromtimestamp(self._wall(), UTC))

    def _begin(self, camera: Camera, old: _Watched | None, *, anew: bool) -> _Watched:
        thresholds = camera.thresholds or self._thresholds
        segment_s = FRAMES_PER_SEGMENT / (camera.fps or self._fps)
        lag_s = (self._bags.delay + self._bags.stride) * segment_s + SCORING_SLACK_S
        if old is not None and old.camera.enabled == camera.enabled:
            old.camera, old.thresholds = camera, thresholds
            if anew:
                old.tally.begin_again(self._clock(), lag_s)
                old.barren_s, old.invalid_reason = 0.0, None
            return old
        status, reason = (
            (CameraStatus.CONNECTING, "the stream is being opened")
            if camera.enabled
            else (CameraStatus.DISABLED, "switched off in the configuration (enabled: false)")
        )
        return _Watched(
            camera=camera,
            thresholds=thresholds,
            tally=Tally(self._clock(), lag_s),
            invalid=InvalidShare(),
            seen=Seen(status=status, reason=reason, since_wall_s=self._wall()),
        )

    def add(self, bag: BagScore) -> None:
        """The scores of one bag."""
        watched = self._watched.get(bag.camera)
        if watched is not None:
            watched.tally.add(bag)

    def look(
        self,
        health: Mapping[str, CameraHealth],
        progress: Mapping[str, Progress],
        states: Mapping[str, AlarmState],
    ) -> dict[str, Seen]:
        """Takes in how everything stands; returns the cameras whose status or its reason changed, and those
        that no look has returned yet."""
        self._states = states
        changed: dict[str, Seen] = {}
        for name, watched in self._watched.items():
            watched.health = health.get(name)
            status, reason = camera_status(self._facts(watched, progress.get(name, Progress())))
            if watched.told and (status, reason) == (watched.seen.status, watched.seen.reason):
                continue
            watched.told = True
            since_wall_s = watched.seen.since_wall_s if status is watched.seen.status else self._wall()
            watched.seen = Seen(status=status, reason=reason, since_wall_s=since_wall_s)
            changed[name] = watched.seen
        return changed

    def pictures(self) -> dict[str, PictureSeen]:
        """The cameras whose picture's state changed since this was asked last, and those it was not asked of yet."""
        changed: dict[str, PictureSeen] = {}
        for name, watched in self._watched.items():
            now, before = _picture(watched), watched.picture
            if before is not None and before.now == now:
                continue
            same = before is not None and before.now.state == now.state
            since_wall_s = before.since_wall_s if before is not None and same else self._wall()
            changed[name] = watched.picture = PictureSeen(now=now, since_wall_s=since_wall_s)
        return changed

    def picture(self, name: str) -> PictureSeen | None:
        """As ``pictures`` last told it."""
        watched = self._watched.get(name)
        return None if watched is None else watched.picture

    def _facts(self, watched: _Watched, progress: Progress) -> Facts:
        camera, health, now_s = watched.camera, watched.health, self._clock()
        armed, because = self._armed(camera)
        if health is None:
            return Facts(
                enabled=camera.enabled,
                armed=armed,
                disarmed_because=because,
                link="connecting",
                segments_held=0,
                segments_needed=self._bags.length,
            )
        watched.invalid.add(now_s, _made(health), sum(health.invalid.values()))
        self._note(watched, health, progress, now_s)
        return Facts(
            enabled=camera.enabled,
            armed=armed,
            disarmed_because=because,
            publishes_alerts=camera.mode == "alert",
            link=health.link,
            fault=health.fault,
            picture_faults=health.picture_faults,
            drift_ppm=health.drift_ppm,
            drift_limit_ppm=camera.drift_limit_ppm,
            segments_held=progress.filled,
            segments_needed=self._bags.length,
            awaited=watched.at_loss is not None,
            scored_ratio=watched.tally.recent(now_s),
            invalid_share=watched.invalid.recent(),
            invalid_reason=watched.invalid_reason,
            barren=watched.barren_s > self._barren_limit_s(camera),
            recorder_short=health.recorder_short,
            recorder_s=health.recorder_s,
        )

    def _note(self, watched: _Watched, health: CameraHealth, progress: Progress, now_s: float) -> None:
        """What is new since the last look."""
        if progress.filled >= self._bags.length:
            watched.barren_s = 0.0
        elif watched.looked_s is not None and health.link == "up":  # an outage counts for nothing
            watched.barren_s += now_s - watched.looked_s
        watched.looked_s = now_s if health.link == "up" else None
        if health.link != "up":
            watched.at_loss = progress if progress.filled else None
        elif progress != watched.at_loss:
            watched.at_loss = None
        more = {reason: count - watched.invalid_then.get(reason, 0) for reason, count in health.invalid.items()}
        watched.invalid_reason = max(
            (r for r in more if more[r] > 0), key=lambda r: more[r], default=watched.invalid_reason
        )
        watched.invalid_then = dict(health.invalid)

    def _barren_limit_s(self, camera: Camera) -> float:
        bag_s = self._bags.length * FRAMES_PER_SEGMENT / (camera.fps or self._fps)
        return max(BARREN_BAGS * bag_s, BARREN_LEAST_S)

    def judged(self, name: str, verdict: str) -> None:
        """A person's verdict on an alert of the camera; one that is gone counts no more."""
        if name in self._watched:
            self._watched[name].verdicts[verdict] += 1

    def seen(self) -> dict[str, Seen]:
        return {name: watched.seen for name, watched in self._watched.items()}

    def figures(self) -> list[CameraFigures]:
        """What the metrics say of each camera; any thread."""
        return [self._figures(name, watched) for name, watched in tuple(self._watched.items())]

    def _figures(self, name: str, watched: _Watched) -> CameraFigures:
        health, tally, state = watched.health, watched.tally, self._states.get(name)
        figures = CameraFigures(
            camera=name,
            status=watched.seen.status,
            up=health is not None and health.link == "up",
            segments_scored=tally.scored,
            segments_bridged=tally.bridged,
            score=tally.score,
            long_term=tally.long_term,
            short_term=tally.short_term,
            raise_at=watched.thresholds.raise_at,
            clear_at=watched.thresholds.clear_at,
            alarms=0 if state is None else state.alarms,
            alarm_raised=state is not None and state.raised,
            verdicts={verdict: watched.verdicts[verdict] for verdict in VERDICTS},
            scored_ratio=tally.since_start(self._clock()),
        )
        return figures if health is None else _with_health(figures, health, self._wall() - self._clock())


def _picture(watched: _Watched) -> PictureState:
    health = watched.health
    if not watched.camera.enabled:
        return picture_state("disabled", (), learnt=False)
    if health is None:
        return picture_state("connecting", (), learnt=False)
    return picture_state(health.link, health.picture_faults, learnt=health.picture_learnt)


def _with_health(figures: CameraFigures, health: CameraHealth, wall_offset_s: float) -> CameraFigures:
    last_s = health.last_frame_s
    return replace(
        figures,
        frames_decoded=health.frames_decoded,
        segments=_made(health),
        segments_dropped=health.dropped,
        segments_invalid=health.invalid,
        decode_errors=health.decode_errors,
        reconnects=health.reconnects,
        stalls=health.stalls,
        last_frame_wall_s=None if last_s is None else last_s + wall_offset_s,
        evidence_held_s=health.recorder_s,
        picture={kind: int(health.link == "up" and kind in health.picture_faults) for kind in PICTURE_FAULTS},
        drift_ppm=health.drift_ppm,
        lag_s=health.lag_s,
    )


def _made(health: CameraHealth) -> int:
    """Every segment the camera's stream made: handed over, invalid, or dropped for want of a slot."""
    return health.segments + sum(health.invalid.values()) + health.dropped.get("no_slot", 0)
