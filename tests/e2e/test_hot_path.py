"""Bad moments of the hot path, on whole processes: an instance that dies amid a burst, a lock that somebody holds, rivals.

How long things take is logged (`--log-cli-level=INFO`). What is asserted leaves room for a loaded machine: without what is
tested here, some of it takes a minute.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from google.cloud import firestore

from balance.database.sdk import connect
from balance.documents.settings import Settings
from balance.protocol.bookkeeper import Bookkeeper
from bench import workload
from bench.servers import PROJECT, Database, Kind, database, kinds, serving

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("hot-path")]

MEMBERS = 6
PATIENCE_S = 60.0


def note(what: str, value: object) -> None:
    """For whoever asks with --log-cli-level=INFO."""
    logging.getLogger(__name__).info("%s: %s", what, value)


@pytest.fixture
def of() -> Iterator[Database]:
    """A Firestore with production's times: an idle transaction keeps its locks for 60 s."""
    with database() as running:
        yield running


@pytest.fixture(scope="module")
def kind() -> Kind:
    """Our expense trigger."""
    return kinds(["ours"])["ours"]


class Groups:
    """Groups, what was spent in them, and what their balances must be."""

    def __init__(self, of: Database, count: int) -> None:
        self.of = of
        self.ids = [f"g{number}" for number in range(count)]
        self.nets: dict[str, dict[str, int]] = {group_id: defaultdict(int) for group_id in self.ids}
        self._written = 0
        for group_id in self.ids:
            of.client.document(f"groups/{group_id}").set({"members": workload.uids(MEMBERS)})

    def spend(self, count: int, collections: tuple[str, ...] = ("expenses",)) -> None:
        """Write so many expenses, in the groups by turns."""
        for start in range(0, count, 50):
            batch = self.of.client.batch()
            for number in range(start, min(start + 50, count)):
                group_id = self.ids[number % len(self.ids)]
                fields = workload.expenses(self._written + 1, MEMBERS, group_id)[-1]
                collection = collections[number % len(collections)]
                batch.set(self.of.client.document(f"{collection}/e{self._written}"), fields)
                self._written += 1
                for split in fields["splits"]:
                    minor = round(split["amount"] * 100)
                    self.nets[group_id][split["uid"]] -= minor
                    self.nets[group_id][fields["paidBy"]] += minor
            batch.commit()

    def are_right(self, *group_ids: str) -> bool:
        """Whether these groups' balances hold all that was spent, exactly."""
        references = [self.of.client.document(f"groups/{group_id}/metadata/balance") for group_id in group_ids or self.ids]
        return all(self._is_right(found) for found in self.of.client.get_all(references))

    def _is_right(self, found: firestore.DocumentSnapshot) -> bool:
        rows = (found.to_dict() or {}).get("balancesByCurrency", {}).get("USD", {})
        stored = {uid: round(row["netBalance"] * 100) for uid, row in rows.items() if row["netBalance"]}
        return stored == {uid: net for uid, net in self.nets[found.reference.parent.parent.id].items() if net}

    def seconds_until_right(self, *group_ids: str) -> float:
        """How long it takes from now."""
        started = time.monotonic()
        while not self.are_right(*group_ids):
            assert time.monotonic() - started < PATIENCE_S, "the balances are not right"
            time.sleep(0.05)
        return time.monotonic() - started


def test_an_instance_killed_amid_a_burst_keeps_nobody_waiting(of: Database, kind: Kind) -> None:
    groups = Groups(of, 20)
    with serving(kind, of) as first:
        groups.spend(20)
        of.drain()
        delivered = of.statistics()["delivery"]["delivered"]
        groups.spend(600)
        until = time.monotonic() + PATIENCE_S
        while of.statistics()["delivery"]["delivered"] < delivered + 100:
            assert time.monotonic() < until
        os.killpg(first.pid, signal.SIGKILL)
        left = of.statistics()["delivery"]["pending"]
    assert left > 0, "it was killed amid the burst"
    with serving(kind, of):
        took_s = groups.seconds_until_right()
    of.drain()
    note("events left", left)
    note("seconds until all balances were right", round(took_s, 2))
    assert took_s < 20, "locks of the dead instance would be held for 60 s"


def test_strangers_do_not_wait_while_somebody_locks_a_balance(of: Database, kind: Kind) -> None:
    groups = Groups(of, 30)
    locked, *strangers = groups.ids
    with serving(kind, of):
        groups.spend(30)
        of.drain()
        groups.spend(600)
        without_s = groups.seconds_until_right(*strangers)
        of.drain()
        lock = of.client.transaction()
        lock._begin()
        of.client.document(f"groups/{locked}/metadata/balance").get(transaction=lock)
        groups.spend(600)
        with_s = groups.seconds_until_right(*strangers)
        assert not groups.are_right(locked)
        lock._rollback()
        after_s = groups.seconds_until_right()
        of.drain()
    note("seconds without the lock", round(without_s, 2))
    note("seconds with it", round(with_s, 2))
    note("seconds for the locked group, from the end of the lock", round(after_s, 2))
    assert with_s < 2 + 3 * without_s + 5


@pytest.mark.parametrize("instances", [2, 4])
def test_rivals_on_one_group_lose_and_double_nothing(of: Database, kind: Kind, instances: int) -> None:
    groups = Groups(of, 1)
    collections = ("expenses", *(f"expenses{number}" for number in range(1, instances)))
    with ExitStack() as stack:
        for collection in collections:
            stack.enter_context(serving(kind, of, f"{collection}/{{id}}"))
        groups.spend(1)
        of.drain()
        before = of.statistics()
        groups.spend(400, collections)
        of.drain()
        after = of.statistics()
        assert groups.are_right()
    for name in ("commits", "aborts"):
        note(name, after[name] - before[name])
    assert after["delivery"]["redeliveries"] == before["delivery"]["redeliveries"]


@pytest.mark.parametrize("optimistic", [False, True], ids=["pessimistic", "optimistic"])
def test_a_rebuild_beside_forty_events_a_second_ends(kind: Kind, optimistic: bool) -> None:
    """In both modes of the database; the rebuild runs in a process of its own, as another function or a script."""
    arguments = ["--mode", "optimistic"] if optimistic else []
    with database(*arguments) as of, serving(kind, of):
        groups = Groups(of, 1)
        groups.spend(1)
        of.drain()
        goes_on = threading.Event()
        goes_on.set()

        def spend() -> None:
            while goes_on.is_set():
                started = time.monotonic()
                groups.spend(1)
                time.sleep(max(0, 1 / 40 - (time.monotonic() - started)))

        spender = threading.Thread(target=spend)
        spender.start()
        try:
            took = [_rebuild(of, groups.ids[0]) for _ in range(5)]
        finally:
            goes_on.clear()
            spender.join()
        of.drain()
        assert groups.are_right()
    note("seconds for each rebuild", [round(seconds, 2) for seconds in took])
    assert max(took) < 15


def _rebuild(of: Database, group_id: str) -> float:
    """Have another instance rebuild a balance; the seconds that it takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", of.host)
        keeper = Bookkeeper(connect(PROJECT, "(default)"), Settings(), updates_on=lambda: True)
    started = time.monotonic()
    keeper.rebuild(group_id, force=True)
    return time.monotonic() - started
