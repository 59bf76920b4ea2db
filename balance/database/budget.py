"""How long the work at hand may still take.

Whoever asks waits only so long: the platform cuts a function off, a client gives up. So a request has a budget, and so does a
job that serves several. All that is done for it fits into that: each call's deadline, each retry, each pause before it. What
does not fit is not begun; it fails at once with OutOfTime, and there is time left to say so.

The budget belongs to the context (of the thread, or of the simulator's actor); nothing hands it on. A budget within another one
never lasts longer.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from balance.database.firestore import TransientError

LEAST_S: Final = 0.05
"""Less than this is no time: what is begun with it would only fail a moment later."""


class OutOfTime(TransientError):
    """The work does not fit into its budget; it may succeed when it is asked for again."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The time until an instant of a clock."""

    end_s: float
    clock: Callable[[], float]

    @property
    def left_s(self) -> float:
        """How much is left; negative when it is over."""
        return self.end_s - self.clock()


_current: ContextVar[Budget | None] = ContextVar("budget", default=None)


def current() -> Budget | None:
    """The budget of the work at hand, if it has one."""
    return _current.get()


@contextmanager
def within(seconds: float, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Give the work of this block so much time, or what is left of the budget around it if that is less."""
    with until(Budget(clock() + seconds, clock)):
        yield


@contextmanager
def until(budget: Budget | None) -> Iterator[None]:
    """Give the work of this block this budget, which may come from another thread; None: no other than the one around it."""
    outer = _current.get()
    if budget is None or (outer is not None and outer.end_s <= budget.end_s):
        yield
        return
    token = _current.set(budget)
    try:
        yield
    finally:
        _current.reset(token)


def left_s() -> float | None:
    """How much time the work at hand has left; None: nobody waits for it."""
    budget = _current.get()
    return None if budget is None else budget.left_s


def has_room(pause_s: float) -> bool:
    """Whether anything can be begun after such a pause."""
    left = left_s()
    return left is None or left - pause_s >= LEAST_S


def cut(longest_s: float) -> float:
    """The time that a call may take: at most this, and no more than is left. Raises OutOfTime when that is nothing."""
    left = left_s()
    if left is None:
        return longest_s
    if left < LEAST_S:
        raise OutOfTime("the time for this request is over")
    return min(longest_s, left)
