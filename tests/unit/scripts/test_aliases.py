"""Aliases of projects: which `.firebaserc` counts, and what a command says and reads of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner import dotenv
from scripts import source
from scripts.aliases import Project, resolve
from scripts.cli import main
from scripts.command import Refused
from scripts.exits import Exit

ALIASES = {"projects": {"default": "my-app", "staging": "my-app-staging"}}


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An app's repository, below which a command is called."""
    (tmp_path / "web" / "src").mkdir(parents=True)
    (tmp_path / "firebase.json").write_text("{}")
    (tmp_path / ".firebaserc").write_text(json.dumps(ALIASES))
    monkeypatch.chdir(tmp_path / "web" / "src")
    return tmp_path


@pytest.mark.parametrize(
    ("named", "project_id"), [("staging", "my-app-staging"), ("my-app-staging", None), ("stagin", None), ("demo-x", None)]
)
def test_an_alias_stands_for_its_project_and_any_other_name_for_itself(app: Path, named: str, project_id: str | None) -> None:
    expected = Project(project_id, named, app / ".firebaserc") if project_id else Project(named)
    assert resolve(named, None) == expected


def test_the_file_beside_the_nearest_firebase_json_counts(app: Path) -> None:
    (app / "web" / ".firebaserc").write_text('{"projects": {"staging": "another"}}')
    assert resolve("staging", None).id == "my-app-staging", "as for the CLI: there is no firebase.json beside it"
    (app / "web" / "firebase.json").write_text("{}")
    assert resolve("staging", None).id == "another"
    (app / "web" / ".firebaserc").unlink()
    assert resolve("staging", None) == Project("staging")


def test_the_folder_of_the_functions_that_was_named_comes_before_the_working_folder(app: Path) -> None:
    functions = app / "other" / "functions"
    functions.mkdir(parents=True)
    assert resolve("staging", functions).id == "my-app-staging"
    (app / "other" / "firebase.json").write_text("{}")
    (app / "other" / ".firebaserc").write_text('{"projects": {"staging": "another"}}')
    assert resolve("staging", functions).id == "another"


def test_without_a_firebase_json_there_are_no_aliases(app: Path) -> None:
    (app / "firebase.json").unlink()
    assert resolve("staging", None) == Project("staging")


@pytest.mark.parametrize("text", ["{", "[]", '{"projects": []}', "\udcff"])
def test_a_file_that_cannot_be_read_is_named(app: Path, text: str) -> None:
    (app / ".firebaserc").write_text(text, errors="surrogateescape")
    with pytest.raises(Refused, match=r"\.firebaserc cannot be read"):
        resolve("staging", None)


@pytest.mark.parametrize("text", ["{}", '{"projects": {"staging": 5}}'])
def test_a_file_without_the_alias_has_none(app: Path, text: str) -> None:
    (app / ".firebaserc").write_text(text)
    assert resolve("staging", None) == Project("staging")


def test_a_command_says_which_project_an_alias_stands_for(
    app: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"NO_GCE_CHECK": "true", "HOME": str(app)}.items():
        monkeypatch.setenv(name, value)
    for name in ("FIRESTORE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS", "BALANCE_SOURCE"):
        monkeypatch.delenv(name, raising=False)
    codebase = {"codebase": "balance", "source": str(source.ROOT)}
    (app / "firebase.json").write_text(json.dumps({"functions": [codebase]}))
    assert main(["show", "lisbon", "--project", "staging"]) == Exit.REFUSED
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first == f"PRODUCTION, project my-app-staging (staging in {app / '.firebaserc'}), database (default)"
    assert "no credentials for my-app-staging" in last
    assert main(["show", "lisbon", "--project", "stagin"]) == Exit.REFUSED
    assert capsys.readouterr().err.startswith("PRODUCTION, project stagin, database (default)\n")


def test_the_parameters_of_an_alias_are_those_that_the_cli_deploys(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\nB=1\n")
    (tmp_path / ".env.staging").write_text("B=2\n")
    assert dotenv.load(tmp_path, "my-app-staging", "staging") == {"A": "1", "B": "2"}
    assert dotenv.load(tmp_path, "my-app-staging") == {"A": "1", "B": "1"}
    (tmp_path / ".env.my-app-staging").write_text("B=3\n")
    with pytest.raises(dotenv.InvalidDotenv, match="only one of them"):
        dotenv.load(tmp_path, "my-app-staging", "staging")
