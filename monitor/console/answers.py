"""The shapes of what the API takes and gives, for FastAPI's checks and the OpenAPI document.

pydantic, though only the settings have it elsewhere: what comes over the network is checked like what stands in a file.
All ``*_s`` that are times are seconds since 1970 (UTC); all others are durations.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Verdict = Literal["real", "false", "unsure"]
Category = Literal[
    "person_down", "fight", "intrusion", "fire_smoke", "machine", "spill", "vehicle",
    "animal", "light_weather", "normal_work", "camera_fault", "other"
]  # fmt: skip
Line = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]
Score = float | None


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LogIn(_Said):
    name: Annotated[str, StringConstraints(max_length=200)]
    password: Annotated[str, StringConstraints(max_length=1000)]


class Judgement(_Said):
    verdict: Verdict
    category: Category | None = None
    note: Line = ""


class Shelving(_Said):
    """``seconds`` 0 takes the camera off the shelf; a shelf ends by itself, after a day at the latest."""

    seconds: Annotated[int, Field(ge=0, le=86_400, strict=True)]
    reason: Line = ""


class Me(BaseModel):
    """``name`` None: nobody is logged in. ``open``: this console knows no users, everybody here is an operator."""

    name: str | None
    role: Literal["viewer", "operator"] | None
    open: bool
    site: str
    version: str
    pictures: bool


class Shelf(BaseModel):
    at_s: float
    until_s: float
    reason: str
    who: str


class Tile(BaseModel):
    """A camera as it is now. ``scores``: of the newest segments, the oldest first."""

    name: str
    status: str
    reason: str
    since_s: float
    mode: Literal["alert", "observe"]
    labels: dict[str, str]
    raise_at: Score
    clear_at: Score
    raised: bool
    would_raise: bool
    alert_id: str | None
    onset_s: float | None
    peak_score: Score
    shelf: Shelf | None
    acknowledged: bool
    scores: list[float]


class WallNow(BaseModel):
    site: str
    cameras: dict[str, Tile]


class CameraDetail(BaseModel):
    """``facts``: the picture's health; ``settings``: the effective ones, without any address' login or password."""

    camera: Tile
    facts: dict[str, str | float | int | bool | None]
    settings: dict[str, object]
    attention: list[float]


class Point(BaseModel):
    """``attention``: the highest of its segments, each by the bag that gave its score; 1 is that bag's mean."""

    at_s: float
    mean: Score
    lowest: Score
    highest: Score
    long_term: Score
    short_term: Score
    attention: float | None
    segments: int


class StatusChange(BaseModel):
    at_s: float
    status: str
    reason: str


class Curve(BaseModel):
    camera: str
    step_s: float
    points: list[Point]
    statuses: list[StatusChange]


class Said(BaseModel):
    at_s: float
    verdict: Verdict
    category: str | None
    note: str
    who: str


class Seen(BaseModel):
    at_s: float
    who: str


class EvidenceState(BaseModel):
    state: Literal["pending", "ready", "none"]
    clip: bool
    snapshot: bool
    note: str | None


class AlertNow(BaseModel):
    """``captured_s``: when the segment arrived that raised it; its clip ends the post-roll after that."""

    alert_id: str
    camera: str
    kind: Literal["raised", "updated", "ended"]
    reason: str
    raised_s: float
    captured_s: float
    ended_s: float | None
    onset_s: float
    score: Score
    peak_score: Score
    threshold: Score
    long_term: Score
    short_term: Score
    bridged: int
    labels: dict[str, str]
    evidence: EvidenceState
    verdict: Said | None
    acknowledged: Seen | None


class Weight(BaseModel):
    """How much the detector looked at one segment of a bag; ``at_s`` is None for a bridged one."""

    at_s: float | None
    weight: float


class Similar(BaseModel):
    """``likeness`` is the cosine of the bags' features, 1 for the same."""

    alert_id: str
    raised_s: float
    peak_score: Score
    verdict: Verdict | None
    likeness: float


class AlertDetail(AlertNow):
    verdicts: list[Said]
    attention: list[Weight]
    clip_ends_s: float
    newer: str | None
    older: str | None


class Counts(BaseModel):
    alerts: int
    real: int
    false: int
    unsure: int
    none: int


class CameraCounts(Counts):
    camera: str


class DayCounts(Counts):
    day: str


class ShelfOf(Shelf):
    camera: str


class Unseen(BaseModel):
    camera: str
    seconds: float


class Shift(BaseModel):
    from_s: float
    to_s: float
    alerts: list[AlertNow]
    cameras: list[CameraCounts]
    days: list[DayCounts]
    judged: int
    false_share: float | None
    mean_to_verdict_s: float | None
    shelves: list[ShelfOf]
    unseen: list[Unseen]


class CanaryNow(BaseModel):
    """``off``: not configured, or the artefact has none; ``waiting``: it has not run yet. ``reason`` says why it
    failed, ``latency_s`` how long the last run that passed took."""

    state: Literal["off", "waiting", "passed", "failed"]
    reason: str | None = None
    checked_s: float | None = None
    passed_s: float | None = None
    latency_s: float | None = None


class AuditRow(BaseModel):
    """Who did what. Further keys say more of it, like ``alert`` or ``verdict``."""

    model_config = ConfigDict(extra="allow")

    at: str
    what: str
    who: str | None
    address: str | None


class HistoryState(BaseModel):
    """``fault``: why nothing is kept just now; ``dropped``: rows given up since the start; ``unjudged``: alerts of the
    last day that nobody has judged, None where the history cannot tell."""

    fault: str | None
    dropped: int
    unjudged: int | None


class Problem(BaseModel):
    """Why not, in a sentence."""

    detail: str


class Done(BaseModel):
    done: Literal[True] = True
