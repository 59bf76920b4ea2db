"""Show the documents that cannot be understood and so are in no balance, by field and reason.

Without GROUP all groups are looked at, and the documents that name no usable group. A fault goes away by itself when the
app corrects its document. Nothing is written.

Exit codes: 0 there are none; 3 there are; 1 no such group, or some could not be read; 2 not begun.

Examples:
  balance faults --project my-app
  balance faults lisbon --project my-app --all
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click
from rich.console import Console

from balance.database.firestore import Fields, Query
from balance.database.retry import Retry
from balance.operations.fleet import in_parallel
from scripts import command, deployed, target
from scripts.command import as_json as json_option
from scripts.exits import Exit
from scripts.output import Cell, Names, Section, moment, print_sections
from scripts.progress import Counting
from scripts.target import Opened, Target


@command.subcommand("faults", __doc__)
@click.argument("group", required=False)
@click.option("--all", "each", is_flag=True, help="Each document, not one of each reason.")
@click.option("--workers", metavar="N", type=command.POSITIVE, default=8, help="How many groups at once (8).")
@json_option
@target.options(writes=False)
def faults(target: Target, group: str | None, each: bool, workers: int, as_json: bool) -> int:
    opened = target.open(writes=False)
    deployed.check(opened, writes=False, force=False)
    if group is not None and not _exists(opened, group):
        print(f"there is no group {group!r} in {opened.settings.layout.groups}", file=sys.stderr)
        return Exit.WRONG
    found = list(_all(opened, workers) if group is None else _of(opened, group))
    if as_json:
        for fault in found:
            print(json.dumps(fault, default=str, ensure_ascii=False), flush=True)
    else:
        section = _each(found) if each else _by_reason(found)
        print_sections([section], Names(opened.firestore), Console(highlight=False))
    return Exit.LEFT_OUT if found else Exit.DONE


def _exists(opened: Opened, group_id: str) -> bool:
    opened.check_group_id(group_id)
    (found,) = opened.firestore.get([opened.settings.layout.group(group_id)])
    return found.fields is not None


def _all(opened: Opened, workers: int) -> Iterator[dict[str, Any]]:
    yield from _of(opened, None)
    ids, total = opened.chosen((), None)
    with Counting("looking", total) as progress:
        for faults_of_group in in_parallel(ids, lambda group_id: list(_of(opened, group_id)), workers):
            yield from faults_of_group
            progress.advance()


def _of(opened: Opened, group_id: str | None) -> Iterable[dict[str, Any]]:
    query = Query(collection=opened.settings.layout.faults(group_id))
    documents = Retry().run(lambda: list(opened.firestore.query(query)))
    return [_as_json(group_id, document.fields or {}) for document in documents]


def _as_json(group_id: str | None, fields: Fields) -> dict[str, Any]:
    return {"group": group_id, **{name: fields.get(name) for name in ("source", "field", "reason", "since")}}


def _by_reason(found: list[dict[str, Any]]) -> Section:
    alike: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for fault in found:
        alike.setdefault((str(fault["field"]), str(fault["reason"])), []).append(fault)
    rows: list[tuple[Cell, ...]] = [
        (f"{len(faults_alike):,}", f"{field} {reason}", str(faults_alike[0]["source"]))
        for (field, reason), faults_alike in sorted(alike.items(), key=lambda item: -len(item[1]))
    ]
    return Section(
        "faults", "documents in no balance", ("documents", "what is wrong", "for example"), rows, frozenset({"documents"})
    )


def _each(found: list[dict[str, Any]]) -> Section:
    rows: list[tuple[Cell, ...]] = [
        (str(fault["source"]), f"{fault['field']} {fault['reason']}", moment(fault["since"])) for fault in found
    ]
    return Section("fault", "documents in no balance", ("document", "what is wrong", "since"), rows)
