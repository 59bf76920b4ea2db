"""Group commit with real threads: who shares a batch with whom, who leads, and who is told what. Nothing here sleeps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from balance.protocol.groupcommit import GroupCommit

TIMEOUT_S = 30


class Spoiled(Exception):
    """A member's own fault."""


class Outage(Exception):
    """No member's fault."""


@dataclass
class Batch:
    group_id: str
    members: list[int]
    thread: int
    go_on: threading.Event = field(default_factory=threading.Event)


class Runner:
    """Runs batches when the test says so, and remembers them."""

    def __init__(self, max_weight: int = 1_000) -> None:
        self.batches: list[Batch] = []
        self.started = threading.Semaphore(0)
        self.held = True
        self.fault: Callable[[Sequence[int]], BaseException | None] = lambda members: None
        self.running: dict[str, int] = {}
        self.overlaps = 0
        self._lock = threading.Lock()
        self.line: GroupCommit[int, str] = GroupCommit(
            self.run, weigh=lambda member: member % 1_000, max_weight=max_weight, common_errors=(Outage,)
        )

    def run(self, group_id: str, members: Sequence[int]) -> list[str]:
        batch = Batch(group_id, list(members), threading.get_ident())
        with self._lock:
            self.batches.append(batch)
            self.running[group_id] = self.running.get(group_id, 0) + 1
            self.overlaps += self.running[group_id] > 1
            hold = self.held
        self.started.release()
        if hold:
            assert batch.go_on.wait(TIMEOUT_S)
        time.sleep(0)  # let other threads in
        with self._lock:
            self.running[group_id] -= 1
        error = self.fault(members)
        if error is not None:
            raise error
        return [f"{group_id}/{member}" for member in members]

    def batch_started(self) -> Batch:
        """The next batch, once it runs."""
        assert self.started.acquire(timeout=TIMEOUT_S)
        return self.batches[-1]

    def in_line(self, group_id: str, number: int) -> None:
        """Wait until so many stand in a group's line."""
        deadline = threading.Event()
        for _ in range(TIMEOUT_S * 1_000):
            with self.line._lock:
                if len(self.line._lines[group_id]) == number:
                    return
            deadline.wait(0.001)
        raise AssertionError("they never came")

    def release(self) -> None:
        """Let all batches run from now on."""
        self.held = False
        for batch in self.batches:
            batch.go_on.set()


@contextmanager
def many(threads: int = 32) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(threads) as pool:
        yield pool


def result(future: Future[str]) -> str:
    return future.result(TIMEOUT_S)


def queued(runner: Runner, pool: ThreadPoolExecutor, *members: int, group_id: str = "g") -> list[Future[str]]:
    """Submit members one after the other behind a running batch; they stand in this order."""
    futures = []
    standing = len(runner.line._lines[group_id])
    for number, member in enumerate(members, 1):
        futures.append(pool.submit(runner.line.submit, group_id, member))
        runner.in_line(group_id, standing + number)
    return futures


def test_a_lone_member_runs_at_once_in_its_own_thread() -> None:
    runner = Runner()
    runner.held = False
    assert runner.line.submit("g", 1) == "g/1"
    assert [(batch.members, batch.thread) for batch in runner.batches] == [([1], threading.get_ident())]
    assert runner.line._lines == {}


def test_whoever_comes_while_a_batch_runs_shares_the_next() -> None:
    runner = Runner()
    with many() as pool:
        first = pool.submit(runner.line.submit, "g", 1)
        runner.batch_started()
        others = queued(runner, pool, 2, 3, 4)
        runner.batches[0].go_on.set()
        assert result(first) == "g/1", "the first does not wait for the batch behind it"
        assert runner.batch_started().members == [2, 3, 4]
        runner.release()
        assert [result(future) for future in others] == ["g/2", "g/3", "g/4"]
    assert runner.line._lines == {}


def test_groups_do_not_wait_for_each_other() -> None:
    runner = Runner()
    with many() as pool:
        futures = {}
        for number in range(10):
            futures[number] = pool.submit(runner.line.submit, f"g{number}", number)
            assert runner.batch_started().members == [number], "all run at the same time"
        runner.release()
        assert {result(future) for future in futures.values()} == {f"g{number}/{number}" for number in range(10)}


def test_a_batch_is_bounded_by_its_weight_and_keeps_the_order_of_arrival() -> None:
    runner = Runner(max_weight=10)
    with many() as pool:
        first = pool.submit(runner.line.submit, "g", 1)
        runner.batch_started()
        others = queued(runner, pool, 1_004, 2_004, 3_004, 4_002, 5_009, 6_001)
        runner.release()
        for future in [first, *others]:
            result(future)
    assert [batch.members for batch in runner.batches] == [[1], [1_004, 2_004], [3_004, 4_002], [5_009, 6_001]]


def test_a_member_above_the_bound_runs_alone() -> None:
    runner = Runner(max_weight=10)
    with many() as pool:
        first = pool.submit(runner.line.submit, "g", 1)
        runner.batch_started()
        others = queued(runner, pool, 1_001, 2_500, 3_001)
        runner.release()
        for future in [first, *others]:
            result(future)
    assert [batch.members for batch in runner.batches] == [[1], [1_001], [2_500], [3_001]]


def test_no_thread_leads_more_than_one_batch_however_many_stand_in_line() -> None:
    runner = Runner(max_weight=3)
    with many() as pool:
        first = pool.submit(runner.line.submit, "g", 1)
        runner.batch_started()
        others = queued(runner, pool, *(1_000 * number + 1 for number in range(1, 19)))
        runner.release()
        for future in [first, *others]:
            result(future)
    assert [len(batch.members) for batch in runner.batches] == [1, *[3] * 6]
    threads = [batch.thread for batch in runner.batches]
    assert len(set(threads)) == len(threads)


def test_a_failing_member_does_not_fail_its_neighbours() -> None:
    runner = Runner()
    runner.fault = lambda members: Spoiled("three") if 3 in members else None
    with many() as pool:
        first = pool.submit(runner.line.submit, "g", 1)
        runner.batch_started()
        two, three, four = queued(runner, pool, 2, 3, 4)
        runner.release()
        assert [result(future) for future in (first, two, four)] == ["g/1", "g/2", "g/4"]
        with pytest.raises(Spoiled, match="three"):
            result(three)
    assert [batch.members for batch in runner.batches] == [[1], [2, 3, 4], [2], [3], [4]]
    assert runner.line._lines == {}


def test_an_error_that_nobody_is_to_blame_for_fails_the_whole_batch_and_is_not_tried_again() -> None:
    runner = Runner()
    runner.fault = lambda members: Outage() if 3 in members else None
    with many() as pool:
        first = pool.submit(runner.line.submit, "g", 1)
        runner.batch_started()
        others = queued(runner, pool, 2, 3, 4)
        runner.release()
        assert result(first) == "g/1"
        for future in others:
            with pytest.raises(Outage):
                result(future)
    assert [batch.members for batch in runner.batches] == [[1], [2, 3, 4]]
    assert runner.line._lines == {}


def test_an_outage_met_when_trying_one_by_one_is_that_members_only() -> None:
    runner = Runner()
    runner.fault = lambda members: Spoiled() if len(members) > 1 else Outage() if list(members) == [3] else None
    with many() as pool:
        first = pool.submit(runner.line.submit, "g", 1)
        runner.batch_started()
        two, three, four = queued(runner, pool, 2, 3, 4)
        runner.release()
        assert [result(future) for future in (first, two, four)] == ["g/1", "g/2", "g/4"]
        with pytest.raises(Outage):
            result(three)


@pytest.mark.parametrize("error", [Spoiled(), Outage(), KeyboardInterrupt(), SystemExit()])
def test_nobody_is_left_waiting_when_a_batch_fails(error: BaseException) -> None:
    runner = Runner()
    runner.fault = lambda members: error if 1 in members else None
    with many() as pool:
        first = pool.submit(runner.line.submit, "g", 1)
        runner.batch_started()
        others = queued(runner, pool, 2, 3)
        runner.release()
        with pytest.raises(type(error)):
            result(first)
        assert [result(future) for future in others] == ["g/2", "g/3"]
    assert runner.line._lines == {}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()])
def test_the_end_of_the_process_is_not_tried_one_by_one(error: BaseException) -> None:
    runner = Runner()
    runner.fault = lambda members: error if 2 in members else None
    with many() as pool:
        first = pool.submit(runner.line.submit, "g", 1)
        runner.batch_started()
        others = queued(runner, pool, 2, 3)
        runner.release()
        result(first)
        for future in others:
            with pytest.raises(type(error)):
                result(future)
    assert [batch.members for batch in runner.batches] == [[1], [2, 3]]


def test_a_batch_that_answers_too_little_fails_instead_of_leaving_somebody_without() -> None:
    line: GroupCommit[int, str] = GroupCommit(
        lambda group_id, members: [], weigh=lambda member: 1, max_weight=10, common_errors=(Outage,)
    )
    with pytest.raises(ValueError, match="zip"):
        line.submit("g", 1)


def test_many_threads_on_many_groups_all_get_their_own_result() -> None:
    runner = Runner(max_weight=20)
    runner.held = False
    runner.fault = lambda members: Spoiled() if len(members) > 1 and any(member % 97 == 0 for member in members) else None
    start = threading.Barrier(32)

    def work(thread: int) -> list[tuple[str, str]]:
        start.wait(TIMEOUT_S)
        pairs = []
        for number in range(60):
            group_id, member = f"g{(thread + number) % 3}", 1_000 * (60 * thread + number) + number % 7
            pairs.append((runner.line.submit(group_id, member), f"{group_id}/{member}"))
        return pairs

    with many() as pool:
        pairs = [pair for future in [pool.submit(work, thread) for thread in range(32)] for pair in future.result(TIMEOUT_S)]
    assert len(pairs) == 32 * 60
    assert all(got == expected for got, expected in pairs)
    assert runner.overlaps == 0, "one batch at a time for each group"
    assert any(len(batch.members) > 1 for batch in runner.batches), "some shared"
    assert runner.line._lines == {}
