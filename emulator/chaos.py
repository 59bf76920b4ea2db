"""How delivery misbehaves, within what at-least-once and unordered allow. Off unless set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from emulator.settable import Fields, InvalidField

EVENT_IDS = ("document", "commit", "trigger")
MAX_COPIES = 10
_DAY_MS = 86_400_000
_WINDOW_MS = 200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chaos:
    """Probabilities (0 to 1) are per event and trigger; times in milliseconds."""

    duplicate: float = 0.0
    """That an event is sent once more, and again with the same probability, up to ten copies."""
    duplicate_other_id: float = 0.0
    """That such a copy bears an event id (and skew) of its own."""
    reorder: float = 0.0
    """That an event is held back, for up to `window_ms`, so that later ones overtake it."""
    window_ms: float = _WINDOW_MS
    """How long what is held back, and copies, may wait."""
    delay_min_ms: float = 0.0
    delay_max_ms: float = 0.0
    """How long every event waits, evenly between the two."""
    time_skew_ms: float = 0.0
    """How far an event's time may be off the commit's, to either side."""
    lose: float = 0.0
    """That an event is never delivered: what production promises not to do. For tests of repair."""
    lose_acknowledgement: float = 0.0
    """That a success is taken for a failure, so that the event is redelivered."""
    event_ids: str = "document"
    """Who shares an event id: a document's event for all triggers, all events of a commit, or nobody ("trigger")."""

    @classmethod
    def hostile(cls) -> Chaos:
        """Everything that production does, only more often; nothing is lost."""
        return cls(
            duplicate=0.2,
            duplicate_other_id=0.3,
            reorder=0.5,
            window_ms=300.0,
            delay_max_ms=20.0,
            time_skew_ms=1_000.0,
            lose_acknowledgement=0.02,
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Chaos:
        """Read from JSON; what is left out is off. Raises InvalidField."""
        fields = Fields(data)
        chaos = cls(
            duplicate=fields.number("duplicate", 0, 1, 0),
            duplicate_other_id=fields.number("duplicateOtherId", 0, 1, 0),
            reorder=fields.number("reorder", 0, 1, 0),
            window_ms=fields.number("windowMs", 0, _DAY_MS, _WINDOW_MS),
            delay_min_ms=fields.number("delayMinMs", 0, _DAY_MS, 0),
            delay_max_ms=fields.number("delayMaxMs", 0, _DAY_MS, 0),
            time_skew_ms=fields.number("timeSkewMs", 0, _DAY_MS, 0),
            lose=fields.number("lose", 0, 1, 0),
            lose_acknowledgement=fields.number("loseAcknowledgement", 0, 0.99, 0),
            event_ids=fields.choice("eventIds", EVENT_IDS, "document"),
        )
        fields.refuse_others()
        if chaos.delay_max_ms < chaos.delay_min_ms:
            raise InvalidField("delayMaxMs", "it must not be less than delayMinMs")
        return chaos

    def as_dict(self) -> dict[str, Any]:
        """As JSON, as `from_dict` reads it."""
        return {
            "duplicate": self.duplicate,
            "duplicateOtherId": self.duplicate_other_id,
            "reorder": self.reorder,
            "windowMs": self.window_ms,
            "delayMinMs": self.delay_min_ms,
            "delayMaxMs": self.delay_max_ms,
            "timeSkewMs": self.time_skew_ms,
            "lose": self.lose,
            "loseAcknowledgement": self.lose_acknowledgement,
            "eventIds": self.event_ids,
        }

    def copies(self, random: Random) -> int:
        """How many times more an event is sent."""
        copies = 0
        while copies < MAX_COPIES and happens(self.duplicate, random):
            copies += 1
        return copies

    def delay_ms(self, random: Random, *, is_copy: bool) -> float:
        """How long one sending waits."""
        delay_ms = random.uniform(self.delay_min_ms, self.delay_max_ms)
        if is_copy or happens(self.reorder, random):
            delay_ms += random.uniform(0, self.window_ms)
        return delay_ms

    def skew_us(self, random: Random) -> int:
        """How far an event's time is off."""
        return round(random.uniform(-self.time_skew_ms, self.time_skew_ms) * 1_000)


def happens(probability: float, random: Random) -> bool:
    """Decide; draws nothing from `random` when there is nothing to decide."""
    return probability > 0 and random.random() < probability
