"""Telling drift from lag, before an embedded server whose clock the tests put forward."""

import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.cloud import firestore

from balance.documents.balances import VERSION
from balance.operations.reconcile import LAG_ALLOWED, State, check, repair
from balance.protocol.events import SourceEvent
from tests.integration.deployment import Deployment, deployment, expense

Document = dict[str, Any]


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        yield running


def state(app: Deployment, group_id: str = "g", lag: timedelta = LAG_ALLOWED) -> State:
    return check(app.database, app.settings, group_id, lag).state


def with_balance(app: Deployment, group_id: str = "g") -> None:
    """A group with a balance of two currencies: b and c owe a, a owes c; everything of it is processed."""
    app.group(group_id)
    app.keeper.rebuild(group_id)
    app.deliver(
        app.expense(group_id, "a", a=10, b=10, c=10),
        app.expense(group_id, "b", b=7, c=7.5),
        app.expense(group_id, "a", "EUR", b=1),
        app.expense(group_id, "c", "EUR", a=4),
    )


def test_a_processed_group_is_true(app: Deployment) -> None:
    with_balance(app)
    assert state(app) is State.TRUE
    app.clock.advance(hours=5)
    assert state(app) is State.TRUE


def test_an_event_in_flight_is_no_drift_while_the_snapshot_is_young(app: Deployment) -> None:
    with_balance(app)
    event = app.expense("g", "a", b=3)
    assert state(app) is State.TRUE
    assert state(app, lag=timedelta()) is State.DRIFT, "no lag is allowed, and the event has not come"
    app.deliver(event)
    assert state(app, lag=timedelta()) is State.TRUE


def test_an_event_in_flight_is_no_drift_until_it_is_late(app: Deployment) -> None:
    with_balance(app)
    app.clock.advance(hours=5)
    events = [
        app.expense("g", "a", b=3),
        app.write("expenses/edited", expense("g", "b", a=8)),
        app.write("expenses/edited", expense("g", "b", a=9)),
        app.write("expenses/edited", None),
    ]
    assert state(app) is State.TRUE
    assert state(app, lag=timedelta()) is State.DRIFT, "the first event has not come"
    app.deliver(events[2])
    assert state(app) is State.TRUE, "out of order"
    app.clock.advance(minutes=45)
    assert state(app) is State.TRUE
    app.clock.advance(minutes=10)
    assert state(app) is State.DRIFT
    app.deliver(events[3], events[0], events[1], events[1])
    assert state(app) is State.TRUE


def test_a_delete_right_after_the_snapshot_counts_once(app: Deployment) -> None:
    app.group("g")
    app.deliver(app.write("expenses/e", expense("g", "a", b=5)))
    app.keeper.rebuild("g")
    deleted = app.write("expenses/e", None)
    assert state(app) is State.TRUE
    app.deliver(deleted)
    assert app.balance("g")["balancesByCurrency"] == {}
    assert state(app) is State.TRUE


def test_a_late_delete_is_drift_and_repair_lets_it_come_still(app: Deployment) -> None:
    app.group("g")
    app.keeper.rebuild("g")
    created = app.write("expenses/e", expense("g", "a", b=5))
    app.deliver(created)
    app.clock.advance(hours=5)
    deleted = app.write("expenses/e", None)
    assert state(app) is State.TRUE
    app.clock.advance(minutes=55)
    assert state(app) is State.DRIFT
    repair(app.database, app.keeper, "g")
    assert state(app) is State.TRUE
    app.deliver(deleted, created)
    assert state(app) is State.TRUE
    assert app.balance("g")["balancesByCurrency"] == {}


def test_live_traffic_never_looks_like_drift(app: Deployment) -> None:
    """Random writes, moves and deletes; deliveries in any order, some twice; time jumping; checks in between."""
    for seed in range(6):
        chance = random.Random(seed)
        groups = [app.group(f"s{seed}-{index}") for index in range(2)]
        for group_id in groups:
            app.keeper.rebuild(group_id)
        pending: list[tuple[timedelta, SourceEvent]] = []
        delivered: list[SourceEvent] = []
        for _ in range(60):
            match chance.choice("wwwwddddcctrb"):
                case "w":
                    path = f"expenses/s{seed}-{chance.randrange(6)}"
                    fields = expense(
                        chance.choice(groups), chance.choice("abc"), "USD", **{chance.choice("abc"): chance.randrange(9)}
                    )
                    event = app.write(path, fields if chance.random() < 0.8 else None)
                    if event.before or event.after:
                        pending.append((app.clock.ahead, event))
                case "d" if pending:
                    delivered.append(pending.pop(chance.randrange(len(pending)))[1])
                    app.deliver(delivered[-1])
                case "b":
                    app.keeper.rebuild(chance.choice(groups))
                case "r" if delivered:
                    app.deliver(chance.choice(delivered))
                case "t":
                    # No further than the oldest event may be late.
                    oldest = min((since for since, _ in pending), default=app.clock.ahead)
                    room = LAG_ALLOWED - timedelta(minutes=1) - (app.clock.ahead - oldest)
                    app.clock.advance(seconds=room.total_seconds() * chance.random())
                case "c":
                    for group_id in groups:
                        report = check(app.database, app.settings, group_id)
                        assert report.state is State.TRUE, (seed, [str(difference) for difference in report.differences])
        app.deliver(*(event for _, event in pending))
        app.clock.advance(hours=2)
        assert [state(app, group_id, timedelta()) for group_id in groups] == [State.TRUE] * 2, seed


def test_corruption_shows_while_events_are_in_flight(app: Deployment) -> None:
    with_balance(app)
    app.clock.advance(hours=5)
    app.expense("g", "a", b=3)
    stored = app.balance("g")
    around_in_a_circle(stored)
    app.set_balance("g", stored)
    assert state(app) is State.DRIFT


def test_a_gap_beside_a_balance_that_is_not_stale_is_drift(app: Deployment) -> None:
    with_balance(app)
    app.updates_on = False
    app.deliver(app.expense("g", "a", b=3))
    assert state(app) is State.STALE
    app.client.document("groups/g/metadata/balance").update({"version": VERSION})
    assert state(app) is State.DRIFT


def test_a_record_removed_by_hand_is_drift(app: Deployment) -> None:
    with_balance(app)
    next(iter(app.client.collection("groups/g/balanceEvents").list_documents())).delete()
    assert state(app) is State.DRIFT
    repair(app.database, app.keeper, "g")
    assert state(app) is State.TRUE


def test_a_group_without_a_balance_is_missing_one_at_once(app: Deployment) -> None:
    app.group("g")
    assert state(app) is State.MISSING
    app.expense("g", "a", b=3)
    assert state(app) is State.MISSING


def test_a_balance_of_an_earlier_group_of_the_same_id_is_stale(app: Deployment) -> None:
    app.group("g")
    app.deliver(app.expense("g", b=3))
    app.client.document("groups/g").delete()
    app.group("g")
    assert state(app) is State.STALE
    repair(app.database, app.keeper, "g")
    assert state(app) is State.TRUE


def test_a_balance_by_other_rules_is_stale(app: Deployment) -> None:
    app.group("g")
    app.deliver(app.expense("g", b=3))
    app.client.document("groups/g/metadata/balance").update({"rules": "0:other"})
    assert state(app) is State.STALE


@pytest.mark.parametrize("hours_later", [0, 2])
def test_a_wrong_count_of_faults_is_drift(app: Deployment, hours_later: int) -> None:
    app.group("g")
    app.deliver(app.expense("g", b=3), app.expense("g", b=True))
    app.clock.advance(hours=hours_later)
    assert state(app) is State.TRUE
    app.client.document("groups/g/metadata/balance").update({"faults": 2})
    found = check(app.database, app.settings, "g")
    assert (found.state, [str(difference) for difference in found.differences]) == (
        State.DRIFT,
        ["faults: stored 2, recalculated 1"],
    )
    repair(app.database, app.keeper, "g")
    assert state(app) is State.TRUE


def test_a_group_that_is_gone_is_gone(app: Deployment) -> None:
    assert state(app) is State.GONE


def test_a_newer_version_is_left_to_newer_code(app: Deployment) -> None:
    with_balance(app)
    app.client.document("groups/g/metadata/balance").update({"version": VERSION + 1})
    assert state(app) is State.NEWER


# Every way to corrupt a balance that comes to mind; each changes the document in place.


def pair(document: Document, currency: str, debtor: str, creditor: str, amount: float) -> None:
    """Add to what one owes the other, on both sides and in both nets: zero-sum, well-formed."""
    rows = document["balancesByCurrency"][currency]
    signed = rows[creditor]["owedBy"].pop(debtor, 0) - rows[creditor]["owes"].pop(debtor, 0) + amount
    rows[debtor]["owes"].pop(creditor, None)
    rows[debtor]["owedBy"].pop(creditor, None)
    if signed > 0:
        rows[debtor]["owes"][creditor] = rows[creditor]["owedBy"][debtor] = signed
    elif signed < 0:
        rows[creditor]["owes"][debtor] = rows[debtor]["owedBy"][creditor] = -signed
    rows[debtor]["netBalance"] -= amount
    rows[creditor]["netBalance"] += amount


def one_pair_up(document: Document) -> None:
    pair(document, "USD", "b", "a", 1)


def around_in_a_circle(document: Document) -> None:
    """No net changes, no suggestion changes."""
    for debtor, creditor in (("a", "b"), ("b", "c"), ("c", "a")):
        pair(document, "USD", debtor, creditor, 5)


def from_one_currency_to_the_other(document: Document) -> None:
    pair(document, "USD", "b", "a", -1)
    pair(document, "EUR", "b", "a", 1)


def everything_doubled(document: Document) -> None:
    for rows in document["balancesByCurrency"].values():
        for row in rows.values():
            row["netBalance"] *= 2
            for side in ("owes", "owedBy"):
                row[side] = {uid: 2 * amount for uid, amount in row[side].items()}
    for suggestion in document["simplifiedDebts"]:
        suggestion["amount"] *= 2


def signs_turned(document: Document) -> None:
    for rows in document["balancesByCurrency"].values():
        for row in rows.values():
            row["netBalance"] *= -1
            row["owes"], row["owedBy"] = row["owedBy"], row["owes"]


def users_swapped(document: Document) -> None:
    rows = document["balancesByCurrency"]["EUR"]
    rows["a"], rows["c"] = rows["c"], rows["a"]


def currency_lost(document: Document) -> None:
    del document["balancesByCurrency"]["EUR"]
    document["simplifiedDebts"] = [debt for debt in document["simplifiedDebts"] if debt["currency"] != "EUR"]


def everything_lost(document: Document) -> None:
    document["balancesByCurrency"], document["simplifiedDebts"] = {}, []


def currency_invented(document: Document) -> None:
    document["balancesByCurrency"]["JPY"] = deepcopy(document["balancesByCurrency"]["EUR"])


def one_side_only(document: Document) -> None:
    document["balancesByCurrency"]["USD"]["a"]["owedBy"]["b"] += 1


def net_only(document: Document) -> None:
    document["balancesByCurrency"]["USD"]["a"]["netBalance"] += 0.01


def amount_as_text(document: Document) -> None:
    document["balancesByCurrency"]["USD"]["a"]["netBalance"] = "20"


def amount_not_a_number(document: Document) -> None:
    document["balancesByCurrency"]["USD"]["a"]["netBalance"] = float("nan")


def amount_true(document: Document) -> None:
    debt = next(row for row in document["balancesByCurrency"]["EUR"]["a"]["owedBy"].items())
    assert debt == ("b", 1)
    document["balancesByCurrency"]["EUR"]["a"]["owedBy"]["b"] = True


def zero_pair(document: Document) -> None:
    document["balancesByCurrency"]["EUR"]["b"]["owes"]["c"] = 0


def row_of_nothing(document: Document) -> None:
    document["balancesByCurrency"]["USD"]["d"] = {"uid": "d", "owes": {}, "owedBy": {}, "netBalance": 0}


def row_is_text(document: Document) -> None:
    document["balancesByCurrency"]["USD"]["a"] = "lost"


def currencies_are_a_list(document: Document) -> None:
    document["balancesByCurrency"] = ["USD"]


def uid_of_another(document: Document) -> None:
    document["balancesByCurrency"]["USD"]["a"]["uid"] = "b"


def field_in_a_row(document: Document) -> None:
    document["balancesByCurrency"]["USD"]["a"]["name"] = "Ana"


def field_of_nothing(document: Document) -> None:
    document["note"] = None


def suggestion_lost(document: Document) -> None:
    document["simplifiedDebts"].pop()


def suggestion_changed(document: Document) -> None:
    document["simplifiedDebts"][0]["amount"] += 1


def suggestion_true(document: Document) -> None:
    debt = next(debt for debt in document["simplifiedDebts"] if debt["amount"] == 1)
    debt["amount"] = True


def suggestion_turned(document: Document) -> None:
    debt = document["simplifiedDebts"][0]
    debt["from"], debt["to"] = debt["to"], debt["from"]


def suggestions_in_another_order(document: Document) -> None:
    document["simplifiedDebts"].reverse()


def suggestion_twice(document: Document) -> None:
    document["simplifiedDebts"].append(document["simplifiedDebts"][0])


def suggestions_are_text(document: Document) -> None:
    document["simplifiedDebts"] = "none"


def group_of_another(document: Document) -> None:
    document["groupId"] = "h"


def detail_unknown(document: Document) -> None:
    document["detail"] = "some"


def detail_nets_with_pairs(document: Document) -> None:
    document["detail"] = "nets"


def no_snapshot_time(document: Document) -> None:
    del document["asOf"]


def snapshot_to_come(document: Document) -> None:
    document["asOf"] = datetime(2100, 1, 1, tzinfo=UTC)


def no_time_of_update(document: Document) -> None:
    document["lastUpdatedAt"] = None


def update_to_come(document: Document) -> None:
    document["lastUpdatedAt"] = datetime(2100, 1, 1, tzinfo=UTC)


CORRUPTIONS: list[Callable[[Document], None]] = [
    one_pair_up, around_in_a_circle, from_one_currency_to_the_other, everything_doubled, signs_turned, users_swapped,
    currency_lost, everything_lost, currency_invented, one_side_only, net_only, amount_as_text, amount_not_a_number,
    amount_true, zero_pair, row_of_nothing, row_is_text, currencies_are_a_list, uid_of_another, field_in_a_row,
    field_of_nothing, suggestion_lost, suggestion_changed, suggestion_true, suggestion_turned, suggestions_in_another_order,
    suggestion_twice, suggestions_are_text, group_of_another, detail_unknown, detail_nets_with_pairs, no_snapshot_time,
    snapshot_to_come, no_time_of_update, update_to_come,
]  # fmt: skip


@pytest.mark.parametrize("hours_later", [0, 5], ids=["the snapshot is readable", "the snapshot is old"])
def test_a_balance_corrupted_in_any_way_is_found_and_repaired(app: Deployment, hours_later: int) -> None:
    for corrupt in CORRUPTIONS:
        name = corrupt.__name__
        with_balance(app, name)
        app.clock.advance(hours=hours_later)
        assert state(app, name) is State.TRUE
        before = app.balance(name)
        document = deepcopy(before)
        corrupt(document)
        assert repr(document) != repr(before), f"{name} changes nothing"
        app.set_balance(name, document)
        report = check(app.database, app.settings, name)
        assert report.state is State.DRIFT, name
        assert report.differences, name
        repair(app.database, app.keeper, name)
        assert state(app, name) is State.TRUE, name
        after = app.balance(name)
        for field in ("balancesByCurrency", "simplifiedDebts", "groupId", "detail", "version"):
            assert after[field] == before[field], name
        assert after.keys() == before.keys(), name


@pytest.mark.parametrize(("detail", "keeps_nets"), [("nets", True), ("none", False)])
def test_a_level_of_detail_lowered_by_hand_is_raised_again(app: Deployment, detail: str, keeps_nets: bool) -> None:
    with_balance(app)
    document = app.balance("g")
    full = deepcopy(document)
    document["detail"] = detail
    if keeps_nets:
        for rows in document["balancesByCurrency"].values():
            for row in rows.values():
                row["owes"], row["owedBy"] = {}, {}
    else:
        document["balancesByCurrency"], document["simplifiedDebts"] = {}, []
    app.set_balance("g", document)
    assert state(app) is State.COARSE
    repair(app.database, app.keeper, "g")
    assert state(app) is State.TRUE
    assert app.balance("g")["balancesByCurrency"] == full["balancesByCurrency"]


def test_wrong_nets_do_not_hide_behind_a_lower_level_of_detail(app: Deployment) -> None:
    with_balance(app)
    document = app.balance("g")
    document["detail"] = "nets"
    for rows in document["balancesByCurrency"].values():
        for row in rows.values():
            row["owes"], row["owedBy"] = {}, {}
    rows = document["balancesByCurrency"]["EUR"]
    rows["b"]["netBalance"] -= 1
    rows["c"]["netBalance"] += 1
    app.set_balance("g", document)
    assert state(app) is State.DRIFT


def test_differences_are_told_pair_by_pair(app: Deployment) -> None:
    with_balance(app)
    document = app.balance("g")
    one_pair_up(document)
    app.set_balance("g", document)
    told = [str(difference) for difference in check(app.database, app.settings, "g").differences]
    assert told == [
        "USD: b owes a: stored 11, recalculated 10",
        "USD: net balance of a: stored 21, recalculated 20",
        "USD: net balance of b: stored -3.5, recalculated -2.5",
    ]


def faulty(app: Deployment) -> firestore.DocumentReference:
    """A group whose only document is malformed, everything processed; the reference is its fault's."""
    app.group("g")
    app.keeper.rebuild("g")
    app.deliver(app.write("expenses/e", {**expense("g", "a", b=5), "amount": "lost"}))
    (fault,) = app.client.collection("groups/g/balanceFaults").list_documents()
    return fault


def is_found_and_repaired(app: Deployment) -> bool:
    if state(app) is not State.DRIFT:
        return False
    repair(app.database, app.keeper, "g")
    return state(app) is State.TRUE


def test_a_stored_fault_is_no_drift(app: Deployment) -> None:
    faulty(app)
    assert state(app) is State.TRUE
    app.clock.advance(hours=5)
    assert state(app) is State.TRUE


def test_a_lost_fault_is_found_and_repaired(app: Deployment) -> None:
    fault = faulty(app)
    app.clock.advance(hours=5)
    fault.delete()
    assert is_found_and_repaired(app)


def test_a_changed_fault_is_found_and_repaired(app: Deployment) -> None:
    fault = faulty(app)
    app.clock.advance(hours=5)
    fault.update({"reason": "is fine"})
    assert is_found_and_repaired(app)


@pytest.mark.parametrize("source", ["expenses/other", "expenses/e", "nowhere", "", 5, "a//b", None])
def test_an_invented_fault_is_found_and_repaired(app: Deployment, source: object) -> None:
    faulty(app)
    app.client.document("groups/g/balanceFaults/invented").set({"source": source, "field": "amount", "reason": "?"})
    assert is_found_and_repaired(app)
    assert len(list(app.client.collection("groups/g/balanceFaults").list_documents())) == 1


def test_the_fault_of_a_document_that_was_corrected_is_found_once_its_event_is_late(app: Deployment) -> None:
    faulty(app)
    app.clock.advance(hours=5)
    app.write("expenses/e", {**expense("g", "a", b=5), "amount": 5, "splits": []})
    assert state(app) is State.TRUE
    app.clock.advance(minutes=55)
    assert is_found_and_repaired(app)


def test_the_fault_of_a_document_that_moved_away_is_found_once_its_event_is_late(app: Deployment) -> None:
    faulty(app)
    app.clock.advance(hours=5)
    app.group("h")
    app.write("expenses/e", {**expense("h", "a", b=5), "amount": "lost"})
    assert state(app) is State.TRUE
    app.clock.advance(minutes=55)
    assert is_found_and_repaired(app)


def test_a_malformed_document_that_came_and_went_is_no_drift(app: Deployment) -> None:
    app.group("g")
    app.keeper.rebuild("g")
    app.clock.advance(hours=5)
    created = app.write("expenses/e", {**expense("g", "a", b=5), "amount": "lost"})
    app.deliver(created)
    deleted = app.write("expenses/e", None)
    assert state(app) is State.TRUE
    app.deliver(deleted)
    assert state(app) is State.TRUE
