"""Show a group: its balance, suggestions, recent records and faults, as tables.

Only what is stored is shown, and nothing is written; scripts.verify says whether it is true.

exit codes:
  0    shown
  1    there is no such group
  2    called wrongly, or Firestore could not be read
  130  --watch was ended by Ctrl-C

examples:
  python -m scripts.show --project my-app lisbon
  python -m scripts.show --project my-app lisbon --watch
  python -m scripts.show --project my-app lisbon --json | jq .balance.simplifiedDebts
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from balance.core.money import scale
from balance.database.firestore import Fields, Firestore, Query, Snapshot
from balance.documents.judgement import Condition, Judgement, judge
from balance.documents.settings import Settings
from balance.documents.sources import is_document_id, members
from scripts.command import documented_parser, positive, run
from scripts.connection import UsageError, add_arguments, open_database

_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class View:
    """What is stored of one group."""

    group: Snapshot
    balance: Snapshot
    judgement: Judgement
    records: list[Snapshot]
    """The newest first."""
    faults: list[Snapshot]


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = documented_parser("show", __doc__)
    parser.add_argument("group", metavar="GROUP", help="the group's id")
    parser.add_argument("--watch", action="store_true", help=f"read it again every {_EVERY_S:g} seconds, until Ctrl-C")
    parser.add_argument("--records", metavar="N", type=positive, default=10, help="how many records to show (default: 10)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables (one a line with --watch)")
    add_arguments(parser, writes=False)
    given = parser.parse_args(arguments)
    return run("show", lambda: _show(given, *open_database(given, writes=False)))


def _show(given: argparse.Namespace, firestore: Firestore, settings: Settings) -> int:
    if not is_document_id(given.group):
        raise UsageError(f"{given.group!r} cannot be the id of a group")

    def look() -> View:
        return view(firestore, settings, given.group, given.records)

    console = Console(highlight=False)
    seen = look()
    if not given.watch:
        _print(console, seen, given.group, as_json=given.json)
    elif given.json or not console.is_terminal:
        while True:
            _print(console, seen, given.group, as_json=given.json)
            time.sleep(_EVERY_S)
            seen = look()
    else:
        with Live(_tables(seen, given.group), console=console, auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(_EVERY_S)
                seen = look()
                live.update(_tables(seen, given.group), refresh=True)
    return 1 if seen.group.fields is None and seen.balance.fields is None else 0


def view(firestore: Firestore, settings: Settings, group_id: str, record_count: int) -> View:
    """Read it, all as of one instant."""
    layout = settings.layout
    group, balance = firestore.get([layout.group(group_id), layout.balance(group_id)])
    newest = Query(collection=layout.records(group_id), newest_by="appliedAt", limit=record_count)
    return View(
        group,
        balance,
        judge(balance, group_id, settings, group),
        list(firestore.query(newest, read_time=balance.read_time)),
        list(firestore.query(Query(collection=layout.faults(group_id)), read_time=balance.read_time)),
    )


def _print(console: Console, seen: View, group_id: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_as_json(seen, group_id), default=str, ensure_ascii=False), flush=True)
    else:
        console.print(_tables(seen, group_id))


def _as_json(seen: View, group_id: str) -> dict[str, Any]:
    return {
        "group": group_id,
        "exists": seen.group.fields is not None,
        "members": members(seen.group.fields or {}),
        "readTime": seen.balance.read_time.isoformat(),
        "condition": seen.judgement.condition,
        "reason": seen.judgement.reason,
        "balance": seen.balance.fields,
        "records": [record.fields for record in seen.records],
        "faults": [fault.fields for fault in seen.faults],
    }


def _tables(seen: View, group_id: str) -> Group:
    return Group(
        _head(seen, group_id),
        *_balances(seen.balance.fields or {}),
        _suggestions(seen.balance.fields or {}),
        _records(seen.records),
        _faults(seen.faults),
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", expand=False)
    for column in columns:
        table.add_column(column, justify="right" if column in ("amount", "net balance", "version") else "left", overflow="fold")
    return table


def _head(seen: View, group_id: str) -> Table:
    balance = seen.balance.fields or {}
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    condition, reason = seen.judgement.condition, seen.judgement.reason
    colour = "green" if condition is Condition.CURRENT else "red"
    there = "" if seen.group.fields is not None else "  [red]the group does not exist[/red]"
    table.add_row("group", f"[bold]{escape(group_id)}[/bold]{there}")
    table.add_row("members", escape(", ".join(members(seen.group.fields or {}))) or "-")
    table.add_row("balance", f"[{colour}]{condition}[/{colour}]" + (f": {escape(reason)}" if reason else ""))
    for name in ("version", "rules", "detail", "faults", "asOf", "incarnation", "lastUpdatedAt"):
        table.add_row(name, escape(_text(balance.get(name))))
    table.add_row("read at", _text(seen.balance.read_time))
    return table


def _balances(balance: Fields) -> list[Table]:
    currencies = balance.get("balancesByCurrency")
    tables = []
    for currency, rows in sorted(currencies.items()) if isinstance(currencies, Mapping) else ():
        table = _table(f"balances, {escape(currency)}", "user", "owes", "is owed by", "net balance")
        for uid, row in sorted(rows.items()) if isinstance(rows, Mapping) else ():
            row = row if isinstance(row, Mapping) else {}
            cells = (uid, _amounts(row.get("owes")), _amounts(row.get("owedBy")), _text(row.get("netBalance")))
            table.add_row(*map(escape, cells))
        tables.append(table)
    return tables


def _amounts(amounts: Any) -> str:
    return "\n".join(f"{uid} {amount}" for uid, amount in sorted(amounts.items())) if isinstance(amounts, Mapping) else "?"


def _suggestions(balance: Fields) -> Table:
    table = _table("suggestions", "from", "to", "amount", "currency")
    for suggestion in balance.get("simplifiedDebts") or []:
        try:
            cells = (suggestion["from"]["uid"], suggestion["to"]["uid"], suggestion["amount"], suggestion["currency"])
        except (TypeError, KeyError):
            cells = ("?", "?", suggestion, "?")
        table.add_row(*(escape(_text(cell)) for cell in cells))
    return table


def _records(records: list[Snapshot]) -> Table:
    table = _table(
        f"records, the newest {len(records)}", "applied at", "outcome", "document", "who owes whom more (+) or less (-)"
    )
    for record in records:
        fields = record.fields or {}
        source = _text(fields.get("source")) + (" (deleted)" if fields.get("deletedAt") else "")
        cells = (_text(fields.get("appliedAt")), _text(fields.get("outcome")), source, _delta(fields.get("delta")))
        table.add_row(*map(escape, cells))
    return table


def _delta(delta: Any) -> str:
    """By how much, in major units whatever the app's unit; owing less is the same as being owed more."""
    try:
        return "\n".join(
            f"{debtor} owes {creditor} {_signed(amount_minor, currency)}"
            for currency, debtors in delta.items()
            for debtor, creditors in debtors.items()
            for creditor, amount_minor in creditors.items()
        )
    except AttributeError:
        return "?"


def _signed(amount_minor: Any, currency: str) -> str:
    minor_per_unit = scale(currency)
    if type(amount_minor) is not int or minor_per_unit is None:
        return f"? {currency}"
    decimals = len(str(minor_per_unit)) - 1
    return f"{Decimal(amount_minor).scaleb(-decimals):+,.{decimals}f} {currency}"


def _faults(faults: list[Snapshot]) -> Table:
    table = _table("faults", "document", "field", "reason", "since")
    for fault in faults:
        fields = fault.fields or {}
        table.add_row(*(escape(_text(fields.get(name))) for name in ("source", "field", "reason", "since")))
    return table


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="milliseconds")
    return "-" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main())
