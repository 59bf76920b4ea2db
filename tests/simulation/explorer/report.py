"""What comes of exploring a world, and what all ways of exploring have in common."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.simulation.auditor import Discrepancy
from tests.simulation.explorer.execution import Execution
from tests.simulation.explorer.footprint import Resources
from tests.simulation.explorer.verdict import end, judge
from tests.simulation.explorer.world import Failure, State, World
from tests.simulation.product import Edit


@dataclass(frozen=True, slots=True)
class Taken:
    """One step of a trace."""

    actor: str
    label: str
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """An execution that ended as it must not."""

    what: str
    steps: tuple[Taken, ...]
    answers: tuple[tuple[str, str], ...]

    @property
    def switches(self) -> int:
        """How often another actor went on."""
        return sum(one.actor != other.actor for one, other in zip(self.steps, self.steps[1:], strict=False))


@dataclass(frozen=True, slots=True)
class Extent:
    """How much was explored."""

    executions: int
    reached: int
    """States."""


@dataclass(slots=True)
class Report:
    """What came of an exploration."""

    world: World
    executions: int = 0
    """Those given up on the way included."""
    reached: int = 0
    """States, where executions are merged."""
    failures: int = 0
    failed: dict[str, Failed] = field(default_factory=dict)
    """By what was wrong: the one with the fewest switches."""
    states: Counter[State] = field(default_factory=Counter)
    ends: set[str] = field(default_factory=set)
    """What stood at rest and was answered, where that was asked for."""
    within: list[Extent] = field(default_factory=list)
    """What it took to exhaust the world within no preemption, one, and so on."""
    is_exhausted: bool = False


class Exploration(ABC):
    """Explores a world."""

    def __init__(self, world: World, *, edits: tuple[Edit, ...] = (), collects_ends: bool = False) -> None:
        self.report = Report(world)
        self._world = world
        self._edits = edits
        self._collects_ends = collects_ends
        self._resources = Resources()

    @abstractmethod
    def run(self, *, most: int | None = None, stops_at_failure: bool = False) -> Report:
        """Explore until exhausted, or cut off: after `most` executions, or at the first failure."""

    def _judge(self, run: Execution, steps: Sequence[Taken]) -> None:
        report = self.report
        try:
            if self._collects_ends:
                report.ends.add(end(run))
            report.states[judge(run)] += 1
        except Discrepancy as error:
            report.failures += 1
            failed = Failed(str(error), tuple(steps), tuple(run.answers))
            known = report.failed.get(failed.what)
            if known is None or (failed.switches, len(steps)) < (known.switches, len(known.steps)):
                report.failed[failed.what] = failed
