"""What `balance dev` refuses before it starts anything, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.cli import main
from scripts.exits import Exit
from scripts.source import ADAPTER


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--firestore-port", "8200", "--admin-port", "8200"], "port 8200 is asked for twice"),
        (["--indexes", "nowhere.json"], "--indexes nowhere.json: there is no such file"),
    ],
)
def test_options_that_cannot_be_obeyed(options: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dev", *options, "--", "true"]) == Exit.REFUSED
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("def group(", "def group(:(", "SyntaxError"),
        ('DELETED_FIELD = "deletedAt"', "", "lacks DELETED_FIELD"),
    ],
)
def test_an_adapter_that_no_function_could_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, told: str
) -> None:
    assert main(["package", str(tmp_path)]) == 0
    adapter = (tmp_path / ADAPTER).read_text()
    assert old in adapter
    (tmp_path / ADAPTER).write_text(adapter.replace(old, new, 1))
    capsys.readouterr()
    assert main(["dev", "--source", str(tmp_path), "--", "true"]) == Exit.REFUSED
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{ADAPTER} cannot be loaded" in line
    assert told in line
