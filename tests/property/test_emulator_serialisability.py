"""Whatever transactions do at the same time, they did it as if one after the other, in the order of their commits.

Many clients run random transactions straight on the engine, interleaved at each operation by a seeded scheduler. All
that committed ones have read, found missing, queried and counted is then compared with a replay, one by one, on a
plain dictionary. Besides, nobody waits for ever, and no transaction loses its locks to a younger one.

To show that the checks can fail, the engine is broken on purpose, in each of the ways it could be.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

import grpc
import pytest
from google.cloud.firestore_v1.types import query as query_types
from google.cloud.firestore_v1.types import write as write_types

from emulator.aggregation import Aggregation
from emulator.engine import Engine, ReadResult, Settings
from emulator.errors import RpcError
from emulator.locks import Lock, LockTable
from emulator.query import PreparedQuery
from emulator.transactions import Transaction, Waiting

DATABASE = "projects/p/databases/(default)"
ROOT = f"{DATABASE}/documents"
NAMES = [f"{ROOT}/numbers/{letter}" for letter in "abcdef"]
PESSIMISTIC, OPTIMISTIC = Settings(), Settings(optimistic=True)
SHARING = Settings(contention_memory_us=0)  # readers always share, so that there are more wounds
MODES = pytest.mark.parametrize(
    "settings", [PESSIMISTIC, SHARING, OPTIMISTIC], ids=["pessimistic", "pessimistic, always sharing", "optimistic"]
)

State = dict[str, int]
Write = write_types.Write.pb()
StructuredQuery = query_types.StructuredQuery.pb()


@dataclass(frozen=True)
class Question:
    """A query for the numbers in [low, low + 30), the smallest `limit` of them (0: all)."""

    low: int
    limit: int = 0

    def prepared(self) -> PreparedQuery:
        structured = StructuredQuery()
        structured.from_.add(collection_id="numbers")
        composite = structured.where.composite_filter
        composite.op = query_types.StructuredQuery.CompositeFilter.Operator.AND
        operators = query_types.StructuredQuery.FieldFilter.Operator
        for operator, bound in (
            (operators.GREATER_THAN_OR_EQUAL, self.low),
            (operators.LESS_THAN, self.low + 30),
        ):
            comparison = composite.filters.add().field_filter
            comparison.field.field_path = "number"
            comparison.op = operator
            comparison.value.integer_value = bound
        structured.order_by.add(direction=query_types.StructuredQuery.Direction.ASCENDING).field.field_path = "number"
        if self.limit:
            structured.limit.value = self.limit
        return PreparedQuery(ROOT, structured)

    def answer(self, state: State) -> tuple[tuple[str, int], ...]:
        found = [(name, number) for name, number in state.items() if self.low <= number < self.low + 30]
        found.sort(key=lambda pair: (pair[1], pair[0]))
        return tuple(found[: self.limit] if self.limit else found)


@dataclass
class Done:
    """One thing that took effect: what it saw, in order, what it wrote, and its place in time."""

    at_us: int
    is_commit: bool
    reads: list[tuple[str, int | None]] = field(default_factory=list)
    answers: list[tuple[Question, Any]] = field(default_factory=list)
    writes: list[tuple[str, int | None]] = field(default_factory=list)


def faults_of(history: Iterable[Done], failed: Iterable[Done], final: State) -> list[str]:
    """How a history differs from a serial one in the order of time; empty if it does not.

    Transactions that failed must have seen one instant, too, whichever: what they saw may have misled the caller.
    """
    faults: list[str] = []
    state: State = {}
    unexplained = [done for done in failed if done.reads or done.answers]
    commits: set[int] = set()
    # A read at the time of a commit sees that commit.
    for done in sorted(history, key=lambda done: (done.at_us, not done.is_commit)):
        if done.is_commit:
            if done.at_us in commits:
                faults.append(f"two commits at {done.at_us}")
            commits.add(done.at_us)
        for name, number in done.reads:
            if state.get(name) != number:
                faults.append(f"at {done.at_us} {name} was {state.get(name)}, not {number} as read")
        for question, answer in done.answers:
            expected = question.answer(state)
            if answer != (len(expected) if isinstance(answer, int) else expected):
                faults.append(f"at {done.at_us} {question} had the answer {expected}, not {answer} as found")
        unexplained = [each for each in unexplained if not is_as_seen(each, state)]
        for name, number in done.writes:
            if number is None:
                state.pop(name, None)
            else:
                state[name] = number
    for each in unexplained:
        if not is_as_seen(each, state):
            faults.append(f"a failed transaction has seen what never was at once: {each}")
    if state != final:
        faults.append(f"the end is {final}, and not {state}")
    return faults


def is_as_seen(done: Done, state: State) -> bool:
    return all(state.get(name) == number for name, number in done.reads) and all(
        answer == (len(question.answer(state)) if isinstance(answer, int) else question.answer(state))
        for question, answer in done.answers
    )


Client = Generator[Callable[[], Any], Any, None]


class Simulation:
    """Clients as generators of operations, of which a seeded scheduler does one after the other.

    mixed: each transaction chooses its mode. mortal: some clients die amid a transaction, and leave its locks behind.
    """

    def __init__(
        self, seed: int, make_engine: Callable[..., Engine], settings: Settings, *, mixed: bool = False, mortal: bool = True
    ) -> None:
        self.random = Random(seed)
        self.mixed = mixed
        self.mortal = mortal
        self.now_us = 1_000_000_000
        self.engine = make_engine(DATABASE, lambda: self.now_us, settings=settings)
        self.history: list[Done] = []
        self.failed: list[Done] = []
        self.committed = 0
        self.aborted = 0
        self.wounded = 0

    def run(self, clients: list[Client]) -> list[str]:
        """Run all clients to their end and return the faults of what they did."""
        inputs: list[tuple[Client, Any]] = [(client, None) for client in clients]
        waiting: dict[Client, Waiting[Any]] = {}
        while inputs or waiting:
            self.now_us += self.random.choice((0, 0, 1, 7, 500))
            for client, handle in list(waiting.items()):
                if handle.is_done:
                    del waiting[client]
                    inputs.append((client, handle))
            if not inputs:
                if not self.mortal:
                    return ["clients wait for each other"]
                deadline_us = self.engine.next_deadline_us()
                assert deadline_us is not None, "clients wait for ever"
                self.now_us = max(self.now_us, deadline_us)
                self.engine.tick()
                continue
            client, value = inputs.pop(self.random.randrange(len(inputs)))
            try:
                if isinstance(value, Waiting):
                    value = value.result()
                operation = client.send(value) if not isinstance(value, RpcError) else client.throw(value)
            except RpcError as error:
                try:
                    operation = client.throw(error)
                except StopIteration:
                    continue
            except StopIteration:
                continue
            try:
                result = operation()
            except RpcError as error:
                result = error
            if isinstance(result, Waiting):
                waiting[client] = result
            else:
                inputs.append((client, result))
        return faults_of(self.history, self.failed, self.state())

    def state(self) -> State:
        result = self.engine.get(NAMES)
        assert not isinstance(result, Waiting)
        return {document.name: number_of(document) for document in result.documents if document is not None}

    def client(self) -> Client:
        """A few random transactions, reads and writes, one after the other."""
        for _ in range(self.random.randint(2, 5)):
            kind = self.random.random()
            if kind < 0.65:
                yield from self.transaction()
            elif kind < 0.75:
                yield from self.read_only()
            elif kind < 0.85:
                yield from self.single_read()
            else:
                writes = self.random_writes(self.random.randint(1, 2))
                try:
                    result = yield partial(self.engine.commit, pbs(writes))
                except RpcError as error:
                    if self.mortal and "too long" in error.message:
                        continue  # the locks of a dead client
                    raise
                self.history.append(Done(result.commit_time_us, True, writes=writes))

    def transaction(self) -> Client:
        retry_of = None
        optimistic = self.random.random() < 0.5 if self.mixed else None
        for _ in range(6):
            id_ = yield partial(self.engine.begin, retry_of=retry_of, optimistic=optimistic)
            done = Done(0, True)
            try:
                for _ in range(self.random.randint(0, 3)):
                    yield from self.look(done, id_)
                if self.random.random() < 0.03 and self.mortal:
                    return  # the client dies, and its locks stay
                if self.random.random() < 0.05:
                    yield partial(self.engine.rollback, id_)
                    return
                done.writes = self.random_writes(self.random.randint(0, 2))
                result = yield partial(self.engine.commit, pbs(done.writes), id_)
            except RpcError as error:
                may_fail(error)
                self.aborted += 1
                self.wounded += "older transaction" in error.message
                self.failed.append(done)
                retry_of = id_
                continue
            done.at_us = result.commit_time_us
            if not done.writes and (self.engine.settings.optimistic if optimistic is None else optimistic):
                done.is_commit = False  # it has happened when it read
            self.history.append(done)
            self.committed += 1
            return

    def read_only(self) -> Client:
        id_ = yield partial(self.engine.begin, read_write=False)
        done = Done(0, False)
        for _ in range(self.random.randint(1, 4)):
            done.at_us = yield from self.look(done, id_)
        self.history.append(done)

    def single_read(self) -> Client:
        done = Done(0, False)
        done.at_us = yield from self.look(done, None)
        self.history.append(done)

    def look(self, done: Done, id_: bytes | None) -> Generator[Callable[[], Any], Any, int]:
        kind = self.random.random()
        if kind < 0.6:
            names = self.random.sample(NAMES, self.random.randint(1, 2))
            result = yield partial(self.engine.get, names, id_)
            for name, document in zip(names, result.documents, strict=True):
                done.reads.append((name, None if document is None else number_of(document)))
            return int(result.read_time_us)
        question = Question(self.random.randrange(0, 80, 10), self.random.choice((0, 0, 1)))
        if kind < 0.9:
            result = yield partial(self.engine.query, question.prepared(), id_)
            found = tuple((document.name, number_of(document)) for document in result.value)
            done.answers.append((question, found))
        else:
            result = yield partial(self.engine.aggregate, question.prepared(), [Aggregation("count")], id_)
            done.answers.append((question, result.value.matched))
        return int(result.read_time_us)

    def random_writes(self, count: int) -> list[tuple[str, int | None]]:
        return [
            (name, None if self.random.random() < 0.25 else self.random.randrange(100))
            for name in self.random.sample(NAMES, count)
        ]


def may_fail(error: RpcError) -> None:
    """Conflicts are to be expected, and transactions that waited so long that they expired."""
    if error.code is not grpc.StatusCode.ABORTED and "expired" not in error.message:
        raise error


def pbs(writes: list[tuple[str, int | None]]) -> list[Any]:
    return [write_of(name, number) for name, number in writes]


def write_of(name: str, number: int | None) -> Any:
    if number is None:
        return Write(delete=name)
    write = Write()
    write.update.name = name
    write.update.fields["number"].integer_value = number
    return write


def number_of(document: Any) -> int:
    return int(document.fields["number"].integer_value)


class NoLocks(LockTable):
    """Everybody gets every lock."""

    def __contains__(self, name: str) -> bool:
        return False

    def acquire(self, owner: Any, wants: Any, *, is_last: bool = False) -> None:
        for name, mode in wants.items():
            owner.held[name] = Lock()
            owner.held[name].hold(owner, mode)


class WithoutLocks(Engine):
    """Pessimistic without its locks."""

    def _reset(self) -> None:
        super()._reset()
        self._locks = NoLocks()


class WithoutReadLocks(Engine):
    """Only the writes of a commit are locked."""

    def _get_present(self, transaction: Transaction, names: Any) -> Any:
        result = super()._get_present(transaction, names)
        self._locks.release(transaction)
        return result


class WithoutQueryChecks(Engine):
    """Nobody looks whether a query would find the same again."""

    def _verify(self, transaction: Transaction) -> bool:
        return True

    def _is_true_now(self, transaction: Transaction) -> bool:
        return all(self._store.get(name) is seen for name, seen in transaction.reads.items())


class WithoutQueryChecksAtReads(Engine):
    """A transaction that will fail, because its query would not find the same again, reads on in the present."""

    def _get_present(self, transaction: Transaction, names: Any) -> Any:
        observations, transaction.observations = transaction.observations, []
        try:
            return super()._get_present(transaction, names)
        finally:
            transaction.observations = observations


class WithoutFrozenSnapshots(Engine):
    """A doomed transaction reads on in the present."""

    def _freeze(self, transaction: Transaction, reason: str) -> None:
        super()._freeze(transaction, reason)
        transaction.snapshot_us = None

    def _get_from_snapshot(self, transaction: Transaction, names: Any) -> Any:
        at_us = self._issue_read_time()
        return ReadResult([self._store.get(name) for name in names], at_us)


class WithWoundsThatHeal(Engine):
    """A wounded transaction goes on as if it still had its locks."""

    def _doom_wounded(self) -> None:
        wounded = list(self._locks.wounded)
        super()._doom_wounded()
        for transaction, _, _ in wounded:
            assert isinstance(transaction, Transaction)
            transaction.doomed = transaction.snapshot_us = None


class WithWoundsSeenTooLate(Engine):
    """A wounded transaction reads on from an instant after the older one's commit."""

    def _with_locks(self, *args: Any, **how: Any) -> Any:
        wounded = self._locks.wounded = NoneYet()
        result = super()._with_locks(*args, **how)
        self._locks.wounded = deque()
        self._locks.wounded.extend(wounded.kept)
        self._doom_wounded()
        self._settle()
        return result


class NoneYet(deque[Any]):
    """Keeps what is appended, but shows nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def append(self, item: Any) -> None:
        self.kept.append(item)


class NoWounds(LockTable):
    """Whoever holds a lock keeps it."""

    def _wounded_by(self, owner: Any, wants: Any) -> dict[Any, str]:
        return {}


class WithoutWounds(Engine):
    """The older waits for the younger."""

    def _reset(self) -> None:
        super()._reset()
        self._locks = NoWounds()


class WithQueuesInOrderOfArrival(Engine):
    """A younger request stays in front of an older one in the queue."""

    def _with_locks(self, transaction: Transaction, *args: Any, **how: Any) -> Any:
        # While it asks it is the youngest of all, so that it comes last in its queues.
        born, transaction.born = transaction.born, (1 << 62, self._ids_issued)
        try:
            return super()._with_locks(transaction, *args, **how)
        finally:
            transaction.born = born


class WithoutChecksAtCommit(Engine):
    """Optimistic without what makes it safe."""

    def _is_true_now(self, transaction: Transaction) -> bool:
        return True


class WithoutSnapshots(Engine):
    """Who should see one instant sees the present."""

    def _fix_snapshot(self, transaction: Transaction) -> int:
        return self._issue_read_time()


class WithTimesThatRepeat(Engine):
    """Commits that take the clock's word for the time."""

    def _apply(self, writes: Any) -> Any:
        self._last_us = min(self._last_us, self._clock() - 1)
        return super()._apply(writes)


@MODES
@pytest.mark.parametrize("mixed", [False, True], ids=["one mode", "mixed"])
@pytest.mark.parametrize("mortal", [True, False], ids=["mortal", "immortal"])
def test_concurrent_transactions_have_a_serial_order(settings: Settings, mixed: bool, mortal: bool) -> None:
    committed = aborted = wounded = 0
    for seed in range(100):
        simulation = Simulation(seed, Engine, settings, mixed=mixed, mortal=mortal)
        faults = simulation.run([simulation.client() for _ in range(7)])
        assert faults == [], f"seed {seed}"
        committed += simulation.committed
        aborted += simulation.aborted
        wounded += simulation.wounded
    assert committed > 1_000
    assert aborted > 60, "the transactions hardly met: nothing was tested"
    assert wounded > 20 or (settings.optimistic and not mixed), "nobody was wounded"


@pytest.mark.parametrize(
    ("broken", "settings"),
    [
        (WithoutLocks, PESSIMISTIC),
        (WithoutReadLocks, PESSIMISTIC),
        (WithoutQueryChecks, PESSIMISTIC),
        (WithoutQueryChecks, OPTIMISTIC),
        (WithoutChecksAtCommit, OPTIMISTIC),
        (WithoutSnapshots, PESSIMISTIC),
        (WithoutSnapshots, OPTIMISTIC),
        (WithoutQueryChecksAtReads, PESSIMISTIC),
        (WithoutFrozenSnapshots, PESSIMISTIC),
        (WithWoundsThatHeal, PESSIMISTIC),
        (WithWoundsSeenTooLate, PESSIMISTIC),
        (WithTimesThatRepeat, PESSIMISTIC),
    ],
)
def test_the_check_finds_isolation_that_was_broken(broken: type[Engine], settings: Settings) -> None:
    for seed in range(300):
        simulation = Simulation(seed, broken, settings)
        if simulation.run([simulation.client() for _ in range(7)]):
            return
    pytest.fail(f"{broken.__name__} went unnoticed")


@pytest.mark.parametrize("broken", [WithoutWounds, WithQueuesInOrderOfArrival])
def test_the_check_finds_clients_that_wait_for_each_other(broken: type[Engine]) -> None:
    for seed in range(300):
        simulation = Simulation(seed, broken, PESSIMISTIC, mortal=False)
        if "clients wait for each other" in simulation.run([simulation.client() for _ in range(7)]):
            return
    pytest.fail(f"{broken.__name__} went unnoticed")


class Watched(Engine):
    """Fails when a transaction loses its locks to a younger one."""

    def _with_locks(self, transaction: Transaction, *args: Any, **how: Any) -> Any:
        self.asking = transaction
        return super()._with_locks(transaction, *args, **how)

    def _doom_wounded(self) -> None:
        for transaction, _, _ in self._locks.wounded:
            assert self.asking.born < transaction.born, "the older one was wounded"
        super()._doom_wounded()


class WoundsOfAnyAge(LockTable):
    """Whoever asks gets what it asks for."""

    def _wounded_by(self, owner: Any, wants: Any) -> dict[Any, str]:
        locks = [(name, self._locks.get(name), exclusive) for name, exclusive in wants.items()]
        return {holder: name for name, lock, exclusive in locks if lock for holder in lock.conflicting(owner, exclusive)}


class WhereTheLatestWins(Watched):
    """Age does not count."""

    def _reset(self) -> None:
        super()._reset()
        self._locks = WoundsOfAnyAge()


def test_no_transaction_loses_its_locks_to_a_younger_one() -> None:
    def run(engine: type[Engine], settings: Settings) -> int:
        wounded = 0
        for seed in range(40):
            simulation = Simulation(seed, engine, settings, mixed=True)
            assert simulation.run([simulation.client() for _ in range(7)]) == []
            wounded += simulation.wounded
        return wounded

    for settings in (PESSIMISTIC, SHARING):
        assert run(Watched, settings) > 20
    with pytest.raises(AssertionError, match="the older one was wounded"):
        run(WhereTheLatestWins, PESSIMISTIC)


def lost_update(simulation: Simulation) -> list[Client]:
    """Two read the same number and add to it."""
    return [steps(simulation, gets=[NAMES[0]], write=lambda seen: (NAMES[0], (seen[0] or 0) + 1)) for _ in range(2)]


def write_skew(simulation: Simulation) -> list[Client]:
    """Two read both numbers, and each changes another one because of what it saw."""
    return [steps(simulation, gets=NAMES[:2], write=partial(answer_to, NAMES[own])) for own in (0, 1)]


def answer_to(name: str, seen: list[int | None]) -> tuple[str, int]:
    return name, sum(map(bool, seen)) + 10


def read_skew(simulation: Simulation) -> list[Client]:
    """One reads two numbers, one after the other, while another one changes both."""

    def writer() -> Client:
        writes: list[tuple[str, int | None]] = [(NAMES[0], 7), (NAMES[1], 7)]
        result = yield partial(simulation.engine.commit, pbs(writes))
        simulation.history.append(Done(result.commit_time_us, True, writes=writes))

    def reader(read_write: bool) -> Client:
        id_ = yield partial(simulation.engine.begin, read_write)
        done = Done(0, read_write)
        for name in NAMES[:2]:
            result = yield partial(simulation.engine.get, [name], id_)
            (document,) = result.documents
            done.reads.append((name, None if document is None else number_of(document)))
            done.at_us = result.read_time_us
        if read_write:
            try:
                result = yield partial(simulation.engine.commit, [], id_)
            except RpcError:
                return
            done.at_us = result.commit_time_us
            done.is_commit = not simulation.engine.settings.optimistic
        simulation.history.append(done)

    return [writer(), reader(True), reader(False)]


def phantom(simulation: Simulation) -> list[Client]:
    """Two count the numbers of a range, and each adds one because of what it counted."""

    def adder(own: int) -> Client:
        question = Question(0)
        id_ = yield simulation.engine.begin
        result = yield partial(simulation.engine.query, question.prepared(), id_)
        found = tuple((document.name, number_of(document)) for document in result.value)
        writes: list[tuple[str, int | None]] = [(NAMES[own], len(found))]
        try:
            result = yield partial(simulation.engine.commit, pbs(writes), id_)
        except RpcError:
            return
        simulation.history.append(Done(result.commit_time_us, True, answers=[(question, found)], writes=writes))

    return [adder(0), adder(1)]


def steps(simulation: Simulation, gets: list[str], write: Callable[[list[int | None]], tuple[str, int]]) -> Client:
    """One transaction that reads each name by itself, and writes one document because of what it saw."""
    id_ = yield simulation.engine.begin
    done = Done(0, True)
    for name in gets:
        result = yield partial(simulation.engine.get, [name], id_)
        (document,) = result.documents
        done.reads.append((name, None if document is None else number_of(document)))
    done.writes = [write([number for _, number in done.reads])]
    try:
        result = yield partial(simulation.engine.commit, pbs(done.writes), id_)
    except RpcError as error:
        may_fail(error)
        return
    done.at_us = result.commit_time_us
    simulation.history.append(done)
    simulation.committed += 1


@pytest.mark.parametrize(
    ("anomaly", "broken_locks", "broken_checks"),
    [
        (lost_update, WithoutLocks, WithoutChecksAtCommit),
        (write_skew, WithoutReadLocks, WithoutChecksAtCommit),
        (read_skew, WithoutLocks, WithoutSnapshots),
        (phantom, WithoutQueryChecks, WithoutQueryChecks),
    ],
)
@MODES
def test_the_known_anomalies_cannot_happen_and_would_be_seen(
    anomaly: Callable[[Simulation], list[Client]],
    broken_locks: type[Engine],
    broken_checks: type[Engine],
    settings: Settings,
) -> None:
    def faults(engine: type[Engine], seed: int) -> list[str]:
        simulation = Simulation(seed, engine, settings)
        return simulation.run(anomaly(simulation))

    for seed in range(60):
        assert faults(Engine, seed) == [], f"seed {seed}"
    broken = broken_checks if settings.optimistic else broken_locks
    assert any(faults(broken, seed) for seed in range(60)), "the check did not see it"


@MODES
def test_of_two_that_read_and_write_the_same_at_least_one_commits(settings: Settings) -> None:
    for seed in range(60):
        simulation = Simulation(seed, Engine, settings)
        simulation.run(lost_update(simulation))
        assert simulation.committed >= 1
