"""The bookkeeper: brings events into the balances and rebuilds balances, for one process.

What concerns one group goes through one queue (combiner.py). Nothing here waits but the threads that do the work, so an event
loop may hand events over; threads may wait for a result.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

from balance.core.ledger import Ledger
from balance.database.firestore import Firestore, Retried, TransientError
from balance.database.retry import Retry
from balance.documents.changes import GroupChange, NewerVersion, Result
from balance.documents.outcome import Outcome
from balance.documents.settings import Settings
from balance.protocol import faults, gaps
from balance.protocol.apply import apply
from balance.protocol.combiner import Bounds, Combiner
from balance.protocol.events import Effect, SourceEvent
from balance.protocol.memory import Memory
from balance.protocol.optimistic import Answer, apply_together
from balance.protocol.rebuild import rebuild

MAX_BATCH_BYTES = 4 * 1024 * 1024
"""Well below the 10 MiB of a Firestore request: https://firebase.google.com/docs/firestore/quotas"""

_MAX_THREADS = 256
"""More than the groups of all requests that an instance takes at once (80): each may have to wait for somebody else's lock."""

T = TypeVar("T")


class Signal(Protocol):
    """What a waiting thread sleeps on; `threading.Event`, or the simulator's."""

    def set(self) -> None:
        """Wake the waiter, now or as soon as it waits."""

    def wait(self) -> object:
        """Sleep until set."""


@dataclass(frozen=True, slots=True)
class RebuildRequest:
    """Somebody wants a group's balance rebuilt; `force` overwrites one of a newer version."""

    force: bool = False


Member = GroupChange | RebuildRequest


class Bookkeeper:
    """Processes events and rebuild requests; safe to share among threads."""

    def __init__(
        self,
        firestore: Firestore,
        settings: Settings,
        *,
        updates_on: Callable[[], bool],
        retry: Retry | None = None,
        start: Callable[[Callable[[], None]], object] | None = None,
        new_signal: Callable[[], Signal] = threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`start` has a job run by some other thread: one of a pool by default."""
        self._firestore = firestore
        self.settings = settings
        self._updates_on = updates_on
        self._retry = retry or Retry()
        self._start = start or ThreadPoolExecutor(_MAX_THREADS, "bookkeeper").submit
        self._new_signal = new_signal
        self._memory = Memory(clock)
        self._combiner: Combiner[Member, Result] = Combiner(
            self._run_together,
            self._run_alone,
            bounds=Bounds(_weigh, MAX_BATCH_BYTES),
            is_lone=lambda member: isinstance(member, RebuildRequest),
            common_errors=(TransientError, NewerVersion),
            start=self._start,
            clock=clock,
        )

    def begin(self, event: SourceEvent, consequences: Effect, done: Callable[[list[Result] | Exception], None]) -> None:
        """Bring an event with its `effect` into every balance that it touches, exactly once; returns at once.

        `done` gets a result per group, and one per group (or none) in which a malformed side may have a fault; or
        NewerVersion, TransientError and whatever Firestore refuses: the event must then be redelivered, and the groups that are
        done by then answer DUPLICATE. It is called in another thread, and must not raise or block. Raises MissingTime.
        """
        changes = {
            group_id: GroupChange(write=event.write, event_id=event.event_id, delta=delta)
            for group_id, delta in consequences.deltas.items()
            if delta
        }
        groups = consequences.malformed_in
        if groups is None:
            unchanged = [Result(group_id, Outcome.NO_CHANGE) for group_id in consequences.deltas if group_id not in changes]
            self._begin_changes(changes, unchanged, done)
            return

        def settle() -> None:
            """The fault first; then the deltas, the malformed side posting nothing."""
            try:
                self._retry.run(partial(faults.settle, self._retried(), self.settings, event.kind, event.source, groups))
            except Exception as error:  # noqa: BLE001 - handed to whoever waits for it
                done(error)
            else:
                self._begin_changes(changes, [Result(each, Outcome.FAULT) for each in sorted(groups, key=str)], done)

        self._start(settle)

    def _begin_changes(
        self,
        changes: Mapping[str, GroupChange],
        known: Sequence[Result],
        done: Callable[[list[Result] | Exception], None],
    ) -> None:
        gathered = _Gathered({group_id: change.delta for group_id, change in changes.items()}, known, done)
        for group_id, change in changes.items():
            self._combiner.submit(group_id, change, gathered.slot(group_id))

    def process(self, event: SourceEvent, consequences: Effect) -> list[Result]:
        """The same for a thread that waits for the results, or raises what `done` would get."""
        return self._waited(partial(self.begin, event, consequences))

    def rebuild(self, group_id: str, *, force: bool = False) -> Result:
        """Rebuild a group's balance: REBUILT or GROUP_GONE. Raises NewerVersion (unless forced), TransientError."""

        def begin(done: Callable[[Result | Exception], None]) -> None:
            self._combiner.submit(group_id, RebuildRequest(force), done)

        return self._waited(begin)

    def _waited(self, begin: Callable[[Callable[[T | Exception], None]], None]) -> T:
        """What `begin` hands to its callback, once it does."""
        signal = self._new_signal()
        told: list[T | Exception] = []

        def done(outcome: T | Exception) -> None:
            told.append(outcome)
            signal.set()

        begin(done)
        signal.wait()
        (outcome,) = told
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _retried(self) -> Firestore:
        """The database for all attempts at one operation."""
        return Retried(self._firestore)

    def _run_together(self, batch: Mapping[str, Sequence[Member]]) -> dict[str, Answer]:
        if not self._updates_on():
            return {}
        distinct = {group_id: _distinct(members) for group_id, members in batch.items()}
        answers = apply_together(
            self._firestore,
            self.settings,
            {group_id: list(changes.values()) for group_id, changes in distinct.items()},
            self._memory,
        )
        return {
            group_id: _by_member(group_id, batch[group_id], distinct[group_id], answer) if isinstance(answer, list) else answer
            for group_id, answer in answers.items()
        }

    def _run_alone(self, group_id: str, members: Sequence[Member]) -> list[Result]:
        self._memory.forget(group_id)
        requests = [member for member in members if isinstance(member, RebuildRequest)]
        changes = _distinct(members)
        distinct = list(changes.values())
        force = any(request.force for request in requests)
        arguments = (self._retried(), self.settings, group_id)

        def attempt() -> tuple[list[Result], Result | None]:
            if distinct and not self._updates_on():
                done = gaps.leave(*arguments, distinct, Outcome.DISABLED)
                return done, rebuild(*arguments, force=force, retry=self._retry)[-1] if requests else None
            if requests:
                *done, rebuilt = rebuild(*arguments, distinct, force=force, retry=self._retry)
                return done, rebuilt
            return apply(*arguments, distinct, retry=self._retry), None

        done, rebuilt = self._retry.run(attempt)
        return _by_member(group_id, members, changes, done, rebuilt)


def _distinct(members: Sequence[Member]) -> dict[str, GroupChange]:
    """The changes by the keys of their writes: several deliveries of one write may meet, and a batch holds each write once."""
    return {member.write.key: member for member in members if isinstance(member, GroupChange)}


def _by_member(
    group_id: str,
    members: Sequence[Member],
    changes: Mapping[str, GroupChange],
    done: Sequence[Result],
    rebuilt: Result | None = None,
) -> list[Result]:
    """A result for each member; `done` are those of the distinct changes."""
    by_key: dict[str, Result] = dict(zip(changes, done, strict=True))
    results = []
    for member in members:
        if isinstance(member, RebuildRequest):
            assert rebuilt is not None, "a batch with a request was a rebuild"
            results.append(rebuilt)
        else:
            # The first of several deliveries gets the result; to the others it is a duplicate by now.
            first = by_key.pop(member.write.key, None)
            results.append(first or Result(group_id, Outcome.DUPLICATE))
    return results


class _Gathered:
    """Collects an event's results from all groups that it touches."""

    def __init__(
        self, deltas: Mapping[str, Ledger], known: Sequence[Result], done: Callable[[list[Result] | Exception], None]
    ) -> None:
        self._deltas = deltas
        self._known = known
        self._done = done
        self._found: dict[str, Result | Exception] = {}
        self._lock = threading.Lock()
        if not deltas:
            done(list(known))

    def slot(self, group_id: str) -> Callable[[Result | Exception], None]:
        """Where a group's result belongs; the last one to come tells all, or the first error."""
        return lambda outcome: self._add(group_id, outcome)

    def _add(self, group_id: str, outcome: Result | Exception) -> None:
        with self._lock:
            self._found[group_id] = outcome
            is_last = len(self._found) == len(self._deltas)
        if not is_last:
            return
        results = list(self._known)
        for each, delta in self._deltas.items():
            found = self._found[each]
            if isinstance(found, Exception):
                self._done(found)
                return
            results.append(replace(found, delta=delta))
        self._done(results)


def _weigh(member: Member) -> int:
    """About how many bytes a member adds to the commit."""
    if isinstance(member, RebuildRequest):
        return 0
    pairs = (pair for changes in member.delta.values() for pair in changes)
    # UTF-8 takes up to four bytes a character; each pair stands in the record and in two rows of the balance.
    return 1_000 + sum(12 * (len(low) + len(high)) + 100 for low, high in pairs)
