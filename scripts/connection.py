"""How the operators' scripts reach a database: which project, which parameters, and the care that a real project asks for."""

import argparse
import os
import sys
from pathlib import Path

from google.auth.exceptions import DefaultCredentialsError

from balance import adapter
from balance.database.firestore import Directory
from balance.database.sdk import connect
from balance.documents.settings import InvalidSetting, Settings, from_environment
from balance.documents.sources import Kind
from runner import dotenv

EMULATOR_HOST = "FIRESTORE_EMULATOR_HOST"

PARAMETERS_HELP = """\
parameters:
  The app's parameters (GROUPS_COLLECTION, EXPENSES_COLLECTION, SETTLEMENTS_COLLECTION, AMOUNT_UNIT, CURRENCIES,
  FIRESTORE_DATABASE, RECORD_TTL_DAYS) must be those of the deployed functions, and balance/adapter.py theirs: so run this in
  the folder of their functions.yaml, where another one with PYTHONPATH=THIS_REPOSITORY. Parameters are read from .env and
  .env.PROJECT there, as the Firebase CLI does, the second over the first; the environment over both; --param over all.
  With FIRESTORE_EMULATOR_HOST=host:port set, that server is used; else the project itself, with the credentials of
  `gcloud auth application-default login`.
"""


class UsageError(Exception):
    """The script was called in a way that it cannot obey; the message says what to do."""


def add_arguments(parser: argparse.ArgumentParser, *, writes: bool) -> None:
    """The flags that all scripts share."""
    parser.add_argument("--project", metavar="ID", help="the Firebase project; a real one must be named")
    parser.add_argument("--database", metavar="ID", help='the Firestore database (default: FIRESTORE_DATABASE, or "(default)")')
    parser.add_argument(
        "--param", metavar="NAME=VALUE", action="append", default=[], help="one of the app's parameters; may be repeated"
    )
    if writes:
        parser.add_argument("--yes", action="store_true", help="do not ask before writing to a real project")


def open_database(arguments: argparse.Namespace, *, writes: bool) -> tuple[Directory, Settings]:
    """The database and the app's settings. Asks before a real project is written to. Raises UsageError."""
    emulator = os.environ.get(EMULATOR_HOST)
    # GOOGLE_CLOUD_PROJECT may be left over from other work: a real project is named here and now.
    if not emulator and not arguments.project:
        raise UsageError(f"name the project with --project ID, or set {EMULATOR_HOST} to use an emulator")
    project = arguments.project or os.environ.get("GOOGLE_CLOUD_PROJECT") or os.environ.get("GCLOUD_PROJECT")
    if not project:
        raise UsageError("name the project with --project ID, or set GOOGLE_CLOUD_PROJECT")
    try:
        settings = from_environment(parameters(arguments, project))
    except InvalidSetting as error:
        raise UsageError(str(error)) from None
    if not emulator:
        print(_said(project, settings), file=sys.stderr)
    if writes and not emulator and not arguments.yes:
        _confirm(project)
    try:
        return connect(project, settings.database), settings
    except DefaultCredentialsError as error:
        raise UsageError(f"no credentials for {project}: run `gcloud auth application-default login` ({error})") from None


def parameters(arguments: argparse.Namespace, project: str) -> dict[str, str]:
    """The environment as the deployed functions see it, with the flags over it. Raises UsageError."""
    # Not .env.local: that is for the emulators, and this may be the real thing.
    found = {**_dotenv(Path(".env")), **_dotenv(Path(f".env.{project}")), **os.environ}
    for param in arguments.param:
        name, equals, value = param.partition("=")
        if not equals:
            raise UsageError(f"--param {param}: it must be NAME=VALUE")
        found[name] = value
    if arguments.database:
        found["FIRESTORE_DATABASE"] = arguments.database
    return found


def _dotenv(path: Path) -> dict[str, str]:
    try:
        return dotenv.parse(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else {}
    except dotenv.InvalidDotenv as error:
        raise UsageError(str(error)) from None


def _said(project: str, settings: Settings) -> str:
    """By what the app's documents will be read: other parameters than the functions' would make every balance wrong."""
    layout = settings.layout
    collections = ", ".join([layout.groups, *map(layout.collection, Kind)])
    return (
        f"project {project}, database {settings.database}: {collections}; "
        f"amounts in {settings.unit} units; fields as in {adapter.__file__}"
    )


def _confirm(project: str) -> None:
    question = f"This writes to the project {project}. Type the project's id to go on: "
    if not sys.stdin.isatty():
        raise UsageError(f"this would write to the project {project}: confirm with --yes")
    print(question, end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != project:
        raise UsageError("not confirmed, nothing done")
