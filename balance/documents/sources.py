"""Source documents: what an app's expense, settlement or group says, or why it cannot be understood.

Parsing is total: whatever Firestore can hold yields a Transaction or a Malformed, never an exception.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeGuard

from balance import adapter
from balance.core.ledger import Posting
from balance.core.money import InvalidAmount, Unit, parse_amount, scale
from balance.database.firestore import Fields

MAX_SPLITS = 1_000
_MAX_ID_BYTES = 1_500
_SHORT_ID = _MAX_ID_BYTES // 4
_MAX_REASON = 200


class Kind(StrEnum):
    """The two kinds of source document."""

    EXPENSE = "expense"
    SETTLEMENT = "settlement"


@dataclass(frozen=True, slots=True)
class Transaction:
    """A well-formed or deleted source document: what it posts, and to which group (None when it posts nothing)."""

    group_id: str | None
    postings: tuple[Posting, ...] = ()
    split_mismatch: bool = False
    """The splits do not add up to the expense's own amount: worth a warning; the splits count."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A live source document that cannot be understood: it posts nothing until it is corrected."""

    field: str
    reason: str
    group_id: str | None
    """The group that it names, where that much can be understood."""


Parsed = Transaction | Malformed

NOTHING: Final = Transaction(group_id=None)
"""An absent or deleted document."""


class _Fault(Exception):
    def __init__(self, field: str, reason: str) -> None:
        self.field, self.reason = field, reason


def parse(kind: Kind, fields: Fields | None, unit: Unit, group_in_path: str | None = None) -> Parsed:
    """What a source document posts.

    `fields` is None for a document that does not exist. `group_in_path` is the group in whose subcollection the document
    lies, for apps with that layout; its `groupId` field is then not looked at.
    """
    if fields is None:
        return NOTHING
    try:
        renamed = read(kind, fields)
    except AdapterFailed as error:
        named = fields.get(adapter.GROUP_ID_FIELD) if group_in_path is None else group_in_path
        return Malformed("adapter", str(error), named if is_document_id(named) else None)
    if renamed is None:
        return NOTHING
    if renamed.get("deletedAt") is not None:
        return NOTHING
    group_id = renamed.get("groupId") if group_in_path is None else group_in_path
    if not is_document_id(group_id):
        return Malformed("groupId", _missing_or(renamed, "groupId", "is not a document id"), None)
    try:
        understood = _expense if kind is Kind.EXPENSE else _settlement
        return understood(group_id, renamed, unit)
    except _Fault as fault:
        return Malformed(fault.field, fault.reason, group_id)


class AdapterFailed(Exception):
    """The app's adapter could not read a document; the message says why."""


def read(kind: Kind, fields: Fields) -> Fields | None:
    """A document under the contract's field names; None when the adapter says that it is not ours. Raises AdapterFailed."""
    try:
        renamed = adapter.expense(fields) if kind is Kind.EXPENSE else adapter.settlement(fields)
    except Exception as error:
        raise AdapterFailed(f"{type(error).__name__} {error}"[:_MAX_REASON]) from error
    if renamed is not None and not isinstance(renamed, Mapping):
        raise AdapterFailed(f"returned a {type(renamed).__name__}, not a map of fields")
    return renamed


def _expense(group_id: str, fields: Fields, unit: Unit) -> Transaction:
    paid_by = _uid(fields, "paidBy")
    currency, minor_per_unit = _currency(fields, unit)
    amount_minor = _amount(fields, "amount", minor_per_unit)
    splits = fields.get("splits")
    if not isinstance(splits, list):
        raise _Fault("splits", _missing_or(fields, "splits", "is not a list"))
    if len(splits) > MAX_SPLITS:
        raise _Fault("splits", f"has {len(splits)} entries, more than {MAX_SPLITS}")
    postings = []
    total_minor = 0
    for index, split in enumerate(splits):
        # Most of a recalculation's time is spent in this loop: it looks only whether all is well, not at what is not.
        try:
            uid, amount = split["uid"], split["amount"]
            share_minor = parse_amount(amount, minor_per_unit)
        except (TypeError, KeyError, InvalidAmount):
            raise _split_fault(index, split, minor_per_unit) from None
        if type(uid) is not str or uid_fault(uid):
            raise _split_fault(index, split, minor_per_unit)
        total_minor += share_minor
        if uid != paid_by and share_minor:
            postings.append(_new(Posting, (uid, paid_by, currency, share_minor)))
    return Transaction(group_id, tuple(postings), split_mismatch=bool(splits) and total_minor != amount_minor)


_new = tuple.__new__  # a third of the time of calling Posting


def _split_fault(index: int, split: object, minor_per_unit: int) -> _Fault:
    """What is wrong with a split that is not well-formed."""
    if not isinstance(split, dict):
        return _Fault(f"splits[{index}]", "is not a map")
    try:
        _uid(split, "uid")
        _amount(split, "amount", minor_per_unit)
    except _Fault as fault:
        return _Fault(f"splits[{index}].{fault.field}", fault.reason)
    raise AssertionError(f"splits[{index}] is well-formed")


def _settlement(group_id: str, fields: Fields, unit: Unit) -> Transaction:
    payer, payee = _uid(fields, "payerId"), _uid(fields, "payeeId")
    currency, minor_per_unit = _currency(fields, unit)
    amount_minor = _amount(fields, "amount", minor_per_unit)
    if payer == payee or not amount_minor:
        return Transaction(group_id)
    # Paying somebody is the reverse of owing them: the payee now owes the payer that much more.
    return Transaction(group_id, (Posting(debtor=payee, creditor=payer, currency=currency, amount_minor=amount_minor),))


def _uid(fields: Fields, name: str) -> str:
    uid = fields.get(name)
    if not isinstance(uid, str):
        raise _Fault(name, _missing_or(fields, name, "is not a string"))
    reason = uid_fault(uid)
    if reason:
        raise _Fault(name, reason)
    return uid


def _currency(fields: Fields, unit: Unit) -> tuple[str, int]:
    """The upper-cased code and its scale."""
    currency = fields.get("currency")
    if not isinstance(currency, str):
        raise _Fault("currency", _missing_or(fields, "currency", "is not a string"))
    code = currency.upper() if currency.isascii() else currency
    minor_per_unit = scale(code, unit)
    if minor_per_unit is None:
        raise _Fault("currency", f"{currency[:20]!r} is not an ISO 4217 code with a minor unit")
    return code, minor_per_unit


def _amount(fields: Fields, name: str, minor_per_unit: int) -> int:
    try:
        return parse_amount(fields.get(name), minor_per_unit)
    except InvalidAmount as error:
        raise _Fault(name, _missing_or(fields, name, str(error))) from None


def _missing_or(fields: Fields, name: str, reason: str) -> str:
    return reason if name in fields else "is missing"


def uid_fault(uid: str) -> str | None:
    """Why Firestore would refuse a uid as a map key, or None: apart from that uids are opaque.

    Source: https://firebase.google.com/docs/firestore/quotas (field names).
    """
    if not uid:
        return "is empty"
    if uid[:2] == "__" and uid.endswith("__") and len(uid) >= 4:
        return "has the form __x__, which Firestore reserves"
    # A character takes at most four bytes, and most uids are short.
    if len(uid) > _SHORT_ID and len(uid.encode()) > _MAX_ID_BYTES:
        return f"is longer than {_MAX_ID_BYTES} bytes"
    return None


def is_document_id(value: object) -> TypeGuard[str]:
    """Whether a value can be the id of a document.

    Source: https://firebase.google.com/docs/firestore/quotas (document IDs).
    """
    return isinstance(value, str) and uid_fault(value) is None and "/" not in value and value not in (".", "..")


def members(fields: Fields) -> list[str]:
    """A group's members in the order of the document, each once: from a list of uids, or a map keyed by uid."""
    found = adapter.group(fields).get("members")
    if not isinstance(found, list | Mapping):
        return []
    return list(dict.fromkeys(uid for uid in found if isinstance(uid, str)))
