"""The auditor notices what it must."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

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
        "version": 2,
        "rules": "0:x",
        "asOf": datetime.now(UTC),
        "incarnation": datetime.now(UTC),
        "faults": 0,
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
        ({"amount": 10**11}, "amount"),
        ({"currency": "XTS"}, "currency"),
        ({"splits": {}}, "splits"),
        ({"splits": ["ana"]}, "splits[0]"),
        ({"splits": [{"uid": "bo", "amount": -1}]}, "splits[0].amount"),
    ],
)
def test_malformed_documents_are_faults(changes: dict[str, Any], wrong: str) -> None:
    reading = read("expenses/e", {**EXPENSE, **changes}, RULES)
    assert reading.fault == Fault(None if wrong == "groupId" else "g", frozenset({wrong}))
    deleted = read("expenses/e", {**EXPENSE, **changes, "deletedAt": "then"}, RULES)
    assert deleted == Reading()


def test_the_later_version_knows_a_currency_more() -> None:
    reading = read("expenses/e", {**EXPENSE, "currency": "XTS"}, Rules(LATER_EXPONENTS))
    assert reading.fault is None


def test_amounts_round_half_up_and_pairs_are_netted() -> None:
    expense = {**EXPENSE, "splits": [{"uid": "bo", "amount": "3.335"}, {"uid": "bo", "amount": 0.005}]}
    settlement = {"groupId": "g", "payerId": "bo", "payeeId": "ana", "amount": 10, "currency": "USD"}
    readings = [read("expenses/e", expense, RULES), read("settlements/s", settlement, RULES)]
    assert expected_pairs(expected_debts(readings, "g")) == {("USD", "ana", "bo"): Decimal("6.65")}
