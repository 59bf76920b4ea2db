"""What a call of the engine touches: what a model checker must know to tell which calls may change places.

Two calls *commute* if, from the same state, doing them in either order gives the same answers and the same state, apart
from the times of commits and reads. Calls whose footprints do not conflict commute.

A call may let others go on that wait for a lock. What these do then is not in its footprint: whoever makes the calls
adds the footprints of those whose `Waiting` became ready, as they were when these calls were made.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from emulator.locks import Mode

_NONE: frozenset[str] = frozenset()


class Footprint(NamedTuple):
    """What one call would touch if it was made now. Documents and their locks go by the full name.

    reads: documents that the answer depends on, without those that a query finds.
    writes: documents that may change.
    queries: collections of which the answer depends on any document: by their path, or by their id for all collections
        with this id, or "" for all collections.
    changes: collections of which a document may change, in all these three ways.
    shares: locks that are taken or given back without consequence for others who share them.
    takes: locks that are reserved or taken exclusively, or waited for, or given back while others wait for them.
    fixes_instant: whether the call fixes an instant at which later calls read: in an optimistic transaction, or in one
        that it wounds. Then it commutes with no commit to anything that these may read.
    """

    reads: frozenset[str] = _NONE
    writes: frozenset[str] = _NONE
    queries: frozenset[str] = _NONE
    changes: frozenset[str] = _NONE
    shares: frozenset[str] = _NONE
    takes: frozenset[str] = _NONE
    fixes_instant: bool = False

    def conflicts_with(self, other: Footprint) -> bool:
        """Whether the two calls may not change places; instants that are fixed are left to the caller."""
        return not (
            self.writes.isdisjoint(other.writes)
            and self.writes.isdisjoint(other.reads)
            and self.reads.isdisjoint(other.writes)
            and self.queries.isdisjoint(other.changes)
            and self.changes.isdisjoint(other.queries)
            and self.takes.isdisjoint(other.takes)
            and self.takes.isdisjoint(other.shares)
            and self.shares.isdisjoint(other.takes)
        )

    def __or__(self, other: Footprint) -> Footprint:
        """What two calls touch together."""
        return Footprint(
            self.reads | other.reads,
            self.writes | other.writes,
            self.queries | other.queries,
            self.changes | other.changes,
            self.shares | other.shares,
            self.takes | other.takes,
            self.fixes_instant or other.fixes_instant,
        )


class HeldLock(NamedTuple):
    """A lock that a transaction holds."""

    mode: Mode
    is_awaited: bool


def changed_collections(names: Iterable[str]) -> frozenset[str]:
    """The collections of which these documents are, as `Footprint.changes` has them."""
    found: set[str] = set()
    for name in names:
        path = name.rpartition("/")[0]
        found.update((path, path.rpartition("/")[2], ""))
    return frozenset(found)


def queried_collections(parent: str, collection_id: str, all_descendants: bool) -> frozenset[str]:
    """The collections that a query looks into, as `Footprint.queries` has them."""
    if not collection_id:
        return frozenset([""])
    return frozenset([collection_id if all_descendants else f"{parent}/{collection_id}"])
