"""The algebra of balances: postings, pairs, deltas. Pure: integers in, integers out.

A balance is one signed integer per currency and unordered pair of users: the sum of all postings between the two. That is
an abelian group: deltas commute, and each has an inverse, so events may arrive in any order and one formula,
`delta(before, after)`, covers creating, editing, deleting and restoring alike. What each user owes, is owed and has in
total is derived from the pairs and never kept beside them.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

K = TypeVar("K")

Pair = tuple[str, str]
"""Two uids in ascending order."""

Pairs = dict[Pair, int]
"""For each pair what its first user owes its second, in minor units; negative when it is the other way round; never zero."""

Ledger = dict[str, Pairs]
"""A group's balance: pairs by currency; no currency is empty."""

Nets = dict[str, int]
"""By uid: what the user is owed less what the user owes, in minor units."""


class Posting(NamedTuple):
    """The debtor owes the creditor this much more, in minor units of the currency."""

    debtor: str
    creditor: str
    currency: str
    amount_minor: int


def post(ledger: Ledger, postings: Iterable[Posting], sign: int = 1) -> None:
    """Add postings to a ledger in place, or take them back with sign -1."""
    for debtor, creditor, currency, amount_minor in postings:
        pairs = ledger.get(currency)
        if pairs is None:
            pairs = ledger[currency] = {}
        if debtor < creditor:
            _add(pairs, (debtor, creditor), sign * amount_minor)
        elif creditor < debtor:
            _add(pairs, (creditor, debtor), -sign * amount_minor)
        # A posting to oneself is nothing.
        if not pairs:
            del ledger[currency]


def _add(totals: dict[K, int], key: K, amount_minor: int) -> None:
    total_minor = totals.get(key, 0) + amount_minor
    if total_minor:
        totals[key] = total_minor
    else:
        totals.pop(key, None)


def fold(postings: Iterable[Posting]) -> Ledger:
    """The balance that these postings add up to."""
    ledger: Ledger = {}
    post(ledger, postings)
    return ledger


def delta(before: Iterable[Posting], after: Iterable[Posting]) -> Ledger:
    """What a change of one document does to the balance: postings(after) - postings(before)."""
    ledger = fold(after)
    post(ledger, before, sign=-1)
    return ledger


def add(ledger: Ledger, other: Mapping[str, Mapping[Pair, int]]) -> None:
    """Add another ledger (a delta) to a ledger in place."""
    for currency, changes in other.items():
        pairs = ledger.setdefault(currency, {})
        for pair, amount_minor in changes.items():
            _add(pairs, pair, amount_minor)
        if not pairs:
            del ledger[currency]


def added(totals: Mapping[K, int], changes: Mapping[K, int]) -> dict[K, int]:
    """The sums by key (pair or uid), zeros left out."""
    sums = dict(totals)
    for key, amount_minor in changes.items():
        _add(sums, key, amount_minor)
    return sums


def nets(pairs: Mapping[Pair, int]) -> Nets:
    """Every user of the pairs with the user's net balance, zero included; the values sum to zero."""
    totals: Nets = {}
    for (low, high), amount_minor in pairs.items():
        totals[low] = totals.get(low, 0) - amount_minor
        totals[high] = totals.get(high, 0) + amount_minor
    return totals


def check_invariants(ledger: Mapping[str, Mapping[Pair, int]]) -> None:
    """Raises AssertionError when a ledger is not canonical: pairs ascending, nothing zero, no currency empty."""
    for currency, pairs in ledger.items():
        assert pairs, f"{currency} is empty"
        for (low, high), amount_minor in pairs.items():
            assert low < high, f"{currency}: the pair {low!r}, {high!r} is not ascending"
            assert amount_minor, f"{currency}: {low!r} and {high!r} stand at zero"
        assert sum(nets(pairs).values()) == 0, f"{currency}: the nets do not sum to zero"
