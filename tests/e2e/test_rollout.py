"""docs/rollout.md, every command of it, against the local runner: gcloud and the Firebase CLI are mapped onto it."""

import json
import os
import re
import shlex
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from google.cloud import firestore

from balance.database.sdk import connect
from balance.documents.balances import VERSION
from balance.documents.settings import Settings
from balance.operations.reconcile import State, check
from runner.session import Session, call, running
from scripts.cli import main
from scripts.developing.rollout.verdicts import essence
from scripts.unsigned_token import unsigned_token
from tests.integration.deployment import expense

ROOT = Path(__file__).parents[2]
PROJECT = "demo-rollout"
GROUPS = [f"g{index:02}" for index in range(12)]


def commands() -> dict[str, list[str]]:
    """The shell blocks of the document by their section, in which bold beginnings of paragraphs count too."""
    found: dict[str, list[str]] = {}
    section = ""
    text = (ROOT / "docs" / "rollout.md").read_text()
    for piece in re.finditer(r"^## ([^\n]+)$|^\*\*(Step \d)|^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        heading, step, block = piece.groups()
        if block is None:
            section = step or heading
        else:
            found.setdefault(section, []).append(block)
    return found


@dataclass
class Operator:
    """Somebody who follows the document."""

    session: Session
    client: firestore.Client
    state: Path
    blocks: dict[str, list[str]] = field(default_factory=commands)

    def follow(self, section: str) -> None:
        """Run the next block of a section, as it stands there."""
        block = self.blocks[section].pop(0)
        for name, value in (("PROJECT", PROJECT), ("CHANNEL", "123")):
            block = re.sub(rf"\b{name}\b", value, block)
        if all(line.startswith("balance ") for line in block.splitlines()):
            # The same without the time that a process takes to start.
            for line in block.splitlines():
                assert main(shlex.split(line)[1:]) == 0, line
            return
        environment = {
            **os.environ,
            "PATH": f"{ROOT}/tests/e2e/shims:{ROOT}/venv/bin:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "SHIM_STATE": str(self.state),
            "RUNNER_URL": self.session.runner_url,
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"

    def spend(self, group_id: str, amount: int) -> None:
        """The app writes an expense; its event is delivered."""
        self.client.collection("expenses").add(expense(group_id, "a", "USD", b=amount))
        self.session.drain()

    def stored(self, group_id: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.client.document(f"groups/{group_id}/metadata/balance").get().to_dict()
        return found

    def read(self, group_id: str) -> float:
        """What b owes a, as the API tells it."""
        url = f"{self.session.function_urls['balance_api']}/groups/{group_id}/balance"
        answer = call_with_token(url)
        amount: float = essence(answer)[0]["USD"]["b"]["owes"]["a"]
        return amount

    def states(self) -> set[State]:
        database = connect(PROJECT, "(default)")
        return {check(database, Settings(), group_id).state for group_id in GROUPS}

    def counted(self) -> list[str]:
        """The metrics that the read API has logged so far."""
        return re.findall(r'"metric": "(\w+)"', "\n".join(self.session.log_lines("balance_api")))


def call_with_token(url: str) -> Any:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {unsigned_token('a', PROJECT)}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    (tmp_path / "state").mkdir()
    with running(project=PROJECT, logs=tmp_path / "logs") as session:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", session.firestore_host)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
        client = firestore.Client(project=PROJECT)
        # Years of data, from before there were triggers.
        triggers = call("GET", session.admin_url + "/triggers")["triggers"]
        call("DELETE", session.admin_url + "/triggers")
        batch = client.batch()
        for group_id in GROUPS:
            batch.set(client.document(f"groups/{group_id}"), {"members": ["a", "b"]})
            batch.set(client.document(f"expenses/{group_id}"), expense(group_id, "a", "USD", b=10))
        batch.commit()
        for trigger in triggers:
            call("POST", session.admin_url + "/triggers", {name: value for name, value in trigger.items() if name != "pending"})
        monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", session.tasks_host)
        yield Operator(session, client, tmp_path / "state")


@pytest.mark.long
@pytest.mark.timeout(300)
def test_every_command_of_the_roll_out_and_the_roll_back(operator: Operator) -> None:
    operator.follow("Phase A: deploy, compatible")
    assert operator.read("g00") == 10
    assert "fallbackCalculations" in operator.counted()
    operator.spend("g01", 5)
    assert operator.read("g01") == 15
    assert operator.stored("g02") is None

    operator.follow("Phase B: backfill")
    assert all(operator.stored(group_id) for group_id in GROUPS)
    operator.follow("Phase B: backfill")
    assert operator.session.drain_queue("rebuild-balance")["completed"] == len(GROUPS)
    operator.follow("Phase B: backfill")
    assert operator.states() == {State.TRUE}

    operator.follow("Phase C: monitor")
    assert len(list(operator.state.glob("policy-*"))) == len(list((ROOT / "deploy/monitoring/alerts").iterdir()))
    assert len(list(operator.state.glob("metric-*"))) == len(list((ROOT / "deploy/monitoring/metrics").iterdir()))
    operator.follow("Phase C: monitor")
    assert any("reconciliation: 12 true" in line for line in operator.session.log_lines("reconcile_balances"))

    operator.follow("Phase D: remove the fallback")
    assert operator.read("g00") == 10
    operator.client.document("groups/g00/metadata/balance").delete()
    with pytest.raises(urllib.error.HTTPError) as refused:
        operator.read("g00")
    assert refused.value.code >= 500
    assert "BALANCE_READ_ERROR" in refused.value.read().decode()
    operator.follow("Phase D: remove the fallback")
    assert operator.read("g00") == 10

    # Step 1: whatever is stored, reads are right.
    stored = operator.stored("g03")
    assert stored is not None
    stored["balancesByCurrency"]["USD"]["a"]["owedBy"]["b"] = stored["balancesByCurrency"]["USD"]["b"]["owes"]["a"] = 99
    stored["balancesByCurrency"]["USD"]["a"]["netBalance"], stored["balancesByCurrency"]["USD"]["b"]["netBalance"] = 99, -99
    stored["simplifiedDebts"][0]["amount"] = 99
    operator.client.document("groups/g03/metadata/balance").set(stored)
    assert operator.read("g03") == 99
    operator.follow("Step 1")
    assert operator.read("g03") == 10

    # Step 2: events become gaps, balances stale, reads stay right.
    operator.follow("Step 2")
    operator.spend("g04", 7)
    operator.spend("g04", 1)
    assert operator.read("g04") == 18
    marked = operator.stored("g04")
    assert marked is not None
    assert marked["version"] == 0
    assert marked["balancesByCurrency"]["USD"]["b"]["owes"]["a"] == 10
    outcomes = [record.get("outcome") for record in operator.client.collection("groups/g04/balanceEvents").get()]
    assert outcomes == ["DISABLED"] * 2
    assert operator.states() == {State.TRUE, State.STALE, State.DRIFT}

    operator.client.document("groups/g03/metadata/balance").delete()
    operator.follow("Forward again")
    assert operator.states() == {State.TRUE}
    before = len(operator.counted())
    assert (operator.read("g04"), operator.read("g03")) == (18, 10)
    assert operator.counted()[before:] == ["precomputedReads"] * 2
    operator.spend("g04", 2)
    assert operator.read("g04") == 20

    # Step 3: newer code has written balances, and the code before it must take over.
    operator.client.document("groups/g05/metadata/balance").update({"version": VERSION + 1})
    operator.follow("Step 3")
    assert operator.states() == {State.TRUE}
    assert operator.read("g05") == 10

    # A new version finds what the one before it wrote.
    operator.client.document("groups/g06/metadata/balance").update({"version": VERSION - 1})
    operator.follow("A new version")
    assert operator.states() == {State.TRUE}
    assert operator.read("g06") == 10

    assert not any(operator.blocks.values()), "a command of the document was not run"
    operator.blocks = commands()
    operator.follow("Phase C: monitor")  # a second time everything exists, and is updated
