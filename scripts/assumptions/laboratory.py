"""A corner of a database where nobody else writes, and what an assumption ends with: a text, Refuted or Unknown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from google.api_core.exceptions import GoogleAPICallError, InvalidArgument

from balance.database.firestore import Delete, Directory, Query, Snapshot, TransientError, Write, transaction
from balance.database.retry import Retry
from balance.database.sdk import SdkFirestore
from balance.documents.settings import Settings
from balance.documents.sources import Kind

COLLECTION = "balanceAssumptions"


class Refuted(Exception):
    """An assumption does not hold; the message says what was seen instead."""


class Unknown(Exception):
    """It could not be found out; the message says why."""


@dataclass(slots=True)
class Laboratory:
    """A database, and a corner of it where nobody else writes."""

    firestore: SdkFirestore
    settings: Settings
    run: str

    def path(self, name: str) -> str:
        """A document of this run."""
        return f"{COLLECTION}/{self.run}-{name}"

    @property
    def group(self) -> str:
        """The id of a group of this run."""
        return f"{COLLECTION}-{self.run}"

    def write(self, *writes: Write) -> Any:
        """Commit; returns the commit time."""

        def attempt() -> Any:
            with transaction(self.firestore) as attempted:
                attempted.get([write.path for write in writes])
                return attempted.commit(writes)

        return Retry().run(attempt)

    def read(self, path: str, **more: Any) -> Snapshot:
        """One document."""
        (found,) = self.firestore.get([path], **more)
        return found


@contextmanager
def laboratory_in(firestore: Directory, settings: Settings) -> Iterator[Laboratory]:
    """A corner of the database, removed at the end."""
    assert isinstance(firestore, SdkFirestore), "connect() makes no other"
    laboratory = Laboratory(firestore, settings, uuid4().hex[:12])
    try:
        yield laboratory
    finally:
        layout = settings.layout
        for query in (
            *(layout.sources(kind, laboratory.group) for kind in Kind),
            Query(collection=layout.records(laboratory.group)),
            Query(collection=layout.faults(laboratory.group)),
        ):
            for document in list(firestore.query(query)):
                laboratory.write(Delete(document.path))
        for document in list(firestore.query(Query(collection=COLLECTION))):
            if document.path.startswith(laboratory.path("")):
                laboratory.write(Delete(document.path))
        laboratory.write(Delete(layout.balance(laboratory.group)), Delete(layout.group(laboratory.group)))


def refusal(laboratory: Laboratory, write: Write) -> str | None:
    """What Firestore says when it refuses a write for good; None when it accepts it. Raises Refuted for another error."""
    try:
        with transaction(laboratory.firestore) as attempt:
            attempt.get([write.path])
            attempt.commit([write])
    except InvalidArgument as error:
        return str(error)[:80]
    except (TransientError, GoogleAPICallError) as error:
        raise Refuted(f"it was refused, but with an error that means something else: {error}") from None
    return None


def accept(laboratory: Laboratory, what: str, write: Write) -> None:
    """Raises Refuted when Firestore refuses a write for good."""
    try:
        laboratory.write(write)
    except GoogleAPICallError as error:
        raise Refuted(f"{what}: {error}") from None
