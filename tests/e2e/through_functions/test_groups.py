"""Groups that come after their expenses, and groups that are deleted and come back under traffic."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from google.cloud import firestore

from tests.e2e.node import NODE_CLIENT, node_with
from tests.e2e.through_functions.app import App, Drain
from tests.e2e.through_functions.conftest import Running

pytestmark = [
    pytest.mark.xdist_group("functions"),
    pytest.mark.embedded(reason="hundreds of events, which the Firebase CLI hands over one by one"),
]


def expense(group: str, amount: float) -> dict[str, Any]:
    """B owes A so much more."""
    return {"groupId": group, "paidBy": "A", "amount": amount, "currency": "USD", "splits": [{"uid": "B", "amount": amount}]}


def owed(app: App, group: str) -> object:
    return app.debts(group).get("USD", {}).get(("B", "A"), 0)


def test_sixty_groups_written_after_their_1200_expenses_have_their_balances_by_themselves(
    concurrent_functions: Running, app: App, drain: Drain
) -> None:
    run = uuid4().hex[:8]
    groups = [f"late-{run}-{number}" for number in range(60)]
    writer = app.client.bulk_writer()
    for number, group in enumerate(groups):
        for nth in range(20):
            writer.create(app.new("expenses"), expense(group, number + nth))
    writer.flush()
    for group in groups:
        writer.create(app.client.document(f"groups/{group}"), {"members": ["A", "B"]})
    writer.close()
    drain()
    assert [owed(app, group) for group in groups] == [20 * number + 190 for number in range(60)]


@contextmanager
def deleter(client: str, app: App, running: Running) -> Iterator[Callable[[firestore.DocumentReference], None]]:
    """An official client's recursive delete."""
    if client == "python":
        yield app.client.recursive_delete
        return
    node = node_with(NODE_CLIENT)
    host = running.session.firestore_host if running.session else os.environ["FIRESTORE_EMULATOR_HOST"]
    waiting: dict[str, Future[None]] = {}
    with subprocess.Popen(
        [node, "recursive_delete.mjs"],
        cwd=NODE_CLIENT,
        env={**os.environ, "GOOGLE_CLOUD_PROJECT": app.client.project, "FIRESTORE_EMULATOR_HOST": host},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        lines, orders = process.stdout, process.stdin

        def listen() -> None:
            for line in lines:
                outcome, path, *message = line.split(maxsplit=2)
                if outcome == "done":
                    waiting[path].set_result(None)
                else:
                    waiting[path].set_exception(AssertionError(" ".join(message)))

        threading.Thread(target=listen, daemon=True).start()
        lock = threading.Lock()

        def delete(reference: firestore.DocumentReference) -> None:
            done: Future[None] = Future()
            with lock:
                waiting[reference.path] = done
                orders.write(reference.path + "\n")
                orders.flush()
            done.result(60)

        try:
            yield delete
        finally:
            process.stdin.close()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("client", ["python", "node"])
def test_groups_deleted_recursively_under_traffic_are_right_whether_they_come_back_or_not(
    concurrent_functions: Running, app: App, drain: Drain, client: str
) -> None:
    """The official clients' recursive delete: what lies below the group in any order, the group itself last."""
    run = uuid4().hex[:8]
    groups = [f"fleeting-{run}-{number}" for number in range(24)]
    come_back = set(groups[::2])
    totals = dict.fromkeys(groups, 0)

    def live(group: str, delete: Callable[[firestore.DocumentReference], None]) -> None:
        random = Random(group)
        reference = app.client.document(f"groups/{group}")
        reference.set({"members": ["A", "B"]})
        over = threading.Event()

        def spend() -> None:
            while not over.wait(random.random() * 0.05):
                amount = random.randrange(1, 9)
                app.new("expenses").set(expense(group, amount))
                totals[group] += amount

        spender = threading.Thread(target=spend)
        spender.start()
        for _ in range(3):
            over.wait(0.1 + random.random() * 0.4)
            delete(reference)
            if group in come_back:
                over.wait(random.choice((0, 0, 0.05, 0.2)))
                reference.set({"members": ["A", "B"], "round": random.random()})
        over.wait(random.random() * 0.2)
        over.set()
        spender.join()
        if group not in come_back:
            delete(reference)

    with deleter(client, app, concurrent_functions) as delete, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda group: live(group, delete), groups))
    drain()
    wrong = []
    for group in groups:
        reference = app.client.document(f"groups/{group}")
        balance = app.client.document(f"groups/{group}/metadata/balance").get()
        if group not in come_back:
            if balance.exists or _count(reference.collection("balanceFaults")):
                wrong.append(f"{group} is gone, its balance is not")
        elif not balance.exists or balance.get("incarnation") != reference.get().create_time:
            wrong.append(f"{group} has no balance of its own")
        elif owed(app, group) != totals[group]:
            wrong.append(f"{group}: {owed(app, group)} instead of {totals[group]}")
    assert not wrong


def _count(collection: firestore.CollectionReference) -> int:
    return sum(1 for _ in collection.stream())
