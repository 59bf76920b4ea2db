"""Show what is stored of a group: balance, suggestions, newest records, faults.

Its documents are read and counted (not with --watch). Nothing is written; `balance verify` says whether the balance is true.

Exit codes: 0 shown; 1 there is no such group; 2 not begun.

Examples:
  balance show lisbon --project my-app --names users
  balance show lisbon --project my-app --watch
  balance show lisbon --project my-app --json | jq .balance.simplifiedDebts
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from balance.core.money import Unit
from balance.database.firestore import Fields, Query, Snapshot
from balance.documents.judgement import Judgement, judge
from balance.documents.layout import IN_GROUP
from balance.documents.sources import Kind, members
from balance.documents.tally import Tally
from balance.protocol.rebuild import read_history
from scripts import command, deployed, left_out, output, target
from scripts.command import as_json as json_option
from scripts.exits import Exit
from scripts.output import Cell, Names, Section, User, changes, items, moment, print_sections, stored, tables
from scripts.target import Opened, Target

_EVERY_S = 2.0
_TOLD = ("version", "rules", "detail", "faults", "asOf", "incarnation", "lastUpdatedAt")


@dataclass(frozen=True, slots=True)
class View:
    """What is stored of one group."""

    group_id: str
    unit: Unit
    group: Snapshot
    balance: Snapshot
    judgement: Judgement
    records: list[Snapshot]
    """The newest first."""
    faults: list[Snapshot]
    tally: Tally | None
    """What became of its documents; None when they were not read."""

    @property
    def exists(self) -> bool:
        """Whether there is anything to show."""
        return self.group.fields is not None or self.balance.fields is not None


@command.subcommand("show", __doc__)
@click.argument("group")
@click.option("--watch", is_flag=True, help=f"Look again every {_EVERY_S:g} seconds, until Ctrl-C.")
@click.option("--records", metavar="N", type=command.POSITIVE, default=10, help="So many records (10).")
@output.names_option
@json_option
@target.options(writes=False)
def show(target: Target, group: str, watch: bool, records: int, names: str | None, as_json: bool) -> int:
    opened = target.open(writes=False)
    opened.check_group_id(group)
    deployed.check(opened, writes=False, force=False)
    known = Names.of(opened.firestore, names)
    console = Console(highlight=False)
    seen = view(opened, group, records, with_documents=not watch)
    if watch:
        _watch(console, known, opened, seen, records, as_json=as_json)
    if not seen.exists:
        print(f"there is no group {group!r} in {opened.settings.layout.groups}", file=sys.stderr)
        return Exit.WRONG
    _print(console, known, seen, as_json=as_json)
    for text in _empty_collections(opened, seen):
        print(text, file=sys.stderr)
    return Exit.DONE


def _empty_collections(opened: Opened, seen: View) -> Iterator[str]:
    """A line for each of the app's collections that holds nothing, when the group has no documents: it may be misspelt."""
    for kind in Kind if seen.tally is not None and not seen.tally.total else ():
        collection = opened.settings.layout.collection(kind)
        *_, name = collection.split("/")
        query = Query(collection=name if IN_GROUP in collection else collection, everywhere=IN_GROUP in collection, limit=1)
        if next(iter(opened.firestore.query(query)), None) is None:
            yield f"there is no document in {collection}: is {kind.parameter} right?"


def _watch(console: Console, names: Names, opened: Opened, seen: View, records: int, *, as_json: bool) -> None:
    if as_json or not console.is_terminal:
        while True:
            _print(console, names, seen, as_json=as_json)
            time.sleep(_EVERY_S)
            seen = view(opened, seen.group_id, records)
    with Live(tables(sections(seen), names), console=console, auto_refresh=False, screen=True) as live:
        while True:
            time.sleep(_EVERY_S)
            seen = view(opened, seen.group_id, records)
            live.update(tables(sections(seen), names), refresh=True)


def view(opened: Opened, group_id: str, record_count: int, *, with_documents: bool = False) -> View:
    """Read it, all as of one instant. Its documents may be thousands."""
    firestore, layout, unit = opened.firestore, opened.settings.layout, opened.settings.unit
    group, balance = firestore.get([layout.group(group_id), layout.balance(group_id)])
    newest = Query(collection=layout.records(group_id), newest_by="appliedAt", limit=record_count)
    return View(
        group_id,
        unit,
        group,
        balance,
        judge(balance, group_id, opened.settings, group),
        list(firestore.query(newest, read_time=balance.read_time)),
        list(firestore.query(Query(collection=layout.faults(group_id)), read_time=balance.read_time)),
        read_history(firestore, opened.settings, group_id, balance.read_time).tally if with_documents else None,
    )


def _print(console: Console, names: Names, seen: View, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_as_json(seen), default=str, ensure_ascii=False), flush=True)
    else:
        print_sections(sections(seen), names, console)


def _as_json(seen: View) -> dict[str, Any]:
    return {
        "group": seen.group_id,
        "exists": seen.group.fields is not None,
        "members": members(seen.group.fields or {}),
        "readTime": seen.balance.read_time.isoformat(),
        "condition": seen.judgement.condition,
        "reason": seen.judgement.reason,
        "balance": seen.balance.fields,
        "records": [record.fields for record in seen.records],
        "faults": [fault.fields for fault in seen.faults],
        **({"documents": seen.tally.as_json()} if seen.tally else {}),
    }


def sections(seen: View) -> list[Section]:
    """All of it, in order."""
    balance = seen.balance.fields or {}
    return [
        _head(seen),
        *_balances(balance, seen.unit),
        _suggestions(balance, seen.unit),
        _records(seen.records, seen.unit),
        _faults(seen),
        *([left_out.section(seen.tally)] if seen.tally else ()),
    ]


def _head(seen: View) -> Section:
    balance = seen.balance.fields or {}
    gone = "" if seen.group.fields is not None else " (the group does not exist)"
    uids = members(seen.group.fields or {})
    everybody: list[str | User] = [part for uid in uids for part in (", ", User(uid))][1:]
    rows: list[tuple[Cell, ...]] = [
        ("group", seen.group_id + gone),
        ("members", tuple(everybody) or "-"),
        ("balance", f"{seen.judgement.condition}" + (f": {seen.judgement.reason}" if seen.judgement.reason else "")),
        *((name, moment(balance.get(name))) for name in _TOLD),
        ("read at", moment(seen.balance.read_time)),
    ]
    return Section("group", "", ("", ""), rows)


def _balances(balance: Fields, unit: Unit) -> list[Section]:
    found = []
    for currency, users in items(balance.get("balancesByCurrency")):
        rows: list[tuple[Cell, ...]] = []
        for uid, row in items(users):
            row = row if isinstance(row, Mapping) else {}
            debts: list[Cell] = [
                (word, User(other), f" {stored(amount, currency, unit)}")
                for word, side in (("owes ", "owes"), ("is owed by ", "owedBy"))
                for other, amount in items(row.get(side))
            ]
            for index, debt in enumerate(debts or ["-"]):
                first = index == 0
                net = stored(row.get("netBalance"), currency, unit)
                rows.append((User(uid) if first else "", net if first else "", debt))
        found.append(
            Section("balance", f"balances, {currency}", ("user", "net balance", "of which"), rows, frozenset({"net balance"}))
        )
    return found


def _suggestions(balance: Fields, unit: Unit) -> Section:
    rows: list[tuple[Cell, ...]] = []
    suggestions = balance.get("simplifiedDebts")
    for suggestion in suggestions if isinstance(suggestions, list) else []:
        try:
            debtor, creditor = suggestion["from"]["uid"], suggestion["to"]["uid"]
            amount = stored(suggestion["amount"], suggestion["currency"], unit)
            rows.append(((User(debtor), " pays ", User(creditor)), amount))
        except (TypeError, KeyError):
            rows.append((f"not a suggestion: {suggestion}", "?"))
    return Section("suggestion", "suggestions", ("who pays whom", "amount"), rows, frozenset({"amount"}))


def _records(records: list[Snapshot], unit: Unit) -> Section:
    rows: list[tuple[Cell, ...]] = []
    for record in records:
        fields = record.fields or {}
        source = f"{fields.get('source', '-')}" + (" (deleted)" if fields.get("deletedAt") else "")
        rows.append((moment(fields.get("appliedAt")), f"{fields.get('outcome', '-')}", source))
        rows += [("", "", _indented(cell)) for cell in changes(fields.get("delta"), unit)]
    return Section(
        "record", f"records, the newest {len(records)}", ("applied at", "outcome", "document, and what it changed"), rows
    )


def _indented(cell: Cell) -> Cell:
    return ("  ", *cell) if isinstance(cell, tuple) else f"  {cell}" if isinstance(cell, str) else ("  ", cell)


def _faults(seen: View) -> Section:
    rows: list[tuple[Cell, ...]] = []
    for fault in seen.faults:
        fields = fault.fields or {}
        rows.append(
            (
                f"{fields.get('source', '-')}",
                f"{fields.get('field', '-')} {fields.get('reason', '-')}",
                moment(fields.get("since")),
            )
        )
    return Section("fault", "faults: documents in no sum", ("document", "what is wrong", "since"), rows)
