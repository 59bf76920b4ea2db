"""Whatever Firestore can hold, parsing yields a transaction or a fault, never an exception."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from balance.core.currencies import EXPONENTS
from balance.core.money import MAX_AMOUNT_MINOR, Unit
from balance.documents import balances, records
from balance.documents.balances import CorruptBalance, Stored
from balance.documents.records import CorruptRecord, Record
from balance.documents.sources import (
    MAX_SPLITS,
    NOTHING,
    Kind,
    Malformed,
    Parsed,
    Transaction,
    is_document_id,
    members,
    parse,
    uid_fault,
)
from balance.protocol import faults
from tests.property.firestore_values import EXPENSES, RECENT, SETTLEMENTS, TEXT, VALUES, documents, sometimes

UNITS = st.sampled_from([Unit.MAJOR, Unit.MINOR, Unit(own=(("BTC", 8), ("POINTS", 0)))])
FIELDS = {
    Kind.EXPENSE: {"groupId", "paidBy", "amount", "currency", "splits"},
    Kind.SETTLEMENT: {"groupId", "payerId", "payeeId", "amount", "currency"},
}


def check(kind: Kind, fields: dict[str, Any], found: Parsed) -> None:
    """What every answer promises."""
    deleted_at = fields.get("deletedAt")
    if deleted_at is True or isinstance(deleted_at, datetime):
        assert found == NOTHING
    elif isinstance(found, Malformed):
        assert (found.field == "deletedAt") == (deleted_at is not None and deleted_at is not False)
        assert found.field.partition("[")[0] in FIELDS[kind] | {"deletedAt"}
        assert 0 < len(found.reason) < 100
        assert found.group_id is not None or found.field in ("groupId", "deletedAt")
    else:
        assert isinstance(found, Transaction)
        assert found.group_id == fields["groupId"]
        for posting in found.postings:
            assert type(posting.amount_minor) is int
            assert 0 < posting.amount_minor <= MAX_AMOUNT_MINOR * MAX_SPLITS
            assert posting.currency in {*EXPONENTS, "BTC", "POINTS"}
            assert posting.debtor != posting.creditor
            assert uid_fault(posting.debtor) is None is uid_fault(posting.creditor)
    if found.group_id is not None:
        assert is_document_id(found.group_id)


@given(EXPENSES, UNITS)
@settings(max_examples=200, deadline=None)
def test_any_expense_is_a_transaction_or_malformed(fields: dict[str, Any], unit: Unit) -> None:
    check(Kind.EXPENSE, fields, parse(Kind.EXPENSE, fields, unit))


@given(SETTLEMENTS, UNITS)
@settings(max_examples=120, deadline=None)
def test_any_settlement_is_a_transaction_or_malformed(fields: dict[str, Any], unit: Unit) -> None:
    check(Kind.SETTLEMENT, fields, parse(Kind.SETTLEMENT, fields, unit))


@given(st.sampled_from(Kind), st.dictionaries(TEXT, VALUES, max_size=6), UNITS)
@settings(max_examples=80, deadline=None)
def test_any_fields_at_all_can_be_parsed(kind: Kind, fields: dict[str, Any], unit: Unit) -> None:
    check(kind, fields, parse(kind, fields, unit))


@given(documents({"members": VALUES}))
@settings(max_examples=50, deadline=None)
def test_any_group_has_members(fields: dict[str, Any]) -> None:
    found = members(fields)
    assert all(isinstance(uid, str) for uid in found)
    assert len(set(found)) == len(found)


ROWS = st.dictionaries(
    TEXT,
    sometimes(
        documents({"uid": sometimes(TEXT), "owes": VALUES, "owedBy": VALUES, "netBalance": sometimes(st.integers(-5, 5))})
    ),
    max_size=3,
)
BALANCES = documents(
    {
        "groupId": st.just("g"),
        "balancesByCurrency": sometimes(st.dictionaries(st.sampled_from(["USD", "JPY", "usd"]), sometimes(ROWS), max_size=2)),
        "simplifiedDebts": sometimes(st.lists(VALUES, max_size=2)),
        "version": sometimes(st.just(1)),
        "asOf": sometimes(RECENT),
        "detail": sometimes(st.sampled_from(["pairs", "nets", "none"])),
    }
)


@given(BALANCES, UNITS)
@settings(max_examples=150, deadline=None)
def test_any_balance_document_is_well_formed_or_corrupt(fields: dict[str, Any], unit: Unit) -> None:
    assert type(balances.stored_version(fields)) is int
    try:
        found = balances.parse(fields, "g", unit)
    except CorruptBalance:
        return
    assert isinstance(found, Stored)


RECORDS = documents(
    {
        "source": sometimes(TEXT),
        "updateTime": sometimes(RECENT),
        "deletedAt": sometimes(RECENT),
        "version": sometimes(st.just(1)),
        "outcome": sometimes(st.sampled_from(["APPLIED", "DISABLED"])),
        "delta": sometimes(st.dictionaries(TEXT, sometimes(st.dictionaries(TEXT, VALUES, max_size=2)), max_size=2)),
    }
)


@given(RECORDS)
@settings(max_examples=120, deadline=None)
def test_any_record_is_well_formed_or_corrupt(fields: dict[str, Any]) -> None:
    try:
        found = records.parse(fields)
    except CorruptRecord:
        return
    assert isinstance(found, Record)
    assert all(type(amount) is int for pairs in (found.delta or {}).values() for amount in pairs.values())


@given(
    documents({"source": TEXT | VALUES | st.sampled_from(["expenses/e", "groups/g/expenses/e", "a/..", "a//b/c", "__a__/b"])})
)
@settings(max_examples=60, deadline=None)
def test_any_fault_names_a_document_or_none(fields: dict[str, Any]) -> None:
    source = faults.source_of(fields)
    assert source is None or all(is_document_id(segment) for segment in source.split("/"))
