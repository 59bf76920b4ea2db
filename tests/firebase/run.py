"""`make test-firebase`: the end-to-end tests through the real Firebase CLI and its emulators.

The CLI loads functions.yaml, starts the Python functions, and brings the Auth and Cloud Tasks emulators, which are part of it.
The Firestore behind them is the official emulator where it can be started (Java 21 and its jar, present or downloadable), else
the embedded one; the run says which. Nothing is left running afterwards.

Usage: python -m tests.firebase.run [pytest arguments]
Exit codes: pytest's; 1 when something does not start; 3 when processes are left that could not be ended.
"""

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from runner.processes import adopt_orphans, descendants, end_descendants

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "firebase"
CLI = HERE / "node_modules" / ".bin" / "firebase"
CONFIG = ROOT / "firebase.test.json"
PROJECT = "demo-balance"
OFFLINE = {
    "CI": "1",
    "METADATA_SERVER_DETECTION": "none",
    "NO_UPDATE_NOTIFIER": "1",
    # One Python process per function, as in production; else the CLI starts one for each concurrent event.
    "FUNCTIONS_EMULATOR_PARALLEL": "1",
}
LEFTOVERS = 3


def main() -> int:
    adopt_orphans()
    install_cli()
    with parameters_as_they_were(), runtime_of_this_python():
        obstacle = obstacle_to_official_firestore()
        if obstacle is None:
            print("test-firebase: the Firestore is the official emulator", flush=True)
            code = run_cli("functions,auth,firestore", {})
        else:
            print(f"test-firebase: the Firestore is the embedded one; the official emulator: {obstacle}", flush=True)
            with embedded_firestore() as environment:
                code = run_cli("functions,auth", environment)
    # The gunicorn servers that the CLI started and forgot.
    asyncio.run(end_descendants(5.0))
    left = descendants()
    if left:
        print(f"test-firebase: these processes are left: {left}", file=sys.stderr)
    return code or (LEFTOVERS if left else 0)


def install_cli() -> None:
    """The CLI at the version of the lock file, once."""
    if not CLI.exists() or (HERE / "package-lock.json").stat().st_mtime > CLI.lstat().st_mtime:
        print("installing the Firebase CLI (once)", flush=True)
        npm = shutil.which("npm")
        if npm is None:
            sys.exit("test-firebase: npm is needed to install the Firebase CLI, and was not found: install Node 20 or later")
        subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=HERE, check=True)
        CLI.touch()


def obstacle_to_official_firestore() -> str | None:
    """Why the official Firestore emulator cannot be started, or None when it can."""
    java = shutil.which("java")
    if java is None:
        return "no Java"
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', told)
    if version is None or int(version[1]) < 21:
        return f"Java 21 is needed, this is {version[1] if version else 'unknown'}"
    jars = Path.home() / ".cache" / "firebase" / "emulators"
    if any(jars.glob("cloud-firestore-emulator-*.jar")):
        return None
    with suppress(subprocess.TimeoutExpired):
        found = subprocess.run([CLI, "setup:emulators:firestore"], cwd=ROOT, check=False, timeout=120, capture_output=True)
        if found.returncode == 0:
            return None
    return "its jar is neither here nor to be downloaded"


@contextmanager
def embedded_firestore() -> Iterator[dict[str, str]]:
    """The embedded Firestore, and the environment by which the CLI's functions find it."""
    command = [sys.executable, "-m", "emulator", "--port", "0", "--project", PROJECT, "--idle-timeout", "2"]
    command += ["--indexes", "deploy/firestore.indexes.json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None, "it is a pipe"
            where = json.loads(process.stdout.readline())
            yield {"FIRESTORE_EMULATOR_HOST": where["firestoreHost"], "FIRESTORE_ADMIN_URL": where["adminUrl"]}
        finally:
            process.terminate()


def run_cli(emulators: str, environment: Mapping[str, str]) -> int:
    """`emulators:exec` with the tests inside; returns its exit code."""
    inside = [sys.executable, "-m", "tests.firebase.inside", *sys.argv[1:]]
    command = [
        str(CLI),
        "emulators:exec",
        "--config",
        CONFIG.name,
        "--only",
        emulators,
        "--project",
        PROJECT,
        "--log-verbosity",
        "QUIET",
        shlex.join(inside),
    ]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **OFFLINE, **environment}, check=False).returncode


@contextmanager
def parameters_as_they_were() -> Iterator[None]:
    """The CLI writes the parameters' defaults to .env.local: it must not stay, where it was not."""
    file = ROOT / ".env.local"
    before = file.read_bytes() if file.exists() else None
    try:
        yield
    finally:
        if before is None:
            file.unlink(missing_ok=True)
        else:
            file.write_bytes(before)


@contextmanager
def runtime_of_this_python() -> Iterator[None]:
    """A configuration whose runtime is the Python at hand: the CLI runs functions with the runtime's own, out of venv/."""
    configuration = json.loads((ROOT / "firebase.json").read_text())
    for codebase in configuration["functions"]:
        codebase["runtime"] = f"python{sys.version_info.major}{sys.version_info.minor}"
    CONFIG.write_text(json.dumps(configuration))
    try:
        yield
    finally:
        CONFIG.unlink()


if __name__ == "__main__":
    sys.exit(main())
