"""Room in memory for what is read: so many bytes in all. A request takes some before it reads, and waits while there are none.

A share is taken once, as large as it may have to be. It can become smaller, and is given back at the end. Nobody who holds a
share waits for another one, so all who wait have their turn.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class NoRoom(Exception):
    """None became free in time."""


class Room:
    """Safe to share among threads."""

    def __init__(self, size_bytes: int, wait_s: float) -> None:
        self._free_bytes = size_bytes
        self._wait_s = wait_s
        self._changed = Condition()

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """A share for the time of the block, empty at first."""
        share = Share(self)
        try:
            yield share
        finally:
            share.keep(0)

    def take(self, size_bytes: int) -> None:
        """Wait until there is so much; raises NoRoom."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._free_bytes >= size_bytes, self._wait_s):
                raise NoRoom(f"{size_bytes} bytes did not become free within {self._wait_s:g} s")
            self._free_bytes -= size_bytes

    def give_back(self, size_bytes: int) -> None:
        """Let others have it."""
        with self._changed:
            self._free_bytes += size_bytes
            self._changed.notify_all()


class Share:
    """What one request holds."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._held_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Hold so much, or go on with what is held. Raises NoRoom."""
        if not self._held_bytes:
            self._room.take(size_bytes)
            self._held_bytes = size_bytes

    def keep(self, size_bytes: int) -> None:
        """Hold no more than this."""
        if size_bytes < self._held_bytes:
            self._room.give_back(self._held_bytes - size_bytes)
            self._held_bytes = size_bytes
