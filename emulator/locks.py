"""Document locks, granted by wound-wait: the older owner goes first, so no deadlock can arise.

Theory of operation. An `Owner` (a transaction, or a commit outside of one) asks for a set of locks with one `Request`,
which is granted as a whole or not at all. A lock is held in one of three modes:

- *shared*, by any number of readers;
- *reserved*, by one who has read and expects to write, beside those who share (an "update lock" in the literature);
- *exclusive*, by one who writes, and nobody else.

When a request conflicts with a holder,

- and the holder is younger, the holder is *wounded*: it loses all its locks and requests at once;
- and the holder is older, the request waits.

Each lock has a queue in order of age. A request is granted once no holder and no earlier request of the queue conflicts
with it, for each of its names. So an owner only ever waits for older owners, and a circle of waiting owners, which would
need one that waits for a younger one, cannot exist. The oldest owner never waits in a queue and is never wounded.

One exception: an owner that has just been granted the locks of its commit is not wounded, though it is younger. It
commits next, without waiting for anything else (see `Request.is_last`).

Source: D. J. Rosenkrantz, R. E. Stearns, P. M. Lewis, System Level Concurrency Control for Distributed Database Systems,
ACM Transactions on Database Systems 3 (1978). Nothing here knows time, or what a name stands for.
"""

from __future__ import annotations

from bisect import insort_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from typing import NamedTuple


class Mode(IntEnum):
    """How a lock is held or wanted; the greater includes the lesser."""

    SHARED = 0
    RESERVED = 1
    EXCLUSIVE = 2


def _conflict(one: int, other: int) -> bool:
    return one + other >= Mode.EXCLUSIVE


class Owner:
    """Who holds locks and waits for them.

    born: the owner's age; the smaller is the older. No two owners have the same.
    """

    __slots__ = ("born", "held", "pending")

    def __init__(self, born: tuple[int, int]) -> None:
        self.born = born
        self.held: dict[str, Lock] = {}
        self.pending: list[Request] = []


class Lock:
    """The holders of one name's lock and the requests in its queue. Exists only while it has either."""

    __slots__ = ("holders", "queue", "strongest")

    def __init__(self) -> None:
        self.holders: dict[Owner, Mode] = {}  # their order is the same in every run
        self.strongest: Owner | None = None  # the one who holds it reserved or exclusively
        self.queue: list[Request] = []

    def conflicting(self, owner: Owner, mode: Mode) -> Iterator[Owner]:
        """The holders beside which the owner cannot hold the lock in this mode."""
        return (holder for holder, held in self.holders.items() if holder is not owner and _conflict(held, mode))

    def admits(self, owner: Owner, mode: Mode) -> bool:
        """Whether no holder conflicts with the owner. Takes no longer with many holders."""
        if mode is Mode.EXCLUSIVE:
            return not self.holders or (len(self.holders) == 1 and owner in self.holders)
        strongest = self.strongest
        return strongest is None or strongest is owner or not _conflict(self.holders[strongest], mode)

    def hold(self, owner: Owner, mode: Mode) -> None:
        """Let the owner in, or its mode rise."""
        self.holders[owner] = mode
        if mode is not Mode.SHARED:
            self.strongest = owner

    def drop(self, owner: Owner) -> None:
        """The owner holds it no more."""
        del self.holders[owner]
        if self.strongest is owner:
            self.strongest = None


class Request:
    """A set of locks that an owner waits for, each in a mode.

    is_last: the owner ends as soon as it has these locks, so that others can wait for it, whatever its age.
    """

    __slots__ = ("is_last", "owner", "wants")

    def __init__(self, owner: Owner, wants: Mapping[str, Mode], is_last: bool) -> None:
        self.owner = owner
        self.wants = wants
        self.is_last = is_last

    @property
    def born(self) -> tuple[int, int]:
        """The age of the owner."""
        return self.owner.born


class Wound(NamedTuple):
    """An owner that lost all its locks to an older one, which wanted `name`; `requests` will not be granted any more."""

    owner: Owner
    name: str
    requests: list[Request]


class LockTable:
    """All locks of a database.

    granted: requests that were granted after waiting, in this order. The user takes them out.
    wounded: owners that lost their locks. The user takes them out.
    """

    def __init__(self) -> None:
        self._locks: dict[str, Lock] = {}
        self.granted: deque[Request] = deque()
        self.wounded: deque[Wound] = deque()

    def __contains__(self, name: str) -> bool:
        """Whether anybody holds this lock or waits for it."""
        return name in self._locks

    def __len__(self) -> int:
        return len(self._locks)

    def acquire(self, owner: Owner, wants: Mapping[str, Mode], *, is_last: bool = False) -> Request | None:
        """Take the locks, all at once. None when they are held now, otherwise the request that was queued.

        Younger owners that are in the way are wounded either way.
        """
        missing = self.missing(owner, wants)
        if not missing:
            return None
        request = Request(owner, missing, is_last)
        if self._is_grantable(request):
            self._hold(request)
            return None
        for name in missing:
            lock = self._locks.get(name)
            if lock is None:
                lock = self._locks[name] = Lock()
            insort_right(lock.queue, request, key=_born)
        owner.pending.append(request)
        freed = [name for younger, over in self._wounded_by(owner, missing).items() for name in self._wound(younger, over)]
        if freed:
            self._wake([*missing, *freed])
            if request in self.granted:
                self.granted.remove(request)
                return None
        return request

    def missing(self, owner: Owner, wants: Mapping[str, Mode]) -> dict[str, Mode]:
        """What of these locks the owner does not hold yet."""
        held = owner.held
        return {name: mode for name, mode in wants.items() if name not in held or held[name].holders[owner] < mode}

    def victims(self, owner: Owner, missing: Mapping[str, Mode]) -> list[Owner]:
        """Who would be wounded if the owner asked for these locks now, which it does not hold."""
        return list(self._wounded_by(owner, missing))

    def is_free_for(self, owner: Owner, missing: Mapping[str, Mode]) -> bool:
        """Whether the owner would get these locks at once, without wounding anybody."""
        return self._is_grantable(Request(owner, missing, is_last=False))

    def release(self, owner: Owner) -> None:
        """Give up all locks and requests of the owner, and grant what others now can have."""
        self._wake(self._strip(owner))

    def cancel(self, request: Request) -> None:
        """Take a waiting request out of its queues."""
        request.owner.pending.remove(request)
        self._dequeue(request)
        self._wake(list(request.wants))

    def _wounded_by(self, owner: Owner, wants: Mapping[str, Mode]) -> dict[Owner, str]:
        """The younger holders that conflict with the owner's wants, each with the first name over which it does."""
        wounded: dict[Owner, str] = {}
        for name, mode in wants.items():
            lock = self._locks.get(name)
            if lock is None:
                continue
            for holder in lock.conflicting(owner, mode):
                if holder.born > owner.born and not self._ends_next(holder):
                    wounded.setdefault(holder, name)
        return wounded

    def _ends_next(self, owner: Owner) -> bool:
        return any(request.is_last and request.owner is owner for request in self.granted)

    def _wound(self, owner: Owner, name: str) -> list[str]:
        requests = list(owner.pending)
        freed = self._strip(owner)
        self.wounded.append(Wound(owner, name, requests))
        return freed

    def _strip(self, owner: Owner) -> list[str]:
        """Take all locks and requests from the owner; returns their names."""
        names = list(owner.held)
        for lock in owner.held.values():
            lock.drop(owner)
        owner.held.clear()
        for request in owner.pending:
            self._dequeue(request)
            names.extend(request.wants)
        owner.pending.clear()
        return names

    def _is_grantable(self, request: Request) -> bool:
        owner = request.owner
        for name, mode in request.wants.items():
            lock = self._locks.get(name)
            if lock is None:
                continue
            if not lock.admits(owner, mode):
                return False
            for earlier in lock.queue:
                if earlier is request or earlier.born > owner.born:
                    break
                if _conflict(mode, earlier.wants[name]):
                    return False
        return True

    def _hold(self, request: Request) -> None:
        owner = request.owner
        for name, mode in request.wants.items():
            lock = self._locks.get(name)
            if lock is None:
                lock = self._locks[name] = Lock()
            lock.hold(owner, mode)
            owner.held[name] = lock

    def _dequeue(self, request: Request) -> None:
        for name in request.wants:
            self._locks[name].queue.remove(request)

    def _wake(self, names: Iterable[str]) -> None:
        """Grant what can be granted now in the queues of these names."""
        to_wake = deque(names)
        while to_wake:
            name = to_wake.popleft()
            lock = self._locks.get(name)
            if lock is None:
                continue
            for request in list(lock.queue):
                owner = request.owner
                if self._is_grantable(request):
                    owner.pending.remove(request)
                    self._dequeue(request)
                    self._hold(request)
                    self.granted.append(request)
                    for another in owner.pending:  # it may have waited behind this one, in any of its queues
                        to_wake.extend(another.wants)
                elif request.wants[name] is Mode.EXCLUSIVE:
                    break  # nobody behind it can have this lock
            if not lock.queue and not lock.holders:
                del self._locks[name]


def _born(request: Request) -> tuple[int, int]:
    return request.owner.born
