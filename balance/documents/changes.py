"""What goes into a group's transaction, and what comes out of it."""

from dataclasses import dataclass, field
from datetime import datetime

from balance.core.ledger import Ledger
from balance.database.firestore import TransientError
from balance.documents.balances import Balance
from balance.documents.outcome import Outcome
from balance.documents.tally import Tally
from balance.documents.writes import SourceWrite


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChange:
    """One event's part in one group."""

    write: SourceWrite
    event_id: str
    delta: Ledger
    """Not empty."""
    is_dated: bool = True
    """False when the event lacked a time: then `write` cannot be told from others of its document, and `write.update_time` is
    only an instant by which it had been committed. Such a change can only be rebuilt in."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one change, or of a requested rebuild, in one group."""

    group_id: str | None
    """None only for a fault that names no usable group."""
    outcome: Outcome
    committed_at: datetime | None = None
    """When the balance was committed, by the server; None when nothing was."""
    balance: Balance | None = None
    """The balance that was committed, if one was."""
    delta: Ledger = field(default_factory=dict)
    """What the change asked for."""
    tally: Tally | None = None
    """Of a rebuild: what became of the group's documents."""


class NewerVersion(Exception):
    """The balance was written by newer code. The event must be redelivered to that code, or a rebuild be forced."""


class Overtaken(TransientError):
    """A rebuild's snapshot cannot be completed any more; a later one can."""
