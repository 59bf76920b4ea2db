"""What a diagnosis consists of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing."""
    UNKNOWN = "unknown"
    """It could not be looked at."""
    LEFT_OUT = "left out"
    """Documents are in no balance."""
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found, and what to do about it."""

    level: Level
    text: str
    todo: str = ""

    def as_json(self) -> dict[str, str]:
        """For JSON."""
        return {"level": self.level, "finding": self.text, "do": self.todo}
