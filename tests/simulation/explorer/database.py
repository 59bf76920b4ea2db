"""The database as one process of an execution sees it: each call a step, with the footprint of what it touches."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from emulator.engine import ReadResult
from emulator.errors import RpcError
from emulator.footprints import Footprint as EngineFootprint
from emulator.transactions import Waiting
from tests.simulation.explorer.footprint import Footprint
from tests.simulation.explorer.world import CRASH, READ_FAILS, UNKNOWN_OUTCOME, Failure
from tests.simulation.product import Product
from tests.simulation.translation import ROOT, Translator
from tests.simulation.values import to_time, to_us

if TYPE_CHECKING:
    from tests.simulation.explorer.execution import Execution

_ON_READ = CRASH | READ_FAILS
_ON_COMMIT = CRASH | UNKNOWN_OUTCOME


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
        self._instant_us = -1
        self._late = 0

    def begin(self, *, retry_of: bytes = b"") -> "ExploredTransaction":
        """See Firestore.begin."""
        return ExploredTransaction(self, retry_of)

    def get(self, paths: Sequence[str], *, read_time: datetime | None = None, timeout_s: float | None = None) -> list[Any]:
        """See Firestore.get."""
        engine, names = self.execution.engine, [ROOT + path for path in paths]
        call = engine.footprint_of_get(names)
        if read_time is not None:
            read = self._past(partial(engine.get, names, None, to_us(read_time)), call, read_time)
        elif timeout_s is not None:
            # Who is in such a hurry makes no snapshot of it.
            shown = self.execution.shown(paths)
            read = self.call(f"get {shown}", partial(engine.get, names), self.execution.resources.of(call), _ON_READ)
        else:
            footprint = self.execution.resources.of_instant(call)
            read = self.call(f"get {self.execution.shown(paths)}", partial(self._get_present, names), footprint, _ON_READ)
        return self.translator.snapshots(paths, read)

    def _get_present(self, names: Sequence[str]) -> Any:
        read = self.execution.engine.get(names)
        assert isinstance(read, ReadResult), "a read without a transaction does not wait"
        self._instant_us = read.read_time_us
        self.execution.instants.read(read.read_time_us)
        return read

    def query(self, query: Any, *, read_time: datetime | None = None) -> Iterator[Any]:
        """See Firestore.query."""
        engine, plan = self.execution.engine, self.translator.query(query)
        call = engine.footprint_of_query(plan)
        if read_time is not None:
            result = self._past(partial(engine.query, plan, None, to_us(read_time)), call, read_time)
        else:
            footprint = self.execution.resources.of(call)
            shown = self.execution.shown([query.collection])
            result = self.call(f"query {shown}", partial(engine.query, plan), footprint, _ON_READ)
        yield from self.translator.matches(query, result)

    def commit(self, writes: Iterable[Any], *, timeout_s: float | None = None, max_bytes: int | None = None) -> datetime:
        """See Firestore.commit. How long it waits for a lock is not told: whoever gives up has lost it, or it comes late."""
        execution, engine, writes = self.execution, self.execution.engine, list(writes)
        messages = [self.translator.write(write) for write in writes]
        label = f"commit {execution.shown([write.path for write in writes])} without locks"
        action = partial(engine.commit, messages)

        def footprint() -> Footprint:
            return execution.resources.of(engine.footprint_of_commit(messages))

        def begin() -> Any:
            answer = action()
            if isinstance(answer, Waiting):
                # It is as old as this, among those that wait and begin.
                execution.touch(Footprint(0, execution.resources.age))
            return answer

        def late() -> None:
            self._late += 1
            execution.spawn_late(
                f"late commit {self._late} of {self.name}", lambda: _commit_late(execution, label, begin, footprint)
            )

        result = self.call(label, begin, footprint, _ON_COMMIT, late=late, conditional=True)
        return to_time(result.commit_time_us)

    def _past(self, action: Callable[[], Any], call: EngineFootprint, read_time: datetime) -> Any:
        if to_us(read_time) == self._instant_us:
            # The step that fixed the instant is still going on. It depends on what is read as of it.
            self.execution.touch(self.execution.resources.of(call))
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
        conditional: bool = False,
    ) -> Any:
        """A step; the engine's errors become the product's."""
        try:
            return self.execution.step(label, action, footprint, failures, late)
        except RpcError as error:
            self.translator.fail(error, commit=late is not None and not conditional, conditional=conditional)


class ExploredTransaction:
    """See balance.database.firestore.Transaction."""

    def __init__(self, firestore: ExploredFirestore, retry_of: bytes) -> None:
        self._firestore = firestore
        self._execution = firestore.execution
        self._retry_of = retry_of
        self._id: bytes | None = None
        self._name = b""

    @property
    def id(self) -> bytes:
        """See Transaction.id."""
        return self._name

    def get(self, paths: Sequence[str]) -> list[Any]:
        """See Transaction.get."""
        engine, names = self._execution.engine, [ROOT + path for path in paths]
        read = self._firestore.call(
            f"get {self._execution.shown(paths)} in a transaction",
            lambda: engine.get(names, self._begun()),
            lambda: self._touched(engine.footprint_of_get(names, self._begun())),
            _ON_READ,
        )
        return self._firestore.translator.snapshots(paths, read)

    def query(self, query: Any) -> list[Any]:
        """See Transaction.query."""
        engine, plan = self._execution.engine, self._firestore.translator.query(query)
        result = self._firestore.call(
            f"query {self._execution.shown([query.collection])} in a transaction",
            lambda: engine.query(plan, self._begun()),
            lambda: self._touched(engine.footprint_of_query(plan, self._begun())),
            _ON_READ,
        )
        return self._firestore.translator.matches(query, result)

    def commit(self, writes: Iterable[Any]) -> datetime:
        """See Transaction.commit."""
        assert self._id is not None, "the first read of a transaction is a get"
        execution, engine, id_, writes = self._execution, self._execution.engine, self._id, list(writes)
        messages = [self._firestore.translator.write(write) for write in writes]
        label = f"commit {execution.shown([write.path for write in writes])}"
        action = partial(engine.commit, messages, id_)

        def footprint() -> Footprint:
            return execution.resources.of(engine.footprint_of_commit(messages, id_))

        def late() -> None:
            # It is under way, and the client sends no rollback after it: one that overtook it would make it a lost one.
            self._id = None
            number = self._firestore.transactions.index(id_)
            name = f"late commit {number} of {self._firestore.name}"
            own = Footprint(execution.resources(f"transaction {number} of {self._firestore.name}"))
            execution.spawn_late(name, lambda: _commit_late(execution, label, action, lambda: footprint() | own))

        result = self._firestore.call(label, action, footprint, _ON_COMMIT, late=late)
        self._id = execution.running.transaction = None
        self._name = b""
        return to_time(result.commit_time_us)

    def rollback(self) -> None:
        """See Transaction.rollback."""
        execution, engine, id_ = self._execution, self._execution.engine, self._id
        self._id = None
        process = execution.running.process
        if id_ is None or not engine.is_active(id_) or execution.is_over or (process and not process.is_alive):
            return

        def roll_back() -> None:
            if engine.is_active(id_):
                engine.rollback(id_)

        execution.step("roll back", roll_back, lambda: execution.resources.of(engine.footprint_of_rollback(id_)))

    def _begun(self) -> bytes:
        if self._id is None:
            self._id = self._name = self._execution.engine.begin(retry_of=self._retry_of or None)
            self._firestore.transactions.append(self._id)
            self._execution.running.transaction = self._id
            self._execution.touch(Footprint(0, self._execution.resources.age))
        return self._id

    def _touched(self, call: EngineFootprint) -> Footprint:
        return self._execution.resources.of(call)


def _commit_late(execution: "Execution", label: str, action: Callable[[], Any], footprint: Callable[[], Footprint]) -> None:
    # The client has long given up on it.
    with suppress(RpcError):
        execution.step(f"{label}, late", action, footprint)
