"""Many worlds, on several processors."""

import signal
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing import get_context

from tests.simulation.explorer.exploration import Exploration, Report
from tests.simulation.explorer.world import World
from tests.simulation.explorer.worlds import WORLDS
from tests.simulation.product import Edit


def explore_in_parallel(
    worlds: Sequence[World], jobs: int, *, most: int | None = None, edits: tuple[Edit, ...] = ()
) -> Iterator[Report]:
    """A report for each world, as they come. Interrupted, it ends at once."""
    # Not forked: a child must not inherit the state of gRPC's threads.
    with get_context("spawn").Pool(jobs, initializer=_ignore_interrupts) as pool:
        yield from pool.imap_unordered(partial(_explore, most=most, edits=edits), [world.name for world in worlds])


def _explore(name: str, *, most: int | None, edits: tuple[Edit, ...]) -> Report:
    return Exploration(WORLDS[name], edits=edits).run(most=most, stops_at_failure=bool(edits))


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
