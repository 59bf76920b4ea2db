"""An exploration by paths: a world executed again and again, depth first, until nothing is left that could end differently.

Theory of operation. An execution is a path of nodes, one for each step. At a node some actors are enabled; those in
`backtrack` are to be tried, each without a failure and then with every failure that may still happen. After an execution the
deepest node with something left to try decides how the next one differs; up to there it repeats the same choices, and so
comes to the same states.

**In full** every enabled actor is tried at every node. **Reduced**, `backtrack` begins with one actor and grows by *races*:
when a step depends on an earlier one of another actor, and nothing between orders them, their order is reversed. To this end
an actor from which the later step can come first is tried at the earlier node (source sets). Actors in `sleep` are not tried:
all that begins with them has been seen, until a step that depends on theirs. Both are due to Abdulla, Aronsson, Jonsson and
Sagonas, "Optimal dynamic partial order reduction" (POPL 2014).

Both serve to check what merges (`merging`), which takes far fewer executions. Neither knows of a bound.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tests.simulation.explorer.execution import Execution, Thread, execution
from tests.simulation.explorer.footprint import NOTHING, Footprint, dependent
from tests.simulation.explorer.report import Exploration, Report, Taken
from tests.simulation.explorer.world import Failure, World
from tests.simulation.product import Edit


@dataclass(slots=True, eq=False)
class _Node:
    """A step of the current path, and what else could be done in its place."""

    enabled: list[str]
    sleep: dict[str, Footprint]
    backtrack: list[str]
    actor: str
    failure: Failure | None = None
    other_failures: list[Failure] | None = None
    """Still to be tried; None before the first time."""
    footprint: Footprint = NOTHING
    all_footprints: Footprint = NOTHING
    """Of this actor's step with each of its failures."""
    label: str = ""
    before: int = 0
    """The steps that happen before this one, as bits of their positions."""


class Paths(Exploration):
    """Explores a world, in full or reduced."""

    def __init__(
        self, world: World, *, in_full: bool = False, edits: tuple[Edit, ...] = (), collects_ends: bool = False
    ) -> None:
        assert world.preemptions is None, "neither way is sound under a bound"
        super().__init__(world, edits=edits, collects_ends=collects_ends)
        self._in_full = in_full
        self._nodes: list[_Node] = []

    def run(self, *, most: int | None = None, stops_at_failure: bool = False) -> Report:
        """See Exploration.run."""
        report = self.report
        while True:
            self._execute()
            if stops_at_failure and report.failures:
                break
            if not self._go_back():
                report.is_exhausted = True
                break
            if most is not None and report.executions >= most:
                break
        return report

    def _go_back(self) -> bool:
        """Make the deepest node that has something left to try try it; False when none has."""
        nodes = self._nodes
        while nodes:
            node = nodes[-1]
            if node.other_failures:
                node.failure = node.other_failures.pop(0)
                return True
            node.sleep[node.actor] = node.all_footprints
            for actor in node.backtrack:
                if actor not in node.sleep:
                    node.actor, node.failure, node.other_failures, node.all_footprints = actor, None, None, NOTHING
                    return True
            nodes.pop()
        return False

    def _execute(self) -> None:
        nodes = self._nodes
        self.report.executions += 1
        repeated = len(nodes) - 1
        last: dict[str, int] = {}
        with execution(self._world, self._resources, self._edits) as run:
            position = 0
            while run.violation is None and (enabled := run.enabled()):
                if position == len(nodes) and not self._append(enabled):
                    return
                node = nodes[position]
                self._take(run, node, position, last, is_new=position >= repeated)
                last[node.actor] = position
                position += 1
            del nodes[position:]
            self._judge(run, [Taken(node.actor, node.label, node.failure) for node in nodes])

    def _append(self, enabled: list[Thread]) -> bool:
        """A node for the next step; False when all that could follow is known already."""
        nodes = self._nodes
        parent = nodes[-1] if nodes else None
        names = [thread.name for thread in enabled]
        sleep: dict[str, Footprint] = {}
        if parent is not None and not self._in_full:
            sleep = {
                actor: footprint
                for actor, footprint in parent.sleep.items()
                if actor != parent.actor and not dependent(footprint, parent.footprint)
            }
        awake = [name for name in names if name not in sleep]
        if not awake:
            return False
        # Who took the last step goes on first: traces with few switches come first.
        first = parent.actor if parent is not None and parent.actor in awake else awake[0]
        nodes.append(_Node(names, sleep, awake if self._in_full else [first], first))
        return True

    def _take(self, run: Execution, node: _Node, position: int, last: dict[str, int], *, is_new: bool) -> None:
        thread = run.by_name[node.actor]
        if node.other_failures is None:
            node.other_failures = sorted(thread.failures & self._world.failures) if run.failures_left else []
        node.label = thread.label or ""
        enablers = thread.enablers
        footprint = run.take(thread, node.failure, position)
        if not is_new:
            assert footprint == node.footprint, f"{node.actor} {node.label}: the execution is not repeatable"
            return
        node.footprint = footprint
        node.all_footprints |= footprint
        if not self._in_full:
            for earlier in self._order(node, position, enablers, last.get(node.actor)):
                self._reverse(earlier, position)

    def _order(self, node: _Node, position: int, enablers: int, previous: int | None) -> list[int]:
        """Note which steps happen before this one; returns those that race with it."""
        nodes = self._nodes
        before = 0
        if previous is not None:
            before = nodes[previous].before | 1 << previous
        for index in _bits(enablers):
            before |= nodes[index].before | 1 << index
        races = []
        for index in range(position - 1, -1, -1):
            if not before >> index & 1 and dependent(node.footprint, nodes[index].footprint):
                before |= nodes[index].before | 1 << index
                races.append(index)
        node.before = before
        return races

    def _reverse(self, earlier: int, position: int) -> None:
        """See to it that the step at `position` comes before the one at `earlier` in some execution."""
        nodes = self._nodes
        followers = 0
        initials: list[str] = []
        for index in range(earlier + 1, position + 1):
            node = nodes[index]
            if index == position or not node.before >> earlier & 1:
                # It does not need the earlier step; unless it needs another such, it can be the first in its place.
                if not node.before & followers:
                    initials.append(node.actor)
                followers |= 1 << index
        at = nodes[earlier]
        if not any(actor in at.backtrack for actor in initials):
            wanted = nodes[position].actor
            choice = wanted if wanted in initials else initials[0]
            assert choice in at.enabled, f"{choice} cannot come first"
            at.backtrack.append(choice)


def _bits(mask: int) -> Iterable[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
