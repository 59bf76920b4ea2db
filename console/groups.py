"""The list of groups: a page at a time, found by id, name or member, each as it is stored. No query reads all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from balance.adapter import MEMBERS_FIELD
from balance.database.firestore import Query, Snapshot
from balance.documents import balances
from balance.documents.judgement import Condition, judge
from balance.documents.layout import FAULTS
from balance.documents.sources import is_document_id, members
from balance.operations.fleet import in_parallel
from balance.operations.reconcile import State
from console.deployment import Deployment
from scripts.output import counted, items

PAGE = 25
FAULTS_LOOKED_AT = 200
NAME_FIELD = "name"
_WORKERS = 8


@dataclass(frozen=True, slots=True)
class Row:
    """One group in a list."""

    group_id: str
    name: str
    members: int
    currencies: tuple[str, ...]
    condition: str
    """A word; "current" when nothing is known against it, "true" when it was compared since it changed last."""
    why: str
    """What is wrong, in a few words; "" when nothing is."""
    faults: int
    updated_at: datetime | None
    lag_ms: float | None
    """Of the last event."""

    @property
    def needs_attention(self) -> bool:
        """Whether somebody should look."""
        return self.condition not in ("current", "true", "coarse")


@dataclass(frozen=True, slots=True)
class Page:
    """Some groups, those that need attention first."""

    rows: list[Row]
    next_after: str | None
    """The id to go on after; None on the last page."""


def page(deployment: Deployment, search: str, by: str, after: str | None) -> Page:
    """The groups after an id; `by` says what `search` is: id (its beginning), name (its beginning) or member."""
    found = _found(deployment, search, by, after)
    more = len(found) > PAGE
    found = found[:PAGE]
    last = found[-1].path.rpartition("/")[2] if found else None
    # A search by name is ordered by name: it has one page.
    return Page(_attention_first(rows(deployment, found)), last if more and by != "name" else None)


def _found(deployment: Deployment, search: str, by: str, after: str | None) -> list[Snapshot]:
    firestore, layout = deployment.firestore, deployment.settings.layout
    limit = PAGE + 1
    if not search:
        return list(firestore.query(Query(collection=layout.groups, after_id=after, limit=limit)))
    if by == "member":
        if deployment.settings.members_as_map:
            return list(firestore.query(Query(collection=layout.groups, having=(MEMBERS_FIELD, search), limit=limit)))
        where = (MEMBERS_FIELD, "array-contains", search)
        return list(firestore.query(Query(collection=layout.groups, where=where, after_id=after, limit=limit)))
    if by == "name":
        named = firestore.query(Query(collection=layout.groups, where=(NAME_FIELD, ">=", search), limit=limit))
        return [it for it in named if str((it.fields or {}).get(NAME_FIELD, "")).startswith(search)]
    if not is_document_id(search):
        return []
    exact = [it for it in firestore.get([layout.group(search)]) if it.fields is not None and after is None]
    following = firestore.query(Query(collection=layout.groups, after_id=after or search, limit=limit))
    return exact + [it for it in following if it.path.rpartition("/")[2].startswith(search)]


def rows(deployment: Deployment, groups: Sequence[Snapshot]) -> list[Row]:
    """The rows of groups as read."""
    layout = deployment.settings.layout
    if not groups:
        return []
    ids = [group.path.rpartition("/")[2] for group in groups]
    stored = deployment.firestore.get([layout.balance(group_id) for group_id in ids])
    lags = in_parallel(ids, lambda group_id: _lag_ms(deployment, group_id), _WORKERS)
    return [_row(deployment, group, balance, lag) for group, balance, lag in zip(groups, stored, lags, strict=True)]


def _lag_ms(deployment: Deployment, group_id: str) -> float | None:
    query = Query(
        collection=deployment.settings.layout.records(group_id),
        newest_by="appliedAt",
        limit=1,
        select=("appliedAt", "updateTime", "deletedAt"),
    )
    for record in deployment.firestore.query(query):
        fields = record.fields or {}
        applied, written = fields.get("appliedAt"), fields.get("deletedAt") or fields.get("updateTime")
        if isinstance(applied, datetime) and isinstance(written, datetime):
            return max(0.0, (applied - written).total_seconds() * 1_000)
    return None


def _row(deployment: Deployment, group: Snapshot, balance: Snapshot, lag_ms: float | None) -> Row:
    group_id = group.path.rpartition("/")[2]
    fields = balance.fields or {}
    condition, why = condition_of(deployment, group, balance)
    faults = fields.get("faults")
    updated = fields.get("lastUpdatedAt")
    name = (group.fields or {}).get(NAME_FIELD)
    return Row(
        group_id,
        name if isinstance(name, str) else "",
        len(members(group.fields or {})),
        tuple(currency for currency, _ in items(fields.get("balancesByCurrency"))),
        condition,
        why,
        faults if type(faults) is int else 0,
        updated if isinstance(updated, datetime) else None,
        lag_ms,
    )


def condition_of(deployment: Deployment, group: Snapshot, balance: Snapshot) -> tuple[str, str]:
    """How a stored balance stands, as far as is known without recalculating it, and why."""
    group_id = group.path.rpartition("/")[2]
    judgement = judge(balance, group_id, deployment.settings, group)
    if judgement.condition is not Condition.CURRENT:
        return str(judgement.condition), judgement.reason
    update_time, report = deployment.verified.get(group_id, (None, None))
    state = report.state if report is not None and update_time == balance.update_time else None
    if report is not None and state is State.DRIFT:
        return "drift", f"{counted(len(report.differences), 'difference')} from its recalculation"
    assert judgement.stored is not None, "a current balance says something"
    faults = judgement.stored.faults
    if faults:
        return "faulty", f"{counted(faults, 'document is', 'documents are')} in no sum"
    if state is State.TRUE:
        return "true", ""
    detail = (balance.fields or {}).get("detail")
    if detail != balances.Detail.PAIRS:
        return "coarse", f"stored at detail {detail!r}"
    return "current", ""


def _attention_first(found: Iterable[Row]) -> list[Row]:
    return sorted(found, key=lambda row: not row.needs_attention)


@dataclass(frozen=True, slots=True)
class Fault:
    """A document that cannot be understood."""

    group_id: str | None
    source: str
    field: str
    reason: str
    since: datetime | None


def fault_of(snapshot: Snapshot) -> Fault:
    """A stored fault, whatever it holds."""
    fields: Any = snapshot.fields or {}
    segments = snapshot.path.split("/")
    since = fields.get("since")
    return Fault(
        segments[-3] if len(segments) > 2 else None,
        str(fields.get("source", "?")),
        str(fields.get("field", "?")),
        str(fields.get("reason", "?")),
        since if isinstance(since, datetime) else None,
    )


def all_faults(deployment: Deployment) -> list[Fault]:
    """Of all groups, and of no usable one: at most FAULTS_LOOKED_AT, oldest first."""
    query = Query(collection=FAULTS, everywhere=True, limit=FAULTS_LOOKED_AT)
    found = [fault_of(snapshot) for snapshot in deployment.firestore.query(query)]
    return sorted(found, key=lambda fault: (fault.since is None, fault.since and fault.since.timestamp()))


def attention(deployment: Deployment, faults: Sequence[Fault], suspected: Iterable[str]) -> list[Row]:
    """Groups in need of a look: with faults, and suspected ones (named by an error, or found to differ)."""
    ids = dict.fromkeys([fault.group_id for fault in faults if fault.group_id], None) | dict.fromkeys(suspected, None)
    wanted = [group_id for group_id in ids if group_id and is_document_id(group_id)][:PAGE]
    if not wanted:
        return []
    layout = deployment.settings.layout
    found = [it for it in deployment.firestore.get([layout.group(group_id) for group_id in wanted]) if it.fields is not None]
    return [row for row in rows(deployment, found) if row.needs_attention]
