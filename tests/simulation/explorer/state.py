"""The state of an execution, so that two executions that have come to the same one need not both go on.

Two states are the same when whatever can follow from the one can follow from the other, with other times. Times matter by
their order only where a rebuild's snapshot is concerned, and otherwise by whether they are equal. So they get names:

- a write of a source, or of the group, is named by its event, `e1#2`;
- an instant at which the present was read is named by the set of such writes before it, and by how many such instants came
  before it with the same set;
- the times at which a balance or record was committed do not matter: all that is compared with them lies minutes away.

An actor is where it is by what it was answered, until it is done; what it was answered is therefore part of the state, and what
goes wrong with a call that still waits. So are locks, who waits for them with which call, even after its process has died, who
is older than whom, what a process remembers, and whether the balance that an actor or a process has seen last is still that
very version: their commits may be made on this condition. Digests have 128 bits.
"""

from dataclasses import fields as fields_of
from dataclasses import is_dataclass
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from emulator.engine import age_of
from emulator.errors import RpcError
from emulator.locks import Owner, Request
from emulator.transactions import Transaction
from tests.simulation.explorer.world import BALANCE
from tests.simulation.translation import ROOT
from tests.simulation.values import time_of, to_time, to_us

if TYPE_CHECKING:
    from tests.simulation.explorer.execution import Execution, Process

OF_NO_MEANING = frozenset({"lastUpdatedAt", "appliedAt", "expireAt", "eventId"})
"""Fields of ours that are compared with nothing nearby."""


def digest(told: object) -> str:
    """128 bits of what is told, given something whose `repr` tells it."""
    return blake2b(repr(told).encode(), digest_size=16).hexdigest()


class Instants:
    """Names for the times of one execution."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._writes: list[str] = []
        self._reads: dict[tuple[str, ...], int] = {}

    def write(self, us: int, name: str) -> None:
        """A write of a source or of the group was committed."""
        self._names[us] = name
        self._writes = sorted([*self._writes, name])

    def read(self, us: int) -> None:
        """The present was read, as an instant that may be read again."""
        if us not in self._names:
            writes = tuple(self._writes)
            number = self._reads[writes] = self._reads.get(writes, 0) + 1
            self._names[us] = f"instant {number} after {' '.join(writes)}"

    def numbers(self) -> list[tuple[tuple[str, ...], int]]:
        """How many instants have names, by the writes before them: it decides the names of those to come, and nothing else."""
        return sorted(self._reads.items())

    def name(self, time: datetime) -> str:
        """The name of a time; that of one which does not matter is the same as any other's."""
        return self._names.get(to_us(time), "some time")


class States:
    """Tells the states of one execution."""

    def __init__(self, run: "Execution") -> None:
        self._run = run
        self._documents: dict[int, tuple[Any, str]] = {}

    def answer(self, answer: Any) -> object:
        """What an actor learns from the engine's answer."""
        if isinstance(answer, RpcError):
            return answer.code.name
        if hasattr(answer, "documents"):
            instant = self._run.instants.name(to_time(answer.read_time_us))
            return instant, [self._document(document) for document in answer.documents]
        if hasattr(answer, "value"):
            return [self._document(document) for document in answer.value]
        return answer if isinstance(answer, list | str) else None

    def now(self) -> str:
        """The state as it is, between two steps."""
        run = self._run
        balance = run.audit.documents.get(BALANCE)
        actors = sorted(
            (thread.name, thread.label or thread.failure, sorted(thread.failures), thread.knows, thread.balance is balance)
            if not thread.is_done
            else (thread.name,)
            for thread in run.threads
        )
        processes = sorted(self._process(process, balance) for process in run.processes.values())
        documents = sorted(map(self._document, run.audit.documents.values()))
        told = (actors, processes, documents, self._transactions(), run.failures_left, sorted(run.repaired))
        return digest(told)

    def _process(self, process: "Process", balance: Any) -> tuple[object, ...]:
        """What a process has in common for its actors: its switch, who waits in its line, the balance that it remembers."""
        if not process.is_alive:
            return (process.name,)
        remembered = process.remembered()
        known = None
        if remembered is not None:
            is_current = balance is not None and to_us(time_of(balance.update_time)) == to_us(remembered.update_time)
            known = is_current, self._named(remembered.stored)
        return process.name, process.updates_on, process.waiting(), known

    def _transactions(self) -> tuple[object, ...]:
        """Those under way and their locks, in the order of their ages, with those whose retry may keep their age."""
        run, engine = self._run, self._run.engine
        names = {id_: f"{name} {number}" for name, number, id_ in run.transactions()}
        table = engine._locks._locks
        # Commits outside of transactions, too: while they wait they have an age.
        waiting = [request.owner for lock in table.values() for request in lock.queue]
        ages = {owner.born: self._told(owner, names) for owner in [*engine._transactions.values(), *waiting]}
        for id_ in run.last_transactions():
            lost = engine._lost.get(id_)
            ages.setdefault(age_of(id_), (names[id_], False, lost and self._shown(lost), []))
        locks = sorted(
            (
                self._shown(name),
                sorted((self._owner(owner, names), mode.name) for owner, mode in lock.holders.items()),
                [(self._owner(request.owner, names), self._wants(request), self._asker(request)) for request in lock.queue],
            )
            for name, lock in table.items()
        )
        return [ages[born] for born in sorted(ages)], locks

    def _told(self, owner: Owner, names: dict[bytes, str]) -> tuple[str, bool, str | None, list[str]]:
        assert isinstance(owner, Transaction)
        frozen = [] if owner.snapshot_us is None else self._at(owner.snapshot_us)
        return self._owner(owner, names), owner.doomed is not None, owner.lost and self._shown(owner.lost), frozen

    def _owner(self, owner: Owner, names: dict[bytes, str]) -> str:
        assert isinstance(owner, Transaction)
        return names[owner.id] if owner.id else f"a commit of {self._run.waiting[owner][0].name}"

    def _asker(self, request: Request) -> tuple[str, bool]:
        """What decides about a call that waits: what its actor knew, and whether the balance that it saw still stands."""
        asker, knew = self._run.waiting[request.owner]
        return knew, asker.balance is self._run.audit.documents.get(BALANCE)

    def _wants(self, request: Request) -> list[tuple[str, str]]:
        return sorted((self._shown(name), mode.name) for name, mode in request.wants.items())

    def _at(self, us: int) -> list[str]:
        store = self._run.engine._store
        names = {*store._current, *store._history}
        return sorted(self._document(document) for name in names if (document := store.get(name, us)) is not None)

    def _shown(self, name: str) -> str:
        path = name[len(ROOT) :]
        return self._run.names.get(path, path)

    def _document(self, document: Any) -> str:
        """A document's digest: its path, fields and times, with names for the times."""
        if document is None:
            return "none"
        known = self._documents.get(id(document))
        if known is None:
            fields, update_time = self._run.reader.version(document)
            told = {name: self._named(value) for name, value in fields.items() if name not in OF_NO_MEANING}
            times = [self._run.instants.name(time) for time in (update_time, self._run.reader.created(document))]
            # With the document itself, which keeps its id from being given to another.
            known = self._documents[id(document)] = (
                document,
                digest((self._shown(document.name), sorted(told.items()), times)),
            )
        return known[1]

    def _named(self, value: Any) -> Any:
        """The same with names for times, in an order that does not differ."""
        if isinstance(value, datetime):
            return self._run.instants.name(value)
        if isinstance(value, dict):
            return sorted((key, self._named(inner)) for key, inner in value.items())
        if is_dataclass(value):
            return [self._named(getattr(value, part.name)) for part in fields_of(value)]
        return [self._named(inner) for inner in value] if isinstance(value, list) else value
