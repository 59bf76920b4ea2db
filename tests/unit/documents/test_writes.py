"""Which write an event tells of, and whether a snapshot holds it: the whole truth table, borders included."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from balance.documents.writes import Held, SourceWrite

AS_OF = datetime(2026, 3, 1, 12, tzinfo=UTC)
STEP, HOUR = timedelta(microseconds=1), timedelta(hours=1)
OLD = AS_OF - timedelta(days=30)


def written(update_time: datetime, source: str = "expenses/e") -> SourceWrite:
    return SourceWrite(source=source, update_time=update_time)


def deleted(update_time: datetime, deleted_at: datetime, source: str = "expenses/e") -> SourceWrite:
    return SourceWrite(source=source, update_time=update_time, deleted_at=deleted_at)


@pytest.mark.parametrize(
    ("update_time", "held"),
    [
        (AS_OF - 30 * HOUR, Held.YES),
        (AS_OF - STEP, Held.YES),
        (AS_OF, Held.YES),
        (AS_OF + STEP, Held.NO),
        (AS_OF + 30 * HOUR, Held.NO),
    ],
)
def test_a_create_or_update_is_held_when_it_was_committed_by_then(update_time: datetime, held: Held) -> None:
    assert written(update_time).held_by(AS_OF) is held


@pytest.mark.parametrize(
    ("update_time", "deleted_at", "held"),
    [
        # The deleted version is itself newer than the snapshot: whatever the event's time says.
        (AS_OF + STEP, AS_OF + STEP, Held.NO),
        (AS_OF + STEP, AS_OF - 30 * HOUR, Held.NO),
        (AS_OF + STEP, AS_OF + 30 * HOUR, Held.NO),
        # The deleted version is in the snapshot or was: by the event's time, if that is clear enough.
        (OLD, AS_OF + 30 * HOUR, Held.NO),
        (OLD, AS_OF + HOUR + STEP, Held.NO),
        (OLD, AS_OF + HOUR, Held.ASK),
        (OLD, AS_OF + STEP, Held.ASK),
        (OLD, AS_OF, Held.ASK),
        (OLD, AS_OF - STEP, Held.ASK),
        (OLD, AS_OF - HOUR, Held.ASK),
        (OLD, AS_OF - HOUR - STEP, Held.YES),
        (OLD, AS_OF - 30 * HOUR, Held.YES),
        (AS_OF, AS_OF + HOUR + STEP, Held.NO),
        (AS_OF, AS_OF + HOUR, Held.ASK),
        (AS_OF, AS_OF, Held.ASK),
        (AS_OF, AS_OF - HOUR - STEP, Held.YES),
    ],
)
def test_a_delete_is_judged_by_the_deleted_version_and_by_the_events_time(
    update_time: datetime, deleted_at: datetime, held: Held
) -> None:
    assert deleted(update_time, deleted_at).held_by(AS_OF) is held


@pytest.mark.parametrize(
    ("version", "held"),
    [
        (OLD, False),  # still there as it was deleted: the delete came later
        (None, True),  # gone
        (OLD + STEP, True),  # deleted and created anew
        (OLD - STEP, True),
    ],
)
@pytest.mark.parametrize("deleted_at", [AS_OF - HOUR, AS_OF, AS_OF + HOUR])
def test_the_snapshot_itself_decides_about_a_delete_near_its_time(
    version: datetime | None, held: bool, deleted_at: datetime
) -> None:
    assert deleted(OLD, deleted_at).held_given(AS_OF, version) is held


@pytest.mark.parametrize("version", [OLD, None, AS_OF, AS_OF + STEP])
@pytest.mark.parametrize(
    ("write", "held"),
    [
        (written(AS_OF), True),
        (written(AS_OF + STEP), False),
        (deleted(OLD, AS_OF + HOUR + STEP), False),
        (deleted(OLD, AS_OF - HOUR - STEP), True),
        (deleted(AS_OF + STEP, AS_OF), False),
    ],
)
def test_where_times_tell_the_snapshot_is_not_asked(write: SourceWrite, held: bool, version: datetime | None) -> None:
    assert write.held_given(AS_OF, version) is held


def test_a_write_is_told_by_its_document_and_version_never_by_its_delivery() -> None:
    assert written(AS_OF).key == written(AS_OF).key
    # A redelivered delete may bear another time; there is but one delete of a version.
    assert deleted(OLD, AS_OF).key == deleted(OLD, AS_OF + HOUR).key
    # The same instant under another offset.
    assert written(AS_OF).key == SourceWrite(source="expenses/e", update_time=datetime(2026, 3, 1, 12, tzinfo=UTC)).key


def test_different_writes_have_different_keys() -> None:
    writes = [
        written(AS_OF),
        written(AS_OF + STEP),
        written(AS_OF + timedelta(seconds=1)),
        written(AS_OF, "expenses/f"),
        written(AS_OF, "settlements/e"),
        deleted(AS_OF, AS_OF + HOUR),
        deleted(AS_OF + STEP, AS_OF + HOUR),
        deleted(AS_OF, AS_OF + HOUR, "expenses/f"),
    ]
    assert len({write.key for write in writes}) == len(writes)


def test_the_time_of_a_delete_is_its_events() -> None:
    assert written(OLD).time == OLD
    assert deleted(OLD, AS_OF).time == AS_OF
