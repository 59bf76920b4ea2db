"""The balance document by example: its shape, its levels of detail, what makes a stored one corrupt."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime
from typing import Any

import pytest
from google.cloud.firestore_v1.field_path import FieldPath

from balance.core.ledger import Ledger
from balance.core.money import MAX_TOTAL_MINOR, Unit
from balance.database.firestore import DELETE, SERVER_TIME
from balance.documents import balances, rules
from balance.documents.balances import (
    LOWER_ABOVE_BYTES,
    MAX_DOCUMENT_BYTES,
    RESTORE_BELOW_BYTES,
    STALE,
    VERSION,
    Balance,
    CorruptBalance,
    Detail,
    Stored,
    size_bytes,
)
from balance.documents.settings import Settings
from tests.sizes import document_bytes

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BORN = datetime(2025, 3, 1, tzinfo=UTC)
LEDGER: Ledger = {"USD": {("a", "b"): 1_250, ("a", "c"): -300, ("b", "c"): 50}, "JPY": {("a", "b"): -34}}


def stored(balance: Balance, unit: Unit = Unit.MAJOR) -> dict[str, Any]:
    """The document as Firestore returns it."""
    return {**balances.document("g", Stored(balance, NOW, BORN, 3), Settings(unit=unit)), "lastUpdatedAt": NOW}


def row(uid: str, net: float, owes: dict[str, float] | None = None, owed_by: dict[str, float] | None = None) -> dict[str, Any]:
    return {"uid": uid, "owes": owes or {}, "owedBy": owed_by or {}, "netBalance": net}


def suggestion(debtor: str, creditor: str, amount: float, currency: str) -> dict[str, Any]:
    return {"from": {"uid": debtor}, "to": {"uid": creditor}, "amount": amount, "currency": currency}


# -------------------------------------------------------------------------------------------------------------- shape


def test_the_document_of_a_balance() -> None:
    assert balances.document("g", Stored(balances.of_ledger(LEDGER), NOW, BORN, 3), Settings(epoch=4)) == {
        "groupId": "g",
        "balancesByCurrency": {
            "JPY": {"a": row("a", 34, owed_by={"b": 34}), "b": row("b", -34, owes={"a": 34})},
            "USD": {
                "a": row("a", -9.5, owes={"b": 12.5}, owed_by={"c": 3}),
                "b": row("b", 12, owes={"c": 0.5}, owed_by={"a": 12.5}),
                "c": row("c", -2.5, owes={"a": 3}, owed_by={"b": 0.5}),
            },
        },
        "simplifiedDebts": [
            suggestion("b", "a", 34, "JPY"),
            suggestion("a", "b", 9.5, "USD"),
            suggestion("c", "b", 2.5, "USD"),
        ],
        "lastUpdatedAt": SERVER_TIME,
        "version": VERSION,
        "rules": str(rules.current(Settings(epoch=4))),
        "asOf": NOW,
        "incarnation": BORN,
        "faults": 3,
        "detail": "pairs",
    }


def test_the_document_of_nets_has_empty_pairs_and_the_same_suggestions() -> None:
    pairs = balances.of_ledger(LEDGER)
    document = stored(balances.coarsened(pairs, Detail.NETS))
    assert document["detail"] == "nets"
    assert document["balancesByCurrency"]["USD"] == {"a": row("a", -9.5), "b": row("b", 12), "c": row("c", -2.5)}
    assert document["simplifiedDebts"] == stored(pairs)["simplifiedDebts"]


def test_the_document_of_none_is_empty() -> None:
    document = stored(balances.coarsened(balances.of_ledger(LEDGER), Detail.NONE))
    assert (document["detail"], document["balancesByCurrency"], document["simplifiedDebts"]) == ("none", {}, [])


def test_amounts_are_in_the_apps_unit() -> None:
    document = stored(balances.of_ledger({"KWD": {("a", "b"): 4_115}}), Unit.MINOR)
    assert document["balancesByCurrency"]["KWD"]["a"] == row("a", -4_115, owes={"b": 4_115})
    assert document["simplifiedDebts"] == [suggestion("a", "b", 4_115, "KWD")]


def test_somebody_at_zero_has_a_row_while_in_a_pair() -> None:
    balance = balances.of_ledger({"USD": {("a", "b"): 100, ("b", "c"): 100}})
    assert stored(balance)["balancesByCurrency"]["USD"]["b"] == row("b", 0, owes={"c": 1}, owed_by={"a": 1})
    assert balances.coarsened(balance, Detail.NETS).nets == {"USD": {"a": -100, "c": 100}}


CIRCLE: Ledger = {"USD": {("a", "b"): 500, ("b", "c"): 500, ("a", "c"): -500}}


def test_a_circle_of_debts_is_nothing_in_nets_but_three_pairs() -> None:
    balance = balances.of_ledger(CIRCLE)
    assert balances.coarsened(balance, Detail.NETS) == Balance(Detail.NETS, {}, {})
    document = stored(balance)
    assert document["balancesByCurrency"]["USD"]["a"] == row("a", 0, owes={"b": 5}, owed_by={"c": 5})
    assert document["simplifiedDebts"] == []
    assert balances.parse(document, "g", Unit.MAJOR).balance == balance


# ------------------------------------------------------------------------------------------------------------ updates


def test_only_the_rows_of_those_whom_a_delta_touches_are_written() -> None:
    delta: Ledger = {"USD": {("a", "c"): 300}}
    after = balances.applied(balances.of_ledger(LEDGER), delta)
    updates = balances.updates(after, delta, Unit.MAJOR)
    assert {path for path in updates if path[0] == "balancesByCurrency"} == {
        ("balancesByCurrency", "USD", "a"),
        ("balancesByCurrency", "USD", "c"),
    }
    assert updates["balancesByCurrency", "USD", "c"] == row("c", 0.5, owed_by={"b": 0.5})
    assert updates["lastUpdatedAt",] is SERVER_TIME


def test_who_is_in_no_pair_any_more_is_deleted_and_so_is_a_currency_at_zero() -> None:
    delta: Ledger = {"USD": {("a", "b"): -1_250, ("a", "c"): 300}, "JPY": {("a", "b"): 34}}
    after = balances.applied(balances.of_ledger(LEDGER), delta)
    updates = balances.updates(after, delta, Unit.MAJOR)
    assert updates["balancesByCurrency", "USD", "a"] is DELETE
    assert updates["balancesByCurrency", "JPY"] is DELETE
    assert ("balancesByCurrency", "JPY", "a") not in updates


def test_nothing_is_kept_of_a_delta_at_no_detail() -> None:
    none = Balance(Detail.NONE, {}, {})
    after = balances.applied(none, LEDGER)
    assert after is none
    assert balances.updates(after, LEDGER, Unit.MAJOR) == {("lastUpdatedAt",): SERVER_TIME}


def test_deltas_that_cancel_still_set_the_time() -> None:
    balance = balances.of_ledger(LEDGER)
    updates = balances.updates(balances.applied(balance, {}), {}, Unit.MAJOR)
    assert updates.keys() == {("lastUpdatedAt",), ("simplifiedDebts",)}


# ------------------------------------------------------------------------------------------------- levels of detail


def group_of(members: int, uid_length: int = 28) -> Ledger:
    """Everybody owes everybody."""
    uids = [f"{number:0{uid_length}}" for number in range(members)]
    return {"USD": {(low, high): 5 for at, low in enumerate(uids) for high in uids[at + 1 :]}}


def largest_group(limit_bytes: int) -> int:
    """How many members' pairs fit."""
    return bisect_right(range(200), limit_bytes, key=lambda members: size_bytes(exact(group_of(members)))) - 1


def exact(ledger: Ledger) -> Balance:
    """All pairs, whether they fit or not."""
    return Balance(Detail.PAIRS, ledger, balances.nets_of(ledger))


def test_pairs_are_given_up_above_nine_tenths_of_the_limit_and_restored_below_seven() -> None:
    assert (LOWER_ABOVE_BYTES, RESTORE_BELOW_BYTES) == (943_718, 734_003)
    low, high = largest_group(RESTORE_BELOW_BYTES), largest_group(LOWER_ABOVE_BYTES)
    assert low < high
    # A recalculation: of a group stored with its pairs (or not at all yet), then of one stored without them.
    for was in (None, Detail.PAIRS):
        assert balances.of_ledger(group_of(high), was).detail is Detail.PAIRS
        assert balances.of_ledger(group_of(high + 1), was).detail is Detail.NETS
    for was in (Detail.NETS, Detail.NONE):
        assert balances.of_ledger(group_of(low), was).detail is Detail.PAIRS
        assert balances.of_ledger(group_of(low + 1), was).detail is Detail.NETS
        assert balances.of_ledger(group_of(high), was).detail is Detail.NETS


def test_an_incremental_step_lowers_the_level_before_the_document_is_full_and_never_restores_it() -> None:
    high = largest_group(LOWER_ABOVE_BYTES)
    full, more = group_of(high), group_of(high + 1)
    delta: Ledger = {"USD": {pair: amount for pair, amount in more["USD"].items() if pair not in full["USD"]}}
    lowered = balances.applied(balances.of_ledger(full), delta)
    assert lowered == balances.coarsened(exact(more), Detail.NETS)
    assert lowered.ledger == {}
    back: Ledger = {"USD": {pair: -amount for pair, amount in more["USD"].items()}}
    assert balances.applied(lowered, back) == Balance(Detail.NETS, {}, {})


def test_the_largest_document_that_is_written_is_well_below_the_limit() -> None:
    balance = balances.of_ledger(group_of(largest_group(LOWER_ABOVE_BYTES)))
    taken = document_bytes("groups/g/metadata/balance", stored(balance))
    assert 0.5 * LOWER_ABOVE_BYTES < taken <= LOWER_ABOVE_BYTES < MAX_DOCUMENT_BYTES


def star(members: int, uid_length: int) -> Ledger:
    """One owes everybody: so many suggestions as there can be."""
    uids = [f"{number:0>{uid_length}}" for number in range(members)]
    return {"USD": {(uids[0], uid): 5 for uid in uids[1:]}}


@pytest.mark.parametrize(
    "ledger", [group_of(20), group_of(80), star(100, 300), star(1_000, 3), {**group_of(40), "EUR": star(50, 1)["USD"]}]
)
def test_what_a_document_takes_is_never_reckoned_too_low(ledger: Ledger) -> None:
    balance = exact(ledger)
    for each in (balance, balances.coarsened(balance, Detail.NETS)):
        assert document_bytes("groups/g/metadata/balance", stored(each)) <= size_bytes(each)


def pairs_of_strangers(number: int) -> Ledger:
    """Many who owe one other each, under long uids: not even their nets fit."""
    return {"USD": {(f"a{i:0>1400}", f"b{i:0>1400}"): 1 for i in range(number)}}


def test_what_does_not_even_fit_in_nets_is_given_up() -> None:
    assert balances.of_ledger(pairs_of_strangers(75)).detail is Detail.NETS
    assert balances.of_ledger(pairs_of_strangers(300)).detail is Detail.NONE
    assert balances.of_ledger(pairs_of_strangers(60), Detail.NONE).detail is Detail.NETS
    assert balances.of_ledger(pairs_of_strangers(75), Detail.NONE).detail is Detail.NONE
    fitting = balances.of_ledger(pairs_of_strangers(75))
    beyond: Ledger = {"USD": {(f"c{i:0>1400}", f"d{i:0>1400}"): 1 for i in range(80)}}
    assert balances.applied(fitting, beyond) == Balance(Detail.NONE, {}, {})


def test_totals_beyond_what_converts_back_exactly_are_given_up() -> None:
    most: Ledger = {"USD": {("a", "b"): MAX_TOTAL_MINOR}}
    assert balances.of_ledger(most).detail is Detail.PAIRS
    assert balances.applied(balances.of_ledger(most), {"USD": {("a", "b"): 1}}).detail is Detail.NONE
    assert balances.of_ledger({"USD": {("a", "b"): MAX_TOTAL_MINOR + 1}}).detail is Detail.NONE
    # The same by an incremental step between those who are in pairs already.
    nearly: Ledger = {"USD": {("a", "c"): MAX_TOTAL_MINOR - 5, ("b", "c"): 5}}
    assert balances.applied(balances.of_ledger(nearly), {"USD": {("b", "c"): 1}}).detail is Detail.NONE
    round_trip: Ledger = {"USD": {pair: amount // 500 * MAX_TOTAL_MINOR for pair, amount in CIRCLE["USD"].items()}}
    assert balances.of_ledger(round_trip).detail is Detail.PAIRS
    assert balances.applied(balances.of_ledger(round_trip), CIRCLE).detail is Detail.NONE
    # Each pair fits, a net does not; each net fits, a pair does not.
    assert balances.of_ledger({"USD": {("a", "c"): MAX_TOTAL_MINOR, ("b", "c"): 1}}).detail is Detail.NONE
    huge = MAX_TOTAL_MINOR + 1
    assert balances.of_ledger({"USD": {("a", "b"): huge, ("b", "c"): huge, ("a", "c"): -huge}}).detail is Detail.NONE
    assert balances.of_ledger({"USD": {("a", "b"): 1}, "EUR": {("a", "b"): -huge}}).detail is Detail.NONE


# ------------------------------------------------------------------------------------------------------------ reading


def test_a_stored_balance_reads_back() -> None:
    for detail in Detail:
        balance = balances.coarsened(balances.of_ledger(LEDGER), detail)
        assert balances.parse(stored(balance), "g", Unit.MAJOR) == Stored(balance, NOW, BORN, 3)


@pytest.mark.parametrize(
    ("version", "read"), [(1, 1), (0, STALE), (7, 7), (None, STALE), (True, STALE), (1.0, STALE), ("1", STALE)]
)
def test_a_version_that_is_no_integer_is_stale(version: object, read: int) -> None:
    assert balances.stored_version({"version": version}) == read


def test_a_document_without_a_version_is_stale() -> None:
    assert balances.stored_version({}) == STALE


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("groupId", "h", "groupId is another group's"),
        ("groupId", None, "groupId is another group's"),
        ("asOf", None, "asOf is not a time"),
        ("asOf", "2026-03-01T00:00:00Z", "asOf is not a time"),
        ("detail", "pair", "detail, balancesByCurrency or simplifiedDebts"),
        ("detail", None, "detail, balancesByCurrency or simplifiedDebts"),
        ("detail", ["pairs"], "detail, balancesByCurrency or simplifiedDebts"),
        ("detail", "none", "not empty"),
        ("detail", "nets", "not canonical"),
        ("balancesByCurrency", None, "detail, balancesByCurrency or simplifiedDebts"),
        ("balancesByCurrency", [], "detail, balancesByCurrency or simplifiedDebts"),
        ("balancesByCurrency", {}, "simplifiedDebts"),
        ("simplifiedDebts", None, "detail, balancesByCurrency or simplifiedDebts"),
        ("simplifiedDebts", [], "does not settle"),
        ("simplifiedDebts", [None], "simplifiedDebts"),
        ("simplifiedDebts", [suggestion("a", "b", 9.5, "XXX")], "simplifiedDebts"),
        ("simplifiedDebts", [suggestion("z", "b", 9.5, "USD")], "simplifiedDebts"),
        ("simplifiedDebts", [suggestion("a", "b", 9.505, "USD")], "simplifiedDebts"),
        ("simplifiedDebts", [suggestion("a", "b", -9.5, "USD")], "what is not owed"),
        ("simplifiedDebts", [suggestion("a", "b", 9.51, "USD")], "what is not owed"),
        ("simplifiedDebts", [suggestion("b", "a", 1, "USD")], "what is not owed"),
    ],
)
def test_a_bent_field_is_noticed(name: str, value: object, message: str) -> None:
    with pytest.raises(CorruptBalance, match=message):
        balances.parse(stored(balances.of_ledger(LEDGER)) | {name: value}, "g", Unit.MAJOR)


@pytest.mark.parametrize(
    "rows",
    [
        None,
        [],
        {},
        {"a": None},
        {"a": row("a", 0)},
        {"a": row("a", -1, owes={"b": 1})},
        {"a": row("a", -1, owes={"b": 1}), "b": row("b", 1)},
        {"a": row("a", -1), "b": row("b", 1, owed_by={"a": 1})},
        {"a": row("a", -1, owes={"b": 1}), "b": row("b", 1, owed_by={"a": 2})},
        {"a": row("a", -1, owes={"b": 1}), "b": row("b", 2, owed_by={"a": 1})},
        {"a": row("a", -1, owes={"b": 1}), "b": row("b", 1, owed_by={"a": True})},
        {"a": row("a", -1, owes={"b": True}), "b": row("b", 1, owed_by={"a": 1})},
        {"a": row("b", -1, owes={"b": 1}), "b": row("b", 1, owed_by={"a": 1})},
        {"a": row("a", 1, owes={"b": -1}), "b": row("b", -1, owed_by={"a": -1})},
        {"a": row("a", 0, owes={"a": 1}, owed_by={"a": 1})},
        {"a": row("a", -1.005, owes={"b": 1.005}), "b": row("b", 1.005, owed_by={"a": 1.005})},
        {"a": row("a", 0, owes={"b": 1}, owed_by={"b": 1}), "b": row("b", 0, owes={"a": 1}, owed_by={"a": 1})},
        {"a": row("a", -1, owes={"b": 1}), "b": row("b", 1, owed_by={"a": 1}), "c": row("c", 0)},
    ],
)  # fmt: skip
def test_bent_rows_are_noticed(rows: object) -> None:
    document = stored(balances.of_ledger({"USD": {("a", "b"): 100}}))
    document["balancesByCurrency"] = {"USD": rows}
    with pytest.raises(CorruptBalance):
        balances.parse(document, "g", Unit.MAJOR)


@pytest.mark.parametrize("currency", ["usd", "XAU", "", "🍕"])
def test_a_currency_that_is_none_is_noticed(currency: str) -> None:
    document = stored(balances.of_ledger({"USD": {("a", "b"): 100}}))
    document["balancesByCurrency"][currency] = document["balancesByCurrency"].pop("USD")
    with pytest.raises(CorruptBalance, match="no currency"):
        balances.parse(document, "g", Unit.MAJOR)


@pytest.mark.parametrize(
    "rows",
    [
        {"a": row("a", -1)},
        {"a": row("a", -1), "b": row("b", 2)},
        {"a": row("a", -1), "b": row("b", 1), "c": row("c", 0)},
        {"a": row("a", -1, owes={"b": 1}), "b": row("b", 1, owed_by={"a": 1})},
    ],
)
def test_bent_nets_are_noticed(rows: object) -> None:
    document = stored(balances.coarsened(balances.of_ledger({"USD": {("a", "b"): 100}}), Detail.NETS))
    document["balancesByCurrency"] = {"USD": rows}
    with pytest.raises(CorruptBalance):
        balances.parse(document, "g", Unit.MAJOR)


@pytest.mark.parametrize("detail", [Detail.PAIRS, Detail.NETS])
def test_a_currency_without_rows_is_noticed(detail: Detail) -> None:
    document = stored(Balance(detail, {}, {}))
    document["balancesByCurrency"]["USD"] = {}
    with pytest.raises(CorruptBalance, match="empty"):
        balances.parse(document, "g", Unit.MAJOR)


def test_a_float_that_holds_a_whole_amount_is_the_same_amount() -> None:
    document = stored(balances.of_ledger({"USD": {("a", "b"): 100}}))
    document["balancesByCurrency"]["USD"]["a"]["netBalance"] = -1.0
    assert balances.parse(document, "g", Unit.MAJOR).balance == balances.of_ledger({"USD": {("a", "b"): 100}})


def test_field_paths_name_only_users_whose_quoted_uid_fits_one() -> None:
    for letter in ("u", "`", "\\", "ü", "🍕"):
        longest = letter * (700 // len(letter.encode()))
        assert balances.is_updatable({"USD": {(longest, "zz"): 5}})
        assert not balances.is_updatable({"JPY": {("a", "b"): 1}, "USD": {("a", longest + letter): 5}})
        path = FieldPath("balancesByCurrency", "USD", longest).to_api_repr()
        assert len(path.encode()) <= 1_500
