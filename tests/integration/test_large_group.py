"""A group of 20,000 transactions rebuilds while events flow."""

import threading
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from google.cloud import firestore

from balance.bookkeeper import Bookkeeper
from balance.events import SourceEvent, Version, effect
from balance.outcome import Outcome
from balance.settings import Settings
from balance.sources import Kind
from balance.store import connect
from tests.integration.served import PROJECT

TRANSACTIONS = 20_000
BATCH = 500


@pytest.fixture(scope="module")
def group(any_firestore: firestore.Client) -> str:
    """The group's id; `TRANSACTIONS` times B owes A 1.01 USD."""
    group_id = f"large-{uuid4().hex[:8]}"
    any_firestore.document(f"groups/{group_id}").set({"members": ["A", "B"]})
    for _ in range(TRANSACTIONS // BATCH):
        batch = any_firestore.batch()
        for _ in range(BATCH):
            batch.set(any_firestore.document(f"expenses/{uuid4().hex}"), _expense(group_id, 1.01))
        batch.commit()
    return group_id


def _expense(group_id: str, amount: float) -> dict[str, Any]:
    splits = [{"uid": "B", "amount": amount}]
    return {"groupId": group_id, "paidBy": "A", "amount": amount, "currency": "USD", "splits": splits}


def test_a_group_of_20000_transactions_rebuilds_while_events_flow(any_firestore: firestore.Client, group: str) -> None:
    # Two instances: within one, events would wait for the rebuild in line.
    rebuilder, keeper = (Bookkeeper(connect(PROJECT, "(default)"), Settings(), updates_on=lambda: True) for _ in range(2))
    assert rebuilder.rebuild(group).outcome is Outcome.REBUILT
    outcomes: list[Outcome] = []
    rebuilt = threading.Event()

    def events() -> None:
        while not rebuilt.is_set():
            path = f"expenses/{uuid4().hex}"
            fields = _expense(group, 0.5)
            after = Version(fields, any_firestore.document(path).set(fields).update_time)
            event = SourceEvent(
                event_id=uuid4().hex, time=datetime.now(UTC), source=path, kind=Kind.EXPENSE, before=None, after=after
            )
            outcomes.extend(result.outcome for result in keeper.process(event, effect(event, keeper.settings)))

    writer = threading.Thread(target=events)
    writer.start()
    try:
        result = rebuilder.rebuild(group)
    finally:
        rebuilt.set()
        writer.join()
    assert result.outcome is Outcome.REBUILT
    assert Outcome.APPLIED in outcomes, "events flowed during the rebuild"
    stored = any_firestore.document(f"groups/{group}/metadata/balance").get().to_dict()
    assert stored is not None
    owes_minor = TRANSACTIONS * 101 + len(outcomes) * 50
    assert stored["balancesByCurrency"]["USD"]["B"] == {
        "uid": "B",
        "owes": {"A": owes_minor / 100},
        "owedBy": {},
        "netBalance": -owes_minor / 100,
    }
