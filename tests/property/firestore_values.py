"""Whatever Firestore can hold, as plain Python: hypothesis strategies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TIMES = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999), timezones=st.just(UTC))  # noqa: DTZ001
RECENT = st.integers(-(10**9), 10**9).map(lambda us: datetime(2026, 3, 1, tzinfo=UTC) + timedelta(microseconds=us))
INTEGERS = st.integers(-(2**63), 2**63 - 1)
SCALARS = st.one_of(st.none(), st.booleans(), INTEGERS, st.floats(), TEXT, st.binary(max_size=4), TIMES)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4)


VALUES: st.SearchStrategy[Any] = st.recursive(SCALARS, _nested, max_leaves=8)
UIDS = st.sampled_from(["a", "b", "c", "d.e/f", "ü`'\"", "🍕", "__x__", "", "u" * 1_500, "u" * 1_501]) | TEXT
AMOUNTS = st.one_of(
    st.integers(0, 1_000),
    st.floats(0, 1_000),
    st.floats(-1_000, 0),
    st.sampled_from([-1, -0.0, True, float("nan"), float("inf"), 10**12, 10**12 + 1, 1e300, "12.5", "1e3", "", "9" * 30, None]),
)
CURRENCIES = st.sampled_from(["USD", "usd", "JPY", "KWD", "CLF", "XAU", "", "🍕", "ſUSD"])
GROUP_IDS = st.sampled_from(["g1", "g2", "a/b", ".", "", "__g__", "grüppe", "g" * 1_501])


def sometimes(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what belongs there, else anything."""
    return st.integers(0, 9).flatmap(lambda dice: VALUES if dice == 0 else value)


def documents(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Documents with any of these fields, and perhaps others."""
    known: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({}, optional=fields)
    complete: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(fields)
    others = st.dictionaries(NAMES, VALUES, max_size=2)
    return st.builds(lambda ours, theirs: {**theirs, **ours}, complete | known, others)


DELETED_AT = st.integers(0, 5).flatmap(lambda dice: VALUES if dice == 0 else st.none() | st.just(False))
SPLITS = st.lists(sometimes(documents({"uid": sometimes(UIDS), "amount": sometimes(AMOUNTS)})), max_size=5)
EXPENSES = documents(
    {
        "groupId": sometimes(GROUP_IDS),
        "paidBy": sometimes(UIDS | SPLITS),
        "amount": sometimes(AMOUNTS),
        "currency": sometimes(CURRENCIES),
        "splits": sometimes(SPLITS),
        "deletedAt": DELETED_AT,
    }
)
SETTLEMENTS = documents(
    {
        "groupId": sometimes(GROUP_IDS),
        "payerId": sometimes(UIDS),
        "payeeId": sometimes(UIDS),
        "amount": sometimes(AMOUNTS),
        "currency": sometimes(CURRENCIES),
        "deletedAt": DELETED_AT,
    }
)

# Well-formed, and odd all the same.
GOOD_UIDS = st.sampled_from(["a", "b", "c", "d.e/f", "ü`'\"", "🍕", "u" * 1_500, "\n", "__x"])
GOOD_AMOUNTS = (
    st.integers(0, 1_000) | st.floats(0, 1_000) | st.sampled_from([0.005, -0.0, "12.5", "0.0049", 5e-324, "0" * 99 + "1"])
)
GOOD_GROUPS = st.sampled_from(["g1", "g2", "grüppe"])
GOOD_CURRENCIES = st.sampled_from(["USD", "jpy", "KWD"])
SIGNED_AMOUNTS = GOOD_AMOUNTS | st.integers(-1_000, -1) | st.floats(-1_000, 0) | st.sampled_from([-0.005, "-12.50", "-0.0049"])
GOOD_SPLITS = st.lists(st.fixed_dictionaries({"uid": GOOD_UIDS, "amount": SIGNED_AMOUNTS}), max_size=5)


@st.composite
def payers(draw: st.DrawFn, splits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Payers who add up to the splits: the same amounts, of others, and something that one of them pays for another."""
    paid = [{"uid": draw(GOOD_UIDS), "amount": split["amount"]} for split in draw(st.permutations(splits))]
    lent = draw(st.integers(-500, 500))
    return [*paid, {"uid": draw(GOOD_UIDS), "amount": lent}, {"uid": draw(GOOD_UIDS), "amount": -lent}]


@st.composite
def good_expenses(draw: st.DrawFn) -> dict[str, Any]:
    """Paid by one or by several, with refunds and shares that are no whole minor units."""
    splits = draw(GOOD_SPLITS)
    return {
        "groupId": draw(GOOD_GROUPS),
        "paidBy": draw(GOOD_UIDS | payers(splits)),
        "amount": draw(SIGNED_AMOUNTS),
        "currency": draw(GOOD_CURRENCIES),
        "splits": splits,
        **draw(st.fixed_dictionaries({}, optional={"deletedAt": st.none() | st.booleans() | RECENT, "note": SCALARS})),
    }


GOOD_EXPENSES: st.SearchStrategy[dict[str, Any]] = good_expenses()
GOOD_SETTLEMENTS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "groupId": GOOD_GROUPS,
        "payerId": GOOD_UIDS,
        "payeeId": GOOD_UIDS,
        "amount": GOOD_AMOUNTS,
        "currency": GOOD_CURRENCIES,
    },
    optional={"deletedAt": st.none() | st.booleans() | RECENT},
)
