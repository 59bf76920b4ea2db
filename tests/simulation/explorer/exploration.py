"""An exploration: a world executed again and again, depth first, until nothing is left that could end differently.

Theory of operation. An execution is a path of nodes, one for each step. At a node some actors are enabled; those in
`backtrack` are to be tried, each without a failure and then with every failure that may still happen. After an execution the
deepest node with something left to try decides how the next one differs; up to there it repeats the same choices, and so
comes to the same states.

**In full** every enabled actor is tried at every node. **Reduced**, `backtrack` begins with one actor and grows by *races*:
when a step depends on an earlier one of another actor, and nothing between orders them, their order is reversed. To this end
an actor from which the later step can come first is tried at the earlier node (source sets). Actors in `sleep` are not tried:
all that begins with them has been seen, until a step that depends on theirs. Both are due to Abdulla, Aronsson, Jonsson and
Sagonas, "Optimal dynamic partial order reduction" (POPL 2014).

**Merged**, every enabled actor is tried, but none that is asleep, and a node is given up when its state was reached before
(`state`). It takes by far the fewest executions. A state may be reached with other actors asleep than before: those that were
asleep every time so far and are awake now are tried (Godefroid, "Partial-order methods for the verification of concurrent
systems", LNCS 1032, chapter 5).

Here a bound may be set: every enabled actor is tried only as long as that takes no more than so many preemptions (switches away
from an actor that could go on), and a state counts as reached only if the same actor went last, with no more preemptions. No
reduction by races or sleep would be sound under such a bound: the equivalent execution may take more preemptions.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from tests.simulation.auditor import Discrepancy
from tests.simulation.explorer.execution import Execution, Thread, execution
from tests.simulation.explorer.footprint import NOTHING, Footprint, Resources, dependent
from tests.simulation.explorer.verdict import end, judge
from tests.simulation.explorer.world import Failure, State, World
from tests.simulation.product import Edit


class Mode(StrEnum):
    """Which executions are made."""

    FULL = "full"
    REDUCED = "reduced"
    MERGED = "merged"


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


@dataclass(slots=True)
class Report:
    """What came of an exploration."""

    world: World
    mode: Mode
    executions: int = 0
    """That were judged."""
    given_up: int = 0
    """That turned out, on the way, to be equivalent to others."""
    failures: int = 0
    failed: dict[str, Failed] = field(default_factory=dict)
    """By what was wrong: the one with the fewest switches."""
    states: Counter[State] = field(default_factory=Counter)
    ends: set[str] = field(default_factory=set)
    """What stood at rest and was answered, where that was asked for."""
    is_exhausted: bool = False
    longest: int = 0


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
    preemptions: int = 0


class Exploration:
    """Explores a world."""

    def __init__(
        self, world: World, mode: Mode = Mode.MERGED, *, edits: tuple[Edit, ...] = (), collects_ends: bool = False
    ) -> None:
        assert world.preemptions is None or mode is Mode.MERGED, "no other mode is sound under a bound"
        self.mode = mode
        self.report = Report(world, self.mode)
        self._world = world
        self._edits = edits
        self._collects_ends = collects_ends
        self._resources = Resources()
        self._nodes: list[_Node] = []
        self._reached: dict[tuple[str, str], int] = {}
        """Under a bound: with how few preemptions, by state and the last actor."""
        self._asleep: dict[str, frozenset[str]] = {}
        """Without a bound: by state, the actors that were asleep whenever it was reached, and so were not tried."""
        self._ended: set[str] = set()
        """The states at rest that were judged."""

    @property
    def states(self) -> set[str]:
        """Those that it came to on the way, where it merges."""
        return {*self._asleep, *(state for state, _ in self._reached)}

    def run(self, *, most: int | None = None, stops_at_failure: bool = False) -> Report:
        """Explore until exhausted, or cut off: after `most` executions, those given up included, or at the first failure."""
        report = self.report
        while True:
            self._execute()
            if stops_at_failure and report.failures:
                break
            if not self._go_back():
                report.is_exhausted = True
                break
            if most is not None and report.executions + report.given_up >= most:
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
        nodes, report = self._nodes, self.report
        repeated = len(nodes) - 1
        last: dict[str, int] = {}
        tells_states = self.mode is Mode.MERGED
        with execution(self._world, self._resources, self._edits, tells_states=tells_states) as run:
            position = 0
            while run.violation is None and (enabled := run.enabled()):
                if position == len(nodes) and not self._append(run, enabled):
                    report.given_up += 1
                    return
                node = nodes[position]
                self._take(run, node, position, last, is_new=position >= repeated)
                last[node.actor] = position
                position += 1
            del nodes[position:]
            if tells_states and run.violation is None:
                state = run.states.now()
                if state in self._ended:
                    report.given_up += 1
                    return
                self._ended.add(state)
            report.longest = max(report.longest, position)
            report.executions += 1
            self._judge(run)

    def _append(self, run: Execution, enabled: list[Thread]) -> bool:
        """A node for the next step; False when all that could follow is known already."""
        nodes = self._nodes
        parent = nodes[-1] if nodes else None
        names = [thread.name for thread in enabled]
        sleep: dict[str, Footprint] = {}
        bound = self._world.preemptions
        if parent is not None and bound is None and self.mode is not Mode.FULL:
            sleep = {
                actor: footprint
                for actor, footprint in parent.sleep.items()
                if actor != parent.actor and not dependent(footprint, parent.footprint)
            }
        awake = [name for name in names if name not in sleep]
        runner = parent.actor if parent is not None and parent.actor in awake else None
        used = parent.preemptions if parent is not None else 0
        if bound is not None:
            key = (run.states.now(), "" if parent is None else parent.actor)
            if self._reached.get(key, used + 1) <= used:
                return False
            self._reached[key] = used
            if runner is not None and used >= bound:
                awake = [runner]
        elif self.mode is Mode.MERGED:
            state = run.states.now()
            asleep = self._asleep.get(state)
            if asleep is not None:
                awake = [name for name in awake if name in asleep]
                sleep = {actor: footprint for actor, footprint in sleep.items() if actor in asleep}
            self._asleep[state] = frozenset(sleep)
        if not awake:
            return False
        # Who took the last step goes on first: traces with few switches come first.
        first = runner if runner in awake else awake[0]
        backtrack = [first] if self.mode is Mode.REDUCED else awake
        nodes.append(_Node(names, sleep, backtrack, first))
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
        parent = self._nodes[position - 1] if position else None
        if parent is not None:
            is_preemption = parent.actor != node.actor and parent.actor in node.enabled
            node.preemptions = parent.preemptions + is_preemption
        if self.mode is Mode.REDUCED:
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

    def _judge(self, run: Execution) -> None:
        report = self.report
        try:
            if self._collects_ends:
                report.ends.add(end(run))
            report.states[judge(run)] += 1
        except Discrepancy as error:
            report.failures += 1
            what = str(error)
            steps = tuple(Taken(node.actor, node.label, node.failure) for node in self._nodes)
            failed = Failed(what, steps, tuple(run.answers))
            known = report.failed.get(what)
            if known is None or (failed.switches, len(steps)) < (known.switches, len(known.steps)):
                report.failed[what] = failed


def _bits(mask: int) -> Iterable[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
