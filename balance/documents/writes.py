"""Writes of source documents: what identifies one, and whether a snapshot holds it.

A redelivery brings the same write again, perhaps under another event id; so what is recorded, and what is compared with a
rebuild's snapshot, is the write, never the delivery.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import cached_property

from balance.documents.layout import document_key

EVENT_TIME_ERROR = timedelta(hours=1)
"""An event's own time is within this of its write's commit time."""


class Held(Enum):
    """Whether a snapshot holds a write."""

    YES = "committed at or before the snapshot"
    NO = "committed after it"
    ASK = "a delete near the snapshot's time: the snapshot itself must be asked"


@dataclass(frozen=True, kw_only=True)
class SourceWrite:
    """One committed write of a source document.

    `update_time` is the version that a create or update wrote (its commit time), or the version that a delete removed;
    `deleted_at` is the time of a delete's event (its commit time is not told), None for a create or update.
    """

    source: str
    update_time: datetime
    deleted_at: datetime | None = None

    @cached_property
    def key(self) -> str:
        """The id of its record: the same for every delivery of this write, another for every other write."""
        if self.deleted_at is None:
            return document_key(self.source, self.update_time.isoformat())
        return document_key(self.source, "deleted", self.update_time.isoformat())

    @property
    def time(self) -> datetime:
        """When it was committed; for a delete, about when."""
        return self.deleted_at or self.update_time

    def held_by(self, as_of: datetime) -> Held:
        """Whether the snapshot at `as_of` holds this write, as far as times tell."""
        if self.deleted_at is None:
            return Held.YES if self.update_time <= as_of else Held.NO
        if self.update_time > as_of or self.deleted_at > as_of + EVENT_TIME_ERROR:
            return Held.NO
        if self.deleted_at < as_of - EVENT_TIME_ERROR:
            return Held.YES
        return Held.ASK

    def held_given(self, as_of: datetime, version: datetime | None) -> bool:
        """Whether the snapshot at `as_of`, in which the document stands at `version` (None: absent), holds this write."""
        held = self.held_by(as_of)
        if held is Held.ASK:
            # Still there at the version that was deleted: the delete came later.
            return version != self.update_time
        return held is Held.YES
