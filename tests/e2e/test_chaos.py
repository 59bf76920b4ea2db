"""The attack on real processes, short; and that its judge sees what is wrong."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from balance.database.firestore import Delete, Query, Set, Write, transaction
from balance.database.sdk import SdkFirestore, connect
from runner.session import Session, running
from scripts.developing.attack import PROJECT, Attack, attack, audit, judge

ROOT = Path(__file__).parents[2]


def chaos(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "scripts", "chaos", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)


def figures(table: str) -> dict[str, int]:
    """The table's lines that end in a number, by name."""
    rows = (line.rsplit(maxsplit=1) for line in table.splitlines())
    return {
        row[0].strip(): int(row[1].replace(",", "")) for row in rows if len(row) == 2 and row[1].replace(",", "").isdecimal()
    }


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.xdist_group("chaos")
def test_nothing_is_lost_or_doubled_by_processes_under_attack() -> None:
    done = chaos("--seed", "1", "--minutes", "0.25", "--rate", "10")
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
    seen = figures(done.stdout)
    assert seen["differences"] == seen["events given up"] == 0
    for name in ("writes", "events", "duplicates", "kills", "rebuilds by hand", "ABORTED", "outcome APPLIED"):
        assert seen[name] > 0, f"{name}: the attack was none"


@dataclass
class Attacked:
    """A database after an attack, everything delivered."""

    session: Session
    firestore: SdkFirestore
    assault: Attack

    def write(self, *writes: Write) -> None:
        """Write behind the functions' back, as a hand or a lost event would have it."""
        with transaction(self.firestore) as attempt:
            attempt.get([write.path for write in writes])
            attempt.commit(writes)

    def read(self, path: str) -> dict[str, Any]:
        """A document's fields."""
        (found,) = self.firestore.get([path])
        assert found.fields is not None, path
        return dict(found.fields)

    def group_with_debts(self) -> str:
        """The id of a group whose balance is not empty."""
        for group in self.firestore.query(Query(collection="groups")):
            (stored,) = self.firestore.get([group.path + "/metadata/balance"])
            if stored.fields is not None and stored.fields["simplifiedDebts"]:
                return group.path.split("/")[1]
        raise AssertionError("nobody owes anything: the attack was none")


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with running(project=PROJECT, logs=tmp_path_factory.mktemp("logs")) as session, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", session.firestore_host)
        firestore = connect(PROJECT, "(default)")
        assert isinstance(firestore, SdkFirestore)
        yield Attacked(session, firestore, attack(session, firestore, seed=1, seconds=4, writes_per_s=20))


def all_doubled(value: Any) -> Any:
    """A balance that contradicts nothing but the expenses: every amount in it twice what it was."""
    if isinstance(value, dict):
        return {name: all_doubled(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [all_doubled(inner) for inner in value]
    return 2 * value if isinstance(value, int | float) else value


def doubled(path: str, stored: dict[str, Any]) -> Write:
    amounts = {name: all_doubled(stored[name]) for name in ("balancesByCurrency", "simplifiedDebts")}
    return Set(path, {**stored, **amounts})


def without_suggestions(path: str, stored: dict[str, Any]) -> Write:
    return Set(path, {**stored, "simplifiedDebts": []})


def stale(path: str, stored: dict[str, Any]) -> Write:
    return Set(path, {**stored, "version": 0})


def gone(path: str, stored: dict[str, Any]) -> Write:
    return Delete(path)


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.xdist_group("chaos")
@pytest.mark.parametrize("corrupt", [doubled, without_suggestions, stale, gone])
def test_the_judge_names_the_group_whose_balance_was_corrupted(
    attacked: Attacked, corrupt: Callable[[str, dict[str, Any]], Write], capsys: pytest.CaptureFixture[str]
) -> None:
    group = attacked.group_with_debts()
    path = f"groups/{group}/metadata/balance"
    was = attacked.read(path)
    attacked.write(corrupt(path, was))
    try:
        assert judge(attacked.session, attacked.firestore, attacked.assault) == 1
    finally:
        attacked.write(Set(path, was))
    said = capsys.readouterr().out
    assert figures(said)["differences"] == 1
    assert group in said.splitlines()[0]
    assert judge(attacked.session, attacked.firestore, attacked.assault) == 0, "it was the corruption that it saw"


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.xdist_group("chaos")
@pytest.mark.parametrize(
    ("splits", "what", "count"),
    # A fault that was lost is missing, and is not counted.
    [([{"uid": "bo.b", "amount": 5}], "the balance of {group}:", 1), (7, "'expenses/lost'", 2)],
)
def test_the_judge_sees_that_an_event_was_lost(
    attacked: Attacked, splits: object, what: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    group = attacked.group_with_debts()
    source = "expenses/lost"
    expense = {"groupId": group, "paidBy": "ana", "amount": 5, "currency": "USD", "splits": splits}
    attacked.session.set_chaos(lose=1.0)
    try:
        attacked.write(Set(source, expense))
        assert judge(attacked.session, attacked.firestore, attacked.assault) == 1
        said = capsys.readouterr().out
        assert figures(said)["differences"] == count
        assert any(what.format(group=group) in line for line in said.splitlines())
    finally:
        attacked.write(Delete(source))
        attacked.session.set_chaos()
    assert audit(attacked.firestore) == []


@pytest.mark.parametrize("arguments", [("--minutes", "0"), ("--rate", "-1"), ("--seed", "x"), ("--no-such-flag",)])
def test_wrong_usage_is_told_apart(arguments: tuple[str, ...]) -> None:
    done = chaos(*arguments)
    assert done.returncode == 2
    assert arguments[0] in done.stderr
