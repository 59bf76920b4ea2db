"""The balance document keeps the ledger's laws: what is stored after any deltas is what a recalculation would store."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balance.core.ledger import Ledger, Pair, add
from balance.core.money import Unit
from balance.database.firestore import DELETE
from balance.documents import balances
from balance.documents.balances import Balance, CorruptBalance, Detail, Stored
from balance.documents.settings import Settings
from tests.sizes import document_bytes

NOW = datetime(2026, 3, 1, tzinfo=UTC)
UIDS = ["a", "b", "c", "d.e", "ü/`x`", "🍕" * 9]
CURRENCIES = ["USD", "JPY", "KWD", "CLF"]
PAIRS = st.sampled_from([(low, high) for low in sorted(UIDS) for high in sorted(UIDS) if low < high])
AMOUNTS = st.integers(-500, 500).filter(bool) | st.integers(-(10**12), 10**12).filter(bool)
# Where debts go round, pairs are there and nets are not.
CIRCLES = st.integers(1, 9).map(lambda amount: {("a", "b"): amount, ("b", "c"): amount, ("a", "c"): -amount})
LEDGERS: st.SearchStrategy[Ledger] = st.dictionaries(
    st.sampled_from(CURRENCIES), st.dictionaries(PAIRS, AMOUNTS, min_size=1, max_size=8) | CIRCLES, max_size=3
)
UNITS = st.sampled_from([Unit.MAJOR, Unit.MINOR, Unit(own=(("BTC", 8), ("POINTS", 0)))])
STORED_LEVELS = st.sampled_from([Detail.PAIRS, Detail.NETS])


def inverse(ledger: Ledger) -> Ledger:
    return {currency: {pair: -amount for pair, amount in pairs.items()} for currency, pairs in ledger.items()}


def total(*ledgers: Ledger) -> Ledger:
    sums: Ledger = {}
    for ledger in ledgers:
        add(sums, ledger)
    return sums


def at(detail: Detail, ledger: Ledger) -> Balance:
    return balances.coarsened(balances.of_ledger(ledger), detail)


def stored(balance: Balance, unit: Unit = Unit.MAJOR) -> dict[str, Any]:
    """The document as Firestore returns it."""
    return {**balances.document("g", Stored(balance, NOW, NOW), Settings(unit=unit)), "lastUpdatedAt": NOW}


def updated(document: dict[str, Any], updates: balances.FieldUpdates) -> dict[str, Any]:
    """What Firestore makes of an update of field paths."""
    after = copy.deepcopy(document)
    for (*parents, name), value in updates.items():
        inner: dict[str, Any] | None = after
        for segment in parents:
            if value is DELETE and segment not in inner:  # type: ignore[operator]
                inner = None
                break
            inner = inner.setdefault(segment, {})  # type: ignore[union-attr]
        if inner is not None:
            inner.pop(name, None)
            if value is not DELETE:
                inner[name] = value
    return after


def money_of(document: dict[str, Any]) -> tuple[Any, Any]:
    """What the laws speak of."""
    return document["balancesByCurrency"], document["simplifiedDebts"]


# ------------------------------------------------------------------------------------------------------------ the laws


@given(LEDGERS, UNITS, STORED_LEVELS)
@settings(max_examples=200, deadline=None)
def test_a_document_reads_back_as_the_balance_it_was_made_of(ledger: Ledger, unit: Unit, detail: Detail) -> None:
    balance = at(detail, ledger)
    assert balances.parse(stored(balance, unit), "g", unit) == Stored(balance, NOW, NOW)


@given(LEDGERS, st.lists(LEDGERS, max_size=4), UNITS, STORED_LEVELS)
@settings(max_examples=250, deadline=None)
def test_updating_fields_gives_the_document_of_a_recalculation(
    ledger: Ledger, deltas: list[Ledger], unit: Unit, detail: Detail
) -> None:
    document = stored(at(detail, ledger), unit)
    recalculated = ledger
    for delta in deltas:
        before = balances.parse(document, "g", unit).balance
        after = balances.applied(before, delta)
        document = updated(document, balances.updates(after, delta, unit))
        recalculated = total(recalculated, delta)
        assert money_of(document) == money_of(stored(at(detail, recalculated), unit))
        assert balances.parse(document, "g", unit).balance == after == at(detail, recalculated)


@given(LEDGERS, LEDGERS, UNITS, STORED_LEVELS)
@settings(max_examples=150, deadline=None)
def test_a_delta_and_its_inverse_leave_the_document_as_it_was(
    ledger: Ledger, delta: Ledger, unit: Unit, detail: Detail
) -> None:
    document = stored(at(detail, ledger), unit)
    before = balances.parse(document, "g", unit).balance
    there = balances.applied(before, delta)
    back = balances.applied(there, inverse(delta))
    moved = updated(document, balances.updates(there, delta, unit))
    assert money_of(updated(moved, balances.updates(back, inverse(delta), unit))) == money_of(document)


@given(LEDGERS, LEDGERS)
@settings(max_examples=60, deadline=None)
def test_applying_a_delta_leaves_the_balance_before_it_alone(ledger: Ledger, delta: Ledger) -> None:
    for detail in (Detail.PAIRS, Detail.NETS):
        before = at(detail, ledger)
        was = copy.deepcopy(before)
        balances.applied(before, delta)
        assert before == was


@given(LEDGERS, UNITS, STORED_LEVELS)
@settings(max_examples=150, deadline=None)
def test_a_document_is_canonical(ledger: Ledger, unit: Unit, detail: Detail) -> None:
    document = stored(at(detail, ledger), unit)
    per_unit = {currency: balances._scale(currency, unit) for currency in CURRENCIES}
    for currency, rows in document["balancesByCurrency"].items():
        assert rows
        minor = {uid: round(row["netBalance"] * per_unit[currency]) for uid, row in rows.items()}
        assert sum(minor.values()) == 0
        for uid, row in rows.items():
            assert row["uid"] == uid
            assert not row["owes"].keys() & row["owedBy"].keys()
            assert all(amount > 0 for amount in [*row["owes"].values(), *row["owedBy"].values()])
            assert all(rows[creditor]["owedBy"][uid] == amount for creditor, amount in row["owes"].items())
            assert all(rows[debtor]["owes"][uid] == amount for debtor, amount in row["owedBy"].items())
            if detail is Detail.PAIRS:
                assert row["owes"] or row["owedBy"]
                net = sum(row["owedBy"].values()) - sum(row["owes"].values())
                assert net == pytest.approx(row["netBalance"], rel=1e-12, abs=1e-9 + 1e-12 * sum(row["owedBy"].values()))
            else:
                assert row["netBalance"]
                assert row["owes"] == row["owedBy"] == {}
        paid: dict[str, int] = dict.fromkeys(minor, 0)
        for debt in document["simplifiedDebts"]:
            if debt["currency"] == currency:
                assert debt["amount"] > 0
                paid[debt["from"]["uid"]] += round(debt["amount"] * per_unit[currency])
                paid[debt["to"]["uid"]] -= round(debt["amount"] * per_unit[currency])
        assert all(minor[uid] + paid[uid] == 0 for uid in minor), "the suggestions settle all debts"


@given(LEDGERS)
@settings(max_examples=60, deadline=None)
def test_the_suggestions_are_the_same_whether_pairs_or_nets_are_stored(ledger: Ledger) -> None:
    pairs, nets = at(Detail.PAIRS, ledger), at(Detail.NETS, ledger)
    assert stored(pairs)["simplifiedDebts"] == stored(nets)["simplifiedDebts"]


# ---------------------------------------------------------------------------------------------------------------- size

LONG_UIDS = st.integers(1, 300).flatmap(lambda length: st.sampled_from("aü€🍕").map(lambda letter: letter * length))
LARGE: st.SearchStrategy[Ledger] = st.dictionaries(
    st.sampled_from(CURRENCIES),
    st.dictionaries(st.tuples(LONG_UIDS, LONG_UIDS).filter(lambda pair: pair[0] < pair[1]), AMOUNTS, min_size=1, max_size=20),
    max_size=3,
)


@given(LEDGERS | LARGE, st.sampled_from(["g", "g" * 1_500, "€" * 500]), UNITS)
@settings(max_examples=150, deadline=None)
def test_a_document_never_takes_more_than_is_reckoned(ledger: Ledger, group_id: str, unit: Unit) -> None:
    for detail in Detail:
        balance = at(detail, ledger)
        document = balances.document(group_id, Stored(balance, NOW, NOW, 10**6), Settings(unit=unit))
        taken = document_bytes(f"{'c' * 1_500}/{group_id}/metadata/balance", document)
        assert taken <= balances.size_bytes(balance)


# ---------------------------------------------------------------------------------------------------------- corruption


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in a document, maps and lists included."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from leaves(inner, (*path, name))


def bent(document: dict[str, Any], path: tuple[Any, ...], how: str, value: Any) -> dict[str, Any]:
    """The document with one thing changed."""
    after = copy.deepcopy(document)
    *parents, name = path
    inner: Any = after
    for segment in parents:
        inner = inner[segment]
    match how:
        case "drop":
            del inner[name]
        case "set":
            inner[name] = value
        case "add" if isinstance(inner[name], dict):
            inner[name]["z"] = value
        case "negate" if isinstance(inner[name], int | float):
            inner[name] = -inner[name]
        case "move" if isinstance(inner, dict):
            inner["z"] = inner.pop(name)
        case "swap" if isinstance(inner, dict):
            other = sorted(inner)[0]
            inner[name], inner[other] = inner[other], inner[name]
    return after


GARBAGE: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, 1, -1, 0.5, 5.0, float("nan"), 10**16, "", "x", "pairs", [], {}, {"a": 1}, {"uid": "z"}, b"x"]
)


@given(
    LEDGERS.filter(bool), STORED_LEVELS, st.data(), st.sampled_from(["drop", "set", "add", "negate", "move", "swap"]), GARBAGE
)  # fmt: skip
@settings(max_examples=500, deadline=None)
def test_whatever_a_hand_bends_is_noticed_or_changes_nothing(
    ledger: Ledger, detail: Detail, data: st.DataObject, how: str, value: Any
) -> None:
    balance = at(detail, ledger)
    document = stored(balance)
    paths = [path for path in leaves(document) if path[0] in ("balancesByCurrency", "groupId", "detail")]
    found = bent(document, data.draw(st.sampled_from(paths)), how, value)
    try:
        parsed = balances.parse(found, "g", Unit.MAJOR).balance
    except CorruptBalance:
        return
    # Where all nets are zero there is no suggestion by which to miss what a hand has taken away whole.
    assert parsed == balance or balances.coarsened(parsed, Detail.NETS).nets == balances.coarsened(balance, Detail.NETS).nets


@given(LEDGERS.filter(bool), st.data())
@settings(max_examples=300, deadline=None)
def test_a_debt_noted_by_one_side_only_is_noticed_whatever_the_order_of_the_rows(ledger: Ledger, data: st.DataObject) -> None:
    document = stored(at(Detail.PAIRS, ledger))
    currency = data.draw(st.sampled_from(sorted(ledger)))
    rows = document["balancesByCurrency"][currency]
    order = data.draw(st.permutations(sorted(rows)))
    one, other = data.draw(st.permutations(sorted(rows)))[:2]
    side = data.draw(st.sampled_from(["owes", "owedBy"]))
    amount = data.draw(st.sampled_from([5, -5, 0, *rows[other]["owes"].values(), *rows[other]["owedBy"].values()]))
    if rows[one][side].get(other) == amount:
        return
    rows[one][side][other] = amount
    document["balancesByCurrency"][currency] = {uid: rows[uid] for uid in order}
    with pytest.raises(CorruptBalance):
        balances.parse(document, "g", Unit.MAJOR)


@given(LEDGERS, STORED_LEVELS, st.sampled_from(["lastUpdatedAt", "simplifiedDebts"]), GARBAGE)
@settings(max_examples=60, deadline=None)
def test_the_next_update_rewrites_what_is_not_checked(ledger: Ledger, detail: Detail, name: str, value: Any) -> None:
    document = stored(at(detail, ledger)) | {name: value}
    try:
        before = balances.parse(document, "g", Unit.MAJOR).balance
    except CorruptBalance:
        return
    delta: Mapping[str, Mapping[Pair, int]] = {"USD": {("a", "b"): 1}}
    after = balances.applied(before, delta)
    healed = updated(document, balances.updates(after, delta, Unit.MAJOR))
    assert money_of(healed) == money_of(stored(after))
    assert name != "lastUpdatedAt" or healed[name] is not value
