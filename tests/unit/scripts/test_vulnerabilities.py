"""The audit of dependencies: what is found fails, what is not known is told."""

import pytest

from scripts.cli import main
from scripts.developing import vulnerabilities

CLEAN = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": [], "description": ""}]}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited: c (3)"}


@pytest.mark.parametrize(
    ("dependencies", "strict", "relaxed"),
    [([CLEAN], 0, 0), ([CLEAN, BAD], 1, 1), ([BAD, UNKNOWN], 1, 1), ([CLEAN, UNKNOWN], 3, 0), ([UNKNOWN], 3, 0)],
)
def test_findings_fail_and_so_does_silence_unless_it_is_fine(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dependencies: list[dict[str, object]],
    strict: int,
    relaxed: int,
) -> None:
    monkeypatch.setattr(vulnerabilities, "run", lambda file: vulnerabilities.read(file, {"dependencies": dependencies}))
    assert (main(["audit", "x.txt"]), main(["audit", "--no-answer-is-fine", "x.txt"])) == (strict, relaxed)
    told = capsys.readouterr().out
    assert ("PYSEC-1" in told) == (BAD in dependencies)
    assert ("NOT AUDITED" in told) == (UNKNOWN in dependencies)


def test_a_service_out_of_reach_is_not_a_clean_bill(capsys: pytest.CaptureFixture[str]) -> None:
    # A file that pip-audit refuses stands for every way in which it may fail to answer.
    assert main(["audit", "no-such-file.txt"]) == 3
    assert "NOT AUDITED" in capsys.readouterr().out
