"""Amounts of money: from what a document holds to integer minor units, and back.

Inside the code an amount is always an `int` of minor units (1250), by the currency's ISO 4217 exponent. Outside it is a
Firestore number in the app's unit: major units (12.5 USD) by default, or minor units (1250). A *scale* is the number of
minor units in one of the app's units: 100 for USD in major units, 1 for any currency in minor units.
"""

import re
from decimal import Decimal
from enum import StrEnum

from balance.core.currencies import EXPONENTS

MAX_AMOUNT_MINOR = 10**12
"""The largest amount that a source document may hold; beyond it lies a typing error, not an expense."""

MAX_TOTAL_MINOR = 10**15
"""The largest total that a balance stores: every float with up to 15 significant digits converts back exactly."""


class Unit(StrEnum):
    """What a number in the app's documents counts."""

    MAJOR = "major"
    MINOR = "minor"


class InvalidAmount(ValueError):
    """A value that is not an amount of money; the message is the reason, readable for an app's developer."""


def scale(currency: str, unit: Unit = Unit.MAJOR) -> int | None:
    """The number of minor units in one of the app's units, or None when the currency (upper case) is unknown."""
    minor_per_major = _MINOR_PER_MAJOR.get(currency)
    return minor_per_major if unit is Unit.MAJOR or minor_per_major is None else 1


_MINOR_PER_MAJOR = {currency: 10**exponent for currency, exponent in EXPONENTS.items()}


def parse_amount(value: object, scale: int) -> int:
    """The amount in minor units, rounded half up to the minor unit.

    Accepts a non-negative int, a finite float (meaning its shortest decimal, as `repr` prints it) or a plain decimal string.
    Raises InvalidAmount for anything else, and above MAX_AMOUNT_MINOR.
    """
    kind = type(value)
    if kind is int:
        amount_minor: int = value * scale  # type: ignore[operator]
        if 0 <= amount_minor <= MAX_AMOUNT_MINOR:
            return amount_minor
    elif kind is float:
        # The comparison is false for NaN too, and true for what rounds down to the maximum. Up to 15 digits no two decimals
        # share a float, so a float that the integer converts back to *is* that decimal; anything finer goes the long way round.
        if 0.0 <= value < MAX_AMOUNT_MINOR + 1:  # type: ignore[operator]
            amount_minor = int(value * scale + 0.5)  # type: ignore[operator]
            if amount_minor / scale == value and amount_minor <= MAX_AMOUNT_MINOR:
                return amount_minor
            return _parse_decimal(format(Decimal(repr(value)), "f"), scale)
    elif kind is str:
        return _parse_decimal(value, scale)  # type: ignore[arg-type]
    raise InvalidAmount(_reason(value))


_PLAIN_DECIMAL = re.compile(r"([0-9]+)(?:\.([0-9]+))?")


def _parse_decimal(text: str, scale: int) -> int:
    """Half up needs only the first digit that is dropped, so the digits themselves are exact at any length."""
    found = _PLAIN_DECIMAL.fullmatch(text)
    if found is None:
        raise InvalidAmount("is a string, but not a plain decimal such as 12.50")
    whole, fraction = found[1].lstrip("0"), found[2] or ""
    if len(whole) > len(str(MAX_AMOUNT_MINOR)):
        raise InvalidAmount(_TOO_LARGE)
    exponent = len(str(scale)) - 1
    kept, dropped = fraction[:exponent].ljust(exponent, "0"), fraction[exponent : exponent + 1]
    amount_minor = int("0" + whole + kept) + (dropped >= "5")
    if amount_minor > MAX_AMOUNT_MINOR:
        raise InvalidAmount(_TOO_LARGE)
    return amount_minor


_TOO_LARGE = "is more than 10^12 minor units"


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
            return "is negative" if value < 0 else _TOO_LARGE
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
