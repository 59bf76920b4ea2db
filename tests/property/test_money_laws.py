"""Amounts against an oracle: Python's own decimal arithmetic, which knows nothing of fast paths."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal, localcontext

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from balance.core.money import MAX_AMOUNT_MINOR, MAX_TOTAL_MINOR, InvalidAmount, from_stored, parse_amount, to_stored

SCALES = st.sampled_from([1, 100, 1_000, 10_000, 10**8])
DIGITS = st.text("0123456789", min_size=1, max_size=40)
PLAIN_DECIMALS = st.one_of(DIGITS, st.builds("{}{}.{}".format, st.sampled_from(["", "-"]), DIGITS, DIGITS))


def rounded_half_away_from_zero(text: str, scale: int) -> int:
    """The amount in minor units, whatever its size, of a decimal in any notation."""
    with localcontext() as context:
        context.prec = 1_000
        return int((Decimal(text) * scale).to_integral_value(ROUND_HALF_UP))


def near_a_half(amount_minor: int, scale: int, ulps: int) -> float:
    """A float at, or a few steps from, the middle between two minor units."""
    value = (amount_minor + 0.5) / scale
    for _ in range(abs(ulps)):
        value = math.nextafter(value, math.copysign(math.inf, ulps))
    return value


FLOATS = st.one_of(
    st.floats(min_value=-1.1e14, max_value=1.1e14),
    st.floats(min_value=-100_000, max_value=100_000),
    st.builds(lambda amount_minor, scale: amount_minor / scale, st.integers(-10, MAX_AMOUNT_MINOR + 10), SCALES),
    st.builds(near_a_half, st.integers(-MAX_AMOUNT_MINOR, MAX_AMOUNT_MINOR), SCALES, st.integers(-3, 3)),
    st.builds(near_a_half, st.integers(-10_000, 10_000), SCALES, st.integers(-3, 3)),
)


def check_against_the_oracle(value: float | str, text: str, scale: int) -> None:
    expected = rounded_half_away_from_zero(text, scale)
    with localcontext() as context:
        context.prec = 1_000
        is_amount = abs(Decimal(text) * scale) <= MAX_AMOUNT_MINOR
    if is_amount:
        assert parse_amount(value, scale) == expected
    else:
        with pytest.raises(InvalidAmount, match="more than"):
            parse_amount(value, scale)


@given(FLOATS, SCALES)
@example(1.005, 100)
@example(999_999_999_999.995, 100)
@example(1_000_000_000_000.0, 100)
@example(99_999_999_999_999.5, 1)
@example(-99_999_999_999_999.5, 1)
@example(1e14, 1)
@example(100_000_000_000_000.02, 1)
@example(-1.005, 100)
@example(-0.5, 1)
@example(0.49999999999999994, 1)
@settings(max_examples=1_500, deadline=None)
def test_a_float_is_its_shortest_decimal_rounded_half_away_from_zero(value: float, scale: int) -> None:
    check_against_the_oracle(value, repr(value), scale)


@given(PLAIN_DECIMALS, SCALES)
@example("1.005", 100)
@example("0000000000000000000000000.5", 1)
@example("100000000000000.000000000000000000001", 1)
@example("-99999999999999.5", 1)
@settings(max_examples=500, deadline=None)
def test_a_decimal_string_is_rounded_half_away_from_zero(text: str, scale: int) -> None:
    check_against_the_oracle(text, text, scale)


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(-2 * MAX_AMOUNT_MINOR, 2 * MAX_AMOUNT_MINOR), SCALES)
@settings(max_examples=200, deadline=None)
def test_an_integer_is_whole_units(value: int, scale: int) -> None:
    check_against_the_oracle(value, str(value), scale)


@given(FLOATS, SCALES)
@settings(max_examples=500, deadline=None)
def test_a_float_and_its_decimal_string_are_the_same_amount(value: float, scale: int) -> None:
    text = format(Decimal(repr(value)), "f")
    try:
        expected = parse_amount(text, scale)
    except InvalidAmount:
        with pytest.raises(InvalidAmount):
            parse_amount(value, scale)
    else:
        assert parse_amount(value, scale) == expected


@given(st.integers(-MAX_TOTAL_MINOR, MAX_TOTAL_MINOR) | st.integers(-10_000, 10_000), SCALES)
@example(MAX_TOTAL_MINOR - 1, 10_000)
@example(1 - MAX_TOTAL_MINOR, 1_000)
@settings(max_examples=1_000, deadline=None)
def test_every_stored_number_converts_back_to_exactly_its_integer(amount_minor: int, scale: int) -> None:
    assert from_stored(to_stored(amount_minor, scale), scale) == amount_minor


@given(st.integers(-MAX_AMOUNT_MINOR, MAX_AMOUNT_MINOR), SCALES)
@settings(max_examples=300, deadline=None)
def test_what_we_store_an_app_may_write_back(amount_minor: int, scale: int) -> None:
    assert parse_amount(to_stored(amount_minor, scale), scale) == amount_minor


@given(st.floats() | st.integers(-(2**63), 2**63 - 1), SCALES)
@settings(max_examples=500, deadline=None)
def test_a_number_that_is_read_back_is_the_one_that_would_be_stored(number: float, scale: int) -> None:
    try:
        amount_minor = from_stored(number, scale)
    except InvalidAmount:
        return
    assert to_stored(amount_minor, scale) == number
    assert abs(amount_minor) <= MAX_TOTAL_MINOR
