"""The first attempt at events: without locks, several groups in one commit.

Each group's balance is remembered or read, without a transaction; then one commit writes all deltas and records. It is atomic,
and its conditions are what the decisions rest on: each balance still has the update time with which it was read (so its sums,
its `asOf` and its version are those), and no record exists (so no change was applied before). If one does not hold, nothing is
written.

What needs more than that is left to apply.py, which takes the group alone in a transaction with locks: a balance that must be
rebuilt, a delete near the snapshot, a write so old that its record may have expired, and every group of a commit that failed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from balance.database.firestore import Conflict, Firestore, Snapshot, TooLarge, TransientError, Write
from balance.documents.balances import Stored
from balance.documents.changes import GroupChange, NewerVersion, Result
from balance.documents.judgement import Condition, judge
from balance.documents.outcome import Outcome
from balance.documents.settings import Settings
from balance.documents.writes import Held
from balance.protocol.apply import outcome_of, paths_of, results_of, writes_of
from balance.protocol.memory import Memory, Remembered

T = TypeVar("T")

TIMEOUT_S = 0.5
"""For the read and for the commit: somebody may hold a lock on one of the groups, and the others must not wait for it."""

_MOST_TIMEOUT_S = 8.0

MAX_COMMIT_BYTES = 8 * 1024 * 1024
"""Below the 10 MiB of a Firestore request: https://firebase.google.com/docs/firestore/quotas"""

Answer = list[Result] | NewerVersion | None


class Patience:
    """How long a call for several groups may take: `TIMEOUT_S`, and longer while the database takes longer for everything.

    Otherwise a slow database would get more work: every group once more, by itself.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.timeout_s = TIMEOUT_S
        self._clock = clock

    def call(self, work: Callable[[], T]) -> T:
        """Do it, and learn from how long it takes."""
        started_s = self._clock()
        try:
            answer = work()
        except Conflict:
            raise
        except TransientError:
            self.timeout_s = min(2 * self.timeout_s, _MOST_TIMEOUT_S)
            raise
        self.timeout_s = min(max(TIMEOUT_S, 4 * (self._clock() - started_s)), _MOST_TIMEOUT_S)
        return answer


@dataclass(frozen=True, slots=True)
class Plan:
    """A group's part of the commit."""

    outcomes: list[Outcome]
    writes: list[Write]
    after: Stored


def apply_together(
    firestore: Firestore,
    settings: Settings,
    batch: Mapping[str, Sequence[GroupChange]],
    memory: Memory,
    patience: Patience,
) -> dict[str, Answer]:
    """Bring changes of several groups into their balances, each exactly once.

    Answers for each group a result per change, the error with which all its changes fail, or None: the group is to be applied
    alone. Raises nothing that a retry could cure.
    """
    try:
        return _attempt(firestore, settings, batch, memory, patience)
    except Conflict:
        # Somebody else wrote one of the balances, or an event came again. Which one is not told: all are read again, once.
        for group_id in batch:
            memory.forget(group_id)
    except (TransientError, TooLarge):
        for group_id in batch:
            memory.forget(group_id)
        return dict.fromkeys(batch)
    try:
        return _attempt(firestore, settings, batch, memory, patience)
    except (TransientError, TooLarge):
        return dict.fromkeys(batch)


def _attempt(
    firestore: Firestore,
    settings: Settings,
    batch: Mapping[str, Sequence[GroupChange]],
    memory: Memory,
    patience: Patience,
) -> dict[str, Answer]:
    answers: dict[str, Answer] = dict.fromkeys(batch)
    plans: dict[str, Plan] = {}
    unknown = []
    for group_id, changes in batch.items():
        plan = _remembered(settings, group_id, changes, memory)
        if plan is None:
            unknown.append(group_id)
        else:
            plans[group_id] = plan
    paths = {group_id: paths_of(settings, group_id, batch[group_id]) for group_id in unknown}
    all_paths = [path for each in paths.values() for path in each]
    read = patience.call(lambda: firestore.get(all_paths, timeout_s=patience.timeout_s)) if paths else ()
    found = iter(read)
    for group_id in unknown:
        stored, *recorded = [next(found) for _ in paths[group_id]]
        judgement = judge(stored, group_id, settings)
        if judgement.condition is Condition.NEWER:
            answers[group_id] = NewerVersion(f"{stored.path}: {judgement.reason}")
        elif judgement.stored is not None:
            assert stored.update_time is not None, f"{stored.path} was found, so it exists"
            plan = _plan(settings, group_id, batch[group_id], recorded, judgement.stored, stored.update_time, stored.read_time)
            if plan is not None:
                plans[group_id] = plan

    writes = [write for plan in plans.values() for write in plan.writes]
    committed_at = patience.call(lambda: _commit(firestore, writes, patience.timeout_s)) if writes else None
    for group_id, plan in plans.items():
        answers[group_id] = results_of(group_id, plan.outcomes, committed_at, plan.after.balance)
        if plan.writes and committed_at is not None:
            memory.put(group_id, Remembered(plan.after, committed_at))
    return answers


def _commit(firestore: Firestore, writes: Sequence[Write], timeout_s: float) -> datetime:
    return firestore.commit(writes, timeout_s=timeout_s, max_bytes=MAX_COMMIT_BYTES)


def _remembered(settings: Settings, group_id: str, changes: Sequence[GroupChange], memory: Memory) -> Plan | None:
    """The plan on a remembered balance, whose commit proves all that it rests on; None: read it."""
    kept = memory.get(group_id)
    if kept is None:
        return None
    _, *paths = paths_of(settings, group_id, changes)
    absent = [Snapshot(path, None, None, kept.update_time) for path in paths]
    plan = _plan(settings, group_id, changes, absent, kept.stored, kept.update_time, kept.update_time)
    # Without a write there is no commit to prove anything.
    return plan if plan is not None and plan.writes else None


def _plan(
    settings: Settings,
    group_id: str,
    changes: Sequence[GroupChange],
    recorded: Sequence[Snapshot],
    balance: Stored,
    update_time: datetime,
    now: datetime,
) -> Plan | None:
    """What is to be committed for a group; None when a row of the table needs more."""
    is_unclear = any(
        record.fields is None and change.write.held_by(balance.as_of) is Held.ASK
        for change, record in zip(changes, recorded, strict=True)
    )
    if is_unclear:
        return None
    oldest = now - settings.record_ttl / 2
    outcomes = [
        outcome_of(change, {}, balance.as_of, oldest, is_recorded=record.fields is not None)
        for change, record in zip(changes, recorded, strict=True)
    ]
    if Outcome.REBUILT in outcomes:
        return None
    writes, after = writes_of(settings, group_id, changes, recorded, outcomes, balance, update_time=update_time)
    return Plan(outcomes, writes, after)
