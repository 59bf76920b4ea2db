"""Running a whole transaction again after a transient error, with jittered exponential back-off."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from balance.database.firestore import TransientError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how fast to try; after the last attempt the error is raised and the platform redelivers the event."""

    attempts: int = 8
    first_delay_s: float = 0.05
    max_delay_s: float = 3.0
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random

    def run(self, operation: Callable[[], T], *, unless: tuple[type[TransientError], ...] = ()) -> T:
        """The result of the first attempt that meets no TransientError; those of `unless` are raised at once."""
        for attempt in range(1, self.attempts):
            try:
                return operation()
            except unless:
                raise
            except TransientError:
                longest_s = min(self.max_delay_s, self.first_delay_s * 2 ** (attempt - 1))
                # Full jitter: rivals for the same document must not meet again.
                self.sleep(longest_s * self.jitter())
        return operation()


ONCE: Final = Retry(attempts=1)
"""No second attempt."""
