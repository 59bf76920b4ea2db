"""By which version and rules the deployed functions read documents, as far as their records tell.

A command that writes balances by other rules would have the functions take them for stale, or worse, would be believed. So it
refuses, unless it is told to go on.
"""

from __future__ import annotations

import secrets
import sys
from datetime import datetime
from typing import Any

from balance.database.firestore import Firestore, Query, Snapshot
from balance.documents import rules
from balance.documents.balances import VERSION
from balance.documents.layout import Layout
from balance.operations.fleet import in_parallel
from scripts.command import Refused
from scripts.output import moment
from scripts.target import Opened

GROUPS = 20
"""So many are asked for their newest record: functions of two rules at a time are seen by some of them."""
_WORKERS = 8


def check(opened: Opened, *, writes: bool, force: bool) -> None:
    """Tell when the functions wrote last by another version or other rules; raises Refused for a command that writes."""
    newest = newest_record(opened.firestore, opened.settings.layout)
    if newest is None:
        return
    fields = newest.fields or {}
    theirs = (fields.get("version"), fields.get("rules"))
    ours = (VERSION, str(rules.current(opened.settings)))
    if theirs == ours:
        return
    told = (
        f"the deployed functions wrote last, at {moment(fields.get('appliedAt'))}, by version {theirs[0]} and"
        f" rules {theirs[1]}; this is version {ours[0]} and rules {ours[1]}"
    )
    if writes and not force:
        raise Refused(
            f"{told}: another adapter, AMOUNT_UNIT, EPOCH or other parameter. Name the folder that was deployed with --source,"
            " or deploy this one first; --force goes on all the same"
        )
    print(f"warning: {told}", file=sys.stderr)


def newest_record(firestore: Firestore, layout: Layout) -> Snapshot | None:
    """The newest record of some groups, from anywhere among them."""
    ids = [group.path.rpartition("/")[2] for group in some(firestore, layout.groups, GROUPS, select=())]

    def newest(group_id: str) -> list[Snapshot]:
        return list(firestore.query(Query(collection=layout.records(group_id), newest_by="appliedAt", limit=1)))

    found = [record for records in in_parallel(ids, newest, _WORKERS) for record in records]
    return max(found, key=applied_at, default=None)


def applied_at(record: Snapshot) -> datetime:
    """When it was written; of one that does not tell, now."""
    time: Any = (record.fields or {}).get("appliedAt")
    return time if isinstance(time, datetime) else record.read_time


def some(firestore: Firestore, collection: str, size: int, select: tuple[str, ...] | None = None) -> list[Snapshot]:
    """Documents after a random id, and from the beginning when these are too few: most ids are random themselves."""
    start = secrets.token_urlsafe(15)
    found = list(firestore.query(Query(collection=collection, after_id=start, limit=size, select=select)))
    if len(found) < size:
        paths = {document.path for document in found}
        more = firestore.query(Query(collection=collection, limit=size, select=select))
        found += [document for document in more if document.path not in paths]
    return found[:size]
