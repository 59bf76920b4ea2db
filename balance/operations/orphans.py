"""Orphans: balances, records and faults of groups whose document is gone.

Firestore deletes a document, not what lies below it. So whatever an app removes of a deleted group, ours may stay. A rebuild
never resurrects a balance, hence removing an orphan is final. One that was in use within the last hour stays: a rebuild that
began before the group went may still need its records, should the group come back at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from balance.database.firestore import Delete, Directory, Firestore, Query, transaction
from balance.database.retry import Retry
from balance.documents.settings import Settings

_PER_COMMIT = 300
_IN_USE = timedelta(hours=1)
"""Longer than a function may run, and than the past can be read."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """What is left of one deleted group."""

    group_id: str
    documents: int


def find(firestore: Directory, settings: Settings) -> Iterator[Orphan]:
    """All orphans, group by group. Pages through all groups, existing and deleted: that is how Firestore tells."""
    layout = settings.layout
    for group_id in firestore.missing(layout.groups):
        documents = sum(1 for _ in _paths(firestore, settings, group_id))
        if documents:
            yield Orphan(group_id, documents)


def remove(firestore: Firestore, settings: Settings, orphan: Orphan) -> bool:
    """Remove an orphan that is in use no longer and whose group does not exist again; returns whether it was removed.

    May raise TransientError.
    """
    newest = Query(collection=settings.layout.records(orphan.group_id), newest_by="appliedAt", limit=1)
    for record in firestore.query(newest):
        applied_at = (record.fields or {}).get("appliedAt")
        if isinstance(applied_at, datetime) and applied_at > record.read_time - _IN_USE:
            return False
    paths = list(_paths(firestore, settings, orphan.group_id))
    batches = [paths[start : start + _PER_COMMIT] for start in range(0, len(paths), _PER_COMMIT)]
    retry = Retry()
    return all(retry.run(lambda batch=batch: _remove(firestore, settings, orphan.group_id, batch)) for batch in batches)  # type: ignore[misc]


def _remove(firestore: Firestore, settings: Settings, group_id: str, paths: list[str]) -> bool:
    with transaction(firestore) as attempt:
        # Read with the deletion: a group that comes back under its old id keeps what it has.
        (group,) = attempt.get([settings.layout.group(group_id)])
        if group.fields is not None:
            return False
        attempt.commit([Delete(path) for path in paths])
    return True


def _paths(firestore: Firestore, settings: Settings, group_id: str) -> Iterator[str]:
    """The balance first: without its records it would count redelivered events twice, should the group come back."""
    layout = settings.layout
    balance = layout.balance(group_id)
    collection = balance.rpartition("/")[0]
    # Only the path is wanted; a balance may have a megabyte.
    yield from (found.path for found in firestore.query(Query(collection=collection, select=())) if found.path == balance)
    for ours in (layout.records(group_id), layout.faults(group_id)):
        yield from (found.path for found in firestore.query(Query(collection=ours, select=())))
