"""Attack the protocol with simulated schedules, or replay one.

Each seed makes a schedule: what the app writes, how events are delivered, what fails. The product's own code runs it in virtual
time on the embedded Firestore's engine, and an independent auditor judges. Exit code 0: all schedules passed (or, with
--mutant, the weakened product was caught); 1: not so; 2: wrong arguments; 130: interrupted, with a summary of what was done.
"""

import argparse
import os
import sys
import time

from tests.simulation.campaign import Report, kill, run_in_parallel
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.simulation import Failure, Simulation


def main() -> int:
    """The command line."""
    arguments = _parser().parse_args()
    mutant = next((mutant for mutant in MUTANTS if mutant.name == arguments.mutant), None)
    if arguments.seed is not None:
        return _replay(arguments.seed, mutant, trace=arguments.trace)
    if arguments.mutants or mutant is not None:
        return _hunt([mutant] if mutant else MUTANTS, range(arguments.start, arguments.start + arguments.seeds))
    return _run(range(arguments.start, arguments.start + arguments.seeds), arguments.jobs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=_positive, default=1_000, metavar="N", help="how many schedules (default 1000)")
    parser.add_argument("--start", type=int, default=0, metavar="SEED", help="the first seed (default 0)")
    parser.add_argument(
        "--jobs", type=_positive, default=os.cpu_count() or 1, metavar="N", help="processes (default: all cores)"
    )
    parser.add_argument("--seed", type=int, metavar="SEED", help="run this one schedule")
    parser.add_argument("--trace", action="store_true", help="with --seed: print everything that happens")
    parser.add_argument(
        "--mutant", choices=[mutant.name for mutant in MUTANTS], metavar="NAME", help="run a weakened product instead"
    )
    parser.add_argument("--mutants", action="store_true", help="for each weakened product find the first seeds that catch it")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


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
    return 130 if interrupted else 0


def _hunt(mutants: "list[Mutant] | tuple[Mutant, ...]", seeds: range) -> int:
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


if __name__ == "__main__":
    sys.exit(main())
