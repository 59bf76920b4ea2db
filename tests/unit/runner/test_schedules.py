"""When schedules are due."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from runner.schedules import parse

UTC = ZoneInfo("Etc/UTC")


def at(text: str, zone: ZoneInfo = UTC) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


@pytest.mark.parametrize(
    ("schedule", "after", "due"),
    [
        ("every day 03:00", "2024-01-31T02:59", "2024-01-31T03:00"),
        ("every day 03:00", "2024-01-31T03:00", "2024-02-01T03:00"),
        ("every monday 9:30", "2024-01-03T00:00", "2024-01-08T09:30"),
        ("every mon,wednesday 09:30", "2024-01-08T09:30", "2024-01-10T09:30"),
        ("every 5 minutes", "2024-01-01T00:01", "2024-01-01T00:06"),
        ("every 24 hours", "2024-01-01T00:01", "2024-01-02T00:01"),
        ("* * * * *", "2024-01-01T00:01:30", "2024-01-01T00:02"),
        ("*/15 9-17 * * 1-5", "2024-01-05T17:45", "2024-01-08T09:00"),
        ("0 3 1 * *", "2024-01-15T00:00", "2024-02-01T03:00"),
        ("0 0 29 2 *", "2024-03-01T00:00", "2028-02-29T00:00"),
        ("30 4 1,15 * fri", "2024-01-02T00:00", "2024-01-05T04:30"),
        ("0 0 * jan sun", "2024-02-01T00:00", "2025-01-05T00:00"),
        ("0 0 * * 7", "2024-01-01T00:00", "2024-01-07T00:00"),
    ],
)
def test_a_schedule_is_due_when_cloud_scheduler_says(schedule: str, after: str, due: str) -> None:
    assert parse(schedule, "Etc/UTC").next_after(at(after)) == at(due)


def test_a_schedule_is_due_by_the_clocks_of_its_time_zone() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    schedule = parse("every day 03:00", "Europe/Berlin")
    winter, summer = schedule.next_after(at("2024-01-01T00:00")), schedule.next_after(at("2024-07-01T00:00"))
    assert (winter, summer) == (at("2024-01-01T02:00"), at("2024-07-01T01:00"))
    assert winter.astimezone(berlin).hour == summer.astimezone(berlin).hour == 3


def test_an_hour_that_the_clocks_skip_is_made_up_for() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    due = parse("30 2 * * *", "Europe/Berlin").next_after(at("2024-03-30T12:00"))
    assert due.astimezone(berlin) == at("2024-03-31T03:00", berlin)


@pytest.mark.parametrize(
    "schedule",
    [
        "",
        "every now and then",
        "every 0 minutes",
        "60 * * * *",
        "* * * *",
        "*/0 * * * *",
        "5-1 * * * *",
        "x * * * *",
        "every mo 9:30",
        "0 0 L * *",
        "0 0 * * fri#1",
        "0 0 0 * * *",
    ],
)
def test_a_schedule_that_is_not_understood_is_refused(schedule: str) -> None:
    with pytest.raises(ValueError, match="not understood"):
        parse(schedule, "Etc/UTC")


def test_an_unknown_time_zone_and_an_impossible_day_are_refused() -> None:
    with pytest.raises(ValueError, match="Atlantis"):
        parse("every day 03:00", "Europe/Atlantis")
    with pytest.raises(ValueError, match="not understood"):
        parse("0 0 31 2 *", "Etc/UTC")
