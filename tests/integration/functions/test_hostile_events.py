"""Hostile documents, changed in any way, their events delivered in any order and more than once, before a real database.

No delivery fails, every balance is that of a recalculation (so nothing reached a wrong group), and the faults are exactly those
of the documents as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from google.api_core.exceptions import InvalidArgument
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from balance.database.firestore import Delete, Firestore, Query, Set, transaction
from balance.documents import balances
from balance.documents.balances import MAX_DOCUMENT_BYTES
from balance.documents.layout import document_key
from balance.documents.settings import Settings
from balance.documents.sources import MAX_SPLITS, Kind, Malformed, is_document_id, parse
from balance.functions import instance
from balance.protocol.rebuild import read_history
from tests.cloud_events import body, headers
from tests.entry_points import Trigger
from tests.integration.served import PROJECT, served
from tests.property.firestore_values import EXPENSES, GOOD_EXPENSES, GOOD_SETTLEMENTS, SETTLEMENTS
from tests.sizes import document_bytes

GROUPS = ["g1", "g2", "grüppe"]
SETTINGS = Settings()
Fields = dict[str, Any]


@dataclass
class App:
    """The app's documents, and our functions behind the framework."""

    database: Firestore
    functions: dict[Kind, Trigger]
    sources: dict[str, Kind] = field(default_factory=dict)
    group_ids: set[str] = field(default_factory=lambda: set(GROUPS))
    """Of all groups that documents have ever named."""

    def write(self, path: str, fields: Fields | None) -> datetime:
        """Write a document, or delete it; the commit's time."""
        with transaction(self.database) as attempt:
            attempt.get([path])
            return attempt.commit([Delete(path) if fields is None else Set(path, fields)])

    def write_all(self, kind: Kind, path: str, states: list[Fields | None]) -> list[tuple[Kind, bytes, str]]:
        """Bring a document through these states, as far as Firestore takes them; its events are the caller's to deliver."""
        self.sources[path] = kind
        self.group_ids |= {group_id for state in states if is_document_id(group_id := (state or {}).get("groupId"))}
        events: list[tuple[Kind, bytes, str]] = []
        (before,) = self.database.get([path])
        for state in states:
            try:
                time = self.write(path, state)
            except InvalidArgument:  # an array in an array, a name like __x__
                continue
            (after,) = self.database.get([path])
            if after.update_time != before.update_time:  # else nothing has changed, and Firestore tells nobody
                sides = body(
                    path,
                    before=before.fields,
                    before_time=before.update_time,
                    after=after.fields,
                    after_time=after.update_time,
                )
                events.append((kind, sides, time.isoformat()))
            before = after
        return events

    def deliver(self, kind: Kind, data: bytes, time: str) -> None:
        """A delivery under an id of its own, which must be acknowledged."""
        assert self.functions[kind].deliver(data, headers(event_id=uuid4().hex, time=time)) == 200

    def check(self) -> None:
        """Balances and faults are those of the documents as they are."""
        (now,) = self.database.get(["groups/g1"])
        faults = {}
        for path, kind in self.sources.items():
            (found,) = self.database.get([path])
            parsed = parse(kind, found.fields, SETTINGS.unit)
            if isinstance(parsed, Malformed):
                faults[SETTINGS.layout.fault(parsed.group_id, path)] = (path, parsed.field, parsed.reason, found.update_time)
        stored = {}
        for group_id in [None, *self.group_ids]:
            for fault in self.database.query(Query(collection=SETTINGS.layout.faults(group_id))):
                fields = fault.fields or {}
                stored[fault.path] = tuple(fields[name] for name in ("source", "field", "reason", "since"))
        assert stored == faults
        for group_id in GROUPS:
            history = read_history(self.database, SETTINGS, group_id, now.read_time)
            group, balance = self.database.get([f"groups/{group_id}", SETTINGS.layout.balance(group_id)])
            if balance.fields is None:
                assert history.ledger == {}, f"{group_id} has no balance"
                continue
            assert group.create_time is not None
            said = balances.Stored(balances.of_ledger(history.ledger), now.read_time, group.create_time, len(history.malformed))
            expected = balances.document(group_id, said, SETTINGS)
            for name in ("groupId", "balancesByCurrency", "simplifiedDebts", "version", "detail", "incarnation", "faults"):
                assert balance.fields[name] == expected[name], f"{group_id}: {name}"


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    with served() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", f"127.0.0.1:{server.port}")
        patch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
        patch.setattr(instance, "_firestore", None)
        patch.setattr(instance, "_bookkeeper", None)
        running = App(instance.firestore(), {kind: Trigger(f"on_{kind}_written") for kind in Kind})
        for group_id in GROUPS:
            running.write(f"groups/{group_id}", {"members": ["a", "b"]})
        yield running


ODD_IDS = st.sampled_from(["e", "café", "🍕", "a.b", "`", "__x", " ", "'\"\\", "\n", "*", "~", "%2F"])


def lives(kind: Kind) -> st.SearchStrategy[tuple[Kind, str, list[Fields | None]]]:
    """A document's kind, the beginning of its id, and its states."""
    states = st.one_of((EXPENSES, GOOD_EXPENSES) if kind is Kind.EXPENSE else (SETTLEMENTS, GOOD_SETTLEMENTS))
    return st.tuples(st.just(kind), ODD_IDS, st.lists(st.none() | states | states, min_size=1, max_size=4))


@given(st.lists(st.sampled_from(Kind).flatmap(lives), min_size=1, max_size=3), st.integers(0, 1_000))
@settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # documents stay, so an example cannot be made smaller
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.data_too_large, HealthCheck.too_slow],
)
def test_no_document_however_hostile_fails_a_delivery_or_bends_a_balance(
    app: App, documents: list[tuple[Kind, str, list[Fields | None]]], seed: int
) -> None:
    events = []
    for kind, odd_id, states in documents:
        events += app.write_all(kind, f"{kind}s/{odd_id}{uuid4().hex}", states)
    chance = Random(seed)
    deliveries = [*events, *chance.choices(events, k=chance.randrange(4))] if events else []
    chance.shuffle(deliveries)
    for event in deliveries:
        app.deliver(*event)
    app.check()


def expense(group_id: str, paid_by: str, splits: list[tuple[str, float]]) -> Fields:
    return {
        "groupId": group_id,
        "paidBy": paid_by,
        "amount": 1,
        "currency": "USD",
        "splits": [{"uid": uid, "amount": amount} for uid, amount in splits],
    }


def test_an_expense_with_a_thousand_shares_and_a_payer_of_a_long_name_is_counted_and_taken_back(app: App) -> None:
    app.write("groups/large", {"members": []})
    path = "expenses/large"
    fields = expense("large", "p" * 1_500, [(f"user-{number:04}", 0.01) for number in range(MAX_SPLITS)])
    created, deleted = app.write_all(Kind.EXPENSE, path, [fields, None])
    app.deliver(*created)
    app.deliver(*deleted)
    (balance,) = app.database.get(["groups/large/metadata/balance"])
    assert balance.fields is not None
    for record in app.database.query(Query(collection="groups/large/balanceEvents")):
        assert document_bytes(record.path, record.fields or {}) < MAX_DOCUMENT_BYTES
    assert document_bytes(balance.path, balance.fields) < MAX_DOCUMENT_BYTES


def test_an_event_for_a_group_that_is_no_document_id_leaves_a_fault_at_the_top(app: App) -> None:
    path = "expenses/homeless"
    (event,) = app.write_all(Kind.EXPENSE, path, [expense("../g1", "a", [("b", 1)])])
    app.deliver(*event)
    (fault,) = app.database.get([f"balanceFaults/{document_key(path)}"])
    assert fault.fields is not None
    assert (fault.fields["source"], fault.fields["field"]) == (path, "groupId")
    app.check()
