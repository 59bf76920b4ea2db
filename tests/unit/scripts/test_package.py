"""`balance package`: a new version replaces the one before, and leaves alone what is the app's."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.cli import main
from scripts.exits import Exit
from scripts.package import deployed_files
from scripts.source import ADAPTER, ROOT


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_package_holds_what_is_deployed_and_a_gitignore(tmp_path: Path) -> None:
    assert main(["package", str(tmp_path / "functions")]) == 0
    assert files(tmp_path / "functions") == {".gitignore", *map(str, deployed_files())}
    assert "venv/" in (tmp_path / "functions" / ".gitignore").read_text().splitlines()


def test_a_new_version_removes_what_it_no_longer_has_and_leaves_what_is_the_apps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["package", str(tmp_path)]) == 0
    own = {".env": "EPOCH=1\n", ".gitignore": "mine\n", "notes.py": "# mine\n"}
    for name, text in own.items():
        (tmp_path / name).write_text(text)
    adapter = (tmp_path / ADAPTER).read_text() + "# edited\n"
    (tmp_path / ADAPTER).write_text(adapter)
    (tmp_path / "balance" / "store.py").write_text("# of an older version\n")
    capsys.readouterr()
    assert main(["package", str(tmp_path)]) == 0
    assert "balance/store.py is removed" in capsys.readouterr().out
    assert not (tmp_path / "balance" / "store.py").exists()
    assert {name: (tmp_path / name).read_text() for name in own} == own
    assert (tmp_path / ADAPTER).read_text() == adapter


@pytest.mark.parametrize(
    "removed", ['DELETED_FIELD = "deletedAt"', 'MEMBERS_FIELD = "members"', "def group(fields: Fields) -> Fields:"]
)
def test_an_adapter_that_lags_behind_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], removed: str) -> None:
    assert main(["package", str(tmp_path)]) == 0
    text = (ROOT / ADAPTER).read_text()
    assert removed in text
    (tmp_path / ADAPTER).write_text(
        text.replace(removed, "def other(fields: Fields) -> Fields:" if "def" in removed else "x = 1")
    )
    assert main(["package", str(tmp_path)]) == 1
    name = removed.removeprefix("def ").split("(")[0].split(" ")[0]
    assert f"lacks {name}:" in capsys.readouterr().err


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "index.js").touch()
    for folder, fault in ((tmp_path, "holds no functions.yaml"), (tmp_path / "index.js", "is no folder"), (ROOT, "itself")):
        assert main(["package", str(folder)]) == Exit.REFUSED
        assert fault in capsys.readouterr().err
    assert files(tmp_path) == {"index.js"}


def test_an_adapter_that_is_no_python_is_told_before_anything_is_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["package", str(tmp_path)]) == 0
    (tmp_path / ADAPTER).write_text("def expense(:\n")
    (tmp_path / "main.py").write_text("# an older one\n")
    assert main(["package", str(tmp_path)]) == Exit.REFUSED
    assert "cannot be read as Python: invalid syntax" in capsys.readouterr().err
    assert (tmp_path / "main.py").read_text() == "# an older one\n"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["package", str(tmp_path / "file" / "functions")]) == Exit.REFUSED
    assert "cannot be written" in capsys.readouterr().err
