"""Source documents: what an app's expense, settlement or group says, or why it cannot be understood.

Parsing is total: whatever Firestore can hold yields a Transaction or a Malformed, never an exception.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple, TypeGuard

from balance import adapter
from balance.core.ledger import Posting
from balance.core.matching import match_nets
from balance.core.money import (
    MAX_AMOUNT_MINOR,
    Amount,
    InvalidAmount,
    Unit,
    exact_amount,
    rounded,
    rounded_together,
    scale,
    to_stored,
)
from balance.database.firestore import Fields

MAX_SPLITS = 1_000
"""Of an expense; and so many payers."""
_MAX_ID_BYTES = 1_500
_SHORT_ID = _MAX_ID_BYTES // 4
_MAX_REASON = 200


class Kind(StrEnum):
    """The kinds of source document. docs/adding-a-kind.md says what a further one needs."""

    collections: str
    """Its collection's name by default, and the name of the layout's field."""

    EXPENSE = "expense", "expenses"
    SETTLEMENT = "settlement", "settlements"

    def __new__(cls, name: str, collections: str) -> "Kind":
        """A member, by what one document is called and what many are."""
        kind = str.__new__(cls, name)
        kind._value_ = name
        kind.collections = collections
        return kind

    @property
    def parameter(self) -> str:
        """The parameter that names its collection."""
        return f"{self.collections.upper()}_COLLECTION"

    @property
    def function(self) -> str:
        """The function in main.py and functions.yaml that its writes trigger."""
        return f"on_{self.value}_written"


class Transaction(NamedTuple):
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
"""What an absent document posts."""
DELETED: Final = Transaction(group_id=None)
IGNORED: Final = Transaction(group_id=None)
"""The adapter says that a document is not ours. Equal to the other two; told apart by identity, for what is counted."""


class _Fault(Exception):
    def __init__(self, field: str, reason: str) -> None:
        self.field, self.reason = field, reason


def parse(kind: Kind | None, fields: Fields | None, unit: Unit, group_in_path: str | None = None) -> Parsed:
    """What a source document posts.

    `kind` is None for a document in none of the app's collections: it posts nothing. `fields` is None for a document that does
    not exist. `group_in_path` is the group in whose subcollection the document lies, for apps with that layout; its `groupId`
    field is then not looked at.
    """
    if fields is None or kind is None:
        return NOTHING
    try:
        renamed = read(kind, fields)
    except AdapterFailed as error:
        named = fields.get(adapter.GROUP_ID_FIELD) if group_in_path is None else group_in_path
        return Malformed("adapter", str(error), named if is_document_id(named) else None)
    if renamed is None:
        return IGNORED
    deleted = is_deleted(renamed)
    if deleted:
        return DELETED
    group_id = renamed.get("groupId") if group_in_path is None else group_in_path
    if deleted is None:
        reason = "is neither a time nor true, false or null"
        return Malformed("deletedAt", reason, group_id if is_document_id(group_id) else None)
    if not is_document_id(group_id):
        return Malformed("groupId", _missing_or(renamed, "groupId", "is not a document id"), None)
    try:
        return _READERS[kind](group_id, renamed, unit)
    except _Fault as fault:
        return Malformed(fault.field, fault.reason, group_id)


class AdapterFailed(Exception):
    """The app's adapter could not read a document, or lacks something; the message says why."""


_IN_ADAPTER: Final = (*Kind, "group", "GROUP_ID_FIELD", "MEMBERS_FIELD", "DELETED_FIELD")


def check_adapter() -> None:
    """Refuse an adapter that lacks a name: when it is loaded, not when the first request needs it. Raises AdapterFailed."""
    missing = [str(name) for name in _IN_ADAPTER if not hasattr(adapter, name)]
    if missing:
        raise AdapterFailed(f"lacks {', '.join(missing)}: the balance/adapter.py of this version shows what it must define")


def read(kind: Kind, fields: Fields) -> Fields | None:
    """A document under the contract's field names; None when the adapter says that it is not ours. Raises AdapterFailed."""
    return _adapted(getattr(adapter, kind), fields)


def group(fields: Fields) -> Fields:
    """A group under the contract's field names. Raises AdapterFailed."""
    renamed = _adapted(adapter.group, fields)
    if renamed is None:
        raise AdapterFailed("group returned None, not a map of fields")
    return renamed


def _adapted(rename: Callable[[Fields], Fields | None], fields: Fields) -> Fields | None:
    try:
        renamed = rename(fields)
    except Exception as error:
        raise AdapterFailed(f"{type(error).__name__} {error}"[:_MAX_REASON]) from error
    # Nearly always a dict, of which it is known at once that it is a mapping.
    if type(renamed) is not dict and renamed is not None and not isinstance(renamed, Mapping):
        raise AdapterFailed(f"returned a {type(renamed).__name__}, not a map of fields")
    return renamed


def is_deleted(fields: Fields) -> bool | None:
    """Whether a document (an expense, a settlement, a group), under the contract's field names, says that it is deleted.

    None when its `deletedAt` says neither: a source document is malformed then.
    """
    deleted_at = fields.get("deletedAt")
    if deleted_at is None or deleted_at is False:
        return False
    return True if deleted_at is True or isinstance(deleted_at, datetime) else None


def _expense(group_id: str, fields: Fields, unit: Unit) -> Transaction:
    return _plain_expense(group_id, fields, unit) or _any_expense(group_id, fields, unit)


def _plain_expense(group_id: str, fields: Fields, unit: Unit) -> Transaction | None:
    """What nearly every expense posts; None for one that must be looked at more closely, or has a fault.

    With one payer, and shares that are whole and not negative, only the payer's net is above zero: the matching comes to what
    each share says. Most of a recalculation's time is spent here, so nothing is asked but whether all is like that.
    """
    payer, currency, splits = fields.get("paidBy"), fields.get("currency"), fields.get("splits")
    if type(payer) is not str or type(currency) is not str or type(splits) is not list or len(splits) > MAX_SPLITS:
        return None
    code = currency.upper() if currency.isascii() else currency
    minor_per_unit = scale(code, unit)
    if minor_per_unit is None or not 0 < len(payer) <= _SHORT_ID or payer[0] == "_":
        return None
    postings = []
    total_minor = 0
    try:
        amount = fields["amount"]
        kind = type(amount)
        if kind is not float and kind is not int:
            return None
        amount_minor = round(amount * minor_per_unit)
        # Up to 15 digits no two decimals share a float: when the integer converts back, it is what the document says.
        if amount_minor / minor_per_unit != amount or not -MAX_AMOUNT_MINOR <= amount_minor <= MAX_AMOUNT_MINOR:
            return None
        for split in splits:
            uid, amount = split["uid"], split["amount"]
            kind = type(amount)
            if kind is not float and kind is not int:
                return None
            share_minor = round(amount * minor_per_unit)
            if share_minor / minor_per_unit != amount or not 0 <= share_minor <= MAX_AMOUNT_MINOR:
                return None
            if type(uid) is not str or not 0 < len(uid) <= _SHORT_ID or uid[0] == "_":
                return None
            total_minor += share_minor
            if share_minor and uid != payer:
                postings.append(_new(Posting, (uid, payer, code, share_minor)))
    except (TypeError, KeyError, ValueError, OverflowError):  # no maps, no such fields, NaN, infinity
        return None
    return Transaction(group_id, tuple(postings), bool(splits) and total_minor != amount_minor)


def _any_expense(group_id: str, fields: Fields, unit: Unit) -> Transaction:
    paid_by = fields.get("paidBy")
    if "paidBy" in fields and not isinstance(paid_by, str | list):
        raise _Fault("paidBy", "is neither a string nor a list")
    payer = None if isinstance(paid_by, list) else _uid(fields, "paidBy")
    currency, minor_per_unit = _currency(fields, unit)
    amount_minor = _amount(fields, "amount", minor_per_unit)
    uids, shares = _shares(fields, "splits", minor_per_unit)
    payers, paid = ([payer], [sum(shares)]) if payer is not None else _shares(fields, "paidBy", minor_per_unit)
    if not shares:
        return Transaction(group_id)
    if sum(paid) != sum(shares):
        sums = [to_stored(sum(amounts), minor_per_unit) for amounts in (paid, shares)]
        raise _Fault("paidBy", f"adds up to {sums[0]}, but the splits to {sums[1]}")
    nets = dict.fromkeys([*payers, *uids], 0)
    for uid, paid_minor in zip(payers, paid, strict=True):
        nets[uid] += paid_minor
    for uid, share_minor in zip(uids, shares, strict=True):
        nets[uid] -= share_minor
    owed = [Posting(debtor, creditor, currency, owed_minor) for debtor, creditor, owed_minor in match_nets(nets)]
    return Transaction(group_id, tuple(owed), sum(shares) != amount_minor)


_new = tuple.__new__  # a third of the time of calling Posting


def _shares(fields: Fields, name: str, minor_per_unit: int) -> tuple[list[str], list[int]]:
    """The uids and amounts of a list of `{uid, amount}`, rounded together."""
    entries = fields.get(name)
    if not isinstance(entries, list):
        raise _Fault(name, _missing_or(fields, name, "is not a list"))
    if len(entries) > MAX_SPLITS:
        raise _Fault(name, f"has {len(entries)} entries, more than {MAX_SPLITS}")
    uids: list[str] = []
    amounts: list[Amount] = []
    for index, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise _Fault(f"{name}[{index}]", "is not a map")
        try:
            uids.append(_uid(entry, "uid"))
            amounts.append(_exact_amount(entry, "amount", minor_per_unit))
        except _Fault as fault:
            raise _Fault(f"{name}[{index}].{fault.field}", fault.reason) from None
    return uids, rounded_together(amounts, uids)


def _settlement(group_id: str, fields: Fields, unit: Unit) -> Transaction:
    payer, payee = _uid(fields, "payerId"), _uid(fields, "payeeId")
    currency, minor_per_unit = _currency(fields, unit)
    amount = _exact_amount(fields, "amount", minor_per_unit)
    if amount < 0:
        raise _Fault("amount", "is negative, which only an expense's may be")
    amount_minor = rounded(amount)
    if payer == payee or not amount_minor:
        return Transaction(group_id)
    # Paying somebody is the reverse of owing them: the payee now owes the payer that much more.
    return Transaction(group_id, (Posting(debtor=payee, creditor=payer, currency=currency, amount_minor=amount_minor),))


_READERS: Final[dict[Kind, Callable[[str, Fields, Unit], Transaction]]] = {
    Kind.EXPENSE: _expense,
    Kind.SETTLEMENT: _settlement,
}


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
        raise _Fault("currency", f"{currency[:20]!r} is not an ISO 4217 code with a minor unit, nor one of CURRENCIES")
    return code, minor_per_unit


def _amount(fields: Fields, name: str, minor_per_unit: int) -> int:
    return rounded(_exact_amount(fields, name, minor_per_unit))


def _exact_amount(fields: Fields, name: str, minor_per_unit: int) -> Amount:
    try:
        return exact_amount(fields.get(name), minor_per_unit)
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
    """A group's members in the order of the document, each once: from a list of uids, or a map keyed by uid.

    Raises AdapterFailed.
    """
    found = group(fields).get("members")
    if not isinstance(found, list | Mapping):
        return []
    return list(dict.fromkeys(uid for uid in found if isinstance(uid, str)))
