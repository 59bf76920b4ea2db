"""Who causes too many reads waits; nobody else does."""

from contextlib import ExitStack

import pytest

from balance.operations import budgets
from balance.operations.budgets import MAX_AT_ONCE, OverBudget, ReadBudgets


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_budget_is_spent_and_comes_back(clock: Clock) -> None:
    spent = ReadBudgets(600, clock)
    spent.check("ana")
    spent.charge("ana", 599)
    spent.check("ana")
    spent.charge("ana", 11)
    with pytest.raises(OverBudget) as refused:
        spent.check("ana")
    assert refused.value.retry_after_s == 1
    clock.now_s += 1.1
    spent.check("ana")


def test_what_one_answer_costs_beyond_the_budget_is_paid_back_by_waiting(clock: Clock) -> None:
    spent = ReadBudgets(600, clock)
    spent.charge("ana", 6_000)
    with pytest.raises(OverBudget) as refused:
        spent.check("ana")
    assert refused.value.retry_after_s == 540
    clock.now_s += 540
    spent.check("ana")


def test_callers_have_budgets_of_their_own(clock: Clock) -> None:
    spent = ReadBudgets(600, clock)
    spent.charge("ana", 6_000)
    spent.check("bo")


def test_callers_whose_budget_is_whole_are_forgotten(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "_CALLERS_REMEMBERED", 10)
    spent = ReadBudgets(600, clock)
    spent.charge("greedy", 60_000)
    for number in range(1_000):
        spent.charge(f"u{number}", 1)
        clock.now_s += 1
    assert len(spent._full_at_s) <= 12
    with pytest.raises(OverBudget):
        spent.check("greedy")


def test_what_is_not_counted_yet_is_started_only_a_few_times_at_once(clock: Clock) -> None:
    spent = ReadBudgets(600, clock)
    for _ in range(2):
        with ExitStack() as turns:
            for _ in range(MAX_AT_ONCE):
                turns.enter_context(spent.turn("ana"))
            with pytest.raises(OverBudget) as refused, spent.turn("ana"):
                pytest.fail("there was one turn too many")
            assert refused.value.retry_after_s == 1
            with spent.turn("bo"):
                pass
    assert not spent._turns
    spent.charge("ana", 6_000)
    with pytest.raises(OverBudget), spent.turn("ana"):
        pytest.fail("nothing was left")
