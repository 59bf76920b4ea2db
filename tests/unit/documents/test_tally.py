"""Counts of documents; and that faults are alike by field and reason, not by the values of each document."""

from datetime import UTC, datetime

import pytest

from balance import adapter
from balance.documents.settings import Settings
from balance.documents.sources import Kind, Malformed, parse
from balance.documents.tally import Tally

DELETED_AT = datetime(2026, 1, 1, tzinfo=UTC)
EXPENSE = {"groupId": "g", "paidBy": "a", "amount": 2, "currency": "USD", "splits": [{"uid": "b", "amount": 2}]}


def tally_of(*documents: dict[str, object]) -> Tally:
    tally = Tally()
    for number, fields in enumerate(documents):
        tally.count(f"expenses/{number}", parse(Kind.EXPENSE, fields, Settings().unit))
    return tally


def test_each_document_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "expense", lambda fields: None if "theirs" in fields else fields)
    tally = tally_of(
        EXPENSE,
        {**EXPENSE, "splits": []},
        {**EXPENSE, "amount": 3},
        {**EXPENSE, "deletedAt": DELETED_AT},
        {"theirs": True},
        {**EXPENSE, "currency": 5},
    )
    assert (tally.parsed, tally.deleted, tally.ignored, tally.malformed, tally.mismatches) == (3, 1, 1, 1, 1)
    assert tally.total == 6
    assert tally.mismatch == "expenses/2"


def test_faults_are_alike_by_field_and_reason_whatever_the_values() -> None:
    shares: list[dict[str, object]] = [{"uid": "b", "amount": 2}, {"uid": "b", "amount": None}]
    tally = tally_of(
        {**EXPENSE, "currency": "ABC"},
        {**EXPENSE, "currency": "XYZ"},
        {**EXPENSE, "splits": shares},
        {**EXPENSE, "splits": shares[1:]},
        {**EXPENSE, "currency": None},
    )
    told = [(alike.field, alike.count, alike.example) for alike in tally.by_count()]
    assert told == [("currency", 2, "expenses/0"), ("splits[1].amount", 2, "expenses/2"), ("currency", 1, "expenses/4")]
    assert "'ABC'" in tally.by_count()[0].reason


def test_tallies_add_up() -> None:
    whole = tally_of(EXPENSE, {**EXPENSE, "currency": "ABC"}, {**EXPENSE, "amount": 9}, {**EXPENSE, "deletedAt": DELETED_AT})
    parts = Tally()
    for part in (tally_of(EXPENSE, {**EXPENSE, "currency": "ABC"}), Tally()):
        parts.add(part)
    for fields in ({**EXPENSE, "amount": 9}, {**EXPENSE, "deletedAt": DELETED_AT}):
        parts.add(tally_of(fields))
    assert (parts.parsed, parts.deleted, parts.malformed, parts.mismatches) == (2, 1, 1, 1)
    assert parts.as_json()["malformedBy"] == whole.as_json()["malformedBy"]
    parts.add(whole)
    assert parts.malformed == 2
    assert whole.malformed == 1, "the other tally was changed"


def test_a_tally_as_json_tells_all_of_it() -> None:
    tally = Tally()
    tally.count("expenses/x", Malformed("currency", "is missing", None))
    assert tally.as_json() == {
        "parsed": 0,
        "deleted": 0,
        "ignored": 0,
        "malformed": 1,
        "malformedBy": [{"field": "currency", "reason": "is missing", "count": 1, "example": "expenses/x"}],
        "mismatches": 0,
    }
