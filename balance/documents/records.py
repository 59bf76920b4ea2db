"""Records of processed events: the proof that a write is in the balance, committed together with it.

`groups/{groupId}/balanceEvents/{key}` holds `eventId`, `source`, `updateTime`, `deletedAt` (deletes only), `version`, `rules`,
`outcome`, `delta`, `appliedAt` and `expireAt`. `delta` is `{currency: {uid: {uid: amount}}}` in integer minor units whatever
the app's unit: by how much the first now owes the second more; negative for less. It is null where it would not fit a document,
or the write's time is not known exactly: such a change is rebuilt in, and a rebuild from an earlier snapshot starts over.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from balance.core.ledger import Ledger, Posting, fold
from balance.database.firestore import SERVER_TIME, Create, Fields, Snapshot
from balance.documents import rules
from balance.documents.balances import MAX_DOCUMENT_BYTES, VERSION
from balance.documents.changes import GroupChange
from balance.documents.outcome import Outcome
from balance.documents.settings import Settings
from balance.documents.writes import SourceWrite

_MAX_DELTA_BYTES = MAX_DOCUMENT_BYTES - 24_000
"""The other fields and the document's own name, each with a path of up to 6 KiB, take less than that."""

_PAIRS_THAT_FIT = 300
"""Whatever their uids, of which each takes at most 1,500 bytes."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a rebuild needs of a record."""

    write: SourceWrite
    version: int
    rules: str
    is_gap: bool
    """The event came while updates were off: it is in no balance."""
    delta: Ledger | None
    """None: left out."""

    def is_addable(self, settings: Settings) -> bool:
        """Whether its delta may be added to what this code recalculates."""
        mine = (VERSION, str(rules.current(settings)))
        return not self.is_gap and self.delta is not None and (self.version, self.rules) == mine


class CorruptRecord(ValueError):
    """A record that this code did not write like this."""


def creations(
    changes: Sequence[GroupChange], recorded: Sequence[Snapshot], outcome: Outcome, settings: Settings
) -> list[Create]:
    """The records of those changes of which none was found; `recorded` are the snapshots read at their paths."""
    return [
        Create(record.path, document(change, outcome, record.read_time, settings))
        for change, record in zip(changes, recorded, strict=True)
        if record.fields is None
    ]


def document(change: GroupChange, outcome: Outcome, now: datetime, settings: Settings) -> dict[str, Any]:
    """All fields of a record."""
    fields: dict[str, Any] = {
        "eventId": change.event_id,
        "source": change.write.source,
        "updateTime": change.write.update_time,
        "version": VERSION,
        "rules": str(rules.current(settings)),
        "outcome": str(outcome),
        "delta": encode_delta(change.delta) if holds_delta(change) else None,
        "appliedAt": SERVER_TIME,
        "expireAt": now + settings.record_ttl,
    }
    if change.write.deleted_at is not None:
        fields["deletedAt"] = change.write.deleted_at
    return fields


def holds_delta(change: GroupChange) -> bool:
    """Whether the change's record tells its delta. If not, the change can only be rebuilt in."""
    if not change.is_dated:
        return False
    if sum(map(len, change.delta.values())) <= _PAIRS_THAT_FIT:
        return True
    # A name takes its bytes and one more, a number 8, a map 32: https://firebase.google.com/docs/firestore/storage-size
    rows = [row for of_currency in encode_delta(change.delta).values() for row in of_currency.items()]
    size = sum(len(uid.encode()) + 33 + sum(len(other.encode()) + 9 for other in others) for uid, others in rows)
    return size + 40 * len(change.delta) <= _MAX_DELTA_BYTES


def parse(fields: Fields) -> Record:
    """A record as stored, of whatever version and rules; raises CorruptRecord."""
    source, update_time, deleted_at = (fields.get(name) for name in ("source", "updateTime", "deletedAt"))
    version, by_rules, outcome = (fields.get(name) for name in ("version", "rules", "outcome"))
    delta = fields.get("delta", "")
    if not (
        isinstance(source, str)
        and isinstance(update_time, datetime)
        and (deleted_at is None or isinstance(deleted_at, datetime))
        and type(version) is int
        and isinstance(outcome, str)
        and (delta is None or isinstance(delta, dict))
    ):
        raise CorruptRecord("a field is missing or of another type")
    write = SourceWrite(source=source, update_time=update_time, deleted_at=deleted_at)
    is_gap = outcome == Outcome.DISABLED
    by_rules = by_rules if isinstance(by_rules, str) else ""
    return Record(write, version, by_rules, is_gap, None if delta is None else _decode_delta(delta))


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
