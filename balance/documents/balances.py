"""The balance document: what is stored of a group's ledger, and at which level of detail.

The stored document is sparse and canonical: nothing is zero, an absent pair, user or currency means zero. It is read as a
whole and checked as a whole, so that what a hand has bent is noticed by the next event; of it only the rows of the users
whom a delta touches are written.
"""

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from itertools import chain
from typing import Any

from balance.core import ledger as algebra
from balance.core.ledger import Ledger, Nets, Pair, Pairs
from balance.core.matching import Transfer
from balance.core.money import MAX_TOTAL_MINOR, InvalidAmount, Unit, from_stored, scale, to_stored
from balance.core.simplify import suggest
from balance.database.firestore import DELETE, SERVER_TIME, Constant, Fields
from balance.documents import rules
from balance.documents.settings import Settings

VERSION = 2
"""The version of this schema and of everything that decides what is stored: parsing rules, currency table, suggestions."""

STALE = 0
"""The version of a document that has missed events and waits for its rebuild."""

MAX_DOCUMENT_BYTES = 1_048_576
"""Source: https://firebase.google.com/docs/firestore/quotas (maximum size for a document)."""

LOWER_ABOVE_BYTES = MAX_DOCUMENT_BYTES * 9 // 10
RESTORE_BELOW_BYTES = MAX_DOCUMENT_BYTES * 7 // 10
WARN_ABOVE_BYTES = MAX_DOCUMENT_BYTES // 2

_MAX_UID_BYTES_IN_PATH = 700
"""A field path takes at most 1,500 bytes, and quoting may double the bytes of a uid. Source: as above."""

FieldUpdates = dict[tuple[str, ...], Any]


class Detail(StrEnum):
    """How much of the ledger is stored."""

    PAIRS = "pairs"
    NETS = "nets"
    NONE = "none"


class CorruptBalance(ValueError):
    """A stored balance that this code did not write like this; the message says where it departs."""


@dataclass(frozen=True, slots=True)
class Balance:
    """A group's balance at its level of detail.

    PAIRS: `ledger` holds all pairs. NETS: `ledger` is empty. At both, `nets` holds everybody who is not at zero, by currency;
    neither a currency nor a user with nothing but zeros is in it. NONE: both are empty.
    """

    detail: Detail
    ledger: Ledger
    nets: dict[str, Nets]

    @property
    def currencies(self) -> Iterable[str]:
        """Those that the document has rows of: where debts go round in a circle all nets are zero, but the pairs are not."""
        return self.ledger if self.detail is Detail.PAIRS else self.nets


@dataclass(frozen=True, slots=True)
class Stored:
    """What a balance document of this code's version and rules says."""

    balance: Balance
    as_of: datetime
    """The instant of the snapshot that its last rebuild read."""
    incarnation: datetime
    """When the group's document was created, as that snapshot had it."""
    faults: int = 0
    """How many source documents of the group cannot be understood, and are in no sum."""


def of_ledger(ledger: Ledger, was: Detail | None = None) -> Balance:
    """The balance of a full recalculation, at the finest level of detail that fits its document.

    `was` is the stored level, if any: a coarser one is left only with room to spare, so that a group near the limit does
    not go to and fro.
    """
    return _fitted(Balance(Detail.PAIRS, ledger, nets_of(ledger)), was or Detail.PAIRS)


def nets_of(ledger: Ledger) -> dict[str, Nets]:
    """Everybody's net balance by currency, zeros left out."""
    nets = {currency: _nonzero(algebra.nets(pairs)) for currency, pairs in ledger.items()}
    return {currency: totals for currency, totals in nets.items() if totals}


def _nonzero(nets: Nets) -> Nets:
    return {uid: total for uid, total in nets.items() if total}


def applied(balance: Balance, delta: Mapping[str, Mapping[Pair, int]]) -> Balance:
    """The balance after a delta, at the same level of detail, or a coarser one when it no longer fits."""
    if balance.detail is Detail.NONE:
        return balance
    ledger, nets = dict(balance.ledger), dict(balance.nets)
    for currency, changes in delta.items():
        # The nets of a sum are the sum of the nets, so those whom the delta does not touch need not be looked at.
        if totals := algebra.added(nets.pop(currency, {}), algebra.nets(changes)):
            nets[currency] = totals
        if balance.detail is Detail.PAIRS and (pairs := algebra.added(ledger.pop(currency, {}), changes)):
            ledger[currency] = pairs
    after = Balance(balance.detail, ledger, nets)
    return after if _fits_as_before(balance, after, delta) else _fitted(after, balance.detail)


def _fits_as_before(before: Balance, after: Balance, delta: Mapping[str, Mapping[Pair, int]]) -> bool:
    """Whether the document cannot have grown, and no amount of it beyond what may be stored: nothing need be counted then."""
    for currency, changes in delta.items():
        pairs, totals = after.ledger.get(currency, {}), after.nets.get(currency, {})
        if not changes.keys() <= before.ledger.get(currency, {}).keys():
            return False
        if any(abs(pairs.get(pair, 0)) > MAX_TOTAL_MINOR for pair in changes):
            return False
        if any(abs(totals.get(uid, 0)) > MAX_TOTAL_MINOR for pair in changes for uid in pair):
            return False
    return True


def coarsened(balance: Balance, detail: Detail) -> Balance:
    """A balance of all pairs or nets at this level of detail, which must be no finer."""
    if detail is Detail.NONE:
        return Balance(Detail.NONE, {}, {})
    return balance if balance.detail is detail else Balance(Detail.NETS, {}, balance.nets)


def _fitted(balance: Balance, was: Detail) -> Balance:
    totals = (total for nets in balance.nets.values() for total in nets.values())
    amounts = (amount for pairs in balance.ledger.values() for amount in pairs.values())
    if any(abs(total) > MAX_TOTAL_MINOR for total in totals) or any(abs(amount) > MAX_TOTAL_MINOR for amount in amounts):
        return coarsened(balance, Detail.NONE)
    if balance.detail is Detail.PAIRS:
        if size_bytes(balance) <= (LOWER_ABOVE_BYTES if was is Detail.PAIRS else RESTORE_BELOW_BYTES):
            return balance
        balance = coarsened(balance, Detail.NETS)
    if size_bytes(balance) <= (RESTORE_BELOW_BYTES if was is Detail.NONE else LOWER_ABOVE_BYTES):
        return balance
    return coarsened(balance, Detail.NONE)


# By Firestore's rules a name or string takes its UTF-8 bytes and one more, a number or time 8 bytes, a map or document 32
# beside its content: https://firebase.google.com/docs/firestore/storage-size
_NUMBER, _MAP = 8, 32
_DOCUMENT_BYTES = 6_500 + _MAP  # the path with a group's id of at most 1,500 bytes, which may take three per character
_ROW_BYTES = 3 * _MAP + len("uid owes owedBy netBalance ") + _NUMBER
_SUGGESTION_BYTES = 3 * _MAP + len("from uid to uid amount currency ") + _NUMBER


def size_bytes(balance: Balance) -> int:
    """What the document takes in Firestore, never too little: every row is counted with a suggestion of its own."""
    total = _DOCUMENT_BYTES
    for currency in balance.currencies:
        pairs = balance.ledger.get(currency, {})
        pairs_by_uid = Counter(chain.from_iterable(pairs)) or dict.fromkeys(balance.nets[currency], 0)
        length = {uid: len(uid.encode()) + 1 for uid in pairs_by_uid}
        longest = max(length.values())
        code = len(currency) + 1
        total += code + _MAP + len(length) * (_ROW_BYTES + _SUGGESTION_BYTES + code + 2 * longest) + 2 * sum(length.values())
        total += sum(length[uid] * count for uid, count in pairs_by_uid.items()) + 2 * _NUMBER * len(pairs)
    return total


def document(group_id: str, stored: Stored, settings: Settings) -> dict[str, Any]:
    """All fields of the balance document."""
    balance, unit = stored.balance, settings.unit
    return {
        "groupId": group_id,
        "balancesByCurrency": {currency: _rows(balance, currency, unit) for currency in sorted(balance.currencies)},
        "simplifiedDebts": _suggestions(balance, unit),
        "lastUpdatedAt": SERVER_TIME,
        "version": VERSION,
        "rules": str(rules.current(settings)),
        "asOf": stored.as_of,
        "incarnation": stored.incarnation,
        "faults": stored.faults,
        "detail": str(balance.detail),
    }


def is_updatable(delta: Mapping[str, Mapping[Pair, int]]) -> bool:
    """Whether field paths can name the rows of all users of a delta; if not, the whole document must be set."""
    return all(len(uid.encode()) <= _MAX_UID_BYTES_IN_PATH for pairs in delta.values() for pair in pairs for uid in pair)


def updates(after: Balance, delta: Mapping[str, Mapping[Pair, int]], unit: Unit) -> FieldUpdates:
    """The field updates that bring the stored document to `after`, the same level of detail being stored already."""
    changed: FieldUpdates = {("lastUpdatedAt",): SERVER_TIME}
    if after.detail is Detail.NONE:
        return changed
    changed["simplifiedDebts",] = _suggestions(after, unit)
    for currency, changes in delta.items():
        if currency not in after.currencies:
            changed["balancesByCurrency", currency] = DELETE
            continue
        touched = {uid for pair in changes for uid in pair}
        rows = _rows(after, currency, unit, touched)
        for uid in sorted(touched):
            changed["balancesByCurrency", currency, uid] = rows.get(uid, DELETE)
    return changed


def _rows(balance: Balance, currency: str, unit: Unit, only: Container[str] | None = None) -> dict[str, dict[str, Any]]:
    """The rows of all users, or of only these, as far as they have one."""
    nets, minor_per_unit = balance.nets.get(currency, {}), _scale(currency, unit)

    def row(uid: str) -> dict[str, Any]:
        return {"uid": uid, "owes": {}, "owedBy": {}, "netBalance": to_stored(nets.get(uid, 0), minor_per_unit)}

    if balance.detail is Detail.NETS:
        return {uid: row(uid) for uid in nets if only is None or uid in only}
    rows: dict[str, dict[str, Any]] = {}
    for (low, high), amount_minor in balance.ledger[currency].items():
        if only is None or low in only or high in only:
            debtor, creditor = (low, high) if amount_minor > 0 else (high, low)
            amount = to_stored(abs(amount_minor), minor_per_unit)
            for uid, side, other in ((debtor, "owes", creditor), (creditor, "owedBy", debtor)):
                if only is None or uid in only:
                    if uid not in rows:
                        rows[uid] = row(uid)
                    rows[uid][side][other] = amount
    return rows


def _suggestions(balance: Balance, unit: Unit) -> list[dict[str, Any]]:
    return [
        _suggestion(transfer, currency, unit) for currency, nets in sorted(balance.nets.items()) for transfer in suggest(nets)
    ]


@lru_cache(maxsize=4_096)
def _suggestion(transfer: Transfer, currency: str, unit: Unit) -> dict[str, Any]:
    """Kept, since a group's suggestions are all written with each of its events, and few of them change with it."""
    return Constant(
        {
            "from": {"uid": transfer.debtor},
            "to": {"uid": transfer.creditor},
            "amount": to_stored(transfer.amount_minor, _scale(currency, unit)),
            "currency": currency,
        }
    )


def _scale(currency: str, unit: Unit) -> int:
    minor_per_unit = scale(currency, unit)
    assert minor_per_unit is not None, f"{currency} was posted, so it is known"
    return minor_per_unit


def stored_version(fields: Fields) -> int:
    """The version that wrote a document; STALE when it says none. Judged before anything else of it is read."""
    version = fields.get("version")
    return version if type(version) is int else STALE


def parse(fields: Fields, group_id: str, unit: Unit) -> Stored:
    """A balance document of this code's version and rules; raises CorruptBalance unless it is what this code writes.

    `lastUpdatedAt` and the order of suggestions are not looked at: no sum depends on them.
    """
    if fields.get("groupId") != group_id:
        raise CorruptBalance("groupId is another group's")
    as_of, incarnation, faults = (fields.get(name) for name in ("asOf", "incarnation", "faults"))
    if not isinstance(as_of, datetime):
        raise CorruptBalance("asOf is not a time")
    if not isinstance(incarnation, datetime):
        raise CorruptBalance("incarnation is not a time")
    if type(faults) is not int or faults < 0:
        raise CorruptBalance("faults is no number of documents")
    detail = fields.get("detail")
    currencies, suggestions = fields.get("balancesByCurrency"), fields.get("simplifiedDebts")
    if detail not in tuple(Detail) or not isinstance(currencies, dict) or not isinstance(suggestions, list):
        raise CorruptBalance("detail, balancesByCurrency or simplifiedDebts is missing or of another type")
    if detail == Detail.NONE and currencies:
        raise CorruptBalance('balancesByCurrency is not empty at detail "none"')
    ledger: Ledger = {}
    nets: dict[str, Nets] = {}
    for currency, rows in currencies.items():
        try:
            pairs, totals = _parse_currency(currency, rows, Detail(detail), unit)
        except (InvalidAmount, TypeError, KeyError, AttributeError) as error:
            raise CorruptBalance(f"balancesByCurrency.{currency}: {error}") from None
        if pairs:
            ledger[currency] = pairs
        if nonzero := _nonzero(totals):
            nets[currency] = nonzero
    try:
        _check_suggestions(suggestions, nets, unit)
    except (InvalidAmount, TypeError, KeyError) as error:
        raise CorruptBalance(f"simplifiedDebts: {error!r}") from None
    return Stored(Balance(Detail(detail), ledger, nets), as_of, incarnation, faults)


def _parse_currency(currency: str, rows: dict[str, Any], detail: Detail, unit: Unit) -> tuple[Pairs, Nets]:
    minor_per_unit = scale(currency, unit)
    if minor_per_unit is None or not rows:
        raise CorruptBalance(f"balancesByCurrency.{currency} is no currency or empty")
    owes: dict[Pair, Any] = {}
    owed: dict[Pair, Any] = {}
    nets: Nets = {}
    for uid, row in rows.items():
        if row["uid"] != uid:
            raise CorruptBalance(f"balancesByCurrency.{currency}: the row of {uid!r} bears another uid")
        nets[uid] = from_stored(row["netBalance"], minor_per_unit)
        owes |= {(uid, creditor): amount for creditor, amount in row["owes"].items()}
        owed |= {(debtor, uid): amount for debtor, amount in row["owedBy"].items()}
    if owes != owed or bool in map(type, owed.values()):
        raise CorruptBalance(f"balancesByCurrency.{currency}: owes and owedBy do not mirror each other")
    pairs: Pairs = {}
    for (debtor, creditor), amount in owes.items():
        amount_minor = from_stored(amount, minor_per_unit)
        if amount_minor <= 0 or debtor == creditor or (creditor, debtor) in owes:
            raise CorruptBalance(f"balancesByCurrency.{currency}: what {debtor!r} owes {creditor!r} is not canonical")
        if debtor < creditor:
            pairs[debtor, creditor] = amount_minor
        else:
            pairs[creditor, debtor] = -amount_minor
    if detail is Detail.PAIRS and nets != algebra.nets(pairs):
        raise CorruptBalance(f"balancesByCurrency.{currency}: the net balances are not those of the pairs")
    if detail is Detail.NETS and (pairs or not all(nets.values()) or sum(nets.values())):
        raise CorruptBalance(f"balancesByCurrency.{currency}: the net balances are not canonical")
    return pairs, nets


def _check_suggestions(suggestions: list[Any], nets: dict[str, Nets], unit: Unit) -> None:
    """They must settle all nets: so a currency that has been taken away whole is missed."""
    left = {currency: dict(totals) for currency, totals in nets.items()}
    for debt in suggestions:
        currency, debtor, creditor = debt["currency"], debt["from"]["uid"], debt["to"]["uid"]
        totals = left[currency]
        amount_minor = from_stored(debt["amount"], _scale(currency, unit))
        if not (0 < amount_minor <= -totals[debtor] and amount_minor <= totals[creditor]):
            raise CorruptBalance(f"simplifiedDebts: {debtor!r} pays {creditor!r} in {currency} what is not owed")
        totals[debtor] += amount_minor
        totals[creditor] -= amount_minor
    if any(total for totals in left.values() for total in totals.values()):
        raise CorruptBalance("simplifiedDebts does not settle the net balances")
