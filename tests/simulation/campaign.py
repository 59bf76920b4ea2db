"""Many schedules, on several processors."""

import gc
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context

from tests.simulation.mutants import Mutant
from tests.simulation.simulation import Failure, Figures, Simulation

CHUNK = 100


@dataclass(slots=True)
class Report:
    """What came of some schedules."""

    figures: Figures = field(default_factory=Figures)
    failures: dict[int, str] = field(default_factory=dict)
    """By seed."""

    @property
    def done(self) -> int:
        """How many schedules ran."""
        return self.figures.schedules + len(self.failures)

    def add(self, other: "Report") -> None:
        """Add up."""
        self.figures.add(other.figures)
        self.failures |= other.failures


def run(seeds: Sequence[int]) -> Report:
    """Run these schedules, one after the other."""
    report = Report()
    with _collected_by_hand() as collect:
        for seed in seeds:
            try:
                report.figures.add(Simulation(seed).run())
            except Failure as failure:
                report.failures[seed] = str(failure)
            collect()
    return report


@contextmanager
def _collected_by_hand() -> Iterator[Callable[[], object]]:
    """Garbage is collected only when the function given is called: after each schedule, all of which is one cycle then."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield partial(gc.collect, 0)
    finally:
        if was_enabled:
            gc.enable()


def run_in_parallel(seeds: range, jobs: int) -> Iterator[Report]:
    """Run these schedules in processes of their own; gives one growing report, each time that some of them are done.

    Interrupted, it ends when what is under way is done.
    """
    total = Report()
    chunks = (seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK))
    # Not forked: a child must not inherit the state of gRPC's threads.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_ignore_interrupts) as pool:
        under_way: set[Future[Report]] = set()
        for report in _in_turn(pool, chunks, under_way, 2 * jobs):
            total.add(report)
            yield total


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _in_turn(pool: ProcessPoolExecutor, chunks: Iterator[range], under_way: set[Future[Report]], most: int) -> Iterator[Report]:
    for chunk in chunks:
        under_way.add(pool.submit(run, chunk))
        while len(under_way) >= most:
            yield from _finished(under_way)
    while under_way:
        yield from _finished(under_way)


def _finished(under_way: set[Future[Report]]) -> list[Report]:
    done, _ = wait(under_way, return_when=FIRST_COMPLETED)
    under_way -= done
    return [future.result() for future in done]


def kill(mutant: Mutant, seeds: Sequence[int]) -> tuple[int, str] | None:
    """The first of the seeds whose schedule catches a mutant, and how; None when none does."""
    for seed in seeds:
        try:
            Simulation(seed, edits=mutant.edits).run()
        except Failure as failure:
            return seed, str(failure)
    return None
