"""scripts.show before an embedded server."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from balance.documents import rules
from balance.documents.balances import VERSION
from scripts import show
from tests.integration.deployment import Deployment, deployment, expense

ROOT = Path(__file__).parents[3]


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        running.group("lisbon", "ana", "bo [admin]", "chidi")
        monkeypatch.setenv("COLUMNS", "200")
        yield running


def fill(app: Deployment) -> None:
    app.keeper.rebuild("lisbon")
    app.deliver(app.expense("lisbon", "ana", "USD", **{"bo [admin]": 12.5}))
    app.deliver(app.expense("lisbon", "ana", "JPY", chidi=700))
    app.deliver(app.write("expenses/odd", {**expense("lisbon", "ana", "USD", chidi=1), "currency": "???"}))


def test_a_group_is_shown_as_tables(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    fill(app)
    assert show.main(["lisbon"]) == 0
    text = capsys.readouterr().out
    for expected in ("current", "bo [admin]", "-12.5", "JPY", "APPLIED", "expenses/odd", "is not an ISO 4217 code"):
        assert expected in text, expected
    assert "bo [admin] owes ana +12.50 USD" in text
    assert "chidi owes ana +700 JPY" in text


def test_a_change_is_shown_in_major_units_with_its_sign(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    app.keeper.rebuild("lisbon")
    app.deliver(app.write("expenses/dinner", expense("lisbon", "chidi", "KWD", ana=1234.5, bo=7)))
    app.deliver(app.write("expenses/dinner", expense("lisbon", "chidi", "KWD", ana=1233, bo=8)))
    assert show.main(["lisbon"]) == 0
    text = capsys.readouterr().out
    for debt in ("chidi owes ana -1,234.500 KWD", "chidi owes bo -7.000 KWD"):  # what they owe chidi has gone up
        assert debt in text
    for debt in ("chidi owes ana +1.500 KWD", "chidi owes bo -1.000 KWD"):
        assert debt in text


@pytest.mark.parametrize(
    ("delta", "shown"),
    [({"USD": {"p": {"a": -5000}}}, "p owes a -50.00 USD"), ({"XXX": {"p": {"a": 5}}}, "p owes a ? XXX"),
     ({"USD": {"p": {"a": "5"}}}, "p owes a ? USD"), ({"USD": {"p": 5}}, "?"), (None, "?")],
)  # fmt: skip
def test_a_record_of_anything_is_shown(delta: object, shown: str) -> None:
    assert show._delta(delta) == shown


def test_json_holds_the_stored_document_and_the_newest_records_first(
    app: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(app)
    for amount in (1, 2, 3):
        app.deliver(app.expense("lisbon", "ana", "USD", chidi=amount))
    assert show.main(["lisbon", "--json", "--records", "2"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert seen["balance"]["balancesByCurrency"]["USD"]["chidi"]["netBalance"] == -6
    assert seen["members"] == ["ana", "bo [admin]", "chidi"]
    assert [record["delta"] for record in seen["records"]] == [{"USD": {"chidi": {"ana": cents}}} for cents in (300, 200)]
    assert seen["faults"][0]["source"] == "expenses/odd"


def test_a_group_without_balance_and_a_group_that_is_not_there(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    assert show.main(["lisbon"]) == 0
    assert "missing" in capsys.readouterr().out
    assert show.main(["atlantis"]) == 1
    assert "does not exist" in capsys.readouterr().out
    assert show.main(["a/b"]) == 2


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
    assert show.main(["lisbon"]) == 0
    assert "corrupt" in capsys.readouterr().out


def test_watch_looks_again_until_it_is_interrupted(app: Deployment) -> None:
    command = [sys.executable, "-m", "scripts.show", "lisbon", "--watch", "--json"]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["balance"] is None
    fill(app)
    while json.loads(process.stdout.readline())["balance"] is None:
        pass
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130


def test_no_colours_when_none_are_wanted(app: Deployment) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.show", "lisbon"],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", "FORCE_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\x1b[3" not in done.stdout


def test_help_names_every_flag_exit_code_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        show.main(["--help"])
    text = capsys.readouterr().out
    for expected in ("--watch", "--records", "--json", "--project", "  1  ", "python -m scripts.show --project my-app lisbon"):
        assert expected in text
