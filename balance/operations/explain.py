"""Why a debt exists: the pair balances behind it, and the expenses and settlements behind those.

A suggestion need not follow the pairs: it takes from those who owe and gives to those who are owed. What explains it is each
side's own account. So the answer holds every pair in which either of the two stands; their sums are the two net balances, and
the transactions listed for a pair, on all pages, add up to it. All of it is read at one instant. For one user in both places
it explains that user's net balance.

Transactions come page by page, the latest first: however long a history is, an answer holds one page of it.
"""

import base64
import binascii
import heapq
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from balance.core.ledger import Ledger, Pair, fold, nets, post
from balance.core.money import Unit, scale, to_stored
from balance.core.simplify import suggest
from balance.database.firestore import Firestore
from balance.documents.settings import Settings
from balance.documents.sources import Kind, Malformed, parse
from balance.operations.reading import iso8601

DEFAULT_PAGE_SIZE = 200
MAX_PAGE_SIZE = 500


class InvalidPageToken(ValueError):
    """A token that no page gave."""


class Part(NamedTuple):
    """What one expense or settlement does to one pair; in the order of the pages, the latest being the largest."""

    updated_at: datetime
    source: str
    currency: str
    pair: Pair
    amount_minor: int
    """By how much the pair's first user owes its second one more."""
    kind: Kind

    @property
    def place(self) -> "Place":
        """Where in the order it stands."""
        return self.updated_at, self.source, self.currency, self.pair


Place = tuple[datetime, str, str, Pair]


@dataclass(slots=True)
class Account:
    """A group's ledger, and for some of its users one page of the transactions behind their pairs."""

    as_of: datetime
    ledger: Ledger
    page: list[Part] = field(default_factory=list)
    """The latest first."""
    later: dict[tuple[str, Pair], tuple[int, int]] = field(default_factory=dict)
    """By currency and pair: number and sum of the transactions that earlier pages hold."""
    counts: dict[tuple[str, Pair], int] = field(default_factory=dict)
    """By currency and pair: the number of all its transactions."""
    faults: int = 0
    """How many documents are in no sum."""

    @property
    def next_page(self) -> str | None:
        """The token of the page after this one, if there is one."""
        told = len(self.page) + sum(count for count, _ in self.later.values())
        return page_token(self.page[-1].place) if self.page and told < sum(self.counts.values()) else None


def read_account(
    firestore: Firestore,
    settings: Settings,
    group_id: str,
    as_of: datetime,
    uids: Iterable[str],
    *,
    size: int = DEFAULT_PAGE_SIZE,
    after: Place | None = None,
) -> Account:
    """Read a group's whole history as of an instant of the past hour, of which `size` transactions are kept: those `after` a
    place. May raise TransientError."""
    account, wanted = Account(as_of, {}), frozenset(uids)
    page: list[Part] = []
    for kind in Kind:
        for document in firestore.query(settings.layout.sources(kind, group_id), read_time=as_of):
            parsed = parse(kind, document.fields, settings.unit, settings.layout.group_in_path(document.path))
            if isinstance(parsed, Malformed):
                account.faults += 1
                continue
            post(account.ledger, parsed.postings)
            assert document.update_time is not None, f"{document.path} was found, so it exists"
            for currency, pairs in fold(parsed.postings).items():
                for pair, amount_minor in pairs.items():
                    if wanted.isdisjoint(pair):
                        continue
                    part = Part(document.update_time, document.path, currency, pair, amount_minor, kind)
                    key = currency, pair
                    account.counts[key] = account.counts.get(key, 0) + 1
                    if after is not None and part.place >= after:
                        count, total = account.later.get(key, (0, 0))
                        account.later[key] = count + 1, total + amount_minor
                    elif len(page) < size:
                        heapq.heappush(page, part)
                    else:
                        heapq.heappushpop(page, part)
    account.page = sorted(page, reverse=True)
    return account


def page_token(place: Place) -> str:
    """A place as clients hand it back; no wording of it is promised."""
    updated_at, source, currency, pair = place
    text = json.dumps([updated_at.isoformat(), source, currency, *pair])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def parse_page_token(token: str) -> Place:
    """The place that a token means; raises InvalidPageToken."""
    try:
        text = base64.urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        updated_at, source, currency, low, high = map(str, json.loads(text))
        place = datetime.fromisoformat(updated_at), source, currency, (low, high)
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise InvalidPageToken("pageToken is not one that this API gave") from None
    if place[0].tzinfo is None:
        raise InvalidPageToken("pageToken is not one that this API gave")
    return place


def as_json(group_id: str, account: Account, debtor: str, creditor: str, unit: Unit) -> dict[str, Any]:
    """The answer of the API: how the debtor comes to owe the creditor, currency by currency."""
    return {
        "groupId": group_id,
        "from": {"uid": debtor},
        "to": {"uid": creditor},
        "asOf": iso8601(account.as_of),
        "faults": account.faults,
        "byCurrency": {
            currency: _currency(account, currency, debtor, creditor, unit)
            for currency, pairs in sorted(account.ledger.items())
            if any(uid in pair for pair in pairs for uid in (debtor, creditor))
        },
        "nextPageToken": account.next_page,
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
            _pair(account, currency, pair, amount_minor, minor_per_unit)
            for pair, amount_minor in sorted(
                pairs.items(), key=lambda item: (not {debtor, creditor}.issuperset(item[0]), item[0])
            )
            if debtor in pair or creditor in pair
        ],
    }


def _pair(account: Account, currency: str, pair: Pair, amount_minor: int, minor_per_unit: int) -> dict[str, Any]:
    sign = 1 if amount_minor > 0 else -1
    debtor, creditor = pair[::sign]
    told = [part for part in account.page if (part.currency, part.pair) == (currency, pair)]
    later_count, later_minor = account.later.get((currency, pair), (0, 0))
    left_minor = amount_minor - later_minor - sum(part.amount_minor for part in told)
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
            "count": account.counts[currency, pair] - later_count - len(told),
            "amount": to_stored(sign * left_minor, minor_per_unit),
        },
    }
