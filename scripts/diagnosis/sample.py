"""A sample of the app's groups, expenses and settlements, from anywhere among them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from balance.database.firestore import Firestore, Query, Snapshot
from balance.documents.layout import IN_GROUP, Layout
from balance.documents.sources import Kind


@dataclass(frozen=True, slots=True)
class Sample:
    """What was read."""

    groups: dict[str, Snapshot]
    """By their ids: those of the sample, and those that its documents name, existing or not."""
    chosen: tuple[str, ...]
    """The ids of the sample's own groups."""
    documents: dict[Kind, list[Snapshot]]


def take(firestore: Firestore, layout: Layout, size: int) -> Sample:
    """At most so many groups, and so many documents of each kind."""
    groups = {group.path.rpartition("/")[2]: group for group in _some(firestore, layout.groups, size)}
    documents = {kind: list(_documents(firestore, layout, kind, list(groups), size)) for kind in Kind}
    return Sample(groups, tuple(groups), documents)


def _documents(firestore: Firestore, layout: Layout, kind: Kind, groups: list[str], size: int) -> Iterator[Snapshot]:
    collection = collection_of(layout, kind)
    if IN_GROUP not in collection:
        yield from _some(firestore, collection, size)
        return
    for group_id in groups:
        found = _some(firestore, collection.replace(IN_GROUP, group_id), size)
        yield from found
        size -= len(found)
        if size <= 0:
            return


def collection_of(layout: Layout, kind: Kind) -> str:
    """The path of a kind's collection, as the layout has it."""
    return layout.expenses if kind is Kind.EXPENSE else layout.settlements


def _some(firestore: Firestore, collection: str, size: int) -> list[Snapshot]:
    """Documents after a random id, and from the beginning when these are too few: most ids are random themselves."""
    start = secrets.token_urlsafe(15)
    found = list(firestore.query(Query(collection=collection, after_id=start, limit=size)))
    if len(found) < size:
        paths = {document.path for document in found}
        more = firestore.query(Query(collection=collection, limit=size))
        found += [document for document in more if document.path not in paths]
    return found[:size]
