"""The documents that the benchmarks measure with: deterministic, and like an app's."""

import random
from itertools import combinations
from typing import Any

from balance.core.ledger import Ledger, Posting, fold


def uids(members: int) -> list[str]:
    """Uids as long as Firebase's."""
    return [f"user{number:04d}abcdefghijklmnopqrst" for number in range(members)]


def expenses(count: int, members: int, group: str = "g", currencies: tuple[str, ...] = ("USD",)) -> list[dict[str, Any]]:
    """Expenses split among two to six members."""
    chance = random.Random(count * 1_000 + members)
    people = uids(members)
    made = []
    for _ in range(count):
        among = chance.sample(people, chance.randint(2, min(6, members)))
        share_minor, left_over_minor = divmod(chance.randint(500, 30_000), len(among))
        shares = [share_minor + (index < left_over_minor) for index in range(len(among))]
        made.append(
            {
                "groupId": group,
                "paidBy": chance.choice(people),
                "amount": sum(shares) / 100,
                "currency": chance.choice(currencies),
                "splits": [{"uid": uid, "amount": share / 100} for uid, share in zip(among, shares, strict=True)],
                "deletedAt": None,
                "title": "groceries and more",
            }
        )
    return made


def full_ledger(members: int, currencies: tuple[str, ...] = ("USD",)) -> Ledger:
    """A balance in which every pair of members owes something."""
    chance = random.Random(members)
    return fold(
        Posting(one, other, currency, chance.randint(1, 99_999))
        for currency in currencies
        for one, other in combinations(uids(members), 2)
    )


def shares(members: int, count: int = 4) -> list[Posting]:
    """The postings of one expense with this many shares beside the payer's."""
    people = uids(members)
    return [Posting(uid, people[-1], "USD", 1_234) for uid in people[:count]]
