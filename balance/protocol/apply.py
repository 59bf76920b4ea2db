"""Exactly once: the decision table.

Delivery is at least once, unordered and perhaps a day late; a function may die anywhere; a commit's outcome may be unknown.
One transaction reads a group's balance and the records of the events at hand, decides by what it finds, and commits the new
balance together with the new records. So whatever happens around it, a write whose record exists is in the balance, and one
whose record does not exist is either in the snapshot from which the balance was rebuilt, or not in it.

Several changes of one group may share a transaction; each keeps a record of its own.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from balance.core.ledger import Ledger, add
from balance.database.firestore import Firestore, Set, Snapshot, Transaction, UnreadablePast, Update, Write, transaction
from balance.database.retry import ONCE, Retry
from balance.documents import balances, records
from balance.documents.balances import Balance, Stored
from balance.documents.changes import GroupChange, NewerVersion, Result
from balance.documents.judgement import Condition, judge
from balance.documents.outcome import Outcome
from balance.documents.settings import Settings
from balance.documents.writes import Held
from balance.protocol.rebuild import rebuild


def apply(
    firestore: Firestore, settings: Settings, group_id: str, changes: Sequence[GroupChange], *, retry: Retry = ONCE
) -> list[Result]:
    """Bring the changes into the group's balance, each exactly once; returns a result per change.

    `changes` are of different writes; `retry` is for the transaction of a rebuild. Raises NewerVersion. After a TransientError
    everything must be run again.
    """
    with transaction(firestore) as attempt:
        stored, *recorded = attempt.get(paths_of(settings, group_id, changes))
        judgement = judge(stored, group_id, settings)
        if judgement.condition is Condition.NEWER:
            raise NewerVersion(f"{stored.path}: {judgement.reason}")
        if judgement.stored is not None:
            outcomes = _decide(firestore, settings, changes, recorded, stored.read_time, judgement.stored.as_of)
            if Outcome.REBUILT not in outcomes:
                return _write(attempt, settings, group_id, changes, recorded, outcomes, judgement.stored)
    # If any change needs a rebuild, all go with it: no delta is added beside one.
    return rebuild(firestore, settings, group_id, changes, retry=retry)[:-1]


def paths_of(settings: Settings, group_id: str, changes: Sequence[GroupChange]) -> list[str]:
    """Where the balance and the changes' records lie."""
    layout = settings.layout
    return [layout.balance(group_id), *(f"{layout.records(group_id)}/{change.write.key}" for change in changes)]


def _decide(
    firestore: Firestore,
    settings: Settings,
    changes: Sequence[GroupChange],
    recorded: Sequence[Snapshot],
    read_time: datetime,
    as_of: datetime,
) -> list[Outcome]:
    asked = [
        change.write.source
        for change, record in zip(changes, recorded, strict=True)
        if record.fields is None and change.write.held_by(as_of) is Held.ASK
    ]
    versions = _versions(firestore, asked, as_of) if asked else {}
    if versions is None:
        return [Outcome.REBUILT] * len(changes)
    oldest = read_time - settings.record_ttl / 2
    return [
        outcome_of(change, versions, as_of, oldest, is_recorded=record.fields is not None)
        for change, record in zip(changes, recorded, strict=True)
    ]


def outcome_of(
    change: GroupChange,
    versions: dict[str, datetime | None],
    as_of: datetime,
    oldest: datetime,
    *,
    is_recorded: bool,
) -> Outcome:
    """The rows of the table for a current balance; the first that matches decides."""
    if is_recorded:
        return Outcome.DUPLICATE
    if change.write.held_given(as_of, versions.get(change.write.source)):
        return Outcome.ALREADY_INCLUDED
    if change.write.time < oldest:
        # Its record may have expired, so that its absence proves nothing.
        return Outcome.REBUILT
    if not records.holds_delta(change):
        # Neither a later rebuild nor a redelivery could learn from its record what was added.
        return Outcome.REBUILT
    return Outcome.APPLIED


def _versions(firestore: Firestore, sources: Sequence[str], as_of: datetime) -> dict[str, datetime | None] | None:
    """At which version the documents stood (None: absent) at an instant; None when that can no longer be read."""
    try:
        return {document.path: document.update_time for document in firestore.get(sources, read_time=as_of)}
    except UnreadablePast:
        return None


def _write(
    attempt: Transaction,
    settings: Settings,
    group_id: str,
    changes: Sequence[GroupChange],
    recorded: Sequence[Snapshot],
    outcomes: Sequence[Outcome],
    before: Stored,
) -> list[Result]:
    """Commit the delta of all APPLIED changes together with their records."""
    writes, after = writes_of(settings, group_id, changes, recorded, outcomes, before)
    committed_at = attempt.commit(writes) if writes else None
    return results_of(group_id, outcomes, committed_at, after.balance)


def writes_of(
    settings: Settings,
    group_id: str,
    changes: Sequence[GroupChange],
    recorded: Sequence[Snapshot],
    outcomes: Sequence[Outcome],
    before: Stored,
    *,
    update_time: datetime | None = None,
) -> tuple[list[Write], Stored]:
    """What brings the APPLIED changes into the balance, together with their records, and the balance after it.

    With `update_time` on the condition that the balance stands as last written then.
    """
    applied = [index for index, outcome in enumerate(outcomes) if outcome is Outcome.APPLIED]
    if not applied:
        return [], before
    delta: Ledger = {}
    for index in applied:
        add(delta, changes[index].delta)
    after = replace(before, balance=balances.applied(before.balance, delta))
    write: Write
    path = settings.layout.balance(group_id)
    if after.balance.detail is before.balance.detail and balances.is_updatable(delta):
        write = Update(path, balances.updates(after.balance, delta, settings.unit), update_time)
    else:
        write = Set(path, balances.document(group_id, after, settings), update_time)
    # Even when the deltas cancel each change is recorded: else its redelivery would count.
    creations = records.creations(
        [changes[index] for index in applied],
        [recorded[index] for index in applied],
        Outcome.APPLIED,
        settings,
    )
    return [write, *creations], after


def results_of(group_id: str, outcomes: Sequence[Outcome], committed_at: datetime | None, after: Balance) -> list[Result]:
    """A result for each change, now that it is committed."""
    return [
        Result(group_id, outcome, committed_at, after) if outcome is Outcome.APPLIED else Result(group_id, outcome)
        for outcome in outcomes
    ]
