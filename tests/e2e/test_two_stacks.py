"""Two runs of everything at the same time, on one machine and from one folder: neither is in the other's way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from google.cloud import firestore

from runner.session import Session, running
from tests.integration.deployment import expense

FUNCTIONS = ("on_expense_written", "on_group_created", "on_group_deleted")
"""Of both kinds of server: the event loop's, and those with threads."""
ARGUMENTS = [word for name in FUNCTIONS for word in ("--only", name)]


def client_of(session: Session, monkeypatch: pytest.MonkeyPatch) -> firestore.Client:
    with monkeypatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", session.firestore_host)
        return firestore.Client(project=session.project)


@pytest.mark.timeout(180)
def test_two_stacks_that_start_at_once_do_not_disturb_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where servers of gunicorn would share a socket, which now and then ends in an ERROR.
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(shared))
    monkeypatch.setenv("HOME", str(shared))
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        runs = [running(project="demo-twins", logs=tmp_path / name, arguments=ARGUMENTS) for name in ("one", "two")]
        sessions = list(pool.map(stack.enter_context, runs))
        for amount, session in enumerate(sessions, start=1):
            client = client_of(session, monkeypatch)
            client.document("groups/g").set({"members": ["a", "b"]})
            client.document("expenses/e").set(expense("g", "a", "USD", b=amount))
        for amount, session in enumerate(sessions, start=1):
            session.drain()
            stored = client_of(session, monkeypatch).document("groups/g/metadata/balance").get().to_dict()
            assert stored is not None
            assert stored["balancesByCurrency"]["USD"]["b"]["owes"] == {"a": amount}
        assert not list(shared.rglob("*")), "each server has a place of its own"
        for session in sessions:
            assert all(function["restarts"] == 0 for function in session.functions().values())
            said = [line for name in (*FUNCTIONS, "firestore") for line in session.log_lines(name)]
            assert said, "else there would be nothing to look at"
            assert not [line for line in said if "ERROR" in line or "Traceback" in line]
