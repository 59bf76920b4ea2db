"""Amounts by example: what counts as one, how it is rounded, what is said of one that does not."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from balance.core.money import (
    MAX_AMOUNT_MINOR,
    InvalidAmount,
    Unit,
    exact_amount,
    from_stored,
    parse_amount,
    rounded_together,
    scale,
    to_stored,
)

YEN, DOLLAR, DINAR, FUND_UNIT = 1, 100, 1_000, 10_000
NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("currency", "unit", "expected"),
    [
        ("JPY", Unit.MAJOR, 1),
        ("USD", Unit.MAJOR, 100),
        ("KWD", Unit.MAJOR, 1_000),
        ("CLF", Unit.MAJOR, 10_000),
        ("KWD", Unit.MINOR, 1),
        ("USD", Unit.MINOR, 1),
        ("JPY", Unit.MINOR, 1),
    ],
)
def test_the_scale_counts_minor_units_in_one_of_the_apps_units(currency: str, unit: Unit, expected: int) -> None:
    assert scale(currency, unit) == expected


@pytest.mark.parametrize("currency", ["XAU", "XXX", "XTS", "usd", "", "US", "USDD", "ÜSD"])
@pytest.mark.parametrize("unit", [Unit.MAJOR, Unit.MINOR])
def test_an_unknown_currency_has_no_scale(currency: str, unit: Unit) -> None:
    assert scale(currency, unit) is None


def test_an_app_may_have_currencies_of_its_own() -> None:
    unit = Unit(own=(("BTC", 8), ("POINTS", 0)))
    assert [scale(currency, unit) for currency in ("BTC", "POINTS", "USD", "XAU")] == [10**8, 1, 100, None]
    assert [unit.exponent(currency) for currency in ("BTC", "POINTS", "USD", "XAU")] == [8, 0, 2, None]
    in_minor_units = Unit(is_minor=True, own=(("BTC", 8),))
    assert scale("BTC", in_minor_units) == 1
    assert in_minor_units.exponent("BTC") == 8
    assert (str(Unit.MAJOR), str(in_minor_units)) == ("major", "minor, BTC:8")


@pytest.mark.parametrize(
    ("value", "minor_per_unit", "expected"),
    [
        (12, DOLLAR, 1_200),
        (0, DOLLAR, 0),
        (12, YEN, 12),
        (12.5, DOLLAR, 1_250),
        (-0.0, DOLLAR, 0),
        (12.345, DINAR, 12_345),
        (4.115, DINAR, 4_115),
        (1.2345, FUND_UNIT, 12_345),
        (0.1 + 0.2, DOLLAR, 30),
        ("12.5", DOLLAR, 1_250),
        ("012.50", DOLLAR, 1_250),
        ("12", DOLLAR, 1_200),
        ("12.3456789", DOLLAR, 1_235),
        ("0", YEN, 0),
        # Half away from zero, of the decimal as written: of the binary fraction some of these would be cut off.
        (1.005, DOLLAR, 101),
        (2.675, DOLLAR, 268),
        (1.115, DOLLAR, 112),
        (0.5, YEN, 1),
        (1.5, YEN, 2),
        (2.5, YEN, 3),
        (0.0005, DINAR, 1),
        (1.00049999, DINAR, 1_000),
        ("1.005", DOLLAR, 101),
        ("1.00499999999999999999999999", DOLLAR, 100),
        (5e-324, DOLLAR, 0),
        (4.9e-3, DOLLAR, 0),
        (5e-3, DOLLAR, 1),
        (1e12, DOLLAR, MAX_AMOUNT_MINOR),
        (10**14, YEN, MAX_AMOUNT_MINOR),
        ("99999999999999.5", YEN, MAX_AMOUNT_MINOR),
        (999_999_999_999.995, DOLLAR, MAX_AMOUNT_MINOR),
        (-1e12, DOLLAR, -MAX_AMOUNT_MINOR),
        (-12, DOLLAR, -1_200),
        (-12.5, DOLLAR, -1_250),
        ("-12.50", DOLLAR, -1_250),
        ("-0", DOLLAR, 0),
        # Halves go away from zero on both sides.
        (-1.005, DOLLAR, -101),
        (-0.5, YEN, -1),
        (-2.5, YEN, -3),
        ("-1.0049999999999", DOLLAR, -100),
    ],
)
def test_an_amount_is_its_shortest_decimal_rounded_half_away_from_zero(
    value: object, minor_per_unit: int, expected: int
) -> None:
    amount_minor = parse_amount(value, minor_per_unit)
    assert amount_minor == expected
    assert type(amount_minor) is int


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "is null, not a number"),
        (True, "is a boolean, not a number"),
        (False, "is a boolean, not a number"),
        (NAN, "is NaN"),
        (INFINITY, "is infinite"),
        (-INFINITY, "is infinite"),
        (-(10**30), "is more than 10^14 minor units"),
        (-(10**12) - 1, "is more than 10^14 minor units"),
        ("-1000000000000.005", "is more than 10^14 minor units"),
        (10**12 + 1, "is more than 10^14 minor units"),
        (2**63 - 1, "is more than 10^14 minor units"),
        (1_000_000_000_000.01, "is more than 10^14 minor units"),
        (1.7e308, "is more than 10^14 minor units"),
        ("1000000000000.005", "is more than 10^14 minor units"),
        ("9" * 400, "is more than 10^14 minor units"),
        ([1], "is a list, not a number"),
        (b"12", "is a bytes, not a number"),
        (Decimal("12.5"), "is a Decimal, not a number"),
        (datetime(2026, 1, 1, tzinfo=UTC), "is a datetime, not a number"),
    ],
)
def test_what_is_no_amount_is_refused_with_its_reason(value: object, reason: str) -> None:
    with pytest.raises(InvalidAmount) as refused:
        parse_amount(value, DOLLAR)
    assert str(refused.value) == reason


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1 ",
        " 1",
        "1\n",
        "-",
        "--1",
        "- 1",
        "1-",
        "+1",
        "-.5",
        ".5",
        "5.",
        "1,5",
        "1_000",
        "1e3",
        "0x10",
        "NaN",
        "inf",
        "١٢",
        "1.2.3",
    ],
)
def test_only_plain_decimal_strings_are_amounts(text: str) -> None:
    with pytest.raises(InvalidAmount, match="not a plain decimal"):
        parse_amount(text, DOLLAR)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9" * 1_000_000, None),
        ("0" * 1_000_000 + "7", 700),
        ("0." + "0" * 1_000_000 + "7", 0),
        ("1.005" + "9" * 1_000_000, 101),
        ("-1.005" + "9" * 1_000_000, -101),
        ("1" * 500_000 + "x", None),
        ("1." * 500_000, None),
    ],
)
def test_a_megabyte_of_digits_takes_no_time(text: str, expected: int | None) -> None:
    started = time.process_time()
    if expected is None:
        with pytest.raises(InvalidAmount):
            parse_amount(text, DOLLAR)
    else:
        assert parse_amount(text, DOLLAR) == expected
    # Converting a million digits to an integer takes many seconds; looking at them takes milliseconds.
    assert time.process_time() - started < 1


def test_a_thousand_shares_of_a_kilobyte_of_digits_each_are_rounded_together_in_no_time() -> None:
    started = time.process_time()
    shares = [exact_amount("0." + "0" * number + "3" * (1_000 - number), DOLLAR) for number in range(1_000)]
    assert sum(rounded_together(shares, ["ana"] * 1_000)) == 37
    assert time.process_time() - started < 1


def test_the_reason_for_an_endless_string_is_short() -> None:
    with pytest.raises(InvalidAmount) as refused:
        parse_amount("x" * 1_000_000, DOLLAR)
    assert len(str(refused.value)) < 100


@pytest.mark.parametrize(
    ("values", "uids", "expected"),
    [
        ([4.285714285714286] * 7, "abcdefg", [429, 429, 429, 429, 428, 428, 428]),  # 30.000000000000002
        ([3.335, 3.335, 3.33], "abc", [334, 333, 333]),
        ([3.335, 3.335, 3.33], "bac", [333, 334, 333]),  # ties in the order of uids, ...
        ([3.335, 3.335, 3.33], "aac", [334, 333, 333]),  # ... then of the list
        ([1.001, 2, 3.009], "abc", [100, 200, 301]),
        ([1.004, 1.004, 1.002], "abc", [101, 100, 100]),  # a sum of 3.01
        ([0.001] * 4, "abcd", [0, 0, 0, 0]),
        ([0.001] * 5, "abcde", [1, 0, 0, 0, 0]),
        # Down is towards minus infinity: -3.34, -3.34 and -3.34 would be two cents too many.
        ([-10 / 3] * 3, "abc", [-333, -333, -334]),
        ([-0.001] * 5, "abcde", [0, 0, 0, 0, -1]),
        ([-1.005], "a", [-101]),
        ([-2.004, 12.004], "ab", [-200, 1_200]),
        (["0." + "3" * 400, "0." + "3" * 400, "0." + "3" * 399 + "4"], "abc", [33, 33, 34]),
        ([], "", []),
    ],
)
def test_shares_are_rounded_together(values: list[object], uids: str, expected: list[int]) -> None:
    assert rounded_together([exact_amount(value, DOLLAR) for value in values], list(uids)) == expected


@pytest.mark.parametrize(
    ("amount_minor", "minor_per_unit", "stored"),
    [(1_250, DOLLAR, 12.5), (1_200, DOLLAR, 12), (-1_250, DOLLAR, -12.5), (-1_200, DOLLAR, -12), (7, YEN, 7), (0, DINAR, 0),
     (4_115, DINAR, 4.115), (10**15, DOLLAR, 10**13), (10**15 - 1, DOLLAR, 9_999_999_999_999.99), (1, FUND_UNIT, 0.0001)],
)  # fmt: skip
def test_whole_amounts_are_stored_as_integers_and_others_as_floats(
    amount_minor: int, minor_per_unit: int, stored: float
) -> None:
    number = to_stored(amount_minor, minor_per_unit)
    assert (number, type(number)) == (stored, type(stored))
    assert from_stored(number, minor_per_unit) == amount_minor


@pytest.mark.parametrize(
    ("number", "minor_per_unit"),
    [(12.345, DOLLAR), (0.5, YEN), (0.1 + 0.2, DOLLAR), (True, DOLLAR), (None, DOLLAR), ("12.5", DOLLAR), (NAN, DOLLAR),
     (INFINITY, DOLLAR), (-INFINITY, DOLLAR), (10**13 + 1, DOLLAR), (10.0**13 + 1, DOLLAR), (-(10**16), YEN), (1e300, YEN),
     (2**63, DOLLAR), ([], DOLLAR), (5e-324, DOLLAR)],
)  # fmt: skip
def test_a_number_that_is_never_stored_is_refused(number: object, minor_per_unit: int) -> None:
    with pytest.raises(InvalidAmount):
        from_stored(number, minor_per_unit)
