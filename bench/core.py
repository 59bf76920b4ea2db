"""The pure core: recalculation, deltas, suggestions, beside the gross-map algorithm."""

import random
from collections.abc import Callable

from balance import balances, ledger
from balance.ledger import Ledger
from balance.money import Unit
from balance.simplify import suggest
from balance.sources import Kind, Transaction, parse
from bench import gross, workload
from bench.measure import Figure, Report, at_least, at_most, cpu_medians

SECTION = "The core, in memory"


def run(report: Report, *, quick: bool) -> None:
    """Add this section's figures."""
    rounds = 5 if quick else 21
    _recalculation(report, rounds, quick=quick)
    _deltas(report, rounds)
    _suggestions(report, quick=quick)


def _recalculation(report: Report, rounds: int, *, quick: bool) -> None:
    for count, members, target_ms in ((2_000, 10, 10), (10_000, 50, 220)):
        documents = workload.expenses(count, members)
        taken = cpu_medians({"ours": lambda documents=documents: recalculate(documents)}, rounds)  # type: ignore[misc]
        name = f"recalculating {count:,} documents of {members} members, parsing included"
        report.add(SECTION, at_most(name, taken["ours"] * 1e3, target_ms, "ms"))
    documents = workload.expenses(300 if quick else 1_000, 50)
    taken = cpu_medians({"ours": lambda: recalculate(documents), "gross": lambda: gross.recalculate(documents)}, 3)
    report.add(SECTION, at_least("recalculating at 50 members, gross maps / ours", taken["gross"] / taken["ours"], 20))


def recalculate(documents: list[dict[str, object]]) -> Ledger:
    """What a rebuild computes."""
    found: Ledger = {}
    for document in documents:
        parsed = parse(Kind.EXPENSE, document, Unit.MAJOR)
        assert isinstance(parsed, Transaction)
        ledger.post(found, parsed.postings)
    return found


def _deltas(report: Report, rounds: int) -> None:
    taken = {}
    actions: dict[str, Callable[[], object]] = {}
    for members in (10, 50, 100):
        stored, delta = workload.full_ledger(members), ledger.fold(workload.shares(members))
        actions[f"delta {members}"] = lambda stored=stored, delta=delta: ledger.add(stored, delta)  # type: ignore[misc]
        balance = balances.of_ledger(workload.full_ledger(members))
        actions[f"all {members}"] = lambda balance=balance, delta=delta: _with_suggestions(balance, delta)  # type: ignore[misc]
    taken = cpu_medians(actions, rounds, times=200)
    for members, target_us in ((10, 10), (50, 30), (100, 50)):
        report.add(SECTION, at_most(f"one delta of 4 shares, {members} members", taken[f"delta {members}"] * 1e6, 5, "us"))
        name = f"the same with nets and suggestions, {members} members"
        report.add(SECTION, at_most(name, taken[f"all {members}"] * 1e6, target_us, "us"))
    report.add(SECTION, at_most("one delta, 100 members / 10", taken["delta 100"] / taken["delta 10"], 1.3))
    for members, target in ((10, 10), (50, 100)):
        old: gross.Balances = gross.recalculate(workload.expenses(200, members))
        expense = workload.expenses(1, members)[0]

        def gross_event(old: gross.Balances = old, expense: dict[str, object] = expense) -> None:
            gross.settle(gross.apply_expense(old, expense))

        both = cpu_medians({"ours": actions[f"all {members}"], "gross": gross_event}, rounds, times=5)
        report.add(SECTION, at_least(f"one event, {members} members, gross maps / ours", both["gross"] / both["ours"], target))


def _with_suggestions(balance: balances.Balance, delta: Ledger) -> None:
    after = balances.applied(balance, delta)
    for nets in after.nets.values():
        suggest(nets)


def _suggestions(report: Report, *, quick: bool) -> None:
    chance = random.Random(14)
    worst = 0.0
    longer = tried = 0
    for _ in range(300 if quick else 5_000):
        members = chance.choice((8, 10, 12, 14))
        nets = _random_nets(chance, members)
        worst = max(worst, min(cpu_medians({"": lambda nets=nets: suggest(nets)}, 1).values()))  # type: ignore[misc]
        longer += len(suggest(nets)) > _greedy_count(nets)
        tried += 1
    report.add(SECTION, at_most("suggestions, up to 14 members, the worst of all tried", worst * 1e3, 3, "ms"))
    large = [_random_nets(chance, 50) for _ in range(100)]
    taken = cpu_medians({"": lambda: [suggest(nets) for nets in large]}, 5)[""] / len(large)
    report.add(SECTION, at_most("suggestions, 50 members", taken * 1e3, 0.1, "ms"))
    longer += sum(len(suggest(nets)) > _greedy_count(nets) for nets in large)
    report.add(SECTION, Figure(f"suggestions longer than largest-first, of {tried + len(large)}", longer, "", 0, at_most=True))


def _random_nets(chance: random.Random, members: int) -> dict[str, int]:
    step = chance.choice((1, 100, 500, 1_000))
    limit = chance.choice((3, 6, 20, 300))
    nets = [chance.randint(-limit, limit) * step for _ in range(members - 1)]
    return dict(zip(workload.uids(members), [*nets, -sum(nets)], strict=True))


def _greedy_count(nets: dict[str, int]) -> int:
    left = [net for net in nets.values() if net]
    count = 0
    while left:
        left.sort()
        paid = min(-left[0], left[-1])
        left[0] += paid
        left[-1] -= paid
        left = [net for net in left if net]
        count += 1
    return count
