"""Faults: source documents that could not be understood, and since when.

A fault is a function of the source document as it is now. Events arrive late and out of order, so whoever meets a malformed
side reads the document in a transaction and sets or removes its fault by what stands there; the last to look is right.
`groups/{groupId}/balanceFaults/{key}` (or top-level `balanceFaults`, when the document names no usable group) holds `source`,
`field`, `reason` and `since`, the time at which the malformed version was written.
"""

from collections.abc import Iterable
from typing import Any

from balance.database.firestore import Delete, Fields, Firestore, Set, Snapshot, Write, transaction
from balance.documents.settings import Settings
from balance.documents.sources import Kind, Malformed, is_document_id, parse


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
    firestore: Firestore, settings: Settings, kind: Kind | None, source: str, groups: Iterable[str | None]
) -> Malformed | None:
    """Set or remove the fault of a source document by its present state, in one transaction; returns the fault, if any.

    `groups` are those (None: no usable one) in which a fault of an earlier state may stand. May raise TransientError.
    """
    layout = settings.layout
    with transaction(firestore) as attempt:
        (present,) = attempt.get([source])
        parsed = parse(kind, present.fields, settings.unit, layout.group_in_path(source))
        fault = parsed if isinstance(parsed, Malformed) else None
        paths = {layout.fault(group_id, source) for group_id in {*groups, *([fault.group_id] if fault else [])}}
        wanted = {layout.fault(fault.group_id, source): document(present, fault)} if fault else {}
        writes: list[Write] = []
        for stored in attempt.get(sorted(paths)):
            fields = wanted.get(stored.path)
            if fields is None and stored.fields is not None:
                writes.append(Delete(stored.path))
            elif fields is not None and fields != stored.fields:
                writes.append(Set(stored.path, fields))
        if writes:
            attempt.commit(writes)
    return fault


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
    parsed = parse(kind, present.fields, settings.unit, layout.group_in_path(source))
    if isinstance(parsed, Malformed) and parsed.group_id is None and stored.fields == document(present, parsed):
        return False
    settle(firestore, settings, kind, source, [None])
    return True
