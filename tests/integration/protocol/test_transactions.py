"""Transactions through the official library: what they ask for, what they leave behind, and what a retry keeps."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from balance.database.firestore import Retried, Set, TransientError, transaction
from balance.database.sdk import SdkFirestore
from emulator.engine import Settings as EngineSettings
from emulator.faults import Fault
from tests.integration.deployment import Deployment, deployment
from tests.integration.served import PROJECT, Served, served

PATHS = ["groups/g", "groups/h"]


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        yield running


def test_a_first_read_that_breaks_leaves_no_lock(app: Deployment) -> None:
    for path in PATHS:
        app.client.document(path).set({"x": 1})
    fault = Fault("BatchGetDocuments", grpc.StatusCode.UNAVAILABLE, moment="within", remaining=1)
    app.server.within(lambda: app.server.faults.replace([fault]))
    with transaction(app.database) as attempt, pytest.raises(TransientError):
        attempt.get(PATHS)
    assert app.server.engine().sizes()["transactions"] == 0
    started = time.monotonic()
    with transaction(app.database) as attempt:
        attempt.get(PATHS)
        attempt.commit([Set(PATHS[0], {"x": 2})])
    assert time.monotonic() - started < 10, "the locks would be held for 60 s"


def test_the_id_is_kept_by_a_failure_and_lost_by_a_commit(app: Deployment) -> None:
    with transaction(app.database) as attempt:
        assert attempt.id == b""
        attempt.get(PATHS)
        first = attempt.id
        assert first
        app.server.within(lambda: app.server.faults.replace([Fault("Commit", grpc.StatusCode.ABORTED, remaining=1)]))
        with pytest.raises(TransientError):
            attempt.commit([Set(PATHS[0], {})])
    assert attempt.id == first
    with transaction(app.database) as attempt:
        attempt.get(PATHS)
        attempt.commit([Set(PATHS[0], {})])
        assert attempt.id == b""


def test_a_retry_goes_before_who_came_between(app: Deployment) -> None:
    """The older of two transactions goes on, and the younger is aborted; a retry is as old as its first attempt."""
    retried = Retried(app.database)
    with transaction(retried) as failed:
        failed.get(PATHS[:1])
    with transaction(app.database) as rival:
        rival.get(PATHS)
        with transaction(retried) as attempt:
            attempt.get(PATHS)
            attempt.commit([Set(PATHS[0], {"by": "the retry"})])
        with pytest.raises(TransientError):
            rival.commit([Set(PATHS[0], {"by": "the rival"})])
    (found,) = app.database.get(PATHS[:1])
    assert found.fields == {"by": "the retry"}


@pytest.fixture
def optimistic() -> Iterator[Served]:
    """A Firestore whose transactions take no locks unless they ask for them."""
    with served(EngineSettings(optimistic=True)) as server:
        yield server


def connected(server: Served, monkeypatch: pytest.MonkeyPatch) -> SdkFirestore:
    from balance.database.sdk import connect

    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"127.0.0.1:{server.port}")
    database = connect(PROJECT, "(default)")
    assert isinstance(database, SdkFirestore)
    return database


def test_a_transaction_locks_whatever_the_databases_default(optimistic: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    database = connected(optimistic, monkeypatch)
    with transaction(database) as attempt:
        attempt.get(PATHS)
        writer = threading.Thread(target=lambda: database.commit([Set(PATHS[0], {"by": "another"})]))
        writer.start()
        writer.join(0.3)
        assert writer.is_alive(), "it waits for the lock"
        attempt.commit([Set(PATHS[0], {"by": "the transaction"})])
    writer.join(30)
    (found,) = database.get(PATHS[:1])
    assert found.fields == {"by": "another"}


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED])
def test_a_server_that_refuses_the_mode_is_told_of_once_and_served(
    app: Deployment, caplog: pytest.LogCaptureFixture, code: grpc.StatusCode
) -> None:
    assert isinstance(app.database, SdkFirestore)
    for _ in range(2):
        app.server.within(lambda: app.server.faults.replace([Fault("BatchGetDocuments", code, remaining=1)]))
        if not app.database.names_concurrency:
            app.server.within(lambda: app.server.faults.replace([]))
        with transaction(app.database) as attempt:
            attempt.get(PATHS)
            attempt.commit([Set(PATHS[0], {})])
    assert not app.database.names_concurrency
    assert len([record for record in caplog.records if "concurrency mode" in record.message]) == 1


def test_a_request_that_is_wrong_otherwise_is_no_refusal_of_the_mode(app: Deployment) -> None:
    assert isinstance(app.database, SdkFirestore)
    with transaction(app.database) as attempt, pytest.raises(Exception, match="__x__"):
        attempt.get(["groups/__x__"])
    assert app.database.names_concurrency
