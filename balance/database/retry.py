"""Running a whole transaction again after a transient error, with jittered exponential back-off."""

import random
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from balance.database import budget
from balance.database.budget import OutOfTime
from balance.database.firestore import TransientError

T = TypeVar("T")


@dataclass(slots=True)
class Failures:
    """How many attempts have failed."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how fast to try; after the last attempt the error is raised and the platform redelivers the event."""

    attempts: int = 8
    first_delay_s: float = 0.05
    max_delay_s: float = 3.0
    within_s: float | None = None
    """Each operation with all its attempts takes no longer; None: as long as the budget around it allows."""
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    failures: Failures | None = None
    """Shared by operations within one another: together they fail no oftener than one may."""

    def shared(self) -> "Retry":
        """The same for an operation that holds others: pass it to them, and attempts do not multiply."""
        return replace(self, failures=Failures())

    def run(self, operation: Callable[[], T], *, unless: tuple[type[TransientError], ...] = ()) -> T:
        """The result of the first attempt that meets no TransientError; those of `unless` are raised at once.

        No attempt is begun that does not fit into the budget of the work at hand.
        """
        with nullcontext() if self.within_s is None else budget.within(self.within_s):
            return self._run(operation, unless)

    def _run(self, operation: Callable[[], T], unless: tuple[type[TransientError], ...]) -> T:
        failures = self.failures or Failures()
        own = 0
        while True:
            try:
                return operation()
            except OutOfTime:
                raise
            except unless:
                raise
            except TransientError:
                failures.count += 1
                own += 1
                if failures.count >= self.attempts:
                    raise
                longest_s = min(self.max_delay_s, self.first_delay_s * 2 ** (own - 1))
                # Full jitter: rivals for the same document must not meet again.
                pause_s = longest_s * self.jitter()
                if not budget.has_room(pause_s):
                    raise
            self.sleep(pause_s)


ONCE: Final = Retry(attempts=1)
"""No second attempt."""
