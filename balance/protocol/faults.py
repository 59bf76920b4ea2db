"""Faults: source documents that could not be understood, and since when.

A fault is a function of the source document as it is now. Events arrive late and out of order, so whoever meets a malformed
side reads the document in a transaction and sets or removes its fault by what stands there; the last to look is right.
`groups/{groupId}/balanceFaults/{key}` (or top-level `balanceFaults`, when the document names no usable group) holds `source`,
`field`, `reason` and `since`, the time at which the malformed version was written.

A group's balance counts the group's faults. Each transaction that sets or removes one changes the count of a current balance,
too; one that is not current is marked stale and rebuilt, and a rebuild counts the faults that stand when it commits. So the
count is exact at every commit. A group that does not exist has neither.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from balance.database.firestore import SERVER_TIME, Delete, Fields, Firestore, Set, Snapshot, Update, Write, transaction
from balance.documents.balances import STALE
from balance.documents.changes import NewerVersion
from balance.documents.judgement import Condition, judge
from balance.documents.settings import Settings
from balance.documents.sources import Kind, Malformed, is_document_id, parse

PER_TRANSACTION = 20
"""Documents that are settled together: each may have a megabyte, and all are locked."""


class Suspect(NamedTuple):
    """A source document that is malformed, or was."""

    kind: Kind | None
    source: str


def document(source: Snapshot, malformed: Malformed) -> dict[str, Any]:
    """All fields of the fault of a source document as read."""
    return {"source": source.path, "field": malformed.field, "reason": malformed.reason, "since": source.update_time}


def source_of(fault: Fields | None) -> str | None:
    """The path of the document that a stored fault is of, or None when it names none: we did not write it like this."""
    source = (fault or {}).get("source")
    segments = source.split("/") if isinstance(source, str) else []
    # Firestore refuses to read anything else, and a fault that a hand has bent must not stand in a rebuild's way.
    return source if segments and len(segments) % 2 == 0 and all(map(is_document_id, segments)) else None


def settle(
    firestore: Firestore, settings: Settings, group_id: str | None, suspects: Sequence[Suspect], *, force: bool = False
) -> bool:
    """Set or remove some documents' faults in a group (None: those that name no usable one), by their present state.

    At most PER_TRANSACTION different suspects, in one transaction. Returns whether the group has a current balance, which
    then counts them, or needs none. `force` goes on where newer code wrote the balance, which else raises NewerVersion. May
    raise TransientError.
    """
    layout = settings.layout
    beside = [] if group_id is None else [layout.group(group_id), layout.balance(group_id)]
    with transaction(firestore) as attempt:
        read = attempt.get(
            [*beside, *(suspect.source for suspect in suspects), *(layout.fault(group_id, it.source) for it in suspects)]
        )
        group, balance = read[:2] if beside else (None, None)
        present, stored = read[len(beside) : -len(suspects)], read[-len(suspects) :]
        exists = group is None or group.fields is not None
        writes: list[Write] = []
        more = 0
        for suspect, source, fault in zip(suspects, present, stored, strict=True):
            wanted = _wanted(settings, group_id, suspect.kind, source) if exists else None
            more += (wanted is not None) - (fault.fields is not None)
            if wanted is None and fault.fields is not None:
                writes.append(Delete(fault.path))
            elif wanted is not None and wanted != fault.fields:
                writes.append(Set(fault.path, wanted))
        is_current = True
        if group_id is not None and balance is not None and exists:
            is_current = _count(writes, settings, group_id, group, balance, more, force=force)
        if writes:
            attempt.commit(writes)
    return is_current


def _wanted(settings: Settings, group_id: str | None, kind: Kind | None, source: Snapshot) -> dict[str, Any] | None:
    """The fault that is due to a document in this group, if any."""
    parsed = parse(kind, source.fields, settings.unit, settings.layout.group_in_path(source.path))
    return document(source, parsed) if isinstance(parsed, Malformed) and parsed.group_id == group_id else None


def _count(
    writes: list[Write],
    settings: Settings,
    group_id: str,
    group: Snapshot | None,
    balance: Snapshot,
    more: int,
    *,
    force: bool,
) -> bool:
    """Have a current balance count so many faults more; returns whether it is current."""
    judgement = judge(balance, group_id, settings, group)
    if judgement.condition is Condition.NEWER and not force:
        raise NewerVersion(f"{balance.path}: {judgement.reason}")
    if judgement.stored is None:
        if more and balance.fields is not None:
            # It is not current to us, but may be to code of another version, which must not go on with a wrong count.
            writes.append(Update(balance.path, {("version",): STALE}))
        return False
    count = judgement.stored.faults + more
    if count < 0:
        # Somebody has changed it.
        writes.append(Update(balance.path, {("version",): STALE}))
        return False
    if more:
        writes.append(Update(balance.path, {("faults",): count, ("lastUpdatedAt",): SERVER_TIME}))
    return True


def in_portions(suspects: Sequence[Suspect]) -> Iterator[Sequence[Suspect]]:
    """As many at a time as `settle` takes."""
    return (suspects[start : start + PER_TRANSACTION] for start in range(0, len(suspects), PER_TRANSACTION))


def refresh(firestore: Firestore, settings: Settings, stored: Snapshot) -> bool:
    """Have a stored fault that names no usable group say what is true of its document now; returns whether it did not.

    What stands among such faults and is none of ours is removed. May raise TransientError.
    """
    layout = settings.layout
    source = source_of(stored.fields)
    if source is None or stored.path != layout.fault(None, source):
        with transaction(firestore) as attempt:
            attempt.get([stored.path])
            attempt.commit([Delete(stored.path)])
        return True
    kind = layout.kind(source)
    (present,) = firestore.get([source])
    if stored.fields == _wanted(settings, None, kind, present):
        return False
    settle(firestore, settings, None, [Suspect(kind, source)])
    return True
