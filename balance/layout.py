"""Where the documents lie: the app's collections and, beside each group, ours."""

from dataclasses import dataclass
from hashlib import sha256

from balance.adapter import GROUP_ID_FIELD
from balance.firestore import Query
from balance.sources import Kind, is_document_id

RECORDS = "balanceEvents"
FAULTS = "balanceFaults"


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of the app's collections; `nested` when expenses and settlements lie below their group's document."""

    groups: str = "groups"
    expenses: str = "expenses"
    settlements: str = "settlements"
    nested: bool = False

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

    def sources(self, kind: Kind, group_id: str) -> Query:
        """All source documents of a group, deleted ones too."""
        collection = self.expenses if kind is Kind.EXPENSE else self.settlements
        if self.nested:
            return Query(collection=f"{self.group(group_id)}/{collection}")
        # Not by deletedAt: a query for null would miss the documents without the field.
        return Query(collection=collection, where=(GROUP_ID_FIELD, "==", group_id))

    def group_in_path(self, source: str) -> str | None:
        """The group in whose subcollection a source document lies, for apps with that layout."""
        if not self.nested:
            return None
        group_path = source.split("/")[:-2]
        group_id = group_path[-1] if group_path else None
        return group_id if is_document_id(group_id) else None

    def kind(self, source: str) -> Kind:
        """The kind of a source document, by its collection."""
        return Kind.EXPENSE if source.split("/")[-2] == self.expenses else Kind.SETTLEMENT


def document_key(*parts: str) -> str:
    """A document id for something that is named by these strings, whatever characters they hold."""
    return sha256(repr(parts).encode()).hexdigest()[:40]
