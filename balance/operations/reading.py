"""Reading a group's balance: the stored one, or when that is of no use a recalculated one.

Reading believes no more than an event would: a balance that is missing, stale, of another version, bent by hand or from a
time to come is not served. Then it is rebuilt and read again; where it cannot be rebuilt, it is recalculated for this answer.

Recalculating reads a whole history. Equal readings at the same time share one, and that of a balance which is too large to be
stored is kept until the balance changes. So it costs no more, however often and by however many it is asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from threading import BoundedSemaphore
from typing import Any

from balance.core.money import Unit, scale, to_stored
from balance.database import budget
from balance.database.firestore import Firestore, Snapshot, TransientError
from balance.documents import balances
from balance.documents.balances import Balance, Detail, Stored
from balance.documents.changes import NewerVersion, Result
from balance.documents.judgement import judge
from balance.documents.outcome import Outcome
from balance.documents.settings import Settings, fallback_on, precomputed_reads_on, updates_on
from balance.documents.sources import Kind
from balance.operations.log import log
from balance.operations.shared_answers import Answers
from balance.protocol.bookkeeper import Bookkeeper
from balance.protocol.rebuild import read_history


class Cause(StrEnum):
    """Why a stored balance was not served; the first four are the judgement's conditions."""

    MISSING = "missing"
    STALE = "stale"
    CORRUPT = "corrupt"
    NEWER = "newer"
    """It is left alone: this code does not know the rules by which it was written."""
    NO_DETAIL = "none"
    """The group is too large for its balance to be stored."""
    SWITCHED_OFF = "precomputed reads are off"


_REBUILT = (Cause.MISSING, Cause.STALE, Cause.CORRUPT)

_KEPT = (Cause.NO_DETAIL,)
"""The balance stands and follows its events, so that a recalculation is true as long as it does not change. One of newer code
need not: after a roll-back nobody brings events into it."""

REBUILD_WAIT_S = 10.0
"""How long a reader waits for a rebuild, which goes on without them. Somebody may hold a lock for a minute, such as a backfill
that was killed; a recalculation needs none."""

_KEPT_CHARACTERS = 32 * 1024 * 1024
_HISTORIES = BoundedSemaphore(8)
_HISTORY_WAIT_S = 10.0


@contextmanager
def history_slot() -> Iterator[None]:
    """Hold one of the few places for reading whole histories, so that they do not exceed the memory together.

    Raises Unreadable when none becomes free in time: who has waited so long is not to wait as long again.
    """
    if not _HISTORIES.acquire(timeout=_HISTORY_WAIT_S):
        raise Unreadable("too many histories are being read at once")
    try:
        yield
    finally:
        _HISTORIES.release()


class Unreadable(Exception):
    """The stored balance is of no use, and recalculating is switched off or not to be had at the moment."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A group's balance as it was read."""

    balance: Balance
    document: dict[str, Any]
    """The balance document that says the same, `lastUpdatedAt` left to `updated_at`."""
    updated_at: datetime
    cause: Cause | None = None
    """Why it was recalculated; None when it is the stored one."""
    reads: int = 0
    """How many documents were read to recalculate it, for this very answer."""


class Reader:
    """Reads balances for one process; safe to share among threads."""

    def __init__(self, firestore: Firestore, keeper: Bookkeeper, environment: Mapping[str, str]) -> None:
        """`environment` holds the switches, which are looked at for every reading."""
        self._firestore = firestore
        self._keeper = keeper
        self._settings: Settings = keeper.settings
        self._environment = environment
        self._answers: Answers[Reading] = Answers(_KEPT_CHARACTERS, lambda reading: len(str(reading.document)))

    def judge(self, group: Snapshot, stored: Snapshot) -> Reading | Cause:
        """What a group's balance document that was read just now says, or why it is not served. Costs no call."""
        if not precomputed_reads_on(self._environment):
            return Cause.SWITCHED_OFF
        return judged(stored, group, self._settings)

    def fall_back(self, group: Snapshot, stored: Snapshot, cause: Cause) -> Reading:
        """The balance of an existing group whose stored balance is not served; raises Unreadable, TransientError."""
        mine = False

        def compute() -> Reading:
            nonlocal mine
            mine = True
            return self._fall_back(group, stored, cause)

        question = group.path, group.create_time, cause
        reading = self._answers.get(question, stored.update_time if cause in _KEPT else None, compute)
        return reading if mine else replace(reading, reads=0)

    def _fall_back(self, group: Snapshot, stored: Snapshot, cause: Cause) -> Reading:
        group_id = _id(group)
        if cause is Cause.MISSING and not self._has_history(group_id, stored.read_time):
            # A new group is not missing anything: absent means zero.
            return self._reading(group, balances.of_ledger({}), 0, stored.read_time)
        if cause is not Cause.SWITCHED_OFF and not fallback_on(self._environment):
            raise Unreadable(f"the balance of group {group_id} is {cause}, and the fallback is switched off")
        with history_slot():
            if cause in _REBUILT and updates_on(self._environment):
                result = self._rebuild(group_id)
                # As of now, rebuilt or not: others may have asked, and written, while it was waited for.
                present, stored = self._firestore.get([group.path, stored.path])
                if present.fields is not None:
                    group = present
                rebuilt = judged(stored, group, self._settings)
                if isinstance(rebuilt, Reading):
                    return replace(rebuilt, cause=cause, reads=result.tally.total if result and result.tally else 0)
            return self._recalculated(group, stored.read_time, cause)

    def _rebuild(self, group_id: str) -> Result | None:
        """Have the balance rebuilt, together with all who want the same now; None when that failed, or takes too long."""
        try:
            with budget.within(REBUILD_WAIT_S):
                result = self._keeper.rebuild(group_id)
        except (TransientError, NewerVersion) as error:
            log("WARNING", f"group {group_id}: could not be rebuilt: {error}", groupId=group_id)
            return None
        if result.outcome is not Outcome.REBUILT:
            return None
        log("INFO", f"group {group_id}: rebuilt when it was read", groupId=group_id, metric="rebuilds")
        return result

    def _recalculated(self, group: Snapshot, as_of: datetime, cause: Cause) -> Reading:
        history = read_history(self._firestore, self._settings, _id(group), as_of)
        balance = balances.of_ledger(history.ledger)
        if balance.detail is Detail.NONE:
            # Too large to be stored is not too large to be told.
            balance = Balance(Detail.NETS, {}, balances.nets_of(history.ledger))
        reading = self._reading(group, balance, len(history.malformed), as_of)
        return replace(reading, cause=cause, reads=len(history.versions))

    def _reading(self, group: Snapshot, balance: Balance, faults: int, as_of: datetime) -> Reading:
        said = Stored(balance, as_of, group.create_time or as_of, faults)
        return Reading(balance, balances.document(_id(group), said, self._settings), as_of)

    def _has_history(self, group_id: str, as_of: datetime) -> bool:
        queries = (replace(self._settings.layout.sources(kind, group_id), limit=1, select=()) for kind in Kind)
        return any(any(True for _ in self._firestore.query(query, read_time=as_of)) for query in queries)


def judged(stored: Snapshot, group: Snapshot, settings: Settings) -> Reading | Cause:
    """The stored balance of an existing group, or why it may not be served."""
    judgement = judge(stored, _id(group), settings, group)
    said = judgement.stored
    if said is None or stored.fields is None:
        return Cause(str(judgement.condition))
    updated_at = stored.fields.get("lastUpdatedAt")
    if not isinstance(updated_at, datetime):
        return Cause.CORRUPT
    if said.balance.detail is Detail.NONE:
        return Cause.NO_DETAIL
    document = balances.document(_id(group), said, settings)
    if any(document[name] != stored.fields[name] for name in ("balancesByCurrency", "simplifiedDebts")):
        # The judgement lets some things be that no balance depends on, such as bent suggestions; a client would not.
        return Cause.CORRUPT
    return Reading(said.balance, document, updated_at)


def _id(group: Snapshot) -> str:
    return group.path.rpartition("/")[2]


def as_json(reading: Reading, members: Sequence[str]) -> dict[str, Any]:
    """The balance document as the API tells it: with a row for each member in each currency, and times as text."""
    # What only our own code asks for is left out.
    document = {name: value for name, value in reading.document.items() if name not in ("rules", "incarnation")}
    return {
        **document,
        "balancesByCurrency": {
            currency: {uid: {"uid": uid, "owes": {}, "owedBy": {}, "netBalance": 0} for uid in members} | rows
            for currency, rows in document["balancesByCurrency"].items()
        },
        "lastUpdatedAt": iso8601(reading.updated_at),
        "asOf": iso8601(document["asOf"]),
        "source": "precomputed" if reading.cause is None else "recalculated",
    }


def net_by_currency(reading: Reading, uid: str, unit: Unit) -> dict[str, int | float]:
    """A user's own net balance in each of the group's currencies."""
    return {
        currency: to_stored(reading.balance.nets.get(currency, {}).get(uid, 0), scale(currency, unit) or 1)
        for currency in sorted(reading.balance.currencies)
    }


def iso8601(time: datetime) -> str:
    """A time as clients read it: 2025-03-01T12:00:00.123456Z."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
