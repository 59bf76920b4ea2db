"""The first attempt at events: several groups in one commit, without locks; and what comes of it when it cannot be done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import grpc
import pytest

from balance.database.firestore import Conflict, Create, Set, TooLarge, TransientError, Update, transaction
from balance.documents import balances
from balance.documents.changes import NewerVersion, Result
from balance.documents.outcome import Outcome
from balance.documents.settings import Settings
from balance.protocol import optimistic
from balance.protocol.bookkeeper import Bookkeeper, Processed
from balance.protocol.events import SourceEvent, effect
from emulator.faults import Fault
from tests.integration.deployment import Deployment, deployment, expense

TIMEOUT_S = 60


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        for group_id in ("g", "h", "i"):
            running.group(group_id, "ana", "bo")
            assert outcomes(running.deliver(running.expense(group_id, "ana", bo=1))) == [Outcome.REBUILT]
        yield running


def outcomes(results: Sequence[Result]) -> list[Outcome]:
    return [result.outcome for result in results]


def owes(app: Deployment, group_id: str) -> float:
    """What bo owes ana."""
    amount: float = app.balance(group_id)["balancesByCurrency"]["USD"]["bo"]["owes"]["ana"]
    return amount


class Held:
    """A bookkeeper whose jobs wait until all events of a batch have been handed over."""

    def __init__(self, app: Deployment) -> None:
        self.app = app
        self.jobs: list[Callable[[], None]] = []
        self.keeper = Bookkeeper(app.database, app.settings, updates_on=lambda: app.updates_on, start=self.jobs.append)

    def process(self, *events: SourceEvent) -> list[Processed]:
        """Have the events processed as one batch, in this thread."""
        told: list[Processed | None] = [None] * len(events)
        for index, event in enumerate(events):

            def done(processed: Processed, index: int = index) -> None:
                told[index] = processed

            self.keeper.begin(event, effect(event, self.app.settings), done)
        while self.jobs:
            self.jobs.pop(0)()
        assert None not in told
        return [processed for processed in told if processed is not None]

    def outcomes(self, *events: SourceEvent) -> list[Outcome | type[Exception]]:
        """The same; the one outcome or error of each."""
        return [
            type(processed.error) if processed.error else processed.results[0].outcome for processed in self.process(*events)
        ]


def rpcs(app: Deployment, work: Callable[[], object]) -> dict[str, int]:
    """The calls of Firestore that some work makes."""
    before = dict(app.server.databases.statistics.rpcs)
    work()
    after = app.server.databases.statistics.rpcs
    return {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}


def test_groups_share_one_read_and_one_commit(app: Deployment) -> None:
    held = Held(app)
    events = [app.expense(group_id, "ana", bo=amount) for group_id in ("g", "h", "i") for amount in (2, 3)]
    commits = app.server.databases.statistics.commits
    called = rpcs(app, lambda: held.outcomes(*events))
    assert called == {"BatchGetDocuments": 1, "Commit": 1}
    assert app.server.databases.statistics.commits == commits + 1
    assert [owes(app, group_id) for group_id in ("g", "h", "i")] == [6, 6, 6]


def test_an_event_on_a_remembered_group_costs_one_call_and_no_read(app: Deployment) -> None:
    held = Held(app)
    held.outcomes(app.expense("g", "ana", bo=2))
    event = app.expense("g", "ana", bo=3)
    reads = app.server.databases.statistics.document_reads
    assert rpcs(app, lambda: held.outcomes(event)) == {"Commit": 1}
    assert app.server.databases.statistics.document_reads == reads
    assert owes(app, "g") == 6


def test_a_redelivery_is_noticed_by_the_commit_and_costs_its_neighbours_a_read(app: Deployment) -> None:
    held = Held(app)
    again = app.expense("g", "ana", bo=2)
    held.outcomes(again, app.expense("h", "ana", bo=2))
    others = [app.expense("g", "ana", bo=4), app.expense("h", "ana", bo=5)]
    called = rpcs(app, lambda: held.outcomes(replace(again, event_id="another"), *others))
    assert called == {"Commit": 2, "BatchGetDocuments": 1}
    assert held.outcomes(again, *others) == [Outcome.DUPLICATE] * 3
    assert (owes(app, "g"), owes(app, "h")) == (7, 8)


def test_what_another_instance_committed_is_noticed(app: Deployment) -> None:
    here, there = Held(app), Held(app)
    for amount in (1, 2, 3):
        for held in (here, there):
            assert held.outcomes(app.expense("g", "ana", bo=amount)) == [Outcome.APPLIED]
    assert owes(app, "g") == 1 + 2 * 6


def test_a_balance_of_a_newer_version_fails_only_its_own_events(app: Deployment) -> None:
    held = Held(app)
    app.set_balance("g", {**app.balance("g"), "version": 99})
    events = [app.expense(group_id, "ana", bo=2) for group_id in ("g", "h")]
    assert held.outcomes(*events) == [NewerVersion, Outcome.APPLIED]
    assert owes(app, "h") == 3


@pytest.mark.parametrize("bend", ["delete", "stale", "corrupt"])
def test_a_balance_that_must_be_rebuilt_is_and_its_neighbours_do_not_wait(app: Deployment, bend: str) -> None:
    held = Held(app)
    held.outcomes(app.expense("g", "ana", bo=2), app.expense("h", "ana", bo=2))
    if bend == "delete":
        app.client.document("groups/g/metadata/balance").delete()
    else:
        app.set_balance("g", {**app.balance("g"), **({"version": 0} if bend == "stale" else {"detail": "?"})})
    events = [app.expense(group_id, "ana", bo=4) for group_id in ("g", "h")]
    assert held.outcomes(*events) == [Outcome.REBUILT, Outcome.APPLIED]
    assert (owes(app, "g"), owes(app, "h")) == (7, 7)


def test_an_event_that_firestore_refuses_does_not_fail_its_neighbours(app: Deployment) -> None:
    held = Held(app)
    refused = replace(app.expense("g", "ana", bo=2), event_id="\ud800")
    events = [refused, app.expense("g", "ana", bo=4), app.expense("h", "ana", bo=8)]
    found = held.process(*events)
    assert found[0].error is not None
    assert [outcomes(processed.results) for processed in found[1:]] == [[Outcome.APPLIED]] * 2
    assert (owes(app, "g"), owes(app, "h")) == (5, 9)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_commit_of_unknown_outcome_counts_once(app: Deployment, moment: str) -> None:
    held = Held(app)
    events = [app.expense(group_id, "ana", bo=2) for group_id in ("g", "h")]
    fault = Fault.from_dict({"rpc": "Commit", "code": "DEADLINE_EXCEEDED", "moment": moment, "count": 1})
    app.server.within(lambda: app.server.faults.replace([fault]))
    expected = Outcome.APPLIED if moment == "before" else Outcome.DUPLICATE
    assert held.outcomes(*events) == [expected, expected]
    assert (owes(app, "g"), owes(app, "h")) == (3, 3)


def test_a_read_that_fails_leaves_each_group_to_itself(app: Deployment) -> None:
    held = Held(app)
    events = [app.expense(group_id, "ana", bo=2) for group_id in ("g", "h")]
    fault = Fault("BatchGetDocuments", grpc.StatusCode.UNAVAILABLE, remaining=1)
    app.server.within(lambda: app.server.faults.replace([fault]))
    assert held.outcomes(*events) == [Outcome.APPLIED, Outcome.APPLIED]


def test_a_commit_that_would_be_too_large_is_not_sent(app: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimistic, "MAX_COMMIT_BYTES", 100)
    held = Held(app)
    events = [app.expense(group_id, "ana", bo=2) for group_id in ("g", "h")]
    assert held.outcomes(*events) == [Outcome.APPLIED, Outcome.APPLIED]
    assert (owes(app, "g"), owes(app, "h")) == (3, 3)


def test_a_balance_that_is_written_whole_keeps_what_a_delta_does_not_touch(app: Deployment) -> None:
    """A uid too long for a field path has the whole document written, on the same condition."""
    held = Held(app)
    long = "x" * 701

    def share(amount: float) -> dict[str, Any]:
        shares: dict[str, Any] = {long: amount}
        return expense("g", "ana", **shares)

    held.outcomes(app.write("expenses/malformed", {**expense("g", "ana", bo=5), "currency": "???"}))
    before = app.balance("g")
    assert held.outcomes(app.write("expenses/long", share(2))) == [Outcome.APPLIED]
    there = Held(app)
    assert there.outcomes(app.write("expenses/longer", share(3))) == [Outcome.APPLIED]
    assert held.outcomes(app.write("expenses/longest", share(4))) == [Outcome.APPLIED]
    after = app.balance("g")
    assert after["balancesByCurrency"]["USD"][long]["owes"] == {"ana": 9}
    for name in ("groupId", "version", "asOf", "rules", "incarnation", "faults", "detail"):
        assert after[name] == before[name], name
    assert after["faults"] == 1
    stored = balances.parse(after, "g", app.settings.unit)
    assert stored.incarnation == app.client.document("groups/g").get().create_time


def test_neighbours_do_not_wait_for_a_group_that_somebody_locks(app: Deployment) -> None:
    keeper = Bookkeeper(app.database, app.settings, updates_on=lambda: True)
    ended: dict[str, float] = {}
    done = threading.Semaphore(0)

    def deliver(group_id: str, amount: float) -> None:
        event = app.expense(group_id, "ana", bo=amount)

        def tell(processed: Processed) -> None:
            assert processed.error is None
            ended[f"{group_id}{amount}"] = time.monotonic()
            done.release()

        keeper.begin(event, effect(event, app.settings), tell)

    with transaction(app.database) as foreign:
        foreign.get(["groups/g/metadata/balance"])
        for group_id in ("g", "h", "i"):
            deliver(group_id, 2)
        for _ in range(2):
            assert done.acquire(timeout=TIMEOUT_S)
        assert sorted(ended) == ["h2", "i2"], "the locked group's event waits, and only that"
        released = time.monotonic()
    assert done.acquire(timeout=TIMEOUT_S)
    assert ended["g2"] > released
    assert [owes(app, group_id) for group_id in ("g", "h", "i")] == [3, 3, 3]


# The commit outside of a transaction


def test_a_commit_holds_only_under_its_conditions(app: Deployment) -> None:
    database, path = app.database, "groups/g/metadata/test"
    first = database.commit([Create(path, {"x": 1, "y": {"z": 1}})])
    (found,) = database.get([path])
    assert found.update_time == first
    second = database.commit([Update(path, {("x",): 2}, first)])
    third = database.commit([Set(path, {"x": 3}, second)])
    missing = f"{path}-missing"
    refused: tuple[list[Create | Set | Update], ...] = (
        [Create(path, {})],
        [Update(path, {("x",): 4}, first)],
        [Set(path, {"x": 4}, second)],
        [Update(missing, {("x",): 4})],
        [Update(missing, {("x",): 4}, third)],
        [Set(missing, {"x": 4}, third)],
        [Update(path, {("x",): 4}, third), Create(path, {})],
    )
    for writes in refused:
        with pytest.raises(Conflict):
            database.commit(writes)
    (found,) = database.get([path])
    assert (found.fields, found.update_time) == ({"x": 3}, third)
    with pytest.raises(TooLarge):
        database.commit([Set(path, {"x": "y" * 1_000})], max_bytes=1_000)


def test_a_commit_that_takes_too_long_is_given_up(app: Deployment) -> None:
    path = "groups/g/metadata/balance"
    with transaction(app.database) as foreign:
        foreign.get([path])
        started = time.monotonic()
        with pytest.raises(TransientError) as raised:
            app.database.commit([Update(path, {("x",): 1})], timeout_s=0.2)
        assert time.monotonic() - started < 10
        assert not isinstance(raised.value, Conflict)
    app.server.within(lambda: app.server.faults.replace([Fault("BatchGetDocuments", latency_ms=5_000, remaining=1)]))
    with pytest.raises(TransientError):
        app.database.get([path], timeout_s=0.2)


def test_updates_that_are_off_leave_gaps_in_every_group(app: Deployment) -> None:
    held = Held(app)
    held.outcomes(app.expense("g", "ana", bo=2))
    app.updates_on = False
    events = [app.expense(group_id, "ana", bo=4) for group_id in ("g", "h")]
    assert held.outcomes(*events) == [Outcome.DISABLED, Outcome.DISABLED]
    app.updates_on = True
    assert held.outcomes(app.expense("g", "ana", bo=8)) == [Outcome.REBUILT]
    assert owes(app, "g") == 15


def test_a_write_whose_record_may_have_expired_is_rebuilt_on_a_remembered_group(app: Deployment) -> None:
    held = Held(app)
    old = app.expense("g", "ana", bo=2)
    app.clock.advance(days=4)
    assert held.outcomes(app.expense("g", "ana", bo=4)) == [Outcome.APPLIED]
    assert Settings().record_ttl.days == 7
    assert held.outcomes(old) == [Outcome.REBUILT]
    assert owes(app, "g") == 7
