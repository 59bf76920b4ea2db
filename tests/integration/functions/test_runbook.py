"""docs/runbook.md: every command of it is run before an embedded server, in the process of the test."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from balance.functions import nightly, tasks
from balance.operations.backfill import Filled, Step
from runner import manifest
from runner.manifest import ScheduleTrigger
from scripts.cli import main
from tests.integration.deployment import Deployment, deployment
from tests.integration.served import PROJECT

ROOT = Path(__file__).parents[3]
PLACES = {"PROJECT": PROJECT, "GROUP": "lisbon", "UID": "b"}
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        yield running


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", RUNBOOK, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_every_command_does_what_it_is_there_for(app: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueued: list[str] = []

    def send(group_id: str) -> Filled:
        enqueued.append(group_id)
        return Filled(group_id, Step.ENQUEUED, None)

    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setattr(tasks, "sender", lambda *_, **__: send)  # the queue itself: tests/e2e/test_rollout.py
    app.group("lisbon")
    app.deliver(app.expense("lisbon", "a", "USD", b=5))
    app.group("gone")
    app.deliver(app.expense("gone", "a", "USD", b=5))
    app.client.document("groups/gone").delete()
    app.clock.advance(hours=1)
    run = 0
    for line in commands():
        words = shlex.split(re.sub(r"\b(PROJECT|GROUP|UID)\b", lambda found: PLACES[found[0]], line), comments=True)
        if words[0] == "balance":
            assert main(words[1:]) == 0, line
        else:
            assert words[:5] == ["gcloud", "scheduler", "jobs", "run", f"firebase-schedule-{scheduled()}-us-central1"], line
            assert nightly.run(app.database, app.keeper).came_round
        run += 1
    assert run >= 9
    assert enqueued == ["lisbon"]
    assert not app.client.document("groups/gone/metadata/balance").get().exists


def scheduled() -> str:
    """The name of the scheduled function."""
    functions = manifest.read(ROOT / "functions.yaml", {}).functions
    (name,) = (function.name for function in functions if isinstance(function.trigger, ScheduleTrigger))
    return name


def test_fields_that_the_runbook_searches_for_are_logged() -> None:
    """Names of fields as the code writes them."""
    sources = "\n".join(path.read_text() for path in (ROOT / "balance").rglob("*.py"))
    for field in set(re.findall(r"jsonPayload\.(\w+)", RUNBOOK)):
        assert f"{field}=" in sources, field
