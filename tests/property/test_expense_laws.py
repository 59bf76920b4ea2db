"""What expenses post, by oracles and by the laws: paid by one or several, refunds, shares that are no whole minor units.

The oracles are written from the rules, in exact fractions, and share no code with the product.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from itertools import accumulate
from math import floor
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from balance.core.ledger import Ledger, add, check_invariants, delta, fold, nets
from balance.core.money import Unit
from balance.documents import sources
from balance.documents.sources import Kind, Transaction, parse
from tests.property.firestore_values import GOOD_EXPENSES, GOOD_SETTLEMENTS

SCALES = {"USD": 100, "JPY": 1, "KWD": 1_000}
UNITS = st.sampled_from([Unit.MAJOR, Unit.MINOR, Unit(own=(("BTC", 8), ("POINTS", 0)))])

LIMITS = [
    0,
    -0.0,
    -1,
    1,
    0.01,
    0.005,
    10**12,
    10**14,
    10**14 + 1,
    1e14,
    10**17,
    1e300,
    float("nan"),
    float("inf"),
    True,
    None,
    "1.00",
]
NEAR_UIDS = st.sampled_from(["a", "b", "", "_a", "__a__", "é", "u" * 375, "u" * 376, "é" * 751, "a/b", None, 5])
PLAIN_AMOUNTS = st.integers(0, 10_000).map(lambda cents: cents / 100) | st.integers(0, 100)
NEAR_AMOUNTS = PLAIN_AMOUNTS.map(lambda amount: -amount) | st.sampled_from(LIMITS)


def _splits(
    uids: st.SearchStrategy[Any], amounts: st.SearchStrategy[Any], min_size: int = 0, max_size: int = 1
) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.fixed_dictionaries({"uid": uids, "amount": amounts}), min_size=min_size, max_size=max_size)


PLAIN_SPLITS = _splits(st.sampled_from("abé"), PLAIN_AMOUNTS, max_size=3)
PLAIN = st.fixed_dictionaries(
    {
        "paidBy": st.sampled_from("abé"),
        "amount": PLAIN_AMOUNTS,
        "currency": st.sampled_from(["USD", "usd", "KWD"]),
        "splits": PLAIN_SPLITS,
    }
)
STEPS = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"paidBy": NEAR_UIDS}),
    st.fixed_dictionaries({"amount": NEAR_AMOUNTS}),
    st.fixed_dictionaries({"currency": st.sampled_from(["JPY", "btc", "POINTS", "ſUSD", "", None, "XAU"])}),
    st.fixed_dictionaries({"splits": _splits(NEAR_UIDS, PLAIN_AMOUNTS, min_size=1)}),
    st.fixed_dictionaries({"splits": _splits(st.sampled_from("abé"), NEAR_AMOUNTS, min_size=1)}),
)
NEARLY_PLAIN = st.builds(lambda plain, step: plain | step, PLAIN, STEPS)
"""One step from what goes the short way, or none."""


def exact(value: object, scale: int) -> Fraction:
    """In minor units; a number means its shortest decimal."""
    return Fraction(value if isinstance(value, str) else repr(value)) * scale


def half_away_from_zero(amount: Fraction) -> int:
    return floor(amount + Fraction(1, 2)) if amount >= 0 else -floor(-amount + Fraction(1, 2))


def rounded_together(entries: list[dict[str, Any]], scale: int) -> list[int]:
    """As the rule says, one unit after the other."""
    amounts = [exact(entry["amount"], scale) for entry in entries]
    shares = [floor(amount) for amount in amounts]
    while sum(shares) < half_away_from_zero(sum(amounts, Fraction(0))):
        left = [index for index, amount in enumerate(amounts) if shares[index] < amount]
        index = min(left, key=lambda index: (-(amounts[index] - shares[index]), entries[index]["uid"], index))
        shares[index] += 1
    return shares


def nets_of(fields: dict[str, Any]) -> Counter[str]:
    """What each has paid less their splits."""
    scale = SCALES[fields["currency"].upper()]
    shares = rounded_together(fields["splits"], scale)
    totals: Counter[str] = Counter()
    if isinstance(fields["paidBy"], str):
        totals[fields["paidBy"]] += sum(shares)
    elif shares:
        for payer, paid in zip(fields["paidBy"], rounded_together(fields["paidBy"], scale), strict=True):
            totals[payer["uid"]] += paid
    for split, share in zip(fields["splits"], shares, strict=True):
        totals[split["uid"]] -= share
    return totals


def stretches(nets: dict[str, int]) -> list[tuple[str, int, int]]:
    """On one line: of each uid, in order, where its stretch begins and ends."""
    ends = list(accumulate(abs(nets[uid]) for uid in sorted(nets)))
    return list(zip(sorted(nets), [0, *ends], ends, strict=False))


def posted(fields: dict[str, Any]) -> dict[tuple[str, str], int]:
    """By debtor and creditor: how long their stretches lie above each other, when both lines begin at the same place."""
    nets = nets_of(fields)
    debtors = stretches({uid: net for uid, net in nets.items() if net < 0})
    creditors = stretches({uid: net for uid, net in nets.items() if net > 0})
    overlaps = {
        (debtor, creditor): min(end, other_end) - max(start, other_start)
        for debtor, start, end in debtors
        for creditor, other_start, other_end in creditors
    }
    return {pair: overlap for pair, overlap in overlaps.items() if overlap > 0}


def live(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "deletedAt": None}


def read(kind: Kind, fields: dict[str, Any]) -> Transaction:
    found = parse(kind, fields, Unit.MAJOR)
    assert isinstance(found, Transaction), found
    return found


def expense(paid_by: object, *splits: tuple[str, object]) -> dict[str, Any]:
    entries = [{"uid": uid, "amount": amount} for uid, amount in splits]
    return {"groupId": "g1", "paidBy": paid_by, "amount": 1, "currency": "USD", "splits": entries}


SEVENTHS = expense("h", *((uid, 30 / 7) for uid in "abcdefg"))
TWO_PAYERS = expense([{"uid": "a", "amount": 4}, {"uid": "b", "amount": 8}], ("a", 4), ("b", 4), ("c", 4))


@given(GOOD_EXPENSES.map(live))
@example(SEVENTHS)
@example(TWO_PAYERS)
@example(expense("a", ("a", -10), ("b", -10), ("c", -10)))
@example(expense("a", ("a", -2), ("b", 12)))
@settings(max_examples=300, deadline=None)
def test_an_expense_posts_the_matching_of_its_nets(fields: dict[str, Any]) -> None:
    ledger = fold(read(Kind.EXPENSE, fields).postings)
    expected = {
        (min(pair), max(pair)): amount_minor if pair[0] < pair[1] else -amount_minor
        for pair, amount_minor in posted(fields).items()
    }
    assert ledger.get(fields["currency"].upper(), {}) == expected


@given(GOOD_EXPENSES.map(live))
@settings(max_examples=200, deadline=None)
def test_shares_keep_their_rounded_sum_and_whole_ones_stay(fields: dict[str, Any]) -> None:
    scale = SCALES[fields["currency"].upper()]
    _, shares = sources._shares(fields, "splits", scale)
    amounts = [exact(split["amount"], scale) for split in fields["splits"]]
    assert sum(shares) == half_away_from_zero(sum(amounts, Fraction(0)))
    assert all(abs(share - amount) < 1 for share, amount in zip(shares, amounts, strict=True))
    assert shares == rounded_together(fields["splits"], scale)


@given(NEARLY_PLAIN | GOOD_EXPENSES, UNITS)
@settings(max_examples=600, deadline=None)
@example({"groupId": "g", "paidBy": "a", "amount": 1, "currency": "usd", "splits": [{"uid": "b", "amount": 1}]}, Unit.MAJOR)
@example({"groupId": "g", "paidBy": "a", "amount": 1, "currency": "USD", "splits": []}, Unit.MINOR)
@example({"groupId": "g", "paidBy": "a", "amount": 1e-3, "currency": "USD", "splits": []}, Unit.MAJOR)
@example({"groupId": "g", "paidBy": "a", "amount": 10**14, "currency": "USD", "splits": []}, Unit.MAJOR)
def test_the_short_way_for_plain_expenses_comes_to_the_same(fields: dict[str, Any], unit: Unit) -> None:
    plain = sources._plain_expense("g", fields, unit)
    assume(plain is not None)
    assert plain is not None
    # It raises nothing: what goes the short way has no fault.
    general = sources._any_expense("g", fields, unit)
    assert plain.group_id == general.group_id
    assert fold(plain.postings) == fold(general.postings)
    assert plain.split_mismatch == general.split_mismatch


@given(GOOD_EXPENSES.map(live))
@settings(max_examples=150, deadline=None)
def test_the_nets_are_what_each_has_paid_less_their_splits(fields: dict[str, Any]) -> None:
    ledger = fold(read(Kind.EXPENSE, fields).postings)
    assert {uid: net for pairs in ledger.values() for uid, net in nets(pairs).items() if net} == {
        uid: net for uid, net in nets_of(fields).items() if net
    }
    check_invariants(ledger)


DOCUMENTS = (
    st.none()
    | GOOD_EXPENSES.map(lambda fields: (Kind.EXPENSE, fields))
    | GOOD_SETTLEMENTS.map(lambda fields: (Kind.SETTLEMENT, fields))
)
State = tuple[Kind, dict[str, Any]] | None


def transaction(state: State) -> Transaction:
    return sources.NOTHING if state is None else read(*state)


def total(states: Iterable[State], group: str) -> Ledger:
    return fold(p for state in states if transaction(state).group_id == group for p in transaction(state).postings)


@given(st.lists(st.tuples(st.integers(0, 2), DOCUMENTS), max_size=8), st.data())
@settings(max_examples=150, deadline=None)
def test_the_three_laws_hold_for_every_kind_of_expense(history: list[tuple[int, State]], data: st.DataObject) -> None:
    """Incremental is full recalculation, whatever the order; nets sum to zero; a change and its inverse leave no trace."""
    states: dict[int, State] = {}
    deltas: list[tuple[str, Ledger]] = []
    for document, after in history:
        sides = [transaction(states.get(document)), transaction(after)]
        for group in {side.group_id for side in sides} - {None}:
            before_postings, after_postings = (side.postings if side.group_id == group else () for side in sides)
            deltas.append((str(group), delta(before_postings, after_postings)))
            inverse = delta(after_postings, before_postings)
            nothing = {currency: dict(pairs) for currency, pairs in deltas[-1][1].items()}
            add(nothing, inverse)
            assert nothing == {}
        states[document] = after
    balances: dict[str, Ledger] = {}
    for group, change in data.draw(st.permutations(deltas)):
        add(balances.setdefault(group, {}), change)
    for group, ledger in balances.items():
        assert ledger == total(states.values(), group)
        check_invariants(ledger)
