"""The functions as they run: whole processes, real HTTP, real gRPC; beside the obvious trigger and one that does nothing."""

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from google.cloud import firestore

from balance.documents import balances
from balance.documents.settings import Settings
from bench import workload
from bench.measure import Figure, Report, at_least, at_most, cpu_seconds, resident_bytes
from runner.session import Session, running

HERE = Path(__file__).resolve().parent
EVENT, BURST, MEMORY = "One event", "Bursts", "Memory of a trigger"
TRIGGER = "on_expense_written"
WARM_UP = 20
BATCH = 100
SPREAD_GUARD = 0.25


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
    count = 60 if quick else 500
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
    reference = client.document(f"groups/{group}")
    reference.set({"members": workload.uids(members)})
    present = reference.get()
    balance = balances.of_ledger(workload.full_ledger(members, currencies))
    fields = balances.document(group, balances.Stored(balance, present.read_time, present.create_time), Settings())
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


@dataclass(slots=True)
class _Runner:
    """One way of handling a burst: a function, and over how many groups the events are spread."""

    session: Session
    client: firestore.Client
    events: int
    groups: int = 1
    rates: list[float] = field(default_factory=list)
    commits: int = 0
    redeliveries: int = 0

    def prepare(self) -> None:
        """Give each group its balance: its first event, a rebuild, is not what is measured."""
        for number in range(self.groups):
            group = f"burst-{self.groups}-{number}"
            self.client.document(f"groups/{group}").set({"members": workload.uids(8)})
            self.client.document(f"expenses/first-{group}").set({**workload.expenses(1, 8)[0], "groupId": group})
        self.session.drain(timeout_s=600)

    def run(self) -> None:
        """Write a burst of expenses, and note how many events a second were handled, from the first write on."""
        expenses = workload.expenses(self.events, 8)
        before = self.session.statistics()
        started = time.perf_counter()
        for start in range(0, self.events, BATCH):
            batch = self.client.batch()
            for number in range(start, min(self.events, start + BATCH)):
                fields = {**expenses[number], "groupId": f"burst-{self.groups}-{number % self.groups}"}
                batch.set(self.client.document(f"expenses/burst-{self.groups}-{len(self.rates)}-{number}"), fields)
            batch.commit()
        self.session.drain(timeout_s=600)
        self.rates.append(self.events / (time.perf_counter() - started))
        after = self.session.statistics()
        self.commits += after["commits"] - before["commits"] - -(-self.events // BATCH)  # less the app's own
        self.redeliveries += after["delivery"]["redeliveries"] - before["delivery"]["redeliveries"]


def bursts(report: Report, *, quick: bool) -> None:
    """Add the figures of many events at once: bursts on each function in turn, whose servers all run all the time."""
    count, obvious_count, groups, rounds = (200, 60, 50, 3) if quick else (2_000, 500, 200, 3)
    with serving() as ours, serving(HERE / "nothing") as nothing, serving(HERE / "naive") as naive:
        runners = {
            "ours, one hot group": (hot := _Runner(*ours, count)),
            f"ours, {groups} groups": (spread := _Runner(*ours, count, groups)),
            "obvious trigger, one hot group": (obvious := _Runner(*naive, obvious_count)),
            "does nothing": (ceiling := _Runner(*nothing, count)),
        }
        for runner in runners.values():
            runner.prepare()
        for _ in range(rounds):
            for runner in runners.values():
                runner.run()
    for name, runner in runners.items():
        report.add(BURST, Figure(f"events handled a second: {name}", statistics.median(runner.rates), "/s"))
    report.add(
        BURST,
        at_least("a burst on one group, ours / obvious trigger", _ratio(hot, obvious), 5),
        at_least("a burst on one group, ours / ceiling", _ratio(hot, ceiling), 0.5),
        at_least(f"a burst on {groups} groups, ours / ceiling", _ratio(spread, ceiling), 0.6, guard=SPREAD_GUARD),
        at_most("transactions per event of the bursts on one group", hot.commits / (count * rounds), 0.1, ""),
        at_most("redeliveries", hot.redeliveries + spread.redeliveries, 0, ""),
    )


def _ratio(one: _Runner, other: _Runner) -> float:
    """The median of the rounds' ratios: what a round is disturbed by falls on both."""
    return statistics.median(mine / theirs for mine, theirs in zip(one.rates, other.rates, strict=True))


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
