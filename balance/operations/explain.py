"""Why a debt exists: the pair balances behind it, and the expenses and settlements behind those.

A suggestion need not follow the pairs: it takes from those who owe and gives to those who are owed. What explains it is each
side's own account. So the answer holds every pair in which either of the two stands; their sums are the two net balances, and
the transactions listed for a pair add up to it. All of it is read at one instant. For one user in both places it explains that
user's net balance.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from balance.core.ledger import Ledger, Pair, fold, nets, post
from balance.core.money import Unit, scale, to_stored
from balance.core.simplify import suggest
from balance.database.firestore import Firestore, Snapshot
from balance.documents.settings import Settings
from balance.documents.sources import Kind, Malformed, parse
from balance.operations.reading import iso8601

MAX_TRANSACTIONS_PER_PAIR = 200
"""So many are told, the latest; of the others number and sum."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one expense or settlement does to one pair."""

    kind: Kind
    source: str
    updated_at: datetime
    amount_minor: int
    """By how much the pair's first user owes its second one more."""


@dataclass(slots=True)
class Account:
    """A group's ledger, and for some of its users the transactions behind their pairs."""

    ledger: Ledger
    parts: dict[tuple[str, Pair], list[Part]]
    """By currency and pair."""


def read_account(firestore: Firestore, settings: Settings, group_id: str, as_of: datetime, uids: Iterable[str]) -> Account:
    """Read a group's whole history as of an instant of the past hour. May raise TransientError."""
    account, wanted = Account({}, {}), frozenset(uids)
    for kind in Kind:
        for document in firestore.query(settings.layout.sources(kind, group_id), read_time=as_of):
            parsed = parse(kind, document.fields, settings.unit, settings.layout.group_in_path(document.path))
            if isinstance(parsed, Malformed):
                continue
            post(account.ledger, parsed.postings)
            for currency, pairs in fold(parsed.postings).items():
                for pair, amount_minor in pairs.items():
                    if not wanted.isdisjoint(pair):
                        account.parts.setdefault((currency, pair), []).append(_part(kind, document, amount_minor))
    return account


def _part(kind: Kind, document: Snapshot, amount_minor: int) -> Part:
    assert document.update_time is not None, f"{document.path} was found, so it exists"
    return Part(kind, document.path, document.update_time, amount_minor)


def as_json(group_id: str, account: Account, debtor: str, creditor: str, as_of: datetime, unit: Unit) -> dict[str, Any]:
    """The answer of the API: how the debtor comes to owe the creditor, currency by currency."""
    return {
        "groupId": group_id,
        "from": {"uid": debtor},
        "to": {"uid": creditor},
        "asOf": iso8601(as_of),
        "byCurrency": {
            currency: _currency(account, currency, debtor, creditor, unit)
            for currency, pairs in sorted(account.ledger.items())
            if any(uid in pair for pair in pairs for uid in (debtor, creditor))
        },
    }


def _currency(account: Account, currency: str, debtor: str, creditor: str, unit: Unit) -> dict[str, Any]:
    minor_per_unit = scale(currency, unit)
    assert minor_per_unit is not None, f"{currency} was posted, so it is known"
    pairs = account.ledger[currency]
    totals = nets(pairs)
    direct = pairs.get((debtor, creditor), 0) - pairs.get((creditor, debtor), 0)
    suggested = sum(t.amount_minor for t in suggest(totals) if (t.debtor, t.creditor) == (debtor, creditor))
    return {
        "suggested": to_stored(suggested, minor_per_unit),
        "owed": to_stored(direct, minor_per_unit),
        "netBalances": {uid: to_stored(totals.get(uid, 0), minor_per_unit) for uid in (debtor, creditor)},
        "pairs": [
            _pair(pair, amount_minor, account.parts[currency, pair], minor_per_unit)
            for pair, amount_minor in sorted(
                pairs.items(), key=lambda item: (not {debtor, creditor}.issuperset(item[0]), item[0])
            )
            if debtor in pair or creditor in pair
        ],
    }


def _pair(pair: Pair, amount_minor: int, parts: list[Part], minor_per_unit: int) -> dict[str, Any]:
    sign = 1 if amount_minor > 0 else -1
    debtor, creditor = pair[::sign]
    latest = sorted(parts, key=lambda part: (part.updated_at, part.source), reverse=True)
    told, others = latest[:MAX_TRANSACTIONS_PER_PAIR], latest[MAX_TRANSACTIONS_PER_PAIR:]
    return {
        "from": {"uid": debtor},
        "to": {"uid": creditor},
        "amount": to_stored(abs(amount_minor), minor_per_unit),
        "transactions": [
            {
                "kind": str(part.kind),
                "source": part.source,
                "amount": to_stored(sign * part.amount_minor, minor_per_unit),
                "updatedAt": iso8601(part.updated_at),
            }
            for part in told
        ],
        "leftOut": {
            "count": len(others),
            "amount": to_stored(sign * sum(part.amount_minor for part in others), minor_per_unit),
        },
    }
