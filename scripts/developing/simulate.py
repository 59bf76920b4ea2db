"""Attack the protocol with simulated schedules, or replay one.

Each seed makes a schedule: what the app writes, how events are delivered, what fails. The product's own code runs it in
virtual time on the embedded Firestore's engine, and an independent auditor judges.

Exit codes: 0 all schedules passed (or, with --mutant, the weakened product was caught); 1 not so; 2 wrong usage; 130
interrupted, with a summary of what was done.

Examples:
  balance simulate --seeds 20000
  balance simulate --seed 46 --trace
  balance simulate --mutants
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

import click

from scripts.command import POSITIVE, subcommand
from scripts.exits import Exit
from tests.simulation.campaign import Report, kill, run_in_parallel
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.simulation import Failure, Simulation


@subcommand("simulate", __doc__)
@click.option("--seeds", metavar="N", type=POSITIVE, default=1_000, help="How many schedules (1000).")
@click.option("--start", metavar="SEED", type=int, default=0, help="The first seed (0).")
@click.option("--jobs", metavar="N", type=POSITIVE, default=os.cpu_count() or 1, help="Processes (all cores).")
@click.option("--seed", metavar="SEED", type=int, help="Run this one schedule.")
@click.option("--trace", is_flag=True, help="With --seed: print everything that happens.")
@click.option("--mutant", metavar="NAME", help="Run a weakened product instead.")
@click.option("--mutants", is_flag=True, help="For each weakened product find the first seeds that catch it.")
def simulate(seeds: int, start: int, jobs: int, seed: int | None, trace: bool, mutant: str | None, mutants: bool) -> int:
    chosen = next((known for known in MUTANTS if known.name == mutant), None)
    if mutant is not None and chosen is None:
        raise click.BadParameter(f"{mutant!r} is none of {', '.join(known.name for known in MUTANTS)}", param_hint="--mutant")
    if seed is not None:
        return _replay(seed, chosen, trace=trace)
    if mutants or chosen is not None:
        return _hunt([chosen] if chosen else MUTANTS, range(start, start + seeds))
    return _run(range(start, start + seeds), jobs)


def _replay(seed: int, mutant: Mutant | None, *, trace: bool) -> int:
    simulation = Simulation(seed, edits=mutant.edits if mutant else (), trace=print if trace else None)
    print(f"{simulation.profile}\n{simulation.chaos}\n" if trace else "", end="")
    try:
        figures = simulation.run()
    except Failure as failure:
        print(failure)
        return 0 if mutant else 1
    print(f"seed {seed}: passed; {figures}")
    return 1 if mutant else 0


def _run(seeds: range, jobs: int) -> int:
    started = time.monotonic()
    shown: set[int] = set()
    report = Report()
    interrupted = False
    try:
        for report in run_in_parallel(seeds, jobs):
            for seed in report.failures.keys() - shown:
                print(f"\r{report.failures[seed]}")
                shown.add(seed)
            rate = report.figures.schedules / (time.monotonic() - started)
            so_far = f"{report.done} of {len(seeds)} schedules, {len(report.failures)} failed, {rate:.0f}/s"
            print(f"\r{so_far} ", end="", file=sys.stderr)
    except KeyboardInterrupt:
        interrupted = True
    print(file=sys.stderr)
    figures, took_s = report.figures, time.monotonic() - started
    done = f"interrupted after {report.done} of " if interrupted else ""
    print(
        f"{done}{len(seeds)} schedules (seeds {seeds.start} to {seeds.stop - 1}) in {took_s:.0f} s on {jobs} processes: "
        f"{len(report.failures)} failed\n"
        f"{figures.writes} writes, {figures.events} events, {figures.deliveries} deliveries, "
        f"{figures.failures} of which raised, {figures.crashes} crashes, "
        f"{figures.commits_of_several} commits of several groups in {figures.schedules_with_them} schedules"
    )
    for kind, counts in (("outcomes", figures.outcomes), ("faults", figures.fates)):
        print(f"{kind}: " + ", ".join(f"{count} {what}" for what, count in counts.most_common()))
    if report.failures:
        return 1
    return Exit.INTERRUPTED if interrupted else Exit.DONE


def _hunt(mutants: Sequence[Mutant], seeds: range) -> int:
    survivors = 0
    for mutant in mutants:
        caught: list[int] = []
        rest = seeds
        while len(caught) < 3 and (found := kill(mutant, rest)) is not None:
            caught.append(found[0])
            rest = range(found[0] + 1, seeds.stop)
        survivors += not caught
        print(f"{mutant.name}: {', '.join(map(str, caught)) or 'SURVIVES'}", flush=True)
    return 1 if survivors else 0
