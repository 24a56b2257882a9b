"""What is held back so that nobody is buried: decided before a message has a number, so that no number is missing.

``raised``, ``ended`` and an incident's ``opened`` and ``closed`` are never held back. An ``updated`` is, and is counted
by its cause: during an incident (``incident``), while the broker has not taken what is older than ``LATE_AFTER_S``
(``backlog``), and above ``updates_per_s`` of all cameras together (``rate``). What it would have said, the next message
of the alert says. ``flapping`` counts alarms that a camera with too many of them raised inside its one lasting alert.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from monitor.config import AlertSettings

LATE_AFTER_S = 30.0
"""A message that is handed to the broker so long after its decision is marked as late."""
CALM_S = 600.0
"""The one lasting alert of a camera with too many alarms ends when it has raised none for so long."""
HOUR_S = 3600.0
CAUSES = ("incident", "backlog", "rate", "flapping")


class Flood:
    """``backlog_s`` asks how old the oldest message is that the broker has not taken. ``settings`` None: no limits."""

    def __init__(
        self, settings: AlertSettings | None, clock: Callable[[], float], backlog_s: Callable[[], float]
    ) -> None:
        self._settings, self._clock, self._backlog_s = settings, clock, backlog_s
        self._tokens, self._filled_s = 0.0 if settings is None else settings.updates_per_s, clock()
        self.held_back = dict.fromkeys(CAUSES, 0)
        """So far, by cause."""

    def has_backlog(self) -> bool:
        return self._settings is not None and self._backlog_s() > LATE_AFTER_S

    def lets_update(self, in_incident: bool, *, evidence: bool = False) -> bool:
        """Whether an ``updated`` may be told now. ``evidence``: the one that brings it, which an incident lets pass."""
        cause = self._against(in_incident and not evidence)
        if cause is not None:
            self.held_back[cause] += 1
        return cause is None

    def _against(self, in_incident: bool) -> str | None:
        if self._settings is None:
            return None
        if in_incident:
            return "incident"
        if self.has_backlog():
            return "backlog"
        most, now_s = self._settings.updates_per_s, self._clock()
        self._tokens = min(max(1.0, most), self._tokens + (now_s - self._filled_s) * most)
        self._filled_s = now_s
        if self._tokens < 1.0:
            return "rate"
        self._tokens -= 1.0
        return None

    def flaps(self, raised_s: deque[float]) -> bool:
        """Notes an alarm in the camera's list, and whether it is one too many within an hour."""
        now_s = self._clock()
        while raised_s and now_s - raised_s[0] >= HOUR_S:
            raised_s.popleft()
        most = None if self._settings is None else self._settings.most_per_hour
        if most is None:
            return False
        raised_s.append(now_s)
        return len(raised_s) > most

    def too_many(self) -> str:
        """The reason of the one alert that is told of a camera with too many alarms."""
        most = None if self._settings is None else self._settings.most_per_hour
        return (
            f"too many alarms (more than {most} within an hour): told once, lasts until none was raised for "
            f"{CALM_S / 60:.0f} minutes; look at its thresholds"
        )
