"""What an app might have written: a trip, a large group with odd names, and many small groups."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from google.cloud import firestore

from balance.core.money import Unit, scale, to_stored

TRIP = "lisbon"
TRIP_MEMBERS = ("ana", "bo", "chidi", "dara", "elif", "femi")
CROWD = "festival-🎪-2026"
CROWD_CURRENCIES = (
    *("EUR", "USD", "JPY", "KWD", "GBP", "CHF", "SEK", "NOK", "DKK", "PLN"),
    *("CZK", "HUF", "BRL", "MXN", "INR", "CNY", "KRW", "ZAR", "TRY", "AUD"),
)
CROWD_MEMBERS = tuple(
    ["Xy3kPq1nR7tUv5wLzA9bCdE8dLw2Zt", "zoë 🦊", "李小龙", 'o\'brien "quotes"', "a.b.c/d`e", "<b>bold</b>", "محمد"]
    + [f"member-with-a-long-uid-{number:02}-abcdefghijklmnopqrstuvwxyz" for number in range(10)]
    + [f"user{number:02}" for number in range(33)]
)


def expense(group: str, payer: str, amount: float, currency: str, among: Sequence[str], what: str = "") -> dict[str, Any]:
    """Split as evenly as the minor units allow."""
    minor_per_unit = scale(currency, Unit.MAJOR) or 1
    share, left_over = divmod(round(amount * minor_per_unit), len(among))
    return {
        "groupId": group,
        "paidBy": payer,
        "amount": amount,
        "currency": currency,
        "splits": [
            {"uid": uid, "amount": to_stored(share + (index < left_over), minor_per_unit)} for index, uid in enumerate(among)
        ],
        "deletedAt": None,
        **({"description": what} if what else {}),
    }


def write_group(client: firestore.Client) -> None:
    """The small group, without its expenses."""
    client.document(f"groups/{TRIP}").set({"name": "Trip to Lisbon", "members": list(TRIP_MEMBERS)})


def write_trip(client: firestore.Client) -> None:
    """A small group, written one by one as people would."""
    write_group(client)
    everybody = TRIP_MEMBERS
    expenses = client.collection("expenses")
    expenses.document("flat").set(expense(TRIP, "ana", 612.0, "EUR", everybody, "flat for a week"))
    expenses.document("dinner").set(expense(TRIP, "bo", 143.2, "EUR", everybody, "dinner in Alfama"))
    expenses.document("tram").set(expense(TRIP, "chidi", 18.5, "EUR", everybody[:5], "tram 28"))
    expenses.document("surf").set(expense(TRIP, "dara", 210.0, "EUR", ("dara", "elif", "femi"), "surfing lesson"))
    expenses.document("taxi").set(expense(TRIP, "femi", 44.0, "USD", everybody[2:], "taxi to the airport"))
    client.document("settlements/elif-ana").set(
        {"groupId": TRIP, "payerId": "elif", "payeeId": "ana", "amount": 60, "currency": "EUR", "deletedAt": None}
    )
    expenses.document("dinner").update(expense(TRIP, "bo", 151.7, "EUR", everybody, "dinner in Alfama"))


def crowd(seed: int = 5, count: int = 160) -> Iterator[tuple[str, dict[str, Any]]]:
    """The documents of a group of fifty, in twenty currencies."""
    draw = random.Random(seed)
    for number in range(count):
        currency = CROWD_CURRENCIES[number % len(CROWD_CURRENCIES)] if number % 3 else "EUR"
        among = draw.sample(CROWD_MEMBERS, draw.randint(2, 12)) if number else list(CROWD_MEMBERS)
        yield f"expenses/crowd-{number}", expense(CROWD, draw.choice(CROWD_MEMBERS), draw.randint(5, 900), currency, among)


def write_crowd(client: firestore.Client) -> None:
    """The large group."""
    client.document(f"groups/{CROWD}").set({"name": "Festival 🎪 of fifty friends", "members": list(CROWD_MEMBERS)})
    documents = list(crowd())
    for start in range(0, len(documents), 100):
        batch = client.batch()
        for path, fields in documents[start : start + 100]:
            batch.set(client.document(path), fields)
        batch.commit()
