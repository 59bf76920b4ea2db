"""What became of source documents when they were read: which ones are in a balance, and which are left out of it, and why."""

import re
from dataclasses import dataclass, field
from typing import Any

from balance.documents.sources import IGNORED, Malformed, Parsed

_VARIABLE = re.compile(r"'[^']*'|\"[^\"]*\"|\d+(?:\.\d+)?")
_INDEX = re.compile(r"\[\d+\]")


@dataclass(slots=True)
class Alike:
    """Malformed documents in which the same field has the same fault."""

    field: str
    reason: str
    """Of the example: other documents may hold other values."""
    example: str
    """The path of one of them."""
    count: int = 1


@dataclass(slots=True)
class Tally:
    """Counts of source documents; may be added up over groups."""

    parsed: int = 0
    """Understood, and in the balance, whether they move money or not."""
    deleted: int = 0
    ignored: int = 0
    """The adapter says that they are not the app's expenses or settlements."""
    mismatches: int = 0
    """Of the parsed ones: their splits do not add up to their amount. The splits count."""
    mismatch: str | None = None
    """The path of one of them."""
    alike: dict[tuple[str, str], Alike] = field(default_factory=dict)
    """The malformed ones, by field and fault."""

    @property
    def malformed(self) -> int:
        """How many are in no balance because they cannot be understood."""
        return sum(alike.count for alike in self.alike.values())

    @property
    def total(self) -> int:
        """All of them."""
        return self.parsed + self.deleted + self.ignored + self.malformed

    def count(self, path: str, parsed: Parsed) -> None:
        """One more document."""
        if isinstance(parsed, Malformed):
            self._add(Alike(parsed.field, parsed.reason, path))
        elif parsed is IGNORED:
            self.ignored += 1
        elif parsed.group_id is None:
            self.deleted += 1
        else:
            self.parsed += 1
            if parsed.split_mismatch:
                self.mismatches += 1
                self.mismatch = self.mismatch or path

    def add(self, other: "Tally") -> None:
        """Add another tally to this one."""
        self.parsed += other.parsed
        self.deleted += other.deleted
        self.ignored += other.ignored
        self.mismatches += other.mismatches
        self.mismatch = self.mismatch or other.mismatch
        for alike in other.alike.values():
            self._add(alike)

    def _add(self, alike: Alike) -> None:
        # An index, a value or a length is another in each document, and would keep like from like.
        key = (_INDEX.sub("[]", alike.field), _VARIABLE.sub("...", alike.reason))
        if key in self.alike:
            self.alike[key].count += alike.count
        else:
            self.alike[key] = Alike(alike.field, alike.reason, alike.example, alike.count)

    def by_count(self) -> list[Alike]:
        """The malformed ones, the most frequent fault first."""
        return sorted(self.alike.values(), key=lambda alike: (-alike.count, alike.field, alike.reason))

    def as_json(self) -> dict[str, Any]:
        """For JSON and logs."""
        return {
            "parsed": self.parsed,
            "deleted": self.deleted,
            "ignored": self.ignored,
            "malformed": self.malformed,
            "malformedBy": [
                {"field": alike.field, "reason": alike.reason, "count": alike.count, "example": alike.example}
                for alike in self.by_count()
            ],
            "mismatches": self.mismatches,
            **({"mismatch": self.mismatch} if self.mismatch else {}),
        }
