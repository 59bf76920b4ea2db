"""Amounts of money: from what a document holds to integer minor units, and back.

Inside the code an amount is always an `int` of minor units (1250), by the currency's exponent. Outside it is a Firestore
number in the app's unit: major units (12.5 USD) by default, or minor units (1250). A *scale* is the number of minor units in
one of the app's units: 100 for USD in major units, 1 for any currency in minor units.

A document may hold a share that is no whole number of minor units (a third of 10.00). Such a share is kept exactly, as a
Decimal, until all shares of the document are rounded together: then no cent appears or is lost.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from functools import cached_property
from typing import ClassVar

from balance.core.currencies import EXPONENTS

MAX_AMOUNT_MINOR = 10**14
"""The largest amount that a source document may hold, either way; beyond it lies a typing error, not an expense."""

MAX_TOTAL_MINOR = 10**15
"""The largest total that a balance stores: every float with up to 15 significant digits converts back exactly."""

MAX_EXPONENT = 12
"""Of an app's own currencies; with more decimals the largest amount would be less than 100."""

Amount = int | Decimal
"""In minor units, exactly: an int when it is whole, else a Decimal."""


@dataclass(frozen=True)
class Unit:
    """What a number in the app's documents counts, for each currency that they may name."""

    is_minor: bool = False
    """Minor units (1250), not major ones (12.5)."""
    own: tuple[tuple[str, int], ...] = ()
    """The app's own currencies with their exponents, beside those of ISO 4217."""

    MAJOR: ClassVar["Unit"]
    MINOR: ClassVar["Unit"]

    @cached_property
    def scales(self) -> dict[str, int]:
        """By currency."""
        exponents = {**EXPONENTS, **dict(self.own)}
        return dict.fromkeys(exponents, 1) if self.is_minor else {code: 10**digits for code, digits in exponents.items()}

    def exponent(self, currency: str) -> int | None:
        """How many decimals a major unit of the currency has; None when the currency is unknown."""
        return dict(self.own).get(currency, EXPONENTS.get(currency))

    def __str__(self) -> str:
        """As an operator reads it: "major", or "minor, BTC:8"."""
        return ", ".join(["minor" if self.is_minor else "major", *(f"{code}:{exponent}" for code, exponent in self.own)])


Unit.MAJOR = Unit()
Unit.MINOR = Unit(is_minor=True)


class InvalidAmount(ValueError):
    """A value that is not an amount of money; the message is the reason, readable for an app's developer."""


def scale(currency: str, unit: Unit) -> int | None:
    """The number of minor units in one of the app's units, or None when the currency (upper case) is unknown."""
    return unit.scales.get(currency)


def parse_amount(value: object, scale: int) -> int:
    """The amount in minor units, rounded half away from zero; raises InvalidAmount, as `exact_amount` does."""
    return rounded(exact_amount(value, scale))


def exact_amount(value: object, scale: int) -> Amount:
    """The amount in minor units, as exactly as the document has it.

    Accepts an int, a finite float (meaning its shortest decimal, as `repr` prints it) or a plain decimal string. Raises
    InvalidAmount for anything else, and beyond MAX_AMOUNT_MINOR either way.
    """
    kind = type(value)
    if kind is int:
        amount: Amount = value * scale  # type: ignore[operator]
    elif kind is float:
        if not -MAX_AMOUNT_MINOR <= value <= MAX_AMOUNT_MINOR:  # type: ignore[operator]
            raise InvalidAmount(_reason(value))
        amount = round(value * scale)  # type: ignore[operator]
        if amount / scale != value:  # Up to 15 digits no two decimals share a float; what is equal *is* that decimal.
            amount = _scaled(repr(value), scale)
    elif kind is str:
        if _PLAIN_DECIMAL.fullmatch(value) is None:  # type: ignore[call-overload]
            raise InvalidAmount("is a string, but not a plain decimal number, with a point if need be")
        amount = _scaled(value, scale)  # type: ignore[arg-type]
    else:
        raise InvalidAmount(_reason(value))
    if not -MAX_AMOUNT_MINOR <= amount <= MAX_AMOUNT_MINOR:
        raise InvalidAmount(_TOO_LARGE)
    return amount


_PLAIN_DECIMAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""Sums and differences of any length, never rounded; what is rounded is rounded by name."""


def _scaled(decimal: str, scale: int) -> Amount:
    amount = Decimal(decimal).scaleb(len(str(scale)) - 1, context=_EXACT)
    # A number of a million digits is too large, and nothing else need be known of it.
    if amount.adjusted() < 40 and amount == (whole := amount.to_integral_value(ROUND_FLOOR)):
        return int(whole)
    return amount


def rounded(amount: Amount) -> int:
    """The nearest integer; halves away from zero."""
    return int(amount.to_integral_value(ROUND_HALF_UP)) if isinstance(amount, Decimal) else amount


def rounded_together(amounts: Sequence[Amount], uids: Sequence[str]) -> list[int]:
    """The shares of one document in whole minor units, so that they add up to their rounded sum.

    Each share is rounded down (towards minus infinity). What is left goes, one unit each, to the largest remainders, ties in
    the order of the uids, then of the list. A whole share stays as it is: there are at least as many others as units left.
    """
    floors = [int(amount.to_integral_value(ROUND_FLOOR)) if isinstance(amount, Decimal) else amount for amount in amounts]
    remainders = {
        index: _EXACT.subtract(amount, floor)
        for index, (amount, floor) in enumerate(zip(amounts, floors, strict=True))
        if isinstance(amount, Decimal)
    }
    total = Decimal(sum(floors))
    for remainder in remainders.values():
        total = _EXACT.add(total, remainder)
    left_over = rounded(total) - sum(floors)
    largest_first = sorted(remainders, key=lambda index: (remainders[index].copy_negate(), uids[index], index))
    for index in largest_first[:left_over]:
        floors[index] += 1
    return floors


_TOO_LARGE = "is more than 10^14 minor units"


def _reason(value: object) -> str:
    match value:
        case None:
            return "is null, not a number"
        case bool():
            return "is a boolean, not a number"
        case float() if value != value:
            return "is NaN"
        case float() if value in (float("inf"), float("-inf")):
            return "is infinite"
        case int() | float():
            return _TOO_LARGE
        case _:
            return f"is a {type(value).__name__}, not a number"


def to_stored(amount_minor: int, scale: int) -> int | float:
    """The number that a document holds for an amount of at most MAX_TOTAL_MINOR; `from_stored` is its exact inverse."""
    whole, rest = divmod(amount_minor, scale)
    return whole if rest == 0 else amount_minor / scale


def from_stored(number: object, scale: int) -> int:
    """The integer that `to_stored` wrote as this number; raises InvalidAmount for a number that it never writes."""
    if type(number) is int:
        amount_minor = number * scale
    elif type(number) is float and abs(number) <= MAX_TOTAL_MINOR:
        amount_minor = round(number * scale)
        if amount_minor / scale != number:
            raise InvalidAmount("has more decimals than its currency")
    else:
        raise InvalidAmount("is not a stored amount")
    if abs(amount_minor) > MAX_TOTAL_MINOR:
        raise InvalidAmount("is more than 10^15 minor units")
    return amount_minor
