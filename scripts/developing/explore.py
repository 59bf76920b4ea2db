"""Run every interleaving of small worlds against the protocol, and judge each.

A world is a handful of writes, deliveries, rebuilds and failures. The product's own code runs it on the embedded
Firestore's engine, again and again, until every interleaving of database calls has been seen that could end differently.
WORLD is a name, or a pattern like "delete*"; without any, all worlds are run.

Exit codes: 0 every world was exhausted and nothing was wrong (or, with --mutant, the weakened product was caught); 1 not so,
which includes a world that was cut off; 2 wrong usage; 130 interrupted.

Examples:
  balance explore
  balance explore --list "group*"
  balance explore "two documents, rebuild" "delete*" --jobs 1
"""

from __future__ import annotations

import fnmatch
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import click

from scripts.command import POSITIVE, subcommand
from scripts.exits import Exit
from scripts.output import counted
from tests.simulation.explorer import stated, trace
from tests.simulation.explorer.campaign import explore_in_parallel
from tests.simulation.explorer.report import Report
from tests.simulation.explorer.table import lines
from tests.simulation.explorer.world import World
from tests.simulation.explorer.worlds import WORLDS
from tests.simulation.mutants import MUTANTS

_MOST_TRACES = 3


@subcommand("explore", __doc__)
@click.argument("worlds", nargs=-1, metavar="[WORLD]...")
@click.option("--list", "only_list", is_flag=True, help="Name the worlds, with executions and bounds.")
@click.option("--table", is_flag=True, help="Print the table of docs/reliability.md.")
@click.option("--jobs", metavar="N", type=POSITIVE, default=os.cpu_count() or 1, help="Processes (all cores).")
@click.option("--most", metavar="N", type=POSITIVE, help="Cut a world off after so many executions.")
@click.option("--record", is_flag=True, help="State anew what is exhausted within --most executions.")
@click.option("--mutant", metavar="NAME", help="Run a weakened product instead.")
def explore(
    worlds: tuple[str, ...], only_list: bool, table: bool, jobs: int, most: int | None, record: bool, mutant: str | None
) -> int:
    if table:
        print("\n".join(lines()))
        return Exit.DONE
    chosen = _chosen(worlds)
    if only_list:
        return _list(chosen)
    if record:
        chosen = [replace(world, preemptions=None) for world in chosen]
    weakened = next((known for known in MUTANTS if known.name == mutant), None)
    if mutant is not None and weakened is None:
        raise click.BadParameter(f"{mutant!r} is none of {', '.join(known.name for known in MUTANTS)}", param_hint="--mutant")
    reports: list[Report] = []
    started = time.monotonic()
    try:
        for report in explore_in_parallel(chosen, jobs, most=most, edits=weakened.edits if weakened else ()):
            reports.append(report)
            _print(report, is_stated=weakened is None and not record)
            if record and not report.failures:
                stated.record(report)
    except KeyboardInterrupt:
        print(f"interrupted after {len(reports)} of {len(chosen)} worlds", file=sys.stderr)
        return Exit.INTERRUPTED
    failed = sum(report.failures > 0 for report in reports)
    cut_off = sum(not (report.is_exhausted or report.failures or (record and report.within)) for report in reports)
    executions = sum(report.executions for report in reports)
    took_s = time.monotonic() - started
    done = f"{counted(len(reports), 'world')}, {counted(executions, 'execution')} in {took_s:.0f} s"
    print(f"{done}: {failed} failed, {cut_off} cut off")
    if weakened is not None:
        return Exit.DONE if failed else Exit.WRONG
    strayed = not record and any(stated.strays(report) for report in reports)
    return Exit.WRONG if failed or cut_off or strayed else Exit.DONE


def _chosen(patterns: Sequence[str]) -> list[World]:
    """The worlds that are meant."""
    if not patterns:
        return list(WORLDS.values())
    names: dict[str, None] = {}
    for pattern in patterns:
        matching = [name for name in WORLDS if fnmatch.fnmatchcase(name, pattern)]
        if not matching:
            raise click.BadParameter(f"no world is named {pattern!r}; --list names them all", param_hint="WORLD")
        names.update(dict.fromkeys(matching))
    return [WORLDS[name] for name in names]


def _list(worlds: Sequence[World]) -> Exit:
    known = stated.all_worlds()
    width = max(len(world.name) for world in worlds)
    for world in worlds:
        count = known[world.name].executions if world.name in known else "?"
        print(f"{world.name:<{width}}  {count:>7}  {_bound(world.preemptions):<24} {world.about}")
    return Exit.DONE


def _bound(preemptions: int | None) -> str:
    return "all interleavings" if preemptions is None else f"up to {preemptions} preemptions"


def _print(report: Report, *, is_stated: bool) -> None:
    world = report.world
    if report.failures:
        result = "FAILED"
    elif report.is_exhausted:
        result = f"exhausted, {_bound(world.preemptions)}"
    elif report.within:
        result = f"CUT OFF, {_bound(len(report.within) - 1)} exhausted"
    else:
        result = "CUT OFF"
    at_rest = ", ".join(f"{count} {state}" for state, count in sorted(report.states.items())) or "nothing"
    told = f"{report.executions} executions, {report.reached} states; at rest {at_rest}"
    print(f"{world.name}: {result}, {told}", flush=True)
    if is_stated and (strays := stated.strays(report)):
        print(f"  {strays}")
    worst_last = sorted(report.failed.values(), key=lambda failed: (failed.switches, len(failed.steps)))
    for failed in worst_last[:_MOST_TRACES]:
        print("  " + "\n  ".join(trace.lines(failed)))
    if len(worst_last) > _MOST_TRACES:
        print(f"  and {len(worst_last) - _MOST_TRACES} other kinds of failures")
