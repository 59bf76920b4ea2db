"""The function as it runs: whole processes, real HTTP, real gRPC; beside the product as it was, a peer, and doing nothing."""

import random
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.cloud.firestore_v1 import types

from balance.database.codec import encode_fields_into
from bench import guards, workload
from bench.measure import Figure, Report, at_least, at_most
from bench.servers import PROJECT, Database, Server, all_serving, database, kinds, serving

EVENT, BURST, RIVALS, MEMORY = "One event", "Bursts", "Several instances on one group", "Memory of a trigger"
WARM_UP = 20
BATCH = 100
OURS, BEFORE, NOTHING, NOTHING_THREADS, OBVIOUS, NODE = "ours", "before", "nothing", "nothing, threads", "obvious", "node"

_RATE_GUARDS = {BEFORE: guards.RATE_OF_BEFORE, NOTHING_THREADS: guards.RATE_OF_THREADS}

_CommitPb = types.CommitRequest.pb()
_ROOT = f"projects/{PROJECT}/databases/(default)"
_METADATA = [("authorization", "Bearer owner"), ("google-cloud-resource-prefix", _ROOT)]

SIZES = ((10, ("USD",), 1.0, 0.6), (50, ("USD", "EUR"), 15.0, 0.3))
"""Members, currencies; the most milliseconds, and the most of the baseline's, that an isolated event should take."""


def one_event(report: Report, baseline: str, *, quick: bool) -> None:
    """Add the figures of isolated events: one at a time, on a group whose balance holds all pairs."""
    count, rounds = (40, 1) if quick else (150, 3)
    names = (OURS, BEFORE, NOTHING) if quick else (OURS, BEFORE, NOTHING, NODE)
    taken: dict[tuple[str, int], list[float]] = defaultdict(list)
    with all_serving(kinds(names, baseline)) as servers:
        for members, currencies, *_ in SIZES:
            for server in servers.values():
                _fill(server.database, f"full-{members}", members, currencies)
        for number in range(rounds):
            for members, currencies, *_ in SIZES:
                expenses = workload.expenses(count + WARM_UP, members, f"full-{members}", currencies)
                for name, server in servers.items():
                    taken[name, members].append(_cpu_of_one(server, f"{number}-{members}", expenses))
        one, nothing = _costs(servers[OURS].database, change=True), _costs(servers[OURS].database, change=False)
    median_s = {key: statistics.median(values) for key, values in taken.items()}
    report.add(EVENT, Figure("CPU time in a function that does nothing", median_s[NOTHING, 10] * 1e3, "ms"))
    for members, currencies, target_ms, of_baseline in SIZES:
        size = f"{members} members, all pairs, {len(currencies)} {'currency' if len(currencies) == 1 else 'currencies'}"
        ours = median_s[OURS, members]
        report.add(EVENT, at_most(f"CPU time in the function, {size}", ours * 1e3, target_ms, "ms"))
        for name in (BEFORE, NODE):
            if (name, members) in median_s:
                report.add(EVENT, Figure(f"the same, {name}, {size}", median_s[name, members] * 1e3, "ms"))
        if (BEFORE, members) in median_s:
            ratio = statistics.median(_ratios(taken[OURS, members], taken[BEFORE, members]))
            report.add(EVENT, at_most(f"ours / before, {size}", ratio, of_baseline))
    for (name, value), target in zip(one.items(), (1, 0, 2), strict=True):
        report.add(EVENT, at_most(f"{name}, an event on a remembered group", value, target, ""))
    for name, value in nothing.items():
        report.add(EVENT, at_most(f"{name}, an event that moves no money", value, 0, ""))


def _fill(of: Database, group: str, members: int, currencies: Sequence[str]) -> None:
    """Have the function itself make a balance in which every pair owes something."""
    chance = random.Random(members)
    people = workload.uids(members)
    of.client.document(f"groups/{group}").set({"members": people})
    for currency in currencies:
        for number, payer in enumerate(people[:-1]):
            splits = [{"uid": uid, "amount": chance.randint(1, 99_999) / 100} for uid in people[number + 1 :]]
            fields = {"groupId": group, "paidBy": payer, "amount": 1, "currency": currency, "splits": splits, "deletedAt": None}
            of.client.document(f"expenses/fill-{group}-{currency}-{number}").set(fields)
            of.drain()


def _cpu_of_one(server: Server, name: str, expenses: list[dict[str, object]]) -> float:
    """Seconds of CPU time in the function for each of some events that come one at a time."""
    before_s = 0.0
    for number, expense in enumerate(expenses):
        if number == WARM_UP:
            before_s = server.cpu_s()
        server.database.client.document(f"expenses/one-{name}-{number}").set(expense)
        server.database.drain()
    return (server.cpu_s() - before_s) / (len(expenses) - WARM_UP)


def _costs(of: Database, *, change: bool) -> dict[str, int]:
    """What one event costs beyond the app's own write: RPCs, billed reads, billed writes."""
    document = of.client.document(f"expenses/cost-{change}")
    document.set(workload.expenses(1, 10, "full-10")[0])
    of.drain()
    before = of.statistics()
    document.update({"amount": 5, "splits": [{"uid": "x", "amount": 5}]} if change else {"title": "another"})
    of.drain()
    after = of.statistics()
    return {
        "RPCs": _rpcs(before, after) - 1,
        "document reads billed": after["documentReads"] - before["documentReads"],
        "document writes billed": after["documentWrites"] - before["documentWrites"] - 1,
    }


def _rpcs(before: dict[str, Any], after: dict[str, Any]) -> int:
    return int(sum(after["rpcs"].values()) - sum(before["rpcs"].values()))


@dataclass(slots=True)
class Burst:
    """Bursts on one function, spread over some groups, and what each round took."""

    servers: Sequence[Server]
    """On one database: the documents of each go to a collection of its own."""
    events: int
    groups: int = 1
    rates: list[float] = field(default_factory=list)
    """Events handled a second, from the first write on."""
    cpu_s: list[float] = field(default_factory=list)
    """CPU time in the functions for each event."""
    rpcs: list[float] = field(default_factory=list)
    commits: list[float] = field(default_factory=list)
    """Both for each event, the app's own writes not counted."""
    aborts: int = 0
    redeliveries: int = 0

    @property
    def database(self) -> Database:
        """The functions'."""
        return self.servers[0].database

    def prepare(self) -> None:
        """Give each group its balance: its first event, a rebuild, is not what is measured."""
        for number in range(self.groups):
            group = f"burst-{self.groups}-{number}"
            self.database.client.document(f"groups/{group}").set({"members": workload.uids(8)})
            first = {**workload.expenses(1, 8)[0], "groupId": group}
            self.database.client.document(f"expenses/first-{group}").set(first)
        self.database.drain()

    def run(self) -> None:
        """Write a burst of expenses and wait until all are handled."""
        # Made beforehand, as bytes: whoever writes shares the cores with what is measured.
        requests = list(self._requests())
        with grpc.insecure_channel(self.database.host) as channel:
            commit = channel.unary_unary("/google.firestore.v1.Firestore/Commit", None, None)
            before, before_s = self.database.statistics(), self._cpu_s()
            started_s = time.perf_counter()
            for request in requests:
                commit(request, metadata=_METADATA)
            self.database.drain()
            took_s = time.perf_counter() - started_s
        after = self.database.statistics()
        self.rates.append(self.events / took_s)
        self.cpu_s.append((self._cpu_s() - before_s) / self.events)
        self.rpcs.append((_rpcs(before, after) - len(requests)) / self.events)
        self.commits.append((after["commits"] - before["commits"] - len(requests)) / self.events)
        self.aborts += after["aborts"] - before["aborts"]
        self.redeliveries += after["delivery"]["redeliveries"] - before["delivery"]["redeliveries"]

    def _cpu_s(self) -> float:
        return sum(server.cpu_s() for server in self.servers)

    def _requests(self) -> Iterable[bytes]:
        expenses = workload.expenses(self.events, 8)
        for start in range(0, self.events, BATCH):
            request = _CommitPb(database=_ROOT)
            for number in range(start, min(self.events, start + BATCH)):
                instance = number % len(self.servers)
                collection = "expenses" if instance == 0 else f"expenses{instance}"
                fields = {**expenses[number], "groupId": f"burst-{self.groups}-{number % self.groups}"}
                write = request.writes.add()
                write.update.name = f"{_ROOT}/documents/{collection}/burst-{self.groups}-{len(self.rates)}-{number}"
                encode_fields_into(write.update.fields, fields)
            yield request.SerializeToString()


def bursts(report: Report, baseline: str, *, quick: bool) -> None:
    """Add the figures of many events at once: each round a burst on each function in turn, all of which run all the time."""
    count, slow_count, groups, rounds = (600, 60, 50, 3) if quick else (2_000, 500, 200, 5)
    names = (OURS, BEFORE, NOTHING, NOTHING_THREADS, *((OBVIOUS,) if quick else (OBVIOUS, NODE)))
    found: dict[tuple[str, int], Burst] = {}
    with all_serving(kinds(names, baseline)) as servers:
        for name, server in servers.items():
            for spread in (1, groups):
                found[name, spread] = Burst([server], slow_count if name in (OBVIOUS, NODE) else count, spread)
                found[name, spread].prepare()
        for _ in range(rounds):
            for burst in found.values():
                burst.run()
    hot, spread_out = "one hot group", f"{groups} groups"
    for spread, where in ((1, hot), (groups, spread_out)):
        for name in names:
            if (name, spread) in found:
                burst = found[name, spread]
                report.add(
                    BURST,
                    Figure(f"events handled a second: {name}, {where}", statistics.median(burst.rates), "/s"),
                    Figure(f"CPU time in the function for each event: {name}, {where}", _ms(burst.cpu_s), "ms"),
                )
    for spread, where, of_before, of_ceiling, of_obvious, of_node, of_nothing_cpu, cpu_guard in (
        (1, hot, 2.5, 1.0, 5.0, 8.0, 1.8, guards.CPU_OF_NOTHING_HOT),
        (groups, spread_out, 2.5, 0.6, 2.0, 3.0, 2.5, guards.CPU_OF_NOTHING_SPREAD),
    ):
        ours = found[OURS, spread]
        targets = {BEFORE: of_before, NOTHING_THREADS: of_ceiling, OBVIOUS: of_obvious, NODE: of_node}
        for name, target in targets.items():
            if (name, spread) in found:
                ratio = statistics.median(_ratios(ours.rates, found[name, spread].rates))
                report.add(BURST, at_least(f"events a second, {where}: ours / {name}", ratio, target, _RATE_GUARDS.get(name)))
        cpu_ratio = statistics.median(_ratios(ours.cpu_s, found[NOTHING, spread].cpu_s))
        rate_ratio = statistics.median(_ratios(ours.rates, found[NOTHING, spread].rates))
        report.add(
            BURST,
            Figure(f"events a second, {where}: ours / nothing (the ceiling on an event loop)", rate_ratio, "x"),
            at_most(f"CPU time in the function, {where}: ours / nothing", cpu_ratio, of_nothing_cpu, guard=cpu_guard),
            Figure(f"RPCs for each event, {where}", statistics.median(ours.rpcs), ""),
            at_most(f"commits for each event, {where}", statistics.median(ours.commits), 0.1, ""),
            at_most(f"redeliveries, {where}", ours.redeliveries, 0, ""),
        )


def rivals(report: Report, baseline: str, *, quick: bool) -> None:
    """Add the figures of several instances that get the events of one group."""
    count, rounds = (200, 1) if quick else (1_000, 3)
    found: dict[tuple[str, int], Burst] = {}
    with ExitStack() as stack:
        for name, kind in kinds((OURS, BEFORE), baseline).items():
            for instances in (2, 4):
                of = stack.enter_context(database())
                patterns = ["expenses/{id}", *(f"expenses{number}/{{id}}" for number in range(1, instances))]
                servers = [stack.enter_context(serving(kind, of, pattern)) for pattern in patterns]
                found[name, instances] = Burst(servers, count)
                found[name, instances].prepare()
        for _ in range(rounds):
            for burst in found.values():
                burst.run()
    for (name, instances), burst in found.items():
        where = f"{instances} instances: {name}"
        report.add(
            RIVALS,
            Figure(f"events handled a second, {where}", statistics.median(burst.rates), "/s"),
            Figure(f"commits for each event, {where}", statistics.median(burst.commits), ""),
            Figure(f"transactions aborted, of {count * rounds} events, {where}", burst.aborts, ""),
        )
        if name == OURS:
            report.add(RIVALS, at_most(f"redeliveries, {where}", burst.redeliveries, 0, ""))


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round: what a round is disturbed by falls on both."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def _ms(values: Sequence[float]) -> float:
    return statistics.median(values) * 1e3


def memory(report: Report, events: int = 100_000) -> None:
    """Add the trigger's memory after 10,000 and after all events."""
    (kind,) = kinds((OURS,)).values()
    with database() as of, serving(kind, of) as server:
        for number in range(50):
            of.client.document(f"groups/memory-{number}").set({"members": workload.uids(8)})
        expense = workload.expenses(1, 8)[0]
        document = [of.client.document(f"expenses/memory-{number}") for number in range(500)]
        sizes = {}
        for sent in range(0, events, 500):
            batch = of.client.batch()
            for number, reference in enumerate(document):
                fields = {**expense, "groupId": f"memory-{number % 50}", "splits": [{"uid": "x", "amount": sent + number + 1}]}
                batch.set(reference, fields)
            batch.commit()
            of.drain()
            sizes[sent + 500] = server.memory_bytes()
    report.add(
        MEMORY,
        Figure("after 10,000 events", sizes[10_000] / 2**20, "MiB"),
        Figure(f"after {events:,} events", sizes[events] / 2**20, "MiB"),
        at_most("the second / the first", sizes[events] / sizes[10_000], 1.1),
    )
