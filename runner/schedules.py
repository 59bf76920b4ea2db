"""Schedules as Cloud Scheduler takes them: crontab lines, and the phrases of App Engine that are in use.

https://cloud.google.com/scheduler/docs/configuring/cron-job-schedules
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

_UNITS = {"minute": 60, "minutes": 60, "mins": 60, "hour": 3_600, "hours": 3_600}
_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_EVERY = re.compile(r"every (\d+) (\w+)")
_ON_DAYS = re.compile(r"every ([a-z,]+) (\d{1,2}):(\d{2})")
_CRONTAB = re.compile(r"(?!.*\dl)(?:[0-9*,/-]+ ){3}[0-9a-z*,/-]+ [0-9a-z*,/-]+")
"""Without what the library knows beyond that: seconds, L, W and #."""


class Schedule(Protocol):
    """When something is due."""

    def next_after(self, moment: datetime) -> datetime:
        """The next time it is due after this moment, which has a time zone."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Again and again after the same time."""

    seconds: int

    def next_after(self, moment: datetime) -> datetime:
        """The moment plus the interval."""
        return moment + timedelta(seconds=self.seconds)


@dataclass(frozen=True, slots=True)
class Crontab:
    """At the times of a crontab line, by the clocks of the zone."""

    line: str
    zone: ZoneInfo

    def next_after(self, moment: datetime) -> datetime:
        """The next matching minute."""
        return next(CronSim(self.line, moment.astimezone(self.zone))).astimezone(UTC)


def parse(text: str, time_zone: str) -> Schedule:
    """Raises ValueError that says what is not understood."""
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"the time zone {time_zone!r} is unknown") from None
    words = " ".join(text.lower().split())
    if (every := _EVERY.fullmatch(words)) and every[2] in _UNITS and int(every[1]):
        return Interval(int(every[1]) * _UNITS[every[2]])
    if on_days := _ON_DAYS.fullmatch(words):
        days = "*" if on_days[1] == "day" else ",".join(_abbreviated(day) for day in on_days[1].split(","))
        words = f"{on_days[3]} {on_days[2]} * * {days}"
    if not _CRONTAB.fullmatch(words):
        raise ValueError(f"the schedule {text!r} is not understood")
    try:
        next(CronSim(words, datetime.now(UTC)))
    except (CronSimError, StopIteration) as error:
        raise ValueError(f"the schedule {text!r} is not understood: {error or 'it is never due'}") from None
    return Crontab(words, zone)


def _abbreviated(day: str) -> str:
    """A weekday as crontabs have it; what is none stays as it is."""
    return day[:3] if len(day) >= 3 and any(name.startswith(day) for name in _DAYS) else day
