"""Many alarms at once → one incident with members. Pure: no clock, no log, no file.

A power dip or a lightning stroke raises many cameras within seconds. The rules:

- an incident opens when ``cameras`` alarms that were raised within ``within_s`` are open at the same time; they are
  its first members;
- every alarm raised after that joins it, until no alarm has joined for ``lull_s``; an alarm after such a lull is no
  member, and a second storm then opens a second incident beside the first;
- it closes when the last alarm of its members has ended.

So an alarm is a member of one incident at most, and stays it. Times ``*_s`` without ``wall`` are on any clock that does
not go back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

ALL_ENDED = "all alarms of its cameras have ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One camera's alarm in an incident."""

    camera: str
    alert_id: str
    onset_wall_s: float
    peak_score: float
    ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A message about an incident. ``seq`` counts from 1 within ``incident_id``; ``closed`` is the last."""

    incident_id: str
    site: str
    opened_wall_s: float
    members: tuple[Member, ...]
    seq: int = 0
    """Of the last message; 0: nothing was told yet."""
    kind: Literal["opened", "updated", "closed"] = "opened"
    reason: str = ""
    decided_wall_s: float = 0.0

    @property
    def onset_wall_s(self) -> float:
        return min(member.onset_wall_s for member in self.members)

    @property
    def raised(self) -> int:
        """Members whose alarm has not ended."""
        return sum(not member.ended for member in self.members)


@dataclass(slots=True)
class _Kept:
    """An open incident, and what is yet to be told of it."""

    incident: Incident
    members: dict[str, Member]
    joined_s: float
    told_s: float = -math.inf
    stale: bool = True
    """Its members are not as they were told."""

    def now(self) -> Incident:
        return replace(self.incident, members=tuple(self.members.values()))


class Incidents:
    """The open incidents of one site. ``new_id`` makes an id from the wall time."""

    def __init__(
        self, site: str, *, cameras: int, within_s: float, lull_s: float, every_s: float, new_id: Callable[[float], str]
    ) -> None:
        self._site = site
        self._cameras, self._within_s, self._lull_s, self._every_s = cameras, within_s, lull_s, every_s
        self._new_id = new_id
        self._open: dict[str, _Kept] = {}
        self._of: dict[str, str] = {}
        self._loose: dict[str, tuple[float, Member]] = {}
        self.opened = 0
        """So far."""

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def __contains__(self, incident_id: str) -> bool:
        return incident_id in self._open

    def of(self, alert_id: str) -> str | None:
        """The incident that an open alarm is a member of."""
        return self._of.get(alert_id)

    def raised(self, member: Member, now_s: float, wall_s: float) -> tuple[str, ...]:
        """The alarms that are members of an incident from now on: none, this one, or the first of a new one."""
        for incident_id, kept in self._open.items():
            if now_s - kept.joined_s <= self._lull_s:
                kept.joined_s, kept.stale = now_s, True
                kept.members[member.alert_id] = member
                self._of[member.alert_id] = incident_id
                return (member.alert_id,)
        self._loose[member.alert_id] = (now_s, member)
        self._loose = {key: one for key, one in self._loose.items() if now_s - one[0] <= self._within_s}
        if len(self._loose) < self._cameras:
            return ()
        members = {key: one for key, (_, one) in self._loose.items()}
        incident = Incident(
            incident_id=self._new_id(wall_s), site=self._site, opened_wall_s=wall_s, members=tuple(members.values())
        )
        self._open[incident.incident_id] = _Kept(incident, members, now_s)
        self._of |= dict.fromkeys(members, incident.incident_id)
        self._loose = {}
        self.opened += 1
        return tuple(members)

    def peaked(self, alert_id: str, peak_score: float) -> None:
        """A member's highest score so far; told with the incident's next message."""
        incident_id = self._of.get(alert_id)
        if incident_id is not None:
            members = self._open[incident_id].members
            members[alert_id] = replace(members[alert_id], peak_score=max(members[alert_id].peak_score, peak_score))

    def ended(self, alert_id: str, peak_score: float) -> None:
        """An alarm ended, member or not."""
        self._loose.pop(alert_id, None)
        self.peaked(alert_id, peak_score)
        incident_id = self._of.pop(alert_id, None)
        if incident_id is not None:
            kept = self._open[incident_id]
            kept.members[alert_id] = replace(kept.members[alert_id], ended=True)
            kept.stale = True

    def stale(self) -> list[Incident]:
        """As they are now, those whose members are not as they were told."""
        return [kept.now() for kept in self._open.values() if kept.stale]

    def due(
        self, now_s: float, wall_s: float, *, updates: Callable[[], bool], reason: str = ALL_ENDED
    ) -> list[Incident]:
        """The messages to be told now, numbered. ``opened`` and ``closed`` never wait; an ``updated`` comes at most
        every ``every_s``, and not at all while ``updates()`` is False. ``reason`` is that of a ``closed``."""
        told = []
        for incident_id, kept in list(self._open.items()):
            closes = not any(not member.ended for member in kept.members.values())
            if kept.incident.seq == 0:
                why = f"{len(kept.members)} cameras raised alarms within {self._within_s:g} s"
                told.append(self._tell(kept, "opened", why, now_s, wall_s))
            elif not closes and kept.stale and now_s - kept.told_s >= self._every_s and updates():
                told.append(self._tell(kept, "updated", "members changed", now_s, wall_s))
            if closes:
                told.append(self._tell(kept, "closed", reason, now_s, wall_s))
                del self._open[incident_id]
        return told

    def _tell(
        self, kept: _Kept, kind: Literal["opened", "updated", "closed"], reason: str, now_s: float, wall_s: float
    ) -> Incident:
        kept.incident = replace(kept.now(), seq=kept.incident.seq + 1, kind=kind, reason=reason, decided_wall_s=wall_s)
        kept.told_s, kept.stale = now_s, False
        return kept.incident


def left_behind(incident: Incident, members: dict[str, Member], wall_s: float, reason: str) -> Incident:
    """The last message of an incident that a former life left open: all its members have ended by now.

    ``members`` are the alarms that were still open, by ``alert_id``; one that had joined unsaid is among them.
    """
    known = {member.alert_id: member for member in incident.members} | members
    return replace(
        incident,
        seq=incident.seq + 1,
        kind="closed",
        reason=reason,
        decided_wall_s=wall_s,
        members=tuple(replace(member, ended=True) for member in known.values()),
    )
