"""A sample of the app's groups, expenses and settlements, from anywhere among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from balance.database.firestore import Firestore, Snapshot
from balance.documents.layout import IN_GROUP, Layout
from balance.documents.sources import Kind
from scripts.deployed import some


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
    groups = {group.path.rpartition("/")[2]: group for group in some(firestore, layout.groups, size)}
    documents = {kind: list(_documents(firestore, layout, kind, list(groups), size)) for kind in Kind}
    return Sample(groups, tuple(groups), documents)


def _documents(firestore: Firestore, layout: Layout, kind: Kind, groups: list[str], size: int) -> Iterator[Snapshot]:
    collection = layout.collection(kind)
    if IN_GROUP not in collection:
        yield from some(firestore, collection, size)
        return
    for group_id in groups:
        found = some(firestore, collection.replace(IN_GROUP, group_id), size)
        yield from found
        size -= len(found)
        if size <= 0:
            return
