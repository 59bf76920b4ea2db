"""The runner as its users start it, on a small project of its own: real processes, real HTTP, real signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.launch import ROOT
from tests.e2e.waiting import PATIENCE_S, eventually, family, is_alive

NOTES = Path(__file__).parent / "fixtures" / "notes"


def serve(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run it to its end, with one function only."""
    command = [sys.executable, "-m", "scripts.serve", "--source", str(NOTES), "--only", "tell_environment", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(environment or {})}, capture_output=True, text=True, timeout=60
    )


def test_a_command_finds_everything_in_its_environment_and_its_exit_code_is_the_runners() -> None:
    program = (
        "import json, os, sys, urllib.request\n"
        "urls = json.loads(os.environ['FUNCTION_URLS'])\n"
        "for url in (os.environ['FIRESTORE_ADMIN_URL'], os.environ['RUNNER_URL'], urls['tell_environment']):\n"
        "    urllib.request.urlopen(url).read()\n"
        "from google.cloud import firestore\n"
        "firestore.Client().document('a/b').set({'x': 1})\n"
        "print(os.environ['GOOGLE_CLOUD_PROJECT'], sys.argv[1:])\n"
        "sys.exit(7)\n"
    )
    done = serve("--project", "demo-x", "--", sys.executable, "-c", program, "--chaos", "-x")
    assert (done.returncode, done.stdout) == (7, "demo-x ['--chaos', '-x']\n"), done.stderr
    assert "tell_environment" in done.stderr


def test_what_a_command_leaves_behind_is_ended() -> None:
    done = serve("--", "sh", "-c", "setsid sleep 300 & echo $!; kill -KILL $$")
    assert done.returncode == 128 + signal.SIGKILL
    assert not is_alive(int(done.stdout))


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "complaint"),
    [
        (["--", "no-such-program"], {}, 127, "no-such-program"),
        ([], {"REFUSE_TO_START": "1"}, 1, "I was told not to start"),
        (["--only", "nothing"], {}, 2, "there is no function 'nothing'"),
        (["--env", "AMOUNT_UNIT=cents", "--", "true"], {}, 2, "AMOUNT_UNIT is 'cents'; it must be major or minor"),
        (["--source", "/nowhere"], {}, 2, "/nowhere/functions.yaml"),
        (["--firestore-port", "x"], {}, 2, "--firestore-port"),
        (["--emulator=--mode=none", "--", "true"], {}, 1, "--mode"),
    ],
)
def test_what_cannot_be_run_is_explained(arguments: list[str], environment: dict[str, str], code: int, complaint: str) -> None:
    done = serve(*arguments, environment=environment)
    assert done.returncode == code, done.stderr
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("option", "moves"), [("--firestore-port", 0), ("--firestore-port", -1), ("--admin-port", 0), ("--runner-port", 0)]
)
def test_a_port_in_use_is_told_in_one_line(option: str, moves: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve(option, str(port + moves), "--", "true")
    # Without --admin-port that of Firestore's HTTP side is the next one.
    named = "--admin-port" if moves else option
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"port {port} is in use" in line
    assert line.endswith(named)


def test_the_addresses_are_one_block_whose_first_line_says_what_is_served() -> None:
    done = serve("--project", "demo-x", "--", "true")
    first, *rows = [line.split("  ") for line in done.stderr.splitlines() if "  " in line]
    assert [cell.strip() for cell in first if cell] == ["serving", str(NOTES), "project demo-x"]
    assert [row[0] for row in rows] == ["firestore", "its admin", "runner", "tell_environment"]
    assert all(next(cell.strip() for cell in row[1:] if cell).startswith("http://127.0.0.1:") for row in rows)


@dataclass
class Started:
    """A runner that waits, and the processes below it."""

    process: subprocess.Popen[str]
    processes: set[int]
    where: dict[str, Any]


@pytest.fixture
def start() -> Iterator[Callable[..., Started]]:
    started: list[Started] = []

    def starter(*arguments: str) -> Started:
        command = [sys.executable, "-m", "scripts.serve", "--source", str(NOTES), "--only", "tell_environment", *arguments]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        where = json.loads(process.stdout.readline())
        processes = eventually(lambda: len(found := family(process.pid)) >= 4 and found, "all processes run")
        started.append(Started(process, processes, where))
        return started[-1]

    yield starter
    for one in started:
        one.process.kill()
        one.process.wait(10)
        assert one.process.stdout is not None
        one.process.stdout.close()


def test_ctrl_c_stops_everything(start: Callable[..., Started]) -> None:
    started = start()
    started.process.send_signal(signal.SIGINT)
    assert started.process.wait(PATIENCE_S) == 0
    assert not any(map(is_alive, started.processes))


def test_nothing_survives_the_death_of_the_runner(start: Callable[..., Started]) -> None:
    started = start()
    started.process.kill()
    eventually(lambda: not any(map(is_alive, started.processes)), "all are gone")


def test_the_death_of_the_embedded_firestore_ends_the_run(start: Callable[..., Started]) -> None:
    started = start()
    with urllib.request.urlopen(started.where["adminUrl"]) as response:
        os.kill(json.load(response)["pid"], signal.SIGKILL)
    assert started.process.wait(PATIENCE_S) == 1
    assert not any(map(is_alive, started.processes))


def test_a_command_that_is_cut_short_has_not_succeeded(start: Callable[..., Started]) -> None:
    started = start("--", "sh", "-c", "echo '{}'; sleep 300")
    started.process.send_signal(signal.SIGTERM)
    assert started.process.wait(PATIENCE_S) == 128 + signal.SIGTERM
    assert not any(map(is_alive, started.processes))
