"""Merge the pinned `iso4217` release into balance/core/currencies.py; codes are added, never removed.

Exit codes: 0 up to date or written; 1 out of date (--check), or an exponent has changed, which needs a decision; 2 wrong
usage.

Examples:
  balance currencies --check
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

import click
from iso4217 import Currency

from balance.core import currencies as product
from scripts.command import subcommand
from scripts.exits import Exit


def merged() -> dict[str, int]:
    """The present table with every code of the installed release; raises SystemExit when an exponent has changed."""
    table = dict(product.EXPONENTS)
    for currency in Currency:
        if currency.exponent is None:
            continue
        if table.setdefault(currency.code, currency.exponent) != currency.exponent:
            sys.exit(
                f"{currency.code}: the exponent changed from {table[currency.code]} to {currency.exponent}. Stored amounts "
                "would change their meaning: edit balance/core/currencies.py by hand, raise VERSION, "
                "force a rebuild of all groups."
            )
    return table


def rendered(table: dict[str, int]) -> str:
    """The source of balance/core/currencies.py for a table."""
    blocks = ""
    for exponent in sorted(set(table.values())):
        codes = " ".join(sorted(code for code in table if table[code] == exponent))
        lines = "".join(f'        "{line} "\n' for line in textwrap.wrap(codes, 96))
        blocks += f"    {exponent}: (\n{lines}    ),\n"
    source = Path(product.__file__).read_text()
    return re.sub(
        r"(?s)(_CODES_BY_EXPONENT = \{\n).*?(\n?\}\n)",
        lambda found: found[1] + blocks + "}\n",
        source,
        count=1,
    )


@subcommand("currencies", __doc__)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when the table is out of date.")
def currencies(check: bool) -> int:
    table = merged()
    if table == product.EXPONENTS:
        print("balance/core/currencies.py is up to date")
        return Exit.DONE
    if check:
        print("balance/core/currencies.py is out of date: run `balance currencies`", file=sys.stderr)
        return Exit.WRONG
    Path(product.__file__).write_text(rendered(table))
    print("balance/core/currencies.py written: run `make format test`, then commit it")
    return Exit.DONE
