"""A group that cannot go on does not hold up its neighbours in the same instance."""

import time

import pytest

from tests.e2e.through_functions.app import App, Drain

pytestmark = [
    pytest.mark.xdist_group("functions"),
    pytest.mark.embedded(reason="how long a lock is held and waited for is the embedded server's setting"),
]

IN_LINE = 60
"""Fewer than an instance has threads (80): when all of them wait in one line, nobody is left to serve the neighbour."""
PATIENCE_S = 15.0


@pytest.mark.usefixtures("concurrent_functions")
def test_a_neighbour_is_served_while_a_burst_of_another_group_waits_for_a_lock(app: App, drain: Drain) -> None:
    neighbour = App(app.client)
    for each in (app, neighbour):
        each.new("expenses").set(each.expense("A", 1, "USD", {"B": 1}))
    drain()

    balance = app.client.document(f"groups/{app.group}/metadata/balance")
    lock = app.client.transaction()
    lock._begin()
    try:
        balance.get(transaction=lock)
        burst = app.client.batch()
        for _ in range(IN_LINE):
            burst.set(app.new("expenses"), app.expense("A", 1, "USD", {"B": 1}))
        burst.commit()
        neighbour.new("expenses").set(neighbour.expense("A", 7, "USD", {"B": 7}))
        until = time.monotonic() + PATIENCE_S
        while neighbour.debts() != {"USD": {("B", "A"): 8}} and time.monotonic() < until:
            time.sleep(0.02)
        # The server ends an idle transaction after a while, and with it the lock.
        assert app.debts() == {"USD": {("B", "A"): 1}}, "the neighbour had to wait until the other group's lock was gone"
        assert neighbour.debts() == {"USD": {("B", "A"): 8}}
    finally:
        lock._rollback()
    drain()
    assert app.debts() == {"USD": {("B", "A"): 1 + IN_LINE}}
