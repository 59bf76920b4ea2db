"""The runner for tests and tools: start it, use it, have it gone at the end of the block."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from runner.launch import ROOT

STOP_S = 30.0


class CallFailed(Exception):
    """The runner or the embedded Firestore answered with an error; `status` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP status {status}: {text}")
        self.status = status


def call(method: str, url: str, data: Any = None, timeout_s: float = 600.0) -> Any:
    """Send and get JSON. Raises CallFailed."""
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, data=body, method=method, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        raise CallFailed(error.code, error.read().decode(errors="replace")) from None


@dataclass(frozen=True, slots=True)
class Session:
    """A running runner: where everything is, and what can be done to it."""

    project: str
    firestore_host: str
    admin_url: str
    runner_url: str
    pid: int
    function_urls: Mapping[str, str]
    logs: Path | None
    console_url: str | None = None

    @property
    def tasks_host(self) -> str:
        """Where the Admin SDKs enqueue tasks: CLOUD_TASKS_EMULATOR_HOST."""
        return urlsplit(self.runner_url).netloc

    def functions(self) -> dict[str, dict[str, Any]]:
        """What is known of each function: url, pid (its process group too), ready, restarts."""
        return {function["name"]: function for function in call("GET", self.runner_url + "/functions")["functions"]}

    def pid_of(self, function: str, timeout_s: float = 60.0) -> int:
        """The process that serves a function; waits for the next one when it is being started again."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            found = call("GET", f"{self.runner_url}/functions/{function}")
            if found["ready"] and found["pid"] is not None:
                pid: int = found["pid"]
                return pid
            time.sleep(0.05)
        raise TimeoutError(f"{function} was not started again within {timeout_s:g} s")

    def kill(self, function: str) -> None:
        """End a function's processes with SIGKILL; it is started again."""
        call("POST", f"{self.runner_url}/functions/{function}/kill")

    def deploy(self, function: str, environment: Mapping[str, str | None]) -> None:
        """Have a function go on with these variables (None: without)."""
        call("PUT", f"{self.runner_url}/functions/{function}/environment", dict(environment))

    def run_schedule(self, function: str) -> dict[str, Any]:
        """Call a scheduled function; returns its `status` and `body`. Raises CallFailed if it fails."""
        answer: dict[str, Any] = call("POST", f"{self.runner_url}/schedules/{function}/run")
        return answer

    def drain_queue(self, function: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until no task is left in the function's queue; returns its figures. Raises CallFailed."""
        data = {"timeoutSeconds": timeout_s}
        answer: dict[str, Any] = call("POST", f"{self.runner_url}/queues/{function}/drain", data, timeout_s + 10)
        return answer

    def drain(self, timeout_s: float = 60.0) -> None:
        """Wait until every event has been delivered and acknowledged. Raises CallFailed."""
        call("POST", self.admin_url + "/drain", {"timeoutSeconds": timeout_s}, timeout_s + 10)

    def statistics(self) -> dict[str, Any]:
        """The embedded Firestore's figures, with `delivery` among them."""
        found: dict[str, Any] = call("GET", self.admin_url + "/statistics")
        return found

    def set_chaos(self, **chaos: float | str) -> None:
        """How delivery misbehaves, by the names of `PUT /chaos`; nothing given ends it."""
        call("PUT", self.admin_url + "/chaos", chaos)

    def set_faults(self, *faults: Mapping[str, Any]) -> None:
        """Which RPCs fail, by the names of `PUT /faults`; nothing given ends it."""
        call("PUT", self.admin_url + "/faults", {"faults": [dict(fault) for fault in faults]})

    def log_lines(self, name: str) -> list[str]:
        """What a function (or "firestore") has said so far; wants `logs`."""
        if self.logs is None:
            raise ValueError("logs: the session was started without a folder for them")
        return (self.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()


@contextmanager
def running(
    *,
    source: Path = ROOT,
    project: str = "demo-test",
    logs: Path | None = None,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    console: bool = False,
) -> Iterator[Session]:
    """Run everything for the time of the block. `arguments` are more of `scripts.serve`'s, `environment` is for the functions.

    Raises RuntimeError when it does not start.
    """
    command = [
        *(sys.executable, "-m", "scripts.serve"),
        *("--source", str(source), "--project", project, "--exit-with-parent", str(os.getpid())),
        "--console" if console else "--no-console",
        *(("--logs", str(logs)) if logs is not None else ()),
        *(f"--env={name}={value}" for name, value in (environment or {}).items()),
        *arguments,
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True, text=True) as process:
        assert process.stdout is not None, "it is a pipe"
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the runner did not start (exit code {process.wait()}); it said why on standard error")
            where = json.loads(line)
            yield Session(
                project=where["project"],
                firestore_host=where["firestoreHost"],
                admin_url=where["adminUrl"],
                runner_url=where["runnerUrl"],
                pid=where["pid"],
                function_urls=where["functions"],
                logs=logs,
                console_url=where["companions"].get("console"),
            )
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
