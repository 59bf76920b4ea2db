"""A bulk import: 2,000 expenses into one group at once."""

import concurrent.futures
from typing import Any

import pytest

from runner.session import call
from tests.e2e.through_functions.app import App, Drain
from tests.e2e.through_functions.conftest import Running

pytestmark = [
    pytest.mark.xdist_group("functions"),
    pytest.mark.embedded(reason="its figures say how often transactions and deliveries were tried"),
]

EXPENSES = 2_000
BATCH = 500
"""What Firestore commits at once."""


def test_a_bulk_import_into_one_group_loses_nothing_and_makes_no_retry_storm(
    concurrent_functions: Running, app: App, drain: Drain
) -> None:
    assert concurrent_functions.admin_url is not None, "a runner of our own has the embedded Firestore"
    statistics = concurrent_functions.admin_url + "/statistics"
    drain()  # the group has its balance, so that each expense is applied and leaves a record
    app.new("expenses").set(app.expense("A", 1, "USD", {"B": 1}))
    drain()
    before = call("GET", statistics)

    def imported(first: int) -> None:
        batch = app.client.batch()
        for number in range(first, first + BATCH):
            payer, debtor = ("A", "B") if number % 2 else ("C", "A")
            batch.set(app.new("expenses"), app.expense(payer, number, "USD", {debtor: number}))
        batch.commit()

    neighbour = App(app.client)
    imported(0)
    # Written amid the import: its event must not have to wait until that is done, but for those before it only.
    neighbour.new("expenses").set(neighbour.expense("A", 7, "USD", {"B": 7}))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(imported, range(BATCH, EXPENSES, BATCH)))
    drain()
    after = call("GET", statistics)
    (served,) = _applied_at(neighbour)
    before_it = sum(applied_at < served for applied_at in _applied_at(app))
    assert before_it < EXPENSES / 2, f"the neighbour, the event after {BATCH}, was served after {before_it}"
    assert neighbour.debts() == {"USD": {("B", "A"): 7}}

    odd = 1 + sum(number for number in range(EXPENSES) if number % 2)
    even = sum(number for number in range(EXPENSES) if number % 2 == 0)
    assert app.debts() == {"USD": {("B", "A"): odd, ("A", "C"): even}}
    # The expense of 0 moves no money and leaves no record.
    assert len(_applied_at(app)) == EXPENSES

    def rise(*path: str) -> int:
        return _at(after, path) - _at(before, path)

    assert rise("delivery", "redeliveries") == 0, "no event had to come twice"
    # Were each event a transaction of its own, there would be 2,000 of them, and most would abort each other.
    assert rise("rpcs", "Commit") < EXPENSES / 4
    assert rise("errors", "ABORTED") < EXPENSES / 20


def _applied_at(app: App) -> list[Any]:
    """When each of the group's events came into its balance."""
    return [record.get("appliedAt") for record in app.client.collection(f"groups/{app.group}/balanceEvents").stream()]


def _at(statistics: dict[str, Any], path: tuple[str, ...]) -> int:
    found: Any = statistics
    for name in path:
        found = found.get(name, 0)
    return int(found)
