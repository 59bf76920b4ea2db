"""What a commit did to a document: what triggers are fed with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Change:
    """One document's change by one commit. Writes that changed nothing make none.

    `before` and `after` are `google.firestore.v1.Document` messages, shared with the store: never modify them.
    `before` is None for a creation, `after` for a deletion.
    """

    name: str
    before: Any | None
    after: Any | None
    commit_time_us: int
