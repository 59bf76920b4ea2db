"""Many worlds, on several processors."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

from tests.simulation.explorer.merging import Merging
from tests.simulation.explorer.report import Failed, Report
from tests.simulation.explorer.world import World
from tests.simulation.product import Edit


def explore_in_parallel(
    worlds: Sequence[World], jobs: int, *, most: int | None = None, edits: tuple[Edit, ...] = ()
) -> Iterator[Report]:
    """A report for each world, as they come. Interrupted, it ends at once."""
    # Not forked: a child must not inherit the state of gRPC's threads.
    with get_context("spawn").Pool(jobs, initializer=_ignore_interrupts) as pool:
        explore = partial(_explore, most=most, edits=edits)
        yield from pool.imap_unordered(explore, worlds)


def _explore(world: World, *, most: int | None, edits: tuple[Edit, ...]) -> Report:
    return Merging(world, edits=edits).run(most=most, stops_at_failure=bool(edits))


def catch(edits: tuple[Edit, ...], world: World, most: int) -> Failed | None:
    """A failure of a weakened product in a world, with as few preemptions as will do; None when none is found."""
    report = Merging(replace(world, preemptions=None), edits=edits).run(most=most, stops_at_failure=True)
    return next(iter(report.failed.values()), None)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
