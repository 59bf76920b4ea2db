"""The auditor notices what it must."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from balance.documents.balances import VERSION
from tests.simulation.auditor import (
    EXPONENTS,
    LATER_EXPONENTS,
    Discrepancy,
    Fault,
    Reading,
    Rules,
    check_balance,
    compare,
    expected_debts,
    expected_pairs,
    read,
)

RULES = Rules(EXPONENTS)


def row(uid: str, owes: dict[str, float], owed_by: dict[str, float], net: float) -> dict[str, Any]:
    return {"uid": uid, "owes": owes, "owedBy": owed_by, "netBalance": net}


def balance() -> dict[str, Any]:
    """bo owes ana 5 USD."""
    return {
        "groupId": "g",
        "balancesByCurrency": {"USD": {"ana": row("ana", {}, {"bo": 5}, 5), "bo": row("bo", {"ana": 5}, {}, -5)}},
        "simplifiedDebts": [{"from": {"uid": "bo"}, "to": {"uid": "ana"}, "amount": 5, "currency": "USD"}],
        "lastUpdatedAt": datetime.now(UTC),
        "version": VERSION,
        "rules": "0:f00d",
        "incarnation": datetime.now(UTC),
        "faults": 0,
        "asOf": datetime.now(UTC),
        "detail": "pairs",
    }


EXPENSE = {
    "groupId": "g",
    "paidBy": "ana",
    "amount": 5,
    "currency": "usd",
    "splits": [{"uid": "bo", "amount": 5}, {"uid": "ana", "amount": 1}],
}


def test_a_right_balance_passes() -> None:
    stored = check_balance("g", balance(), RULES)
    compare(stored, [read("expenses/e", EXPENSE, RULES)], "g")
    with pytest.raises(Discrepancy, match="but the documents say"):
        compare(stored, [], "g")
    compare(check_balance("g", balance(), RULES), [read("expenses/e", EXPENSE, RULES)], "g")


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda fields: fields.pop(name)


def _usd(fields: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = fields["balancesByCurrency"]["USD"]
    return found


@pytest.mark.parametrize(
    "bend",
    [
        _without("asOf"),
        lambda fields: fields.update(groupId="h"),
        lambda fields: fields.update(detail="some"),
        lambda fields: fields.update(detail="nets"),
        lambda fields: fields.update(simplifiedDebts=[]),
        lambda fields: fields.update(simplifiedDebts=fields["simplifiedDebts"] * 2),
        lambda fields: fields["simplifiedDebts"][0].update(amount=-5),
        lambda fields: fields["balancesByCurrency"].update(EUR={}),
        lambda fields: fields["balancesByCurrency"].update(XTS=fields["balancesByCurrency"].pop("USD")),
        lambda fields: _usd(fields)["ana"].update(netBalance=4),
        lambda fields: _usd(fields)["ana"].update(netBalance="5"),
        lambda fields: _usd(fields)["ana"]["owedBy"].update(bo=4),
        lambda fields: _usd(fields)["ana"]["owedBy"].update(bo=5.001),
        lambda fields: _usd(fields).update(cy=row("cy", {}, {}, 0)),
        lambda fields: (_usd(fields)["ana"]["owes"].update(bo=1), _usd(fields)["bo"]["owedBy"].update(ana=1)),
        lambda fields: (_usd(fields)["ana"]["owes"].update(ana=1), _usd(fields)["ana"]["owedBy"].update(ana=1)),
    ],
)
def test_a_bent_balance_is_noticed(bend: Callable[[dict[str, Any]], None]) -> None:
    fields = balance()
    bend(fields)
    with pytest.raises(Discrepancy):
        check_balance("g", fields, RULES)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"groupId": "a/b"}, "groupId"),
        ({"paidBy": 5}, "paidBy"),
        ({"amount": float("inf")}, "amount"),
        ({"amount": True}, "amount"),
        ({"amount": "1e3"}, "amount"),
        ({"amount": 10**13}, "amount"),
        ({"paidBy": [{"uid": "ana", "amount": 5}]}, "paidBy"),
        ({"paidBy": [{"uid": "ana", "amount": True}, {"uid": "bo", "amount": 6}]}, "paidBy[0].amount"),
        ({"currency": "XTS"}, "currency"),
        ({"splits": {}}, "splits"),
        ({"splits": ["ana"]}, "splits[0]"),
        ({"splits": [{"uid": "bo", "amount": "-"}]}, "splits[0].amount"),
    ],
)
def test_malformed_documents_are_faults(changes: dict[str, Any], wrong: str) -> None:
    reading = read("expenses/e", {**EXPENSE, **changes}, RULES)
    assert reading.fault is not None
    assert reading.fault.group == (None if wrong == "groupId" else "g")
    assert wrong in reading.fault.fields
    deleted = read("expenses/e", {**EXPENSE, **changes, "deletedAt": datetime.now(UTC)}, RULES)
    assert deleted == Reading()


@pytest.mark.parametrize(("deleted_at", "live"), [(None, True), (False, True), (True, False), (datetime.now(UTC), False)])
def test_a_deletion_is_a_time_or_true(deleted_at: object, live: bool) -> None:
    assert bool(read("expenses/e", {**EXPENSE, "deletedAt": deleted_at}, RULES).debts) is live
    odd = read("expenses/e", {**EXPENSE, "deletedAt": 0 if deleted_at else "no"}, RULES)
    assert odd.fault == Fault("g", frozenset({"deletedAt"}))


def _owed(paid_by: object, **shares: object) -> dict[tuple[str, str, str], Decimal]:
    splits = [{"uid": uid, "amount": amount} for uid, amount in shares.items()]
    return expected_pairs(expected_debts([read("expenses/e", {**EXPENSE, "paidBy": paid_by, "splits": splits}, RULES)], "g"))


def test_expenses_post_the_matching_of_their_nets() -> None:
    assert _owed("ana", ana=-10, bo=-10) == {("USD", "ana", "bo"): Decimal(10)}
    assert _owed("ana", ana=-2, bo=12) == {("USD", "bo", "ana"): Decimal(12)}
    two = [{"uid": "ana", "amount": 4}, {"uid": "bo", "amount": 8}]
    assert _owed(two, ana=4, bo=4, cy=4) == {("USD", "cy", "bo"): Decimal(4)}


def test_shares_are_rounded_together() -> None:
    owed = _owed("z", **dict.fromkeys("abcdefg", 4.285714285714286))
    assert sum(owed.values()) == 30
    assert [uid for _, uid, _ in owed if owed["USD", uid, "z"] == Decimal("4.29")] == ["a", "b", "c", "d"]


def test_the_later_version_knows_a_currency_more() -> None:
    reading = read("expenses/e", {**EXPENSE, "currency": "XTS"}, Rules(LATER_EXPONENTS))
    assert reading.fault is None


def test_pairs_are_netted() -> None:
    expense = {**EXPENSE, "splits": [{"uid": "bo", "amount": "3.335"}, {"uid": "bo", "amount": 0.005}]}
    settlement = {"groupId": "g", "payerId": "bo", "payeeId": "ana", "amount": 10, "currency": "USD"}
    readings = [read("expenses/e", expense, RULES), read("settlements/s", settlement, RULES)]
    assert expected_pairs(expected_debts(readings, "g")) == {("USD", "ana", "bo"): Decimal("6.66")}
