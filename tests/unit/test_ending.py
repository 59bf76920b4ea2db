"""Tests that are told to end take with them what they have started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SLOW_TEST = """
import subprocess, time
from collections.abc import Callable
from pathlib import Path

def test_slow():
    with subprocess.Popen(["sleep", "300"]) as started:
        try:
            Path(__file__).with_name("pid").write_text(str(started.pid))
            time.sleep(300)
        finally:
            started.kill()
"""


@pytest.mark.parametrize("blow", [signal.SIGTERM, signal.SIGKILL])
def test_ended_tests_leave_nothing_running(tmp_path: Path, blow: signal.Signals) -> None:
    (tmp_path / "test_slow.py").write_text(SLOW_TEST)
    pid_file = tmp_path / "pid"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(ROOT)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "1",
        "-p",
        "tests.conftest",
        "-p",
        "no:cacheprovider",
        "test_slow.py",
    ]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as tests:
        try:
            wait_for(lambda: pid_file.exists() and pid_file.read_text() != "")
            started = int(pid_file.read_text())
            tests.send_signal(blow)
            wait_for(lambda: not is_running(started))
            tests.wait(30)
        finally:
            tests.kill()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(is_over: Callable[[], bool], timeout_s: float = 60.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not is_over():
        assert time.monotonic() < end_s
        time.sleep(0.1)
