"""The database as one process of an execution sees it: each call a step, with the footprint of what it touches."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from emulator.engine import Engine
from emulator.errors import RpcError
from tests.simulation.explorer.footprint import Footprint, Resources
from tests.simulation.explorer.world import CRASH, READ_FAILS, UNKNOWN_OUTCOME, Failure
from tests.simulation.product import Product
from tests.simulation.translation import ROOT, Translator
from tests.simulation.values import to_time, to_us

if TYPE_CHECKING:
    from tests.simulation.explorer.execution import Execution

_ON_READ = CRASH | READ_FAILS
_ON_COMMIT = CRASH | UNKNOWN_OUTCOME


class LockView:
    """The engine's locks, as resources."""

    def __init__(self, engine: Engine, resources: Resources) -> None:
        self._engine = engine
        self._resources = resources

    def written(self, paths: Iterable[str]) -> int:
        """The resources that a write of these documents writes."""
        mask = 0
        for path in paths:
            resources = self._resources
            mask |= resources.document(path) | resources.lock(path) | resources.members(path.rpartition("/")[0])
        return mask

    def read(self, paths: Iterable[str]) -> Footprint:
        """What a read under locks of these documents touches: readers share a lock, unless it is contended for."""
        reads = writes = 0
        contended = self._engine._contended_until_us
        for path in paths:
            reads |= self._resources.document(path)
            lock = self._resources.lock(path)
            if ROOT + path in contended:
                writes |= lock
            else:
                reads |= lock
        return Footprint(reads, writes)

    @contextmanager
    def watched(self, touch: Callable[[tuple[int, int]], None]) -> Iterator[None]:
        """Within, whoever loses a lock has it released: a read of the lock while nobody waits for it, else a write.

        To release a shared lock that nobody waits for may change places with what other readers do.
        """
        before, waiting = self._held()
        yield
        after, still = self._held()
        for id_, locks in before.items():
            now = {} if id_ in still - waiting else after.get(id_, {})
            for name, needs_order in locks.items():
                if name not in now:
                    lock = self._resources.lock(name[len(ROOT) :])
                    touch((0, lock) if needs_order else (lock, 0))

    def _held(self) -> tuple[dict[bytes, dict[str, bool]], set[bytes]]:
        """By transaction and document: whether giving the lock up would change what others see. And who waits.

        Who begins to wait is asked about all it holds: from then on a deadlock is possible.
        """
        transactions = self._engine._transactions
        held = {
            id_: {name: lock.exclusive is transaction or bool(lock.queue) for name, lock in transaction.held.items()}
            for id_, transaction in transactions.items()
        }
        return held, {id_ for id_, transaction in transactions.items() if transaction.pending}


class ExploredFirestore:
    """See balance.database.firestore.Firestore."""

    def __init__(self, execution: "Execution", name: str, product: Product) -> None:
        """`name` is the process's."""
        self.execution = execution
        self.name = name
        self.product = product
        self.translator = Translator(product, execution.reader)
        self.transactions: list[bytes] = []
        """The ids of all that were begun."""

    def begin(self) -> "ExploredTransaction":
        """See Firestore.begin."""
        return ExploredTransaction(self)

    def get(self, paths: Sequence[str], *, read_time: datetime | None = None) -> list[Any]:
        """See Firestore.get."""
        engine, names = self.execution.engine, [ROOT + path for path in paths]
        if read_time is not None:
            read = self._past(partial(engine.get, names, None, to_us(read_time)))
        else:
            resources = self.execution.resources
            reads = resources.sources
            for path in paths:
                reads |= resources.document(path)
            shown = self.execution.shown(paths)
            footprint = Footprint(reads, resources.instant)
            read = self.call(f"get {shown}", partial(engine.get, names), footprint, _ON_READ)
        return self.translator.snapshots(paths, read)

    def query(self, query: Any, *, read_time: datetime | None = None) -> Iterator[Any]:
        """See Firestore.query."""
        engine, plan = self.execution.engine, self.translator.query(query)
        if read_time is not None:
            result = self._past(partial(engine.query, plan, None, to_us(read_time)))
        else:
            shown = self.execution.shown([query.collection])
            reads = self.execution.resources.members(query.collection)
            result = self.call(f"query {shown}", partial(engine.query, plan), Footprint(reads), _ON_READ)
        yield from self.translator.matches(query, result)

    def _past(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except RpcError as error:
            self.translator.fail(error, past=True)

    def call(
        self,
        label: str,
        action: Callable[[], Any],
        footprint: Footprint | Callable[[], Footprint],
        failures: frozenset[Failure],
        *,
        late: Callable[[], None] | None = None,
    ) -> Any:
        """A step; the engine's errors become the product's."""
        try:
            return self.execution.step(label, action, footprint, failures, late)
        except RpcError as error:
            self.translator.fail(error, commit=late is not None)


class ExploredTransaction:
    """See balance.database.firestore.Transaction."""

    def __init__(self, firestore: ExploredFirestore) -> None:
        self._firestore = firestore
        self._execution = firestore.execution
        self._id: bytes | None = None
        self._queried = Footprint()

    def get(self, paths: Sequence[str]) -> list[Any]:
        """See Transaction.get."""
        engine, names = self._execution.engine, [ROOT + path for path in paths]
        label = f"get {self._execution.shown(paths)} in a transaction"
        read = self._call(label, lambda: engine.get(names, self._begun()), lambda: self._execution.locks.read(paths))
        return self._firestore.translator.snapshots(paths, read)

    def query(self, query: Any) -> list[Any]:
        """See Transaction.query."""
        engine, plan = self._execution.engine, self._firestore.translator.query(query)

        def footprint() -> Footprint:
            found = [document.name[len(ROOT) :] for document in engine.query(plan).value]
            self._queried |= Footprint(self._execution.resources.members(query.collection)) | self._execution.locks.read(found)
            return self._queried

        label = f"in a transaction query {self._execution.shown([query.collection])}"
        return self._firestore.translator.matches(
            query, self._call(label, lambda: engine.query(plan, self._begun()), footprint)
        )

    def commit(self, writes: Iterable[Any]) -> datetime:
        """See Transaction.commit."""
        assert self._id is not None, "the first read of a transaction is a get"
        execution, id_, writes = self._execution, self._id, list(writes)
        messages = [self._firestore.translator.write(write) for write in writes]
        paths = [write.path for write in writes]
        label = f"commit {execution.shown(paths)}"
        action = partial(execution.engine.commit, messages, id_)

        def footprint() -> Footprint:
            return Footprint(self._queried.reads, execution.locks.written(paths) | self._queried.writes)

        def late() -> None:
            # It is under way, and the client sends no rollback after it: one that overtook it would make it a lost one.
            self._id = None
            number = self._firestore.transactions.index(id_)
            name = f"late commit {number} of {self._firestore.name}"
            own = Footprint(execution.resources(f"transaction {number} of {self._firestore.name}"))
            execution.spawn(name, lambda: _commit_late(execution, label, action, lambda: footprint() | own))

        result = self._firestore.call(label, action, footprint, _ON_COMMIT, late=late)
        self._id = None
        return to_time(result.commit_time_us)

    def rollback(self) -> None:
        """See Transaction.rollback."""
        execution, id_ = self._execution, self._id
        self._id = None
        process = execution.running.process
        if id_ is None or not execution.engine.is_active(id_) or execution.is_over or (process and not process.is_alive):
            return

        def roll_back() -> None:
            if execution.engine.is_active(id_):
                execution.engine.rollback(id_)

        execution.step("roll back", roll_back)

    def _begun(self) -> bytes:
        if self._id is None:
            self._id = self._execution.engine.begin()
            self._firestore.transactions.append(self._id)
        return self._id

    def _call(self, label: str, action: Callable[[], Any], footprint: Callable[[], Footprint]) -> Any:
        return self._firestore.call(label, action, footprint, _ON_READ)


def _commit_late(execution: "Execution", label: str, action: Callable[[], Any], footprint: Callable[[], Footprint]) -> None:
    # The client has long given up on it.
    with suppress(RpcError):
        execution.step(f"{label}, late", action, footprint)
