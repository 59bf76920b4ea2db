"""Gaps: changes that are acknowledged and yet in no balance.

While updates are switched off nothing may be added to a balance; but nothing may be forgotten either. So each such change
leaves a record that says so, from which a rebuild under way learns that its snapshot is not complete, and an existing balance
is marked stale, so that it is rebuilt before it is used again.
"""

from collections.abc import Sequence

from balance.database.firestore import Firestore, Update, transaction
from balance.documents import records
from balance.documents.balances import STALE
from balance.documents.changes import GroupChange, Result
from balance.documents.outcome import Outcome
from balance.documents.settings import Settings


def leave(firestore: Firestore, settings: Settings, group_id: str, changes: Sequence[GroupChange]) -> list[Result]:
    """Record that these changes are in no balance, and mark an existing one stale; returns DISABLED for each.

    May raise TransientError.
    """
    layout = settings.layout
    with transaction(firestore) as attempt:
        record_paths = [f"{layout.records(group_id)}/{change.write.key}" for change in changes]
        stored, *recorded = attempt.get([layout.balance(group_id), *record_paths])
        gaps = records.creations(changes, recorded, Outcome.DISABLED, settings)
        if gaps:
            stale = [] if stored.fields is None else [Update(stored.path, {("version",): STALE})]
            attempt.commit([*gaps, *stale])
    return [Result(group_id, Outcome.DISABLED) for _ in changes]
