"""`balance console` as people start it: a process that prints its address, and is stopped by Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.deployment import Deployment
from tests.integration.deployment import deployment as deployed

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, str(ROOT / "scripts"), "console"]


@pytest.fixture
def deployment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployed(monkeypatch) as made:
        yield made


@contextmanager
def console(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running one, and its URL."""
    with subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())["url"]
        finally:
            process.kill()


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as response:
            found: int = response.status
            return found
    except urllib.error.HTTPError as error:
        return error.code


def test_it_prints_an_address_that_opens_and_ends_with_ctrl_c(deployment: Deployment) -> None:
    deployment.group("lisbon", "ana")
    with console("--project", "demo-test") as (process, url):
        assert status(url) == 200
        assert status(url + "groups/lisbon") == 200
        assert status(url.rpartition("/")[0].rpartition("/")[0] + "/") == 404, "without the token"
        assert status(url, Host="evil.example") == 403
        assert url.startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_an_open_stream_does_not_keep_it_from_ending(deployment: Deployment) -> None:
    deployment.group("lisbon", "ana")
    with console("--project", "demo-test") as (process, url), urllib.request.urlopen(url + "groups/lisbon/live") as stream:
        assert stream.readline().startswith(b"data: ")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_port_that_is_taken_is_an_error_in_plain_words(deployment: Deployment) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [*COMMAND, "--project", "demo-test", "--port", str(taken.getsockname()[1])],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert "balance console: port" in done.stderr


def test_production_must_be_named(deployment: Deployment) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "FIRESTORE_EMULATOR_HOST"}
    done = subprocess.run(COMMAND, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--project" in done.stderr
