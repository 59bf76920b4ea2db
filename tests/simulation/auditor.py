"""The independent auditor: what every balance and fault must be, recalculated from the documents as they are stored.

Written from the contract alone, in exact decimals, it shares no code with the product: neither parsing nor
arithmetic, nor the representation of a balance. It knows the two versions of the rules that a schedule may run.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import Any

EXPONENTS = {"USD": 2, "EUR": 2, "JPY": 0, "KWD": 3}
LATER_EXPONENTS = {**EXPONENTS, "XTS": 2}
_UNITS = [Decimal(1).scaleb(-decimals) for decimals in range(4)]

Debts = dict[str, dict[tuple[str, str], Decimal]]
"""By currency and (debtor, creditor): what one owes the other by all documents, in both directions, unnetted."""

Pairs = dict[tuple[str, str, str], Decimal]
"""By currency, debtor and creditor, in the one direction in which something is owed."""

Nets = dict[tuple[str, str], Decimal]
"""By currency and uid."""


class Discrepancy(AssertionError):
    """Something that must never be, or not at rest."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A document that cannot be understood."""

    group: str | None
    fields: frozenset[str]
    """Any of which may be named."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one stored document says."""

    group: str | None = None
    currency: str = ""
    debts: tuple[tuple[str, str, Decimal], ...] = ()
    """(debtor, creditor, amount)"""
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """How documents are to be understood."""

    exponents: Mapping[str, int]
    minor_units: bool = False
    nested: bool = False

    def decimals(self, currency: str | None) -> int | None:
        """How many decimals a number in a document may have; None for an unknown currency."""
        exponent = self.exponents.get(currency or "")
        return 0 if self.minor_units and exponent is not None else exponent


def read(path: str, data: Mapping[str, Any], rules: Rules) -> Reading:
    """What the document at this path says; `data` are its fields."""
    segments = path.split("/")
    group = segments[1] if rules.nested else data.get("groupId")
    deleted_at = data.get("deletedAt")
    if deleted_at is True or isinstance(deleted_at, datetime):
        return Reading()
    if deleted_at is not None and deleted_at is not False:
        return Reading(fault=Fault(group if _is_id(group) else None, frozenset({"deletedAt"})))
    if not _is_id(group):
        return Reading(fault=Fault(None, frozenset({"groupId"})))
    wrong: set[str] = set()
    currency = data.get("currency")
    currency = currency.upper() if isinstance(currency, str) else None
    decimals = rules.decimals(currency)
    if decimals is None:
        wrong.add("currency")
    unit = _UNITS[decimals or 0]

    def amount(value: object, name: str) -> Decimal:
        number = _number(value)
        if number is None or abs(number) > 10**14 * unit:
            wrong.add(name)
            return Decimal(0)
        return number

    def shares(name: str) -> list[tuple[str, Decimal]]:
        found = []
        entries = data.get(name)
        if not isinstance(entries, list):
            wrong.add(name)
            return []
        for index, entry in enumerate(entries):
            if not isinstance(entry, dict):
                wrong.add(f"{name}[{index}]")
                continue
            inner: set[str] = set()
            uid = _uid(entry, "uid", inner)
            wrong.update(f"{name}[{index}].{field}" for field in inner)
            found.append((uid, amount(entry.get("amount"), f"{name}[{index}].amount")))
        return _rounded_together(found, unit)

    debts: list[tuple[str, str, Decimal]] = []
    whole = amount(data.get("amount"), "amount")
    if segments[-2] == "expenses":
        splits = shares("splits")
        if isinstance(data.get("paidBy"), list):
            paid = shares("paidBy")
        else:
            paid = [(_uid(data, "paidBy", wrong), sum((share for _, share in splits), Decimal(0)))]
        if splits:
            nets: dict[str, Decimal] = {}
            for uid, share in [*paid, *((uid, -share) for uid, share in splits)]:
                nets[uid] = nets.get(uid, Decimal(0)) + share
            if sum(nets.values(), Decimal(0)):
                wrong.add("paidBy")
            else:
                debts = _matched(nets)
    else:
        paid_by, paid_to = _uid(data, "payerId", wrong), _uid(data, "payeeId", wrong)
        if whole < 0:
            wrong.add("amount")
        debts.append((paid_to, paid_by, whole.quantize(unit, rounding=ROUND_HALF_UP)))
    if wrong:
        return Reading(fault=Fault(group, frozenset(wrong)))
    assert currency is not None
    return Reading(group, currency, tuple(debts))


def _rounded_together(shares: list[tuple[str, Decimal]], unit: Decimal) -> list[tuple[str, Decimal]]:
    """Each rounded down; then those that lost most get a unit more, until the sum is the rounded sum of all."""
    missing = sum((share for _, share in shares), Decimal(0)).quantize(unit, rounding=ROUND_HALF_UP)
    rounded = []
    for _, share in shares:
        rounded.append(share.quantize(unit, rounding=ROUND_FLOOR))
        missing -= rounded[-1]
    for _, _, index in sorted((rounded[index] - share, uid, index) for index, (uid, share) in enumerate(shares)):
        if missing > 0:
            rounded[index] += unit
            missing -= unit
    return [(uid, share) for (uid, _), share in zip(shares, rounded, strict=True)]


def _matched(nets: dict[str, Decimal]) -> list[tuple[str, str, Decimal]]:
    """The first debtor pays the first creditor what both allow, until nobody owes anything."""
    left, debts = dict(nets), []
    while any(left.values()):
        debtor = min(uid for uid, net in left.items() if net < 0)
        creditor = min(uid for uid, net in left.items() if net > 0)
        paid = min(-left[debtor], left[creditor])
        left[debtor] += paid
        left[creditor] -= paid
        debts.append((debtor, creditor, paid))
    return debts


def _is_id(value: object) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and "/" not in value


def _uid(data: Mapping[str, Any], name: str, wrong: set[str]) -> str:
    uid = data.get(name)
    if not isinstance(uid, str) or not uid:
        wrong.add(name)
        return ""
    return uid


def _number(value: object) -> Decimal | None:
    if isinstance(value, str):
        return Decimal(value) if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value, re.ASCII) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = Decimal(repr(value))
    return number if number.is_finite() else None


def expected_debts(readings: Iterable[Reading], group: str) -> Debts:
    """Everything that the documents of a group post, unnetted."""
    debts: Debts = {}
    for reading in readings:
        if reading.group == group:
            of_currency = debts.setdefault(reading.currency, {})
            for debtor, creditor, amount in reading.debts:
                of_currency[debtor, creditor] = of_currency.get((debtor, creditor), Decimal(0)) + amount
    return debts


def expected_pairs(debts: Debts) -> Pairs:
    """What each pair owes, netted."""
    pairs: Pairs = {}
    for currency, of_currency in debts.items():
        for (debtor, creditor), amount in of_currency.items():
            net = amount - of_currency.get((creditor, debtor), Decimal(0))
            if debtor != creditor and net > 0:
                pairs[currency, debtor, creditor] = net
    return pairs


def nets_of(pairs: Pairs) -> Nets:
    """(currency, uid) -> net balance, zeros left out."""
    nets: Nets = {}
    for (currency, debtor, creditor), amount in pairs.items():
        nets[currency, debtor] = nets.get((currency, debtor), Decimal(0)) - amount
        nets[currency, creditor] = nets.get((currency, creditor), Decimal(0)) + amount
    return {key: net for key, net in nets.items() if net}


@dataclass(frozen=True, slots=True)
class StoredBalance:
    """A balance document, judged for itself."""

    version: int
    detail: str
    as_of: datetime
    pairs: Pairs
    nets: Nets
    incarnation: datetime
    faults: int


_FIELDS = {
    *("groupId", "balancesByCurrency", "simplifiedDebts", "lastUpdatedAt", "version", "rules", "asOf", "incarnation"),
    *("faults", "detail"),
}
_ROW = {"uid", "owes", "owedBy", "netBalance"}


def check_balance(group: str, data: Mapping[str, Any], rules: Rules) -> StoredBalance:
    """A stored balance, given its fields; raises Discrepancy when it contradicts itself."""
    if set(data) != _FIELDS:
        raise Discrepancy(f"its fields are {sorted(data)}")
    if data["groupId"] != group or data["detail"] not in ("pairs", "nets", "none"):
        raise Discrepancy(f"its groupId is {data['groupId']!r}, its detail {data['detail']!r}")
    has_pairs = data["detail"] == "pairs"
    owes: Pairs = {}
    owed: Pairs = {}
    nets: Nets = {}
    for currency, rows in data["balancesByCurrency"].items():
        of_currency: list[Decimal] = []
        for uid, row in rows.items():
            if set(row) != _ROW or row["uid"] != uid or bool(row["owes"] or row["owedBy"]) != has_pairs:
                raise Discrepancy(f"{currency} {uid}: the row is {row}")
            for other, amount in row["owes"].items():
                owes[currency, uid, other] = _exact(amount, currency, rules)
            for other, amount in row["owedBy"].items():
                owed[currency, other, uid] = _exact(amount, currency, rules)
            nets[currency, uid] = net = _exact(row["netBalance"], currency, rules)
            of_currency.append(net)
        if not rows or sum(of_currency, Decimal(0)):
            raise Discrepancy(f"{currency}: the nets do not sum to zero, or are none")
    if owes != owed:
        raise Discrepancy("owes and owedBy do not mirror each other")
    for (currency, debtor, creditor), amount in owes.items():
        if amount <= 0 or debtor == creditor:
            raise Discrepancy(f"{debtor} owes {creditor} {amount} {currency}")
        if (currency, creditor, debtor) in owes:
            raise Discrepancy(f"{debtor} and {creditor} owe each other, in both directions")
    nonzero = {key: net for key, net in nets.items() if net}
    if (nets_of(owes) if has_pairs else nets) != nonzero:
        raise Discrepancy("the net balances are not those of the pairs, or zero")
    _check_suggestions(data["simplifiedDebts"], nonzero, rules)
    if type(data["faults"]) is not int or data["faults"] < 0:
        raise Discrepancy(f"its count of faults is {data['faults']!r}")
    return StoredBalance(data["version"], data["detail"], data["asOf"], owes, nonzero, data["incarnation"], data["faults"])


def _check_suggestions(suggestions: list[Any], nets: Nets, rules: Rules) -> None:
    """Paying all of them brings everybody to zero, in fewer transfers than people."""
    left = dict(nets)
    transfers: dict[str, int] = {}
    for suggestion in suggestions:
        currency = suggestion["currency"]
        amount = _exact(suggestion["amount"], currency, rules)
        if amount <= 0:
            raise Discrepancy(f"a suggestion is {suggestion}")
        for side, sign in (("from", 1), ("to", -1)):
            key = (currency, suggestion[side]["uid"])
            left[key] = left.get(key, Decimal(0)) + sign * amount
        transfers[currency] = transfers.get(currency, 0) + 1
    if any(left.values()):
        raise Discrepancy("the suggestions do not settle the balance")
    for currency, count in transfers.items():
        if count > sum(of == currency for of, _ in nets) - 1:
            raise Discrepancy(f"{currency}: too many suggestions")


def _exact(number: object, currency: str, rules: Rules) -> Decimal:
    decimals = rules.decimals(currency)
    if decimals is None:
        raise Discrepancy(f"{currency} is no currency")
    if type(number) is int:
        return Decimal(number)
    if type(number) is not float:
        raise Discrepancy(f"{number!r} is no amount")
    exact = Decimal(repr(number)).normalize()
    if -exact.as_tuple().exponent > decimals:  # type: ignore[operator]
        raise Discrepancy(f"{number!r} {currency} has too many decimals")
    return exact


def compare(stored: StoredBalance, readings: Collection[Reading], group: str, *, with_faults: bool = True) -> None:
    """Raises Discrepancy when a stored balance is not what the documents say, at its level of detail."""
    faults = sum(reading.fault is not None and reading.fault.group == group for reading in readings)
    if with_faults and stored.faults != faults:
        raise Discrepancy(f"it counts {stored.faults} faults, but {faults} documents cannot be understood")
    pairs = expected_pairs(expected_debts(readings, group))
    if stored.detail == "pairs" and stored.pairs != pairs:
        raise Discrepancy(f"stored {_shown(stored.pairs)}, but the documents say {_shown(pairs)}")
    if stored.detail == "nets" and stored.nets != nets_of(pairs):
        raise Discrepancy(f"stored nets {_shown(stored.nets)}, but the documents say {_shown(nets_of(pairs))}")


def _shown(amounts: Pairs | Nets) -> str:
    return "{" + ", ".join(f"{' '.join(key)}: {float(amount):g}" for key, amount in sorted(amounts.items())) + "}"
