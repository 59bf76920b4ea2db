"""Many worlds, on several processors."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

from tests.simulation.explorer.exploration import Exploration, Failed, Report
from tests.simulation.explorer.world import World
from tests.simulation.explorer.worlds import WORLDS
from tests.simulation.product import Edit

BOUNDS = (None, 2, 1, 0)
"""Of preemptions, in the order in which they are tried when a world is stated anew."""


def explore_in_parallel(
    worlds: Sequence[World], jobs: int, *, most: int | None = None, edits: tuple[Edit, ...] = (), widest: bool = False
) -> Iterator[Report]:
    """A report for each world, as they come. Interrupted, it ends at once.

    `widest`: of the bounds, the widest under which the world is exhausted in no more than `most` executions.
    """
    # Not forked: a child must not inherit the state of gRPC's threads.
    with get_context("spawn").Pool(jobs, initializer=_ignore_interrupts) as pool:
        explore = partial(_explore_widest, most=most) if widest else partial(_explore, most=most, edits=edits)
        yield from pool.imap_unordered(explore, [world.name for world in worlds])


def _explore(name: str, *, most: int | None, edits: tuple[Edit, ...]) -> Report:
    return Exploration(WORLDS[name], edits=edits).run(most=most, stops_at_failure=bool(edits))


def _explore_widest(name: str, *, most: int | None) -> Report:
    report: Report | None = None
    for bound in BOUNDS:
        report = Exploration(replace(WORLDS[name], preemptions=bound)).run(most=most)
        if report.is_exhausted or report.failures:
            break
    assert report is not None, "there are bounds"
    return report


def catch(edits: tuple[Edit, ...], world: World, most: int) -> Failed | None:
    """A failure of a weakened product in a world, with as few preemptions as will do; None when none is found.

    What is wrong mostly shows with one or two preemptions, and there are few executions with so few. `most` is for each bound.
    """
    for bound in reversed(BOUNDS):
        report = Exploration(replace(world, preemptions=bound), edits=edits).run(most=most, stops_at_failure=True)
        if report.failed:
            return next(iter(report.failed.values()))
    return None


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
