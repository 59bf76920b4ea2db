"""Compare stored balances with a recalculation; only --repair writes. Safe while
the app is in use: an event on its way is no difference, until --lag.

A group is
  true     stored and recalculated agree
  drift    they differ; the differences are listed, pair by pair
  coarse   they agree, at a lower level of detail than would fit by now
  missing  no balance: the group is brand-new, or run `balance backfill`
  stale    of an older version, other rules or an earlier group of this id
  newer    written by newer code, or in a higher epoch
  gone     the group does not exist

Exit codes: 0 all are true or repaired; 1 something is not, or failed; 2 not begun; 3 all are true, but documents were
left out.

Examples:
  balance verify --project my-app --sample 500 --names users
  balance verify --project my-app --repair --orphans
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import click
from rich.console import Console

from balance.core.money import Unit
from balance.database.firestore import Directory
from balance.database.retry import Retry
from balance.documents.tally import Tally
from balance.operations import orphans, reconcile
from balance.operations.backfill import reason
from balance.operations.fleet import in_parallel
from balance.operations.reconcile import FINE, LAG_ALLOWED, REPAIRABLE, Difference, Report, State
from balance.protocol.bookkeeper import Bookkeeper
from scripts import command, deployed, left_out, output, target
from scripts.command import as_json as json_option
from scripts.exits import Exit
from scripts.output import Cell, Names, Section, counted, print_sections, stored
from scripts.progress import Counting
from scripts.target import Opened, Target

_SHOWN = 20
"""Differences of one group that are printed; --json has all of them."""
_LAG_S = round(LAG_ALLOWED.total_seconds())


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one group: its report, or the error that prevented it; and whether it is true now."""

    group_id: str
    report: Report | None
    error: str | None = None
    repaired: bool = False
    tally: Tally | None = None
    """What became of its documents; None when they were not read."""
    written_since: int = 0
    """How many more are known by their records."""

    def is_fine(self, *, named: bool) -> bool:
        """Whether nothing is wrong with it; a group that was named must exist."""
        if self.repaired:
            return True
        if self.error is not None or self.report is None:
            return False
        return self.report.state in FINE and not (named and self.report.state is State.GONE)


@command.subcommand("verify", __doc__)
@command.group_options
@click.option("--sample", metavar="N", type=command.POSITIVE, help="Only this many groups, chosen at random.")
@click.option("--repair", is_flag=True, help="Rebuild what is not true; remove orphans.")
@click.option("--force", is_flag=True, help="Repair by other rules than the functions'.")
@click.option(
    "--lag", metavar="SECONDS", type=click.IntRange(0, _LAG_S), default=_LAG_S, help=f"How late an event may be ({_LAG_S})."
)
@click.option("--orphans", "with_orphans", is_flag=True, help="Look for what deleted groups left, too.")
@output.names_option
@json_option
@target.options(writes=True)
def verify(
    target: Target,
    groups: tuple[str, ...],
    after: str | None,
    workers: int,
    sample: int | None,
    repair: bool,
    force: bool,
    lag: int,
    with_orphans: bool,
    names: str | None,
    as_json: bool,
) -> int:
    opened = target.open(writes=repair)
    firestore = opened.firestore
    known = Names.of(firestore, names)
    ids, total = opened.chosen(groups, after)
    deployed.check(opened, writes=repair, force=force)
    if sample:
        ids = sample_of(ids, sample)
        total = len(ids)
    keeper = Bookkeeper(firestore, opened.settings, updates_on=lambda: True)

    def work(group_id: str) -> Verdict:
        return _verdict(firestore, keeper, group_id, timedelta(seconds=lag), repair=repair)

    states: Counter[str] = Counter()
    tally = left_out.of_no_group(firestore, opened.settings.layout) if not groups else Tally()
    repaired = unread = unfixed = written_since = 0
    with Counting("verifying", total) as progress:
        for verdict in in_parallel(ids, work, workers):
            fine = verdict.is_fine(named=bool(groups))
            states["failed" if verdict.report is None else verdict.report.state] += 1
            repaired += verdict.repaired
            unfixed += not fine
            unread += verdict.tally is None
            tally.add(verdict.tally or Tally())
            written_since += verdict.written_since
            if not fine or verdict.repaired:
                _report(verdict, progress, known, opened.settings.unit, as_json=as_json)
            progress.advance(failed=not fine)
        orphaned = _orphans(opened, progress, repair=repair, as_json=as_json) if with_orphans else None
    summary: dict[str, Any] = {
        "groups": states.total(),
        "states": dict(states),
        "repaired": repaired,
        "unrepaired": unfixed,
        "documents": tally.as_json(),
        "documentsWrittenSince": written_since,
        "seconds": round(progress.elapsed_s, 1),
    }
    if orphaned is not None:
        summary["orphans"] = dict(orphaned)
    _print_summary(summary, tally, as_json=as_json)
    if unfixed or (orphaned and orphaned["left"]):
        return Exit.WRONG
    if not tally.total and not (groups or sample or unread) and (told := left_out.unseen(firestore, opened.settings.layout)):
        print(f"balance verify: {told}", file=sys.stderr)
        return Exit.WRONG
    return Exit.LEFT_OUT if tally.malformed else Exit.DONE


def sample_of(ids: Iterable[str], size: int) -> list[str]:
    """So many of the ids, each equally likely, without holding the others (reservoir sampling)."""
    chosen: list[str] = []
    for index, group_id in enumerate(ids):
        if index < size:
            chosen.append(group_id)
        elif (place := random.randrange(index + 1)) < size:
            chosen[place] = group_id
    return chosen


def _verdict(firestore: Directory, keeper: Bookkeeper, group_id: str, lag: timedelta, *, repair: bool) -> Verdict:
    def check() -> Report:
        return Retry().run(lambda: reconcile.check(firestore, keeper.settings, group_id, lag))

    report = None
    try:
        report = check()
        if not repair or report.state not in REPAIRABLE:
            return Verdict(group_id, report, tally=report.tally, written_since=report.written_since)
        repaired = reconcile.repair(firestore, keeper, group_id)
        return Verdict(group_id, report, repaired=check().state in FINE, tally=repaired.tally)
    except Exception as error:  # noqa: BLE001 - one group must not stop the others: it is named and counted
        return Verdict(group_id, report, error=reason(error))


def _report(verdict: Verdict, progress: Counting, names: Names, unit: Unit, *, as_json: bool) -> None:
    report = verdict.report
    if as_json:
        entry = {
            "group": verdict.group_id,
            "state": report.state if report else "failed",
            "asOf": report.read_time.isoformat() if report else None,
            "differences": [difference.as_json() for difference in report.differences] if report else [],
            "repaired": verdict.repaired,
            "error": verdict.error,
        }
        print(json.dumps(entry, default=str, ensure_ascii=False), flush=True)
        return
    state = report.state if report else "failed"
    about = "repaired" if verdict.repaired else f"not repaired: {verdict.error}" if verdict.error else ""
    differences = report.differences if report else ()
    names.learn([uid for difference in differences for uid in difference.users])
    if not output.is_terminal():
        for text in [in_words(difference, names, unit) for difference in differences] or [""]:
            output.print_row("finding", verdict.group_id, state, about, text)
        return
    progress.say(f"group {verdict.group_id}: {state}" + (f", {about}" if about else ""))
    for line in _lines(differences, names, unit):
        progress.say(f"  {line}")


def _lines(differences: tuple[Difference, ...], names: Names, unit: Unit) -> Iterator[str]:
    for difference in differences[:_SHOWN]:
        yield in_words(difference, names, unit)
    if len(differences) > _SHOWN:
        yield f"and {len(differences) - _SHOWN} more (--json has all)"


def in_words(difference: Difference, names: Names, unit: Unit) -> str:
    """A difference in one line, amounts in major units."""
    currency = difference.currency
    if currency is None:
        return str(difference)
    is_, should_be = (
        "nothing" if value is None else stored(value, currency, unit) for value in (difference.stored, difference.recalculated)
    )
    users = [names[uid] for uid in difference.users]
    match difference.what, users:
        case "suggestion", [debtor, creditor]:
            about = f"suggestion that {debtor} pays {creditor}"
        case "owes", [debtor, creditor]:
            about = f"{debtor} owes {creditor}"
        case "owedBy", [debtor, creditor]:
            about = f"{creditor} is owed by {debtor}"
        case _:
            about = f"{difference.what} of {' and '.join(users)}" if users else difference.what
    return f"{about}: stored {is_}, recalculated {should_be}"


def _orphans(opened: Opened, progress: Counting, *, repair: bool, as_json: bool) -> Counter[str]:
    """How many orphaned documents were removed, and how many left."""
    firestore, settings = opened.firestore, opened.settings
    counts: Counter[str] = Counter(removed=0, left=0)
    for orphan in orphans.find(firestore, settings):
        done = "removed" if repair and orphans.remove(firestore, settings, orphan) else "left"
        counts[done] += orphan.documents
        if as_json:
            print(json.dumps({"orphan": orphan.group_id, "documents": orphan.documents, "done": done}), flush=True)
        else:
            progress.say(f"deleted group {orphan.group_id}: {counted(orphan.documents, 'document')} {done}")
    return counts


def _print_summary(summary: dict[str, Any], tally: Tally, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(summary))
        return
    rows: list[tuple[Cell, ...]] = [(f"{count:,}", state) for state, count in sorted(summary["states"].items())]
    if summary["repaired"]:
        rows.append((f"{summary['repaired']:,}", "repaired"))
    rows += [(f"{count:,}", f"orphaned documents {done}") for done, count in summary.get("orphans", {}).items()]
    groups = "group" if summary["groups"] == 1 else "groups"
    rows.append((f"{summary['groups']:,}", f"{groups} in {summary['seconds']:,} s"))
    documents = left_out.section(tally)
    if since := summary["documentsWrittenSince"]:
        known = documents.rows if tally.total else []
        about = "documents written later, known by their records"
        documents = replace(documents, rows=[*known, (f"{since:,}", about)])
    sections = [Section("groups", "", ("", ""), rows), documents]
    print_sections(sections, Names(), Console(highlight=False))
