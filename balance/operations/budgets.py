"""How many reads one caller may cause in a minute.

Most answers cost one or two reads. Some read a group's whole history, and any member could ask for such answers without end;
so what a caller causes is counted, and who has caused too much waits. A caller may start whatever it asks for while anything
of its budget is left: what that costs beyond is paid back by waiting longer. Each instance counts for itself.

What an answer costs is known only when it is there. So that nobody starts any number of them at once, a caller has few turns.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from threading import Lock

from balance.database.firestore import Firestore, Query, Snapshot, Transaction, Write

MAX_AT_ONCE = 4
"""Turns of a caller: half of the places for reading whole histories (reading.py)."""

_CALLERS_REMEMBERED = 10_000


class OverBudget(Exception):
    """The caller has caused too many reads; `retry_after_s` is when the next one is allowed, in whole seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many reads: try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class ReadBudgets:
    """The budgets of all callers, by uid; safe to share among threads."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._lock = Lock()
        self._full_at_s: dict[str, float] = {}
        """When a caller's budget will be whole again; absent: it is."""
        self._turns: dict[str, int] = {}
        """How many a caller has taken; absent: none."""

    @contextmanager
    def turn(self, uid: str) -> Iterator[None]:
        """Hold one of a caller's turns; raises OverBudget when all are taken, or nothing is left."""
        self.check(uid)
        with self._lock:
            taken = self._turns.get(uid, 0)
            if taken >= MAX_AT_ONCE:
                raise OverBudget(1)
            self._turns[uid] = taken + 1
        try:
            yield
        finally:
            with self._lock:
                self._turns[uid] -= 1
                if not self._turns[uid]:
                    del self._turns[uid]

    def check(self, uid: str) -> None:
        """Raises OverBudget when nothing is left."""
        with self._lock:
            # Spent whole, a budget is full again in a minute.
            wait_s = self._full_at_s.get(uid, 0.0) - self._clock() - 60
        if wait_s > 0:
            raise OverBudget(math.ceil(wait_s))

    def charge(self, uid: str, reads: int) -> None:
        """Count reads that a caller has caused."""
        with self._lock:
            now_s = self._clock()
            self._full_at_s[uid] = max(self._full_at_s.get(uid, 0.0), now_s) + reads * 60 / self._per_minute
            if len(self._full_at_s) > _CALLERS_REMEMBERED:
                self._full_at_s = {caller: full_s for caller, full_s in self._full_at_s.items() if full_s > now_s}


class CountedReads:
    """A database that counts what is read through it outside of transactions, as it is billed: also when more of it fails."""

    def __init__(self, firestore: Firestore) -> None:
        self.reads = 0
        self._firestore = firestore

    def begin(self, *, retry_of: bytes = b"") -> Transaction:
        """See Firestore.begin."""
        return self._firestore.begin(retry_of=retry_of)

    def get(self, paths: Sequence[str], *, read_time: datetime | None = None, timeout_s: float | None = None) -> list[Snapshot]:
        """See Firestore.get."""
        found = self._firestore.get(paths, read_time=read_time, timeout_s=timeout_s)
        self.reads += len(found)
        return found

    def query(self, query: Query, *, read_time: datetime | None = None) -> Iterator[Snapshot]:
        """See Firestore.query. One that finds nothing counts as one read."""
        is_empty = True
        for document in self._firestore.query(query, read_time=read_time):
            self.reads += 1
            is_empty = False
            yield document
        self.reads += is_empty

    def commit(self, writes: Iterable[Write], *, timeout_s: float | None = None, max_bytes: int | None = None) -> datetime:
        """See Firestore.commit."""
        return self._firestore.commit(writes, timeout_s=timeout_s, max_bytes=max_bytes)
