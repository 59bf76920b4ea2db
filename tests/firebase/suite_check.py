"""`balance emulators` in the repository of an app that has functions of its own. Run by `make test-firebase`."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.cloud import firestore

from tests.e2e.documented import anywhere
from tests.firebase.app_check import dinner, eventually, nets
from tests.firebase.run import HERE, OFFLINE, firestore_options

ROOT = HERE.parents[1]
ENVIRONMENT = {**os.environ, **OFFLINE, "PATH": f"{HERE}/node_modules/.bin:{ROOT}/venv/bin:{os.environ['PATH']}"}


@pytest.fixture
def app() -> Iterator[Path]:
    """The app's repository, with our functions packaged into it. What the command makes there must be gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "app"
        shutil.copytree(HERE / "app", app)
        (app / "functions" / "node_modules").symlink_to(HERE / "node_modules")
        ours = app / "balance-functions"
        subprocess.run([ROOT / "venv/bin/balance", "package", ours], check=True, capture_output=True)
        (ours / "venv").symlink_to(ROOT / "venv")
        yield app
        assert [path.name for path in [*app.glob(".*"), *ours.glob(".env*")]] == []


def balance_emulators(app: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Our command, as documented: in the app's folder. On any free port, where the embedded Firestore is used."""
    assert "balance emulators" in anywhere("docs/quickstart.md")
    command = ["balance", "emulators", *firestore_options(), "--emulator=--port=0", *arguments]
    return subprocess.Popen(command, cwd=app, env=ENVIRONMENT, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)


def heard(process: "subprocess.Popen[str]", pattern: str) -> str:
    """Wait until the command says so, and return what was looked for."""
    assert process.stderr is not None
    for line in process.stderr:
        sys.stderr.write(line)
        if found := re.search(pattern, line):
            return found[1]
    raise AssertionError(f"it ended with {process.wait()} and never said {pattern!r}")


@pytest.mark.timeout(400)
def test_each_write_reaches_the_apps_functions_and_ours(app: Path) -> None:
    tests = ["python", "-m", "pytest", "-p", "no:cacheprovider", str(HERE / "app_check.py")]
    with balance_emulators(app, "--", "env", "-C", str(ROOT), *tests) as process:
        _, said = process.communicate()
        sys.stderr.write(said)
    assert process.returncode == 0


@pytest.mark.timeout(400)
@pytest.mark.skipif(os.environ.get("OFFICIAL", "") not in ("", "0"), reason="its port is told by the embedded Firestore only")
def test_it_runs_until_it_is_stopped(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with balance_emulators(app, "--firestore", "embedded") as process:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", heard(process, r"the embedded Firestore: (\S+),"))
        heard(process, r"(on_group_deleted) gets the events")
        client = firestore.Client(project="demo-balance")
        client.document("groups/lisbon").set({"members": ["ana", "bo"]})
        client.document("expenses/dinner").set(dinner(25))
        eventually(lambda: nets(client, "lisbon"), {"ana": 12.5, "bo": -12.5})
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
        sys.stderr.write(said)
    assert process.returncode == 0


@pytest.mark.timeout(400)
def test_it_ends_as_the_command_does(app: Path) -> None:
    with balance_emulators(app, "--", "sh", "-c", "exit 7") as process:
        process.communicate()
    assert process.returncode == 7
