"""The roll-out rehearsed on the runner, small; and that the rehearsal notices what is wrong."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from balance.core.ledger import Ledger
from scripts.developing.rollout.traffic import Timeline
from scripts.developing.rollout.verdicts import OLDEST, Answer, age_of, essence_of

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def debt(amount: int) -> Ledger:
    return {"USD": {("ana", "bo"): amount}}


def timeline() -> Timeline:
    """10 since a minute before noon, 20 since 5 s before, 30 since noon."""
    since = [NOON - timedelta(seconds=60), NOON - timedelta(seconds=5), NOON]
    return Timeline(since, [debt(10), debt(20), debt(30)])


def answer(ledger: Ledger, seconds_after_noon: float = 1.0) -> Answer:
    asked = NOON + timedelta(seconds=seconds_after_noon)
    return Answer("g", asked, asked + timedelta(milliseconds=50), essence_of(ledger), "phase")


def test_an_answer_has_the_age_of_the_write_that_it_does_not_know() -> None:
    assert age_of(answer(debt(30)), timeline()) == timedelta()
    assert age_of(answer(debt(20)), timeline()) == timedelta(seconds=1)
    assert age_of(answer(debt(10)), timeline()) == timedelta(seconds=6)


def test_a_write_that_comes_while_the_answer_is_made_may_be_in_it() -> None:
    assert age_of(answer(debt(30), seconds_after_noon=-0.02), timeline()) == timedelta()
    assert age_of(answer(debt(30), seconds_after_noon=-0.2), timeline()) is None


def test_an_answer_that_is_too_old_is_wrong() -> None:
    late = OLDEST.total_seconds() - 5
    assert age_of(answer(debt(10), seconds_after_noon=late - 1), timeline()) is not None
    assert age_of(answer(debt(10), seconds_after_noon=late + 1), timeline()) is None


def test_an_answer_that_never_was_true_is_wrong() -> None:
    assert age_of(answer(debt(15)), timeline()) is None
    assert age_of(answer({}), timeline()) is None
    assert age_of(answer({"EUR": {("ana", "bo"): 30}}), timeline()) is None


def test_before_its_first_write_a_group_has_nothing() -> None:
    assert age_of(answer({}, seconds_after_noon=-70), timeline()) == timedelta()


def test_suggestions_count_as_part_of_the_answer() -> None:
    right = answer(debt(30))
    balances, _ = right.essence
    assert age_of(Answer("g", right.asked, right.answered, (balances, []), "phase"), timeline()) is None


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_roll_out_is_rehearsed_without_a_wrong_answer(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts", "rehearsal", "--logs", str(tmp_path)]
    done = subprocess.run(
        [*command, "--groups", "60", "--old", "4", "--gap", "10", "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["backfill"]["rebuilt"] > 0
    assert figures["verify"]["states"] == {"true": 60}
    assert figures["corrupted"] >= 3
    assert figures["reconciled"]["drift"] == figures["corrupted"]
    assert figures["writesWhileOff"] > 0
    assert figures["answers"] > 50
    assert figures["end"]["states"] == {"true": 60}
