"""Rebuilding a balance: the universal repair.

A rebuild reads all of a group's documents as of one past instant S, without locking any, and then, in one transaction, adds
what the records say was applied since. Writes up to S come from the documents, later ones from their records, so none is
lost and none counts twice; and the balance carries S as `asOf`, by which later events know whether they are in it.

That holds as long as the records since S are all there. They may be deleted together with the group, or by hand. So the
transaction looks at the group again, and at whether the balance that stood at S still stands; if not, the rebuild starts over
from a later S, which holds what those records told of.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from balance.core.ledger import Ledger, add, check_invariants, post
from balance.database.firestore import Firestore, Query, Set, Snapshot, Transaction, transaction
from balance.database.retry import ONCE, Retry
from balance.documents import balances, records
from balance.documents.balances import Detail, Stored
from balance.documents.changes import GroupChange, NewerVersion, Overtaken, Result
from balance.documents.judgement import Condition, judge
from balance.documents.outcome import Outcome
from balance.documents.records import CorruptRecord, Record
from balance.documents.settings import Settings
from balance.documents.sources import Kind, Malformed, parse
from balance.documents.tally import Tally
from balance.documents.writes import EVENT_TIME_ERROR
from balance.protocol import faults
from balance.protocol.faults import Suspect

APPLIED_AT_MARGIN = timedelta(minutes=1)
"""Records' `appliedAt` and documents' commit times are both the server's, but not of one reading of its clock."""


@dataclass(frozen=True, slots=True)
class History:
    """All of a group's source documents as of one instant."""

    as_of: datetime
    ledger: Ledger
    versions: dict[str, datetime]
    """By path: when the version in the snapshot was written."""
    malformed: dict[str, tuple[Snapshot, Malformed]]
    """By path."""
    tally: Tally = field(default_factory=Tally)


def read_history(firestore: Firestore, settings: Settings, group_id: str, as_of: datetime) -> History:
    """Read and recalculate a group's whole history as of an instant of the past hour. May raise TransientError."""
    layout = settings.layout
    history = History(as_of, {}, {}, {})
    for kind in Kind:
        for document in firestore.query(layout.sources(kind, group_id), read_time=as_of):
            assert document.update_time is not None, f"{document.path} was found, so it exists"
            history.versions[document.path] = document.update_time
            parsed = parse(kind, document.fields, settings.unit, layout.group_in_path(document.path))
            history.tally.count(document.path, parsed)
            if isinstance(parsed, Malformed):
                history.malformed[document.path] = (document, parsed)
            else:
                post(history.ledger, parsed.postings)
    check_invariants(history.ledger)
    return history


def rebuild(
    firestore: Firestore,
    settings: Settings,
    group_id: str,
    changes: Sequence[GroupChange] = (),
    *,
    force: bool = False,
    retry: Retry = ONCE,
) -> list[Result]:
    """Rebuild a group's balance and record the changes that called for it.

    Returns a result per change, then the rebuild's own. A group that is gone is left alone: it needs no balance, and should it
    come back, it is rebuilt. `force` overwrites a balance of a newer version, which else raises NewerVersion. `retry` is for
    the transaction at the end: a snapshot that took seconds to read stays true, however busy the group. After a TransientError
    everything must be run again, from the decision table on.
    """
    group, stood = firestore.get([settings.layout.group(group_id), settings.layout.balance(group_id)])
    if group.fields is None:
        return [Result(group_id, Outcome.GROUP_GONE)] * (len(changes) + 1)
    _refuse_newer(stood, group_id, settings, force=force)
    history = read_history(firestore, settings, group_id, as_of=group.read_time)
    _settle_faults(firestore, settings, group_id, history, force=force)

    def attempt() -> list[Result]:
        with transaction(firestore) as attempted:
            return _write(attempted, settings, group_id, changes, history, group, stood, force=force)

    return retry.run(attempt, unless=(Overtaken,))


def _refuse_newer(stored: Snapshot, group_id: str, settings: Settings, *, force: bool) -> None:
    judgement = judge(stored, group_id, settings)
    if judgement.condition is Condition.NEWER and not force:
        raise NewerVersion(f"{stored.path}: {judgement.reason}")


def _settle_faults(firestore: Firestore, settings: Settings, group_id: str, history: History, *, force: bool) -> None:
    layout = settings.layout
    stored = {fault.path: fault for fault in firestore.query(Query(collection=layout.faults(group_id)))}
    suspects = {
        path
        for path, (source, malformed) in history.malformed.items()
        if (fault := stored.pop(layout.fault(group_id, path), None)) is None
        or fault.fields != faults.document(source, malformed)
    }
    # What is left in `stored` belongs to documents that are well-formed, gone or another group's by now.
    suspects |= {source for fault in stored.values() if (source := faults.source_of(fault.fields)) is not None}
    for portion in faults.in_portions([Suspect(layout.kind(path), path) for path in sorted(suspects)]):
        faults.settle(firestore, settings, group_id, portion, force=force)


def _write(
    attempt: Transaction,
    settings: Settings,
    group_id: str,
    changes: Sequence[GroupChange],
    history: History,
    group: Snapshot,
    stood: Snapshot,
    *,
    force: bool,
) -> list[Result]:
    """`group` and `stood` are the group's document and its balance as they were at the snapshot."""
    layout, as_of = settings.layout, history.as_of
    record_paths = [f"{layout.records(group_id)}/{change.write.key}" for change in changes]
    stored, present, *recorded = attempt.get([layout.balance(group_id), group.path, *record_paths])
    if present.create_time is None or present.create_time != group.create_time:
        raise Overtaken(f"{group.path} was deleted since the snapshot, and perhaps records with it")
    if stood.fields is not None and stored.fields is None:
        raise Overtaken(f"{stored.path} was deleted since the snapshot, and perhaps records with it")
    _refuse_newer(stored, group_id, settings, force=force)
    was = _overwritable(stored, as_of)

    # An applied write that the snapshot holds is in its documents; any other is added from its record.
    ledger = {currency: dict(pairs) for currency, pairs in history.ledger.items()}
    try:
        later = records_since(attempt.query, settings, group_id, as_of)
    except CorruptRecord as error:
        raise Overtaken(f"a record cannot be added: {error}") from None
    for record in later:
        if record.write.held_given(as_of, history.versions.get(record.write.source)):
            continue
        if not record.is_addable(settings) or record.delta is None:
            raise Overtaken(f"{record.write.source} was written since, and its record cannot be added")
        add(ledger, record.delta)

    for change, found in zip(changes, recorded, strict=True):
        if found.fields is None and not change.write.held_given(as_of, history.versions.get(change.write.source)):
            if not change.is_dated:
                raise Overtaken(f"{change.write.source} was written at a time that nobody knows, perhaps since")
            add(ledger, change.delta)

    # No fault of the group can be set or removed before this transaction ends.
    fault_count = len(attempt.query(Query(collection=layout.faults(group_id), select=())))
    balance = balances.of_ledger(ledger, was)
    rebuilt = Stored(balance, as_of, present.create_time, fault_count)
    committed_at = attempt.commit(
        [
            Set(stored.path, balances.document(group_id, rebuilt, settings)),
            *records.creations(changes, recorded, Outcome.REBUILT, settings),
        ]
    )
    result = Result(group_id, Outcome.REBUILT, committed_at, balance, tally=history.tally)
    duplicate = Result(group_id, Outcome.DUPLICATE)
    return [*(result if record.fields is None else duplicate for record in recorded), result]


def records_since(
    query: Callable[[Query], Iterable[Snapshot]], settings: Settings, group_id: str, as_of: datetime
) -> list[Record]:
    """The records that may tell of writes after a snapshot. Raises CorruptRecord, which a minute cures: then it is too old.

    Records of a time to come are left out: nothing was written then, and they would stop all rebuilds until it comes.
    """
    found = []
    since = Query(collection=settings.layout.records(group_id), where=("appliedAt", ">=", as_of - APPLIED_AT_MARGIN))
    for document in query(since):
        latest = document.read_time + APPLIED_AT_MARGIN
        applied_at = (document.fields or {}).get("appliedAt")
        try:
            record = records.parse(document.fields or {})
        except CorruptRecord as error:
            if isinstance(applied_at, datetime) and applied_at > latest:
                continue
            raise CorruptRecord(f"{document.path}: {error}") from None
        if record.write.update_time <= latest and record.write.time <= latest + EVENT_TIME_ERROR:
            found.append(record)
    return found


def _overwritable(stored: Snapshot, as_of: datetime) -> Detail | None:
    """The stored level of detail, if any; raises when the stored balance must stand."""
    if stored.fields is None:
        return None
    stored_as_of = stored.fields.get("asOf")
    # A time to come is no snapshot's: such a document is corrupt, and goes.
    if isinstance(stored_as_of, datetime) and as_of < stored_as_of <= stored.read_time:
        raise Overtaken(f"{stored.path} was rebuilt from a later snapshot")
    detail = stored.fields.get("detail")
    return Detail(detail) if detail in tuple(Detail) else None
