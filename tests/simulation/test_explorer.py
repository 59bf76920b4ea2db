"""Every interleaving of small worlds, and the proof that the reduction leaves none out that ends differently."""

import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.explorer import stated, table, trace
from tests.simulation.explorer.execution import Execution, execution
from tests.simulation.explorer.footprint import Resources
from tests.simulation.explorer.merging import Choice, Merging, Reached, Step
from tests.simulation.explorer.paths import Paths
from tests.simulation.explorer.report import Report
from tests.simulation.explorer.state import OF_NO_MEANING, States, digest
from tests.simulation.explorer.world import CRASH, READ_FAILS, UNKNOWN_OUTCOME, Code, Failure, Rebuild, Switch, World
from tests.simulation.explorer.worlds import SETTLED, SWITCHED, WORLDS, app, expense, no_expense
from tests.simulation.mutants import MUTANTS
from tests.simulation.product import Edit
from tests.simulation.translation import ROOT as ROOT_OF_DOCUMENTS

ROOT = Path(__file__).parents[2]
MOST_EXECUTIONS = 200
"""Of a world that is explored here. The others are left to `make explore`."""

_EDITS = (app(expense(5)), app(expense(1, "e2"), name="app 2"))
TINY = (
    World(name="locks", about="", before=SETTLED, actors=_EDITS),
    World(name="a snapshot", about="", before=SETTLED, actors=(app(expense(5)), Rebuild())),
    World(name="a delete and a snapshot", about="", before=SETTLED, actors=(app(no_expense()), Rebuild())),
    World(name="locks and a crash", about="", before=SETTLED, actors=(app(expense(5)),), copies=2, failures=CRASH),
    World(name="unknown outcome", about="", before=SETTLED, actors=(app(expense(5)),), copies=2, failures=UNKNOWN_OUTCOME),
    World(name="a failing read", about="", before=SETTLED, actors=(app(expense(5)),), copies=2, failures=READ_FAILS),
    World(
        name="a switch",
        about="",
        before=SETTLED,
        actors=(app(expense(5), expense(6)), Switch("A", (False, True))),
        delivered_to={"e1#2": "A"},
        processes={"A": Code()},
        reads_switch=True,
        may_be=SWITCHED,
    ),
    World(name="a line", about="", before=SETTLED, actors=_EDITS, in_one_process=True),
    World(
        name="a line and a crash",
        about="",
        before=SETTLED,
        actors=(app(expense(5)),),
        copies=2,
        in_one_process=True,
        failures=CRASH,
    ),
)
_SMALLEST = [
    WORLDS[name]
    for name, known in stated.all_worlds().items()
    if name in WORLDS and known.preemptions is None and known.executions <= 150
]
COMPARED = (
    "two documents, rebuild, crash",
    "two documents, rebuild, unknown outcome",
    "create, two rebuilds, a failing read",
    "three events, one process, crash",
    "two edits, switched off and on",
    "malformed, healed, unknown outcome",
    "first balance, unknown outcome",
    "empty group comes back, write (repeated listing), crash",
    "group comes back, rebuild (repeated listing), unknown outcome",
)
"""Some of every kind."""
WEAKENED = ("no-update-time", "read-without-lock", "record-after", "newer-records-ignored")


def _in_three_ways(world: World, edits: tuple[Edit, ...] = ()) -> tuple[Report, Report, Report]:
    """In full, reduced by races, and merged."""
    in_full, reduced = (Paths(world, in_full=in_full, edits=edits, collects_ends=True) for in_full in (True, False))
    return in_full.run(), reduced.run(), Merging(world, edits=edits, collects_ends=True).run()


@pytest.mark.long
@pytest.mark.parametrize("world", TINY, ids=lambda world: world.name)
def test_the_reduction_leaves_out_no_end(world: World) -> None:
    full, reduced, merged = _in_three_ways(world)
    assert full.is_exhausted
    assert reduced.ends == full.ends
    assert merged.ends == full.ends
    assert reduced.executions < full.executions
    assert merged.executions < full.executions


@pytest.mark.long
@pytest.mark.parametrize("name", WEAKENED)
def test_the_reduction_leaves_out_no_wrong_end(name: str) -> None:
    """A weakened product ends in more ways, most of them wrong: all of them are found."""
    edits = next(mutant.edits for mutant in MUTANTS if mutant.name == name)
    for world in TINY[:4]:
        full, reduced, merged = _in_three_ways(world, edits)
        assert reduced.ends == merged.ends == full.ends
        assert set(reduced.failed) == set(merged.failed) == set(full.failed)


class _Walked(Merging):
    """Takes the steps, too, of which it is known where they lead."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.said: list[tuple[Reached, Choice, Step]] = []

    def _square(self, state: Reached, choice: Choice) -> None:
        step = super()._square(state, choice)
        if step is not None:
            self.said.append((state, choice, step))


@pytest.mark.long
@pytest.mark.parametrize("world", [*TINY, *_SMALLEST, WORLDS["delete, rebuild, a failing read"]], ids=lambda world: world.name)
def test_independent_steps_lead_to_one_state_in_either_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now = States.now
    # Down to the names of instants.
    monkeypatch.setattr(States, "now", lambda states: digest((now(states), states._run.instants.numbers())))
    walked, known = _Walked(world), Merging(world)
    walked.run()
    known.run()
    assert all(state.steps[choice].to is step.to for state, choice, step in walked.said)
    assert known.reached.keys() == walked.reached.keys()
    assert known.report.states == walked.report.states


class _Compared(Merging):
    """Compares what stands, without times and names of instants, whenever it comes to a state that is known."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.shapes: dict[int, object] = {}
        self.compared = 0

    def _arrive(self, run: Execution, entry: tuple[Reached, Choice] | None, preemptions: int) -> Reached:
        known = len(self.reached)
        state = super()._arrive(run, entry, preemptions)
        shape = _shape(run)
        is_alike = self.shapes.setdefault(id(state), shape) == shape
        assert is_alike, "two states were taken for one"
        self.compared += len(self.reached) == known
        return state


def _shape(run: Execution) -> object:
    locks = sorted(
        (
            run.shown([name.removeprefix(ROOT_OF_DOCUMENTS)]),
            sorted(lock.holders.values()),
            [(run.waiting[request.owner][0].name, sorted(request.wants.values())) for request in lock.queue],
        )
        for name, lock in run.engine._locks._locks.items()
    )
    documents = sorted(
        (run.shown([path]), repr(sorted(_timeless(run.reader.fields(document)).items())))
        for path, document in run.audit.documents.items()
    )
    actors = sorted((thread.name, thread.is_done, thread.label or "") for thread in run.threads)
    return actors, documents, locks, run.failures_left


def _timeless(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in OF_NO_MEANING and not isinstance(value, datetime)}


@pytest.mark.long
@pytest.mark.parametrize("name", COMPARED)
def test_states_that_are_taken_for_one_are_alike(name: str) -> None:
    compared = _Compared(replace(WORLDS[name], preemptions=1))
    compared.run(most=1_000)
    assert compared.compared


def _state_with_a_commit_that_waits(failure: Failure | None, *, edited_first: bool = True) -> str:
    with execution(WORLDS["edit, two rebuilds, crash"], Resources(), tells_states=True) as run:

        def go_on(name: str, until: str) -> None:
            while (label := run.by_name[name].label) is not None and not label.startswith(until):
                run.take(run.by_name[name], None, 0)

        # The first holds a lock that the second, which is younger, waits for.
        go_on("rebuild 1", "query balanceEvents")
        if edited_first:
            go_on("app", "done")
        go_on("rebuild 2", "query balanceFaults")
        go_on("app", "done")
        go_on("rebuild 2", "commit")
        run.take(run.by_name["rebuild 2"], failure, 0)
        run.failures_left = 0
        return run.states.now()


def test_a_commit_that_waits_and_will_fail_is_told_from_one_that_will_not() -> None:
    states = {_state_with_a_commit_that_waits(failure) for failure in (None, Failure.UNKNOWN)}
    assert len(states) == 2


def test_a_commit_that_has_outlived_its_process_is_told_by_what_that_knew() -> None:
    states = {_state_with_a_commit_that_waits(Failure.CRASH, edited_first=edited_first) for edited_first in (True, False)}
    assert len(states) == 2


def test_a_bound_leaves_out_what_needs_more_preemptions() -> None:
    world = TINY[0]
    reached = [Merging(replace(world, preemptions=bound)) for bound in (0, 1, 2, 9, None)]
    for exploration in reached:
        exploration.run()
    states = [exploration.reached.keys() for exploration in reached]
    assert states[0] < states[1] <= states[2] <= states[3] == states[4]


_SMALL = [name for name, known in stated.all_worlds().items() if known.executions <= MOST_EXECUTIONS and name in WORLDS]


@pytest.mark.parametrize("name", _SMALL)
def test_no_interleaving_goes_wrong(name: str) -> None:
    report = Merging(WORLDS[name]).run()
    assert report.is_exhausted
    assert not report.failed, "\n".join(line for failed in report.failed.values() for line in trace.lines(failed))
    assert stated.strays(report) is None


def test_what_is_stated_is_of_a_world() -> None:
    assert stated.all_worlds().keys() <= WORLDS.keys()


def test_the_documentation_has_the_table_of_worlds() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert "\n".join(table.lines()) in text, "put the output of `balance explore --table` there"


def test_a_failure_is_told_with_the_fewest_switches() -> None:
    edits = next(mutant.edits for mutant in MUTANTS if mutant.name == "no-update-time")
    report = Merging(WORLDS["two documents"], edits=edits).run()
    assert report.failures
    failed = min(report.failed.values(), key=lambda failed: failed.switches)
    told = list(trace.lines(failed))
    assert "but the documents say" in told[0]
    assert any("commit balance, record of" in line for line in told)


def _explore(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "scripts", "explore", "--jobs", "1", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_names_worlds_and_tells_what_is_exhausted() -> None:
    listed = _explore("--list")
    assert listed.returncode == 0
    assert all(name in listed.stdout for name in WORLDS)
    done = _explore("delete", "two documents")
    assert done.returncode == 0, done.stdout
    assert "delete: exhausted" in done.stdout
    assert "2 worlds" in done.stdout


def test_what_is_cut_off_does_not_pass() -> None:
    cut = _explore("two documents", "--most", "2")
    assert cut.returncode == 1
    assert "CUT OFF" in cut.stdout


def test_an_unknown_world_is_named() -> None:
    unknown = _explore("no such world")
    assert unknown.returncode == 2
    assert "no world is named 'no such world'" in unknown.stderr
