"""`balance show` before an embedded server."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from balance.core.money import Unit
from balance.documents import rules
from balance.documents.balances import VERSION
from scripts import output
from scripts.cli import main
from tests.integration.deployment import Deployment, deployment, expense

ROOT = Path(__file__).parents[3]


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        running.group("lisbon", "ana", "bo [admin]", "chidi")
        yield running


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns, without colours."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")


def fill(app: Deployment) -> None:
    app.keeper.rebuild("lisbon")
    app.deliver(app.expense("lisbon", "ana", "USD", **{"bo [admin]": 12.5}))
    app.deliver(app.expense("lisbon", "ana", "JPY", chidi=700))
    app.deliver(app.write("expenses/odd", {**expense("lisbon", "ana", "USD", chidi=1), "currency": "???"}))


@pytest.mark.usefixtures("terminal")
def test_a_group_is_shown_as_tables_of_80_columns(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    fill(app)
    assert main(["show", "lisbon"]) == 0
    text = capsys.readouterr().out
    for expected in (
        "current", "-12.50 USD", "owes ana 12.50 USD", "is owed by bo [admin] 12.50 USD", "-700 JPY", "APPLIED",
        "bo [admin] owes ana 12.50 USD more", "chidi owes ana 700 JPY more", "expenses/odd", "is not an ISO 4217 code",
    ):  # fmt: skip
        assert expected in text, expected
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


@pytest.mark.usefixtures("terminal")
def test_long_uids_are_shortened_in_the_middle_or_replaced_by_names(
    app: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    long, other = "Zx81kTq2bVgHs9YwLmNcRpEuJd43", "Zx81kTq2aaaaaaaaaaaaaaaaaaaa"
    app.group("porto", long, other)
    app.keeper.rebuild("porto")
    app.deliver(app.expense("porto", long, "USD", **{other: 5}))
    app.client.document(f"users/{long}").set({"displayName": "Ana Sousa", "nick": "ana"})
    assert main(["show", "porto"]) == 0
    text = capsys.readouterr().out
    assert "Zx81kTq2…uJd43" not in text
    assert "Zx81kTq2…" + long[-7:] in text
    assert long not in text
    assert max(map(len, text.splitlines())) <= 80
    assert main(["show", "porto", "--names", "users"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "owes Ana Sousa 5.00 USD more" in text
    assert f"Zx81kTq2…{other[-7:]} pays Ana Sousa" in text
    assert main(["show", "porto", "--names", "users:nick"]) == 0
    assert "owes ana 5.00 USD more" in " ".join(capsys.readouterr().out.split())
    assert main(["show", "porto", "--names", "users/x"]) == 2


def test_in_a_pipe_there_are_plain_columns_and_nothing_is_shortened(
    app: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(app)
    assert main(["show", "lisbon", "--names", "users"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert ["group", "balance", "current"] in rows
    assert ["balance", "bo [admin]", "-12.50 USD", "owes ana 12.50 USD"] in rows
    assert ["suggestion", "bo [admin] pays ana", "12.50 USD"] in rows
    assert ["record", "", "", "  chidi owes ana 700 JPY more"] in rows
    assert [row[1] for row in rows if row[0] == "fault"] == ["expenses/odd"]


@pytest.mark.usefixtures("terminal")
def test_a_change_is_shown_in_major_units_and_in_words(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    app.keeper.rebuild("lisbon")
    app.deliver(app.write("expenses/dinner", expense("lisbon", "chidi", "KWD", ana=1234.5, bo=7)))
    app.deliver(app.write("expenses/dinner", expense("lisbon", "chidi", "KWD", ana=1233, bo=8)))
    assert main(["show", "lisbon"]) == 0
    text = capsys.readouterr().out
    for debt in ("chidi owes ana 1,234.500 KWD less", "chidi owes bo 7.000 KWD less"):  # what they owe chidi has gone up
        assert debt in text
    for debt in ("chidi owes ana 1.500 KWD more", "chidi owes bo 1.000 KWD less"):
        assert debt in text


@pytest.mark.parametrize(
    ("delta", "shown"),
    [({"USD": {"p": {"a": -5000}}}, "p owes a 50.00 USD less"), ({"XXX": {"p": {"a": 5}}}, "p owes a ? XXX more"),
     ({"USD": {"p": {"a": "5"}}}, "p owes a ? USD more"), ({"USD": {"p": 5}}, "?"), (None, "?")],
)  # fmt: skip
def test_a_record_of_anything_is_shown(delta: object, shown: str) -> None:
    assert [output._plain(cell) for cell in output.changes(delta, Unit.MAJOR)] == [shown]


def test_json_holds_the_stored_document_and_the_newest_records_first(
    app: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(app)
    for amount in (1, 2, 3):
        app.deliver(app.expense("lisbon", "ana", "USD", chidi=amount))
    assert main(["show", "lisbon", "--json", "--records", "2"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert seen["balance"]["balancesByCurrency"]["USD"]["chidi"]["netBalance"] == -6
    assert seen["members"] == ["ana", "bo [admin]", "chidi"]
    assert [record["delta"] for record in seen["records"]] == [{"USD": {"chidi": {"ana": cents}}} for cents in (300, 200)]
    assert seen["faults"][0]["source"] == "expenses/odd"


def test_a_group_without_balance_and_a_group_that_is_not_there(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "lisbon"]) == 0
    assert "missing" in capsys.readouterr().out
    assert main(["show", "atlantis"]) == 1
    assert "there is no group 'atlantis' in groups" in capsys.readouterr().err
    assert main(["show", "a/b"]) == 2


@pytest.mark.parametrize("wrong", ["EXPENSES_COLLECTION=expenditures", "EXPENSES_COLLECTION=groups/{groupId}/expenditures"])
def test_a_collection_that_does_not_exist_is_told(app: Deployment, capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    app.write("expenses/dinner", expense("lisbon", "ana", "USD", chidi=1))
    app.write("settlements/of-others", {"groupId": "porto", "payerId": "a", "payeeId": "b", "amount": 1, "currency": "USD"})
    assert main(["show", "lisbon"]) == 0
    assert "there is no document" not in capsys.readouterr().err
    assert main(["show", "lisbon", "--param", wrong]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "there is no document" in line]
    assert told == [f"there is no document in {wrong.partition('=')[2]}: is EXPENSES_COLLECTION right?"]


@pytest.mark.parametrize(
    "balance",
    [
        {"balancesByCurrency": "lost", "simplifiedDebts": "lost"},
        {"balancesByCurrency": {"USD": "lost"}, "simplifiedDebts": [5, {"from": 1}]},
        {"balancesByCurrency": {"USD": {"ana": {"owes": 5}}}, "simplifiedDebts": None, "asOf": "never"},
    ],
)
def test_a_corrupt_balance_is_shown_as_it_is(
    app: Deployment, capsys: pytest.CaptureFixture[str], balance: dict[str, object]
) -> None:
    app.set_balance("lisbon", {"version": VERSION, "rules": str(rules.current(app.keeper.settings)), **balance})
    app.client.document("groups/lisbon/balanceEvents/x").set({"appliedAt": "never", "delta": ["lost"]})
    assert main(["show", "lisbon"]) == 0
    assert "corrupt" in capsys.readouterr().out


def test_watch_looks_again_until_it_is_interrupted(app: Deployment) -> None:
    command = [sys.executable, "-m", "scripts", "show", "lisbon", "--watch", "--json"]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["balance"] is None
    fill(app)
    while json.loads(process.stdout.readline())["balance"] is None:
        pass
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130


def test_who_reads_no_more_has_seen_enough(app: Deployment) -> None:
    fill(app)
    command = f"set -o pipefail; {sys.executable} -m scripts show lisbon --records 1000 | head -1"
    for _ in range(3):
        done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "group\tgroup\tlisbon\n"), done.stderr
        assert "Traceback" not in done.stderr
        assert "BrokenPipe" not in done.stderr


def test_no_colours_when_none_are_wanted(app: Deployment) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts", "show", "lisbon"],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", "FORCE_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\x1b[3" not in done.stdout
