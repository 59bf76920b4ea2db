"""Give every group its balance, and rebuild those that are stale or damaged.

It pages through all groups, or those named, and leaves current balances alone. Stop it at any moment and start it again:
what is done is found current and skipped. It is safe while the app is in use.

For millions of groups, --enqueue puts a task for each on a queue and the functions do the work. That wants the credentials
of an account that may enqueue: docs/deploy.md.

Exit codes: 0 every group has a current balance (or would have, or has a task); 1 some groups failed or do not exist, each
is named; 2 not begun; 3 all is done, but documents were left out; 130 interrupted.

Examples:
  balance backfill --project my-app --dry-run
  balance backfill --project my-app --workers 16
  balance backfill --project my-app --group lisbon --group flat --force
  balance backfill --project my-app --enqueue --rate 200
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import click
from rich.console import Console

from balance.documents.tally import Tally
from balance.functions import tasks
from balance.operations.backfill import Filled, Step, fill
from balance.operations.fleet import in_parallel
from balance.protocol.bookkeeper import Bookkeeper
from scripts import command, deployed, left_out, output, target
from scripts.command import Refused
from scripts.command import as_json as json_option
from scripts.exits import Exit
from scripts.output import Cell, Names, Section, print_sections
from scripts.progress import Counting
from scripts.target import Target

TASKS_HOST = "CLOUD_TASKS_EMULATOR_HOST"
CHUNK = 10
"""Groups whose balances one worker reads at once: few enough to fit in memory at 1 MiB each."""


@command.subcommand("backfill", __doc__)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@click.option("--force", is_flag=True, help="Rebuild current ones too, newer versions, by other rules.")
@command.group_options
@click.option("--enqueue", is_flag=True, help="Have the function rebuild-balance do it.")
@click.option("--rate", metavar="N", type=command.POSITIVE, default=100, help="Tasks enqueued a second (100).")
@click.option("--region", help="Of the functions, for --enqueue (BALANCE_REGION).")
@click.option("--function-url", metavar="URL", help="For --enqueue, where it is not the usual one.")
@json_option
@target.options(writes=True)
def backfill(
    target: Target,
    dry_run: bool,
    force: bool,
    groups: tuple[str, ...],
    after: str | None,
    workers: int,
    enqueue: bool,
    rate: int,
    region: str | None,
    function_url: str | None,
    as_json: bool,
) -> int:
    opened = target.open(writes=not dry_run)
    firestore, settings = opened.firestore, opened.settings
    ids, total = opened.chosen(groups, after)
    if not enqueue:
        deployed.check(opened, writes=not dry_run, force=force)
    if enqueue:
        if opened.emulator and TASKS_HOST not in os.environ:
            raise Refused(f"--enqueue on an emulator: set {TASKS_HOST} to the runner's host:port, which `balance dev` prints")
        where = region or opened.parameters["BALANCE_REGION"]
        try:
            put = tasks.sender(opened.project, where, url=function_url, rate_per_s=rate, force=force)
        except tasks.CannotEnqueue as error:
            raise Refused(str(error)) from None
        verb, work = "enqueueing", _each(put)
    else:
        keeper = Bookkeeper(firestore, settings, updates_on=lambda: True)
        verb = "looking" if dry_run else "backfilling"

        def work(chunk: list[str]) -> list[Filled]:
            return fill(firestore, keeper, chunk, force=force, dry_run=dry_run)

    counts: Counter[str] = Counter()
    tally = Tally() if groups or enqueue else left_out.of_no_group(firestore, settings.layout)
    conditions: Counter[str] = Counter()
    last: str | None = None
    interrupted = False
    with Counting(verb, total) as progress:
        try:
            for results in in_parallel(_chunks(ids), work, workers):
                for filled in results:
                    counts[filled.step] += 1
                    if filled.was and filled.step is not Step.SKIPPED:
                        conditions[filled.was] += 1
                    # A deleted group among all is nothing; one that was named is a mistake.
                    is_wrong = filled.step is Step.FAILED or (filled.step is Step.GONE and bool(groups))
                    if is_wrong:
                        _report(filled, progress, as_json=as_json)
                    progress.advance(failed=is_wrong)
                    tally.add(filled.tally or Tally())
                    last = filled.group_id
        except KeyboardInterrupt:
            interrupted = True
        except tasks.CannotEnqueue as error:
            # The next group would meet the same.
            raise Refused(str(error)) from None
    summary = {
        "groups": counts.total(),
        **{step.name.lower(): counts[step] for step in Step},
        "were": dict(conditions),
        "documents": tally.as_json(),
        "seconds": round(progress.elapsed_s, 1),
        "groupsPerSecond": round(counts.total() / progress.elapsed_s, 1),
        "interrupted": interrupted,
    }
    _print_summary(summary, tally, as_json=as_json)
    if interrupted:
        goes_on = "run it again" if groups or last is None else f"run it again, or go on with --after {last}"
        print(f"balance backfill: interrupted; groups that were under way are not counted; {goes_on}", file=sys.stderr)
        return Exit.INTERRUPTED
    if counts[Step.FAILED] or (groups and counts[Step.GONE]):
        return Exit.WRONG
    saw_all = not (groups or enqueue or counts[Step.SKIPPED])
    if saw_all and not tally.total and (told := left_out.unseen(firestore, settings.layout)):
        print(f"balance backfill: {told}", file=sys.stderr)
        return Exit.WRONG
    return Exit.LEFT_OUT if tally.malformed else Exit.DONE


def _each(put: Callable[[str], Filled]) -> Callable[[list[str]], list[Filled]]:
    return lambda chunk: [put(group_id) for group_id in chunk]


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def _report(filled: Filled, progress: Counting, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"group": filled.group_id, "step": filled.step, "was": filled.was, "error": filled.error}), flush=True)
    elif not output.is_terminal():
        output.print_row("failed", filled.group_id, filled.error or "there is no such group")
    elif filled.step is Step.GONE:
        progress.say(f"group {filled.group_id}: there is no such group")
    else:
        progress.say(f"group {filled.group_id} failed: {filled.error}")


def _print_summary(summary: dict[str, Any], tally: Tally, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(summary))
        return
    rows: list[tuple[Cell, ...]] = [(f"{count:,}", str(step)) for step in Step if (count := summary[step.name.lower()])]
    rows += [(f"{count:,}", f"of these: balance {was}") for was, count in sorted(summary["were"].items())]
    groups = "group" if summary["groups"] == 1 else "groups"
    rows.append((f"{summary['groups']:,}", f"{groups} in {summary['seconds']:,} s, {summary['groupsPerSecond']:,}/s"))
    sections = [Section("groups", "", ("", ""), rows)]
    if tally.total:
        sections.append(left_out.section(tally))
    print_sections(sections, Names(), Console(highlight=False))
