"""The check of what the protocol assumes of Firestore: it confirms the embedded one, and notices another."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from balance.settings import Settings
from balance.store import SdkFirestore
from scripts import check_assumptions
from scripts.check_assumptions import COLLECTION, OF_FIRESTORE, Laboratory, Refuted, laboratory_in
from tests.integration.conftest import AnyFirestore
from tests.integration.served import PROJECT

ROOT = Path(__file__).parents[2]


def check(*arguments: str, host: str | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "FIRESTORE_EMULATOR_HOST"}
    if host is not None:
        environment["FIRESTORE_EMULATOR_HOST"] = host
    command = [sys.executable, "-m", "scripts.check_assumptions", *arguments]
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
    assert check_assumptions.main(["--project", PROJECT]) == 1
    assert "REFUTED  nothing is what it seems: it was otherwise" in capsys.readouterr().out


class Forgetful(SdkFirestore):
    """A Firestore whose reads of the past give the present."""

    def get(self, paths, read_time=None):  # type: ignore[no-untyped-def]
        return super().get(paths)


def test_a_firestore_without_a_past_is_refuted(any_firestore: AnyFirestore) -> None:
    database = any_firestore.database()
    assert isinstance(database, SdkFirestore)
    database.__class__ = Forgetful
    reads: tuple[Callable[[Laboratory], str], ...] = (
        check_assumptions.a_read_sees_exactly_the_commits_up_to_its_time,
        check_assumptions.the_past_beyond_the_hour_is_told_from_other_errors,
    )
    with laboratory_in(database, Settings()) as laboratory:
        for assumption in reads:
            with pytest.raises(Refuted):
                assumption(laboratory)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((), "--project"), (("--project", "some-project"), "--yes")],
)
def test_a_real_project_must_be_named_and_confirmed(arguments: tuple[str, ...], message: str) -> None:
    done = check(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
