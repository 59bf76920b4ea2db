"""The script that checks the protocol's assumptions: on the embedded Firestore they hold, and it notices when one does not."""

from collections.abc import Iterator

import pytest

from emulator.engine import Settings
from scripts import check_assumptions
from tests.integration.served import PROJECT, Served, served

HOUR_US = 3_600_000_000


@pytest.fixture
def server() -> Iterator[Served]:
    with served() as running:
        yield running


def check(server: Served, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"127.0.0.1:{server.port}")
    return check_assumptions.main(["--project", PROJECT])


def test_every_assumption_holds_here_and_nothing_is_left_behind(
    server: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(server, monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(check_assumptions.OF_FIRESTORE)
    assert all(line.startswith("holds ") for line in lines)
    assert server.within(lambda: server.engine().sizes()["documents"]) == 0


def test_a_past_that_reaches_further_is_noticed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with served(Settings(retention_us=24 * HOUR_US)) as running:
        assert check(running, monkeypatch) == 1
    assert "REFUTED  the past beyond the hour" in capsys.readouterr().out


def test_the_project_must_be_named_and_confirmed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    assert check_assumptions.main([]) == 2
    assert "name the project" in capsys.readouterr().err
    assert check_assumptions.main(["--project", "somebody-elses"]) == 2
    assert "confirm with --yes" in capsys.readouterr().err
