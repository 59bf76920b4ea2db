"""An exploration that merges: whatever comes to a state that is known goes no further.

Theory of operation. States and the steps between them are a graph, which is searched. A step is taken by an execution that
begins anew, repeats the way on which its state was first reached, takes the step, and goes on for as long as it finds something
untried. Two executions that come to the same state (`state`) need not both go on.

**Squares.** Where two steps are independent (`footprint`), they lead to the same state in either order. So once three sides of
such a square have been taken, it is known where the fourth leads, and it need not be taken. Therefore states are searched in
the order in which they were found: what comes before a state has mostly been tried by then.

**Preemptions**, switches away from an actor that could go on, are a bound, if a world has one. What a client does at once, such
as the deletions of what it has listed, is done by one actor in this sense, in any order. Steps are taken in the order of the
preemptions that they need (Musuvathi and Qadeer, "Iterative context bounding for systematic testing of multithreaded
programs", PLDI 2007): so each is taken once, with the fewest, and what is cut off has been exhausted up to a smaller bound.
"""

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.simulation.explorer.execution import Execution, execution
from tests.simulation.explorer.footprint import Footprint, dependent
from tests.simulation.explorer.report import Exploration, Extent, Report, Taken
from tests.simulation.explorer.world import Failure, World
from tests.simulation.product import Edit

Choice = tuple[str, Failure | None]
"""The actor that takes its step, and what goes wrong with it."""


@dataclass(frozen=True, slots=True)
class Step:
    """Where a choice has led."""

    to: "Reached | None"
    """None: something was wrong, and the execution ended."""
    footprint: Footprint


@dataclass(slots=True, eq=False, repr=False)
class Reached:
    """A state."""

    labels: dict[str, str | None]
    """The steps that could be taken next, by actor."""
    choices: dict[str, list[Failure | None]]
    """By the actors that could go on."""
    entries: list[tuple["Reached", Choice]] = field(default_factory=list)
    """What leads here, the first first."""
    steps: dict[Choice, Step] = field(default_factory=dict)
    """Those that were taken, or are known."""
    fewest: dict[str, int] = field(default_factory=dict)
    """By actor, with how few preemptions it goes on from here."""
    is_judged: bool = False
    """At rest."""

    def way(self) -> Iterator[Choice]:
        """The choices that have led here first, the last first."""
        state = self
        while state.entries:
            state, choice = state.entries[0]
            yield choice


class Merging(Exploration):
    """Explores a world, up to its bound."""

    def __init__(self, world: World, *, edits: tuple[Edit, ...] = (), collects_ends: bool = False) -> None:
        super().__init__(world, edits=edits, collects_ends=collects_ends)
        self.reached: dict[str, Reached] = {}
        self._wanted: dict[int, deque[tuple[Reached, str]]] = defaultdict(deque)
        """Who is to go on where, by the preemptions that this needs."""
        self._of: dict[str, str] = {}
        """Whose steps an actor takes."""

    def run(self, *, most: int | None = None, stops_at_failure: bool = False) -> Report:
        """See Exploration.run."""
        report = self.report
        self._execute(None, 0)
        preemptions = 0
        while self._wanted:
            if not self._wanted[preemptions]:
                del self._wanted[preemptions]
                preemptions += 1
                report.within.append(Extent(report.executions, report.reached))
                continue
            state, actor = self._wanted[preemptions].popleft()
            for failure in state.choices[actor]:
                choice = actor, failure
                if self._is_known(state, choice, preemptions):
                    continue
                if (stops_at_failure and report.failures) or (most is not None and report.executions >= most):
                    return report
                self._execute((state, choice), preemptions)
        report.is_exhausted = not (stops_at_failure and report.failures)
        return report

    def _execute(self, what: tuple[Reached, Choice] | None, preemptions: int) -> None:
        """Make a choice in a state, or find the first state, and go on from there."""
        self.report.executions += 1
        with execution(self._world, self._resources, self._edits, tells_states=True) as run:
            steps: list[Taken] = []
            if what is None:
                state, choice = self._arrive(run, None, preemptions), None
            else:
                state, choice = what
                for repeated in reversed([*state.way()]):
                    _take(run, repeated, steps)
                assert _labels(run) == state.labels, "two states were taken for one"
            while choice is not None or (choice := self._untried(state, preemptions)) is not None:
                footprint = _take(run, choice, steps)
                if run.violation is not None:
                    state.steps[choice] = Step(None, footprint)
                    self._judge(run, steps)
                    return
                after = self._arrive(run, (state, choice), preemptions)
                state.steps[choice] = Step(after, footprint)
                state, choice = after, None
            if not state.choices and not state.is_judged:
                state.is_judged = True
                self._judge(run, steps)

    def _arrive(self, run: Execution, entry: tuple[Reached, Choice] | None, preemptions: int) -> Reached:
        """The state that an execution has come to; what can follow is wanted."""
        digest = run.states.now()
        state = self.reached.get(digest)
        if state is None:
            failures = self._world.failures if run.failures_left else frozenset()
            enabled = run.enabled()
            self._of.update((thread.name, thread.of) for thread in enabled)
            choices = {thread.name: [None, *sorted(thread.failures & failures)] for thread in enabled}
            state = self.reached[digest] = Reached(_labels(run), choices)
            self.report.reached += 1
        self._enter(state, entry, preemptions)
        return state

    def _enter(self, state: Reached, entry: tuple[Reached, Choice] | None, preemptions: int) -> None:
        last = None
        if entry is not None:
            state.entries.append(entry)
            last = self._of[entry[1][0]]
        can_go_on = any(self._of[actor] == last for actor in state.choices)
        bound = self._world.preemptions
        for actor in state.choices:
            needed = preemptions + (can_go_on and self._of[actor] != last)
            if (bound is None or needed <= bound) and needed < state.fewest.get(actor, needed + 1):
                state.fewest[actor] = needed
                self._wanted[needed].append((state, actor))

    def _untried(self, state: Reached, preemptions: int) -> Choice | None:
        """What an execution that has come to a state tries next: whoever took the last step goes on first."""
        last = self._of[state.entries[-1][1][0]] if state.entries else None
        for actor in sorted(state.choices, key=lambda actor: self._of[actor] != last):
            choice = actor, None
            if state.fewest.get(actor, preemptions + 1) <= preemptions and not self._is_known(state, choice, preemptions):
                return choice
        return None

    def _is_known(self, state: Reached, choice: Choice, preemptions: int) -> bool:
        """Whether a choice was made before, or it is known where it leads; then that is noted."""
        if choice in state.steps:
            return True
        step = self._square(state, choice)
        if step is None or step.to is None:
            return False
        state.steps[choice] = step
        self._enter(step.to, (state, choice), preemptions)
        return True

    def _square(self, state: Reached, choice: Choice) -> Step | None:
        """The step that is known because it changes places with one that has led to this state."""
        for before, other in state.entries:
            if other[0] == choice[0]:
                # The steps of one actor follow one another.
                continue
            instead = before.steps.get(choice)
            if instead is None or instead.to is None or dependent(instead.footprint, before.steps[other].footprint):
                continue
            then = instead.to.steps.get(other)
            if then is not None and then.to is not None:
                return Step(then.to, instead.footprint)
        return None


def _labels(run: Execution) -> dict[str, str | None]:
    return {thread.name: thread.label for thread in run.enabled()}


def _take(run: Execution, choice: Choice, steps: list[Taken]) -> Footprint:
    actor, failure = choice
    thread = run.by_name[actor]
    steps.append(Taken(actor, thread.label or "", failure))
    return run.take(thread, failure, len(steps) - 1)
