"""A connection that goes silent: nothing comes back over it, and nothing says so. New connections work, or do not.

Real connections, through a proxy that swallows what passes. What is measured is how long it takes until somebody is served.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from balance.database import budget, sdk
from balance.database.firestore import Directory, Query, Set, TransientError
from balance.database.retry import Retry
from balance.database.sdk import connect
from balance.documents.outcome import Outcome
from balance.documents.settings import Settings
from balance.functions import instance
from balance.protocol.bookkeeper import Bookkeeper
from balance.protocol.events import effect
from tests.integration.callers import read_api
from tests.integration.deployment import Deployment, deployment
from tests.integration.served import PROJECT
from tests.integration.silent_proxy import SilentProxy, silent_proxy

LONGEST_S = 15.0
"""Until the first success after the silence began to matter."""


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        yield running


@pytest.fixture
def proxy(app: Deployment) -> Iterator[SilentProxy]:
    with silent_proxy(app.server.port) as running:
        yield running


@pytest.fixture
def database(app: Deployment, proxy: SilentProxy, monkeypatch: pytest.MonkeyPatch) -> Directory:
    """The app's database over a connection through the proxy, which is in use."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.host)
    connected = connect(PROJECT, "(default)")
    connected.get(["groups/g"])
    return connected


def seconds_of(work: Any) -> float:
    began_s = time.monotonic()
    work()
    return time.monotonic() - began_s


def test_an_event_is_brought_in_soon_after_the_connection_went_silent(
    app: Deployment, proxy: SilentProxy, database: Directory
) -> None:
    app.group("g")
    keeper = Bookkeeper(database, Settings(), updates_on=lambda: True)

    def deliver() -> None:
        event = app.expense("g", "a", b=1)
        (result,) = keeper.process(event, effect(event, keeper.settings))
        assert result.outcome in (Outcome.APPLIED, Outcome.REBUILT)

    deliver()
    proxy.silence()
    assert seconds_of(deliver) < LONGEST_S
    # The instance is no black hole: the others do not find out for themselves.
    assert seconds_of(deliver) < 3
    assert seconds_of(deliver) < 3
    assert app.balance("g")["balancesByCurrency"]["USD"]["b"]["netBalance"] == -4
    assert proxy.accepted == 2


def test_all_who_wait_on_a_silent_connection_go_on_together(app: Deployment, proxy: SilentProxy, database: Directory) -> None:
    proxy.silence()
    with ThreadPoolExecutor(8) as pool:
        took = list(pool.map(lambda _: seconds_of(lambda: Retry().run(lambda: database.get(["groups/g"]))), range(8)))
    assert max(took) < LONGEST_S
    assert proxy.accepted == 2


def test_who_would_wait_longer_goes_on_when_somebody_else_has_found_out(
    app: Deployment, proxy: SilentProxy, database: Directory
) -> None:
    proxy.silence()
    with ThreadPoolExecutor(1) as pool:
        patient = pool.submit(database.get, ["groups/g"], timeout_s=60.0)
        Retry().run(lambda: database.get(["groups/g"]))
        with pytest.raises(TransientError):
            patient.result(timeout=10.0)


def test_a_commit_whose_answer_does_not_come_is_found_out_about(
    app: Deployment, proxy: SilentProxy, database: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.group("g")
    keeper = Bookkeeper(database, Settings(), updates_on=lambda: True)
    first = app.expense("g", "a", b=1)
    keeper.process(first, effect(first, keeper.settings))
    second = app.expense("g", "a", b=1)
    committed = threading.Event()
    engine = app.server.engine()
    commit = engine.commit

    def commit_and_fall_silent(*arguments: Any, **keywords: Any) -> Any:
        answer = commit(*arguments, **keywords)
        if not committed.is_set():
            committed.set()
            proxy.silence()
        return answer

    monkeypatch.setattr(engine, "commit", commit_and_fall_silent)
    (result,) = keeper.process(second, effect(second, keeper.settings))
    assert committed.is_set()
    assert result.outcome is Outcome.DUPLICATE
    assert app.balance("g")["balancesByCurrency"]["USD"]["b"]["netBalance"] == -2


def test_a_query_on_which_nothing_comes_is_ended(
    app: Deployment, proxy: SilentProxy, database: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdk, "_READ_S", 1.0)
    monkeypatch.setattr(sdk, "_SILENT_S", 0.5)
    app.group("g")
    proxy.silence()
    query = Query(collection="groups")
    with pytest.raises(TransientError):
        list(database.query(query))
    assert [found.path for found in database.query(query)] == ["groups/g"]


def test_whoever_takes_time_between_the_answers_of_a_query_gets_them_all(
    app: Deployment, database: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdk, "_READ_S", 0.2)
    for index in range(3):
        app.group(f"g{index}")
    found = []
    for document in database.query(Query(collection="groups")):
        found.append(document.path)
        time.sleep(0.3)
    assert found == ["groups/g0", "groups/g1", "groups/g2"]


def test_somebody_elses_lock_is_no_silence_while_others_are_answered(
    app: Deployment, proxy: SilentProxy, database: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdk, "_LOCKING_S", 1.0)
    monkeypatch.setattr(sdk, "_SILENT_S", 0.5)
    app.group("g")
    holder, waiter = database.begin(), database.begin()
    holder.get(["groups/g"])
    waiter.get(["groups/g"])
    is_over = threading.Event()

    def read_on() -> None:
        while not is_over.wait(0.1):
            database.get(["groups/other"])

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_on)
        try:
            with pytest.raises(TransientError, match="Deadline"):
                waiter.commit([Set("groups/g", {})])
        finally:
            is_over.set()
        reading.result()
    holder.rollback()
    assert proxy.accepted == 1


def test_what_does_not_fit_into_the_budget_is_not_begun(app: Deployment, proxy: SilentProxy, database: Directory) -> None:
    proxy.silence(new_too=True)

    def read() -> None:
        with budget.within(2.0), pytest.raises(TransientError):
            Retry().run(lambda: database.get(["groups/g"]))

    assert 1.5 < seconds_of(read) < 3


def test_the_api_says_by_itself_that_it_cannot_read(
    app: Deployment, proxy: SilentProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.group("g", "ana")
    with read_api(app.server, monkeypatch) as api:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.host)
        monkeypatch.setattr(instance, "_firestore", None)
        monkeypatch.setattr(instance, "_bookkeeper", None)
        assert api.get("/groups/g/balance").status_code == 200
        proxy.silence(new_too=True)
        answers: list[Any] = []
        assert seconds_of(lambda: answers.append(api.get("/groups/g/balance"))) < 10
        assert (answers[0].status_code, answers[0].headers["Retry-After"]) == (503, "1")
        proxy.recover()
        assert seconds_of(lambda: answers.append(api.get("/groups/g/balance"))) < LONGEST_S
        assert answers[1].status_code == 200
