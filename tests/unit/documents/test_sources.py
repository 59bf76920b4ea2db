"""Source documents by example: what they post, and the field and reason of every fault."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest

from balance.core.ledger import Posting
from balance.core.money import Unit
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

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MISSING = object()


def expense(**changes: Any) -> dict[str, Any]:
    fields = {
        "groupId": "g",
        "paidBy": "a",
        "amount": 90,
        "currency": "USD",
        "splits": [{"uid": "a", "amount": 30}, {"uid": "b", "amount": 30}, {"uid": "c", "amount": 30}],
        "deletedAt": None,
    }
    return {name: value for name, value in (fields | changes).items() if value is not MISSING}


def settlement(**changes: Any) -> dict[str, Any]:
    fields = {"groupId": "g", "payerId": "b", "payeeId": "a", "amount": 12.5, "currency": "USD", "deletedAt": None}
    return {name: value for name, value in (fields | changes).items() if value is not MISSING}


def parsed(fields: dict[str, Any], unit: Unit = Unit.MAJOR, group_in_path: str | None = None) -> Parsed:
    return parse(Kind.EXPENSE if "paidBy" in fields or "splits" in fields else Kind.SETTLEMENT, fields, unit, group_in_path)


def posted(fields: dict[str, Any], unit: Unit = Unit.MAJOR) -> list[tuple[str, str, str, int]]:
    found = parsed(fields, unit)
    assert isinstance(found, Transaction)
    return [tuple(posting) for posting in found.postings]  # type: ignore[misc]


# ------------------------------------------------------------------------------------------------ what documents post


def test_each_share_but_the_payers_own_is_owed_to_the_payer() -> None:
    assert parsed(expense()) == Transaction("g", (Posting("b", "a", "USD", 3_000), Posting("c", "a", "USD", 3_000)))


def test_paying_somebody_is_the_reverse_of_owing_them() -> None:
    assert parsed(settlement()) == Transaction("g", (Posting(debtor="a", creditor="b", currency="USD", amount_minor=1_250),))


def test_a_settlement_with_oneself_or_of_nothing_posts_nothing() -> None:
    assert posted(settlement(payeeId="b")) == []
    assert posted(settlement(amount=0)) == []


def test_shares_of_nothing_and_empty_splits_post_nothing() -> None:
    assert posted(expense(splits=[])) == []
    assert posted(expense(splits=[{"uid": "b", "amount": 0}, {"uid": "c", "amount": "0.001"}])) == []


def test_a_repeated_uid_adds_up() -> None:
    assert posted(expense(splits=[{"uid": "b", "amount": 1}] * 2)) == [("b", "a", "USD", 100)] * 2


def test_currency_codes_are_upper_cased() -> None:
    assert posted(settlement(currency="jpy")) == [("a", "b", "JPY", 13)]
    assert posted(settlement(currency="kWd")) == [("a", "b", "KWD", 12_500)]


def test_an_app_may_count_in_minor_units() -> None:
    assert posted(settlement(amount=1_250, currency="KWD"), Unit.MINOR) == [("a", "b", "KWD", 1_250)]
    assert posted(settlement(amount="12.5", currency="USD"), Unit.MINOR) == [("a", "b", "USD", 13)]


def test_other_fields_are_ignored_at_every_level() -> None:
    splits = [{"uid": "b", "amount": 1, "note": NOW}]
    assert posted(expense(splits=splits, note={"x": [None]}, members=["z"])) == [("b", "a", "USD", 100)]


def test_an_expense_whose_splits_do_not_add_up_counts_by_its_splits_and_says_so() -> None:
    found = parsed(expense(amount=100))
    assert isinstance(found, Transaction)
    assert found.split_mismatch
    assert len(found.postings) == 2
    assert not parsed(expense()).split_mismatch  # type: ignore[union-attr]
    assert not parsed(expense(splits=[])).split_mismatch  # type: ignore[union-attr]


def test_the_splits_are_compared_in_minor_units() -> None:
    thirds = [{"uid": uid, "amount": 4.115} for uid in "abc"]
    assert not parsed(expense(amount=12.345, currency="KWD", splits=thirds)).split_mismatch  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", list(Kind))
def test_an_absent_document_posts_nothing(kind: Kind) -> None:
    assert parse(kind, None, Unit.MAJOR) == NOTHING == Transaction(None)


@pytest.mark.parametrize("deleted_at", [NOW, "2026-03-01", 0, False, {}, []])
@pytest.mark.parametrize(
    "fields", [expense(), settlement(), expense(groupId=5), expense(amount=MISSING), settlement(payerId="")]
)
def test_deletion_is_judged_before_anything_else(fields: dict[str, Any], deleted_at: object) -> None:
    assert parsed(fields | {"deletedAt": deleted_at}) == NOTHING


def test_a_document_without_the_field_deleted_at_is_live() -> None:
    assert parsed(expense(deletedAt=MISSING)) == parsed(expense())


def test_the_group_in_the_path_goes_before_the_field() -> None:
    for group_id in ("g", "another", 5, MISSING):
        assert parsed(expense(groupId=group_id), group_in_path="h").group_id == "h"
        assert parsed(settlement(groupId=group_id), group_in_path="h").group_id == "h"


# ------------------------------------------------------------------------------------------------------------- faults


AMOUNT_FAULTS = [
    (MISSING, "is missing"),
    (None, "is null, not a number"),
    (True, "is a boolean, not a number"),
    (float("nan"), "is NaN"),
    (float("inf"), "is infinite"),
    (-1, "is negative"),
    (-0.01, "is negative"),
    (10**13, "is more than 10^12 minor units"),
    ("12,50", "is a string, but not a plain decimal such as 12.50"),
    (NOW, "is a datetime, not a number"),
]
UID_FAULTS = [
    (MISSING, "is missing"),
    (None, "is not a string"),
    (7, "is not a string"),
    (["a"], "is not a string"),
    ("", "is empty"),
    ("____", "has the form __x__, which Firestore reserves"),
    ("__a__", "has the form __x__, which Firestore reserves"),
    ("u" * 1_501, "is longer than 1500 bytes"),
    ("ü" * 751, "is longer than 1500 bytes"),
]
CURRENCY_FAULTS = [
    (MISSING, "is missing"),
    (None, "is not a string"),
    (840, "is not a string"),
    ("", "'' is not an ISO 4217 code with a minor unit"),
    ("XAU", "'XAU' is not an ISO 4217 code with a minor unit"),
    ("US", "'US' is not an ISO 4217 code with a minor unit"),
    (" USD", "' USD' is not an ISO 4217 code with a minor unit"),
    ("ßP", "'ßP' is not an ISO 4217 code with a minor unit"),  # upper-cased it would be SSP
    ("X" * 10_000, "'XXXXXXXXXXXXXXXXXXXX' is not an ISO 4217 code with a minor unit"),
]
GROUP_FAULTS = [
    (MISSING, "is missing"),
    (None, "is not a document id"),
    (5, "is not a document id"),
    ("", "is not a document id"),
    (".", "is not a document id"),
    ("..", "is not a document id"),
    ("a/b", "is not a document id"),
    ("__g__", "is not a document id"),
    ("g" * 1_501, "is not a document id"),
]


@pytest.mark.parametrize(("value", "reason"), AMOUNT_FAULTS)
def test_a_faulty_amount_is_named(value: object, reason: str) -> None:
    assert parsed(expense(amount=value)) == Malformed("amount", reason, "g")
    assert parsed(settlement(amount=value)) == Malformed("amount", reason, "g")
    split = {"uid": "b"} if value is MISSING else {"uid": "b", "amount": value}
    assert parsed(expense(splits=[{"uid": "a", "amount": 1}, split])) == Malformed("splits[1].amount", reason, "g")


@pytest.mark.parametrize(("value", "reason"), UID_FAULTS)
def test_a_faulty_uid_is_named(value: object, reason: str) -> None:
    assert parsed(expense(paidBy=value)) == Malformed("paidBy", reason, "g")
    assert parsed(settlement(payerId=value)) == Malformed("payerId", reason, "g")
    assert parsed(settlement(payeeId=value)) == Malformed("payeeId", reason, "g")
    split = {"amount": 1} if value is MISSING else {"uid": value, "amount": 1}
    assert parsed(expense(splits=[split])) == Malformed("splits[0].uid", reason, "g")


@pytest.mark.parametrize(("value", "reason"), CURRENCY_FAULTS)
def test_a_faulty_currency_is_named(value: object, reason: str) -> None:
    assert parsed(expense(currency=value)) == Malformed("currency", reason, "g")
    assert parsed(settlement(currency=value)) == Malformed("currency", reason, "g")


@pytest.mark.parametrize(("value", "reason"), GROUP_FAULTS)
def test_a_document_that_names_no_usable_group_belongs_to_none(value: object, reason: str) -> None:
    assert parsed(expense(groupId=value)) == Malformed("groupId", reason, None)
    assert parsed(settlement(groupId=value)) == Malformed("groupId", reason, None)


@pytest.mark.parametrize(
    ("splits", "field", "reason"),
    [
        (MISSING, "splits", "is missing"),
        (None, "splits", "is not a list"),
        ({"b": 1}, "splits", "is not a list"),
        ("b", "splits", "is not a list"),
        ((52.5, 13.4), "splits", "is not a list"),  # a geo point
        ([{"uid": "b", "amount": 1}, "b"], "splits[1]", "is not a map"),
        ([None], "splits[0]", "is not a map"),
        ([[]], "splits[0]", "is not a map"),
        ([{"uid": "b", "amount": 1}] * 1_001, "splits", "has 1001 entries, more than 1000"),
    ],
)
def test_faulty_splits_are_named(splits: object, field: str, reason: str) -> None:
    assert parsed(expense(splits=splits)) == Malformed(field, reason, "g")


def test_a_thousand_splits_are_allowed() -> None:
    assert len(posted(expense(splits=[{"uid": "b", "amount": 1}] * MAX_SPLITS))) == 1_000


def test_the_expenses_own_amount_is_judged_even_where_it_posts_nothing() -> None:
    assert parsed(expense(amount=True, splits=[])) == Malformed("amount", "is a boolean, not a number", "g")


def test_an_empty_document_is_malformed_not_deleted() -> None:
    for kind in Kind:
        assert parse(kind, {}, Unit.MAJOR) == Malformed("groupId", "is missing", None)


# --------------------------------------------------------------------------------------------------------------- ids


@pytest.mark.parametrize(
    "uid",
    ["a.b", "a/b", "`", "``", "'", '"', "\\", "🍕", "café", "a b", " ", ".", "..", "*", "[0]", "~", "__a", "a__", "___", "_",
     "\n", "u" * 1_500, "ü" * 750, "constructor", "é", "e\u0301"],
)  # fmt: skip
def test_uids_are_opaque(uid: str) -> None:
    assert uid_fault(uid) is None
    assert posted(expense(splits=[{"uid": uid, "amount": 1}])) == [(uid, "a", "USD", 100)]
    assert posted(settlement(payerId=uid)) == [("a", uid, "USD", 1_250)]


@pytest.mark.parametrize("value", ["g", "a.b", "...", "café", "🍕", " ", "g" * 1_500, "__a", "`", "\\"])
def test_document_ids(value: str) -> None:
    assert is_document_id(value)


@pytest.mark.parametrize("value", ["", ".", "..", "a/b", "/", "__a__", "g" * 1_501, None, 5, b"g", ["g"], True])
def test_no_document_ids(value: object) -> None:
    assert not is_document_id(value)


def test_endless_uids_are_not_kept_in_memory() -> None:
    tracemalloc.start()
    try:
        for number in range(200):
            assert uid_fault(f"{number}" + "u" * 100_000) == "is longer than 1500 bytes"
            assert not is_document_id(f"{number}" + "g" * 100_000)
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < 1_000_000


# ------------------------------------------------------------------------------------------------------------ members


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"members": ["b", "a", "b"]}, ["b", "a"]),
        ({"members": {"b": {"role": "x"}, "a": True}}, ["b", "a"]),
        ({"members": ["a", 5, None, ["b"], {"c": 1}]}, ["a"]),
        ({"members": "ab"}, []),
        ({"members": None}, []),
        ({"members": 5}, []),
        ({}, []),
    ],
)
def test_members_are_a_list_of_uids_or_a_map_keyed_by_uid(fields: dict[str, Any], expected: list[str]) -> None:
    assert members(fields) == expected
