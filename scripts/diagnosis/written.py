"""What the deployed functions have written: whether they run, and by which version and rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from google.api_core.exceptions import FailedPrecondition, GoogleAPICallError

from balance.adapter import GROUP_ID_FIELD, MEMBERS_FIELD
from balance.database.firestore import Firestore, Query, Snapshot
from balance.documents import rules
from balance.documents.balances import VERSION
from balance.documents.judgement import Condition, judge
from balance.documents.layout import Layout
from balance.documents.settings import Settings
from balance.documents.sources import Kind
from scripts.deployed import applied_at
from scripts.diagnosis.findings import Finding, Level
from scripts.diagnosis.sample import Sample
from scripts.output import counted, moment

PATIENCE = timedelta(minutes=15)
"""How late a record may be: events take seconds, a new trigger minutes."""
TTL_PATIENCE = timedelta(days=3)
"""Firestore removes a document within about a day of its expiry."""
RECORDS_LOOKED_AT = 50


def look(firestore: Firestore, settings: Settings, sample: Sample) -> Iterator[Finding]:
    """All findings."""
    yield from _of_indexes(firestore, settings, sample)
    if not sample.chosen:
        return
    layout = settings.layout
    stored = firestore.get([layout.balance(group_id) for group_id in sample.chosen])
    records = {group_id: _newest(firestore, layout.records(group_id)) for group_id in sample.chosen}
    found = [record for record in records.values() if record is not None]
    if not found and not any(balance.fields for balance in stored):
        yield Finding(
            Level.NOTE,
            f"none of {counted(len(sample.chosen), 'group')} has a balance or a record: nothing is deployed, or no"
            " event has come",
            "deploy them (docs/deploy.md); once an expense has been changed, look again",
        )
        return
    yield from _of_balances(settings, sample, stored)
    if not found:
        yield Finding(
            Level.NOTE,
            f"none of {counted(len(sample.chosen), 'group')} has a record of an event: no document was changed after"
            " its group's balance",
            "change an expense and run `balance show GROUP`: without a record within a minute the triggers do not run",
        )
        return
    yield from _of_records(settings, found)
    yield from _of_silence(layout, sample, records)
    yield from _of_ttl(firestore, settings, sample)


def _newest(firestore: Firestore, collection: str) -> Snapshot | None:
    return next(iter(firestore.query(Query(collection=collection, newest_by="appliedAt", limit=1))), None)


def _of_balances(settings: Settings, sample: Sample, stored: list[Snapshot]) -> Iterator[Finding]:
    conditions = Counter(
        judge(balance, group_id, settings, sample.groups[group_id]).condition
        for group_id, balance in zip(sample.chosen, stored, strict=True)
    )
    told = ", ".join(f"{count} {name}" for name, count in conditions.most_common())
    if conditions[Condition.NEWER]:
        yield Finding(
            Level.ERROR,
            f"{conditions[Condition.NEWER]} of {counted(len(stored), 'balance was', 'balances were')} written by newer"
            " code than this checkout's",
            "use the checkout that was deployed, or finish the roll-back (docs/rollout.md)",
        )
    elif conditions[Condition.CURRENT] < len(stored):
        yield Finding(Level.WARNING, f"of {counted(len(stored), 'balance')} {told}", "run `balance backfill`")
    else:
        all_of_them = "the balance is" if len(stored) == 1 else f"all {len(stored):,} balances are"
        yield Finding(Level.OK, f"{all_of_them} current")


def _of_records(settings: Settings, found: list[Snapshot]) -> Iterator[Finding]:
    newest = max(found, key=applied_at)
    fields = newest.fields or {}
    age = newest.read_time - applied_at(newest)
    version = fields.get("version")
    if version != VERSION:
        yield Finding(
            Level.ERROR,
            f"the deployed functions wrote version {version} last ({moment(fields.get('appliedAt'))});"
            f" this checkout is of version {VERSION}",
            "use the checkout that was deployed, or deploy this one, then rebuild everything (docs/rollout.md, A new version)",
        )
    elif fields.get("rules") != (mine := str(rules.current(settings))):
        yield Finding(
            Level.ERROR,
            f"the deployed functions read documents by the rules {fields.get('rules')} ({moment(fields.get('appliedAt'))});"
            f" the adapter and the parameters here are the rules {mine}",
            "name the folder that was deployed with --source, or deploy this one: balances heal by themselves then",
        )
    else:
        yield Finding(Level.OK, f"the functions run version {VERSION}; the newest record is {_age(age)} old")


def _of_silence(layout: Layout, sample: Sample, records: dict[str, Snapshot | None]) -> Iterator[Finding]:
    """Documents that were written after the newest record of their group, long enough ago."""
    silent = []
    for documents in sample.documents.values():
        for document in documents:
            group_id = layout.group_in_path(document.path) or (document.fields or {}).get(GROUP_ID_FIELD)
            record = records.get(str(group_id))
            written = document.update_time
            if record is None or written is None:
                continue
            if written > applied_at(record) + PATIENCE and written < document.read_time - PATIENCE:
                silent.append(document.path)
    if silent:
        yield Finding(
            Level.ERROR,
            f"{counted(len(silent), 'document was', 'documents were')} written after the newest record of the group,"
            f" such as {silent[0]}:"
            " no event came",
            "see whether the triggers are deployed and may be invoked (deploy/README.md), then run `balance verify --repair`",
        )


def _of_ttl(firestore: Firestore, settings: Settings, sample: Sample) -> Iterator[Finding]:
    for group_id in sample.chosen:
        for record in firestore.query(Query(collection=settings.layout.records(group_id), limit=RECORDS_LOOKED_AT)):
            expired: Any = (record.fields or {}).get("expireAt")
            if isinstance(expired, datetime) and expired < record.read_time - TTL_PATIENCE:
                yield Finding(
                    Level.WARNING,
                    f"{record.path} expired at {moment(expired)} and is still there: records have no TTL",
                    "merge deploy/firestore.indexes.json into your indexes and deploy them",
                )
                return


def _of_indexes(firestore: Firestore, settings: Settings, sample: Sample) -> Iterator[Finding]:
    """Each kind of query that the functions make, once: Firestore names the index that it lacks."""
    layout = settings.layout
    group_id = next(iter(sample.chosen), "none")
    anybody = "a-uid-that-nobody-has"
    queries = {
        "documents of a group": [layout.sources(kind, group_id) for kind in Kind],
        "records by time": [Query(collection=layout.records(group_id), newest_by="appliedAt", limit=1)],
        "groups of a member": [
            Query(collection=layout.groups, having=(MEMBERS_FIELD, anybody), limit=1)
            if settings.members_as_map
            else Query(collection=layout.groups, where=(MEMBERS_FIELD, "array-contains", anybody), limit=1)
        ],
    }
    for what, wanted in queries.items():
        for query in wanted:
            try:
                next(iter(firestore.query(query)), None)
            except FailedPrecondition as error:
                yield Finding(
                    Level.ERROR, f"the query for {what} lacks an index: {error.message}", "create it: the message links to it"
                )
            except GoogleAPICallError as error:
                yield Finding(
                    Level.UNKNOWN, f"the query for {what} failed: {error.message}", "see that you may read the database"
                )


def _age(age: timedelta) -> str:
    minutes = round(age.total_seconds() / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h" if minutes < 2_880 else f"{minutes // 1_440} days"
