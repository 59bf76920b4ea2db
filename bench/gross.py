"""Baseline: the algorithm that bill-splitting apps commonly start with, in the same language.

Every user has a map of what is owed to whom and by whom, in gross. An expense adds to both maps and then cancels opposite
debts; after each event the nets of all users are recomputed and settled greedily, largest first.
"""

from typing import Any

Balances = dict[str, dict[str, Any]]


def apply_expense(balances: Balances, expense: dict[str, Any], sign: int = 1) -> Balances:
    """A new set of maps with an expense added, or taken back with sign -1: every map is rebuilt on each event."""
    merged = _merged(balances, _of_expense(expense, sign))
    _cancel(merged)
    return merged


def _of_expense(expense: dict[str, Any], sign: int) -> Balances:
    payer = expense["paidBy"]
    found: Balances = {}
    for split in expense["splits"]:
        uid, amount = split["uid"], sign * split["amount"]
        if uid == payer:
            continue
        for each in (uid, payer):
            found.setdefault(each, {"uid": each, "owes": {}, "owedBy": {}, "netBalance": 0.0})
        found[uid]["owes"][payer] = found[uid]["owes"].get(payer, 0) + amount
        found[payer]["owedBy"][uid] = found[payer]["owedBy"].get(uid, 0) + amount
    return found


_NOBODY: dict[str, Any] = {"owes": {}, "owedBy": {}}


def _merged(one: Balances, other: Balances) -> Balances:
    """The sums, entry by entry."""
    return {
        uid: {
            "uid": uid,
            "netBalance": 0.0,
            **{side: _sums(one.get(uid, _NOBODY)[side], other.get(uid, _NOBODY)[side]) for side in ("owes", "owedBy")},
        }
        for uid in {**one, **other}
    }


def _sums(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {uid: round(one.get(uid, 0) + other.get(uid, 0), 2) for uid in {**one, **other}}


def _cancel(balances: Balances) -> None:
    """Cancel what two users owe each other, and recompute every net."""
    for uid, row in balances.items():
        for other in list(row["owes"]):
            mutual = min(row["owes"][other], balances[other]["owes"].get(uid, 0))
            if mutual > 0:
                for one, two in ((uid, other), (other, uid)):
                    balances[one]["owes"][two] = round(balances[one]["owes"][two] - mutual, 2)
                    balances[two]["owedBy"][one] = round(balances[two]["owedBy"][one] - mutual, 2)
    for row in balances.values():
        for side in ("owes", "owedBy"):
            row[side] = {uid: amount for uid, amount in row[side].items() if amount}
        row["netBalance"] = round(sum(row["owedBy"].values()) - sum(row["owes"].values()), 2)


def settle(balances: Balances) -> list[tuple[str, str, float]]:
    """Greedy suggestions: the largest debtor pays the largest creditor."""
    debtors = sorted((row["netBalance"], uid) for uid, row in balances.items() if row["netBalance"] < 0)
    creditors = sorted(((row["netBalance"], uid) for uid, row in balances.items() if row["netBalance"] > 0), reverse=True)
    transfers = []
    debts, credits_ = [[-net, uid] for net, uid in debtors], [[net, uid] for net, uid in creditors]
    i = j = 0
    while i < len(debts) and j < len(credits_):
        paid = min(debts[i][0], credits_[j][0])
        transfers.append((debts[i][1], credits_[j][1], round(paid, 2)))
        debts[i][0] = round(debts[i][0] - paid, 2)
        credits_[j][0] = round(credits_[j][0] - paid, 2)
        i += debts[i][0] <= 0
        j += credits_[j][0] <= 0
    return transfers


def recalculate(expenses: list[dict[str, Any]]) -> Balances:
    """All expenses, one after the other, as on each event."""
    balances: Balances = {}
    for expense in expenses:
        balances = apply_expense(balances, expense)
    return balances
