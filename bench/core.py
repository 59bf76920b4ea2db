"""The pure core: recalculation, deltas, suggestions; beside the gross-map algorithm, and beside a loop without any check."""

import random
from collections.abc import Callable
from typing import Any

from balance.core import ledger
from balance.core.ledger import Ledger
from balance.core.money import Unit
from balance.core.simplify import suggest
from balance.documents import balances
from balance.documents.sources import Kind, Transaction, parse
from bench import gross, guards, workload
from bench.measure import Figure, Report, at_least, at_most, cpu_medians

SECTION = "The core, in memory"


def run(report: Report, *, quick: bool) -> None:
    """Add this section's figures."""
    rounds = 5 if quick else 21
    _recalculation(report, rounds, quick=quick)
    _deltas(report, rounds)
    _suggestions(report, quick=quick)


def _recalculation(report: Report, rounds: int, *, quick: bool) -> None:
    for count, members in ((2_000, 10), (10_000, 50)):
        documents = workload.expenses(count, members)
        assert recalculate(documents) == bare(documents)
        actions: dict[str, Callable[[], object]] = {
            "ours": lambda documents=documents: recalculate(documents),  # type: ignore[misc]
            "bare": lambda documents=documents: bare(documents),  # type: ignore[misc]
        }
        taken = cpu_medians(actions, rounds)
        name = f"recalculating {count:,} documents of {members} members, parsing included"
        report.add(
            SECTION,
            Figure(name, taken["ours"] * 1e3, "ms"),
            at_most(f"{name}: ours / a bare loop", taken["ours"] / taken["bare"], 3, guard=guards.BARE_LOOP),
        )
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


def bare(documents: list[dict[str, Any]]) -> Ledger:
    """The same without any check, for documents that need none: what it costs to look at every share at all."""
    found: Ledger = {}
    for document in documents:
        payer, pairs = document["paidBy"], found.setdefault(document["currency"], {})
        for split in document["splits"]:
            uid = split["uid"]
            if uid != payer:
                share_minor = round(split["amount"] * 100)
                pair, signed = ((uid, payer), share_minor) if uid < payer else ((payer, uid), -share_minor)
                pairs[pair] = pairs.get(pair, 0) + signed
    return {currency: {pair: total for pair, total in pairs.items() if total} for currency, pairs in found.items()}


def _deltas(report: Report, rounds: int) -> None:
    deltas: dict[str, Callable[[], object]] = {}
    events: dict[str, Callable[[], object]] = {}
    stored: dict[str, Callable[[], object]] = {}
    for members in (10, 50, 100):
        pairs, delta = workload.full_ledger(members), ledger.fold(workload.shares(members))
        deltas[f"{members}"] = lambda pairs=pairs, delta=delta: ledger.add(pairs, delta)  # type: ignore[misc]
        events[f"{members}"] = _event(workload.full_ledger(members), delta)
        balance = balances.of_ledger(workload.full_ledger(members))
        stored[f"{members}"] = lambda balance=balance, delta=delta: balances.applied(balance, delta)  # type: ignore[misc]
    taken = cpu_medians(deltas, rounds, times=500)
    for size, seconds in taken.items():
        report.add(SECTION, Figure(f"one delta of 4 shares, {size} members", seconds * 1e6, "us"))
    report.add(SECTION, at_most("one delta, 100 members / 10", taken["100"] / taken["10"], 1.3))
    for size, seconds in cpu_medians(events, rounds, times=100).items():
        report.add(SECTION, Figure(f"the same with nets and suggestions, {size} members", seconds * 1e6, "us"))
    for size, seconds in cpu_medians(stored, rounds, times=20).items():
        report.add(SECTION, Figure(f"the same on a copy, with the check that it fits, {size} members", seconds * 1e6, "us"))
    for members, target in ((10, 10), (50, 100)):
        old = _gross_of(workload.full_ledger(members))
        expense = _expense_of(workload.shares(members))

        def gross_event(old: gross.Balances = old, expense: dict[str, object] = expense) -> None:
            gross.settle(gross.apply_expense(old, expense))

        actions: dict[str, Callable[[], object]] = {
            "ours": events[f"{members}"],
            "gross": gross_event,
            "our sums": _event(workload.full_ledger(members), ledger.fold(workload.shares(members)), settle=False),
            "gross sums": lambda old=old, expense=expense: gross.apply_expense(old, expense),  # type: ignore[misc]
        }
        both = cpu_medians(actions, rounds, times=10)
        ratio, sums_ratio = both["gross"] / both["ours"], both["gross sums"] / both["our sums"]
        report.add(SECTION, Figure(f"one event without suggestions, {members} members, gross maps / ours", sums_ratio, "x"))
        report.add(
            SECTION, at_least(f"one event, {members} members, gross maps / ours", ratio, target, guards.GROSS_MAPS[members])
        )


def _event(pairs: Ledger, delta: Ledger, *, settle: bool = True) -> Callable[[], object]:
    """What an event changes in memory: the pairs, the nets, the suggestions."""
    nets = balances.nets_of(pairs)["USD"]

    def apply() -> None:
        nonlocal nets
        ledger.add(pairs, delta)
        nets = ledger.added(nets, ledger.nets(delta["USD"]))
        if settle:
            suggest(nets)

    return apply


def _gross_of(stored: Ledger) -> gross.Balances:
    """The same debts in the baseline's form."""
    found: gross.Balances = {}
    for (low, high), amount_minor in stored["USD"].items():
        debtor, creditor = (low, high) if amount_minor > 0 else (high, low)
        found = _owed(found, debtor, creditor, abs(amount_minor) / 100)
    return found


def _owed(found: gross.Balances, debtor: str, creditor: str, amount: float) -> gross.Balances:
    for uid in (debtor, creditor):
        found.setdefault(uid, {"uid": uid, "owes": {}, "owedBy": {}, "netBalance": 0.0})
    found[debtor]["owes"][creditor] = found[creditor]["owedBy"][debtor] = amount
    return found


def _expense_of(postings: list[ledger.Posting]) -> dict[str, object]:
    """An expense with these shares."""
    splits = [{"uid": posting.debtor, "amount": posting.amount_minor / 100} for posting in postings]
    return {"paidBy": postings[0].creditor, "splits": splits}


def _suggestions(report: Report, *, quick: bool) -> None:
    chance = random.Random(14)
    worst = 0.0
    longer = tried = 0
    for _ in range(300 if quick else 5_000):
        members = chance.choice((8, 10, 12, 14, 16))
        nets = _random_nets(chance, members)
        worst = max(worst, min(cpu_medians({"": lambda nets=nets: suggest(nets)}, 1).values()))  # type: ignore[misc]
        longer += len(suggest(nets)) > _greedy_count(nets)
        tried += 1
    report.add(SECTION, at_most("suggestions, up to 16 members, the worst of all tried", worst * 1e3, 3, "ms"))
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
