"""The measures of a test set with frame truth: how well, how sure, how soon, and at what price in false alarms.

V videos, N segments of a video, F frames of a video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from sklearn import metrics

from training import evaluate
from training.evaluate import Interval

Scores = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """One test video: the truth of its frames and their scores (a segment's score on each of its frames)."""

    id: str
    label: int
    """Of the video."""
    truth_F: npt.NDArray[np.uint8]
    scores_F: Scores
    kind: str | None = None
    """Its class of anomaly."""

    def __post_init__(self) -> None:
        if len(self.truth_F) != len(self.scores_F):
            raise ValueError(f"{self.id}: {len(self.truth_F)} frames of truth, {len(self.scores_F)} of scores")

    @cached_property
    def counted(self) -> tuple[Scores, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Its different scores, and how many abnormal and normal frames have each."""
        values, place = np.unique(self.scores_F, return_inverse=True)
        abnormal = np.bincount(place, weights=self.truth_F, minlength=len(values)).astype(np.int64)
        return values, abnormal, np.bincount(place, minlength=len(values)) - abnormal


def frames(judged: Sequence[Judged]) -> tuple[npt.NDArray[np.uint8], Scores]:
    """All frames of all videos: truth and scores."""
    return np.concatenate([video.truth_F for video in judged]), np.concatenate([video.scores_F for video in judged])


def frame_auc(judged: Sequence[Judged]) -> float:
    """ROC AUC over all frames of all videos: the headline of UCF-Crime and ShanghaiTech."""
    return evaluate.roc_auc(*frames(judged))


def frame_ap(judged: Sequence[Judged]) -> float:
    """Average precision over all frames: the headline of XD-Violence."""
    return evaluate.average_precision(*frames(judged))


def trapezoid_ap(judged: Sequence[Judged]) -> float:
    """Area under the precision-recall curve by trapezoids, as much published code has it; optimistic with many ties."""
    precision, recall, _ = metrics.precision_recall_curve(*frames(judged))
    return float(metrics.auc(recall, precision))


def abnormal_auc(judged: Sequence[Judged]) -> float:
    """ROC AUC over the frames of abnormal videos alone: a perfect video-level classifier has 0.5 here."""
    return frame_auc([video for video in judged if video.label == 1])


def false_alarm_rate(judged: Sequence[Judged], threshold: float = 0.5) -> float:
    """Share of the frames of normal videos with a score of ``threshold`` or more."""
    normal = [video for video in judged if video.label == 0]
    if not normal:
        return float("nan")
    return float((np.concatenate([video.scores_F for video in normal]) >= threshold).mean())


def video_level(judged: Sequence[Judged]) -> float:
    """Frame AUC that a perfect video-level classifier would have: what a headline number hides."""
    truth = np.concatenate([video.truth_F for video in judged])
    return evaluate.roc_auc(truth, np.concatenate([np.full(len(v.truth_F), float(v.label)) for v in judged]))


def runs(marks_F: npt.NDArray[np.bool_] | npt.NDArray[np.uint8]) -> list[tuple[int, int]]:
    """(first, end) of each run of ones."""
    padded = np.concatenate([[0], np.asarray(marks_F, dtype=np.int8), [0]])
    edges = np.flatnonzero(np.diff(padded))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def alarms_per_hour(judged: Sequence[Judged], threshold: float, fps: float) -> float:
    """Runs of scores at or above the threshold that hold no abnormal frame, an hour of normal frames."""
    false, normal = 0, 0
    for video in judged:
        false += sum(not video.truth_F[a:b].any() for a, b in runs(video.scores_F >= threshold))
        normal += int((video.truth_F == 0).sum())
    return false / (normal / fps / 3600) if normal else float("nan")


def time_to_detect_s(judged: Sequence[Judged], threshold: float, fps: float) -> tuple[float, float]:
    """(median seconds from an event's first frame to its first crossing of the threshold, share of events found)."""
    waits: list[float] = []
    events = 0
    for video in judged:
        for first, end in runs(video.truth_F):
            events += 1
            crossed = np.flatnonzero(video.scores_F[first:end] >= threshold)
            if len(crossed):
                waits.append(float(crossed[0]) / fps)
    return (float(np.median(waits)) if waits else float("nan"), len(waits) / events if events else float("nan"))


def event_f1(judged: Sequence[Judged], threshold: float, iou: float = 0.3) -> float:
    """F1 of events: a run of scores at or above the threshold matches one true run with this IoU, best pairs first."""
    matched = found = there = 0
    for video in judged:
        events, alarms = runs(video.truth_F), runs(video.scores_F >= threshold)
        there, found = there + len(events), found + len(alarms)
        pairs = sorted(
            ((_iou(event, alarm), e, a) for e, event in enumerate(events) for a, alarm in enumerate(alarms)),
            reverse=True,
        )
        taken: set[tuple[str, int]] = set()
        for overlap, e, a in pairs:
            if overlap >= iou and not {("event", e), ("alarm", a)} & taken:
                taken |= {("event", e), ("alarm", a)}
                matched += 1
    return 2 * matched / (there + found) if there + found else float("nan")


def _iou(one: tuple[int, int], other: tuple[int, int]) -> float:
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return max(0, shared) / (one[1] - one[0] + other[1] - other[0] - shared) if shared > 0 else 0.0


def counted_auc(values: Scores, abnormal: npt.NDArray[np.int64], normal: npt.NDArray[np.int64]) -> float:
    """ROC AUC of frames given as counts a score; equal to ``frame_auc``, and fast enough for a bootstrap."""
    if abnormal.sum() == 0 or normal.sum() == 0:
        raise ValueError("a ROC curve needs both classes")
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(values[order]) > 0]))
    of_score = np.add.reduceat(abnormal[order], starts), np.add.reduceat(normal[order], starts)
    below = np.cumsum(of_score[1]) - of_score[1]
    return float((of_score[0] * (below + of_score[1] / 2)).sum() / (float(abnormal.sum()) * float(normal.sum())))


def counted_ap(values: Scores, abnormal: npt.NDArray[np.int64], normal: npt.NDArray[np.int64]) -> float:
    """Average precision of frames given as counts a score; equal to ``frame_ap``."""
    if abnormal.sum() == 0:
        raise ValueError("average precision needs abnormal frames")
    order = np.argsort(-values, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(-values[order]) > 0]))
    found = np.cumsum(np.add.reduceat(abnormal[order], starts)).astype(np.float64)
    alarms = np.cumsum(np.add.reduceat((abnormal + normal)[order], starts)).astype(np.float64)
    steps = np.diff(np.concatenate([[0.0], found])) / found[-1]
    return float((steps * found / alarms).sum())


def interval(judged: Sequence[Judged], measure: str = "auc", *, rounds: int = 1000, seed: int = 0) -> Interval:
    """Bootstrap interval, over videos, of the frame AUC (``auc``) or average precision (``ap``)."""
    parts = [video.counted for video in judged]
    of = counted_auc if measure == "auc" else counted_ap

    def drawn(indices: npt.NDArray[np.int64]) -> float:
        values, abnormal, normal = (np.concatenate([parts[i][k] for i in indices]) for k in range(3))
        return of(values, abnormal, normal)

    return evaluate.bootstrap([video.id for video in judged], drawn, rounds=rounds, seed=seed)


def all_of(judged: Sequence[Judged], *, fps: float, threshold: float = 0.5) -> dict[str, float]:
    """Every measure at once; ``fps`` of the original videos turns frames into hours and seconds."""
    wait_s, found = time_to_detect_s(judged, threshold, fps)
    return {
        "auc": frame_auc(judged),
        "ap": frame_ap(judged),
        "ap_trapezoid": trapezoid_ap(judged),
        "abnormal_auc": abnormal_auc(judged) if any(v.label for v in judged) else float("nan"),
        "false_alarm_rate": false_alarm_rate(judged),
        "false_alarms_per_hour": alarms_per_hour(judged, threshold, fps),
        "median_s_to_detect": wait_s,
        "events_found": found,
        "event_f1": event_f1(judged, threshold),
        "video_level_auc": video_level(judged),
    }
