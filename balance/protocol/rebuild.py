"""Rebuilding a balance: the universal repair.

A rebuild reads all of a group's documents as of one past instant S, without locking any, and then, in one transaction, adds
what the records say was applied since. Writes up to S come from the documents, later ones from their records, so none is
lost and none counts twice; and the balance carries S as `asOf`, by which later events know whether they are in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from balance.core.ledger import Ledger, add, check_invariants, post
from balance.database.firestore import Firestore, Query, Set, Snapshot, Transaction, transaction
from balance.database.retry import ONCE, Retry
from balance.documents import balances, records
from balance.documents.balances import VERSION, Detail
from balance.documents.changes import GroupChange, NewerVersion, Overtaken, Result
from balance.documents.outcome import Outcome
from balance.documents.records import CorruptRecord
from balance.documents.settings import Settings
from balance.documents.sources import Kind, Malformed, parse
from balance.protocol import faults, gaps

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


def read_history(firestore: Firestore, settings: Settings, group_id: str, as_of: datetime) -> History:
    """Read and recalculate a group's whole history as of an instant of the past hour. May raise TransientError."""
    layout = settings.layout
    history = History(as_of, {}, {}, {})
    for kind in Kind:
        for document in firestore.query(layout.sources(kind, group_id), read_time=as_of):
            assert document.update_time is not None, f"{document.path} was found, so it exists"
            history.versions[document.path] = document.update_time
            parsed = parse(kind, document.fields, settings.unit, layout.group_in_path(document.path))
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

    Returns a result per change, then the rebuild's own. `force` overwrites a balance of a newer version, which else raises
    NewerVersion. `retry` is for the transaction at the end: a snapshot that took seconds to read stays true, however busy the
    group. After a TransientError everything must be run again, from the decision table on.
    """
    (group,) = firestore.get([settings.layout.group(group_id)])
    if group.fields is None:
        # The group may come back, and its old balance with it; or a rebuild may be under way since before it went.
        gone = gaps.leave(firestore, settings, group_id, changes, Outcome.GROUP_GONE) if changes else []
        return [*gone, Result(group_id, Outcome.GROUP_GONE)]
    history = read_history(firestore, settings, group_id, as_of=group.read_time)
    _settle_faults(firestore, settings, group_id, history)

    def attempt() -> list[Result]:
        with transaction(firestore) as attempted:
            return _write(attempted, settings, group_id, changes, history, force=force)

    return retry.run(attempt, unless=(Overtaken,))


def _settle_faults(firestore: Firestore, settings: Settings, group_id: str, history: History) -> None:
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
    for path in sorted(suspects):
        faults.settle(firestore, settings, layout.kind(path), path, [group_id])


def _write(
    attempt: Transaction,
    settings: Settings,
    group_id: str,
    changes: Sequence[GroupChange],
    history: History,
    *,
    force: bool,
) -> list[Result]:
    layout, as_of = settings.layout, history.as_of
    record_paths = [f"{layout.records(group_id)}/{change.write.key}" for change in changes]
    stored, *recorded = attempt.get([layout.balance(group_id), *record_paths])
    was = _overwritable(stored, as_of, force=force)

    # An applied write that the snapshot holds is in its documents; any other is added from its record.
    ledger = {currency: dict(pairs) for currency, pairs in history.ledger.items()}
    since = Query(collection=layout.records(group_id), where=("appliedAt", ">=", as_of - APPLIED_AT_MARGIN))
    for document in attempt.query(since):
        try:
            record = records.parse(document.fields or {})
        except CorruptRecord as error:
            raise Overtaken(f"the record {document.path} cannot be added: {error}") from None
        if record.write.held_given(as_of, history.versions.get(record.write.source)):
            continue
        if record.is_gap or record.version != VERSION:
            raise Overtaken(f"{record.write.source} was written since, and its record cannot be added")
        add(ledger, record.delta)

    for change, found in zip(changes, recorded, strict=True):
        if found.fields is None and not change.write.held_given(as_of, history.versions.get(change.write.source)):
            add(ledger, change.delta)

    balance = balances.of_ledger(ledger, was)
    rebuilt = Set(stored.path, balances.document(group_id, balance, as_of, settings.unit))
    expire_at = stored.read_time + settings.record_ttl
    committed_at = attempt.commit([rebuilt, *records.creations(changes, recorded, Outcome.REBUILT, expire_at)])
    result = Result(group_id, Outcome.REBUILT, committed_at, balance)
    duplicate = Result(group_id, Outcome.DUPLICATE)
    return [*(result if record.fields is None else duplicate for record in recorded), result]


def _overwritable(stored: Snapshot, as_of: datetime, *, force: bool) -> Detail | None:
    """The stored level of detail, if any; raises when the stored balance must stand."""
    if stored.fields is None:
        return None
    if balances.stored_version(stored.fields) > VERSION and not force:
        raise NewerVersion(f"{stored.path} was written by newer code")
    stored_as_of = stored.fields.get("asOf")
    # A time to come is no snapshot's: such a document is corrupt, and goes.
    if isinstance(stored_as_of, datetime) and as_of < stored_as_of <= stored.read_time:
        raise Overtaken(f"{stored.path} was rebuilt from a later snapshot")
    detail = stored.fields.get("detail")
    return Detail(detail) if detail in tuple(Detail) else None
