"""Run every interleaving of small worlds against the protocol, and judge each.

A world is a handful of writes, deliveries, rebuilds and failures. The product's own code runs it on the embedded Firestore's
engine, once for each interleaving of database calls that could end differently. Exit code 0: every world was exhausted and
nothing was wrong; 1: not so (a world that was cut off counts as failed); 2: wrong arguments; 130: interrupted.
"""

import argparse
import fnmatch
import os
import sys
import time
from collections.abc import Sequence

from tests.simulation.explorer import stated, trace
from tests.simulation.explorer.campaign import explore_in_parallel
from tests.simulation.explorer.exploration import Report
from tests.simulation.explorer.world import World
from tests.simulation.explorer.worlds import WORLDS
from tests.simulation.mutants import MUTANTS

_MOST_TRACES = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    worlds = _chosen(options.worlds)
    if isinstance(worlds, str):
        parser.error(f"no world is named {worlds!r}; --list names them all")
    if options.list:
        return _list(worlds)
    edits = next((mutant.edits for mutant in MUTANTS if mutant.name == options.mutant), ())
    reports: dict[str, Report] = {}
    started = time.monotonic()
    try:
        for report in explore_in_parallel(worlds, options.jobs, most=options.most, edits=edits):
            reports[report.world.name] = report
            _print(report, is_judged=not options.mutant and not options.record)
    except KeyboardInterrupt:
        print(f"interrupted after {len(reports)} of {len(worlds)} worlds", file=sys.stderr)
        return 130
    executions = sum(report.executions for report in reports.values())
    failed = [report for report in reports.values() if report.failures]
    cut_off = [report for report in reports.values() if not report.is_exhausted and not report.failures]
    print(
        f"{len(reports)} worlds, {executions} executions in {time.monotonic() - started:.0f} s: "
        f"{len(failed)} failed, {len(cut_off)} cut off"
    )
    if options.record:
        stated.record(reports.values())
    if options.mutant:
        return 0 if failed else 1
    strayed = [report for report in reports.values() if stated.strays(report)]
    return 1 if failed or cut_off or (strayed and not options.record) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.explore", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("worlds", nargs="*", metavar="WORLD", help='names or patterns like "delete*" (default: all)')
    parser.add_argument("--list", action="store_true", help="name the worlds, with their bounds and numbers of executions")
    parser.add_argument(
        "--jobs", type=_positive, default=os.cpu_count() or 1, metavar="N", help="processes (default: all cores)"
    )
    parser.add_argument("--most", type=_positive, metavar="N", help="cut a world off after so many executions")
    parser.add_argument("--record", action="store_true", help="state the numbers of executions anew")
    parser.add_argument(
        "--mutant", choices=[mutant.name for mutant in MUTANTS], metavar="NAME", help="run a weakened product instead"
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _chosen(patterns: Sequence[str]) -> list[World] | str:
    """The worlds that are meant; a pattern that means none."""
    if not patterns:
        return list(WORLDS.values())
    names: dict[str, None] = {}
    for pattern in patterns:
        matching = [name for name in WORLDS if fnmatch.fnmatchcase(name, pattern)]
        if not matching:
            return pattern
        names.update(dict.fromkeys(matching))
    return [WORLDS[name] for name in names]


def _list(worlds: Sequence[World]) -> int:
    known = stated.executions()
    width = max(len(world.name) for world in worlds)
    for world in worlds:
        count = known.get(world.name)
        print(f"{world.name:<{width}}  {count if count is not None else '?':>7}  {_bound(world):<24} {world.about}")
    return 0


def _bound(world: World) -> str:
    return "all interleavings" if world.preemptions is None else f"up to {world.preemptions} preemptions"


def _print(report: Report, *, is_judged: bool) -> None:
    world = report.world
    result = "FAILED" if report.failures else "exhausted" if report.is_exhausted else "CUT OFF"
    at_rest = ", ".join(f"{count} {state}" for state, count in sorted(report.states.items()))
    print(
        f"{world.name}: {result}, {report.executions} executions, {_bound(world)}; at rest {at_rest or 'nothing'}", flush=True
    )
    if is_judged and (strays := stated.strays(report)):
        print(f"  {strays}")
    worst_last = sorted(report.failed.values(), key=lambda failed: (failed.switches, len(failed.steps)))
    for failed in worst_last[:_MOST_TRACES]:
        print("  " + "\n  ".join(trace.lines(failed)))
    if len(worst_last) > _MOST_TRACES:
        print(f"  and {len(worst_last) - _MOST_TRACES} other kinds of failures")


if __name__ == "__main__":
    sys.exit(main())
