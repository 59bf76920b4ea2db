"""Look a project over, before and after deploying: settings, documents, deployment. Nothing is written.

It samples groups, expenses and settlements and reads them as the functions would: what posts, what is deleted, ignored or
malformed and why; uids that are no members; a unit that looks wrong; currencies. Then it looks at what the functions have
written, and at indexes, TTL, region and the services' variables. Each finding says what to do.

Exit codes: 0 nothing is wrong; 1 something is, or looks so; 2 not begun; 3 all is well, but documents were left out.

Examples:
  balance doctor --project my-app
  balance doctor --project my-app --sample 1000 --before-after
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

import click
from google.auth.exceptions import GoogleAuthError
from rich.console import Console
from rich.text import Text

from runner import manifest
from scripts import command, target
from scripts.command import as_json as json_option
from scripts.diagnosis import contents, project, sample, setup, written
from scripts.diagnosis.findings import Finding, Level
from scripts.exits import Exit
from scripts.target import Opened, Target

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red", Level.LEFT_OUT: "yellow"}
_WIDTH = max(map(len, Level)) + 2


@command.subcommand("doctor", __doc__)
@click.option("--sample", "size", metavar="N", type=command.POSITIVE, default=200, help="So many of each kind (200).")
@click.option("--before-after", is_flag=True, help="A document of each kind, before and after the adapter.")
@json_option
@target.options(writes=False)
def doctor(target: Target, size: int, before_after: bool, as_json: bool) -> int:
    opened = target.open(writes=False)
    console = Console(highlight=False)
    levels = set()
    for finding in look(opened, size, before_after=before_after):
        levels.add(finding.level)
        _tell(finding, console, as_json=as_json)
    if levels & {Level.ERROR, Level.WARNING}:
        return Exit.WRONG
    return Exit.LEFT_OUT if Level.LEFT_OUT in levels else Exit.DONE


def look(opened: Opened, size: int, *, before_after: bool) -> Iterator[Finding]:
    """All findings, in order."""
    firestore, settings = opened.firestore, opened.settings
    yield from setup.look(opened)
    taken = sample.take(firestore, settings.layout, size)
    if before_after:
        yield from contents.before_and_after(taken)
    yield from contents.look(firestore, settings, taken)
    yield from written.look(firestore, settings, taken)
    if opened.emulator is None:
        yield from _project(opened)


def _project(opened: Opened) -> Iterator[Finding]:
    values = {**opened.parameters, "PROJECT_ID": opened.project}
    names = frozenset(manifest.read(opened.folder / manifest.FILE_NAME, values).parameters)
    try:
        api = project.connect()
    except GoogleAuthError as error:
        yield Finding(
            Level.UNKNOWN, f"no credentials for the project's own APIs: {error}", "gcloud auth application-default login"
        )
        return
    yield from project.look(api, opened.project, opened.settings.database, opened.parameters, names)


def _tell(finding: Finding, console: Console, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(finding.as_json(), ensure_ascii=False), flush=True)
        return
    if not console.is_terminal:
        print("\t".join((finding.level, finding.text, finding.todo)), flush=True)
        return
    room = console.width - _WIDTH
    lines = [*textwrap.wrap(finding.text, room), *textwrap.wrap(f"-> {finding.todo}" if finding.todo else "", room)]
    for index, line in enumerate(lines):
        level = finding.level.ljust(_WIDTH) if index == 0 else " " * _WIDTH
        console.print(Text.assemble((level, _COLOURS.get(finding.level, "")), line))
