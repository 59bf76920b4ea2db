"""The check of what the protocol assumes of Firestore: it confirms the embedded one, and notices another."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
from google.cloud.firestore_v1 import types

from balance.database.sdk import SdkFirestore
from balance.documents.settings import Settings
from emulator import paths, service, values, writes
from emulator.engine import Settings as EngineSettings
from emulator.errors import RpcError
from emulator.faults import Fault
from scripts import check_assumptions
from scripts.assumptions import locking, shapes, times
from scripts.assumptions.laboratory import COLLECTION, Laboratory, Refuted, laboratory_in
from scripts.check_assumptions import OF_FIRESTORE, OF_TIME
from scripts.cli import main
from tests.integration.conftest import AnyFirestore
from tests.integration.served import AS_DEPLOYED, PROJECT, Served, served

ROOT = Path(__file__).parents[3]


def check(*arguments: str, host: str | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "FIRESTORE_EMULATOR_HOST"}
    if host is not None:
        environment["FIRESTORE_EMULATOR_HOST"] = host
    command = [sys.executable, "-m", "scripts", "check-assumptions", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=110, check=False
    )


@pytest.mark.timeout(120)
def test_every_assumption_holds_and_nothing_is_left_behind(any_firestore: AnyFirestore) -> None:
    done = check("--project", PROJECT, host=any_firestore.host)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["holds"] * len(OF_FIRESTORE)
    client = any_firestore.client()
    assert list(client.collection(COLLECTION).stream()) == []
    assert not [found.id for found in client.collection("groups").stream() if found.id.startswith(COLLECTION)]
    balances = client.collection_group("metadata").stream()
    assert not [found for found in balances if found.reference.path.startswith(f"groups/{COLLECTION}")]


def test_what_does_not_hold_is_said_and_is_exit_code_1(
    any_firestore: AnyFirestore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nothing_is_what_it_seems(laboratory: Laboratory) -> str:
        raise Refuted("it was otherwise")

    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", any_firestore.host)
    monkeypatch.setattr(check_assumptions, "OF_FIRESTORE", (nothing_is_what_it_seems,))
    assert main(["check-assumptions", "--project", PROJECT]) == 1
    assert "REFUTED  nothing is what it seems: it was otherwise" in capsys.readouterr().out


class Forgetful(SdkFirestore):
    """A Firestore whose reads of the past give the present."""

    def get(self, paths, *, read_time=None, timeout_s=None):  # type: ignore[no-untyped-def]
        return super().get(paths)


def test_a_firestore_without_a_past_is_refuted(any_firestore: AnyFirestore) -> None:
    database = any_firestore.database()
    assert isinstance(database, SdkFirestore)
    database.__class__ = Forgetful
    reads: tuple[Callable[[Laboratory], str], ...] = (
        times.a_read_sees_exactly_the_commits_up_to_its_time,
        times.the_past_beyond_the_hour_is_told_from_other_errors,
    )
    with laboratory_in(database, Settings()) as laboratory:
        for assumption in reads:
            with pytest.raises(Refuted):
                assumption(laboratory)


@contextmanager
def laboratory_on(settings: EngineSettings = AS_DEPLOYED) -> Iterator[tuple[Laboratory, Served]]:
    """An embedded server with these settings, and a laboratory in it."""
    with served(settings) as server:
        database = AnyFirestore(f"127.0.0.1:{server.port}").database()
        with laboratory_in(database, Settings()) as laboratory:
            yield laboratory, server


def nothing_is_quoted(path: str) -> tuple[str, ...]:
    return tuple(name.strip("`") for name in path.split("."))


def a_path_of_any_length(fields: Any, depth: int = 1, before: int = 0) -> None:
    """As if the limit of a path held within a document too."""
    for name in fields:
        if before + len(name) > paths.MAX_FIELD_PATH_BYTES:
            raise values.Fault("its path is too long")
        a_path_of_any_length(fields[name].map_value.fields, depth + 1, before + len(name) + 1)


def a_clock_of_its_own(fields: Any, transform: Any, now_us: int, honest: Any = writes._transform) -> Any:
    return honest(fields, transform, now_us - 40_000_000)


def called_aborted(document: Any) -> bool:
    if values.is_too_large(document):
        raise RpcError(grpc.StatusCode.ABORTED, "too large")
    return False


BENT: list[tuple[Callable[[Laboratory], str], ModuleType, str, Any]] = [
    (shapes.a_document_above_1_mib_is_refused_for_good, writes, "is_too_large", lambda document: False),
    (shapes.a_document_above_1_mib_is_refused_for_good, writes, "is_too_large", called_aborted),
    (shapes.odd_uids_are_keys_like_others, writes, "parse_writable_path", nothing_is_quoted),
    (
        shapes.odd_uids_are_keys_like_others,
        values,
        "field_name_fault",
        lambda name: "is odd" if name == "." else None,
    ),
    (shapes.the_longest_uids_may_lie_within_each_other, writes, "store_fields", a_path_of_any_length),
    (shapes.the_longest_uids_may_lie_within_each_other, paths, "MAX_FIELD_PATH_BYTES", 700),
    (shapes.what_we_call_no_uid_firestore_refuses, values, "field_name_fault", lambda name: None),
    (
        shapes.what_we_call_no_uid_firestore_refuses,
        values,
        "field_name_fault",
        lambda name: None if name else "is empty",
    ),
    (times.the_servers_time_in_a_document_is_near_its_commit, writes, "_transform", a_clock_of_its_own),
    (locking.a_commit_bears_its_conditions, writes, "_check_precondition", lambda write, current, name, now_us: None),
    (
        locking.a_transaction_locks_whatever_the_databases_mode,
        service,
        "_OPTIMISTIC",
        types.TransactionOptions.ConcurrencyMode.PESSIMISTIC.value,
    ),
]


@pytest.mark.parametrize(("assumption", "module", "name", "bent"), BENT)
def test_a_server_of_which_an_assumption_is_false_is_refuted(
    assumption: Callable[[Laboratory], str], module: ModuleType, name: str, bent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths.parse_field_path.cache_clear()
    with laboratory_on() as (laboratory, _):
        assumption(laboratory)
        paths.parse_field_path.cache_clear()
        monkeypatch.setattr(module, name, bent)
        with pytest.raises(Refuted):
            assumption(laboratory)
        monkeypatch.undo()
    paths.parse_field_path.cache_clear()


def test_a_server_on_which_a_retry_is_young_again_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_begin", lambda engine, options, read_write: engine.begin())
    with laboratory_on(EngineSettings(lock_wait_us=300_000)) as (laboratory, _), pytest.raises(Refuted):
        locking.a_retry_keeps_its_age(laboratory)


SHORT_LIVED = EngineSettings(transaction_idle_us=200_000, transaction_total_us=400_000)
IMMORTAL = EngineSettings(transaction_idle_us=60_000_000, transaction_total_us=60_000_000)


@pytest.mark.parametrize("assumption", OF_TIME)
def test_a_transaction_that_times_out_is_seen_to_do_so_and_one_that_does_not_is_refuted(
    assumption: Callable[[Laboratory], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "IDLE_S", 0.4)
    monkeypatch.setattr(locking, "TOTAL_S", 0.8)
    with laboratory_on(SHORT_LIVED) as (laboratory, _):
        assert "expired" in assumption(laboratory)
    with laboratory_on(IMMORTAL) as (laboratory, _), pytest.raises(Refuted, match="could still commit"):
        assumption(laboratory)


def test_an_expiry_that_looks_like_another_error_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "IDLE_S", 0.4)
    denied = Fault("Commit", grpc.StatusCode.PERMISSION_DENIED, remaining=1)
    with laboratory_on(SHORT_LIVED) as (laboratory, server):

        def pause(seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
            sleep(seconds)
            server.within(lambda: server.faults.replace([denied]))

        monkeypatch.setattr(time, "sleep", pause)
        with pytest.raises(Refuted, match="means something else"):
            locking.an_idle_transaction_times_out(laboratory)
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((), "--project"), (("--project", "some-project"), "--yes")],
)
def test_a_real_project_must_be_named_and_confirmed(arguments: tuple[str, ...], message: str) -> None:
    done = check(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
