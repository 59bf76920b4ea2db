"""One database: documents, transactions and time, without any I/O.

Theory of operation. The engine is synchronous, single-threaded and deterministic: it takes its clock as an argument
and uses no other source of time or chance. An operation either answers at once, or raises `RpcError`, or has to wait
for locks; then it returns a `Waiting`, which is ready once the locks were granted or refused. `tick` ends what waited
or lived too long.

**Time.** Each commit has a time of its own, in microseconds, later than all commits and all reads before it. So "the
database at t" is fixed from the moment somebody read at t.

**Reads outside of transactions, and read-only transactions,** see one instant. They lock nothing and never wait.

**Pessimistic read-write transactions** (the default) read the present and lock what they read, missing documents too,
until they end. Readers share a lock. A commit needs the locks of what it writes for itself: it waits for older
transactions that have read the same, and younger ones are *wounded* (see `locks`). A transaction is as old as its first
attempt: a retry says which attempt it follows, and keeps that one's age. So it wins in the end, however many compete.

A read never fails for contention. A wounded transaction is *doomed*: it has lost its locks, reads on from the instant at
which all it had read was true, and its commit is ABORTED. The same happens after waiting too long for a lock. A query
locks the documents that it returns; that no others have come to match is verified by running it again, at each further
read and at commit.

For a second after a transaction lost a document to another, those who read it *reserve* it, and so does the retry of the
one that lost. They stand in line, oldest first, instead of reading all at once and then failing all but one. This is
ours: production does not tell whether it has a like.

**Optimistic read-write transactions** see the instant of their first read and lock nothing before they commit. A commit
with writes is ABORTED if anything that was read, found missing or queried is different by then. A transaction chooses
its mode; the default is the database's.

**Writes outside of transactions** take all their locks, or wait and hold none. They are younger than all transactions
that have begun before.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any, NoReturn, TypeVar

import grpc

from emulator.aggregation import Aggregated, Aggregation
from emulator.changes import Change
from emulator.errors import RpcError
from emulator.footprints import Footprint, HeldLock, changed_collections, queried_collections
from emulator.indexes import Indexes
from emulator.locks import LockTable, Mode, Owner, Request
from emulator.names import check_document_name
from emulator.planning import candidates_in
from emulator.query import PreparedQuery
from emulator.statistics import Statistics
from emulator.store import Document, Store
from emulator.transactions import Transaction, Waiting
from emulator.values import name_key
from emulator.writes import Applied, apply, check_transforms

T = TypeVar("T")

SECOND_US = 1_000_000
# How long superseded versions may outlive their time, so that they are dropped in batches.
FORGET_INTERVAL_US = 1 * SECOND_US
# Of so many failed attempts it is known over which document they failed.
MAX_LOST = 10_000


@dataclass(frozen=True, slots=True)
class Settings:
    """How a database behaves. The defaults are production's: https://firebase.google.com/docs/firestore/quotas
    and https://firebase.google.com/docs/firestore/transaction-data-contention.

    optimistic: the mode of transactions that do not choose one.
    contention_memory_us: how long those who read a document reserve it after a transaction lost it to another, which saves
    retries. With 0, readers always share, also those who try again.
    request_time_error_us: by how much the server's time in a document differs from that of its commit; asked at each commit.
    """

    optimistic: bool = False
    contention_memory_us: int = 1 * SECOND_US
    lock_wait_us: int = 20 * SECOND_US
    transaction_total_us: int = 270 * SECOND_US
    transaction_idle_us: int = 60 * SECOND_US
    retention_us: int = 3_600 * SECOND_US
    # The indexes that queries may use; None: whatever they need.
    indexes: Indexes | None = None
    request_time_error_us: Callable[[], int] | None = None


@dataclass(slots=True)
class ReadResult:
    """Documents in the order of the names asked for, None where there is none, as of one instant."""

    documents: list[Document | None]
    read_time_us: int


@dataclass(slots=True)
class QueryResult:
    """Whole documents, or whatever else was computed of them, as of one instant."""

    value: Any
    read_time_us: int


@dataclass(slots=True)
class CommitResult:
    """What each write did, in order, at the time of the commit."""

    applied: list[Applied]
    commit_time_us: int


class Engine:
    """The database named `projects/{project}/databases/{database}`. See the module's text for how it works."""

    def __init__(
        self,
        database: str,
        clock: Callable[[], int],
        *,
        settings: Settings | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        """`clock` gives microseconds since the epoch; it may stand still, and going back does no harm."""
        self.database = database
        self.root = f"{database}/documents"
        self.settings = settings or Settings()
        self.statistics = statistics or Statistics()
        self._clock = clock
        self._subscribers: list[Callable[[Sequence[Change]], None]] = []
        self._on_clear: list[Callable[[], None]] = []
        # The database begins here: what was before cannot be read, and is told apart by this.
        self.born_us = clock()
        self._last_us = 0
        self._last_commit_us = 0
        self._next_forget_us = 0
        self._transactions: OrderedDict[bytes, Transaction] = OrderedDict()
        # Ids differ from those of an earlier process, so that a client cannot continue a transaction it began there.
        self._id_prefix = clock().to_bytes(8, "big")
        self._ids_issued = 0
        self._settling = False
        self._reset()

    def _reset(self) -> None:
        self._store = Store(self.root)
        self._locks = LockTable()
        self._waiting: dict[Request, tuple[Waiting[Any], Callable[[], Any], Callable[[str], Any]]] = {}
        # What waited on behalf of wounded transactions.
        self._refused: deque[tuple[Waiting[Any], Callable[[], Any]]] = deque()
        self._deadlines: deque[Waiting[Any]] = deque()
        self._contended_until_us: dict[str, int] = {}
        # Over which document an attempt has lost its locks, for its retry.
        self._lost: OrderedDict[bytes, str] = OrderedDict()

    # Transactions

    def begin(
        self,
        read_write: bool = True,
        retry_of: bytes | None = None,
        read_time_us: int | None = None,
        optimistic: bool | None = None,
    ) -> bytes:
        """Begin a transaction and return its id.

        A read-only one sees the instant `read_time_us`, or now. `retry_of` is the id of the failed attempt that this one
        follows: it is as old as that one. `optimistic` None stands for the database's mode.
        """
        if read_write and read_time_us is not None:
            raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, "read_time: only a read-only transaction may have one.")
        now_us = self._now()
        snapshot_us = None if read_write else self._instant(read_time_us)
        born = self._born(retry_of)
        # The id tells the age, so that it need not be remembered for a retry.
        id_ = self._id_prefix + born[0].to_bytes(8, "big") + born[1].to_bytes(8, "big")
        if optimistic is None:
            optimistic = self.settings.optimistic
        transaction = Transaction(
            id_, born, now_us, read_write=read_write, optimistic=optimistic and read_write, snapshot_us=snapshot_us
        )
        if retry_of is not None:
            transaction.lost = self._lost.pop(retry_of, None)
        self._transactions[id_] = transaction
        return id_

    def rollback(self, transaction: bytes) -> None:
        """End a transaction without effect. One that has ended already stays ended."""
        found = self._transactions.get(transaction)
        if found is not None:
            self._end(found, "The transaction was rolled back.")
        elif not self._was_issued(transaction):
            raise _invalid_transaction()

    def is_active(self, transaction: bytes) -> bool:
        """Whether the transaction has neither ended nor expired."""
        return transaction in self._transactions

    # Reading

    def get(
        self, names: Sequence[str], transaction: bytes | None = None, read_time_us: int | None = None
    ) -> ReadResult | Waiting[ReadResult]:
        """Read documents by their full names, all as of one instant."""
        if transaction is None:
            at_us = self._instant(read_time_us)
            self.statistics.document_reads += len(names)
            read = self._store.get
            if read_time_us is None:
                return ReadResult([read(name) for name in names], at_us)
            return ReadResult([read(name, at_us) for name in names], at_us)
        found = self._use(transaction)
        self.statistics.document_reads += len(names)
        if found.optimistic or found.snapshot_us is not None:
            return self._get_from_snapshot(found, names)
        return self._with_locks(
            found,
            self._wants_to_read(found, names),
            partial(self._get_present, found, names),
            partial(self._doom_and, partial(self._get_from_snapshot, found, names), found),
        )

    def query(
        self, query: PreparedQuery, transaction: bytes | None = None, read_time_us: int | None = None
    ) -> QueryResult | Waiting[QueryResult]:
        """Run a query; the value is the list of whole documents that it finds, in its order."""
        self._check_indexes(query)
        evaluate, scope = partial(self._run, query), _scope(query)
        return self._observe(evaluate, _names_of, _documents_billed, scope, transaction, read_time_us)

    def aggregate(
        self,
        query: PreparedQuery,
        aggregations: Sequence[Aggregation],
        transaction: bytes | None = None,
        read_time_us: int | None = None,
    ) -> QueryResult | Waiting[QueryResult]:
        """Count, or sum up, what a query finds. In a transaction, the results are what must not change until commit."""
        self._check_indexes(query)

        def evaluate(at_us: int | None) -> Aggregated:
            return Aggregated.of(aggregations, self._run(query, at_us))

        return self._observe(evaluate, None, _entries_billed, _scope(query), transaction, read_time_us)

    def list_documents(
        self,
        parent: str,
        collection_id: str = "",
        *,
        after: str = "",
        limit: int | None = None,
        show_missing: bool = False,
        transaction: bytes | None = None,
        read_time_us: int | None = None,
    ) -> QueryResult | Waiting[QueryResult]:
        """A page of the documents of one collection of the parent, or of all, in the order of their names.

        The value is a list of pairs of name and document, of names greater than `after`, `limit` of them at most.
        With `show_missing`, names that have no document, but documents below them, are there too, with None.
        """

        def evaluate(at_us: int | None) -> list[tuple[str, Document | None]]:
            collections = [f"{parent}/{collection_id}"]
            if not collection_id:
                collections = self._store.collection_names(parent, at_us)
            listed: list[tuple[str, Document | None]] = []
            for collection in collections:
                listed.extend((document.name, document) for document in self._store.collection(collection, at_us))
                if show_missing:
                    listed.extend((name, None) for name in self._store.missing_parents(collection, at_us))
            keyed = [(name_key(name), name, document) for name, document in listed]
            least = name_key(after) if after else ()
            keyed = sorted((entry for entry in keyed if entry[0] > least), key=itemgetter(0))[:limit]
            return [(name, document) for _, name, document in keyed]

        scope = queried_collections(parent, "" if show_missing else collection_id, all_descendants=False)
        return self._observe(evaluate, _names_of_pairs, _documents_billed, scope, transaction, read_time_us)

    def list_collection_ids(self, parent: str, read_time_us: int | None = None) -> list[str]:
        """The ids of the collections below a document or the root that hold a document at any depth, sorted."""
        at_us = self._instant(read_time_us)
        paths = self._store.collection_names(parent, None if read_time_us is None else at_us)
        return [path.rpartition("/")[2] for path in paths]

    def _observe(
        self,
        evaluate: Callable[[int | None], Any],
        names: Callable[[Any], list[str]] | None,
        billed: Callable[[Any], int],
        scope: frozenset[str],
        transaction: bytes | None,
        read_time_us: int | None,
    ) -> QueryResult | Waiting[QueryResult]:
        """Compute something of the documents at an instant (None: the present) in a way that isolation holds for.

        `names` tells of the value which documents to lock, and `billed` how many reads it costs. `scope` tells which
        collections it depends on, as `Footprint.queries` does.
        """

        def result(value: Any, at_us: int) -> QueryResult:
            self.statistics.document_reads += billed(value)
            return QueryResult(value, at_us)

        if transaction is None:
            at_us = self._instant(read_time_us)
            return result(evaluate(None if read_time_us is None else at_us), at_us)
        found = self._use(transaction)

        def from_snapshot() -> QueryResult:
            at_us = self._fix_snapshot(found)
            value = evaluate(at_us)
            if found.optimistic:
                found.observe(evaluate, value, scope)
            return result(value, at_us)

        def present(value: Any = None, of_commit_us: int = -1) -> QueryResult | Waiting[QueryResult]:
            if not self._verify(found):
                return from_snapshot()
            if of_commit_us != self._last_commit_us:  # what was found before waiting may be out of date
                value = evaluate(None)
            if names is not None:
                wants = self._wants_to_read(found, names(value))
                if self._locks.missing(found, wants):
                    proceed = partial(present, value, self._last_commit_us)
                    return self._with_locks(found, wants, proceed, partial(self._doom_and, from_snapshot, found))
            at_us = self._issue_read_time()
            found.verified_us = at_us
            found.observe(evaluate, value, scope)
            return result(value, at_us)

        if found.optimistic or found.snapshot_us is not None:
            return from_snapshot()
        return present()

    # Writing

    def commit(self, writes: Sequence[Any], transaction: bytes | None = None) -> CommitResult | Waiting[CommitResult]:
        """Apply `google.firestore.v1.Write` messages in order, all or none, at one instant.

        A transaction ends with this, whether it succeeds or not. ABORTED: it conflicted and may be tried again.
        """
        names = {self.target(write): Mode.EXCLUSIVE for write in writes}
        if transaction is None:
            if not any(name in self._locks for name in names):
                return self._apply(writes)
            found = Transaction(b"", self._born(), self._now())
        else:
            found = self._use(transaction)
            if writes and not found.read_write:
                self._end(found, "The transaction has ended.")
                raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, "Cannot modify documents in a read-only transaction.")
            if found.doomed is not None:
                self._abort(found, found.doomed)
            if found.optimistic and not names:
                return self._commit_reads(found)
        proceed, refused = partial(self._commit_now, found, writes), partial(self._abort, found)
        return self._with_locks(found, names, proceed, refused, is_last=True)

    def target(self, write: Any) -> str:
        """The name of the document that a write is about. INVALID_ARGUMENT if it cannot be."""
        name = _target(write)
        check_document_name(name, self.root)
        return name

    def subscribe(self, callback: Callable[[Sequence[Change]], None], on_clear: Callable[[], None] | None = None) -> None:
        """Call this after each commit that changed something, within the commit, and `on_clear` after `clear`.

        Neither may block or raise.
        """
        self._subscribers.append(callback)
        if on_clear is not None:
            self._on_clear.append(on_clear)

    # Looking, for those who listen: outside of transactions, and not billed

    def read_time(self) -> int:
        """The present instant; every later commit will be later than this."""
        return self._issue_read_time()

    def is_readable(self, at_us: int) -> bool:
        """Whether the database can be seen as it was at this instant."""
        now_us = self._now()
        return max(self.born_us, now_us - self.settings.retention_us) <= at_us <= now_us

    def document(self, name: str, at_us: int | None = None) -> Document | None:
        """The document as it is now, or as it was at a readable instant."""
        return self._store.get(name, at_us)

    def changes_since(self, at_us: int) -> list[tuple[int, str]]:
        """The times and names of all changes after a readable instant, newest first."""
        return self._store.changes_since(at_us)

    def find(self, query: PreparedQuery, at_us: int | None = None) -> list[Document]:
        """The documents that a query finds, in its order, now or at a readable instant."""
        self._check_indexes(query)
        return self._run(query, at_us)

    # Footprints

    def footprint_of_get(self, names: Sequence[str], transaction: bytes | None = None) -> Footprint:
        """What `get` would touch now. A get in the past touches nothing."""
        if transaction is None:
            return Footprint(reads=frozenset(names))
        return self._footprint_of_read(transaction, Footprint(reads=frozenset(names)), lambda: names)

    def footprint_of_query(self, query: PreparedQuery, transaction: bytes | None = None) -> Footprint:
        """What `query` would touch now. A query in the past touches nothing."""
        read = Footprint(queries=_scope(query))
        if transaction is None:
            return read
        return self._footprint_of_read(transaction, read, lambda: _names_of(self._run(query, None)))

    def footprint_of_commit(self, writes: Sequence[Any], transaction: bytes | None = None) -> Footprint:
        """What `commit` would touch now. If it has to wait, it touches it when whoever it waits for ends."""
        names = frozenset(map(self.target, writes))
        written = Footprint(writes=names, changes=changed_collections(names), takes=names)
        found = self._transactions.get(transaction) if transaction is not None else None
        if found is None:
            youngest = (self._ids_issued + 1, 0)
            found = Transaction(b"", youngest, self._now())
        if found.doomed is not None:
            return Footprint()
        end = self._footprint_of_end(found)
        if found.optimistic and not writes:
            return end
        checked = Footprint(reads=frozenset(found.reads), queries=found.scope)
        return checked | written | end | self._footprint_of_locking(found, dict.fromkeys(names, Mode.EXCLUSIVE))

    def footprint_of_rollback(self, transaction: bytes) -> Footprint:
        """What `rollback`, or the expiry of the transaction, would touch now."""
        found = self._transactions.get(transaction)
        return Footprint() if found is None else self._footprint_of_end(found)

    def locks_of(self, transaction: bytes) -> dict[str, HeldLock]:
        """The locks that a transaction holds, by the names of the documents; none if it has ended."""
        found = self._transactions.get(transaction)
        if found is None:
            return {}
        return {name: HeldLock(lock.holders[found], bool(lock.queue)) for name, lock in found.held.items()}

    def _footprint_of_read(self, id_: bytes, read: Footprint, names: Callable[[], Sequence[str]]) -> Footprint:
        found = self._transactions.get(id_)
        if found is None or found.snapshot_us is not None:
            return Footprint()
        if found.optimistic:
            return read._replace(fixes_instant=True)
        locking = self._footprint_of_locking(found, self._wants_to_read(found, names()))
        return read | Footprint(queries=found.scope) | locking

    def _footprint_of_locking(self, transaction: Transaction, wants: Mapping[str, Mode]) -> Footprint:
        missing = self._locks.missing(transaction, wants)
        if self._locks.is_free_for(transaction, missing):
            takes = frozenset(name for name, mode in missing.items() if mode is not Mode.SHARED)
            return Footprint(shares=frozenset(missing) - takes, takes=takes)
        touched = Footprint(takes=frozenset(missing))
        for victim in self._locks.victims(transaction, missing):
            touched = touched | self._footprint_of_end(victim)._replace(fixes_instant=True)
        return touched

    def _footprint_of_end(self, owner: Owner) -> Footprint:
        takes = {name for name, lock in owner.held.items() if lock.strongest is owner or lock.queue}
        takes.update(name for request in owner.pending for name in request.wants)
        return Footprint(shares=frozenset(owner.held) - takes, takes=frozenset(takes))

    # Housekeeping

    def tick(self) -> None:
        """Refuse locks that were waited for too long, end expired transactions, drop old versions."""
        now_us = self._now()
        while self._deadlines and (self._deadlines[0].deadline_us <= now_us or self._deadlines[0].is_done):
            waiting = self._deadlines.popleft()
            entry = self._waiting.pop(waiting.request, None)
            if entry is None or waiting.request in self._locks.granted:
                continue
            name = next(iter(waiting.request.wants))
            self._locks.cancel(waiting.request)
            waiting.finish(partial(entry[2], f"Waited too long for the lock on {name}."))
            self._settle()
        for transaction in list(self._transactions.values()):
            if now_us >= self._expires_us(transaction):
                self._end(transaction, "The transaction has expired.")
        self._contended_until_us = {name: until_us for name, until_us in self._contended_until_us.items() if until_us > now_us}
        self._forget(now_us)

    def next_deadline_us(self) -> int | None:
        """When `tick` will next have something to end; None if nothing waits and no transaction is active."""
        deadlines = [waiting.deadline_us for waiting in self._deadlines if not waiting.is_done]
        deadlines.extend(map(self._expires_us, self._transactions.values()))
        return min(deadlines, default=None)

    def clear(self) -> None:
        """Drop all documents and end all transactions. Time goes on, and no change is published."""
        waiting = [each for each, _, _ in self._waiting.values()]
        self._transactions.clear()
        self._reset()
        self.born_us = self._last_us = max(self._clock(), self._last_us + 1)
        for each in waiting:
            each.finish(partial(_raise, RpcError(grpc.StatusCode.ABORTED, "The database was cleared.")))
        for callback in self._on_clear:
            callback()

    def sizes(self) -> dict[str, int]:
        """How much is kept: documents, superseded versions, active transactions, locks."""
        return {
            "documents": len(self._store),
            "pastVersions": self._store.past_versions,
            "transactions": len(self._transactions),
            "locks": len(self._locks),
        }

    # Time

    def _now(self) -> int:
        return max(self._clock(), self._last_us)

    def _issue_read_time(self) -> int:
        """Now; every later commit will be later than this."""
        now_us = self._clock()
        if now_us > self._last_us:
            self._last_us = now_us
            return now_us
        return self._last_us

    def _instant(self, read_time_us: int | None) -> int:
        """The instant to read at: the one asked for, if it can be had, or now."""
        now_us = self._issue_read_time()
        if read_time_us is None:
            return now_us
        if read_time_us > now_us:
            raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, "read_time: the instant is in the future.")
        if read_time_us < now_us - self.settings.retention_us:
            raise RpcError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"read_time: the instant is too old; the past {self.settings.retention_us // SECOND_US} s are kept.",
            )
        return read_time_us

    def _expires_us(self, transaction: Transaction) -> int:
        total_us = transaction.begun_us + self.settings.transaction_total_us
        if transaction.pending:
            return total_us  # it is not idle, it waits
        return min(total_us, transaction.used_us + self.settings.transaction_idle_us)

    def _forget(self, now_us: int) -> None:
        self._next_forget_us = now_us + FORGET_INTERVAL_US
        horizon_us = now_us - self.settings.retention_us
        oldest_us = self._store.oldest_superseded_us()
        if oldest_us is None or oldest_us > horizon_us:
            return
        for transaction in self._transactions.values():
            needed_us = transaction.oldest_needed_us
            if needed_us is not None and needed_us < horizon_us:
                horizon_us = needed_us
        self._store.forget(horizon_us)

    # Reads of transactions

    def _use(self, id_: bytes) -> Transaction:
        transaction = self._transactions.get(id_)
        if transaction is None:
            raise _invalid_transaction()
        now_us = self._now()
        if now_us >= self._expires_us(transaction):
            self._end(transaction, "The transaction has expired.")
            raise _invalid_transaction()
        transaction.used_us = now_us
        return transaction

    def _wants_to_read(self, transaction: Transaction, names: Sequence[str]) -> dict[str, Mode]:
        """The locks for reading these documents: shared, but for those that are contended."""
        wants = dict.fromkeys(names, Mode.SHARED)
        if self._contended_until_us:
            now_us = self._now()
            for name in names:
                if self._contended_until_us.get(name, 0) > now_us:
                    wants[name] = Mode.RESERVED
        if transaction.lost in wants:
            wants[transaction.lost] = Mode.RESERVED
        return wants

    def _get_present(self, transaction: Transaction, names: Sequence[str]) -> ReadResult:
        if transaction.observations and not self._verify(transaction):
            return self._get_from_snapshot(transaction, names)
        at_us = transaction.verified_us = self._issue_read_time()
        read = self._store.get
        return ReadResult([read(name) for name in names], at_us)

    def _get_from_snapshot(self, transaction: Transaction, names: Sequence[str]) -> ReadResult:
        at_us = self._fix_snapshot(transaction)
        documents = [self._store.get(name, at_us) for name in names]
        if transaction.optimistic:
            transaction.reads.update(zip(names, documents, strict=True))
        return ReadResult(documents, at_us)

    def _fix_snapshot(self, transaction: Transaction) -> int:
        if transaction.snapshot_us is None:
            transaction.snapshot_us = transaction.verified_us = self._issue_read_time()
        return transaction.snapshot_us

    def _check_indexes(self, query: PreparedQuery) -> None:
        if self.settings.indexes is not None:
            self.settings.indexes.check(query)

    def _run(self, query: PreparedQuery, at_us: int | None) -> list[Document]:
        store = self._store
        candidates: Iterable[Document]
        if query.collection_id and query.all_descendants:
            paths = store.collection_group(query.parent, query.collection_id)
            candidates = chain.from_iterable(candidates_in(store, query, path, at_us) for path in paths)
        elif query.collection_id:
            candidates = candidates_in(store, query, f"{query.parent}/{query.collection_id}", at_us)
        elif query.all_descendants:
            candidates = store.descendants(query.parent, at_us)
        else:
            names = store.collection_names(query.parent, at_us)
            candidates = chain.from_iterable(store.collection(path, at_us) for path in names)
        return query.run(candidates)

    def _verify(self, transaction: Transaction) -> bool:
        """Whether all queries of the transaction would still find the same; if not, it is doomed."""
        if self._last_commit_us <= transaction.verified_us:
            return True
        if all(evaluate(None) == value for evaluate, value in transaction.observations):
            return True
        self._doom(transaction, "Documents that match a query of this transaction were changed.")
        return False

    # Locks

    def _with_locks(
        self,
        transaction: Transaction,
        wants: Mapping[str, Mode],
        proceed: Callable[[], T | Waiting[T]],
        refused: Callable[[str], T | Waiting[T]],
        *,
        is_last: bool = False,
    ) -> T | Waiting[T]:
        """Do `proceed` under these locks, now or later; or `refused`, with the reason, if they cannot be had.

        `is_last`: the transaction ends with this.
        """
        request = self._locks.acquire(transaction, wants, is_last=is_last)
        if request is None:
            if not self._locks.wounded:
                return proceed()
            self._doom_wounded()
            try:
                return proceed()
            finally:
                self._settle()
        waiting: Waiting[T] = Waiting(request, self._now() + self.settings.lock_wait_us, self._withdraw)
        self._waiting[request] = (waiting, proceed, refused)
        self._deadlines.append(waiting)
        if self._locks.wounded:
            self._doom_wounded()
            self._settle()
        return waiting

    def _doom_wounded(self) -> None:
        """Doom the transactions that have lost their locks. To be done before anything that they read can change."""
        wounded = self._locks.wounded
        while wounded:
            transaction, name, requests = wounded.popleft()
            assert isinstance(transaction, Transaction)
            if self.settings.contention_memory_us:
                self._contended_until_us[name] = self._now() + self.settings.contention_memory_us
                self._lost[transaction.id] = name
                if len(self._lost) > MAX_LOST:
                    self._lost.popitem(last=False)
            reason = f"An older transaction needs {name}."
            self._freeze(transaction, reason)
            for request in requests:
                waiting, _, refused = self._waiting.pop(request)
                self._refused.append((waiting, partial(refused, reason)))

    def _settle(self) -> None:
        """Finish what waited for locks that were granted or refused by now. Not recursive, however long the queue."""
        if self._settling:
            return
        self._settling = True
        try:
            granted = self._locks.granted
            while self._refused or granted:
                if self._refused:
                    waiting, proceed = self._refused.popleft()
                    waiting.finish(proceed)
                    continue
                request = granted.popleft()
                waiting, proceed, refused = self._waiting.pop(request)
                transaction = request.owner
                assert isinstance(transaction, Transaction)
                transaction.used_us = self._now()
                if transaction.finished:
                    proceed = partial(_raise, _invalid_transaction())
                elif transaction.doomed is not None:  # wounded after the locks were granted
                    proceed = partial(refused, transaction.doomed)
                waiting.finish(proceed)
        finally:
            self._settling = False

    def _withdraw(self, request: Request) -> None:
        """The client of a waiting operation is gone."""
        if self._waiting.get(request) is None or request in self._locks.granted:
            return
        del self._waiting[request]
        self._locks.cancel(request)
        self._settle()

    def _doom(self, transaction: Transaction, reason: str) -> None:
        """Let the transaction read on, from the last instant at which all it read was true; it cannot commit."""
        if transaction.doomed is None:
            self._freeze(transaction, reason)
            self._locks.release(transaction)
            self._settle()

    def _freeze(self, transaction: Transaction, reason: str) -> None:
        transaction.doomed = reason
        transaction.snapshot_us = transaction.verified_us if transaction.observations else self._issue_read_time()

    def _doom_and(self, read: Callable[[], T], transaction: Transaction, reason: str) -> T:
        self._doom(transaction, reason)
        return read()

    # Ends of transactions

    def _commit_now(self, transaction: Transaction, writes: Sequence[Any]) -> CommitResult:
        """Commit a transaction that has all its locks."""
        if not self._is_true_now(transaction):
            self._abort(transaction, "Documents that this transaction has read were changed.")
        try:
            return self._apply(writes)
        finally:
            self._end(transaction, "The transaction has ended.")

    def _commit_reads(self, transaction: Transaction) -> CommitResult:
        """Commit an optimistic transaction that has only read. What it has read was true at once; that is enough."""
        at_us = self._fix_snapshot(transaction)
        self._end(transaction, "The transaction has ended.")
        self.statistics.commits += 1
        return CommitResult([], at_us)

    def _is_true_now(self, transaction: Transaction) -> bool:
        """Whether everything that the transaction read would be read again now."""
        if not transaction.read_write or self._last_commit_us <= transaction.verified_us:
            return True
        return all(self._store.get(name) is seen for name, seen in transaction.reads.items()) and all(
            evaluate(None) == value for evaluate, value in transaction.observations
        )

    def _abort(self, transaction: Transaction, reason: str) -> NoReturn:
        self.statistics.aborts += 1
        self._end(transaction, "The transaction was aborted.")
        raise RpcError(grpc.StatusCode.ABORTED, f"Too much contention on these documents. Please try again. {reason}")

    def _end(self, transaction: Transaction, reason: str) -> None:
        """Forget the transaction, free its locks, fail what still waits on its behalf."""
        transaction.finished = True
        self._transactions.pop(transaction.id, None)
        abandoned = [self._waiting.pop(request) for request in transaction.pending]
        self._locks.release(transaction)
        for waiting, _, _ in abandoned:
            waiting.finish(partial(_raise, RpcError(grpc.StatusCode.INVALID_ARGUMENT, reason)))
        self._settle()

    def _apply(self, writes: Sequence[Any]) -> CommitResult:
        """Apply the writes; if one fails, none has happened."""
        commit_time_us = max(self._clock(), self._last_us + 1)
        applied: list[Applied] = []
        touched: dict[str, tuple[Document | None, Document | None]] = {}
        error_us = self.settings.request_time_error_us
        request_us = commit_time_us + error_us() if error_us else commit_time_us
        if len(writes) > 1:
            check_transforms(writes)
        for write in writes:
            name = _target(write)
            before, current = touched.get(name) or (self._store.get(name),) * 2
            outcome = apply(write, current, commit_time_us, request_us)
            applied.append(outcome)
            touched[name] = (before, outcome.document)
        self._last_us = commit_time_us
        changes = [
            Change(name, before, after, commit_time_us) for name, (before, after) in touched.items() if before is not after
        ]
        statistics = self.statistics
        statistics.commits += 1
        for write in writes:
            if write.HasField("delete"):
                statistics.document_deletes += 1
            else:
                statistics.document_writes += 1
        if changes:
            self._last_commit_us = commit_time_us
            for change in changes:
                self._store.put(change.name, change.after, commit_time_us)
            for callback in self._subscribers:
                callback(changes)
        if commit_time_us >= self._next_forget_us:
            self._forget(commit_time_us)
        return CommitResult(applied, commit_time_us)

    def _born(self, retry_of: bytes | None = None) -> tuple[int, int]:
        """The age of a new transaction: that of the first of its attempts, then that of this one."""
        self._ids_issued += 1
        own = self._ids_issued
        return (age_of(retry_of)[0] if retry_of and self._was_issued(retry_of) else own, own)

    def _was_issued(self, id_: bytes) -> bool:
        return len(id_) == 24 and id_.startswith(self._id_prefix) and max(age_of(id_)) <= self._ids_issued


def age_of(id_: bytes) -> tuple[int, int]:
    """The age of the transaction that has this id, as in Owner.born."""
    return int.from_bytes(id_[8:16], "big"), int.from_bytes(id_[16:], "big")


def _target(write: Any) -> str:
    """The name of the document that a write is about."""
    operation = write.WhichOneof("operation")
    if operation == "update":
        return str(write.update.name)
    if operation == "delete":
        return str(write.delete)
    if operation == "transform":
        return str(write.transform.document)
    raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, "A write must have an update, a delete or a transform.")


def _scope(query: PreparedQuery) -> frozenset[str]:
    return queried_collections(query.parent, query.collection_id, query.all_descendants)


def _names_of(documents: Sequence[Document]) -> list[str]:
    return [document.name for document in documents]


def _names_of_pairs(listed: Sequence[tuple[str, Document | None]]) -> list[str]:
    return [name for name, _ in listed]


def _documents_billed(documents: Sequence[Any]) -> int:
    return len(documents) or 1


def _entries_billed(aggregated: Aggregated) -> int:
    return max(1, -(-aggregated.matched // 1_000))


def _invalid_transaction() -> RpcError:
    return RpcError(grpc.StatusCode.INVALID_ARGUMENT, "The referenced transaction has expired or is no longer valid.")


def _raise(error: RpcError) -> NoReturn:
    raise error
