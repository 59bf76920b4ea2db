"""What became of the latest deliveries: for those who watch, and those who interfere with one of them.

Every change of a delivery's state gets the next revision. So who has seen all up to one revision asks for what came after it,
and waits when there is nothing yet. Only the latest are kept, within a number and a size.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

MAX_KEPT = 2_000
MAX_KEPT_BYTES = 32 * 1024 * 1024


class State(StrEnum):
    """Where a delivery stands."""

    HELD = "held"
    """Until somebody sends it on."""
    WAITING = "waiting"
    """For its time (delayed, or after a failure) or for its turn."""
    UNDER_WAY = "under way"
    DELIVERED = "delivered"
    DROPPED = "dropped"
    GIVEN_UP = "given up"
    DISCARDED = "discarded"


class Watched(Protocol):
    """What is kept of a delivery here."""

    number: int
    state: State
    revision: int
    body: bytes


Kept = TypeVar("Kept", bound=Watched)


class History(Generic[Kept]):
    """The latest deliveries, in the order of their last change."""

    def __init__(self) -> None:
        self.revision = 0
        self._kept: OrderedDict[int, Kept] = OrderedDict()
        self._bytes = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def note(self, delivery: Kept, state: State) -> None:
        """A delivery is in this state now."""
        self.revision += 1
        delivery.state, delivery.revision = state, self.revision
        if delivery.number in self._kept:
            self._kept.move_to_end(delivery.number)
        else:
            self._kept[delivery.number] = delivery
            self._bytes += len(delivery.body)
            while len(self._kept) > MAX_KEPT or (self._bytes > MAX_KEPT_BYTES and len(self._kept) > 1):
                self._bytes -= len(self._kept.popitem(last=False)[1].body)
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def get(self, number: int) -> Kept | None:
        """The delivery of that number, while it is kept."""
        return self._kept.get(number)

    def since(self, revision: int, limit: int) -> list[Kept]:
        """What has changed after a revision, the latest `limit` of it, in order."""
        found: list[Kept] = []
        for delivery in reversed(self._kept.values()):
            if delivery.revision <= revision or len(found) == limit:
                break
            found.append(delivery)
        return found[::-1]

    async def wait(self, revision: int, timeout_s: float) -> None:
        """Return when something has changed after this revision, or when the time is over."""
        if self.revision > revision or timeout_s <= 0:
            return
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(changed)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed, timeout_s)
        finally:
            self._waiting.discard(changed)
