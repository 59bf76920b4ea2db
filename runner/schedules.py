"""Schedules as Cloud Scheduler takes them: crontab lines, and the phrases of App Engine that are in use.

https://cloud.google.com/scheduler/docs/configuring/cron-job-schedules
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_UNITS = {"minute": 60, "minutes": 60, "mins": 60, "hour": 3_600, "hours": 3_600}
_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_EVERY = re.compile(r"every (\d+) (\w+)")
_ON_DAYS = re.compile(r"every ([a-z,]+) (\d{1,2}):(\d{2})")
_PART = re.compile(r"(\*|\w+)(?:-(\w+))?(?:/(\d+))?")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """At these minutes and hours (of the zone) on these days. Sunday is day 0 of the week."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    zone: ZoneInfo
    any_day: bool
    """Whether a day needs to match only one of days and weekdays: so crontab when both are restricted."""

    def next_after(self, moment: datetime) -> datetime:
        """The next matching minute. Raises ValueError when there is none within eight years (31 February)."""
        local = moment.astimezone(self.zone)
        for ahead in range(8 * 366):
            date = local.date() + timedelta(days=ahead)
            if not self._is_day(date.day, date.month, date.isoweekday() % 7):
                continue
            for hour in sorted(self.hours):
                for minute in sorted(self.minutes):
                    due = datetime.combine(date, time(hour, minute), self.zone)
                    if due > local:
                        return due
        raise ValueError("the schedule names a day that never comes")

    def _is_day(self, day: int, month: int, weekday: int) -> bool:
        matches = (day in self.days, weekday in self.weekdays)
        return month in self.months and (any(matches) if self.any_day else all(matches))


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
        days = "*" if on_days[1] == "day" else on_days[1]
        return _crontab(f"{on_days[3]} {on_days[2]} * * {days}", text, zone)
    return _crontab(words, text, zone)


def _crontab(line: str, text: str, zone: ZoneInfo) -> Calendar:
    fields = line.split()
    if len(fields) != 5:
        raise ValueError(f"the schedule {text!r} is not understood")
    try:
        return Calendar(
            minutes=_values(fields[0], 0, 59),
            hours=_values(fields[1], 0, 23),
            days=_values(fields[2], 1, 31),
            months=_values(fields[3], 1, 12, _MONTHS),
            weekdays=frozenset(day % 7 for day in _values(fields[4], 0, 7, _DAYS)),
            zone=zone,
            any_day=not fields[2].startswith("*") and not fields[4].startswith("*"),
        )
    except ValueError as error:
        raise ValueError(f"the schedule {text!r} is not understood: {error}") from None


def _values(field: str, low: int, high: int, names: tuple[str, ...] = ()) -> frozenset[int]:
    values: set[int] = set()
    for part in field.split(","):
        found = _PART.fullmatch(part)
        if found is None:
            raise ValueError(f"{part!r} is neither number, range nor step")
        first, last, step = found.groups()
        if first == "*":
            start, end = low, high
        else:
            start = _number(first, low, names)
            end = _number(last, low, names) if last else (high if step else start)
        if not low <= start <= end <= high or step == "0":
            raise ValueError(f"{part!r} is not within {low} to {high}")
        values.update(range(start, end + 1, int(step or 1)))
    return frozenset(values)


def _number(text: str, low: int, names: tuple[str, ...]) -> int:
    if text.isdecimal():
        return int(text)
    for index, name in enumerate(names):
        if text[:3] == name[:3] and name.startswith(text[:9]):
            return index + low
    raise ValueError(f"{text!r} is no number")
