"""Records: what is kept of a processed event, and what of a stored one is believed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from balance.core.ledger import Ledger, Posting, delta
from balance.database.firestore import SERVER_TIME, Create, Snapshot
from balance.documents import rules
from balance.documents.balances import VERSION
from balance.documents.changes import GroupChange
from balance.documents.outcome import Outcome
from balance.documents.records import CorruptRecord, Record, creations, document, encode_delta, holds_delta, parse
from balance.documents.settings import Settings
from balance.documents.sources import MAX_SPLITS
from balance.documents.writes import SourceWrite
from tests.sizes import MAX_DOCUMENT_BYTES, document_bytes

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTINGS = Settings()
DELTA: Ledger = {"USD": {("a", "b"): 50, ("b", "c"): -7}, "JPY": {("a", "c"): 1}}


def change(*, deleted: bool = False, delta: Ledger = DELTA, source: str = "expenses/e") -> GroupChange:
    write = SourceWrite(source=source, update_time=NOW, deleted_at=NOW + timedelta(seconds=1) if deleted else None)
    return GroupChange(write=write, event_id="event-1", delta=delta)


def stored(**changes: Any) -> dict[str, Any]:
    """A record as it is read back."""
    return {**document(change(), Outcome.APPLIED, NOW, SETTINGS), "appliedAt": NOW, **changes}


def test_a_record_holds_the_event_the_write_and_what_it_did() -> None:
    fields = document(change(), Outcome.APPLIED, NOW, SETTINGS)
    encoded = fields.pop("delta")
    assert fields == {
        "eventId": "event-1",
        "source": "expenses/e",
        "updateTime": NOW,
        "version": VERSION,
        "rules": str(rules.current(SETTINGS)),
        "outcome": "APPLIED",
        "appliedAt": SERVER_TIME,
        "expireAt": NOW + SETTINGS.record_ttl,
    }
    assert encoded == encode_delta(DELTA)


def test_the_record_of_a_delete_holds_its_time_too() -> None:
    assert document(change(deleted=True), Outcome.APPLIED, NOW, SETTINGS)["deletedAt"] == NOW + timedelta(seconds=1)


@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("outcome", [Outcome.APPLIED, Outcome.REBUILT, Outcome.DISABLED])
def test_a_record_reads_back_as_it_was_written(deleted: bool, outcome: Outcome) -> None:
    made = change(deleted=deleted)
    is_gap = outcome is Outcome.DISABLED
    assert parse(document(made, outcome, NOW, SETTINGS)) == Record(
        made.write, VERSION, str(rules.current(SETTINGS)), is_gap, DELTA
    )


def test_the_record_of_another_version_is_read_as_such() -> None:
    assert parse(stored(version=VERSION + 1)).version == VERSION + 1


@pytest.mark.parametrize("name", ["source", "updateTime", "version", "outcome", "delta"])
@pytest.mark.parametrize("value", [None, True, 1.5, "x", ["x"], b"x", {"USD": 5}, "missing"])
def test_a_record_that_we_did_not_write_like_this_is_corrupt(name: str, value: object) -> None:
    fields = stored(**{name: value})
    if value == "missing":
        del fields[name]
    elif (value == "x" and name in ("source", "outcome")) or (value is None and name == "delta"):
        return  # a string is what belongs there; a delta may be left out
    with pytest.raises(CorruptRecord):
        parse(fields)


def test_the_time_of_a_delete_must_be_one() -> None:
    with pytest.raises(CorruptRecord):
        parse(stored(deletedAt="yesterday"))


@pytest.mark.parametrize("amount", [None, True, 0.5, float("nan"), "5", [5], {"x": 5}, NOW])
def test_the_amounts_of_a_delta_are_integers(amount: object) -> None:
    with pytest.raises(CorruptRecord):
        parse(stored(delta={"USD": {"a": {"b": amount}}}))


@pytest.mark.parametrize("delta", [{"USD": None}, {"USD": []}, {"USD": {"a": None}}, {"USD": {"a": [1]}}, {"USD": {"a": 1}}])
def test_a_delta_of_another_shape_is_corrupt(delta: object) -> None:
    with pytest.raises(CorruptRecord):
        parse(stored(delta=delta))


def test_only_writes_without_a_record_get_one() -> None:
    first, second = change(source="expenses/1"), change(source="expenses/2")
    missing = Snapshot("groups/g/balanceEvents/1", None, None, NOW)
    found = Snapshot("groups/g/balanceEvents/2", {"source": "expenses/2"}, NOW, NOW)
    assert creations([first, second], [missing, found], Outcome.APPLIED, SETTINGS) == [
        Create(missing.path, document(first, Outcome.APPLIED, NOW, SETTINGS))
    ]
    assert creations([first, second], [missing, missing], Outcome.REBUILT, SETTINGS) == [
        Create(missing.path, document(each, Outcome.REBUILT, NOW, SETTINGS)) for each in (first, second)
    ]


def test_each_write_goes_with_its_own_record() -> None:
    with pytest.raises(ValueError, match="zip"):
        creations([change()], [], Outcome.APPLIED, SETTINGS)


def shares(payer: str, uids: list[str]) -> Ledger:
    """The delta of a new expense."""
    return delta([], [Posting(debtor=uid, creditor=payer, currency="USD", amount_minor=1) for uid in uids])


def test_a_delta_names_a_payer_once_however_many_shares_there_are() -> None:
    assert encode_delta(shares("p", ["a", "z"])) == {"USD": {"p": {"a": -1, "z": -1}}}
    assert encode_delta(shares("p", ["a"])) == {"USD": {"a": {"p": 1}}}


def test_the_record_of_the_largest_expense_fits_a_document() -> None:
    longest, other = "p" * 1_500, "q" * 1_500
    uids = [f"{number:0200}" for number in range(MAX_SPLITS)]
    created = shares(longest, uids)
    edited: Ledger = {"USD": {**shares(longest, uids)["USD"], **shares(other, uids)["USD"]}}
    for made in (created, edited):
        record = change(delta=made)
        assert document_bytes("groups/g/balanceEvents/r", document(record, Outcome.APPLIED, NOW, SETTINGS)) < MAX_DOCUMENT_BYTES
        assert parse(document(record, Outcome.APPLIED, NOW, SETTINGS)).delta == made


def test_a_record_may_be_added_by_code_of_its_own_version_and_rules_only() -> None:
    assert parse(stored()).is_addable(SETTINGS)
    for changes in (
        {"version": VERSION + 1},
        {"version": VERSION - 1},
        {"rules": "1:other"},
        {"rules": None},
        {"delta": None},
        {"outcome": "DISABLED"},
    ):
        assert not parse(stored(**changes)).is_addable(SETTINGS), changes
    assert not parse(stored()).is_addable(Settings(epoch=1))


def test_a_delta_that_would_not_fit_is_left_out() -> None:
    uids = [f"{number:04}" + "x" * 1_496 for number in range(660)]
    one, two = shares("p", uids), shares("q", [uid.replace("x", "y") for uid in uids])
    both: Ledger = {"USD": {**one["USD"], **two["USD"]}}
    assert holds_delta(change(delta=one))
    assert not holds_delta(change(delta=both))
    assert document(change(delta=both), Outcome.REBUILT, NOW, SETTINGS)["delta"] is None
    assert parse(document(change(delta=both), Outcome.REBUILT, NOW, SETTINGS)).delta is None


def test_the_delta_of_a_change_without_a_time_is_left_out() -> None:
    undated = replace(change(), is_dated=False)
    assert document(undated, Outcome.REBUILT, NOW, SETTINGS)["delta"] is None


@pytest.mark.parametrize("length", [1, 200, 1_400, 1_500])
def test_what_holds_its_delta_fits_a_document(length: int) -> None:
    """The largest delta that is kept, with the longest path and event id that there may be."""
    for count in range(100, 2_000, 20):
        uids = [f"{number:04}" + "x" * (length - 4) if length > 4 else f"{number:04}" for number in range(count)]
        made = replace(change(delta=shares("p", uids), source="/".join(["g" * 1_500] * 4)), event_id="e" * 100)
        if not holds_delta(made):
            break
        largest = document(made, Outcome.APPLIED, NOW, SETTINGS)
    assert document_bytes("/".join(["g" * 1_500] * 4), largest) < MAX_DOCUMENT_BYTES
