"""The app of the rehearsal: it writes expenses and settlements all the time, and knows what they add up to at any time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.cloud import firestore

from balance.core.ledger import Ledger, post
from balance.core.money import Unit
from balance.documents.layout import Layout
from balance.documents.sources import Transaction, parse

_LAYOUT = Layout()

MEMBERS = ("ana", "bo", "chidi", "dara", "elif")
CURRENCIES = ("EUR", "USD", "JPY")


@dataclass
class Timeline:
    """What one group's documents add up to, from each of its writes on."""

    since: list[datetime] = field(default_factory=list)
    ledgers: list[Ledger] = field(default_factory=list)

    def between(self, first: datetime, last: datetime) -> Iterator[tuple[Ledger, datetime | None]]:
        """The ledgers in force at some instant of an interval, the newest first, each with the end of its time."""
        until: datetime | None = None
        for since, ledger in zip(reversed(self.since), reversed(self.ledgers), strict=True):
            if since <= last and (until is None or until > first):
                yield ledger, until
            until = since
        if until is None or until > first:
            yield {}, until


class App:
    """The app: its documents, written with the official client, and what they add up to at any time."""

    def __init__(self, client: firestore.Client, groups: list[str], chance: random.Random) -> None:
        self.client = client
        self.groups = groups
        self.timelines = {group_id: Timeline() for group_id in groups}
        self.writes = 0
        self._chance = chance
        self._documents: dict[str, dict[str, dict[str, Any]]] = {group_id: {} for group_id in groups}
        self._turn = 0

    def create_old_data(self, per_group: int) -> None:
        """What is there before anybody knows of balances."""
        batch, size = self.client.batch(), 0
        written: list[tuple[str, str, dict[str, Any]]] = []
        for group_id in self.groups:
            batch.set(self.client.document(f"groups/{group_id}"), {"name": group_id, "members": list(MEMBERS)})
            for _ in range(per_group):
                path, fields = self._new(group_id)
                batch.set(self.client.document(path), fields)
                written.append((group_id, path, fields))
            size += 1 + per_group
            if size > 400:
                batch.commit()
                batch, size = self.client.batch(), 0
        batch.commit()
        for group_id, path, fields in written:
            self._documents[group_id][path] = fields
        for group_id in self.groups:
            self._note(group_id, datetime.now(UTC))

    def write(self) -> None:
        """One write to the group whose last one is longest ago."""
        group_id = self.groups[self._turn % len(self.groups)]
        self._turn += 1
        documents = self._documents[group_id]
        action = self._chance.choice("nnneedx")
        if action == "n" or not documents:
            path, fields = self._new(group_id)
            documents[path] = fields
            committed = self.client.document(path).set(fields).update_time
        else:
            path = self._chance.choice(sorted(documents))
            if action == "x":
                del documents[path]
                committed = self.client.document(path).delete()
            else:
                changed = self._new(group_id, path)[1] if action == "e" else {**documents[path], "deletedAt": datetime.now(UTC)}
                documents[path] = changed
                committed = self.client.document(path).set(changed).update_time
        self.writes += 1
        self._note(group_id, committed)

    def _note(self, group_id: str, committed: datetime) -> None:
        ledger: Ledger = {}
        for path, fields in self._documents[group_id].items():
            parsed = parse(_LAYOUT.kind(path), fields, Unit.MAJOR)
            assert isinstance(parsed, Transaction), f"{path} is malformed: {parsed}"
            post(ledger, parsed.postings)
        timeline = self.timelines[group_id]
        timeline.since.append(committed)
        timeline.ledgers.append(ledger)

    def _new(self, group_id: str, path: str | None = None) -> tuple[str, dict[str, Any]]:
        chance = self._chance
        currency = chance.choice(CURRENCIES)
        is_expense = path.startswith("expenses/") if path else chance.random() < 0.8
        common = {"groupId": group_id, "currency": currency, "deletedAt": None}
        name = f"{chance.getrandbits(80):020x}"
        if not is_expense:
            payer, payee = chance.sample(MEMBERS, 2)
            fields = {**common, "payerId": payer, "payeeId": payee, "amount": self._amount(currency)}
            return path or f"settlements/{name}", fields
        users = chance.sample(MEMBERS, chance.randint(1, len(MEMBERS)))
        splits = [{"uid": uid, "amount": self._amount(currency)} for uid in users]
        total = round(sum(float(split["amount"]) for split in splits), 2)
        return path or f"expenses/{name}", {**common, "paidBy": chance.choice(MEMBERS), "amount": total, "splits": splits}

    def _amount(self, currency: str) -> float | int:
        minor = self._chance.randint(1, 50_000)
        return minor if currency == "JPY" else minor / 100
