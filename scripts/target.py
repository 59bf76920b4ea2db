"""Which database a subcommand talks to, by which rules it reads the app's documents, and the care that production asks for."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

import click
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import DefaultCredentialsError

from balance.database.firestore import Directory, TransientError
from balance.database.sdk import connect
from balance.documents.settings import InvalidSetting, Settings, from_environment
from balance.documents.sources import AdapterFailed, Kind, is_document_id
from balance.operations.fleet import group_ids
from scripts import aliases, source
from scripts.aliases import Project
from scripts.command import Refused

EMULATOR_HOST = "FIRESTORE_EMULATOR_HOST"
DEMO = "demo-"
"""How the ids of projects begin that exist on this machine only."""


@dataclass(frozen=True, slots=True)
class Target:
    """What the shared options say; `open` goes there."""

    project: str | None = None
    database: str | None = None
    source: str | None = None
    param: tuple[str, ...] = ()
    yes: bool = False

    def open(self, *, writes: bool) -> Opened:
        """Connect, say on standard error to what, and ask before production is written to. Raises Refused."""
        _stop_on_signals()
        emulator = os.environ.get(EMULATOR_HOST)
        if emulator and not _is_host_and_port(emulator):
            raise Refused(f"{EMULATOR_HOST} is {emulator!r}: it must be HOST:PORT, like 127.0.0.1:8080")
        named = self._named(emulator)
        folder = source.find(self.source)
        meant = aliases.resolve(named, folder if self.source else None) if self.project else Project(named)
        project = meant.id
        if emulator and not project.startswith(DEMO):
            raise Refused(
                f"{EMULATOR_HOST} is set ({emulator}), but {project} is not the id of an emulated project ({DEMO}...). "
                f"To reach {project} itself, run `unset {EMULATOR_HOST}`; for the emulator, give --project {DEMO}..."
            )
        adapter = source.adapter_of(folder)
        parameters = source.parameters(folder, meant, self._over(), emulated=bool(emulator))
        try:
            settings = from_environment(parameters)
        except InvalidSetting as error:
            raise Refused(f"{error} (parameters of {folder})") from None
        for line in _said(emulator, meant, settings, adapter):
            print(line, file=sys.stderr, flush=True)
        if writes and not emulator and not self.yes:
            _confirm(project)
        try:
            return Opened(meant, connect(project, settings.database), settings, parameters, folder, emulator)
        except DefaultCredentialsError as error:
            raise Refused(f"no credentials for {project}: run `gcloud auth application-default login` ({error})") from None

    def _named(self, emulator: str | None) -> str:
        if not emulator:
            # GOOGLE_CLOUD_PROJECT may be left over from other work: a real project is named here and now.
            if not self.project:
                raise Refused(f"name the project with --project ID, or set {EMULATOR_HOST} to use an emulator")
            return self.project
        inherited = os.environ.get("GOOGLE_CLOUD_PROJECT") or os.environ.get("GCLOUD_PROJECT")
        return self.project or inherited or f"{DEMO}balance"

    def _over(self) -> dict[str, str]:
        over = {}
        for param in self.param:
            name, equals, value = param.partition("=")
            if not equals:
                raise Refused(f"--param {param}: it must be NAME=VALUE")
            over[name] = value
        if self.database:
            over["FIRESTORE_DATABASE"] = self.database
        return over


def _is_host_and_port(text: str) -> bool:
    found = re.fullmatch(r"[^/\s]+:([0-9]{1,5})", text)
    # gRPC takes a port modulo 65,536.
    return found is not None and int(found[1]) < 65_536


@dataclass(frozen=True, slots=True)
class Opened:
    """A database, and the rules by which its documents are read."""

    meant: Project
    firestore: Directory
    settings: Settings
    parameters: dict[str, str]
    """Those of functions.yaml, and the environment."""
    folder: Path
    """Of the functions."""
    emulator: str | None
    """host:port; None in production."""

    @property
    def project(self) -> str:
        """The project's id."""
        return self.meant.id

    def chosen(self, groups: tuple[str, ...], after: str | None) -> tuple[Iterable[str], int | None]:
        """The ids of the groups asked for, and how many there are, if that can be told. Raises Refused."""
        if groups:
            for group_id in groups:
                self.check_group_id(group_id)
            distinct = list(dict.fromkeys(groups))
            return distinct, len(distinct)
        collection = self.settings.layout.groups
        total = None if after else self.firestore.count(collection)
        if total == 0:
            raise Refused(
                f"the collection {collection!r} of {self.project} (database {self.settings.database}) holds no groups:"
                " is GROUPS_COLLECTION right, and the project?"
            )
        return group_ids(self.firestore, self.settings.layout, after), total

    def check_group_id(self, group_id: str) -> None:
        """Raises Refused when nothing can have this id."""
        if not is_document_id(group_id):
            raise Refused(f"{group_id!r} cannot be the id of a group")


def options(*, writes: bool) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """The shared options; the function gets them as `target`.

    When Firestore does not answer, or the adapter cannot read a group, the exit code is 2.
    """

    def decorate(function: Callable[..., int]) -> Callable[..., int]:
        @wraps(function)
        def run(
            project: str | None, database: str | None, source: str | None, param: tuple[str, ...], yes: bool = False, **own: Any
        ) -> int:
            try:
                return function(target=Target(project, database, source, param, yes), **own)
            except (TransientError, GoogleAPICallError) as error:
                raise Refused(f"Firestore: {error}") from None
            except AdapterFailed as error:
                raise Refused(f"balance/adapter.py cannot read a group: {error}; `balance doctor` names it") from None

        wrapped: Callable[..., int] = run
        shared = [
            click.option("--project", metavar="ID", help="Firebase project (or alias); production must be named."),
            click.option("--database", metavar="ID", help="Firestore database (FIRESTORE_DATABASE)."),
            click.option(
                "--source",
                metavar="DIR",
                envvar=source.VARIABLE,
                help="Folder of the functions (here or above).",
            ),
            click.option("--param", metavar="NAME=VALUE", multiple=True, help="A parameter over those of .env."),
        ]
        if writes:
            shared.append(click.option("--yes", is_flag=True, help="Do not ask before writing to production."))
        for option in reversed(shared):
            wrapped = option(wrapped)
        return wrapped

    return decorate


def _said(emulator: str | None, meant: Project, settings: Settings, adapter: Path) -> list[str]:
    """By what the app's documents will be read: other rules than the functions' would make every balance wrong."""
    alias = f" ({meant.alias} in {_short(meant.file)})" if meant.file else ""
    project = f"project {meant.id}{alias}"
    where = f"emulator {emulator}, {project}" if emulator else f"PRODUCTION, {project}"
    layout = settings.layout
    return [
        f"{where}, database {settings.database}",
        f"{', '.join([layout.groups, *map(layout.collection, Kind)])}; {settings.unit} units; adapter {_short(adapter)}",
    ]


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _confirm(project: str) -> None:
    if not sys.stdin.isatty():
        raise Refused(f"this would write to the project {project}: confirm with --yes")
    print(f"This writes to the project {project}. Type the project's id to go on: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != project:
        raise Refused("not confirmed, nothing done")


def _stop_on_signals() -> None:
    """Take SIGTERM for Ctrl-C: finish the groups under way, then stop."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
