"""The functions under test: those that the environment names, or else a runner's of our own.

Inside `python -m scripts.serve -- pytest tests/e2e`, or under the Firebase CLI, FUNCTION_URLS and its companions are set, and
the tests use what runs there.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.cloud import firestore

from runner.session import Session, call, running
from tests.e2e.app import App, Drain


@dataclass
class Running:
    """Functions that run somewhere; see tests.e2e.app.Functions."""

    client: firestore.Client
    urls: Mapping[str, str]
    admin_url: str
    session: Session | None
    """The runner, when it is ours."""

    def kill(self, name: str) -> None:
        """End a function's processes with SIGKILL, once it runs; it is started again."""
        if self.session is None:
            pytest.skip("only a runner of our own lets us kill functions")
        while not self.session.functions()[name]["ready"]:
            time.sleep(0.05)
        self.session.kill(name)

    def log_lines(self, name: str) -> list[str]:
        """What a function has printed so far."""
        if self.session is None:
            pytest.skip("only a runner of our own keeps the functions' output for us")
        return self.session.log_lines(name)


@pytest.fixture(scope="session")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    urls = os.environ.get("FUNCTION_URLS")
    if urls:
        client = firestore.Client(project=os.environ["GOOGLE_CLOUD_PROJECT"])
        yield Running(client, json.loads(urls), os.environ["FIRESTORE_ADMIN_URL"], None)
        return
    logs: Path = tmp_path_factory.mktemp("logs")
    # A killed function's transactions hold their locks until they expire: 60 s in production, too long for a test.
    with running(logs=logs, arguments=["--emulator=--idle-timeout=2"]) as session, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", session.firestore_host)
        client = firestore.Client(project=session.project)
        yield Running(client, session.function_urls, session.admin_url, session)


@pytest.fixture
def drain(functions: Running) -> Drain:
    """Returns when every event has been delivered and acknowledged."""

    def wait() -> None:
        call("POST", functions.admin_url + "/drain", {"timeoutSeconds": 60})

    return wait


@pytest.fixture
def app(functions: Running) -> App:
    """A group of its own for each test."""
    return App(functions.client)
