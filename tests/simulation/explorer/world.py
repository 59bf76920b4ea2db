"""A small world, as data: what stands before, who acts, what may fail, and what may be left at rest."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from tests.simulation.profile import DAY_US

GROUP = "g"
BALANCE = f"groups/{GROUP}/metadata/balance"


class Failure(StrEnum):
    """What may go wrong with a step, each a variant of it."""

    CRASH = "the process dies after the call"
    LOST = "the commit fails, without effect"
    UNKNOWN = "the commit fails, but took effect"
    LATE = "the commit fails, and takes effect later"
    READ_FAILS = "the read fails"


class State(StrEnum):
    """What stands of a group's balance when nothing moves any more."""

    RIGHT = "right"
    ABSENT = "absent"
    STALE = "stale"
    OLDER = "older"
    """Of an older version or epoch, or other rules: whoever reads it with the final code knows."""
    EARLIER = "of an earlier group"
    """Of one that has been deleted since: whoever sees both documents knows."""
    GONE = "gone"
    """The group does not exist, nor a balance of it."""


UNKNOWN_OUTCOME = frozenset({Failure.LOST, Failure.UNKNOWN, Failure.LATE})
CRASH = frozenset({Failure.CRASH})
READ_FAILS = frozenset({Failure.READ_FAILS})


@dataclass(frozen=True, slots=True)
class Write:
    """A client's write of one document; None deletes it."""

    path: str
    fields: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class DeleteGroup:
    """Deletes the group with everything below it: lists it, and deletes what was found in parallel, hence in every order.

    The group's own document goes last, as with the official clients, or with the others. With `lists_again` all that is listed
    until nothing is left; otherwise what is written after the first listing stays.
    """

    lists_again: bool = False
    group_last: bool = True


@dataclass(frozen=True, slots=True)
class DeleteRecords:
    """Deletes the records of the group as they are listed, one after the other."""


@dataclass(frozen=True, slots=True)
class Bend:
    """Somebody sets a time of the balance: only before the actors begin."""

    field: str
    us: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Time passes: only before the actors begin."""

    us: int = 4 * DAY_US


@dataclass(frozen=True, slots=True)
class Expire:
    """All records go by their time to live: only before the actors begin."""


@dataclass(frozen=True, slots=True)
class Repair:
    """A rebuild: only before the actors begin."""


Step = Write | DeleteGroup | DeleteRecords | Bend | Pause | Expire | Repair


@dataclass(frozen=True, slots=True)
class Client:
    """The app: does one step after the other."""

    steps: tuple[Write | DeleteGroup | DeleteRecords, ...]
    name: str = "app"


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Somebody asks for a rebuild."""

    name: str = "rebuild"
    process: str | None = None
    """None: one of its own."""
    force: bool = False


@dataclass(frozen=True, slots=True)
class Switch:
    """An operator turns updates off or on in a process, perhaps several times."""

    process: str
    turns: tuple[bool, ...]
    """True for on."""


@dataclass(frozen=True, slots=True)
class Redeliver:
    """An event of before comes again, or at last."""

    event: str
    """As named by the execution: `e1#2` for the second write of the document e1."""
    process: str | None = None


@dataclass(frozen=True, slots=True)
class NightlyCheck:
    """The nightly check of the group: compares, and repairs what it finds."""

    process: str | None = None


Actor = Client | Rebuild | Switch | Redeliver | NightlyCheck


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What a process runs."""

    is_later: bool = False
    """The version after this one."""
    new_rules: bool = False
    """The later version understands a currency more."""
    by_parameter: bool = False
    """That is a parameter of the deployment: the version stays, only the rules are others."""
    epoch: int = 0
    updates_on: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A world."""

    name: str
    about: str
    """What happens in it: a line for the table."""
    before: tuple[Step, ...] = ()
    """Done without choice, with every event delivered after each step, but those that are `held_back`."""
    held_back: frozenset[str] = frozenset()
    actors: tuple[Actor, ...] = ()
    copies: int = 1
    """How often each event is delivered at once."""
    in_one_process: bool = False
    """Every event and rebuild goes to the process P, where they meet in its line; otherwise each to one of its own."""
    delivered_to: Mapping[str, str] = field(default_factory=dict)
    """The process by event, where it matters."""
    processes: Mapping[str, Code] = field(default_factory=dict)
    """What processes run that do not run the final code."""
    final: Code = Code()
    """What runs everywhere in the end, and from the beginning where `processes` says nothing else."""
    reads_switch: bool = False
    """Reading the switch is a step: somebody turns it."""
    failures: frozenset[Failure] = frozenset()
    most_failures: int = 1
    preemptions: int | None = None
    """At most so many switches away from an actor that could go on; None for all interleavings."""
    nested: bool = False
    """Expenses lie below their group."""
    event_time_error_us: int = 0
    may_be: frozenset[State] = frozenset()
    """What may stand at rest besides the right balance (or none, of a group that is gone)."""
    nightly_may_find: frozenset[str] = frozenset()
    """States that the nightly check may report besides those that are fine."""
    may_rebuild: bool = False
    """A redelivery of everything may be answered by a rebuild: some record may have expired."""

    def failing(self, what: str, failures: frozenset[Failure], **changes: Any) -> "World":
        """The same world with one failure anywhere."""
        return replace(self, name=f"{self.name}, {what}", failures=failures, **changes)
