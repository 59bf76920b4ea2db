"""Group commit: concurrent changes of a group share a transaction, and concurrent groups share a commit.

A document bears about one write a second before its latency grows, and a call takes longer than the work of an event. So a
burst must not mean a call per event. Two kinds of job do the work, each run by a thread of its own:

- A common job takes the changes of up to `max_groups` waiting groups, and brings them into one commit (`together`). At most
  `max_common` such jobs run at a time; the changes that arrive meanwhile form the next batch. A change that finds a job free is
  taken at once: it never waits for others to join it.
- A lone job works on one group (`alone`): on what a common job could not settle, and on groups that must not be mixed with
  others. It may take long; only its own group waits for it.

A group is in one job at a time, and keeps the order of arrival. A group whose lone job failed or took longer than `SLOW_S` goes
alone for the next `SUSPECT_S`: the others must not wait for it. When many are like that, they are not to blame, and none does.

`Queues` knows who waits and what may run next; it is pure. `Combiner` runs the jobs. It waits for nobody: `submit` returns at
once, and the result goes to a callback. So an event loop can use it, and so can the simulator, on virtual time.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

M = TypeVar("M")
R = TypeVar("R")

SLOW_S = 0.5
SUSPECT_S = 30.0


class Interrupted(Exception):
    """The thread that ran a member's job was told to end."""


@dataclass(frozen=True, slots=True)
class Place(Generic[M, R]):
    """A member that waits, and whom to tell what became of it."""

    member: M
    done: Callable[[R | Exception], None]


@dataclass(frozen=True, slots=True)
class Bounds(Generic[M]):
    """What a job may hold."""

    weigh: Callable[[M], int]
    max_weight: int
    """Of the members of one job; a heavier member runs by itself."""
    max_groups: int = 16
    max_common: int = 2


@dataclass(slots=True)
class Queues(Generic[M, R]):
    """Who waits, by group; which groups are in a job; which may be in the next common one."""

    bounds: Bounds[M]
    is_lone: Callable[[M], bool]
    """Whether a member must not be mixed with other groups'."""
    _waiting: dict[str, deque[Place[M, R]]] = field(default_factory=dict)
    """A group is in here from its first member's arrival until its job ended with nobody waiting."""
    _busy: set[str] = field(default_factory=set)
    _ready: dict[str, None] = field(default_factory=dict)
    """In the order of arrival. Groups that are neither busy nor bound to go alone."""
    _suspect_until: dict[str, float] = field(default_factory=dict)
    """In the order of their ends."""

    @property
    def is_empty(self) -> bool:
        """Whether nobody waits and nothing runs."""
        return not (self._waiting or self._busy or self._ready)

    @property
    def has_ready(self) -> bool:
        """Whether a common job would find something to do."""
        return bool(self._ready)

    def add(self, group_id: str, place: Place[M, R], now_s: float) -> list[Place[M, R]]:
        """Let a member wait; returns the members of the lone job that is to be run for its group now, if any."""
        waiting = self._waiting.setdefault(group_id, deque())
        waiting.append(place)
        if group_id in self._busy:
            return []
        return self._next(group_id, now_s)

    def take_common(self) -> dict[str, list[Place[M, R]]]:
        """The members of the next common job, by group; their groups are busy now."""
        job: dict[str, list[Place[M, R]]] = {}
        room = self.bounds.max_weight
        while self._ready and len(job) < self.bounds.max_groups:
            group_id = next(iter(self._ready))
            taken = self._take(group_id, room, is_first=not job)
            if not taken:
                break
            room -= sum(self.bounds.weigh(place.member) for place in taken)
            del self._ready[group_id]
            self._busy.add(group_id)
            job[group_id] = taken
        return job

    def free(self, group_id: str, now_s: float) -> list[Place[M, R]]:
        """The group's job has ended; returns the members of the lone job that is to be run for it now, if any."""
        self._busy.discard(group_id)
        if self._waiting[group_id]:
            return self._next(group_id, now_s)
        del self._waiting[group_id]
        return []

    def suspect(self, group_id: str, now_s: float) -> None:
        """Let a group go alone for a while."""
        self._suspect_until.pop(group_id, None)
        self._suspect_until[group_id] = now_s + SUSPECT_S
        while (oldest := next(iter(self._suspect_until))) != group_id and self._suspect_until[oldest] <= now_s:
            del self._suspect_until[oldest]
        if len(self._suspect_until) > self.bounds.max_groups // 2:
            # It is not them: the whole database is slow, and each of them alone would cost it more.
            self._suspect_until.clear()

    def _next(self, group_id: str, now_s: float) -> list[Place[M, R]]:
        """Make a group that is not busy ready for a common job, or return the members of its lone job."""
        if group_id in self._ready and not self.is_lone(self._waiting[group_id][-1].member):
            return []
        is_lone = any(self.is_lone(place.member) for place in self._waiting[group_id])
        if not is_lone and self._suspect_until.get(group_id, now_s) <= now_s:
            self._ready[group_id] = None
            return []
        self._ready.pop(group_id, None)
        self._busy.add(group_id)
        return self._take(group_id, self.bounds.max_weight, is_first=True)

    def _take(self, group_id: str, room: int, *, is_first: bool) -> list[Place[M, R]]:
        waiting, taken = self._waiting[group_id], []
        while waiting and (is_first or self.bounds.weigh(waiting[0].member) <= room):
            is_first = False
            room -= self.bounds.weigh(waiting[0].member)
            taken.append(waiting.popleft())
        return taken


Answer = Sequence[R] | Exception | None
"""What `together` says of a group: a result for each member, the error of all, or None: it must go alone."""


class Combiner(Generic[M, R]):
    """Runs members in jobs of several. Safe to share among threads."""

    def __init__(
        self,
        together: Callable[[Mapping[str, Sequence[M]]], Mapping[str, Answer[R]]],
        alone: Callable[[str, Sequence[M]], Sequence[R]],
        *,
        bounds: Bounds[M],
        is_lone: Callable[[M], bool],
        common_errors: tuple[type[Exception], ...],
        start: Callable[[Callable[[], None]], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`start` has a job run by some other thread. One of `common_errors`, for which no member is to blame, fails all
        members of a lone job; after any other the members are tried one by one."""
        self._together = together
        self._alone = alone
        self._common_errors = common_errors
        self._start = start
        self._clock = clock
        self._queues: Queues[M, R] = Queues(bounds, is_lone)
        self._max_common = bounds.max_common
        self._common_jobs = 0
        self._lock = threading.Lock()

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits and nothing runs."""
        with self._lock:
            return self._queues.is_empty and not self._common_jobs

    def submit(self, group_id: str, member: M, done: Callable[[R | Exception], None]) -> None:
        """Have a job run the member; `done` gets its result or error, in the job's thread. It must not raise or block."""
        with self._lock:
            lone = self._queues.add(group_id, Place(member, done), self._clock())
            is_wanted = self._wants_common_job()
        if lone:
            self._start(partial(self._run_alone, group_id, lone))
        if is_wanted:
            self._start(self._run_common)

    def _wants_common_job(self) -> bool:
        """Whether one more is to be started; it counts from now on."""
        if not self._queues.has_ready or self._common_jobs >= self._max_common:
            return False
        self._common_jobs += 1
        return True

    def _run_common(self) -> None:
        # What to take is decided here, not on submitting: what arrived until this thread runs comes along.
        while True:
            with self._lock:
                job = self._queues.take_common()
                if not job:
                    self._common_jobs -= 1
                    return
            try:
                members = {group_id: [place.member for place in places] for group_id, places in job.items()}
                answers = {
                    group_id: answer
                    for group_id, answer in self._together(members).items()
                    if isinstance(answer, Exception) or (answer is not None and len(answer) == len(members[group_id]))
                }
            except Exception:  # noqa: BLE001 - whatever it is: each group alone meets it again, or does not
                answers = {}
            except BaseException as error:
                with self._lock:
                    self._common_jobs -= 1
                for group_id, places in job.items():
                    self._end(group_id, places, Interrupted(repr(error)))
                raise
            for group_id, places in job.items():
                answer = answers.get(group_id)
                if answer is None:
                    self._start(partial(self._run_alone, group_id, places))
                else:
                    self._end(group_id, places, answer)

    def _run_alone(self, group_id: str, places: Sequence[Place[M, R]]) -> None:
        started_s = self._clock()
        try:
            answers = self._tried(group_id, places)
        except BaseException as error:
            self._end(group_id, places, Interrupted(repr(error)))
            raise
        is_suspect = self._clock() - started_s > SLOW_S or any(isinstance(answer, Exception) for answer in answers)
        self._end(group_id, places, answers, is_suspect=is_suspect)

    def _tried(self, group_id: str, places: Sequence[Place[M, R]]) -> list[R | Exception]:
        """A result or error for each place."""
        try:
            results = self._alone(group_id, [place.member for place in places])
            return [result for _, result in zip(places, results, strict=True)]
        except self._common_errors as error:
            return [error] * len(places)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for it
            if len(places) == 1:
                return [error]
            # One of them is to blame: it must not fail its neighbours.
            return [answer for place in places for answer in self._tried(group_id, [place])]

    def _end(
        self,
        group_id: str,
        places: Sequence[Place[M, R]],
        answer: Sequence[R | Exception] | Exception,
        *,
        is_suspect: bool = False,
    ) -> None:
        """Let the group's next job start, then tell the members what became of them."""
        with self._lock:
            now_s = self._clock()
            if is_suspect:
                self._queues.suspect(group_id, now_s)
            lone = self._queues.free(group_id, now_s)
            is_wanted = self._wants_common_job()
        if lone:
            self._start(partial(self._run_alone, group_id, lone))
        if is_wanted:
            self._start(self._run_common)
        answers = [answer] * len(places) if isinstance(answer, Exception) else answer
        for place, each in zip(places, answers, strict=True):
            place.done(each)
