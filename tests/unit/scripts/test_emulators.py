"""What `balance emulators` refuses before it starts anything, and the virtual environment that it makes."""

import json
import socket
import sys
from pathlib import Path

import pytest

from scripts.cli import main
from scripts.command import Refused
from scripts.emulators import VENV, _runtime
from scripts.exits import Exit

ROOT = Path(__file__).parents[3]


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An app on a machine with no program at all."""
    ours = tmp_path / "balance-functions"
    ours.mkdir()
    (ours / "functions.yaml").write_text((ROOT / "functions.yaml").read_text())
    codebase = {"codebase": "balance", "source": "balance-functions"}
    (tmp_path / "firebase.json").write_text(json.dumps({"functions": [codebase]}))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def install_cli(app: Path) -> None:
    cli = app / "node_modules" / ".bin" / "firebase"
    cli.parent.mkdir(parents=True)
    cli.write_text("#!/bin/sh\nexit 1\n")
    cli.chmod(0o755)


def test_without_the_firebase_cli_it_says_how_to_get_it(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emulators"]) == Exit.REFUSED
    assert "`npm install --save-dev firebase-tools`" in capsys.readouterr().err


def test_the_official_firestore_and_no_other_is_refused_with_what_it_lacks(
    app: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install_cli(app)
    assert main(["emulators", "--firestore", "official"]) == Exit.REFUSED
    assert capsys.readouterr().err == (
        "balance emulators: the official Firestore emulator cannot be started: "
        "Java 21 or later is needed, and there is no Java\n"
    )


def test_a_cli_that_is_too_old_is_refused(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = app / "node_modules" / "firebase-tools"
    program = package / "lib" / "bin" / "firebase.js"
    program.parent.mkdir(parents=True)
    program.touch()
    (package / "package.json").write_text(json.dumps({"name": "firebase-tools", "version": "14.27.0"}))
    (app / "node_modules" / ".bin").mkdir()
    (app / "node_modules" / ".bin" / "firebase").symlink_to(program)
    assert main(["emulators"]) == Exit.REFUSED
    told = capsys.readouterr().err
    assert "firebase is of version 14.27; 15.34 or later is needed" in told


def test_a_port_in_use_is_told_with_what_moves_it(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install_cli(app)
    venv = app / "balance-functions" / VENV
    venv.mkdir()
    (venv / "pyvenv.cfg").write_text("version = 3.13.0\n")
    configuration = json.loads((app / "firebase.json").read_text())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ports = {"firestore": {"port": port}, "ui": {"enabled": False}}
        (app / "firebase.json").write_text(json.dumps({**configuration, "emulators": ports}))
        assert main(["emulators"]) == Exit.REFUSED
    assert f"port {port} is in use" in (told := capsys.readouterr().err)
    assert "for firestore under `emulators`" in told


def test_a_folder_outside_of_any_app_is_refused(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (app / "firebase.json").unlink()
    assert main(["emulators", "--source", "balance-functions"]) == Exit.REFUSED
    assert "there is no firebase.json in it or above" in capsys.readouterr().err


def test_a_firebase_json_that_cannot_be_read_is_told(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install_cli(app)
    (app / "firebase.json").write_text("{")
    assert main(["emulators", "--source", "balance-functions"]) == Exit.REFUSED
    assert "firebase.json cannot be read" in capsys.readouterr().err


def test_a_missing_virtual_environment_is_made(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").touch()
    assert _runtime(tmp_path) == f"python{sys.version_info.major}{sys.version_info.minor}"
    assert (tmp_path / VENV / "bin" / "activate").exists()


def test_one_that_is_there_says_its_version(tmp_path: Path) -> None:
    (tmp_path / VENV).mkdir()
    (tmp_path / VENV / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.13.0\n")
    assert _runtime(tmp_path) == "python313"


def test_one_that_cannot_be_filled_does_not_stay(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("./no-such-package.whl\n")
    with pytest.raises(Refused, match="venv cannot be made"):
        _runtime(tmp_path)
    assert not (tmp_path / VENV).exists()
