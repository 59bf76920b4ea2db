"""Virtual time and the actors that live in it.

Everything that happens is an entry in one queue, ordered by time and then by age. An actor is a greenlet: it runs until it
sleeps or waits, and continues when its entry's turn comes. So what the actors' random latencies say is the only thing that
decides how they interleave, and hours cost nothing.
"""

import heapq
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet


class Killed(BaseException):
    """Thrown into the actors of a process that dies."""


class Scheduler:
    """The queue and the clock, in microseconds.

    On a coarse clock everything happens at multiples of `grain_us`, so that much happens at the same instant.
    """

    def __init__(self, start_us: int, grain_us: int = 1) -> None:
        self.now_us = start_us
        self._hub = getcurrent()
        self._grain_us = grain_us
        self._steps_left = 0
        self._is_spawning = False
        self._queue: list[tuple[int, int, Callable[..., Any]]] = []
        self._entries = 0

    def clock(self) -> int:
        """Now."""
        return self.now_us

    def at(self, time_us: int, action: Callable[..., Any]) -> None:
        """Do this at that time, or now when that is past."""
        self.after(max(time_us - self.now_us, 0), action)

    def after(self, delay_us: int, action: Callable[..., Any]) -> None:
        """Do this after that time."""
        self._entries += 1
        time_us = self.now_us + delay_us
        heapq.heappush(self._queue, (time_us - time_us % self._grain_us, self._entries, action))

    def run(self, is_over: Callable[[], object], max_steps: int) -> bool:
        """Work off the queue until it is empty (True), `is_over`, or that many steps were done (False)."""
        queue = self._queue
        self._hub = getcurrent()
        self._steps_left = max_steps
        while queue and self._steps_left > 0 and not is_over():
            self._steps_left -= 1
            self.now_us, _, action = heapq.heappop(queue)
            action()
        return not queue

    # For actors

    def spawn(self, body: Callable[[], None]) -> greenlet:
        """Start an actor; it runs at once up to its first sleep. Not to be called by an actor."""

        def main() -> None:
            # Not `suppress`, which is three calls of Python, for each actor.
            try:  # noqa: SIM105
                body()
            except Killed:
                pass

        actor = greenlet(main)
        self._is_spawning = True
        actor.switch()
        self._is_spawning = False
        return actor

    def sleep(self, delay_us: int) -> None:
        """Let others run for so long."""
        time_us = self.now_us + delay_us
        time_us -= time_us % self._grain_us
        queue = self._queue
        if (not queue or time_us < queue[0][0]) and self._steps_left > 0 and not self._is_spawning:
            # Nobody comes between, neither from the queue nor whoever started this actor: go on.
            self._steps_left -= 1
            self.now_us = time_us
            return
        actor = getcurrent()
        self.after(delay_us, actor.switch)
        self._hub.switch()

    def wait(self, subscribe: Callable[[Callable[[], None]], None]) -> None:
        """Sleep until the callback that `subscribe` is given is called."""
        actor = getcurrent()
        subscribe(lambda: self.after(0, actor.switch))
        self._hub.switch()


def kill(actor: greenlet) -> None:
    """End an actor where it stands. Not to be called by an actor."""
    if not actor.dead:
        actor.throw(Killed)


class Signal:
    """What a thread that waits in the product's group commit sleeps on."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._is_set = False
        self._wake: Callable[[], None] | None = None

    def set(self) -> None:
        """Wake the waiter, now or as soon as it waits."""
        self._is_set = True
        if self._wake is not None:
            self._wake()

    def wait(self, timeout: float | None = None) -> None:
        """Sleep until set. Nobody here is in a hurry."""
        assert timeout is None
        if not self._is_set:
            self._scheduler.wait(self._subscribe)

    def _subscribe(self, wake: Callable[[], None]) -> None:
        self._wake = wake
