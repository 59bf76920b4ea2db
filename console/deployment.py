"""What the console looks at: a database, by which rules its documents are read, and what may be done to it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from balance.database.firestore import Directory
from balance.documents.settings import Settings
from balance.operations.reconcile import Report
from balance.protocol.bookkeeper import Bookkeeper
from console.local import Local


class Names(Protocol):
    """What users are called."""

    def learn(self, uids: Sequence[str]) -> None:
        """Look up the names of these, in one call."""

    def __getitem__(self, uid: str) -> str:
        """A user's name, else the uid, shortened."""


class Refused(Exception):
    """What was asked is not done; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """An app's balances, on this machine or in production."""

    project: str
    firestore: Directory
    settings: Settings
    parameters: Mapping[str, str]
    folder: Path
    """Of the functions."""
    names: Names
    emulator: str | None = None
    """host:port; None in production."""
    local: Local | None = None
    """The runner, where one runs the functions."""
    may_write: bool = False
    """Whether balances may be rebuilt; in production only if it was asked for."""
    verified: dict[str, tuple[datetime | None, Report]] = field(default_factory=dict)
    """By group: the update time of the balance when it was compared, and what was found."""

    @property
    def is_production(self) -> bool:
        """Whether what is written here is written to real data."""
        return self.emulator is None

    @property
    def keeper(self) -> Bookkeeper:
        """For rebuilds."""
        return Bookkeeper(self.firestore, self.settings, updates_on=lambda: True)

    def command(self, *arguments: str) -> str:
        """The command line that does the same."""
        words = ["balance", *arguments, "--project", self.project]
        host = f"FIRESTORE_EMULATOR_HOST={self.emulator} " if self.emulator else ""
        return host + shlex.join(words)

    def check_write(self, confirmed: str) -> None:
        """Raises Refused unless balances may be rebuilt, and in production the project's name was given."""
        if not self.may_write:
            raise Refused("This console only reads. Start it with --write to rebuild balances from here, or use the command.")
        if self.is_production and confirmed != self.project:
            raise Refused(f"Nothing was done: to write to production, type the project's name, {self.project}.")

    def check_documents(self) -> None:
        """Raises Refused unless the app's documents are those of an emulator."""
        if self.is_production:
            raise Refused("The documents of an app are never written from here in production.")
