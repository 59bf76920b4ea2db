"""The narrow view of Firestore that the protocol is written against: begin, get, query, commit.

sdk.py implements it with the official client's library; the simulator implements it in process. Values are plain Python
(`None`, `bool`, `int`, `float`, `str`, `bytes`, aware `datetime` in UTC, `list`, `dict`); times are the server's, in whole
microseconds.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final, Protocol

Fields = Mapping[str, Any]


class Sentinel(Enum):
    """Values that only the server can fill in, or that take a field away."""

    SERVER_TIME = "the time of the commit"
    DELETE = "remove the field"


SERVER_TIME: Final = Sentinel.SERVER_TIME
DELETE: Final = Sentinel.DELETE


class Constant(dict[str, Any]):
    """A map that nobody changes any more, written again and again: the codec keeps what it is encoded to."""

    __slots__ = ("encoded",)
    encoded: bytes | None

    def __init__(self, fields: Fields) -> None:
        super().__init__(fields)
        self.encoded = None


class TransientError(Exception):
    """The operation may succeed when its whole transaction is run again; a commit may even have taken effect."""


class Conflict(TransientError):
    """A condition of a commit does not hold: nothing was written."""


class TooLarge(Exception):
    """A commit takes more bytes than its caller allows: it was not sent."""


class UnreadablePast(Exception):
    """The instant lies too far back to be read."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A document as read at `read_time`; `fields` and the other times are None when it does not exist."""

    path: str
    fields: Fields | None
    update_time: datetime | None
    read_time: datetime
    create_time: datetime | None = None
    """When the document came into being; another one for a document that was deleted and created again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Documents of one collection, in the order of their ids, or of `field` where that is given."""

    collection: str
    """The path of the collection: "expenses", "groups/g1/balanceEvents"."""
    everywhere: bool = False
    """Instead: all collections of this name, wherever they lie; for operators, and alone or with `limit`."""
    where: tuple[str, str, object] | None = None
    """(field, "==" | ">=" | "array-contains", value)"""
    having: tuple[str, ...] | None = None
    """Instead: only documents with this field, given as its path, in the order of its values."""
    after_id: str | None = None
    limit: int | None = None
    select: tuple[str, ...] | None = None
    """Only these fields; () for none, None for all."""
    newest_by: str | None = None
    """In descending order of this field instead; for operators, and alone or with `limit`."""


@dataclass(frozen=True, slots=True)
class Create:
    """Write a document that must not exist."""

    path: str
    fields: Fields


@dataclass(frozen=True, slots=True)
class Set:
    """Write a whole document, whether it exists or not; with `update_time` only if it stands as last written then."""

    path: str
    fields: Fields
    update_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """Change some fields of a document that must exist, with `update_time` as last written then; a key is the field's path,
    its segments taken literally."""

    path: str
    fields: Mapping[tuple[str, ...], Any] = field(default_factory=dict)
    update_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a document, if it exists."""

    path: str


Write = Create | Set | Update | Delete


class Transaction(Protocol):
    """One attempt: reads first, then one commit or a rollback. Every method may raise TransientError."""

    @property
    def id(self) -> bytes:
        """The server's name of it, kept when it fails; empty before the first read and after a commit."""

    def get(self, paths: Sequence[str]) -> list[Snapshot]:
        """The documents, in the order of the paths, all at one instant; they stay as they are until the end."""

    def query(self, query: Query) -> list[Snapshot]:
        """All matches; none may appear or vanish until the end."""

    def commit(self, writes: Iterable[Write]) -> datetime:
        """Write all or nothing and return the commit time. TransientError: nothing is certain, run it all again."""

    def rollback(self) -> None:
        """Let go of what was read; nothing after a commit. Never raises: locks that are not released here expire."""


class Firestore(Protocol):
    """A database."""

    def begin(self, *, retry_of: bytes = b"") -> Transaction:
        """A new read-write transaction, which locks what it reads whatever the database's default.

        `retry_of` is the id of the attempt that failed: the new one keeps its age, and so its turn among rivals.
        """

    def get(self, paths: Sequence[str], *, read_time: datetime | None = None, timeout_s: float | None = None) -> list[Snapshot]:
        """The documents as they are, or as they were at an instant of the past hour; UnreadablePast beyond it.

        TransientError when it takes longer than `timeout_s`.
        """

    def query(self, query: Query, *, read_time: datetime | None = None) -> Iterator[Snapshot]:
        """All matches, now or at an instant of the past hour, one by one."""

    def commit(self, writes: Iterable[Write], *, timeout_s: float | None = None, max_bytes: int | None = None) -> datetime:
        """Write all if every condition holds, or nothing, outside of a transaction; returns the commit time, which is the
        update time of what was written.

        Conflict: a condition does not hold. TransientError: it may have taken effect, or still will. TooLarge: not sent.
        """


class Directory(Firestore, Protocol):
    """A database with what only operators and the read API ask of it: no trigger needs these, nor has the simulator them."""

    def get_within(self, paths: Sequence[str], max_bytes: int) -> tuple[list[Snapshot], int]:
        """The first of the documents, as far as they take no more than that together, though at least one; and their bytes."""

    def count(self, collection: str) -> int:
        """How many documents a collection has."""

    def missing(self, collection: str) -> Iterator[str]:
        """Ids, in this collection, of documents that do not exist but have documents below them."""


class Retried:
    """A database for the attempts at one operation: each transaction is begun as the retry of the one that failed before."""

    def __init__(self, firestore: Firestore) -> None:
        self._firestore = firestore
        self._last: Transaction | None = None

    def begin(self, *, retry_of: bytes = b"") -> Transaction:
        """See Firestore.begin."""
        self._last = self._firestore.begin(retry_of=retry_of or (self._last.id if self._last else b""))
        return self._last

    def get(self, paths: Sequence[str], *, read_time: datetime | None = None, timeout_s: float | None = None) -> list[Snapshot]:
        """See Firestore.get."""
        return self._firestore.get(paths, read_time=read_time, timeout_s=timeout_s)

    def query(self, query: Query, *, read_time: datetime | None = None) -> Iterator[Snapshot]:
        """See Firestore.query."""
        return self._firestore.query(query, read_time=read_time)

    def commit(self, writes: Iterable[Write], *, timeout_s: float | None = None, max_bytes: int | None = None) -> datetime:
        """See Firestore.commit."""
        return self._firestore.commit(writes, timeout_s=timeout_s, max_bytes=max_bytes)


@contextmanager
def transaction(firestore: Firestore) -> Iterator[Transaction]:
    """One attempt at a transaction, rolled back unless it was committed."""
    attempt = firestore.begin()
    try:
        yield attempt
    finally:
        attempt.rollback()
