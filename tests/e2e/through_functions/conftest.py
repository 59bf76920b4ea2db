"""The functions under test: those that the environment names, or else a runner's of our own.

Inside `python -m scripts.serve -- pytest tests/e2e`, or under the Firebase CLI, FUNCTION_URLS and its companions are set, and
the tests use what runs there.
"""

import base64
import json
import os
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest
from google.cloud import firestore

from runner.session import Session, call, running
from tests.e2e.through_functions.app import App, Drain


@dataclass
class Running:
    """Functions that run somewhere; see tests.e2e.through_functions.app.Functions."""

    client: firestore.Client
    urls: Mapping[str, str]
    admin_url: str | None
    """The embedded Firestore's; None with another one."""
    session: Session | None
    """The runner, when it is ours."""

    def deliver(self, name: str, body: bytes, headers: Mapping[str, str]) -> int:
        """POST an event to a function as the platform does; returns the status."""
        if "/functions/projects/" in self.urls[name]:  # the functions emulator of the Firebase CLI
            body = base64.b64encode(body)
        request = urllib.request.Request(self.urls[name], data=body, headers=dict(headers))
        with urllib.request.urlopen(request) as response:
            status: int = response.status
            return status

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
        yield Running(client, json.loads(urls), os.environ.get("FIRESTORE_ADMIN_URL"), None)
        return
    logs: Path = tmp_path_factory.mktemp("logs")
    # A killed function's transactions hold their locks until they expire: 60 s in production, too long for a test.
    with running(logs=logs, arguments=["--emulator=--idle-timeout=2"]) as session:
        with patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": session.firestore_host}):
            client = firestore.Client(project=session.project)
            client._firestore_api  # noqa: B018 - connects now, and not only where the variable is gone
        yield Running(client, session.function_urls, session.admin_url, session)


@pytest.fixture
def concurrent_functions(functions: Running) -> Running:
    """Functions that work on many events at once."""
    if functions.session is None:
        pytest.skip("needs a function that works on many events at once: the Firebase CLI hands them over one by one")
    return functions


@pytest.fixture
def drain(functions: Running) -> Drain:
    """Returns when every event has been delivered and acknowledged."""

    def wait() -> None:
        if functions.admin_url is not None:
            call("POST", functions.admin_url + "/drain", {"timeoutSeconds": 100})
        else:
            _wait_for_quiet(functions.client)

    return wait


def _wait_for_quiet(client: firestore.Client, quiet_s: float = 3.0) -> None:
    """Another Firestore does not tell what is under way: wait until no record or fault has come for a while."""
    groups = [client.collection_group(name) for name in ("balanceEvents", "balanceFaults")]
    last, since = None, time.monotonic()
    while time.monotonic() - since < quiet_s:
        counts = [group.count().get()[0][0].value for group in groups]
        if counts != last:
            last, since = counts, time.monotonic()
        time.sleep(0.2)


@pytest.fixture
def app(functions: Running) -> App:
    """A group of its own for each test."""
    return App(functions.client)
