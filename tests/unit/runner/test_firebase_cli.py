"""What is missing for the official Firestore emulator, and the configuration that the Firebase CLI is given on this machine."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner import firebase_cli
from runner.firebase_cli import InvalidConfiguration, adapted, obstacle_to_official_firestore

APP = Path("/app")
OURS = {"codebase": "balance", "source": "balance-functions", "runtime": "python314"}
THEIRS = {"codebase": "default", "source": "functions", "runtime": "nodejs22"}


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Java and without anything that the CLI has downloaded."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("FIREBASE_EMULATORS_PATH", str(tmp_path / "cache"))
    return tmp_path


def offline_cli(machine: Path) -> Path:
    return program(machine / "bin" / "firebase", "exit 1")


def java(machine: Path, version: str) -> None:
    program(machine / "bin" / "java", f"echo 'openjdk version \"{version}\" 2025-04-15' >&2")


def test_without_java_it_is_java_that_is_missing(machine: Path) -> None:
    assert obstacle_to_official_firestore(offline_cli(machine)) == "Java 21 or later is needed, and there is no Java"


@pytest.mark.parametrize(("version", "told"), [("17.0.15", "this is Java 17"), ("?", "this is of an unknown version")])
def test_with_an_older_java_it_is_the_version_that_is_missing(machine: Path, version: str, told: str) -> None:
    java(machine, version)
    (machine / "cache" / "cloud-firestore-emulator-v1.22.0.jar").touch()
    assert obstacle_to_official_firestore(offline_cli(machine)) == f"Java 21 or later is needed, and {told}"


def test_with_java_it_is_the_program_that_is_missing_where_it_cannot_be_downloaded(machine: Path) -> None:
    java(machine, "21.0.1")
    told = obstacle_to_official_firestore(offline_cli(machine))
    assert told == "its program (a jar of 130 MB) is neither on this machine nor to be downloaded"


def test_nothing_is_missing_where_the_cli_downloads_it(machine: Path) -> None:
    java(machine, "21.0.1")
    cli = program(machine / "bin" / "firebase", f'echo "$@" > {machine}/asked')
    assert obstacle_to_official_firestore(cli) is None
    assert (machine / "asked").read_text() == "setup:emulators:firestore\n"


def test_nothing_is_missing_where_it_has_been_downloaded(machine: Path) -> None:
    java(machine, "25")
    (machine / "cache" / "cloud-firestore-emulator-v1.22.0.jar").touch()
    assert obstacle_to_official_firestore(offline_cli(machine)) is None


def changed(configuration: dict[str, Any], *, official: bool = False, ui: bool = True) -> dict[str, Any]:
    source = APP / "balance-functions"
    return adapted(configuration, app=APP, source=source, runtime="python311", official_firestore=official, ui=ui)


def test_only_our_codebase_gets_another_runtime() -> None:
    configuration = {"functions": [THEIRS, OURS], "hosting": {"public": "web"}}
    found = changed(configuration)
    assert found["functions"] == [THEIRS, {**OURS, "runtime": "python311"}]
    assert found["hosting"] == {"public": "web"}
    assert OURS["runtime"] == "python314", "the app's own is left alone"
    assert changed({"functions": OURS})["functions"]["runtime"] == "python311"


def test_the_cli_starts_a_firestore_only_where_it_is_the_official_one() -> None:
    configuration = {
        "functions": [OURS],
        "firestore": {"rules": "firestore.rules"},
        "emulators": {"firestore": {"port": 8181}, "auth": {"port": 9099}},
    }
    embedded = changed(configuration)
    assert "firestore" not in embedded
    assert embedded["emulators"] == {"auth": {"port": 9099}}
    official = changed(configuration, official=True)
    assert official["firestore"] == {"rules": "firestore.rules"}
    assert official["emulators"] == configuration["emulators"]
    assert changed({"functions": [OURS]}, official=True)["emulators"] == {"firestore": {}}


def test_the_user_interface_is_left_out_where_it_is_not_there() -> None:
    assert changed({"functions": [OURS], "emulators": {"ui": {"port": 4001}}}, ui=False)["emulators"]["ui"] == {
        "enabled": False
    }
    assert changed({"functions": [OURS], "emulators": {"ui": {"port": 4001}}})["emulators"]["ui"] == {"port": 4001}


def test_a_configuration_without_our_codebase_is_told() -> None:
    with pytest.raises(InvalidConfiguration, match="names no codebase with the source /app/balance-functions"):
        changed({"functions": [THEIRS]})


def test_addresses_and_indexes_are_the_apps(tmp_path: Path) -> None:
    (tmp_path / "indexes.json").touch()
    configuration = {
        "firestore": {"indexes": "indexes.json"},
        "emulators": {"functions": {"host": "0.0.0.0", "port": 5005}},
    }
    assert firebase_cli.url(configuration, "functions") == "http://127.0.0.1:5005"
    assert firebase_cli.address(configuration, "firestore") == ("127.0.0.1", 8080)
    assert firebase_cli.index_file(configuration, tmp_path) == tmp_path / "indexes.json"
    assert firebase_cli.index_file({}, tmp_path) is None
    assert firebase_cli.index_file({"firestore": [{"database": "a", "indexes": "indexes.json"}]}, tmp_path) is None


def test_what_is_written_for_the_run_is_gone_afterwards(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    with firebase_cli.written({"functions": []}, tmp_path) as path, firebase_cli.parameters_kept(tmp_path / "ours"):
        assert json.loads(path.read_text()) == {"functions": []}
        (tmp_path / "ours" / ".env.local").write_text("EPOCH=0\n")
    assert [path.name for path in tmp_path.rglob("*")] == ["ours"]
    (tmp_path / ".env.local").write_text("EPOCH=1\n")
    with firebase_cli.parameters_kept(tmp_path):
        (tmp_path / ".env.local").write_text("EPOCH=1\nBALANCE_REGION=x\n")
    assert (tmp_path / ".env.local").read_text() == "EPOCH=1\n"
