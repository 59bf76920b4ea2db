"""docs/quickstart.md, step by step, as a team would follow it: real processes in a folder of their own."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from google.cloud import firestore

from runner.processes import free_port
from tests.e2e.waiting import PATIENCE_S, eventually

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "quickstart.md").read_text()
PROJECT = "demo-balance"


def block(language: str, holding: str) -> str:
    """The one block of that language with this text."""
    found: str
    (found,) = [body for body in re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL) if holding in body]
    return found


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FIRESTORE_", "GOOGLE_", "FUNCTION"))}
    return {**kept, "PATH": f"{ROOT}/venv/bin:{os.environ['PATH']}", **more}


def sh(command: str, folder: Path, **more: str) -> str:
    done = subprocess.run(
        ["bash", "-euc", command], cwd=folder, env=environment(**more), capture_output=True, text=True, check=False, timeout=90
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def left_running(command: str, folder: Path) -> Iterator[None]:
    """Until it says where everything is; ended with Ctrl-C."""
    process = subprocess.Popen(
        command.split(), cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        assert json.loads(process.stdout.readline())["project"] == PROJECT
        yield
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
        process.stdout.close()


@pytest.mark.timeout(120)
def test_five_minutes_lead_to_a_balance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app, here = tmp_path / "my-app", tmp_path / "balance"
    app.mkdir()
    here.mkdir()
    sh(block("sh", "balance package"), here)
    (app / "balance-functions" / ".env").write_text(block("sh", "GROUPS_COLLECTION"))
    (app / "firebase.json").write_text(block("json", "codebase"))
    port = free_port()
    run = block("sh", "balance dev").replace("8080", str(port)).strip()
    with left_running(run, app):
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"127.0.0.1:{port}")
        client = firestore.Client(project=PROJECT)
        # What the block in JavaScript writes.
        script = block("js", "expenses/dinner")
        assert re.findall(r'db\.doc\("([^"]+)"\)', script) == ["groups/lisbon", "expenses/dinner"]
        client.document("groups/lisbon").set({"members": ["ana", "bo"]})
        splits = [{"uid": uid, "amount": 12.5} for uid in ("ana", "bo")]
        client.document("expenses/dinner").set(
            {"groupId": "lisbon", "paidBy": "ana", "amount": 25, "currency": "EUR", "splits": splits}
        )
        balance = client.document("groups/lisbon/metadata/balance")
        # The group's creation makes one, still empty.
        eventually(lambda: (balance.get().to_dict() or {}).get("simplifiedDebts"), "the expense is in the balance")
        variables = dict(re.findall(r"(\w+)=(\S+)", block("sh", "export FIRESTORE_EMULATOR_HOST")))
        variables["FIRESTORE_EMULATOR_HOST"] = variables["FIRESTORE_EMULATOR_HOST"].replace("8080", str(port))
        terminal = {"TTY_COMPATIBLE": "1", "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
        shown = sh(block("sh", "balance show"), app, **variables, **terminal)
        printed = [line.rstrip() for line in shown.splitlines()]
        for line in TEXT[TEXT.index("group          lisbon") :].partition("```")[0].splitlines():
            assert not line.strip() or line == "..." or line.rstrip() in printed, line
        assert "expenses: of 1 document 1 posts; currencies EUR (1)" in sh(block("sh", "balance doctor"), app, **variables)
        assert "`balance verify`" in TEXT
        assert "groups\t1\ttrue" in sh("balance verify", app, **variables)
