"""`make test-firebase`: the end-to-end tests through the real Firebase CLI and its emulators, started by `balance emulators`.

The CLI loads functions.yaml, starts the Python functions, and brings the Auth and Cloud Tasks emulators, which are part of it.
First our functions alone, then the packaged ones beside an app's own functions in Node. The Firestore behind them is the
official emulator where it can be started, else the embedded one; the run says which. Nothing is left running afterwards.

Usage: python -m tests.firebase.run [pytest arguments]
Environment: OFFICIAL=1: on the official Firestore emulator, or not at all.
Exit codes: pytest's; 1 when something does not start; 2 when what was asked for is missing here.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from runner import firebase_cli

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "firebase"
CLI = HERE / "node_modules" / ".bin" / "firebase"
OFFLINE = {"CI": "1", "METADATA_SERVER_DETECTION": "none", "NO_UPDATE_NOTIFIER": "1"}
PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider")
TESTS = ("tests/firebase/package_check.py", "tests/e2e/through_functions")
MISSING = 2


def main() -> int:
    install_cli()
    if is_official() and (obstacle := firebase_cli.obstacle_to_official_firestore(CLI)) is not None:
        print(f"test-firebase: the official Firestore emulator cannot be started: {obstacle}", file=sys.stderr)
        return MISSING
    return functions_alone() or beside_an_app()


def install_cli() -> None:
    """The CLI at the version of the lock file, once."""
    if not CLI.exists() or (HERE / "package-lock.json").stat().st_mtime > CLI.lstat().st_mtime:
        print("installing the Firebase CLI (once)", flush=True)
        npm = shutil.which("npm")
        if npm is None:
            sys.exit("test-firebase: npm is needed to install the Firebase CLI, and was not found: install Node 20 or later")
        subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=HERE, check=True)
        os.utime(CLI, follow_symlinks=False)


def firestore_options() -> list[str]:
    """Which Firestore `balance emulators` is to use."""
    return ["--firestore", "official"] if is_official() else []


def is_official() -> bool:
    """Whether only the official Firestore emulator will do."""
    return os.environ.get("OFFICIAL", "") not in ("", "0")


def functions_alone() -> int:
    """Our functions as they stand in this repository."""
    options = ["--source", str(ROOT), *firestore_options(), "--indexes", "deploy/firestore.indexes.json"]
    # A killed function's transactions hold their locks until they expire: 60 s in production, too long for a test.
    options += ["--emulator=--idle-timeout=2", "--emulator=--port=0", "--firebase=--log-verbosity", "--firebase=QUIET"]
    command = [sys.executable, "-m", "scripts", "emulators", *options, "--", *PYTEST, *TESTS, *sys.argv[1:]]
    environment = {**os.environ, **OFFLINE, "PATH": f"{CLI.parent}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def beside_an_app() -> int:
    """The packaged functions in the repository of an app that has its own."""
    return subprocess.run([*PYTEST, "tests/firebase/suite_check.py"], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
