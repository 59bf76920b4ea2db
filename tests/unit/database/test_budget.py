"""Budgets: what does not fit is not begun, and those within one another never last longer."""

from __future__ import annotations

import threading

import pytest

from balance.database import budget
from balance.database.budget import Budget, OutOfTime
from balance.database.firestore import TransientError
from balance.database.retry import Retry


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_without_a_budget_a_call_may_take_its_own_time() -> None:
    assert budget.current() is None
    assert budget.left_s() is None
    assert budget.cut(5.0) == 5.0
    assert budget.has_room(1_000.0)


def test_a_call_takes_no_longer_than_what_is_left(clock: Clock) -> None:
    with budget.within(10.0, clock):
        assert budget.cut(5.0) == 5.0
        clock.sleep(7.0)
        assert budget.cut(5.0) == 3.0
        clock.sleep(3.0)
        with pytest.raises(OutOfTime):
            budget.cut(5.0)
    assert budget.cut(5.0) == 5.0


@pytest.mark.parametrize(("inner_s", "expected_s"), [(3.0, 3.0), (30.0, 10.0)])
def test_a_budget_within_another_one_never_lasts_longer(clock: Clock, inner_s: float, expected_s: float) -> None:
    with budget.within(10.0, clock), budget.within(inner_s, clock):
        assert budget.left_s() == expected_s


def test_a_budget_may_be_taken_to_another_thread(clock: Clock) -> None:
    left: list[float | None] = []

    def work(given: Budget | None) -> None:
        left.append(budget.left_s())
        with budget.until(given):
            left.append(budget.left_s())

    with budget.within(10.0, clock):
        thread = threading.Thread(target=work, args=(budget.current(),))
        thread.start()
        thread.join()
    assert left == [None, 10.0]


def test_retries_end_with_the_budget(clock: Clock) -> None:
    made: list[float] = []

    def attempt() -> None:
        made.append(clock())
        clock.sleep(4.0)
        raise TransientError

    with budget.within(10.0, clock), pytest.raises(TransientError):
        Retry(attempts=100, first_delay_s=1.0, sleep=clock.sleep, jitter=lambda: 1.0).run(attempt)
    # The pause after the second one would end at the budget's end.
    assert made == [100.0, 105.0]


def test_what_is_out_of_time_is_not_tried_again(clock: Clock) -> None:
    made = []

    def attempt() -> None:
        made.append(clock())
        budget.cut(1.0)

    with budget.within(0.0, clock), pytest.raises(OutOfTime):
        Retry(sleep=clock.sleep).run(attempt)
    assert len(made) == 1


def test_retries_within_retries_share_their_attempts() -> None:
    made = []

    def attempt() -> None:
        made.append(1)
        raise TransientError

    retry = Retry(attempts=8, sleep=lambda s: None).shared()
    with pytest.raises(TransientError):
        retry.run(lambda: retry.run(attempt))
    assert len(made) == 8
