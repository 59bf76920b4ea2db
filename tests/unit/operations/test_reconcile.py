"""Comparing two balance documents: every change is a difference, and each is told once and plainly."""

from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from balance.core.ledger import Ledger
from balance.documents import balances
from balance.documents.settings import Settings
from balance.operations.reconcile import Difference, compare

Document = dict[str, Any]

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def document(ledger: Ledger) -> Document:
    fields = balances.document("g", balances.Stored(balances.of_ledger(ledger), NOW, NOW), Settings())
    return {name: value for name, value in fields.items() if name not in ("asOf", "lastUpdatedAt")}


def told(stored: Document, wanted: Document) -> list[str]:
    return [str(difference) for difference in compare(stored, wanted)]


ledgers = st.dictionaries(
    st.sampled_from(("EUR", "JPY", "USD")),
    st.dictionaries(
        st.sampled_from([("ana", "bo"), ("ana", "chidi"), ("bo", "chidi"), ("bo", "dara")]),
        st.integers(-5_000, 5_000).filter(bool),
        min_size=1,
    ),
)
scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text("abnou.", max_size=3)
garbage = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("abo", max_size=2), inner, max_size=2)
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a document, maps and lists too."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([path] if path else []), *(place for key, item in inner for place in places(item, (*path, key)))]


def differs(one: Any, other: Any) -> bool:
    """Whether a client could tell two values apart: True is no 1, but 1.0 is."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() != other.keys() or any(differs(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) != len(other) or any(map(differs, one, other))
    return isinstance(one, bool) != isinstance(other, bool) or bool(one != other)


@given(ledger=ledgers, data=st.data())
def test_any_change_at_any_place_is_a_difference(ledger: Ledger, data: st.DataObject) -> None:
    wanted = document(ledger)
    stored = deepcopy(wanted)
    *way, last = data.draw(st.sampled_from(places(stored)))
    holder = stored
    for key in way:
        holder = holder[key]
    match data.draw(st.sampled_from(["change", "remove", "add"])):
        case "change":
            holder[last] = data.draw(garbage)
        case "remove":
            del holder[last]
        case _ if isinstance(holder, dict):
            holder[data.draw(st.text("abo", max_size=2))] = data.draw(garbage)
        case _:
            holder.append(data.draw(garbage))
    assert bool(compare(stored, wanted)) == differs(stored, wanted)


@given(ledger=ledgers, other=ledgers)
def test_documents_of_two_ledgers_differ_exactly_when_the_ledgers_do(ledger: Ledger, other: Ledger) -> None:
    assert bool(compare(document(ledger), document(other))) == (ledger != other)


def test_a_missing_debt_is_told_by_its_amounts_alone() -> None:
    assert told(document({}), document({"USD": {("ana", "bo"): 250}})) == [
        "USD: ana owes bo: stored nothing, recalculated 2.5",
        "USD: net balance of ana: stored nothing, recalculated -2.5",
        "USD: net balance of bo: stored nothing, recalculated 2.5",
        "USD: the suggestion that ana pays bo: stored nothing, recalculated 2.5",
    ]


def test_a_debt_turned_around_is_told_from_both_sides() -> None:
    assert told(document({"USD": {("ana", "bo"): 300}}), document({"USD": {("ana", "bo"): -300}}))[:2] == [
        "USD: ana owes bo: stored 3, recalculated nothing",
        "USD: bo owes ana: stored nothing, recalculated 3",
    ]


def test_one_side_of_a_pair_alone_is_told_as_such() -> None:
    wanted = document({"USD": {("ana", "bo"): 300}})
    stored = deepcopy(wanted)
    stored["balancesByCurrency"]["USD"]["bo"]["owedBy"]["ana"] = 4
    assert told(stored, wanted) == ["USD: bo is owed by ana: stored 4, recalculated 3"]


def test_differences_are_json() -> None:
    stored, wanted = document({"USD": {("ana", "bo"): 100}}), document({"USD": {("ana", "bo"): 200}})
    assert [difference.as_json() for difference in compare(stored, wanted)][:2] == [
        {"what": "owes", "currency": "USD", "debtor": "ana", "creditor": "bo", "stored": 1, "recalculated": 2},
        {"what": "netBalance", "currency": "USD", "user": "ana", "stored": -1, "recalculated": -2},
    ]
    assert Difference(what="detail", stored="nets", recalculated="pairs").as_json() == {
        "what": "detail",
        "stored": "nets",
        "recalculated": "pairs",
    }
