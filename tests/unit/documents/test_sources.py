"""Source documents by example: what they post, and the field and reason of every fault."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest

from balance.core.ledger import Posting, fold, post
from balance.core.money import Unit
from balance.documents.sources import (
    MAX_SPLITS,
    NOTHING,
    Kind,
    Malformed,
    Parsed,
    Transaction,
    is_deleted,
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


def shares(**amounts: object) -> list[dict[str, object]]:
    return [{"uid": uid, "amount": amount} for uid, amount in amounts.items()]


def test_a_refund_of_thirty_gives_each_of_three_ten_back() -> None:
    bill = fold(parsed(expense(paidBy="ana", splits=shares(ana=30, bo=30, cy=30))).postings)  # type: ignore[union-attr]
    refund = parsed(expense(paidBy="ana", amount=-30, splits=shares(ana=-10, bo=-10, cy=-10)))
    assert refund == Transaction("g", (Posting("ana", "bo", "USD", 1_000), Posting("ana", "cy", "USD", 1_000)))
    post(bill, refund.postings)
    assert bill == {"USD": {("ana", "bo"): -2_000, ("ana", "cy"): -2_000}}


def test_of_two_payers_one_gets_back_what_they_paid_too_much() -> None:
    bill = expense(paidBy=shares(ana=4, bo=8), amount=12, splits=shares(ana=4, bo=4, cy=4))
    assert posted(bill) == [("cy", "bo", "USD", 400)]


def test_a_share_may_be_negative_beside_others_that_are_not() -> None:
    assert posted(expense(paidBy="ana", amount=10, splits=shares(ana=-2, bo=12))) == [("bo", "ana", "USD", 1_200)]
    # The matching runs in the order of uids: bo owes ana first, then cy.
    assert posted(expense(paidBy="ana", amount=7, splits=shares(bo=10, cy=-3))) == [
        ("bo", "ana", "USD", 700),
        ("bo", "cy", "USD", 300),
    ]


def test_sevenths_of_thirty_are_thirty_in_all() -> None:
    found = posted(expense(paidBy="z", amount=30, splits=shares(**dict.fromkeys("abcdefg", 4.285714285714286))))
    assert [amount_minor for *_, amount_minor in found] == [429, 429, 429, 429, 428, 428, 428]
    assert sum(amount_minor for *_, amount_minor in found) == 3_000
    assert not parsed(expense(paidBy="z", amount=30, splits=shares(**dict.fromkeys("abcdefg", 30 / 7)))).split_mismatch  # type: ignore[union-attr]


def test_payers_are_rounded_together_too() -> None:
    thirds = dict.fromkeys("abc", 10 / 3)
    assert posted(expense(paidBy=shares(**thirds), amount=10, splits=shares(d=5, e=5))) == [
        ("d", "a", "USD", 334),
        ("d", "b", "USD", 166),
        ("e", "b", "USD", 167),
        ("e", "c", "USD", 333),
    ]


def test_several_payers_are_matched_with_the_others_in_the_order_of_uids() -> None:
    bill = expense(paidBy=shares(d=30, a=10), amount=40, splits=shares(c=20, b=20))
    assert posted(bill) == [("b", "a", "USD", 1_000), ("b", "d", "USD", 1_000), ("c", "d", "USD", 2_000)]


def test_a_list_of_one_payer_is_that_payer() -> None:
    alone, listed = (parsed(expense(paidBy=payer)) for payer in ("a", shares(a=90)))
    assert listed == alone


def test_payers_who_paid_just_their_own_shares_post_nothing() -> None:
    assert posted(expense(paidBy=shares(a=45, b=45), splits=shares(b=45, a=45))) == []


def test_payers_and_repeated_uids_add_up() -> None:
    twice = [*shares(a=10), *shares(a=20)]
    assert posted(expense(paidBy=twice, splits=[*shares(b=10), *shares(b=25, a=-5)])) == [("b", "a", "USD", 3_500)]


def test_a_thousand_payers_are_allowed() -> None:
    paid = [{"uid": "a", "amount": 1}] * MAX_SPLITS
    assert posted(expense(paidBy=paid, splits=shares(b=1_000))) == [("b", "a", "USD", 100_000)]


def test_an_own_currency_has_its_own_decimals() -> None:
    unit = Unit(own=(("BTC", 8), ("POINTS", 0)))
    assert posted(settlement(amount=0.00000001, currency="btc"), unit) == [("a", "b", "BTC", 1)]
    assert posted(settlement(amount=2.5, currency="POINTS"), unit) == [("a", "b", "POINTS", 3)]


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


@pytest.mark.parametrize("deleted_at", [NOW, True])
@pytest.mark.parametrize(
    "fields", [expense(), settlement(), expense(groupId=5), expense(amount=MISSING), settlement(payerId="")]
)
def test_deletion_is_judged_before_anything_else(fields: dict[str, Any], deleted_at: object) -> None:
    assert parsed(fields | {"deletedAt": deleted_at}) == NOTHING


@pytest.mark.parametrize("deleted_at", ["2026-03-01", "", 0, 1, 1.5, {}, [], b"", (52.5, 13.4)])
def test_a_deletion_that_says_neither_yes_nor_no_is_a_fault_whatever_else_is_wrong(deleted_at: object) -> None:
    reason = "is neither a time nor true, false or null"
    for fields in (expense(), settlement(), expense(amount=MISSING), settlement(payerId="")):
        assert parsed(fields | {"deletedAt": deleted_at}) == Malformed("deletedAt", reason, "g")
    assert parsed(expense(groupId=5, deletedAt=deleted_at)) == Malformed("deletedAt", reason, None)


def test_a_document_that_is_not_deleted_is_live() -> None:
    assert parsed(expense(deletedAt=False)) == parsed(expense(deletedAt=None)) == parsed(expense())
    assert parsed(settlement(deletedAt=False)) == parsed(settlement())


def test_whether_a_group_is_deleted_is_told_by_the_same_rule() -> None:
    told = [is_deleted({"deletedAt": value}) for value in (None, False, True, NOW, "yes", 0)]
    assert told == [False, False, True, True, None, None]
    assert is_deleted({}) is False


def test_a_document_of_no_collection_of_the_apps_posts_nothing() -> None:
    assert parse(None, expense(), Unit.MAJOR) == NOTHING


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
    (10**13, "is more than 10^14 minor units"),
    (-(10**13), "is more than 10^14 minor units"),
    ("12,50", "is a string, but not a plain decimal number, with a point if need be"),
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
    ("", "'' is not an ISO 4217 code with a minor unit, nor one of CURRENCIES"),
    ("XAU", "'XAU' is not an ISO 4217 code with a minor unit, nor one of CURRENCIES"),
    ("US", "'US' is not an ISO 4217 code with a minor unit, nor one of CURRENCIES"),
    (" USD", "' USD' is not an ISO 4217 code with a minor unit, nor one of CURRENCIES"),
    ("ßP", "'ßP' is not an ISO 4217 code with a minor unit, nor one of CURRENCIES"),  # upper-cased it would be SSP
    ("X" * 10_000, "'XXXXXXXXXXXXXXXXXXXX' is not an ISO 4217 code with a minor unit, nor one of CURRENCIES"),
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

    payers = [{"uid": "a", "amount": 90}, split]
    assert parsed(expense(paidBy=payers)) == Malformed("paidBy[1].amount", reason, "g")


@pytest.mark.parametrize("value", [-1, -0.001, "-0.01"])
def test_a_settlement_of_less_than_nothing_is_a_fault(value: object) -> None:
    assert parsed(settlement(amount=value)) == Malformed("amount", "is negative, which only an expense's may be", "g")


@pytest.mark.parametrize(("value", "reason"), UID_FAULTS)
def test_a_faulty_uid_is_named(value: object, reason: str) -> None:
    payer = {"amount": 90} if value is MISSING else {"uid": value, "amount": 90}
    assert parsed(expense(paidBy=[payer])) == Malformed("paidBy[0].uid", reason, "g")
    if isinstance(value, str) or value is MISSING:
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
    if isinstance(splits, list):
        assert parsed(expense(paidBy=splits)) == Malformed(field.replace("splits", "paidBy"), reason, "g")


@pytest.mark.parametrize("paid_by", [None, 7, {"a": 90}, True, (52.5, 13.4)])
def test_who_paid_is_a_uid_or_a_list(paid_by: object) -> None:
    assert parsed(expense(paidBy=paid_by)) == Malformed("paidBy", "is neither a string nor a list", "g")


@pytest.mark.parametrize(
    ("paid", "reason"),
    [
        ([], "adds up to 0, but the splits to 90"),
        ([30, 59.99], "adds up to 89.99, but the splits to 90"),
        ([30, 59.994], "adds up to 89.99, but the splits to 90"),
        ([100, -9], "adds up to 91, but the splits to 90"),
    ],
)
def test_payers_must_add_up_to_the_splits(paid: list[float], reason: str) -> None:
    payers = [{"uid": uid, "amount": amount} for uid, amount in zip("ab", paid, strict=False)]
    assert parsed(expense(paidBy=payers)) == Malformed("paidBy", reason, "g")


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


def test_an_adapters_maps_of_other_types_are_maps_for_every_share() -> None:
    one = MappingProxyType({"uid": "b", "amount": 5})
    for amount in (5, -5, "5"):  # the first on the plain path
        other = MappingProxyType({"uid": "c", "amount": amount})
        assert isinstance(parsed(expense(splits=[one, other])), Transaction)


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
