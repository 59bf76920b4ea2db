"""The main job through the running functions: real Firestore client, real HTTP, real processes."""

import concurrent.futures
import json
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from google.cloud import firestore
from google.events.cloud.firestore_v1 import DocumentEventData

from balance.documents.balances import VERSION
from tests.e2e.through_functions.app import App, Drain, Functions

pytestmark = pytest.mark.xdist_group("functions")


def test_overpaying_turns_the_debt_round_and_deleting_gives_it_back(app: App, drain: Drain) -> None:
    expense, settlement = app.new("expenses"), app.new("settlements")

    expense.set(app.expense("A", 100, "USD", {"A": 50, "B": 50}))
    drain()
    assert app.debts() == {"USD": {("B", "A"): 50}}

    settlement.set(app.settlement("B", "A", 70, "USD"))
    drain()
    assert app.debts() == {"USD": {("A", "B"): 20}}

    settlement.delete()
    drain()
    assert app.debts() == {"USD": {("B", "A"): 50}}

    expense.delete()
    drain()
    assert app.debts() == {}
    assert (app.balance() or {})["simplifiedDebts"] == []


def test_settling_before_the_expense_counts_the_same(app: App, drain: Drain) -> None:
    app.new("settlements").set(app.settlement("B", "A", 20, "USD"))
    drain()
    app.new("expenses").set(app.expense("A", 100, "USD", {"A": 50, "B": 50}))
    drain()
    assert app.debts() == {"USD": {("B", "A"): 30}}


def test_changing_the_currency_moves_the_whole_debt(app: App, drain: Drain) -> None:
    expense = app.new("expenses")
    expense.set(app.expense("A", 200, "USD", {"A": 100, "B": 100}))
    drain()
    expense.update({"currency": "EUR"})
    drain()
    assert app.debts() == {"EUR": {("B", "A"): 100}}


def test_currencies_without_decimals_and_with_three(app: App, drain: Drain) -> None:
    app.new("expenses").set(app.expense("A", 100, "JPY", {"A": 33, "B": 33, "C": 34}))
    app.new("expenses").set(app.expense("A", 12.345, "KWD", {"A": 4.115, "B": 4.115, "C": 4.115}))
    drain()
    assert app.nets("JPY") == {"A": 67, "B": -33, "C": -34}
    assert app.debts()["KWD"] == {("B", "A"): 4.115, ("C", "A"): 4.115}


def test_currencies_never_mix(app: App, drain: Drain) -> None:
    app.new("expenses").set(app.expense("A", 100, "USD", {"A": 50, "B": 50}))
    app.new("settlements").set(app.settlement("B", "A", 30, "EUR"))
    drain()
    assert app.debts() == {"USD": {("B", "A"): 50}, "EUR": {("A", "B"): 30}}


def test_soft_delete_and_restore(app: App, drain: Drain) -> None:
    expense = app.new("expenses")
    expense.set(app.expense("A", 100, "USD", {"A": 50, "B": 50}))
    expense.update({"deletedAt": datetime.now(UTC)})
    drain()
    assert app.debts() == {}
    expense.update({"deletedAt": None})
    drain()
    assert app.debts() == {"USD": {("B", "A"): 50}}


def test_moving_to_another_group_takes_the_debt_along(app: App, drain: Drain) -> None:
    other = f"group-{uuid4().hex[:12]}"
    app.create_group(other)
    expense = app.new("expenses")
    expense.set(app.expense("A", 100, "USD", {"A": 50, "B": 50}))
    drain()
    expense.update({"groupId": other})
    drain()
    assert app.debts() == {}
    assert app.debts(other) == {"USD": {("B", "A"): 50}}


def test_one_write_counts_once_however_often_and_under_whatever_id_it_is_delivered(
    app: App, drain: Drain, functions: Functions
) -> None:
    seed = app.new("expenses")
    seed.set(app.expense("A", 10, "USD", {"B": 10}))
    drain()
    snapshot = seed.get()
    # The same write as the platform would deliver it again: to the function itself, past the emulator.
    data = DocumentEventData.pb()()
    api = app.client._firestore_api.get_document(request={"name": seed._document_path}, metadata=app.client._rpc_metadata)
    data.value.ParseFromString(type(api).serialize(api))
    body = data.SerializeToString()
    event_ids = [f"event-{number % 5}-{uuid4().hex if number >= 5 else ''}" for number in range(20)]

    def deliver(event_id: str) -> int:
        headers = {
            "content-type": "application/protobuf",
            "ce-specversion": "1.0",
            "ce-id": event_id,
            "ce-source": "//firestore.googleapis.com/projects/demo/databases/(default)",
            "ce-type": "google.cloud.firestore.document.v1.written",
            "ce-time": snapshot.update_time.isoformat(),
        }
        return functions.deliver("on_expense_written", body, headers)

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert list(pool.map(deliver, event_ids)) == [200] * 20
    assert app.debts() == {"USD": {("B", "A"): 10}}


def test_five_hundred_concurrent_writes_to_one_group_lose_nothing(app: App, drain: Drain) -> None:
    def write(number: int) -> None:
        app.new("expenses").set(app.expense("A", 1.01, "USD", {"B": 1.01}))

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(500)))
    drain()
    assert app.debts() == {"USD": {("B", "A"): 505}}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"paidBy": None}, "paidBy"),
        ({"amount": None}, "amount"),
        ({"currency": None}, "currency"),
        ({"splits": None}, "splits"),
        ({"amount": float("nan")}, "amount"),
        ({"amount": "-"}, "amount"),
        ({"amount": True}, "amount"),
        ({"amount": 10**18}, "amount"),
        ({"amount": "12,50"}, "amount"),
        ({"currency": "XXX"}, "currency"),
        ({"paidBy": "__x__"}, "paidBy"),
        ({"splits": [{"uid": "", "amount": 1}]}, "splits[0].uid"),
        ({"splits": [{"uid": "B"}]}, "splits[0].amount"),
        ({"splits": "all"}, "splits"),
    ],
)
def test_a_malformed_expense_gets_a_readable_fault_and_heals(
    app: App, drain: Drain, change: dict[str, object], field: str
) -> None:
    good = app.expense("A", 100, "USD", {"A": 50, "B": 50})
    bad = {name: value for name, value in {**good, **change}.items() if value is not None}
    expense = app.new("expenses")
    expense.set(bad)
    drain()
    ((source, (named, reason)),) = app.faults().items()
    assert source == f"expenses/{expense.id}"
    assert named == field
    assert reason

    app.new("expenses").set(app.expense("C", 30, "USD", {"A": 30}))
    drain()
    assert app.debts() == {"USD": {("A", "C"): 30}}, "a malformed neighbour must not block the group"

    expense.set(good)
    drain()
    assert app.faults() == {}
    assert app.debts() == {"USD": {("A", "C"): 30, ("B", "A"): 50}}


def test_a_missing_group_is_a_fault_at_the_top(app: App, drain: Drain) -> None:
    expense = app.new("expenses")
    expense.set({"paidBy": "A", "amount": 1, "currency": "USD", "splits": []})
    drain()
    top = {fault.get("source") for fault in app.client.collection("balanceFaults").stream()}
    assert f"expenses/{expense.id}" in top
    expense.delete()
    drain()
    top = {fault.get("source") for fault in app.client.collection("balanceFaults").stream()}
    assert f"expenses/{expense.id}" not in top


def test_strange_ids_just_work(functions: Functions, drain: Drain) -> None:
    odd = ("a.b/c", "`tick` \"quote\" 'single'", "emoji 🧾 e\u0301", "ünïcode\\back")
    app = App(functions.client, members=odd)
    app.client.document(f"expenses/café-{uuid4().hex}").set(app.expense(odd[0], 30, "USD", dict.fromkeys(odd[1:], 10)))
    drain()
    assert app.debts() == {"USD": {(uid, odd[0]): 10 for uid in odd[1:]}}


def test_killing_functions_in_a_burst_loses_and_doubles_nothing(app: App, drain: Drain, functions: Functions) -> None:
    def write(number: int) -> None:
        app.new("expenses").set(app.expense("A", 2, "USD", {"B": 2}))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        done = [pool.submit(write, number) for number in range(200)]
        for number in (50, 150):
            concurrent.futures.wait(done[:number])
            functions.kill("on_expense_written")
    drain()
    assert app.debts() == {"USD": {("B", "A"): 400}}


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda reference: reference.delete(), id="deleted"),
        pytest.param(lambda reference: reference.set({"version": VERSION}), id="emptied"),
        pytest.param(lambda reference: reference.update({"balancesByCurrency": "gone"}), id="another type"),
        pytest.param(lambda reference: reference.update({"balancesByCurrency.USD.A.netBalance": 7}), id="a net"),
        pytest.param(lambda reference: reference.update({"balancesByCurrency.USD.B.owes.A": 7}), id="one side of a pair"),
        pytest.param(lambda reference: reference.update({"asOf": datetime(2999, 1, 1, tzinfo=UTC)}), id="a future asOf"),
    ],
)
def test_a_damaged_balance_heals_with_the_next_event(
    app: App, drain: Drain, damage: Callable[[firestore.DocumentReference], object]
) -> None:
    app.new("expenses").set(app.expense("A", 100, "USD", {"A": 50, "B": 50}))
    drain()
    damage(app.client.document(f"groups/{app.group}/metadata/balance"))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            pool.submit(app.new("expenses").set, app.expense("C", 3, "USD", {"B": 3}))
    drain()
    assert app.debts() == {"USD": {("B", "A"): 50, ("B", "C"): 60}}


def test_every_event_leaves_one_structured_line(app: App, drain: Drain, functions: Functions) -> None:
    expense = app.new("expenses")
    expense.set(app.expense("A", 5, "USD", {"B": 5}))
    drain()
    lines = [json.loads(line) for line in functions.log_lines("on_expense_written") if expense.id in line]
    (line,) = [line for line in lines if line.get("outcome")]
    assert line["outcome"] in ("APPLIED", "REBUILT")
    assert line["groupId"] == app.group
    assert line["source"] == f"expenses/{expense.id}"
    assert line["delta"] == {"USD": {"B": {"A": 500}}}
    assert line["lagMs"] >= 0
    assert line["ms"] >= 0
