"""Reading a group's balance: the stored one, or when that is of no use a recalculated one.

Reading believes no more than an event would: a balance that is missing, stale, of another version, bent by hand or from a
time to come is not served. Then it is rebuilt and read again; where it cannot be rebuilt, it is recalculated for this answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from balance.core.money import Unit, scale, to_stored
from balance.database.firestore import Firestore, Snapshot, TransientError
from balance.documents import balances
from balance.documents.balances import VERSION, Balance, CorruptBalance, Detail
from balance.documents.changes import NewerVersion
from balance.documents.outcome import Outcome
from balance.documents.settings import Settings, fallback_on, precomputed_reads_on, updates_on
from balance.documents.sources import Kind
from balance.operations.log import log
from balance.protocol.bookkeeper import Bookkeeper
from balance.protocol.rebuild import read_history


class Cause(StrEnum):
    """Why a stored balance was not served."""

    MISSING = "missing"
    STALE = "stale"
    """Of an older version, or marked to be rebuilt."""
    CORRUPT = "corrupt"
    NEWER = "newer"
    """Written by newer code, whose rules this code does not know; it is left alone."""
    NO_DETAIL = "none"
    """The group is too large for its balance to be stored."""
    SWITCHED_OFF = "precomputed reads are off"


_REBUILT = (Cause.MISSING, Cause.STALE, Cause.CORRUPT)


class Unreadable(Exception):
    """The stored balance is of no use and recalculating is switched off."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A group's balance as it was read."""

    balance: Balance
    document: dict[str, Any]
    """The balance document that says the same, `lastUpdatedAt` left to `updated_at`."""
    updated_at: datetime
    cause: Cause | None = None
    """Why it was recalculated; None when it is the stored one."""


class Reader:
    """Reads balances for one process; safe to share among threads."""

    def __init__(self, firestore: Firestore, keeper: Bookkeeper, environment: Mapping[str, str]) -> None:
        """`environment` holds the switches, which are looked at for every reading."""
        self._firestore = firestore
        self._keeper = keeper
        self._settings: Settings = keeper.settings
        self._environment = environment

    def judge(self, group_id: str, stored: Snapshot) -> Reading | Cause:
        """What a balance document that was read just now says, or why it is not served. Costs no call."""
        if not precomputed_reads_on(self._environment):
            return Cause.SWITCHED_OFF
        return judged(stored, group_id, self._settings.unit)

    def fall_back(self, group_id: str, stored: Snapshot, cause: Cause) -> Reading:
        """The balance of an existing group whose stored balance is not served; raises Unreadable, TransientError."""
        if cause is not Cause.SWITCHED_OFF and not fallback_on(self._environment):
            if cause is Cause.MISSING and not self._has_history(group_id, stored.read_time):
                # A new group is not missing anything: absent means zero.
                return self._reading(group_id, balances.of_ledger({}), stored.read_time)
            raise Unreadable(f"the balance of group {group_id} is {cause}, and the fallback is switched off")
        if cause in _REBUILT and updates_on(self._environment) and self._rebuild(group_id):
            (stored,) = self._firestore.get([stored.path])
            rebuilt = judged(stored, group_id, self._settings.unit)
            if isinstance(rebuilt, Reading):
                return replace(rebuilt, cause=cause)
        return self._recalculated(group_id, stored.read_time, cause)

    def _rebuild(self, group_id: str) -> bool:
        """Have the balance rebuilt, together with all who want the same now; False when that failed."""
        try:
            rebuilt = self._keeper.rebuild(group_id).outcome is Outcome.REBUILT
        except (TransientError, NewerVersion) as error:
            log("WARNING", f"group {group_id}: could not be rebuilt: {error}", groupId=group_id)
            return False
        if rebuilt:
            log("INFO", f"group {group_id}: rebuilt when it was read", groupId=group_id, metric="rebuilds")
        return rebuilt

    def _recalculated(self, group_id: str, as_of: datetime, cause: Cause) -> Reading:
        history = read_history(self._firestore, self._settings, group_id, as_of)
        balance = balances.of_ledger(history.ledger)
        if balance.detail is Detail.NONE:
            # Too large to be stored is not too large to be told.
            balance = Balance(Detail.NETS, {}, balances.nets_of(history.ledger))
        return self._reading(group_id, balance, as_of, cause)

    def _reading(self, group_id: str, balance: Balance, as_of: datetime, cause: Cause | None = None) -> Reading:
        return Reading(balance, balances.document(group_id, balance, as_of, self._settings.unit), as_of, cause)

    def _has_history(self, group_id: str, as_of: datetime) -> bool:
        queries = (replace(self._settings.layout.sources(kind, group_id), limit=1, select=()) for kind in Kind)
        return any(any(True for _ in self._firestore.query(query, read_time=as_of)) for query in queries)


def judged(stored: Snapshot, group_id: str, unit: Unit) -> Reading | Cause:
    """The stored balance, or why it may not be served."""
    if stored.fields is None:
        return Cause.MISSING
    version = balances.stored_version(stored.fields)
    if version != VERSION:
        return Cause.NEWER if version > VERSION else Cause.STALE
    try:
        parsed = balances.parse(stored.fields, group_id, unit)
    except CorruptBalance:
        return Cause.CORRUPT
    updated_at = stored.fields.get("lastUpdatedAt")
    if not isinstance(updated_at, datetime) or parsed.as_of > stored.read_time:
        return Cause.CORRUPT
    if parsed.balance.detail is Detail.NONE:
        return Cause.NO_DETAIL
    document = balances.document(group_id, parsed.balance, parsed.as_of, unit)
    if any(document[name] != stored.fields[name] for name in ("balancesByCurrency", "simplifiedDebts")):
        # The parser lets some things be that no balance depends on, such as bent suggestions; a client would not.
        return Cause.CORRUPT
    return Reading(parsed.balance, document, updated_at)


def as_json(reading: Reading, members: Sequence[str]) -> dict[str, Any]:
    """The balance document as the API tells it: with a row for each member in each currency, and times as text."""
    document = reading.document
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
