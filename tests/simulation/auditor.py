"""The independent auditor: what every balance and fault must be, recalculated from the documents as they are stored.

Written from the contract alone, in exact decimals and fractions, it shares no code with the product: neither parsing nor
arithmetic, nor the representation of a balance. It knows the two versions of the rules that a schedule may run.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

EXPONENTS = {"USD": 2, "EUR": 2, "JPY": 0, "KWD": 3}
LATER_EXPONENTS = {**EXPONENTS, "XTS": 2}

Debts = dict[str, dict[tuple[str, str], Decimal]]
"""By currency and (debtor, creditor): what one owes the other by all documents, in both directions, unnetted."""


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

    def decimals(self, currency: str) -> int:
        """How many decimals a number in a document may have."""
        return 0 if self.minor_units else self.exponents[currency]


def value_of(message: Any) -> Any:
    """A protobuf Value as Python; times as (seconds, nanos)."""
    kind = message.WhichOneof("value_type")
    if kind == "map_value":
        return {key: value_of(inner) for key, inner in message.map_value.fields.items()}
    if kind == "array_value":
        return [value_of(inner) for inner in message.array_value.values]
    if kind == "timestamp_value":
        return (message.timestamp_value.seconds, message.timestamp_value.nanos)
    if kind in (None, "null_value"):
        return None
    return getattr(message, kind)


def read(path: str, document: Any, rules: Rules) -> Reading:
    """What the document at this path says."""
    data = {key: value_of(value) for key, value in document.fields.items()}
    if data.get("deletedAt") is not None:
        return Reading()
    segments = path.split("/")
    group = segments[1] if rules.nested else data.get("groupId")
    if not _is_id(group):
        return Reading(fault=Fault(None, frozenset({"groupId"})))
    wrong: set[str] = set()
    currency = data.get("currency")
    currency = currency.upper() if isinstance(currency, str) else None
    if currency not in rules.exponents:
        wrong.add("currency")
    decimals = rules.decimals(currency) if currency in rules.exponents else 0

    def amount(value: object, name: str) -> Decimal:
        number = _number(value)
        if number is None:
            wrong.add(name)
            return Decimal(0)
        rounded = number.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP)
        if rounded.scaleb(decimals) > 10**12:
            wrong.add(name)
        return rounded

    debts = []
    if segments[-2] == "expenses":
        payer = _uid(data, "paidBy", wrong)
        amount(data.get("amount"), "amount")
        splits = data.get("splits")
        if not isinstance(splits, list):
            wrong.add("splits")
            splits = []
        for index, split in enumerate(splits):
            if not isinstance(split, dict):
                wrong.add(f"splits[{index}]")
                continue
            inner: set[str] = set()
            debtor = _uid(split, "uid", inner)
            wrong |= {f"splits[{index}].{name}" for name in inner}
            debts.append((debtor, payer, amount(split.get("amount"), f"splits[{index}].amount")))
    else:
        paid_by, paid_to = _uid(data, "payerId", wrong), _uid(data, "payeeId", wrong)
        debts.append((paid_to, paid_by, amount(data.get("amount"), "amount")))
    if wrong:
        return Reading(fault=Fault(group, frozenset(wrong)))
    assert currency is not None
    return Reading(group, currency, tuple(debts))


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
        return Decimal(value) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value, re.ASCII) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = Decimal(repr(value))
    return number if number.is_finite() and number >= 0 else None


def expected_debts(readings: Iterable[Reading], group: str) -> Debts:
    """Everything that the documents of a group post, unnetted."""
    debts: Debts = {}
    for reading in readings:
        if reading.group == group:
            of_currency = debts.setdefault(reading.currency, {})
            for debtor, creditor, amount in reading.debts:
                of_currency[debtor, creditor] = of_currency.get((debtor, creditor), Decimal(0)) + amount
    return debts


def expected_pairs(debts: Debts) -> dict[tuple[str, str, str], Fraction]:
    """(currency, debtor, creditor) -> amount, each pair in the one direction in which something is owed."""
    pairs = {}
    for currency, of_currency in debts.items():
        for (debtor, creditor), amount in of_currency.items():
            net = Fraction(amount) - Fraction(of_currency.get((creditor, debtor), Decimal(0)))
            if debtor != creditor and net > 0:
                pairs[currency, debtor, creditor] = net
    return pairs


def nets_of(pairs: Mapping[tuple[str, str, str], Fraction]) -> dict[tuple[str, str], Fraction]:
    """(currency, uid) -> net balance, zeros left out."""
    nets: dict[tuple[str, str], Fraction] = {}
    for (currency, debtor, creditor), amount in pairs.items():
        nets[currency, debtor] = nets.get((currency, debtor), Fraction(0)) - amount
        nets[currency, creditor] = nets.get((currency, creditor), Fraction(0)) + amount
    return {key: net for key, net in nets.items() if net}


@dataclass(frozen=True, slots=True)
class StoredBalance:
    """A balance document, judged for itself."""

    version: int
    detail: str
    as_of: tuple[int, int]
    pairs: dict[tuple[str, str, str], Fraction]
    nets: dict[tuple[str, str], Fraction]


_FIELDS = {"groupId", "balancesByCurrency", "simplifiedDebts", "lastUpdatedAt", "version", "asOf", "detail"}
_ROW = {"uid", "owes", "owedBy", "netBalance"}


def check_balance(group: str, document: Any, rules: Rules) -> StoredBalance:
    """A stored balance; raises Discrepancy when it contradicts itself."""
    data = {key: value_of(value) for key, value in document.fields.items()}
    _require(set(data) == _FIELDS, f"its fields are {sorted(data)}")
    _require(data["groupId"] == group, f"its groupId is {data['groupId']!r}")
    _require(data["detail"] in ("pairs", "nets", "none"), f"its detail is {data['detail']!r}")
    owes: dict[tuple[str, str, str], Fraction] = {}
    owed: dict[tuple[str, str, str], Fraction] = {}
    nets: dict[tuple[str, str], Fraction] = {}
    for currency, rows in data["balancesByCurrency"].items():
        _require(bool(rows), f"{currency} is empty")
        for uid, row in rows.items():
            _require(set(row) == _ROW and row["uid"] == uid, f"{currency} {uid}: the row is {row}")
            _require(bool(row["owes"] or row["owedBy"]) == (data["detail"] == "pairs"), f"{currency} {uid}: the row is {row}")
            for other, amount in row["owes"].items():
                owes[currency, uid, other] = _exact(amount, currency, rules)
            for other, amount in row["owedBy"].items():
                owed[currency, other, uid] = _exact(amount, currency, rules)
            nets[currency, uid] = _exact(row["netBalance"], currency, rules)
        _require(sum(net for (of, _), net in nets.items() if of == currency) == 0, f"{currency}: the nets do not sum to zero")
    _require(owes == owed, "owes and owedBy do not mirror each other")
    _require(all(amount > 0 for amount in owes.values()), "a pair is not positive")
    _require(all(debtor != creditor for _, debtor, creditor in owes), "somebody owes to themselves")
    _require(all((currency, b, a) not in owes for currency, a, b in owes), "a pair owes in both directions")
    nonzero = {key: net for key, net in nets.items() if net}
    if data["detail"] == "pairs":
        _require(nets_of(owes) == nonzero, "the net balances are not those of the pairs")
    else:
        _require(nets == nonzero, "a net is zero")
    _check_suggestions(data["simplifiedDebts"], nonzero, rules)
    return StoredBalance(data["version"], data["detail"], data["asOf"], owes, nonzero)


def _check_suggestions(suggestions: list[Any], nets: Mapping[tuple[str, str], Fraction], rules: Rules) -> None:
    """Paying all of them brings everybody to zero, in fewer transfers than people."""
    left = dict(nets)
    for suggestion in suggestions:
        currency, amount = suggestion["currency"], _exact(suggestion["amount"], suggestion["currency"], rules)
        _require(amount > 0, f"a suggestion is {suggestion}")
        for side, sign in (("from", 1), ("to", -1)):
            key = (currency, suggestion[side]["uid"])
            left[key] = left.get(key, Fraction(0)) + sign * amount
    _require(not any(left.values()), "the suggestions do not settle the balance")
    for currency in {currency for currency, _ in nets}:
        most = sum(of == currency for of, _ in nets) - 1
        _require(sum(suggestion["currency"] == currency for suggestion in suggestions) <= most, "too many suggestions")


def _exact(number: object, currency: str, rules: Rules) -> Fraction:
    _require(isinstance(number, int | float) and not isinstance(number, bool), f"{number!r} is no amount")
    exact = Fraction(Decimal(repr(number)))
    _require((exact * 10 ** rules.decimals(currency)).denominator == 1, f"{number!r} {currency} has too many decimals")
    return exact


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Discrepancy(otherwise)


def compare(stored: StoredBalance, readings: Iterable[Reading], group: str) -> None:
    """Raises Discrepancy when a stored balance is not what the documents say, at its level of detail."""
    pairs = expected_pairs(expected_debts(readings, group))
    if stored.detail == "pairs" and stored.pairs != pairs:
        raise Discrepancy(f"stored {_shown(stored.pairs)}, but the documents say {_shown(pairs)}")
    if stored.detail == "nets" and stored.nets != nets_of(pairs):
        raise Discrepancy(f"stored nets {_shown(stored.nets)}, but the documents say {_shown(nets_of(pairs))}")


def _shown(amounts: Mapping[Any, Fraction]) -> str:
    return "{" + ", ".join(f"{' '.join(key)}: {float(amount):g}" for key, amount in sorted(amounts.items())) + "}"
