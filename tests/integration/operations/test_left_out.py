"""Nothing is left out in silence: documents that are in no balance, and rules that differ, through the command line."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from balance.functions import nightly
from scripts.cli import main
from scripts.exits import Exit
from tests.integration.deployment import Deployment, deployment, expense

ROOT = Path(__file__).parents[3]
BALANCE = str(ROOT / "venv" / "bin" / "balance")


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        yield running


def summary(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code, and the documents of the last line."""
    capsys.readouterr()
    code = main([*arguments, "--json"])
    documents: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])["documents"]
    return code, documents


def written(app: Deployment) -> None:
    """A group with documents of every sort, before anybody knows of balances."""
    app.group("lisbon")
    app.expense("lisbon", "a", "USD", b=5)
    for name in ("one", "two"):
        app.write(f"expenses/{name}", {**expense("lisbon", b=1), "currency": "???"})
    app.write("expenses/sum", {**expense("lisbon", b=1), "amount": 9})
    app.write("expenses/gone", {**expense("lisbon", b=1), "deletedAt": app.database.get(["a/b"])[0].read_time})


TOLD = {"parsed": 2, "deleted": 1, "ignored": 0, "malformed": 2, "mismatches": 1, "mismatch": "expenses/sum"}


def same(documents: dict[str, Any]) -> bool:
    (alike,) = documents["malformedBy"]
    assert (alike["field"], alike["count"]) == ("currency", 2)
    assert "'???' is not an ISO 4217 code" in alike["reason"]
    assert alike["example"] in ("expenses/one", "expenses/two")
    return {name: value for name, value in documents.items() if name != "malformedBy"} == TOLD


def test_every_command_tells_what_is_in_no_balance(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    written(app)
    code, documents = summary(capsys, "backfill", "--dry-run")
    assert code == Exit.LEFT_OUT
    assert same(documents)
    code, documents = summary(capsys, "backfill")
    assert code == Exit.LEFT_OUT
    assert same(documents)
    code, documents = summary(capsys, "verify")
    assert code == Exit.LEFT_OUT
    assert same(documents)
    code, documents = summary(capsys, "show", "lisbon")
    assert code == Exit.DONE
    assert same(documents)
    # A group that is skipped is not read; its balance and its faults know what it lacks.
    code, documents = summary(capsys, "backfill")
    assert (code, documents["malformed"], documents["parsed"]) == (Exit.LEFT_OUT, 2, 0)
    assert documents["malformedBy"][0]["count"] == 2
    assert main(["verify"]) == Exit.LEFT_OUT
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert ["documents", "2", "documents malformed"] in rows
    assert any(row[0] == "documents" and row[1] == "2" and "such as expenses/" in row[2] for row in rows)
    assert any(row[0] == "documents" and row[1] == "1" and "do not add up" in row[2] for row in rows)


def test_documents_of_no_usable_group_are_told_too(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    app.group("lisbon")
    app.expense("lisbon", "a", "USD", b=5)
    app.deliver(app.write("expenses/nowhere", {**expense("", b=1)}))
    for command in ("backfill", "verify"):
        code, documents = summary(capsys, command)
        assert (code, documents["malformed"], documents["parsed"]) == (Exit.LEFT_OUT, 1, 1), command


def test_nothing_left_out_is_exit_code_0(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    app.group("lisbon")
    app.expense("lisbon", "a", "USD", b=5)
    for command in ("backfill", "verify", "backfill"):
        code, documents = summary(capsys, command)
        assert (code, documents["malformed"]) == (Exit.DONE, 0), command


def adopted(tmp_path: Path, adapter: str = "", **parameters: str) -> Path:
    """The functions in a folder of their own, with other code at the end of their adapter."""
    folder = tmp_path / "functions"
    subprocess.run([BALANCE, "package", str(folder)], check=True, capture_output=True)
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in parameters.items()))
    with (folder / "balance" / "adapter.py").open("a") as file:
        file.write(adapter)
    return folder


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([BALANCE, *arguments], cwd="/", env=os.environ, capture_output=True, text=True, check=False)


def test_an_adapter_under_which_all_is_malformed_is_no_success(app: Deployment, tmp_path: Path) -> None:
    for group_id in ("g1", "g2", "g3"):
        app.group(group_id)
        app.write(f"expenses/{group_id}", {**expense(group_id, b=1), "currency": None, "money": "USD"})
    folder = adopted(tmp_path)
    for command in (["backfill", "--dry-run"], ["backfill"], ["verify"]):
        done = run(*command, "--source", str(folder))
        assert done.returncode == Exit.LEFT_OUT, done.stdout + done.stderr
        assert "documents\t3\tof these: currency is not a string, such as expenses/g" in done.stdout


def test_an_adapter_that_finds_no_group_is_an_error(app: Deployment, tmp_path: Path) -> None:
    for group_id in ("g1", "g2", "g3"):
        app.group(group_id)
        app.write(f"expenses/{group_id}", {"trip": group_id, **expense(group_id, b=1)})
    folder = adopted(tmp_path, '\nGROUP_ID_FIELD = "group"\n')
    for command in ("backfill", "verify"):
        done = run(command, "--source", str(folder))
        assert done.returncode == Exit.WRONG, done.stdout + done.stderr
        assert "there are 3 documents in expenses, but not one belongs to a group that was read" in done.stderr
        assert "GROUP_ID_FIELD" in done.stderr


def test_an_app_whose_documents_are_all_new_has_nothing_wrong(app: Deployment, tmp_path: Path) -> None:
    """verify reads the history as of the last recalculation, which here was before the first expense."""
    app.group("lisbon")
    app.keeper.rebuild("lisbon")
    app.deliver(app.expense("lisbon", "a", "USD", b=5))
    # It makes nobody a debtor, so there is no record of it.
    app.deliver(app.expense("lisbon", "a", "USD", a=5))
    done = run("verify", "--source", str(adopted(tmp_path)))
    assert (done.returncode, "not one belongs" in done.stderr) == (Exit.DONE, False), done.stdout + done.stderr
    assert "documents\t1\tdocuments written later, known by their records" in done.stdout


def test_documents_that_no_record_tells_of_are_no_error_either(app: Deployment, tmp_path: Path) -> None:
    app.group("lisbon")
    app.keeper.rebuild("lisbon")
    app.deliver(app.expense("lisbon", "a", "USD", a=5))
    done = run("verify", "--source", str(adopted(tmp_path)))
    assert done.returncode == Exit.DONE, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("adapter", "parameters"),
    [("", {"AMOUNT_UNIT": "minor"}), ("\ndef settlement(fields):\n    return None\n", {}), ("", {"EPOCH": "1"})],
)
def test_who_reads_by_other_rules_than_the_functions_may_not_write(
    app: Deployment, tmp_path: Path, adapter: str, parameters: dict[str, str]
) -> None:
    app.group("lisbon")
    app.keeper.rebuild("lisbon")
    app.deliver(app.expense("lisbon", "a", "USD", b=5))
    before = app.balance("lisbon")
    folder = adopted(tmp_path, adapter, **parameters)
    for command in ("backfill", "verify --repair"):
        done = run(*command.split(), "--source", str(folder))
        assert done.returncode == Exit.REFUSED, done.stdout + done.stderr
        assert before["rules"] in done.stderr
        assert "--force" in done.stderr
    assert app.balance("lisbon") == before
    looked = run("verify", "--source", str(folder))
    assert looked.returncode == Exit.WRONG
    assert "warning: the deployed functions wrote last" in looked.stderr
    for command in ("show lisbon", "explain lisbon b", "faults"):
        assert "warning: the deployed functions wrote last" in run(*command.split(), "--source", str(folder)).stderr
    assert run("backfill", "--force", "--source", str(folder)).returncode == Exit.DONE
    assert app.balance("lisbon")["rules"] != before["rules"]
    shutil.rmtree(folder)


# The nightly run.


def logged(capsys: pytest.CaptureFixture[str], metric: str) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [entry for entry in entries if entry.get("metric") == metric]


def test_the_nightly_run_tells_documents_and_a_jump_of_the_malformed_once(
    app: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    app.group("lisbon")
    for _ in range(30):
        app.expense("lisbon", "a", "USD", b=5)
    app.keeper.rebuild("lisbon")

    def night() -> list[dict[str, Any]]:
        capsys.readouterr()
        ran = nightly.run(app.database, app.keeper)
        entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        (run,) = [entry for entry in entries if entry.get("metric") == "nightlyRuns"]
        assert run["documents"] == ran.tally.as_json()
        return [entry for entry in entries if entry.get("metric") == "malformedJumps"]

    assert night() == []
    app.deliver(app.write("expenses/one", {**expense("lisbon", b=1), "currency": None}))
    assert night() == [], "one in thirty is no jump"
    for number in range(5):
        app.deliver(app.write(f"expenses/bad-{number}", {**expense("lisbon", b=1), "currency": None}))
    (jump,) = night()
    assert jump["severity"] == "ERROR"
    assert "16.7% of the documents are in no balance, up from 3.2%; most often currency is not a string" in jump["message"]
    assert jump["documents"]["malformed"] == 6
    assert night() == [], "it is told once"


def test_a_mismatch_is_counted_when_its_event_comes(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    app.group("lisbon")
    app.keeper.rebuild("lisbon")
    run = nightly.run(app.database, app.keeper)
    assert run.tally.mismatches == 0
    app.write("expenses/sum", {**expense("lisbon", b=1), "amount": 9})
    app.keeper.rebuild("lisbon")
    assert nightly.run(app.database, app.keeper).tally.mismatch == "expenses/sum"
