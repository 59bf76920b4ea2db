"""Whether a script reads an app's documents by the same rules as the deployed functions do.

The functions leave the rules by which they read in every balance that they write. So the balances of some groups are looked at,
and the one that was written last tells.
"""

from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from balance.database.firestore import Firestore
from balance.documents import rules
from balance.documents.balances import VERSION, stored_version
from balance.documents.settings import Settings
from balance.operations.fleet import PAGE, group_ids


@dataclass(frozen=True, slots=True)
class LastWritten:
    """The newest balance among those that were looked at."""

    group_id: str
    rules: str
    at: datetime


def last_written(firestore: Firestore, settings: Settings) -> LastWritten | None:
    """What was written last by code of this version, among the first groups; None when there is nothing of it."""
    layout = settings.layout
    ids = list(islice(group_ids(firestore, layout), PAGE))
    newest: LastWritten | None = None
    for group_id, stored in zip(ids, firestore.get([layout.balance(id_) for id_ in ids]) if ids else [], strict=True):
        fields = stored.fields or {}
        by_rules, at = fields.get("rules"), fields.get("lastUpdatedAt")
        if stored_version(fields) != VERSION or not isinstance(by_rules, str) or not isinstance(at, datetime):
            continue
        if newest is None or at > newest.at:
            newest = LastWritten(group_id, by_rules, at)
    return newest


def disagreement(firestore: Firestore, settings: Settings) -> str | None:
    """Why this process must not write balances: the deployed functions read documents by other rules. None when they agree.

    Before the functions have written anything there is nothing to disagree with. May raise TransientError.
    """
    newest, mine = last_written(firestore, settings), str(rules.current(settings))
    if newest is None or newest.rules == mine:
        return None
    return (
        f"the deployed functions read documents by the rules {newest.rules} (they wrote the balance of group {newest.group_id}"
        f" at {newest.at.isoformat(timespec='seconds')}), this would write by {mine}: another adapter, or another value of a"
        " parameter such as AMOUNT_UNIT or EPOCH"
    )
