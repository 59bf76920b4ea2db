"""Of events, through the functions that are deployed there."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

from balance.database.firestore import Delete, Query, Set
from balance.documents.sources import Kind
from balance.documents.writes import EVENT_TIME_ERROR
from scripts.assumptions.laboratory import Laboratory, Refuted, Unknown

PATIENCE_S = 60.0
LARGE_BYTES = 700 * 1024
"""More than an event may have (512 KB), less than a document may (1 MiB)."""


def the_time_of_a_deletes_event_is_near_its_commit(laboratory: Laboratory) -> str:
    """Further from the snapshot than this a delete is judged by its event's time."""
    errors = []
    for _ in range(5):
        path = _expense(laboratory, {})
        _record(laboratory, path, deleted=False)
        committed = laboratory.write(Delete(path))
        errors.append(abs(_record(laboratory, path, deleted=True)["deletedAt"] - committed))
    if max(errors) > EVENT_TIME_ERROR / 2:
        raise Refuted(f"it was off by {max(errors)}")
    return f"off by {max(errors).total_seconds() * 1000:.3f} ms at most, in {len(errors)} deletes"


def the_event_of_a_large_document_arrives(laboratory: Laboratory) -> str:
    """Else the balance misses it until the nightly reconciliation."""
    path = _expense(laboratory, {"note": "x" * LARGE_BYTES})
    _record(laboratory, path, deleted=False)
    return f"a document of {LARGE_BYTES // 1024} KiB was processed"


def _expense(laboratory: Laboratory, more: dict[str, Any]) -> str:
    layout = laboratory.settings.layout
    laboratory.write(Set(layout.group(laboratory.group), {"members": ["ana", "bo"]}))
    path = f"{layout.sources(Kind.EXPENSE, laboratory.group).collection}/{laboratory.run}-{uuid4().hex[:8]}"
    splits = [{"uid": "bo", "amount": 1}]
    fields = {"groupId": laboratory.group, "paidBy": "ana", "amount": 1, "currency": "USD", "splits": splits}
    laboratory.write(Set(path, {**fields, **more}))
    return path


def _record(laboratory: Laboratory, path: str, *, deleted: bool) -> Any:
    """The record that the deployed functions write of it."""
    until = time.monotonic() + PATIENCE_S
    query = Query(collection=laboratory.settings.layout.records(laboratory.group), where=("source", "==", path))
    while time.monotonic() < until:
        for document in laboratory.firestore.query(query):
            if document.fields is not None and ("deletedAt" in document.fields) == deleted:
                return document.fields
        time.sleep(0.5)
    raise Unknown(f"no record of {path} came within {PATIENCE_S:.0f} s: are the functions deployed, and updates on?")
