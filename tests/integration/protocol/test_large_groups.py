"""Large groups: they degrade and recover, and a group of 20,000 transactions rebuilds while events flow."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar
from uuid import uuid4

import pytest

from balance.documents.outcome import Outcome
from balance.documents.settings import Settings
from balance.documents.sources import Kind
from balance.protocol.bookkeeper import Bookkeeper
from balance.protocol.events import SourceEvent, Version, effect
from tests.integration.conftest import AnyFirestore
from tests.sizes import MAX_DOCUMENT_BYTES, document_bytes

TRANSACTIONS = 20_000
BATCH = 500
MEMBERS = [f"member-{number:03}-".ljust(28, "x") for number in range(130)]
"""Uids as long as Firebase's; all their pairs fit a document in one currency, not in two."""

HUGE = 10_000_000_000
"""The largest amount of a split in USD: 10^12 minor units."""


T = TypeVar("T")


def in_batches(items: Iterable[T]) -> Iterator[list[T]]:
    """As many at once as Firestore commits."""
    left = iter(items)
    while some := list(islice(left, BATCH)):
        yield some


class Group:
    """A group of its own, and a bookkeeper for it: one instance of the functions."""

    def __init__(self, firestore: AnyFirestore) -> None:
        self.firestore = firestore
        self.client = firestore.client()
        self.id = f"large-{uuid4().hex[:8]}"
        self.balance_path = f"groups/{self.id}/metadata/balance"
        self.client.document(f"groups/{self.id}").set({"members": ["A", "B"]})
        self.keeper = self.instance()

    def instance(self) -> Bookkeeper:
        return Bookkeeper(self.firestore.database(), Settings(), updates_on=lambda: True)

    def expense(self, payer: str, splits: Iterable[tuple[str, float]], currency: str = "USD") -> dict[str, Any]:
        listed = [{"uid": uid, "amount": amount} for uid, amount in splits]
        return {"groupId": self.id, "paidBy": payer, "amount": 1, "currency": currency, "splits": listed}

    def seed(self, expenses: Iterable[dict[str, Any]]) -> list[str]:
        """Write without events, many at once; returns the paths."""
        paths = []
        for some in in_batches(expenses):
            batch = self.client.batch()
            for fields in some:
                paths.append(f"expenses/{uuid4().hex}")
                batch.set(self.client.document(paths[-1]), fields)
            batch.commit()
        return paths

    def delete(self, paths: Iterable[str]) -> None:
        """Delete without events."""
        for some in in_batches(paths):
            batch = self.client.batch()
            for path in some:
                batch.delete(self.client.document(path))
            batch.commit()

    def created(self, fields: dict[str, Any]) -> SourceEvent:
        """Write an expense; returns its event."""
        path = f"expenses/{uuid4().hex}"
        after = Version(fields, self.client.document(path).set(fields).update_time)
        return SourceEvent(
            event_id=uuid4().hex, time=datetime.now(UTC), source=path, kind=Kind.EXPENSE, before=None, after=after
        )

    def process(self, event: SourceEvent) -> list[Outcome]:
        return [result.outcome for result in self.keeper.process(event, effect(event, self.keeper.settings))]

    def rebuild(self) -> None:
        assert self.keeper.rebuild(self.id).outcome is Outcome.REBUILT

    def stored(self) -> dict[str, Any]:
        fields: dict[str, Any] | None = self.client.document(self.balance_path).get().to_dict()
        assert fields is not None, "there is a balance"
        assert document_bytes(self.balance_path, fields) < MAX_DOCUMENT_BYTES
        return fields


@pytest.fixture
def group(any_firestore: AnyFirestore) -> Group:
    return Group(any_firestore)


def all_pairs(group: Group, currency: str) -> list[str]:
    """Everybody owes 1 to each of those after them."""
    others_first = ((MEMBERS[last], MEMBERS[:last]) for last in range(1, len(MEMBERS)))
    return group.seed(group.expense(payer, ((uid, 1) for uid in others), currency) for payer, others in others_first)


def nets(rows: Mapping[str, Any]) -> dict[str, float]:
    return {uid: row["netBalance"] for uid, row in rows.items()}


def pairs(rows: Mapping[str, Any]) -> int:
    """How many debts are stored; each must stand on both sides."""
    owes = {(uid, other, amount) for uid, row in rows.items() for other, amount in row["owes"].items()}
    owed = {(other, uid, amount) for uid, row in rows.items() for other, amount in row["owedBy"].items()}
    assert owes == owed
    return len(owes)


EVERYBODY = {uid: 2 * place - 129 for place, uid in enumerate(MEMBERS)}
"""The nets of all pairs: who is at place n is owed n and owes 129 - n."""


def test_pairs_that_do_not_fit_are_given_up_for_nets_and_come_back_when_they_fit_with_room_to_spare(group: Group) -> None:
    all_pairs(group, "USD")
    euros = all_pairs(group, "EUR")
    group.rebuild()
    stored = group.stored()
    assert stored["detail"] == "nets"
    assert stored["simplifiedDebts"]
    for currency in ("USD", "EUR"):
        assert nets(stored["balancesByCurrency"][currency]) == EVERYBODY
        assert pairs(stored["balancesByCurrency"][currency]) == 0

    # Incremental from there: at the level that is stored.
    assert group.process(group.created(group.expense(MEMBERS[0], [(MEMBERS[1], 5)]))) == [Outcome.APPLIED]
    stored = group.stored()
    assert stored["detail"] == "nets"
    first, second = EVERYBODY[MEMBERS[0]] + 5, EVERYBODY[MEMBERS[1]] - 5
    changed = {**EVERYBODY, MEMBERS[0]: first, MEMBERS[1]: second}
    assert nets(stored["balancesByCurrency"]["USD"]) == changed

    group.delete(euros)
    group.rebuild()
    stored = group.stored()
    assert stored["detail"] == "pairs"
    assert list(stored["balancesByCurrency"]) == ["USD"]
    assert nets(stored["balancesByCurrency"]["USD"]) == changed
    assert pairs(stored["balancesByCurrency"]["USD"]) == 130 * 129 // 2


def test_the_event_with_which_pairs_would_no_longer_fit_lowers_the_level_itself(group: Group) -> None:
    all_pairs(group, "USD")
    group.rebuild()
    assert group.stored()["detail"] == "pairs"
    newcomers = [f"newcomer-{number:03}-".ljust(28, "x") for number in range(900)]
    event = group.created(group.expense(MEMBERS[0], ((uid, 1) for uid in newcomers)))
    assert group.process(event) == [Outcome.APPLIED]
    stored = group.stored()
    assert stored["detail"] == "nets"
    expected = {**EVERYBODY, MEMBERS[0]: EVERYBODY[MEMBERS[0]] + 900, **dict.fromkeys(newcomers, -1)}
    assert nets(stored["balancesByCurrency"]["USD"]) == expected
    assert group.process(event) == [Outcome.DUPLICATE]
    assert group.stored() == stored


def test_totals_that_no_number_holds_exactly_leave_no_detail_until_a_rebuild_finds_them_gone(group: Group) -> None:
    group.rebuild()
    huge = group.created(group.expense("A", [("B", HUGE)] * 1_000))
    assert group.process(huge) == [Outcome.APPLIED]
    stored = group.stored()
    assert stored["detail"] == "pairs"
    assert stored["balancesByCurrency"]["USD"]["B"]["owes"] == {"A": HUGE * 1_000}

    assert group.process(group.created(group.expense("A", [("B", 0.01)]))) == [Outcome.APPLIED]
    assert group.process(group.created(group.expense("A", [("C", 2)], "EUR"))) == [Outcome.APPLIED]
    stored = group.stored()
    assert (stored["detail"], stored["balancesByCurrency"], stored["simplifiedDebts"]) == ("none", {}, [])
    group.rebuild()
    assert group.stored()["detail"] == "none", "they are still there"

    group.delete([huge.source])
    group.rebuild()
    stored = group.stored()
    assert stored["detail"] == "pairs"
    assert stored["balancesByCurrency"]["USD"]["B"]["owes"] == {"A": 0.01}
    assert stored["balancesByCurrency"]["EUR"]["C"]["owes"] == {"A": 2}


def test_a_group_of_20000_transactions_rebuilds_while_events_flow(group: Group) -> None:
    group.seed(group.expense("A", [("B", 1.01)]) for _ in range(TRANSACTIONS))
    group.rebuild()
    # Another instance: within one, events would wait for the rebuild in line.
    rebuilder = group.instance()
    outcomes: list[Outcome] = []
    rebuilt = threading.Event()

    def events() -> None:
        while not rebuilt.is_set():
            outcomes.extend(group.process(group.created(group.expense("A", [("B", 0.5)]))))

    writer = threading.Thread(target=events)
    writer.start()
    try:
        result = rebuilder.rebuild(group.id)
    finally:
        rebuilt.set()
        writer.join()
    assert result.outcome is Outcome.REBUILT
    assert Outcome.APPLIED in outcomes, "events flowed during the rebuild"
    owes_minor = TRANSACTIONS * 101 + len(outcomes) * 50
    assert group.stored()["balancesByCurrency"]["USD"]["B"] == {
        "uid": "B",
        "owes": {"A": owes_minor / 100},
        "owedBy": {},
        "netBalance": -owes_minor / 100,
    }
