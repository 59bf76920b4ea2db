"""What is stated of each world in stated.json: under which bound it is explored, in how many executions and states.

Fewer states than stated may mean that interleavings are missed. A change of the protocol or the engine may change the number
rightly; then it is stated anew (`balance explore --record`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.simulation.explorer.report import Extent, Report

_FILE = Path(__file__).with_name("stated.json")
_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class Stated:
    """Of one world."""

    preemptions: int | None
    """The bound; None for all interleavings."""
    executions: int
    reached: int
    """States."""


def all_worlds() -> dict[str, Stated]:
    """By the names of the worlds."""
    return {name: Stated(**known) for name, known in json.loads(_FILE.read_text(encoding="utf-8")).items()}


def strays(report: Report) -> str | None:
    """What to say when a world came to fewer states than stated, by more than a tenth; None otherwise."""
    if not report.is_exhausted:
        return None
    known = all_worlds().get(report.world.name)
    if known is None:
        return "its number of states is not stated: run it with --record"
    if report.reached >= known.reached * (1 - _TOLERANCE):
        return None
    return f"{known.reached} states are stated: run it with --record if fewer are right"


def record(report: Report) -> None:
    """State a world anew, without a bound or with the widest within which it was exhausted, if there is one."""
    extent = Extent(report.executions, report.reached)
    preemptions = None
    if not report.is_exhausted:
        if not report.within:
            return
        preemptions, extent = len(report.within) - 1, report.within[-1]
    known = all_worlds()
    known[report.world.name] = Stated(preemptions, extent.executions, extent.reached)
    told = {name: asdict(stated) for name, stated in sorted(known.items())}
    _FILE.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
