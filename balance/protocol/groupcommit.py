"""Group commit: concurrent changes of one group share a transaction.

A document bears about one write a second before its latency grows, so a burst on one group must not mean a transaction per
event. Whoever comes first for a group leads: it runs at once, without waiting for company. Whoever comes meanwhile waits in
line; when the leader is done, the next in line leads a batch of all who wait (up to a bound). So there is one transaction
at a time per group and instance, a lone change never waits, and no thread works for others for longer than one batch.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

M = TypeVar("M")
R = TypeVar("R")


class Signal(Protocol):
    """What a waiting thread sleeps on; `threading.Event`, or the simulator's."""

    def set(self) -> None:
        """Wake the waiter, now or as soon as it waits."""

    def wait(self) -> object:
        """Sleep until set."""


@dataclass(slots=True, eq=False)
class _Ticket(Generic[M, R]):
    member: M
    signal: Signal
    result: R | None = None
    error: BaseException | None = None
    done: bool = False


@dataclass(slots=True)
class GroupCommit(Generic[M, R]):
    """`run` receives a group and a batch of members, and returns a result for each."""

    run: Callable[[str, Sequence[M]], Sequence[R]]
    weigh: Callable[[M], int]
    max_weight: int
    common_errors: tuple[type[Exception], ...]
    """Errors that no member is to blame for: the whole batch fails."""
    new_signal: Callable[[], Signal] = threading.Event
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _lines: dict[str, deque[_Ticket[M, R]]] = field(default_factory=dict)

    def submit(self, group_id: str, member: M) -> R:
        """The member's result, once a batch that holds it has run; raises what the batch raised."""
        ticket: _Ticket[M, R] = _Ticket(member, self.new_signal())
        with self._lock:
            line = self._lines.get(group_id)
            if line is None:
                self._lines[group_id] = deque()
            else:
                line.append(ticket)
        if line is not None:
            ticket.signal.wait()
        if not ticket.done:
            self._lead(group_id, ticket)
        if ticket.error is not None:
            raise ticket.error
        return ticket.result  # type: ignore[return-value]

    def _lead(self, group_id: str, own: _Ticket[M, R]) -> None:
        batch = [own]
        try:
            batch += self._company(group_id, self.max_weight - self.weigh(own.member))
            self._run(group_id, batch)
        finally:
            self._hand_over(group_id)
            for ticket in batch[1:]:
                ticket.done = True
                ticket.signal.set()
        own.done = True

    def _company(self, group_id: str, room: int) -> list[_Ticket[M, R]]:
        company = []
        with self._lock:
            line = self._lines[group_id]
            while line and (room := room - self.weigh(line[0].member)) >= 0:
                company.append(line.popleft())
        return company

    def _hand_over(self, group_id: str) -> None:
        with self._lock:
            line = self._lines[group_id]
            heir = line.popleft() if line else None
            if heir is None:
                del self._lines[group_id]
        if heir is not None:
            heir.signal.set()

    def _run(self, group_id: str, batch: list[_Ticket[M, R]]) -> None:
        try:
            results = self.run(group_id, [ticket.member for ticket in batch])
            for ticket, result in zip(batch, results, strict=True):
                ticket.result = result
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it, which raises it
            if isinstance(error, Exception) and not isinstance(error, self.common_errors) and len(batch) > 1:
                # One of them is to blame: it must not fail its neighbours.
                for ticket in batch:
                    self._run(group_id, [ticket])
            else:
                for ticket in batch:
                    ticket.error = error
