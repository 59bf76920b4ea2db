"""The currency table: ISO 4217's exponents, and those of the codes that ISO has withdrawn."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from iso4217 import Currency

from balance.core import currencies
from balance.core.currencies import EXPONENTS
from scripts.developing import currency_release as merging


def test_every_code_has_the_exponent_of_the_pinned_library() -> None:
    expected = {currency.code: currency.exponent for currency in Currency if currency.exponent is not None}
    assert len(expected) > 150
    assert {code: EXPONENTS.get(code) for code in expected} == expected


@pytest.mark.parametrize("code", ["XAU", "XAG", "XPD", "XPT", "XXX", "XTS", "XDR", "XUA", "XSU", "XBA", "XFO", "XFU", "XRE"])
def test_a_code_to_which_iso_gives_no_exponent_is_absent(code: str) -> None:
    assert code not in EXPONENTS


@pytest.mark.parametrize(
    ("code", "exponent"),
    [
        ("DEM", 2),
        ("FRF", 2),
        ("ITL", 0),
        ("ESP", 0),
        ("PTE", 0),
        ("TRL", 0),
        ("ZMK", 2),
        ("CSK", 2),
        ("YUN", 2),
        ("XEU", 2),
        ("HRK", 2),
        ("LTL", 2),
        ("BYR", 0),
        ("MRO", 2),
        ("STD", 2),
        ("VEF", 2),
        ("ZWL", 2),
        ("CUC", 2),
        ("SLL", 2),
        ("ANG", 2),
    ],
)
def test_a_withdrawn_code_is_kept(code: str, exponent: int) -> None:
    assert EXPONENTS[code] == exponent


@pytest.mark.parametrize(
    ("code", "exponent"),
    [("USD", 2), ("EUR", 2), ("JPY", 0), ("KRW", 0), ("ISK", 0), ("KWD", 3), ("BHD", 3), ("TND", 3), ("CLF", 4), ("UYW", 4)],
)
def test_well_known_exponents(code: str, exponent: int) -> None:
    assert EXPONENTS[code] == exponent


JAVA = """
import java.util.Currency;
public class Exponents {
    public static void main(String[] arguments) {
        for (Currency currency : Currency.getAvailableCurrencies())
            System.out.println(currency.getCurrencyCode() + " " + currency.getDefaultFractionDigits());
    }
}
"""


@pytest.mark.skipif(shutil.which("javac") is None, reason="needs a Java development kit")
def test_every_code_of_javas_has_the_exponent_of_javas(tmp_path: Path) -> None:
    """An implementation that took its table from ISO's lists by itself, and keeps withdrawn codes as they were."""
    (tmp_path / "Exponents.java").write_text(JAVA)
    found = subprocess.run(["java", str(tmp_path / "Exponents.java")], capture_output=True, text=True, check=True, timeout=60)
    java = {code: int(digits) for code, digits in map(str.split, found.stdout.splitlines()) if int(digits) >= 0}
    common = java.keys() & EXPONENTS.keys()  # a newer release of either may have a new code
    assert len(common) > 200
    assert {code: EXPONENTS[code] for code in common} == {code: java[code] for code in common}


def test_codes_are_three_upper_case_letters_each_given_once() -> None:
    listed = [code for codes in currencies._CODES_BY_EXPONENT.values() for code in codes.split()]
    assert len(listed) == len(set(listed)) == len(EXPONENTS)
    assert all(len(code) == 3 and code.isascii() and code.isalpha() and code.isupper() for code in listed)


def test_the_table_is_up_to_date_with_the_pinned_library() -> None:
    check = subprocess.run(
        [sys.executable, "-m", "scripts", "currencies", "--check"], capture_output=True, text=True, check=False
    )
    assert (check.returncode, check.stdout, check.stderr) == (0, "balance/core/currencies.py is up to date\n", "")


def test_a_written_table_reads_back(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {**EXPONENTS, "QQQ": 2, "QQZ": 5}
    namespace: dict[str, dict[str, int]] = {}
    exec(merging.rendered(table), namespace)
    assert namespace["EXPONENTS"] == table


def test_a_new_code_is_added_and_a_withdrawn_one_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(currencies, "EXPONENTS", {"QQQ": 3, "USD": 2})
    merged = merging.merged()
    assert merged["QQQ"] == 3
    assert merged["JPY"] == 0


def test_a_changed_exponent_is_for_somebody_to_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(currencies, "EXPONENTS", {**EXPONENTS, "USD": 3})
    with pytest.raises(SystemExit, match="USD: the exponent changed from 3 to 2"):
        merging.merged()
