"""Document locks: shared and exclusive, first come first served, with a search for deadlocks.

Theory of operation. An `Owner` (a transaction, or a commit outside of one) asks for a set of locks with one
`Request`, which is granted as a whole or not at all. Each lock has its queue in order of arrival, and a request is
granted once, for each of its names, no holder and no earlier request of the queue is in its way. Requests that hold
nothing and want several names therefore cannot block each other for ever: the oldest waits for holders only.

An owner that has a shared lock and wants it exclusive (an upgrade) goes to the head of the queue: those behind it
wait for its shared lock anyway. Two upgrades of one lock wait for each other; that, and every other cycle, is found
by `is_deadlocked`, to be asked once after each request that was queued: only the newest request can close a cycle.

Nothing here knows time, or what a name stands for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping


class Owner:
    """Who holds locks and waits for them."""

    __slots__ = ("held", "pending")

    def __init__(self) -> None:
        self.held: dict[str, Lock] = {}
        self.pending: list[Request] = []


class Lock:
    """The holders of one name's lock and the requests in its queue. Exists only while it has either."""

    __slots__ = ("exclusive", "queue", "shared")

    def __init__(self) -> None:
        self.exclusive: Owner | None = None
        self.shared: dict[Owner, None] = {}  # a dict, because its order is the same in every run
        self.queue: deque[Request] = deque()

    def admits(self, owner: Owner, exclusive: bool) -> bool:
        """Whether the holders would let the owner in."""
        if self.exclusive is not None and self.exclusive is not owner:
            return False
        return not exclusive or not self.shared or (len(self.shared) == 1 and owner in self.shared)


class Request:
    """A set of locks that an owner waits for; `wants` maps each name to whether it is wanted exclusively."""

    __slots__ = ("owner", "wants")

    def __init__(self, owner: Owner, wants: Mapping[str, bool]) -> None:
        self.owner = owner
        self.wants = wants


class LockTable:
    """All locks of a database. Requests that were granted after waiting are appended to `granted`."""

    def __init__(self) -> None:
        self._locks: dict[str, Lock] = {}
        self.granted: deque[Request] = deque()

    def __contains__(self, name: str) -> bool:
        """Whether anybody holds this lock or waits for it."""
        return name in self._locks

    def __len__(self) -> int:
        return len(self._locks)

    def acquire(self, owner: Owner, wants: Mapping[str, bool]) -> Request | None:
        """Take the locks, all at once. None when they are held now, otherwise the request that was queued."""
        held = owner.held
        missing = {
            name: exclusive
            for name, exclusive in wants.items()
            if name not in held or (exclusive and held[name].exclusive is not owner)
        }
        if not missing:
            return None
        request = Request(owner, missing)
        if self._is_grantable(request):
            self._hold(request)
            return None
        for name in missing:
            lock = self._locks.get(name)
            if lock is None:
                lock = self._locks[name] = Lock()
            if owner in lock.shared:
                lock.queue.appendleft(request)
            else:
                lock.queue.append(request)
        owner.pending.append(request)
        return request

    def release(self, owner: Owner) -> None:
        """Give up all locks and requests of the owner, and grant what others now can have."""
        names = list(owner.held)
        for lock in owner.held.values():
            if lock.exclusive is owner:
                lock.exclusive = None
            lock.shared.pop(owner, None)
        owner.held.clear()
        for request in owner.pending:
            self._dequeue(request)
            names.extend(request.wants)
        owner.pending.clear()
        self._wake(names)

    def cancel(self, request: Request) -> None:
        """Take a waiting request out of its queues."""
        request.owner.pending.remove(request)
        self._dequeue(request)
        self._wake(list(request.wants))

    def is_deadlocked(self, owner: Owner) -> bool:
        """Whether the owner waits, over any number of others, for itself."""
        if not owner.held and len(owner.pending) == 1:
            return False  # nobody can wait for one who holds nothing and came last
        seen: set[Owner] = set()
        to_visit = [owner]
        while to_visit:
            for other in self._waits_for(to_visit.pop()):
                if other is owner:
                    return True
                if other not in seen:
                    seen.add(other)
                    to_visit.append(other)
        return False

    def _waits_for(self, owner: Owner) -> Iterator[Owner]:
        """Whom the owner's requests wait for; those who wait in front of a named one are left out."""
        for request in owner.pending:
            for name, exclusive in request.wants.items():
                lock = self._locks[name]
                if lock.exclusive is not None and lock.exclusive is not owner:
                    yield lock.exclusive
                if exclusive:
                    yield from (other for other in lock.shared if other is not owner)
                nearest = None
                for earlier in lock.queue:
                    if earlier is request:
                        break
                    if earlier.owner is owner:
                        continue
                    if earlier.wants[name]:
                        nearest = earlier  # it waits itself for all that conflict with it and came before
                    elif exclusive:
                        yield earlier.owner
                if nearest is not None:
                    yield nearest.owner

    def _is_grantable(self, request: Request) -> bool:
        owner = request.owner
        for name, exclusive in request.wants.items():
            lock = self._locks.get(name)
            if lock is None:
                continue
            if not lock.admits(owner, exclusive):
                return False
            if owner in lock.shared:
                continue  # an upgrade does not stand in line
            for earlier in lock.queue:
                if earlier is request:
                    break
                if exclusive or earlier.wants[name]:
                    return False
        return True

    def _hold(self, request: Request) -> None:
        owner = request.owner
        for name, exclusive in request.wants.items():
            lock = self._locks.get(name)
            if lock is None:
                lock = self._locks[name] = Lock()
            if exclusive:
                lock.shared.pop(owner, None)
                lock.exclusive = owner
            else:
                lock.shared[owner] = None
            owner.held[name] = lock

    def _dequeue(self, request: Request) -> None:
        for name in request.wants:
            self._locks[name].queue.remove(request)

    def _wake(self, names: list[str]) -> None:
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
                elif request.wants[name]:
                    break  # nobody behind it can have this lock
            if not lock.queue and not lock.shared and lock.exclusive is None:
                del self._locks[name]
