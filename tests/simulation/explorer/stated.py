"""How many executions each world takes, as stated in executions.json: a change of the number must be noticed.

Fewer may mean that interleavings are missed. A change of the protocol or the engine may change the number rightly; then it is
stated anew (`--record`).
"""

import json
from collections.abc import Iterable
from pathlib import Path

from tests.simulation.explorer.exploration import Report

_FILE = Path(__file__).with_name("executions.json")
_TOLERANCE = 0.1


def executions() -> dict[str, int]:
    """By world."""
    known: dict[str, int] = json.loads(_FILE.read_text(encoding="utf-8"))
    return known


def strays(report: Report) -> str | None:
    """What to say when a world took fewer executions than stated, by more than a tenth; None otherwise."""
    if not report.is_exhausted:
        return None
    known = executions().get(report.world.name)
    if known is None:
        return "its number of executions is not stated: run it with --record"
    if report.executions >= known * (1 - _TOLERANCE):
        return None
    return f"{known} executions are stated: run it with --record if fewer are right"


def record(reports: Iterable[Report]) -> None:
    """State the numbers of these worlds anew, if they were exhausted."""
    known = executions()
    known.update({report.world.name: report.executions for report in reports if report.is_exhausted})
    _FILE.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n", encoding="utf-8")
