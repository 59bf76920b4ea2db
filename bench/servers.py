"""Functions to compare: each served in a process of its own, as the platform serves it, with a Firestore of its own.

"before" is the product as it was (`BASELINE`): a folder, or a commit of this repository, which is unpacked below build/. "node"
is the same trigger as most teams would write it in Node (node/). What cannot be had here, in a clone without history or on a
machine without Node, is left out, and standard error says so.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from google.cloud import firestore

from bench.measure import cpu_seconds, resident_bytes
from runner.function_server import platform_environment
from runner.manifest import Function, HttpsTrigger
from runner.processes import free_port
from runner.session import call

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / "build"
BASELINE = "1e0b08d"
"""The last commit whose triggers ran on threads, one transaction with locks for each batch of a group."""

TRIGGER = "on_expense_written"
CONCURRENCY = 80
PROJECT = "demo-bench"
START_S = 60.0


class Unavailable(Exception):
    """A server that cannot be run here; the message says why."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How to serve the trigger: a command, in a folder."""

    folder: Path
    command: tuple[str, ...]

    def launch(self, firestore_host: str, port: int) -> subprocess.Popen[bytes]:
        """Start its process, the leader of a group of its own."""
        function = Function(name=TRIGGER, entry_point=TRIGGER, trigger=HttpsTrigger(), timeout_s=120)
        environment = {
            **os.environ,
            **platform_environment(function, PROJECT),
            "FUNCTION_SIGNATURE_TYPE": "cloudevent",
            "FIRESTORE_EMULATOR_HOST": firestore_host,
            "PORT": str(port),
            "THREADS": str(CONCURRENCY),
            "PYTHONUNBUFFERED": "1",
            "NODE_ENV": "production",
        }
        command = [*self.command, "--target", TRIGGER, "--signature-type", "cloudevent", "--port", str(port)]
        # Node's functions-framework prints an error for the request by which we ask whether it answers.
        errors = subprocess.DEVNULL if self.folder.name == "node" else None
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
        )


def _python(folder: Path) -> Kind:
    return Kind(folder, (sys.executable, "-m", "functions_framework", "--source", "main.py", "--host", "127.0.0.1"))


def kinds(names: Sequence[str], baseline: str = BASELINE) -> dict[str, Kind]:
    """The kinds by these names, as far as they can be had here; says on standard error which cannot."""
    makers = {
        "ours": lambda: _python(ROOT),
        "before": lambda: _python(baseline_folder(baseline)),
        "nothing": lambda: _python(HERE / "nothing"),
        "nothing, threads": lambda: _python(HERE / "nothing_threads"),
        "obvious": lambda: _python(HERE / "naive"),
        "node": _node,
    }
    found = {}
    for name in names:
        try:
            found[name] = makers[name]()
        except Unavailable as error:
            sys.stderr.write(f"bench: without {name!r}: {error}\n")
    return found


def baseline_folder(baseline: str) -> Path:
    """The folder of the product as it was: `baseline` itself, or the commit unpacked. Raises Unavailable."""
    if (Path(baseline) / "main.py").exists():
        return Path(baseline).resolve()
    folder = BUILD / f"baseline-{baseline}"
    if (folder / "main.py").exists():
        return folder
    with subprocess.Popen(
        ["git", "archive", baseline, "main.py", "balance"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as archive:
        folder.mkdir(parents=True, exist_ok=True)
        unpacked = subprocess.run(["tar", "x"], cwd=folder, stdin=archive.stdout, stderr=subprocess.DEVNULL, check=False)
    if archive.returncode or unpacked.returncode:
        shutil.rmtree(folder)
        raise Unavailable(f"this repository does not hold the commit {baseline}; give a folder by --baseline")
    return folder


def _node() -> Kind:
    """Raises Unavailable."""
    folder = HERE / "node"
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        raise Unavailable("Node and npm are not installed")
    if not (folder / "node_modules" / ".package-lock.json").exists():
        install = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        if subprocess.run(install, cwd=folder, check=False).returncode:
            raise Unavailable("npm could not install its packages (see above)")
    return Kind(folder, (node, "node_modules/@google-cloud/functions-framework/build/src/main.js", "--source=."))


@dataclass(frozen=True, slots=True)
class Database:
    """An embedded Firestore."""

    host: str
    admin_url: str
    client: firestore.Client

    def drain(self) -> None:
        """Wait until every event has been delivered and acknowledged."""
        call("POST", self.admin_url + "/drain", {"timeoutSeconds": 600.0}, 610.0)

    def statistics(self) -> dict[str, Any]:
        """Its figures, with `delivery` among them."""
        found: dict[str, Any] = call("GET", self.admin_url + "/statistics")
        return found

    def send_to(self, port: int, pattern: str = "expenses/{expenseId}") -> None:
        """Have events delivered there."""
        trigger = {
            "pattern": pattern,
            "url": f"http://127.0.0.1:{port}/",
            "retry": True,
            "concurrency": CONCURRENCY,
            "timeoutSeconds": 120,
        }
        call("POST", self.admin_url + "/triggers", trigger)


@contextmanager
def database(*arguments: str) -> Iterator[Database]:
    """An embedded Firestore for the time of the block; `arguments` are more of its command's."""
    command = [sys.executable, "-m", "emulator", "--port", "0", "--project", PROJECT, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None, "it is a pipe"
            where = json.loads(process.stdout.readline())
            with patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": where["firestoreHost"]}):
                client = firestore.Client(project=PROJECT)
                client._firestore_api  # noqa: B018 - made on first use
            yield Database(where["firestoreHost"], where["adminUrl"].rstrip("/"), client)
        finally:
            process.terminate()


@dataclass(frozen=True, slots=True)
class Server:
    """A running function and its Firestore."""

    database: Database
    pid: int
    """Of its processes' group."""
    port: int

    def cpu_s(self) -> float:
        """The CPU time of the function so far."""
        return cpu_seconds(self.pid)

    def memory_bytes(self) -> int:
        """The resident memory of the function."""
        return resident_bytes(self.pid)


@contextmanager
def serving(kind: Kind, of: Database, pattern: str = "expenses/{expenseId}") -> Iterator[Server]:
    """The function, answering, for the time of the block."""
    port = free_port()
    process = kind.launch(of.host, port)
    try:
        _wait_for(port, process)
        of.send_to(port, pattern)
        yield Server(of, process.pid, port)
    finally:
        with suppress(ProcessLookupError):  # whoever measures a crash has killed it
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def all_serving(found: dict[str, Kind]) -> Iterator[dict[str, Server]]:
    """Each kind with a Firestore of its own."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(serving(kind, stack.enter_context(database()))) for name, kind in found.items()}


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/robots.txt", timeout=5).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise RuntimeError(f"the function does not answer (exit code {process.poll()})")
