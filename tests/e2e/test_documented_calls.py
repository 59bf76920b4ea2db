"""Every call of `balance` in our documents is run: here those of the documents that have no test of their own."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.cloud import firestore

from runner.session import Session, running
from tests.e2e.documented import documents, in_blocks
from tests.integration.deployment import expense

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "demo-documents"
TESTED_ELSEWHERE = {
    "docs/quickstart.md": "tests/e2e/test_quickstart.py",
    "docs/rollout.md": "tests/e2e/test_rollout.py",
    "docs/runbook.md": "tests/integration/functions/test_runbook.py",
    "examples/households/README.md": "tests/e2e/test_examples.py",
}
CALLS = [(document, line) for document in documents() if document not in TESTED_ELSEWHERE for line in in_blocks(document)]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with running(project=PROJECT, logs=tmp_path_factory.mktemp("logs")) as started:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FIRESTORE_EMULATOR_HOST", started.firestore_host)
            client = firestore.Client(project=PROJECT)
        for group_id in ("lisbon", "porto"):
            client.document(f"groups/{group_id}").set({"members": ["a", "b"]})
            client.document(f"expenses/{group_id}").set(expense(group_id, "a", "USD", b=12.5))
        started.drain()
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `../my-app/balance-functions` are the functions of an app."""
    here = tmp_path_factory.mktemp("repositories") / "balance"
    here.mkdir()
    command = [str(ROOT / "venv/bin/balance"), "package", str(here.parent / "my-app" / "balance-functions")]
    subprocess.run(command, check=True, capture_output=True)
    return here


def test_documents_that_are_tested_elsewhere_are_read_there() -> None:
    for document, test in TESTED_ELSEWHERE.items():
        assert in_blocks(document)
        assert Path(document).name in (ROOT / test).read_text() or "README.md" in (ROOT / test).read_text()


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("document", "line"), CALLS)
def test_a_call_in_a_document_ends_well(session: Session, folder: Path, document: str, line: str) -> None:
    line = re.sub(r"(?<![\w/-])(PROJECT|YOUR-PROJECT|my-staging|my-app)(?![\w/-])", PROJECT, line).replace("GROUP", "lisbon")
    environment = {
        **os.environ,
        "PATH": f"{ROOT}/venv/bin:{os.environ['PATH']}",
        "BALANCE_SOURCE": str(folder.parent / "my-app" / "balance-functions"),
        "FIRESTORE_EMULATOR_HOST": session.firestore_host,
        "GOOGLE_CLOUD_PROJECT": PROJECT,
    }
    goes_on = any(word in line for word in ("balance dev", "balance console", "--watch"))
    with subprocess.Popen(
        ["bash", "-euc", "exec " * goes_on + line],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        if goes_on:
            assert process.stdout is not None
            assert process.stdout.readline()
            os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=100)
    # Ctrl-C is how `balance dev` and `balance console` end; --watch is interrupted by it.
    assert process.returncode == (130 if "--watch" in line else 0), f"{document}: {line}\n{out[-2000:]}\n{err[-2000:]}"
