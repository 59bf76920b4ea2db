"""What one schedule is made of, drawn from its seed.

Each schedule switches most of its dangers off and a few on ("swarm testing"): a schedule in which everything happens at once
seldom gets far enough to break anything.
"""

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import TypeVar

T = TypeVar("T")

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
START_US = 1_767_225_600 * SECOND_US  # 2026-01-01T00:00Z


class Roll(StrEnum):
    """Which versions of the code run."""

    NONE = "one version"
    OUT = "roll-out of a later version"
    BACK = "roll-out and roll-back"


class Fate(StrEnum):
    """What happens to a call of Firestore instead of its success."""

    CRASH_BEFORE = "the process dies before the call"
    CRASH_AFTER = "the process dies after the call took effect"
    ABORTED = "ABORTED"
    UNAVAILABLE = "UNAVAILABLE"
    LOST = "DEADLINE_EXCEEDED, without effect"
    UNKNOWN = "DEADLINE_EXCEEDED, but it took effect"
    LATE = "DEADLINE_EXCEEDED, and it takes effect later"


_UNKNOWN = (Fate.LOST, Fate.UNKNOWN, Fate.LATE)


@dataclass(slots=True)
class Chaos:
    """The rates of faults, each from 0 to 1, until `stop`."""

    random: Random
    crash: float
    aborted: float
    unknown: float
    unavailable: float
    stall: float
    lost_rollback: float

    def stop(self) -> None:
        """From now on nothing fails."""
        self.crash = self.aborted = self.unknown = self.unavailable = self.stall = self.lost_rollback = 0.0

    def of_read(self, in_transaction: bool) -> Fate | None:
        """The fate of a read."""
        roll = self.random.random()
        if roll < self.unavailable:
            return Fate.UNAVAILABLE
        roll -= self.unavailable
        if roll < self.crash / 30:
            return Fate.CRASH_BEFORE
        roll -= self.crash / 30
        return Fate.ABORTED if in_transaction and roll < self.aborted / 8 else None

    def of_commit(self) -> Fate | None:
        """The fate of a commit."""
        roll = self.random.random()
        if roll < self.aborted:
            return Fate.ABORTED
        roll -= self.aborted
        if roll < self.unknown:
            return _UNKNOWN[int(3 * roll / self.unknown)]
        roll -= self.unknown
        if roll < self.crash / 1.5:
            return Fate.CRASH_BEFORE if roll < self.crash / 3 else Fate.CRASH_AFTER
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The choices for one schedule."""

    groups: int
    users: int
    documents: int
    writes: int
    nested: bool
    minor_units: bool
    small_documents: bool
    """The product's limit for a balance document is so low that levels of detail change."""
    real_codec: bool
    """Events travel as bytes, every snapshot is decoded by the product's own codec, and maps come in any order."""
    optimistic: bool
    instances: int
    coarse_clock: bool
    slow: bool
    """Calls may take seconds."""
    slow_queries: bool
    """Reading a group's history takes long."""
    roll: Roll
    new_rules: bool
    """What is launched later understands a currency more."""
    by_parameter: bool
    """That currency is a parameter of the deployment: the code's version stays, only the rules are others."""
    loses_events: bool
    switches_off: bool
    expires: bool
    tampers: bool
    deletes_groups: bool
    deletes_below: bool
    """With what lies below them: one document after the other, in some order, to the end or half-way."""
    deletes_by_hand: bool
    """Somebody deletes balances and records."""
    reinstalls: bool
    """The system is taken away for a while, and comes back in a higher epoch."""
    nightly: bool
    """The nightly check runs amid it all, not only at the end."""
    off_at_first: bool
    """Updates are off from the beginning, so that there is no balance to be marked."""
    server_time_error_us: int
    """By how much the server's time in a document may differ from its commit's."""
    rebuilds: int
    storm: bool
    """Several rebuilds of a group race each other, and a write."""
    duplicates: float
    other_ids: bool
    longest_delay_us: int
    time_error_us: int
    pauses: bool
    """Minutes to days pass between some writes."""
    bulk: bool
    """Several documents are often written at once, and their events come at once: groups share commits."""

    @property
    def misses_events(self) -> bool:
        """Some writes never make an event that arrives."""
        return self.loses_events or self.reinstalls


def draw(random: Random, later: Random) -> tuple[Profile, Chaos]:
    """The profile and the faults of a schedule.

    What was added later is drawn from a stream of its own, so that the schedules without it stay as they were.
    """

    def chance(probability: float) -> bool:
        return random.random() < probability

    def one_of(*choices: T) -> T:
        return choices[int(random.random() * len(choices))]

    roll = Roll.NONE if chance(0.75) else one_of(Roll.OUT, Roll.BACK)
    switches_off = chance(0.15)
    storm = chance(0.5 if switches_off else 0.12)
    deletes_groups = roll is not Roll.BACK and chance(0.2)
    bulk = not storm and chance(0.25)
    profile = Profile(
        groups=1 if storm else 3 if bulk else one_of(1, 1, 2, 3),
        users=one_of(2, 3, 4),
        documents=12 if bulk else one_of(1, 2, 3, 5),
        writes=24 if bulk else one_of(3, 4, 5, 6, 10),
        nested=chance(0.1),
        minor_units=chance(0.1),
        small_documents=chance(0.05),
        real_codec=chance(0.1),
        optimistic=chance(0.1),
        instances=3 if storm else one_of(1, 1, 2) if bulk else one_of(1, 2, 3),
        coarse_clock=chance(0.4),
        slow=chance(0.15),
        slow_queries=storm or chance(0.2),
        roll=roll,
        new_rules=(new_rules := roll is not Roll.NONE and chance(0.4)),
        by_parameter=new_rules and later.random() < 0.5,
        loses_events=chance(0.1),
        switches_off=switches_off,
        expires=chance(0.15),
        tampers=chance(0.05),
        deletes_groups=deletes_groups,
        deletes_below=deletes_groups and chance(0.7),
        deletes_by_hand=chance(0.05),
        reinstalls=roll is Roll.NONE and not switches_off and chance(0.06),
        nightly=chance(0.25),
        off_at_first=switches_off and chance(0.4),
        server_time_error_us=one_of(0, 0, 30 * SECOND_US),
        rebuilds=one_of(0, 0, 0, 1, 3),
        storm=storm,
        duplicates=one_of(0.0, 0.0, 0.1, 0.3, 0.5),
        other_ids=chance(0.5),
        longest_delay_us=SECOND_US // 10 if bulk else one_of(SECOND_US // 10, SECOND_US, MINUTE_US, 2 * HOUR_US, 25 * HOUR_US),
        time_error_us=one_of(0, 1_000, 10 * MINUTE_US),
        pauses=chance(0.35),
        bulk=bulk,
    )
    chaos = Chaos(
        random,
        crash=one_of(0.0, 0.0, 0.05, 0.2),
        aborted=one_of(0.0, 0.0, 0.1, 0.3, 0.6),
        unknown=one_of(0.0, 0.0, 0.03, 0.1),
        unavailable=one_of(0.0, 0.0, 0.02),
        stall=one_of(0.0, 0.0, 0.0, 0.02),
        lost_rollback=one_of(0.0, 0.0, 0.3),
    )
    if chance(0.35):
        chaos.stop()
    return profile, chaos
