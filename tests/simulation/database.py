"""The product's narrow view of Firestore over the embedded server's engine, in process and on virtual time.

Each call is a point at which the actor sleeps for as long as the call takes, so that others come between; and at which it may
fail, or its process die. Requests, answers and errors are encoded, decoded and translated by the product's own store.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from random import Random
from typing import Any

import grpc

from emulator.engine import Engine, ReadResult
from emulator.errors import RpcError
from emulator.transactions import Waiting
from tests.simulation.product import Product
from tests.simulation.profile import SECOND_US, Chaos, Fate, Profile
from tests.simulation.scheduler import Scheduler
from tests.simulation.translation import ROOT, Translator
from tests.simulation.values import Reader, shuffled, to_time, to_us

_CONFLICTS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
)


class Network:
    """What lies between processes and the engine: latency, faults, and the read documents that they share."""

    def __init__(
        self,
        engine: Engine,
        scheduler: Scheduler,
        random: Random,
        profile: Profile,
        chaos: Chaos,
        reader: Reader,
        order: Random,
    ) -> None:
        """`order` is for the order of maps, where any may come."""
        self.engine = engine
        self.scheduler = scheduler
        self.random = random
        self.chaos = chaos
        self.reader = reader
        self.met: Counter[Fate] = Counter()
        """What happened to calls, and how often."""
        self.refuses_modes = profile.optimistic and random.random() < 0.5
        """Whether transactions have the database's mode, whatever they ask for."""
        self.violation: str | None = None
        """What a process did that it must not, whatever comes of it."""
        self.commits_of_several = 0
        """Commits that took effect and hold balances of more than one group."""
        self.real_codec = profile.real_codec
        self.slow_queries = profile.slow_queries
        self._slow = profile.slow
        self._order = order

    def latency_us(self) -> int:
        """How long a call is under way."""
        roll = self.random.random()
        if self.chaos.stall and roll < self.chaos.stall:
            return int(roll / self.chaos.stall * 100 * SECOND_US)
        if self._slow and roll > 0.96:
            return int((roll - 0.96) * 250 * SECOND_US)
        return int(1_000 / (roll + 0.02))

    def post(self, writes: Sequence[Any]) -> None:
        """Write from outside of any transaction, without waiting for the answer."""
        answer = self.engine.commit(writes)
        if isinstance(answer, Waiting):
            self.tick_at(answer.deadline_us)

    def tick_at(self, time_us: int) -> None:
        """Have the engine end what waited or lived too long at that time."""
        self.scheduler.at(time_us, self.engine.tick)

    def arranged(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Fields with every map in some order: what the product decodes itself comes as the process has it."""
        found: dict[str, Any] = shuffled(fields, self._order)
        return found


class SimulatedFirestore:
    """The database as one process sees it."""

    def __init__(self, network: Network, product: Product, die: Callable[[], None], is_alive: Callable[[], bool]) -> None:
        self.network = network
        self.product = product
        self.die = die
        self.is_alive = is_alive
        self.translator = Translator(product, network.reader, network.arranged, decodes=network.real_codec)
        self._refuted: set[tuple[str, int]] = set()
        """Conditions (a document's name and update time) that did not hold when this process was told that one did not."""

    def begin(self, *, retry_of: bytes = b"") -> "SimulatedTransaction":
        """See Firestore.begin."""
        return SimulatedTransaction(self, retry_of)

    def get(self, paths: Sequence[str], *, read_time: datetime | None = None, timeout_s: float | None = None) -> list[Any]:
        """See Firestore.get."""
        at_us = None if read_time is None else to_us(read_time)
        self.before_read(in_transaction=False)
        engine = self.network.engine
        read = self.call(lambda: engine.get([ROOT + path for path in paths], None, at_us), past=read_time is not None)
        return self.translator.snapshots(paths, read)

    def query(self, query: Any, *, read_time: datetime | None = None) -> Iterator[Any]:
        """See Firestore.query."""
        at_us = None if read_time is None else to_us(read_time)
        self.before_read(in_transaction=False)
        if self.network.slow_queries:
            self.network.scheduler.sleep(int(self.network.random.random() ** 3 * 2 * SECOND_US))
        engine, plan = self.network.engine, self.translator.query(query)
        result = self.call(lambda: engine.query(plan, None, at_us), past=read_time is not None)
        yield from self.translator.matches(query, result)

    def commit(self, writes: Iterable[Any], *, timeout_s: float | None = None, max_bytes: int | None = None) -> datetime:
        """See Firestore.commit."""
        network, errors = self.network, self.product.firestore
        messages = [self.translator.write(write) for write in writes]
        if max_bytes is not None and sum(message.ByteSize() for message in messages) > max_bytes:
            raise errors.TooLarge(max_bytes)
        stale = [condition for condition in map(_condition, messages) if condition in self._refuted]
        if stale:
            network.violation = f"a commit rests on {stale[0]}, of which this process knows that it is not so"
        latency_us = network.latency_us()
        timeout_us = None if timeout_s is None else int(timeout_s * SECOND_US)
        network.scheduler.sleep(latency_us if timeout_us is None else min(latency_us, timeout_us))
        fate = network.chaos.of_commit()
        if fate is None and timeout_us is not None and latency_us > timeout_us:
            fate = Fate.LATE if network.random.random() < 0.5 else Fate.LOST
        if fate is not None:
            network.met[fate] += 1
        if fate is Fate.CRASH_BEFORE:
            self.crash()
        if fate is Fate.LATE:
            network.scheduler.after(int(network.random.random() * 2 * SECOND_US), lambda: _commit_late(network, messages, None))
        if fate in (Fate.LATE, Fate.LOST):
            raise errors.TransientError(fate)
        if fate is Fate.ABORTED:
            raise errors.Conflict(fate)
        try:
            result = self.call(lambda: network.engine.commit(messages), conditional=True, timeout_us=timeout_us)
        except errors.Conflict:
            self._refuted.update(
                condition for condition in map(_condition, messages) if condition and not self._holds(*condition)
            )
            raise
        network.commits_of_several += sum(message.update.name.endswith("/metadata/balance") for message in messages) > 1
        if fate is Fate.CRASH_AFTER:
            self.crash()
        if fate is Fate.UNKNOWN:
            raise errors.TransientError(fate)
        return to_time(result.commit_time_us)

    def _holds(self, name: str, update_time_us: int) -> bool:
        """Whether a document stands as last written at that time."""
        read = self.network.engine.get([name])
        assert isinstance(read, ReadResult), "outside of a transaction nothing waits"
        (found,) = read.documents
        return found is not None and found.update_time.ToMicroseconds() == update_time_us

    def before_read(self, *, in_transaction: bool) -> None:
        """Let time pass, and perhaps fail."""
        network = self.network
        network.scheduler.sleep(network.latency_us())
        fate = network.chaos.of_read(in_transaction)
        if fate is None:
            return
        network.met[fate] += 1
        if fate is Fate.CRASH_BEFORE:
            self.crash()
        raise self.product.firestore.TransientError(fate)

    def crash(self) -> None:
        """The process dies; does not return."""
        scheduler = self.network.scheduler
        scheduler.at(scheduler.now_us, self.die)
        scheduler.wait(lambda wake: None)
        raise AssertionError("a dead process went on")

    def call(
        self,
        operation: Callable[[], Any],
        *,
        commit: bool = False,
        past: bool = False,
        conditional: bool = False,
        timeout_us: int | None = None,
    ) -> Any:
        """Do something on the engine, after waiting for locks if need be; its errors become the product's."""
        try:
            answer = operation()
            if isinstance(answer, Waiting):
                self._wait(answer, timeout_us)
                return answer.result()
            return answer
        except RpcError as error:
            self.translator.fail(error, commit=commit, past=past, conditional=conditional)

    def _wait(self, answer: Waiting[Any], timeout_us: int | None) -> None:
        """Wait for locks. Beyond the time the server may or may not notice that nobody waits any more."""
        network = self.network
        network.tick_at(answer.deadline_us)
        if timeout_us is None:
            network.scheduler.wait(answer.on_ready)
            return
        woken: list[None] = []

        def subscribe(wake: Callable[[], None]) -> None:
            def wake_once() -> None:
                if not woken:
                    woken.append(None)
                    wake()

            answer.on_ready(wake_once)
            network.scheduler.after(timeout_us, wake_once)

        network.scheduler.wait(subscribe)
        if not answer.is_done:
            network.met[Fate.LATE] += 1
            if network.random.random() < 0.5:
                answer.cancel()
            raise self.product.firestore.TransientError(Fate.LATE)


class SimulatedTransaction:
    """One attempt at a read-write transaction."""

    def __init__(self, firestore: SimulatedFirestore, retry_of: bytes) -> None:
        self._firestore = firestore
        self._retry_of = retry_of
        self._id: bytes | None = None
        self._name = b""

    @property
    def id(self) -> bytes:
        """See Transaction.id."""
        return self._name

    def get(self, paths: Sequence[str]) -> list[Any]:
        """See Transaction.get."""
        firestore = self._firestore
        id_ = self._before_read()
        engine = firestore.network.engine
        read = firestore.call(lambda: engine.get([ROOT + path for path in paths], id_))
        return firestore.translator.snapshots(paths, read)

    def query(self, query: Any) -> list[Any]:
        """See Transaction.query."""
        firestore = self._firestore
        id_ = self._before_read()
        engine, plan = firestore.network.engine, firestore.translator.query(query)
        return firestore.translator.matches(query, firestore.call(lambda: engine.query(plan, id_)))

    def _before_read(self) -> bytes:
        self._firestore.before_read(in_transaction=True)
        if self._id is None:
            engine = self._firestore.network.engine
            self._id = self._name = engine.begin(
                retry_of=self._retry_of or None, optimistic=None if self._firestore.network.refuses_modes else False
            )
        return self._id

    def commit(self, writes: Iterable[Any]) -> datetime:
        """See Transaction.commit."""
        firestore, network, id_ = self._firestore, self._firestore.network, self._id
        assert id_ is not None, "the first read of a transaction is a get"
        messages = [firestore.translator.write(write) for write in writes]
        network.scheduler.sleep(network.latency_us())
        fate = network.chaos.of_commit()
        if fate is not None:
            network.met[fate] += 1
        if fate is Fate.CRASH_BEFORE:
            firestore.crash()
        if fate is Fate.LATE:
            # On its way for longer than the client waits; and the rollback that the client sends overtakes it or is lost.
            network.scheduler.after(int(network.random.random() * 2 * SECOND_US), lambda: _commit_late(network, messages, id_))
            if network.random.random() < 0.5:
                self._id = None
        if fate is Fate.ABORTED:
            network.engine.rollback(id_)
        if fate in (Fate.LATE, Fate.ABORTED, Fate.LOST):
            raise firestore.product.firestore.TransientError(fate)
        result = firestore.call(lambda: network.engine.commit(messages, id_), commit=True)
        if fate is Fate.CRASH_AFTER:
            firestore.crash()
        if fate is Fate.UNKNOWN:
            raise firestore.product.firestore.TransientError(fate)
        self._id = None
        self._name = b""
        return to_time(result.commit_time_us)

    def rollback(self) -> None:
        """See Transaction.rollback. A dead process sends none; its locks are held until they expire."""
        firestore, network, id_ = self._firestore, self._firestore.network, self._id
        if id_ is None:
            return
        self._id = None
        if firestore.is_alive() and not (network.chaos.lost_rollback and network.random.random() < network.chaos.lost_rollback):
            if network.engine.is_active(id_):
                network.engine.rollback(id_)
        elif network.engine.is_active(id_):
            network.tick_at(network.scheduler.now_us + network.engine.settings.transaction_idle_us)
            network.tick_at(network.scheduler.now_us + network.engine.settings.transaction_total_us)


def _condition(message: Any) -> tuple[str, int] | None:
    """The update time on which a write rests, if on one."""
    if not message.current_document.HasField("update_time"):
        return None
    return message.update.name, message.current_document.update_time.ToMicroseconds()


def _commit_late(network: Network, messages: Sequence[Any], id_: bytes | None) -> None:
    try:
        answer = network.engine.commit(messages, id_)
    except RpcError as error:
        if error.code not in _CONFLICTS:
            raise
        return
    if isinstance(answer, Waiting):
        network.tick_at(answer.deadline_us)
