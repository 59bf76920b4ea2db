"""`balance explain` and `balance faults` before an embedded server."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.cli import main
from scripts.exits import Exit
from tests.integration.deployment import Deployment, deployment, expense

ROOT = Path(__file__).parents[3]
BALANCE = str(ROOT / "venv" / "bin" / "balance")


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        running.group("lisbon", "ana", "bo", "chidi")
        yield running


def settlement(payer: str, payee: str, amount: float) -> dict[str, object]:
    return {"groupId": "lisbon", "payerId": payer, "payeeId": payee, "amount": amount, "currency": "USD"}


def test_a_debt_is_explained_document_by_document(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    app.write("expenses/dinner", expense("lisbon", "ana", "USD", bo=30, chidi=5))
    app.write("settlements/back", settlement("bo", "ana", 12.5))
    assert main(["explain", "lisbon", "bo", "ana"]) == Exit.DONE
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert ["net", "bo", "owes 17.50 USD"] in rows
    assert ["net", "ana", "is owed 22.50 USD"] in rows
    assert ["pair", "bo owes ana 17.50 USD", "", ""] in rows
    assert [row[:3] for row in rows if "dinner" in row[1]] == [
        ["pair", "  expenses/dinner", "30.00 USD more"],
        ["pair", "  expenses/dinner", "5.00 USD more"],
    ]
    assert [row[:3] for row in rows if "back" in row[1]] == [["pair", "  settlements/back", "12.50 USD less"]]


def test_an_explanation_as_json_is_that_of_the_read_api(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    app.write("expenses/dinner", expense("lisbon", "ana", "USD", bo=30))
    assert main(["explain", "lisbon", "bo", "--json"]) == Exit.DONE
    told = json.loads(capsys.readouterr().out)
    assert told["byCurrency"]["USD"]["netBalances"] == {"bo": -30}
    assert told["byCurrency"]["USD"]["pairs"][0]["transactions"][0]["source"] == "expenses/dinner"


def test_nothing_to_explain_is_told(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "lisbon", "bo"]) == Exit.WRONG
    assert "bo" in capsys.readouterr().err
    assert main(["explain", "atlantis", "bo"]) == Exit.WRONG
    assert "there is no group 'atlantis'" in capsys.readouterr().err


def test_who_has_nothing_to_do_with_the_group_is_named(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    app.write("expenses/dinner", expense("lisbon", "ana", "USD", bo=30, left=5))
    for users, stranger in ((["bo", "zed"], "zed"), (["zed"], "zed"), (["zed", "bo"], "zed")):
        assert main(["explain", "lisbon", *users]) == Exit.WRONG
        out, err = capsys.readouterr()
        assert out == ""
        assert f"'{stranger}' is no member of lisbon" in err
    assert main(["explain", "lisbon", "bo", "left"]) == Exit.DONE, "who has left the group may still owe"
    assert main(["explain", "lisbon", "bo", "chidi"]) == Exit.DONE, "a member without a document is even"


def test_faults_are_told_by_reason_with_an_example(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    app.keeper.rebuild("lisbon")
    assert main(["faults"]) == Exit.DONE
    for name in ("one", "two"):
        app.deliver(app.write(f"expenses/{name}", {**expense("lisbon", b=1), "currency": 5}))
    app.deliver(app.write("expenses/nowhere", {**expense("", b=1)}))
    capsys.readouterr()
    assert main(["faults"]) == Exit.LEFT_OUT
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[:3] for row in rows] == [
        ["faults", "2", "currency is not a string"],
        ["faults", "1", "groupId is not a document id"],
    ]
    assert main(["faults", "lisbon", "--all"]) == Exit.LEFT_OUT
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {row[1] for row in rows} == {"expenses/one", "expenses/two"}
    assert main(["faults", "--json"]) == Exit.LEFT_OUT
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(fault["group"], fault["source"]) for fault in found} == {
        (None, "expenses/nowhere"), ("lisbon", "expenses/one"), ("lisbon", "expenses/two"),
    }  # fmt: skip
    assert main(["faults", "atlantis"]) == Exit.WRONG


@pytest.mark.parametrize("command", ["show lisbon", "explain lisbon b a", "faults", "verify", "backfill --dry-run"])
def test_the_first_line_says_what_it_talks_to(app: Deployment, command: str) -> None:
    app.deliver(app.expense("lisbon", "a", "USD", b=5))
    environment = {**os.environ, "AMOUNT_UNIT": "minor"}
    done = subprocess.run(
        [BALANCE, *command.split(), "--source", str(ROOT)],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    # In another unit the balance is stale.
    assert done.returncode == (Exit.WRONG if command == "verify" else Exit.DONE), done.stderr
    first, second = done.stderr.splitlines()[:2]
    assert first == f"emulator 127.0.0.1:{app.server.port}, project demo-test, database (default)"
    assert second.startswith("groups, expenses, settlements; minor units; adapter ")
    assert second.endswith("balance/adapter.py")
