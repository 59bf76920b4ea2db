"""The functions as they run: whole processes, real HTTP, real gRPC; beside the obvious trigger and one that does nothing."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

from google.cloud import firestore

from balance import balances
from balance.money import Unit
from bench import workload
from bench.measure import Figure, Report, at_least, at_most, cpu_seconds, resident_bytes
from runner.session import Session, running

HERE = Path(__file__).resolve().parent
EVENT, BURST, MEMORY = "One event", "Bursts", "Memory of a trigger"
TRIGGER = "on_expense_written"
WARM_UP = 20


@contextmanager
def serving(source: Path | None = None) -> Iterator[tuple[Session, firestore.Client]]:
    """The expense trigger of a source folder (ours by default), and a client."""
    where = {} if source is None else {"source": source}
    with running(arguments=["--only", TRIGGER, "--quiet"], **where) as session:  # type: ignore[arg-type]
        yield session, client_of(session)


def client_of(session: Session) -> firestore.Client:
    """The official client of a session's database."""
    with patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": session.firestore_host}):
        client = firestore.Client(project=session.project)
        client._firestore_api  # noqa: B018 - made on first use
    return client


def one_event(report: Report, *, quick: bool) -> None:
    """Add the figures of isolated events."""
    count = 100 if quick else 500
    with serving(HERE / "nothing") as (session, client):
        nothing_s = _cpu_of_one(session, client, "nothing", workload.expenses(count + WARM_UP, 10))
    report.add(EVENT, Figure("CPU time in a function that does nothing", nothing_s * 1e3, "ms"))
    with serving() as (session, client):
        for members, currencies, target_ms in ((10, ("USD",), 1), (50, ("USD", "EUR"), 15)):
            group = f"full-{members}"
            _seed(client, group, members, currencies)
            taken_s = _cpu_of_one(session, client, group, workload.expenses(count + WARM_UP, members, group, currencies))
            name = f"{members} members, all pairs, {len(currencies)} {'currency' if len(currencies) == 1 else 'currencies'}"
            report.add(
                EVENT,
                at_most(f"CPU time in the function, {name}", taken_s * 1e3, target_ms, "ms"),
                Figure(f"the same less that of doing nothing, {name}", (taken_s - nothing_s) * 1e3, "ms"),
            )
        one, nothing = _costs(session, client, change=True), _costs(session, client, change=False)
    for (name, value), target in zip(one.items(), (3, 2, 2), strict=True):
        report.add(EVENT, at_most(f"{name}, an isolated event", value, target, ""))
    for name, value in nothing.items():
        report.add(EVENT, at_most(f"{name}, an event that moves no money", value, 0, ""))


def _cpu_of_one(session: Session, client: firestore.Client, name: str, expenses: list[dict[str, object]]) -> float:
    """Seconds of CPU time in the function for each of some events that come one at a time."""
    before = 0.0
    for number, expense in enumerate(expenses):
        if number == WARM_UP:
            before = cpu_seconds(session.pid_of(TRIGGER))
        client.document(f"expenses/one-{name}-{number}").set(expense)
        session.drain()
    return (cpu_seconds(session.pid_of(TRIGGER)) - before) / (len(expenses) - WARM_UP)


def _seed(client: firestore.Client, group: str, members: int, currencies: tuple[str, ...]) -> None:
    """A group whose balance holds every pair."""
    client.document(f"groups/{group}").set({"members": workload.uids(members)})
    balance = balances.of_ledger(workload.full_ledger(members, currencies))
    fields = balances.document(group, balance, datetime.now(UTC), Unit.MAJOR)
    client.document(f"groups/{group}/metadata/balance").set({**fields, "lastUpdatedAt": firestore.SERVER_TIMESTAMP})


def _costs(session: Session, client: firestore.Client, *, change: bool) -> dict[str, int]:
    """What one event costs beyond the app's own write: RPCs, billed reads, billed writes."""
    document = client.document(f"expenses/cost-{change}")
    document.set(workload.expenses(1, 10, "full-10")[0])
    session.drain()
    before = session.statistics()
    document.update({"amount": 5, "splits": [{"uid": "x", "amount": 5}]} if change else {"title": "another"})
    session.drain()
    after = session.statistics()
    rpcs = sum(after["rpcs"].values()) - sum(before["rpcs"].values())
    return {
        "RPCs": rpcs - 1,
        "document reads billed": after["documentReads"] - before["documentReads"],
        "document writes billed": after["documentWrites"] - before["documentWrites"] - 1,
    }


def bursts(report: Report, *, quick: bool) -> None:
    """Add the figures of many events at once."""
    count, naive_count = (400, 100) if quick else (2_000, 500)
    rates: dict[str, float] = {}
    with serving() as (session, client):
        before = session.statistics()
        rates["hot"] = _rate(session, client, count, groups=1)
        after = session.statistics()
        rates["spread"] = _rate(session, client, count, groups=200)
    with serving(HERE / "nothing") as (session, client):
        rates["ceiling"] = _rate(session, client, count, groups=1)
    with serving(HERE / "naive") as (session, client):
        rates["naive"] = _rate(session, client, naive_count, groups=1)
    commits = after["commits"] - before["commits"] - -(-count // 100) - 3  # less the app's own
    for name, what in (
        ("hot", "ours, one hot group"),
        ("spread", "ours, 200 groups"),
        ("naive", "obvious trigger, one hot group"),
        ("ceiling", "does nothing"),
    ):
        report.add(BURST, Figure(f"events handled a second: {what}", rates[name], "/s"))
    report.add(
        BURST,
        at_least("a burst on one group, ours / obvious trigger", rates["hot"] / rates["naive"], 5),
        at_least("a burst on one group, ours / ceiling", rates["hot"] / rates["ceiling"], 0.5),
        at_least("a burst on 200 groups, ours / ceiling", rates["spread"] / rates["ceiling"], 0.6),
        at_most("transactions per event of the burst on one group", commits / count, 0.1, ""),
        at_most("redeliveries", after["delivery"]["redeliveries"] - before["delivery"]["redeliveries"], 0, ""),
    )


def _rate(session: Session, client: firestore.Client, count: int, groups: int) -> float:
    """Write a burst of expenses, and return how many events a second were handled, from the first write on.

    Each group has a balance by then: its first event, a rebuild, is not what is measured.
    """
    expenses = workload.expenses(count, 8)
    for number in range(groups):
        group = f"burst-{groups}-{number}"
        client.document(f"groups/{group}").set({"members": workload.uids(8)})
        client.document(f"expenses/first-{group}").set({**expenses[0], "groupId": group})
    session.drain()
    started = time.perf_counter()
    for start in range(0, count, 100):
        batch = client.batch()
        for number in range(start, min(count, start + 100)):
            fields = {**expenses[number], "groupId": f"burst-{groups}-{number % groups}"}
            batch.set(client.document(f"expenses/burst-{groups}-{number}"), fields)
        batch.commit()
    session.drain(timeout_s=600)
    return count / (time.perf_counter() - started)


def memory(report: Report, events: int = 100_000) -> None:
    """Add the trigger's memory after 10,000 and after all events."""
    with serving() as (session, client):
        for number in range(50):
            client.document(f"groups/memory-{number}").set({"members": workload.uids(8)})
        expense = workload.expenses(1, 8)[0]
        document = [client.document(f"expenses/memory-{number}") for number in range(500)]
        sizes = {}
        for sent in range(0, events, 500):
            batch = client.batch()
            for number, reference in enumerate(document):
                fields = {**expense, "groupId": f"memory-{number % 50}", "splits": [{"uid": "x", "amount": sent + number + 1}]}
                batch.set(reference, fields)
            batch.commit()
            session.drain(timeout_s=600)
            sizes[sent + 500] = resident_bytes(session.pid_of(TRIGGER))
    report.add(
        MEMORY,
        Figure("after 10,000 events", sizes[10_000] / 2**20, "MiB"),
        Figure(f"after {events:,} events", sizes[events] / 2**20, "MiB"),
        at_most("the second / the first", sizes[events] / sizes[10_000], 1.1),
    )
