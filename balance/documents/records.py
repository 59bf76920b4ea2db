"""Records of processed events: the proof that a write is in the balance, committed together with it.

`groups/{groupId}/balanceEvents/{key}` holds `eventId`, `source`, `updateTime`, `deletedAt` (deletes only), `version`,
`outcome`, `delta`, `appliedAt` and `expireAt`. `delta` is `{currency: {uid: {uid: amount}}}` in integer minor units whatever
the app's unit: by how much the first now owes the second more; negative for less.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from balance.core.ledger import Ledger, Posting, fold
from balance.database.firestore import SERVER_TIME, Create, Fields, Snapshot
from balance.documents.balances import VERSION
from balance.documents.changes import GroupChange
from balance.documents.outcome import Outcome
from balance.documents.writes import SourceWrite


@dataclass(frozen=True, slots=True)
class Record:
    """What a rebuild needs of a record."""

    write: SourceWrite
    version: int
    is_gap: bool
    """The event came while updates were off or its group was gone: it is in no balance."""
    delta: Ledger


class CorruptRecord(ValueError):
    """A record that this code did not write like this."""


def creations(
    changes: Sequence[GroupChange], recorded: Sequence[Snapshot], outcome: Outcome, expire_at: datetime
) -> list[Create]:
    """The records of those changes of which none was found; `recorded` are the snapshots read at their paths."""
    return [
        Create(record.path, document(change, outcome, expire_at))
        for change, record in zip(changes, recorded, strict=True)
        if record.fields is None
    ]


def document(change: GroupChange, outcome: Outcome, expire_at: datetime) -> dict[str, Any]:
    """All fields of a record."""
    fields: dict[str, Any] = {
        "eventId": change.event_id,
        "source": change.write.source,
        "updateTime": change.write.update_time,
        "version": VERSION,
        "outcome": str(outcome),
        "delta": encode_delta(change.delta),
        "appliedAt": SERVER_TIME,
        "expireAt": expire_at,
    }
    if change.write.deleted_at is not None:
        fields["deletedAt"] = change.write.deleted_at
    return fields


def parse(fields: Fields) -> Record:
    """A record as stored; raises CorruptRecord."""
    source, update_time, deleted_at = (fields.get(name) for name in ("source", "updateTime", "deletedAt"))
    version, outcome, delta = (fields.get(name) for name in ("version", "outcome", "delta"))
    if not (
        isinstance(source, str)
        and isinstance(update_time, datetime)
        and (deleted_at is None or isinstance(deleted_at, datetime))
        and type(version) is int
        and isinstance(outcome, str)
        and isinstance(delta, dict)
    ):
        raise CorruptRecord("a field is missing or of another type")
    write = SourceWrite(source=source, update_time=update_time, deleted_at=deleted_at)
    return Record(write, version, outcome in (Outcome.DISABLED, Outcome.GROUP_GONE), _decode_delta(delta))


def encode_delta(delta: Mapping[str, Mapping[tuple[str, str], int]]) -> dict[str, dict[str, dict[str, int]]]:
    """`{currency: {uid: {uid: amount_minor}}}`: by how much the first now owes the second more.

    A pair stands with whichever of the two is in more pairs, so a payer is named once, not once for each share: else
    long uids could make a record larger than the documents that it comes of, and than Firestore allows.
    """
    encoded: dict[str, dict[str, dict[str, int]]] = {}
    for currency, pairs in delta.items():
        frequency = Counter(uid for pair in pairs for uid in pair)
        rows = encoded.setdefault(currency, {})
        for (low, high), amount_minor in pairs.items():
            if (frequency[low], amount_minor) > (frequency[high], 0):
                rows.setdefault(low, {})[high] = amount_minor
            else:
                rows.setdefault(high, {})[low] = -amount_minor
    return encoded


def _decode_delta(encoded: Mapping[str, Any]) -> Ledger:
    try:
        postings = [
            Posting(debtor, creditor, currency, amount_minor)
            for currency, debtors in encoded.items()
            for debtor, creditors in debtors.items()
            for creditor, amount_minor in creditors.items()
        ]
    except AttributeError as error:
        raise CorruptRecord(f"delta: {error}") from None
    if not all(type(posting.amount_minor) is int for posting in postings):
        raise CorruptRecord("delta: an amount is no integer")
    return fold(postings)
