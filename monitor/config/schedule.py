"""When a camera is armed."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from monitor.config.settings import Settings, mistake

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = get_args(Day)


def _clock(text: str) -> str:
    hours, colon, minutes = text.partition(":")
    whole = colon and len(hours) == 2 and len(minutes) == 2 and (hours + minutes).isascii()
    if not (whole and (hours + minutes).isdigit() and int(minutes) < 60):
        raise ValueError('expected a time of day like "06:30"')
    if int(hours) > 24 or (int(hours) == 24 and int(minutes)):
        raise ValueError('expected a time of day from "00:00" to "24:00"')
    return text


def _local_time(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError('expected a local date and time like "2026-03-01 06:30"') from None
    if moment.tzinfo is not None:
        raise ValueError("expected a local time: the schedule's timezone says where")
    return text


def _timezone(name: str) -> str:
    zone_of(name)
    return name


def zone_of(name: str) -> tzinfo:
    """The time zone of that name; ValueError where this machine does not know it."""
    if name == "UTC":  # works where no time zone data is installed
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # OSError: the name of a folder, like Europe
        raise ValueError('expected a time zone like "Europe/Berlin"') from None


ClockTime = Annotated[str, AfterValidator(_clock)]
LocalTime = Annotated[str, AfterValidator(_local_time)]


class Period(Settings):
    """Hours of the week in which the camera is armed."""

    days: tuple[Day, ...] = DAYS
    """The days on which it begins: any of mon, tue, wed, thu, fri, sat, sun."""
    start: ClockTime
    """Local time of day, "00:00" to "24:00"."""
    end: ClockTime
    """An end that is not after the start lies on the next day."""

    def contains(self, local: datetime) -> bool:
        start, end = _minutes(self.start), _minutes(self.end)
        minute = local.hour * 60 + local.minute
        today, yesterday = DAYS[local.weekday()], DAYS[local.weekday() - 1]
        if start < end:
            return today in self.days and start <= minute < end
        return (today in self.days and minute >= start) or (yesterday in self.days and minute < end)


class Window(Settings):
    """A maintenance window: the camera is disarmed from start until end."""

    start: LocalTime
    """Local date and time, "2026-03-01 06:30"."""
    end: LocalTime
    reason: str = Field(min_length=1)
    """Shown as the reason why the camera is disarmed."""

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        if datetime.fromisoformat(self.end) <= datetime.fromisoformat(self.start):
            raise mistake("must be after start", "end")
        return self


class Schedule(Settings):
    """When alerts are wanted."""

    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"
    """Of all times in this schedule, for example Europe/Berlin."""
    armed: tuple[Period, ...] = ()
    """Empty: always armed."""
    maintenance: tuple[Window, ...] = ()
    """Disarmed in these windows, whatever ``armed`` says."""

    def is_armed(self, wall: datetime) -> tuple[bool, str]:
        """Whether, and why: ('armed', 'maintenance until …: reason', 'outside armed hours (…)').

        ``wall`` knows its time zone; ValueError where it does not. Local times that a clock change repeats
        count both times, those that it skips not at all.
        """
        if wall.tzinfo is None:
            raise ValueError("is_armed needs a time with a time zone")
        local = wall.astimezone(zone_of(self.timezone)).replace(tzinfo=None)
        for window in self.maintenance:
            if datetime.fromisoformat(window.start) <= local < datetime.fromisoformat(window.end):
                return False, f"maintenance until {window.end}: {window.reason}"
        if not self.armed or any(period.contains(local) for period in self.armed):
            return True, "armed"
        return False, f"outside armed hours ({self.timezone})"


def _minutes(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])
