"""Each function answers before the platform would in its place."""

from pathlib import Path

import pytest
import yaml

from balance.functions import api, nightly, tasks, triggers
from balance.protocol.bookkeeper import JOB_S
from balance.protocol.optimistic import TIMEOUT_S

ENDPOINTS = yaml.safe_load((Path(__file__).parents[3] / "functions.yaml").read_text())["endpoints"]

ANSWER_S = {
    "on_expense_written": triggers.ANSWER_S,
    "on_settlement_written": triggers.ANSWER_S,
    "on_group_created": triggers.ANSWER_S,
    "on_group_deleted": triggers.ANSWER_S,
    "balance_api": api.ANSWER_S,
    "rebuild-balance": tasks.ANSWER_S,
    "reconcile_balances": nightly.ANSWER_S,
}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_a_function_answers_before_it_is_cut_off(name: str) -> None:
    assert ANSWER_S[name] <= ENDPOINTS[name]["timeoutSeconds"] - 9


def test_an_event_can_wait_for_a_job_of_its_group_and_have_its_own() -> None:
    # In a common job first: twice a read and a commit.
    assert 2 * JOB_S + 4 * TIMEOUT_S < triggers.ANSWER_S


def test_the_nightly_run_begins_nothing_in_its_last_minute() -> None:
    assert nightly.BUDGET_S + JOB_S <= nightly.ANSWER_S
