"""What one user owes and is owed over all groups, by currency and by person.

By currency a group counts with the user's net balance in it: what is owed in one group does not pay for another. By person it
counts with the pairs, which a group that is too large to store them does not have: it is named, and counts by currency only.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from balance.core.money import Unit, scale, to_stored
from balance.documents.balances import Balance, Detail

_Sums = dict[str, list[tuple[str, int]]]
"""By currency: groups with the user's balance there, in minor units, never zero."""


@dataclass(slots=True)
class Totals:
    """The sums for one user, group by group."""

    uid: str
    by_currency: _Sums = field(default_factory=dict)
    by_person: dict[str, _Sums] = field(default_factory=dict)
    """What each other user owes this one, by currency and group; negative where this one owes."""
    without_pairs: list[str] = field(default_factory=list)
    faults: int = 0
    """How many documents of the groups cannot be understood, and are in no sum."""

    def add(self, group_id: str, balance: Balance, faults: int) -> None:
        """Count a group."""
        self.faults += faults
        for currency, nets in balance.nets.items():
            if net_minor := nets.get(self.uid, 0):
                self.by_currency.setdefault(currency, []).append((group_id, net_minor))
        if balance.detail is not Detail.PAIRS:
            self.without_pairs.append(group_id)
        for currency, pairs in balance.ledger.items():
            for (low, high), amount_minor in pairs.items():
                if self.uid in (low, high):
                    # In a pair the first owes the second.
                    other, owed_minor = (low, amount_minor) if self.uid == high else (high, -amount_minor)
                    self.by_person.setdefault(other, {}).setdefault(currency, []).append((group_id, owed_minor))

    def as_json(self, unit: Unit) -> dict[str, Any]:
        """The sums as the API tells them; amounts are in the app's unit."""
        return {
            "byCurrency": _as_json(self.by_currency, unit),
            "byPerson": {uid: _as_json(sums, unit) for uid, sums in sorted(self.by_person.items())},
            "withoutPairs": self.without_pairs,
            "faults": self.faults,
        }


def _as_json(sums: _Sums, unit: Unit) -> dict[str, Any]:
    return {currency: _currency(sums[currency], scale(currency, unit) or 1) for currency in sorted(sums)}


def _currency(groups: Iterable[tuple[str, int]], minor_per_unit: int) -> dict[str, Any]:
    groups = list(groups)
    owed_minor = sum(net_minor for _, net_minor in groups if net_minor > 0)
    owes_minor = -sum(net_minor for _, net_minor in groups if net_minor < 0)
    return {
        "owes": to_stored(owes_minor, minor_per_unit),
        "isOwed": to_stored(owed_minor, minor_per_unit),
        "netBalance": to_stored(owed_minor - owes_minor, minor_per_unit),
        "groups": [{"groupId": group_id, "netBalance": to_stored(net_minor, minor_per_unit)} for group_id, net_minor in groups],
    }
