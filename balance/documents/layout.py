"""Where the documents lie: the app's collections and, beside each group, ours."""

from dataclasses import dataclass
from hashlib import sha256

from balance.adapter import GROUP_ID_FIELD
from balance.database.firestore import Query
from balance.documents.sources import Kind, is_document_id

RECORDS = "balanceEvents"
FAULTS = "balanceFaults"


IN_GROUP = "{groupId}"
"""Stands for the group in the name of a subcollection, as in the path patterns of triggers."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of the app's collections: of groups, and a field for each kind of source document. That is either a top-level
    collection, whose documents name their group, or a subcollection of the groups, `groups/{groupId}/expenses`, where the path
    names it."""

    groups: str = "groups"
    expenses: str = "expenses"
    settlements: str = "settlements"

    @classmethod
    def in_groups(cls) -> "Layout":
        """The layout with all collections below their group."""
        return cls(**{kind.collections: f"groups/{IN_GROUP}/{kind.collections}" for kind in Kind})

    def group(self, group_id: str) -> str:
        """The path of a group's document."""
        return f"{self.groups}/{group_id}"

    def balance(self, group_id: str) -> str:
        """The path of a group's balance document."""
        return f"{self.groups}/{group_id}/metadata/balance"

    def records(self, group_id: str) -> str:
        """The path of the collection of a group's event records."""
        return f"{self.groups}/{group_id}/{RECORDS}"

    def faults(self, group_id: str | None) -> str:
        """The path of the collection of a group's faults, or of those that name no usable group."""
        return FAULTS if group_id is None else f"{self.groups}/{group_id}/{FAULTS}"

    def fault(self, group_id: str | None, source: str) -> str:
        """The path of the fault document of a source document."""
        return f"{self.faults(group_id)}/{document_key(source)}"

    def collection(self, kind: Kind) -> str:
        """The name of the collection of a kind."""
        name: str = getattr(self, kind.collections)
        return name

    def sources(self, kind: Kind, group_id: str) -> Query:
        """All source documents of a group, deleted ones too."""
        collection = self.collection(kind)
        if IN_GROUP in collection:
            return Query(collection=collection.replace(IN_GROUP, group_id))
        # Not by deletedAt: a query for null would miss the documents without the field.
        return Query(collection=collection, where=(GROUP_ID_FIELD, "==", group_id))

    def group_in_path(self, source: str) -> str | None:
        """The group in whose subcollection a source document lies; None for a top-level collection."""
        segments = source.split("/")
        return segments[1] if len(segments) == 4 and is_document_id(segments[1]) else None

    def kind(self, source: str) -> Kind | None:
        """The kind of a source document, by its collection; None when the collection is none of the app's."""
        name = source.split("/")[-2]
        return next((kind for kind in Kind if self.collection(kind).split("/")[-1] == name), None)


def document_key(*parts: str) -> str:
    """A document id for something that is named by these strings, whatever characters they hold."""
    # Not repr: which characters it escapes is another matter in each version of Python, and records outlive a deployment.
    return sha256(ascii(parts).encode()).hexdigest()[:40]
