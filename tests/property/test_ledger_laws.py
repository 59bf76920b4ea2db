"""The three laws of the ledger, for any documents, changed in any way, their events delivered in any order, again and again."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from balance.core.ledger import Ledger, Posting, add, check_invariants, delta, fold, nets, post

UIDS = st.sampled_from(["a", "b", "c", "d.e", "ü/`x`"])
CURRENCIES = st.sampled_from(["USD", "EUR", "JPY"])
GROUPS = st.sampled_from(["g1", "g2"])
POSTINGS = st.builds(Posting, UIDS, UIDS, CURRENCIES, st.integers(0, 10**12) | st.integers(0, 3))

Document = tuple[str, tuple[Posting, ...]] | None
"""A document's group and postings; None when it is absent, deleted or malformed."""

STATES = st.none() | st.tuples(GROUPS, st.lists(POSTINGS, max_size=5).map(tuple))
HISTORIES = st.lists(st.tuples(st.integers(0, 3), STATES), max_size=20)
"""Writes in the order of their commits: which document, and its new state."""


def postings(state: Document, group: str) -> tuple[Posting, ...]:
    return state[1] if state is not None and state[0] == group else ()


def events(history: Iterable[tuple[int, Document]]) -> list[tuple[str, str, Ledger]]:
    """Each write's delta in each group that it touches: the write's key, the group, the delta."""
    states: dict[int, Document] = {}
    told = []
    for number, (document, after) in enumerate(history):
        before = states.get(document)
        for group in {state[0] for state in (before, after) if state is not None}:
            told.append((f"write {number} in {group}", group, delta(postings(before, group), postings(after, group))))
        states[document] = after
    return told


def recalculated(history: Iterable[tuple[int, Document]], group: str) -> Ledger:
    """From the documents as they are in the end, summed by hand."""
    states = dict(history)
    totals: dict[tuple[str, str, str], int] = {}
    for state in states.values():
        for debtor, creditor, currency, amount_minor in postings(state, group):
            totals[currency, debtor, creditor] = totals.get((currency, debtor, creditor), 0) + amount_minor
    balance: Ledger = {}
    for currency, low, high in {(c, *sorted((one, other))) for c, one, other in totals}:
        amount_minor = totals.get((currency, low, high), 0) - totals.get((currency, high, low), 0)
        if low != high and amount_minor:
            balance.setdefault(currency, {})[low, high] = amount_minor
    return balance


@given(HISTORIES, st.data())
@settings(max_examples=300, deadline=None)
def test_incremental_is_full_recalculation_after_any_order_and_repetition_of_events(
    history: list[tuple[int, Document]], data: st.DataObject
) -> None:
    told = events(history)
    repeated = data.draw(st.lists(st.sampled_from(told), max_size=10)) if told else []
    delivered = data.draw(st.permutations([*told, *repeated]))
    balances: dict[str, Ledger] = {"g1": {}, "g2": {}}
    recorded = set()
    for key, group, change in delivered:
        if key not in recorded:
            add(balances[group], change)
            recorded.add(key)
    assert balances == {group: recalculated(history, group) for group in balances}


@given(st.lists(POSTINGS, max_size=30))
@settings(max_examples=200, deadline=None)
def test_a_balance_is_canonical_and_its_nets_sum_to_zero(documents: list[Posting]) -> None:
    ledger = fold(documents)
    check_invariants(ledger)
    for pairs in ledger.values():
        totals = nets(pairs)
        assert sum(totals.values()) == 0
        for uid, total in totals.items():
            owed = sum(abs(n) for (low, high), n in pairs.items() if uid == (high if n > 0 else low))
            owing = sum(abs(n) for (low, high), n in pairs.items() if uid == (low if n > 0 else high))
            assert total == owed - owing


@given(st.lists(POSTINGS, max_size=10), st.lists(POSTINGS, max_size=10), st.lists(POSTINGS, max_size=10))
@settings(max_examples=200, deadline=None)
def test_a_change_and_its_inverse_leave_the_balance_as_it_was(
    others: list[Posting], before: list[Posting], after: list[Posting]
) -> None:
    ledger = fold([*others, *before])
    was = {currency: dict(pairs) for currency, pairs in ledger.items()}
    add(ledger, delta(before, after))
    assert ledger == fold([*others, *after])
    check_invariants(ledger)
    add(ledger, delta(after, before))
    assert ledger == was


@given(st.lists(POSTINGS, max_size=10), st.lists(POSTINGS, max_size=10))
@settings(max_examples=100, deadline=None)
def test_posting_and_taking_back_are_inverse(standing: list[Posting], passing: list[Posting]) -> None:
    ledger = fold(standing)
    post(ledger, passing)
    post(ledger, passing, sign=-1)
    assert ledger == fold(standing)
