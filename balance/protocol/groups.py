"""Groups that come and go: what the creation and the deletion of a group's document mean for its balance.

An event is only a hint to look. What is done depends on what stands, so it may come twice, late, and in any order; and it may
be acted on by several at once.
"""

from balance.database.firestore import Delete, Firestore, Query, transaction
from balance.documents.judgement import Condition, judge
from balance.documents.settings import Settings

_PER_TRANSACTION = 300


def wants_rebuild(firestore: Firestore, settings: Settings, group_id: str) -> bool:
    """Whether a group exists, and its balance is missing, stale or of an earlier incarnation. May raise TransientError."""
    group, stored = firestore.get([settings.layout.group(group_id), settings.layout.balance(group_id)])
    return group.fields is not None and judge(stored, group_id, settings, group).condition is not Condition.CURRENT


def clear(firestore: Firestore, settings: Settings, group_id: str) -> bool:
    """Delete the balance and the faults of a group that is gone; returns whether there was anything to delete.

    Records stay until they expire: they answer redeliveries, should the group come back. May raise TransientError.
    """
    layout = settings.layout
    had_any = False
    while True:
        with transaction(firestore) as attempt:
            group, stored = attempt.get([layout.group(group_id), layout.balance(group_id)])
            if group.fields is not None:
                return had_any
            faults = attempt.query(Query(collection=layout.faults(group_id), limit=_PER_TRANSACTION, select=()))
            if stored.fields is None and not faults:
                return had_any
            attempt.commit([Delete(stored.path), *(Delete(fault.path) for fault in faults)])
            had_any = True
