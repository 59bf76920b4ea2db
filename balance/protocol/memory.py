"""Balances as this process committed them last.

An event on a remembered group needs no read: the commit's condition says whether the balance is still the remembered one. So
nothing here is ever trusted beyond that; what is forgotten, or kept too long, costs a read and no more.
"""

import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from threading import Lock

from balance.documents.balances import Balance, Stored

MAX_BYTES = 32 * 1024 * 1024
MAX_AGE_S = 3_600.0
"""The commit's time stands for the present when a write's age is judged and when its record is to expire. An hour is little
beside both: records live for three days at least, and half of that is the limit for a write's age (settings.py)."""

_ENTRY_BYTES = 1_200
_PAIR_BYTES = 230  # a tuple, a name, a number, and their share of the dictionary
_NET_BYTES = 200


@dataclass(frozen=True, slots=True)
class Remembered:
    """A balance, and when it was written: the update time of its document, by the server."""

    stored: Stored
    update_time: datetime


class Memory:
    """The balances committed last, bounded in bytes. Safe to share among threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, max_bytes: int = MAX_BYTES) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, tuple[Remembered, float, int]] = OrderedDict()
        """By group, the one used last at the end; with the time of the commit and the bytes it takes."""
        self._lock = Lock()

    @property
    def size_bytes(self) -> int:
        """About what all of it takes."""
        return self._bytes

    def get(self, group_id: str) -> Remembered | None:
        """The group's balance, unless it is unknown or too old."""
        with self._lock:
            found = self._kept.get(group_id)
            if found is None:
                return None
            remembered, put_s, _ = found
            if self._clock() - put_s > MAX_AGE_S:
                self._forget(group_id)
                return None
            self._kept.move_to_end(group_id)
            return remembered

    def put(self, group_id: str, remembered: Remembered) -> None:
        """Remember what was just committed."""
        size = approximate_bytes(remembered.stored.balance) + sys.getsizeof(group_id)
        with self._lock:
            self._forget(group_id)
            self._kept[group_id] = remembered, self._clock(), size
            self._bytes += size
            while self._bytes > self._max_bytes:
                self._forget(next(iter(self._kept)))

    def forget(self, group_id: str) -> None:
        """Have the group read again."""
        with self._lock:
            self._forget(group_id)

    def _forget(self, group_id: str) -> None:
        found = self._kept.pop(group_id, None)
        if found is not None:
            self._bytes -= found[2]


def approximate_bytes(balance: Balance) -> int:
    """About what a balance takes in memory, with uids like those of Firebase (28 characters)."""
    pairs = sum(map(len, balance.ledger.values()))
    nets = sum(map(len, balance.nets.values()))
    return _ENTRY_BYTES + pairs * _PAIR_BYTES + nets * _NET_BYTES
