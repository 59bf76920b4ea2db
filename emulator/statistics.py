"""Counters of what the server did, and of what it would have cost."""

from __future__ import annotations

from collections import Counter
from typing import Any


class Statistics:
    """RPCs by kind and by error, commits, aborts, and the documents read, written and deleted as billed.

    Billing as in https://firebase.google.com/docs/firestore/pricing: a document that a read does not find and
    a query without results count as one read, an aggregation as one read per 1,000 index entries.
    """

    __slots__ = ("aborts", "commits", "document_deletes", "document_reads", "document_writes", "errors", "rpcs")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Set every counter to zero."""
        self.rpcs: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.commits = 0
        self.aborts = 0
        self.document_reads = 0
        self.document_writes = 0
        self.document_deletes = 0

    def as_dict(self) -> dict[str, Any]:
        """A copy that can be made JSON."""
        return {
            "rpcs": dict(sorted(self.rpcs.items())),
            "errors": dict(sorted(self.errors.items())),
            "commits": self.commits,
            "aborts": self.aborts,
            "documentReads": self.document_reads,
            "documentWrites": self.document_writes,
            "documentDeletes": self.document_deletes,
        }
