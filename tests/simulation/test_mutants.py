"""The mutation gate: every weakening of the protocol is caught."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.campaign import kill
from tests.simulation.explorer.campaign import catch
from tests.simulation.explorer.worlds import WORLDS
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.product import Edit, product
from tests.simulation.simulation import Simulation

MOST_SEEDS = 1_000
MOST_EXECUTIONS = 1_000


def _name(mutant: Mutant) -> str:
    return mutant.name


@pytest.mark.parametrize("mutant", [mutant for mutant in MUTANTS if not mutant.worlds and not mutant.tests], ids=_name)
def test_a_weakened_protocol_is_caught_by_a_schedule(mutant: Mutant) -> None:
    # The seeds that caught it before come first: that is quicker. When none does any more, the others are searched.
    found = kill(mutant, [*mutant.killed_by, *range(MOST_SEEDS - len(mutant.killed_by))])
    assert found is not None, f"{mutant.weakening}: not caught within {MOST_SEEDS} seeds"
    Simulation(found[0]).run()


@pytest.mark.parametrize("mutant", [mutant for mutant in MUTANTS if mutant.worlds], ids=_name)
def test_a_weakened_protocol_is_caught_by_a_world(mutant: Mutant) -> None:
    caught = any(catch(mutant.edits, WORLDS[name], MOST_EXECUTIONS) for name in mutant.worlds)
    assert caught, f"{mutant.weakening}: not caught in {', '.join(mutant.worlds)}"


@pytest.mark.parametrize("mutant", [mutant for mutant in MUTANTS if mutant.tests], ids=_name)
def test_a_weakened_operation_is_caught_by_a_test(mutant: Mutant) -> None:
    command = [sys.executable, "-m", "tests.simulation.mutated", mutant.name, *mutant.tests]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, f"{mutant.weakening}: not caught\n{done.stdout[-2000:]}"


def test_a_mutant_is_a_copy_and_leaves_the_product_alone() -> None:
    import balance.documents.writes

    weakened = product(edits=(Edit("documents.writes", "self.update_time <= as_of", "self.update_time < as_of"),))
    assert weakened.events is not product().events
    assert balance.documents.writes.SourceWrite is not weakened.writes.SourceWrite


def test_an_edit_that_finds_no_place_fails() -> None:
    with pytest.raises(AssertionError, match="one place to edit"):
        product(edits=(Edit("documents.writes", "no such text", ""),))
    with pytest.raises(AssertionError, match="one place to edit"):
        product(edits=(Edit("documents.writes", "self", ""),))


def test_the_documentation_lists_every_mutant_and_what_catches_it() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")
    listed = [line for line in text.partition("| weakened so |")[2].partition("\n\n")[0].splitlines()[2:] if line]
    assert listed == [f"| {mutant.weakening} | {mutant.caught_by} |" for mutant in MUTANTS]
