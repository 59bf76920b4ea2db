"""Run the Firebase Emulator Suite with your app's functions and ours, on a Firestore that this machine has.

It is `firebase emulators:start` in the folder of your firebase.json, whatever that names: your functions, Auth, and so on.
The Firestore is the official emulator where its Java and its program are there, or can be downloaded; else the embedded one
(docs/quickstart.md says what that lacks). Events reach your functions and ours on both. Made for the run and removed: the
file .firebase.emulators.json; made once: venv/ in the folder of our functions.

With COMMAND it is `firebase emulators:exec`: COMMAND runs inside, with FIRESTORE_EMULATOR_HOST, FUNCTION_URLS and, on the
embedded one, FIRESTORE_ADMIN_URL in its environment, and all ends with it.

Exit codes: COMMAND's, or the CLI's; 0 stopped by Ctrl-C or SIGTERM (130, 143 if that cut a COMMAND short); 1 something does not
start; 2 wrong usage, or something is missing.

Examples:
  balance emulators
  balance emulators --firestore embedded -- npm test
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from runner import firebase_cli, suite
from runner.function_server import StartFailed
from runner.session import CallFailed
from runner.wiring import FunctionsEmulator, Wiring
from scripts import source as folders
from scripts.command import Refused, subcommand
from scripts.exits import Exit
from scripts.ports import check_free

AUTO, OFFICIAL, EMBEDDED = "auto", "official", "embedded"
VENV = "venv"


@subcommand("emulators", __doc__, context_settings={"allow_interspersed_args": False})
@click.option("--project", default="demo-balance", help="The project's id (demo-balance).")
@click.option("--source", metavar="DIR", envvar=folders.VARIABLE, help="Folder of our functions (here or above).")
@click.option("--firestore", type=click.Choice([AUTO, OFFICIAL, EMBEDDED]), default=AUTO, help="Which one.")
@click.option("--indexes", type=Path, metavar="FILE", help="Instead of the app's own.")
@click.option("--emulator", metavar="ARGUMENT", multiple=True, help="More for `python -m emulator`.")
@click.option("--firebase", metavar="ARGUMENT", multiple=True, help="More for the Firebase CLI.")
@click.option("--inside", metavar="URL", hidden=True)
@click.argument("command", nargs=-1, metavar="[-- COMMAND]", type=click.UNPROCESSED)
def emulators(
    project: str,
    source: str | None,
    firestore: str,
    indexes: Path | None,
    emulator: tuple[str, ...],
    firebase: tuple[str, ...],
    inside: str | None,
    command: tuple[str, ...],
) -> int:
    folder = folders.find(source)
    if inside is not None:
        return _run_inside(FunctionsEmulator(inside, project, folder), command)
    app = _app_of(folder)
    cli = firebase_cli.find(app)
    if cli is None:
        raise Refused("the Firebase CLI is needed, and was not found: `npm install --save-dev firebase-tools` in your app")
    version, least = firebase_cli.version(cli), firebase_cli.MIN_VERSION
    if version is not None and version < least:
        raise Refused(
            f"{cli} is of version {version[0]}.{version[1]}; {least[0]}.{least[1]} or later is needed:"
            " `npm install --save-dev firebase-tools@latest` in your app"
        )
    official = firestore != EMBEDDED and _has_official_firestore(cli, required=firestore == OFFICIAL)
    try:
        named = firebase_cli.read(app / "firebase.json")
        ui = bool(command) or _has_ui(cli, named)  # a COMMAND runs without it
        configuration = firebase_cli.adapted(
            named, app=app, source=folder, runtime=_runtime(folder), official_firestore=official, ui=ui
        )
    except firebase_cli.InvalidConfiguration as error:
        raise Refused(str(error)) from None
    for name in firebase_cli.DEFAULT_PORTS:
        _, port = firebase_cli.address(named, name)
        check_free(port, f"another for {name} under `emulators` in {app / 'firebase.json'}")
    functions = FunctionsEmulator(firebase_cli.url(named, "functions"), project, folder)
    options = suite.Options(
        app=app,
        functions=functions,
        cli=cli,
        configuration=configuration,
        official_firestore=official,
        firestore=firebase_cli.address(named, "firestore"),
        indexes=indexes.absolute() if indexes else firebase_cli.index_file(named, app),
        emulator_arguments=emulator,
        cli_arguments=firebase,
        command=_inside(functions, command) if command else (),
    )
    try:
        return asyncio.run(suite.serve(options, tell))
    except (StartFailed, OSError) as error:
        tell(str(error))
        return Exit.WRONG


def tell(message: str) -> None:
    """Say something to the user, on standard error."""
    print(f"balance emulators: {message}", file=sys.stderr, flush=True)


def _app_of(folder: Path) -> Path:
    """The folder of the firebase.json that names the folder of functions: it or the next one above that has the file."""
    for app in (folder, *folder.parents):
        if (app / "firebase.json").is_file():
            return app
    raise Refused(f"{folder} lies in no app: there is no firebase.json in it or above")


def _has_official_firestore(cli: Path, *, required: bool) -> bool:
    obstacle = firebase_cli.obstacle_to_official_firestore(cli)
    if obstacle is not None and required:
        raise Refused(f"the official Firestore emulator cannot be started: {obstacle}")
    tell("the Firestore is the official emulator" if obstacle is None else f"the Firestore is the embedded one: {obstacle}")
    return obstacle is None


def _has_ui(cli: Path, configuration: dict[str, object]) -> bool:
    if not firebase_cli.wants_ui(configuration) or firebase_cli.obtained(cli, "ui", firebase_cli.UI_ARCHIVE):
        return True
    tell("without the Emulator UI: it is neither on this machine nor to be downloaded")
    return False


def _runtime(folder: Path) -> str:
    """The runtime of the Python in the folder's virtual environment, which is made if need be. Raises Refused."""
    venv = folder / VENV
    if not (venv / "pyvenv.cfg").exists():
        tell(f"making {venv} (once)")
        try:
            subprocess.run([sys.executable, "-m", "venv", venv], check=True, capture_output=True, text=True)
            install = [str(venv / "bin" / "python"), "-m", "pip", "install", "-q", "--require-hashes", "-r", "requirements.txt"]
            subprocess.run(install, cwd=folder, check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            shutil.rmtree(venv, ignore_errors=True)
            raise Refused(f"{venv} cannot be made: {error.stderr.strip()[-500:]}") from None
    version = re.search(r"^version(?:_info)? *= *(\d+)\.(\d+)", (venv / "pyvenv.cfg").read_text(), re.MULTILINE)
    if version is None:
        raise Refused(f"{venv / 'pyvenv.cfg'} does not say of which Python it is: remove {venv}")
    return f"python{version[1]}{version[2]}"


def _inside(functions: FunctionsEmulator, command: Sequence[str]) -> list[str]:
    """The command line that waits until all is wired, and becomes COMMAND."""
    ours = [sys.executable, str(folders.ROOT / "scripts"), "emulators"]
    return [*ours, "--project", functions.project, "--source", str(functions.source), "--inside", functions.url, "--", *command]


def _run_inside(functions: FunctionsEmulator, command: Sequence[str]) -> int:
    try:
        if admin_url := os.environ.get("FIRESTORE_ADMIN_URL"):
            Wiring(functions, admin_url, lambda message: None).bring_up_to_date()
        urls = functions.urls()
    except (OSError, CallFailed) as error:
        raise Refused(f"the functions emulator does not answer at {functions.url}: {error}") from None
    os.environ |= {"FUNCTION_URLS": json.dumps(urls), "GOOGLE_CLOUD_PROJECT": functions.project}
    try:
        os.execvp(command[0], list(command))
    except OSError as error:
        raise Refused(f"{command[0]}: {error}") from None
