"""Compare stored balances with a full recalculation, each group as of one instant, and report every difference.

Safe while the app is in use: an event on its way is no difference, until it is late by more than --lag. Without --repair
nothing is written.

A group's state is one of
  true     stored and recalculated agree
  drift    they differ: the differences are listed, pair by pair
  coarse   they agree, at a lower level of detail than would fit by now
  missing  the group has no balance: its creation has not been processed yet, or run scripts.backfill
  stale    of an older version, other rules or an earlier group of this id; or marked to be rebuilt
  newer    written by newer code than this, or in a higher epoch
  gone     the group does not exist

exit codes:
  0    every balance is true, or was repaired; no orphans asked for and left
  1    something differs, is missing or orphaned, or could not be checked or repaired
  2    called wrongly, not confirmed, or the list of groups could not be read
  130  interrupted

examples:
  python -m scripts.verify --project my-app --sample 500
  python -m scripts.verify --project my-app --group lisbon
  python -m scripts.verify --project my-app --repair --orphans
"""

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.table import Table

from balance.database.firestore import Directory
from balance.database.retry import Retry
from balance.documents.settings import Settings
from balance.operations import orphans, reconcile
from balance.operations.backfill import reason
from balance.operations.fleet import in_parallel
from balance.operations.reconcile import FINE, LAG_ALLOWED, REPAIRABLE, Report
from balance.protocol.bookkeeper import Bookkeeper
from scripts.command import add_group_arguments, chosen_groups, documented_parser, positive, run
from scripts.connection import add_arguments, open_database
from scripts.progress import Counting

_SHOWN = 20
"""Differences of one group that are printed; --json has all of them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one group: its report, or the error that prevented it; and whether it is true now."""

    group_id: str
    report: Report | None
    error: str | None = None
    repaired: bool = False

    @property
    def is_fine(self) -> bool:
        return self.repaired or (self.error is None and self.report is not None and self.report.state in FINE)


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    given = _parser().parse_args(arguments)
    return run("verify", lambda: _verify(given, *open_database(given, writes=given.repair)))


def _parser() -> argparse.ArgumentParser:
    parser = documented_parser("verify", __doc__)
    add_group_arguments(parser)
    parser.add_argument("--sample", metavar="N", type=positive, help="only this many groups, chosen at random")
    parser.add_argument("--repair", action="store_true", help="rebuild what is not true and check it again; remove orphans")
    parser.add_argument(
        "--lag",
        metavar="SECONDS",
        type=_lag,
        default=LAG_ALLOWED,
        help=f"how late an event may be before its absence counts as drift; 0 to {_seconds(LAG_ALLOWED)}"
        f" (default: {_seconds(LAG_ALLOWED)})",
    )
    parser.add_argument(
        "--orphans",
        action="store_true",
        help="also look for what is left of deleted groups; what was in use within the hour stays",
    )
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object for each finding; the last line is the summary"
    )
    add_arguments(parser, writes=True)
    return parser


def _seconds(duration: timedelta) -> int:
    return round(duration.total_seconds())


def _lag(text: str) -> timedelta:
    if not text.isdecimal() or timedelta(seconds=int(text)) > LAG_ALLOWED:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {_seconds(LAG_ALLOWED)}")
    return timedelta(seconds=int(text))


def _verify(given: argparse.Namespace, firestore: Directory, settings: Settings) -> int:
    ids, total = chosen_groups(given, firestore, settings)
    if given.sample:
        ids = _sample(ids, given.sample)
        total = len(ids)
    keeper = Bookkeeper(firestore, settings, updates_on=lambda: True)

    def work(group_id: str) -> Verdict:
        return _verdict(firestore, keeper, group_id, given.lag, repair=given.repair)

    counts: Counter[str] = Counter()
    unfixed = 0
    with Counting("verifying", total) as progress:
        for verdict in in_parallel(ids, work, given.workers):
            counts["failed" if verdict.report is None else verdict.report.state] += 1
            counts["repaired"] += verdict.repaired
            unfixed += not verdict.is_fine
            if verdict.error or verdict.report is None or verdict.report.state not in FINE:
                _report(verdict, progress, as_json=given.json)
            progress.advance(failed=not verdict.is_fine)
        orphaned = _orphans(given, firestore, settings, progress) if given.orphans else None
    repaired = counts.pop("repaired")
    summary: dict[str, Any] = {
        "groups": counts.total(),
        "states": dict(counts),
        "repaired": repaired,
        "unrepaired": unfixed,
        "seconds": round(progress.elapsed_s, 1),
    }
    if orphaned is not None:
        summary["orphans"] = dict(orphaned)
    _print_summary(summary, as_json=given.json)
    return 1 if unfixed or (orphaned and orphaned["left"]) else 0


def _sample(ids: Iterable[str], size: int) -> list[str]:
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
            return Verdict(group_id, report)
        reconcile.repair(firestore, keeper, group_id)
        return Verdict(group_id, report, repaired=check().state in FINE)
    except Exception as error:  # noqa: BLE001 - one group must not stop the others: it is named and counted
        return Verdict(group_id, report, error=reason(error))


def _report(verdict: Verdict, progress: Counting, *, as_json: bool) -> None:
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
    about = ", repaired" if verdict.repaired else f", not repaired: {verdict.error}" if verdict.error else ""
    progress.say(f"group {verdict.group_id}: {state}{about}")
    for line in _lines(report):
        progress.say(f"  {line}")


def _lines(report: Report | None) -> Iterator[str]:
    differences = report.differences if report else ()
    yield from map(str, differences[:_SHOWN])
    if len(differences) > _SHOWN:
        yield f"and {len(differences) - _SHOWN} more (--json has all)"


def _orphans(given: argparse.Namespace, firestore: Directory, settings: Settings, progress: Counting) -> Counter[str]:
    """How many orphaned documents were removed, and how many left."""
    counts: Counter[str] = Counter(removed=0, left=0)
    for orphan in orphans.find(firestore, settings):
        done = "removed" if given.repair and orphans.remove(firestore, settings, orphan) else "left"
        counts[done] += orphan.documents
        if given.json:
            print(json.dumps({"orphan": orphan.group_id, "documents": orphan.documents, "done": done}), flush=True)
        else:
            progress.say(f"deleted group {orphan.group_id}: {orphan.documents} documents {done}")
    return counts


def _print_summary(summary: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(summary))
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for state, count in sorted(summary["states"].items()):
        table.add_row(f"{count:,}", state)
    if summary["repaired"]:
        table.add_row(f"{summary['repaired']:,}", "repaired")
    for done, count in summary.get("orphans", {}).items():
        table.add_row(f"{count:,}", f"orphaned documents {done}")
    table.add_row(f"{summary['groups']:,}", f"groups in {summary['seconds']:,} s")
    Console(highlight=False).print(table)


if __name__ == "__main__":
    sys.exit(main())
