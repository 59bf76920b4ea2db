"""The bookkeeper: brings events into the balances and rebuilds balances, for one process.

What concerns one group goes through one queue (combiner.py). Nothing here waits but the threads that do the work, so an event
loop may hand events over; threads may wait for a result.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeVar

from balance.database import budget
from balance.database.budget import Budget, OutOfTime
from balance.database.firestore import Firestore, Retried, TransientError
from balance.database.retry import Retry
from balance.documents.changes import GroupChange, NewerVersion, Result
from balance.documents.outcome import Outcome
from balance.documents.settings import Settings
from balance.documents.writes import SourceWrite
from balance.protocol import faults, gaps, groups
from balance.protocol.apply import apply
from balance.protocol.combiner import Bounds, Combiner
from balance.protocol.events import Effect, MissingTime, SourceEvent
from balance.protocol.faults import Suspect
from balance.protocol.memory import Memory
from balance.protocol.optimistic import Answer, Patience, apply_together
from balance.protocol.rebuild import rebuild

MAX_BATCH_BYTES = 4 * 1024 * 1024
"""Well below the 10 MiB of a Firestore request: https://firebase.google.com/docs/firestore/quotas"""

_MAX_THREADS = 256
"""More than the groups of all requests that an instance takes at once (80): each may have to wait for somebody else's lock."""

JOB_S = 45.0
"""For bringing changes into one group alone, with all retries. An event may have to wait for two such jobs, that before its own
and its own, and must be answered before the platform cuts its function off (`timeoutSeconds` in functions.yaml)."""

T = TypeVar("T")


class Signal(Protocol):
    """What a waiting thread sleeps on; `threading.Event`, or the simulator's."""

    def set(self) -> None:
        """Wake the waiter, now or as soon as it waits."""

    def wait(self, timeout: float | None = None) -> object:
        """Sleep until set; or for so many seconds, and return False."""


@dataclass(frozen=True, slots=True)
class RebuildRequest:
    """Somebody wants a group's balance rebuilt; `force` overwrites one of a newer version."""

    force: bool = False
    budget: Budget | None = None
    """How long whoever asks can wait; None: as long as it takes."""


Member = GroupChange | Suspect | RebuildRequest
"""What may wait in a group's queue."""


@dataclass(frozen=True, slots=True)
class Processed:
    """What became of an event."""

    results: list[Result]
    """Of the groups in which it is done."""
    error: Exception | None
    """Of the first of the others: NewerVersion, TransientError or whatever Firestore refuses. The event must be redelivered;
    the groups that are done answer DUPLICATE then."""


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
        self._clock = clock
        self._memory = Memory(clock)
        self._patience = Patience(clock)
        self._combiner: Combiner[Member, Result] = Combiner(
            self._run_together,
            self._run_alone,
            bounds=Bounds(_weigh, MAX_BATCH_BYTES),
            is_lone=lambda member: not isinstance(member, GroupChange),
            common_errors=(TransientError, NewerVersion),
            start=self._start,
            clock=clock,
        )

    def begin(self, event: SourceEvent, consequences: Effect, done: Callable[[Processed], None]) -> None:
        """Bring an event with its `effect` into every balance that it touches, exactly once; returns at once.

        There is a result per group, and one per group (or none) in which a malformed side may have a fault. One group's failure
        does not keep the event from the others. `done` is called in another thread, and must neither raise nor block.
        """
        deltas = {group_id: delta for group_id, delta in consequences.deltas.items() if delta}
        suspects = sorted(consequences.malformed_in or (), key=str)
        unchanged = [
            Result(group_id, Outcome.NO_CHANGE)
            for group_id in consequences.deltas
            if group_id not in deltas and consequences.malformed_in is None
        ]
        gathered = _Gathered(len(suspects) + len(deltas), unchanged, done)
        # A fault first; then the delta, the malformed side posting nothing. Of one group both stand in one queue.
        for group_id in suspects:
            self._begin_settling(group_id, Suspect(event.kind, event.source), gathered.add)
        for group_id, delta in deltas.items():
            change = partial(GroupChange, event_id=event.event_id, delta=delta)
            self._begin_change(group_id, event, change, gathered.add)

    def process(
        self, event: SourceEvent, consequences: Effect, on_result: Callable[[Result], None] = lambda result: None
    ) -> list[Result]:
        """The same for a thread that waits: returns the results, each of which `on_result` is told, or raises the error."""
        signal = self._new_signal()
        told: list[Processed] = []

        def done(processed: Processed) -> None:
            told.append(processed)
            signal.set()

        self.begin(event, consequences, done)
        _wait(signal)
        (processed,) = told
        for result in processed.results:
            on_result(result)
        if processed.error is not None:
            raise processed.error
        return processed.results

    def rebuild(self, group_id: str, *, force: bool = False) -> Result:
        """Rebuild a group's balance: REBUILT or GROUP_GONE. Raises NewerVersion (unless forced), TransientError."""
        signal = self._new_signal()
        told: list[Result | Exception] = []

        def done(outcome: Result | Exception) -> None:
            told.append(outcome)
            signal.set()

        self._combiner.submit(group_id, RebuildRequest(force, budget.current()), done)
        _wait(signal)
        (outcome,) = told
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def group_created(self, group_id: str) -> Result:
        """A group's document was created: give it a balance unless it has a current one of its own.

        Returns REBUILT, NO_CHANGE, GROUP_GONE, or DISABLED while updates are off. Raises NewerVersion, TransientError.
        """
        if not self._updates_on():
            return Result(group_id, Outcome.DISABLED)
        if self._retry.run(lambda: groups.wants_rebuild(self._firestore, self.settings, group_id)):
            return self.rebuild(group_id)
        return Result(group_id, Outcome.NO_CHANGE)

    def group_deleted(self, group_id: str) -> Result:
        """A group's document was deleted: delete its balance and its faults, unless the group is there again.

        Returns GROUP_GONE, NO_CHANGE, or DISABLED while updates are off. Raises TransientError.
        """
        if not self._updates_on():
            return Result(group_id, Outcome.DISABLED)
        cleared = self._retry.run(lambda: groups.clear(self._firestore, self.settings, group_id))
        return Result(group_id, Outcome.GROUP_GONE if cleared else Outcome.NO_CHANGE)

    def _begin_settling(self, group_id: str | None, suspect: Suspect, done: Callable[[Result | Exception], None]) -> None:
        if group_id is not None:
            self._combiner.submit(group_id, suspect, done)
            return

        def settle() -> Result:
            faults.settle(firestore, self.settings, None, [suspect])
            return Result(None, Outcome.FAULT)

        firestore = Retried(self._firestore)
        self._start(lambda: done(_outcome(lambda: self._in_time(settle))))

    def _begin_change(
        self,
        group_id: str,
        event: SourceEvent,
        change: Callable[..., GroupChange],
        done: Callable[[Result | Exception], None],
    ) -> None:
        try:
            known = change(write=event.write)
        except MissingTime:
            self._start(lambda: self._begin_undated(group_id, event.source, change, done))
        else:
            self._combiner.submit(group_id, known, _with_delta(known, done))

    def _begin_undated(
        self, group_id: str, source: str, change: Callable[..., GroupChange], done: Callable[[Result | Exception], None]
    ) -> None:
        """A write whose time is not known was committed before its event came."""
        path = self.settings.layout.balance(group_id)
        read = _outcome(lambda: self._in_time(lambda: self._firestore.get([path])))
        if isinstance(read, Exception):
            done(read)
            return
        undated = change(write=SourceWrite(source=source, update_time=read[0].read_time), is_dated=False)
        self._combiner.submit(group_id, undated, _with_delta(undated, done))

    def _run_together(self, batch: Mapping[str, Sequence[Member]]) -> dict[str, Answer]:
        if not self._updates_on():
            return {}
        changes = {group_id: _distinct(members) for group_id, members in batch.items()}
        answers = apply_together(
            self._firestore,
            self.settings,
            {group_id: list(distinct.values()) for group_id, distinct in changes.items()},
            self._memory,
            self._patience,
        )
        return {
            group_id: _by_member(group_id, batch[group_id], changes[group_id], answer) if isinstance(answer, list) else answer
            for group_id, answer in answers.items()
        }

    def _run_alone(self, group_id: str, members: Sequence[Member]) -> list[Result]:
        self._memory.forget(group_id)
        changes = _distinct(members)
        suspects = list(dict.fromkeys(member for member in members if isinstance(member, Suspect)))
        requests = [member for member in members if isinstance(member, RebuildRequest)]
        force = any(request.force for request in requests)
        firestore = Retried(self._firestore)
        # A rebuild within retries its last transaction: all together must not take a multiple of what one may.
        retry = self._retry.shared()

        def attempt() -> tuple[list[Result], Result | None]:
            return self._bring_in(
                firestore, group_id, list(changes.values()), suspects, retry, is_requested=bool(requests), force=force
            )

        with budget.until(self._budget_of(requests)):
            done, rebuilt = retry.run(attempt)
        return _by_member(group_id, members, changes, done, rebuilt)

    def _in_time(self, work: Callable[[], T]) -> T:
        with budget.within(JOB_S, self._clock):
            return self._retry.run(work)

    def _budget_of(self, requests: Sequence[RebuildRequest]) -> Budget | None:
        """What a lone job may take: as long as one can wait of those whom it serves."""
        budgets = [Budget(self._clock() + JOB_S, self._clock)]
        for request in requests:
            if request.budget is None:
                return None
            budgets.append(request.budget)
        return max(budgets, key=lambda each: each.left_s)

    def _bring_in(
        self,
        firestore: Firestore,
        group_id: str,
        changes: Sequence[GroupChange],
        suspects: Sequence[Suspect],
        retry: Retry,
        *,
        is_requested: bool,
        force: bool,
    ) -> tuple[list[Result], Result | None]:
        """One attempt at a batch: a result per change, and that of the rebuild, if there was one."""
        settings = self.settings
        # All portions, even when the balance is found stale by the first.
        settled = [faults.settle(firestore, settings, group_id, each, force=force) for each in faults.in_portions(suspects)]
        updates_on = self._updates_on()
        must_rebuild = is_requested or (updates_on and not all(settled))
        if changes and not updates_on:
            done = gaps.leave(firestore, settings, group_id, changes)
            return done, rebuild(firestore, settings, group_id, force=force, retry=retry)[-1] if must_rebuild else None
        if must_rebuild:
            *done, rebuilt = rebuild(firestore, settings, group_id, changes, force=force, retry=retry)
            return done, rebuilt
        return apply(firestore, settings, group_id, changes, retry=retry) if changes else [], None


def _wait(signal: Signal) -> None:
    """Wait as long as whoever asks has time. The work goes on without them."""
    if signal.wait(budget.left_s()) is False:
        raise OutOfTime("the time for this request is over before the work was done")


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
        elif isinstance(member, Suspect):
            results.append(replace(rebuilt or Result(group_id, Outcome.FAULT), outcome=Outcome.FAULT))
        else:
            # The first of several deliveries gets the result; to the others it is a duplicate by now.
            first = by_key.pop(member.write.key, None)
            results.append(first or Result(group_id, Outcome.DUPLICATE))
    return results


def _with_delta(change: GroupChange, done: Callable[[Result | Exception], None]) -> Callable[[Result | Exception], None]:
    """Have the result tell what the change asked for."""
    return lambda outcome: done(outcome if isinstance(outcome, Exception) else replace(outcome, delta=change.delta))


def _outcome(work: Callable[[], T]) -> T | Exception:
    """What the work returns, or the error that it raises: both are for whoever waits for it in another thread."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001
        return error


@dataclass(slots=True)
class _Gathered:
    """Collects an event's results from all groups that it touches."""

    missing: int
    results: list[Result]
    done: Callable[[Processed], None]
    errors: list[Exception] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if not self.missing:
            self.done(Processed(self.results, None))

    def add(self, outcome: Result | Exception) -> None:
        """Note the outcome in one group; after the last one tell all."""
        with self.lock:
            if isinstance(outcome, Exception):
                self.errors.append(outcome)
            else:
                self.results.append(outcome)
            self.missing -= 1
            is_last = self.missing == 0
        if is_last:
            for other in self.errors[1:]:
                self.errors[0].add_note(f"in another group: {type(other).__name__}: {other}")
            self.done(Processed(self.results, self.errors[0] if self.errors else None))


def _weigh(member: Member) -> int:
    """About how many bytes a member adds to the commit, or takes of what a batch may read."""
    if isinstance(member, RebuildRequest):
        return 0
    if isinstance(member, Suspect):
        return MAX_BATCH_BYTES // faults.PER_TRANSACTION
    pairs = (pair for changes in member.delta.values() for pair in changes)
    # UTF-8 takes up to four bytes a character; each pair stands in the record and in two rows of the balance.
    return 1_000 + sum(12 * (len(low) + len(high)) + 100 for low, high in pairs)
