"""How long a call for several groups may take."""

from __future__ import annotations

import pytest

from balance.database.firestore import Conflict, TransientError
from balance.protocol.optimistic import TIMEOUT_S, Patience


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def call(patience: Patience, clock: Clock, takes_s: float, error: Exception | None = None) -> None:
    def work() -> None:
        clock.now_s += takes_s
        if error is not None:
            raise error

    if error is None:
        patience.call(work)
        return
    with pytest.raises(type(error)):
        patience.call(work)


def test_it_grows_with_a_slow_database_and_shrinks_again() -> None:
    clock = Clock()
    patience = Patience(clock)
    assert patience.timeout_s == TIMEOUT_S
    for _ in range(2):
        call(patience, clock, patience.timeout_s, TransientError("too late"))
    assert patience.timeout_s == 4 * TIMEOUT_S
    call(patience, clock, 1.5)
    assert patience.timeout_s == 6.0
    call(patience, clock, 0.01)
    assert patience.timeout_s == TIMEOUT_S


def test_it_has_an_end() -> None:
    clock = Clock()
    patience = Patience(clock)
    for _ in range(20):
        call(patience, clock, patience.timeout_s, TransientError("too late"))
    assert patience.timeout_s == 8.0
    call(patience, clock, 7.0)
    assert patience.timeout_s == 8.0


def test_a_conflict_says_nothing_about_time() -> None:
    clock = Clock()
    patience = Patience(clock)
    call(patience, clock, 3.0, Conflict("somebody was first"))
    assert patience.timeout_s == TIMEOUT_S
