"""Explain why somebody owes somebody: every pair of the two, document by document.

A suggestion need not follow the pairs, so the accounts of both are shown: each pair in which one of them stands, with the
expenses and settlements that add up to it. With one USER, that user's net balance is explained. Nothing is written.

Exit codes: 0 explained; 1 no such group, no such member, or neither has an account; 2 not begun.

Examples:
  balance explain lisbon bo ana --project my-app --names users
  balance explain lisbon bo --project my-app --json
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any

import click
from rich.console import Console

from balance.core.money import Unit
from balance.database.firestore import Fields
from balance.documents.sources import members
from balance.operations.explain import MAX_PAGE_SIZE, Account, read_account
from balance.operations.explain import as_json as explanation_of
from scripts import command, deployed, output, target
from scripts.command import as_json as json_option
from scripts.exits import Exit
from scripts.output import Cell, Names, Section, User, counted, moment, print_sections, stored
from scripts.target import Target


@command.subcommand("explain", __doc__)
@click.argument("group")
@click.argument("user")
@click.argument("other", required=False)
@output.names_option
@json_option
@target.options(writes=False)
def explain(target: Target, group: str, user: str, other: str | None, names: str | None, as_json: bool) -> int:
    opened = target.open(writes=False)
    opened.check_group_id(group)
    deployed.check(opened, writes=False, force=False)
    settings = opened.settings
    known = Names.of(opened.firestore, names)
    (found,) = opened.firestore.get([settings.layout.group(group)])
    if found.fields is None:
        print(f"there is no group {group!r} in {settings.layout.groups}", file=sys.stderr)
        return Exit.WRONG
    account = read_account(opened.firestore, settings, group, found.read_time, (user, other or user), size=MAX_PAGE_SIZE)
    told = explanation_of(group, account, user, other or user, settings.unit)
    strangers = _strangers(found.fields, account, (user, other or user))
    if strangers:
        for uid in strangers:
            print(f"{uid!r} is no member of {group}, and no expense or settlement of it names such a user", file=sys.stderr)
        return Exit.WRONG
    if as_json:
        print(json.dumps(told, ensure_ascii=False), flush=True)
    else:
        print_sections(sections(told, settings.unit), known, Console(highlight=False))
    if not told["byCurrency"]:
        print(
            f"no expense or settlement of {group} leaves {' or '.join(filter(None, (user, other)))} with a debt",
            file=sys.stderr,
        )
        return Exit.WRONG
    return Exit.DONE


def _strangers(fields: Fields, account: Account, uids: tuple[str, ...]) -> list[str]:
    """Those of the uids that have nothing to do with the group. Who has left it may still owe."""
    named = {uid for _, pair in account.counts for uid in pair}
    return sorted(set(uids) - named - set(members(fields)))


def sections(told: dict[str, Any], unit: Unit) -> list[Section]:
    """By currency: both net balances, then each pair with its documents."""
    found = []
    for currency, part in told["byCurrency"].items():
        nets: list[tuple[Cell, ...]] = [(User(uid), _net(net, currency, unit)) for uid, net in part["netBalances"].items()]
        found.append(Section("net", f"{currency}: net balances", ("user", "net balance"), nets))
        rows: list[tuple[Cell, ...]] = []
        for pair in part["pairs"]:
            debtor, creditor = pair["from"]["uid"], pair["to"]["uid"]
            amount = stored(pair["amount"], currency, unit)
            rows.append(((User(debtor), " owes ", User(creditor), f" {amount}"), "", ""))
            for item in pair["transactions"]:
                rows.append((f"  {item['source']}", _more(item["amount"], currency, unit), moment(_time(item["updatedAt"]))))
            if pair["leftOut"]["count"]:
                left = pair["leftOut"]
                rows.append((f"  {counted(left['count'], 'older one')}", _more(left["amount"], currency, unit), ""))
        found.append(
            Section(
                "pair", f"{currency}: pairs, and the documents behind them", ("document", "changes it by", "written at"), rows
            )
        )
    return found


def _net(net: Any, currency: str, unit: Unit) -> str:
    if not net:
        return "even"
    return f"owes {stored(-net, currency, unit)}" if net < 0 else f"is owed {stored(net, currency, unit)}"


def _more(amount: Any, currency: str, unit: Unit) -> str:
    return f"{stored(abs(amount), currency, unit)} {'more' if amount >= 0 else 'less'}"


def _time(text: Any) -> Any:
    return datetime.fromisoformat(text) if isinstance(text, str) else text
