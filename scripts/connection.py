"""How the operators' scripts reach a database: which project, which parameters, and the care that a real project asks for."""

import argparse
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from balance.firestore import Directory
from balance.settings import InvalidSetting, Settings, from_environment
from balance.store import connect, project_id

EMULATOR_HOST = "FIRESTORE_EMULATOR_HOST"

_LINE = re.compile(r"""\s*(?:export\s+)?([A-Z_][A-Z0-9_]*)\s*=[ \t]*('[^']*'|"(?:\\.|[^"\\])*"|[^#\r\n]*)\s*(?:\#.*)?$""")
_ESCAPES = {r"\n": "\n", r"\r": "\r", r"\t": "\t", r"\v": "\v", r"\\": "\\", r"\'": "'", r"\"": '"'}

PARAMETERS_HELP = """\
parameters:
  The app's parameters (GROUPS_COLLECTION, EXPENSES_COLLECTION, SETTLEMENTS_COLLECTION, COLLECTION_LAYOUT, AMOUNT_UNIT,
  FIRESTORE_DATABASE, RECORD_TTL_DAYS) are those of the deployed functions: they are read from .env and .env.PROJECT beside
  functions.yaml, as the Firebase CLI does, the second over the first, the environment over both; --param NAME=VALUE over all.
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
    if not emulator and not arguments.project:
        raise UsageError(f"name the project with --project ID, or set {EMULATOR_HOST} to use an emulator")
    project = arguments.project or os.environ.get("GOOGLE_CLOUD_PROJECT") or os.environ.get("GCLOUD_PROJECT") or project_id()
    try:
        settings = from_environment(parameters(arguments, project))
    except InvalidSetting as error:
        raise UsageError(str(error)) from None
    if writes and not emulator and not arguments.yes:
        _confirm(project, settings.database)
    return connect(project, settings.database), settings


def parameters(arguments: argparse.Namespace, project: str) -> dict[str, str]:
    """The environment as the deployed functions see it, with the flags over it. Raises UsageError."""
    found = {**dotenv(Path(".env")), **dotenv(Path(f".env.{project}")), **os.environ}
    for param in arguments.param:
        name, equals, value = param.partition("=")
        if not equals:
            raise UsageError(f"--param {param}: it must be NAME=VALUE")
        found[name] = value
    if arguments.database:
        found["FIRESTORE_DATABASE"] = arguments.database
    return found


def dotenv(path: Path) -> Mapping[str, str]:
    """The variables of a file in the Firebase CLI's format; empty when there is none. Raises UsageError.

    Source: https://firebase.google.com/docs/functions/config-env
    """
    if not path.is_file():
        return {}
    variables = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.match(line)
        if found is None:
            raise UsageError(f"{path}, line {number}: this is not NAME=VALUE")
        value = found[2].strip()
        if value[:1] in ("'", '"'):
            quote, value = value[0], value[1:-1]
            if quote == '"':
                value = re.sub(r"\\[nrtv\\'\"]", lambda escape: _ESCAPES[escape[0]], value)
        variables[found[1]] = value
    return variables


def _confirm(project: str, database: str) -> None:
    question = f"This writes to the project {project}, database {database}. Type the project's id to go on: "
    if not sys.stdin.isatty():
        raise UsageError(f"this would write to the project {project}: confirm with --yes")
    print(question, end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != project:
        raise UsageError("not confirmed, nothing done")
