"""Give every group its balance.

Pages through all groups (or those named with --group), leaves alone those with a current balance and rebuilds the others.
It may be stopped at any moment, by any means, and started again: what is done by then is found current and skipped. It is
safe while the app is in use.

For a fleet of millions, --enqueue rebuilds nothing here but puts a task for each group on a queue, and the functions do the
work at the queue's rate (functions.yaml). It wants the credentials of a service account that may enqueue:
`gcloud auth application-default login --impersonate-service-account=ACCOUNT`.

exit codes:
  0    every group has a current balance (or would have; or every task is enqueued)
  1    some groups failed: each is named with its reason, and a second run tries them again
  2    called wrongly, not confirmed, or the list of groups could not be read
  130  interrupted: run it again

examples:
  python -m scripts.backfill --project my-app --dry-run
  python -m scripts.backfill --project my-app --workers 16
  python -m scripts.backfill --project my-app --group lisbon --group flat-share --force
  python -m scripts.backfill --project my-app --enqueue --rate 200
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from rich.console import Console
from rich.table import Table

from balance.database.firestore import Directory
from balance.documents.settings import Settings
from balance.functions import tasks
from balance.operations.backfill import Filled, Step, fill
from balance.operations.fleet import in_parallel
from balance.protocol.bookkeeper import Bookkeeper
from scripts.command import add_group_arguments, chosen_groups, documented_parser, fail, positive, run
from scripts.connection import add_arguments, open_database, parameters
from scripts.progress import Counting

CHUNK = 10
"""Groups whose balances one worker reads at once: few enough to fit in memory at 1 MiB each."""


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    given = _parser().parse_args(arguments)
    return run("backfill", lambda: _backfill(given, *open_database(given, writes=not given.dry_run)))


def _parser() -> argparse.ArgumentParser:
    parser = documented_parser("backfill", __doc__)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")
    parser.add_argument(
        "--force", action="store_true", help="rebuild current balances too, and those that newer code wrote (after a roll-back)"
    )
    add_group_arguments(parser)
    parser.add_argument(
        "--enqueue",
        action="store_true",
        help="rebuild nothing here, but put a task for each group on the queue of the function rebuild-balance",
    )
    parser.add_argument("--rate", metavar="N", type=positive, default=100, help="tasks enqueued per second (default: 100)")
    parser.add_argument("--region", help="the region of the functions, for --enqueue (default: BALANCE_REGION, or us-central1)")
    parser.add_argument("--function-url", metavar="URL", help="its URL, for --enqueue, where it is not the usual one")
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object for each failure, and the summary as the last line"
    )
    add_arguments(parser, writes=True)
    return parser


def _backfill(given: argparse.Namespace, firestore: Directory, settings: Settings) -> int:
    ids, total = chosen_groups(given, firestore, settings)
    if given.enqueue:
        region = given.region or parameters(given, given.project or "").get("BALANCE_REGION") or "us-central1"
        put = tasks.sender(given.project, region, url=given.function_url, rate_per_s=given.rate, force=given.force)
        verb, work = "enqueueing", _each(put)
    else:
        keeper = Bookkeeper(firestore, settings, updates_on=lambda: True)
        verb = "looking" if given.dry_run else "backfilling"

        def work(chunk: list[str]) -> list[Filled]:
            return fill(firestore, keeper, chunk, force=given.force, dry_run=given.dry_run)

    counts: Counter[str] = Counter()
    conditions: Counter[str] = Counter()
    last: str | None = None
    interrupted = False
    with Counting(verb, total) as progress:
        try:
            for results in in_parallel(_chunks(ids), work, given.workers):
                for filled in results:
                    counts[filled.step] += 1
                    if filled.was and filled.step is not Step.SKIPPED:
                        conditions[filled.was] += 1
                    if filled.step is Step.FAILED:
                        _report_failure(filled, progress, as_json=given.json)
                    progress.advance(failed=filled.step is Step.FAILED)
                    last = filled.group_id
        except KeyboardInterrupt:
            interrupted = True
    summary = {
        "groups": counts.total(),
        **{step.name.lower(): counts[step] for step in Step},
        "were": dict(conditions),
        "seconds": round(progress.elapsed_s, 1),
        "groupsPerSecond": round(counts.total() / progress.elapsed_s, 1),
        "interrupted": interrupted,
    }
    _print_summary(summary, as_json=given.json)
    if interrupted:
        fail("backfill", _how_to_resume(given, last))
        return 130
    return 1 if counts[Step.FAILED] else 0


def _how_to_resume(given: argparse.Namespace, last: str | None) -> str:
    if given.group or last is None:
        return "interrupted; run it again"
    return f"interrupted; run it again, or go on with --after {last}"


def _each(put: Callable[[str], Filled]) -> Callable[[list[str]], list[Filled]]:
    return lambda chunk: [put(group_id) for group_id in chunk]


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def _report_failure(filled: Filled, progress: Counting, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"group": filled.group_id, "step": filled.step, "was": filled.was, "error": filled.error}), flush=True)
    else:
        progress.say(f"group {filled.group_id} failed: {filled.error}")


def _print_summary(summary: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(summary))
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for step in Step:
        if count := summary[step.name.lower()]:
            table.add_row(f"{count:,}", str(step))
    for condition, count in sorted(summary["were"].items()):
        table.add_row(f"{count:,}", f"of these: balance {condition}", style="dim")
    table.add_row(f"{summary['groups']:,}", f"groups in {summary['seconds']:,} s, {summary['groupsPerSecond']:,}/s")
    Console(highlight=False).print(table)


if __name__ == "__main__":
    sys.exit(main())
