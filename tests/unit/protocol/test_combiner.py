"""Group commit: who shares a job with whom, who goes alone, and who is told what. No threads here: the test runs each job."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from balance.protocol.combiner import SLOW_S, SUSPECT_S, Answer, Bounds, Combiner, Interrupted

TIMEOUT_S = 30
LONE = 900_000


class Spoiled(Exception):
    """A member's own fault."""


class Outage(Exception):
    """No member's fault."""


@dataclass
class Bench:
    """A combiner whose jobs wait until the test runs them, and what they did. A member's weight is its last three digits."""

    max_weight: int = 1_000
    max_groups: int = 16
    max_common: int = 2
    jobs: list[Callable[[], None]] = field(default_factory=list)
    together: list[dict[str, list[int]]] = field(default_factory=list)
    alone: list[tuple[str, list[int]]] = field(default_factory=list)
    told: dict[int, str | Exception] = field(default_factory=dict)
    unsettled: set[str] = field(default_factory=set)
    """Groups that a common job leaves for later."""
    errors: dict[str, Exception] = field(default_factory=dict)
    """What a common job answers for a group."""
    fault: Callable[[Sequence[int]], BaseException | None] = lambda members: None
    """What a lone job fails with."""
    crash: BaseException | None = None
    """What a common job fails with."""
    takes_s: float = 0.0
    """How long a lone job takes."""
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.combiner: Combiner[int, str] = Combiner(
            self.run_together,
            self.run_alone,
            bounds=Bounds(lambda member: member % 1_000, self.max_weight, self.max_groups, self.max_common),
            is_lone=lambda member: member >= LONE,
            common_errors=(Outage,),
            start=self.jobs.append,
            clock=lambda: self.now_s,
        )

    def run_together(self, batch: Mapping[str, Sequence[int]]) -> dict[str, Answer[str]]:
        self.together.append({group_id: list(members) for group_id, members in batch.items()})
        if self.crash is not None:
            raise self.crash
        return {
            group_id: self.errors.get(group_id) or [f"{group_id}/{member}" for member in members]
            for group_id, members in batch.items()
            if group_id not in self.unsettled
        }

    def run_alone(self, group_id: str, members: Sequence[int]) -> list[str]:
        self.alone.append((group_id, list(members)))
        self.now_s += self.takes_s
        error = self.fault(members)
        if error is not None:
            raise error
        return [f"{group_id}/{member} alone" for member in members]

    def submit(self, group_id: str, *members: int) -> None:
        for member in members:
            self.combiner.submit(group_id, member, lambda outcome, member=member: self.tell(member, outcome))  # type: ignore[misc]

    def tell(self, member: int, outcome: str | Exception) -> None:
        assert member not in self.told, "once"
        self.told[member] = outcome

    def run(self) -> None:
        """Run the job that waits longest."""
        self.jobs.pop(0)()

    def run_all(self) -> None:
        while self.jobs:
            self.run()
        assert self.combiner.is_idle


def test_a_lone_member_is_taken_at_once() -> None:
    bench = Bench()
    bench.submit("g", 1)
    assert len(bench.jobs) == 1
    bench.run_all()
    assert bench.together == [{"g": [1]}]
    assert bench.told == {1: "g/1"}


def test_what_arrives_before_the_job_runs_comes_along() -> None:
    bench = Bench()
    bench.submit("g", 1, 2)
    bench.submit("h", 3)
    bench.run()
    assert bench.together == [{"g": [1, 2], "h": [3]}]
    assert bench.told == {1: "g/1", 2: "g/2", 3: "h/3"}
    bench.run_all()
    assert len(bench.together) == 1, "a job that finds nothing does nothing"


def test_what_arrives_meanwhile_forms_the_next_batch() -> None:
    bench = Bench()
    bench.submit("g", 1)
    inner = bench.run_together

    def arriving(batch: Mapping[str, Sequence[int]]) -> dict[str, Answer[str]]:
        if not bench.together:
            bench.submit("g", 2, 3)
            bench.submit("h", 4)
        return inner(batch)

    bench.combiner._together = arriving
    bench.run()
    bench.run_all()
    assert bench.together[0] == {"g": [1]}
    assert {group_id: members for batch in bench.together[1:] for group_id, members in batch.items()} == {"g": [2, 3], "h": [4]}
    assert bench.told == {1: "g/1", 2: "g/2", 3: "g/3", 4: "h/4"}


def test_no_more_common_jobs_than_allowed_run_at_a_time() -> None:
    bench = Bench(max_common=2, max_groups=1)
    for number in range(5):
        bench.submit(f"g{number}", number)
    assert len(bench.jobs) == 2
    bench.run_all()
    assert len(bench.together) == 5


def test_a_common_job_is_bounded_in_groups() -> None:
    bench = Bench(max_groups=3, max_common=1)
    for number in range(7):
        bench.submit(f"g{number}", number)
    bench.run_all()
    assert [len(batch) for batch in bench.together] == [3, 3, 1]


def test_a_common_job_is_bounded_in_weight_and_keeps_the_order_of_arrival() -> None:
    bench = Bench(max_weight=10, max_common=1)
    bench.submit("g", 1_004, 2_004, 3_004)
    bench.submit("h", 4_002)
    bench.submit("i", 5_009)
    bench.submit("g", 6_001)
    bench.run_all()
    assert bench.together == [{"g": [1_004, 2_004], "h": [4_002]}, {"i": [5_009]}, {"g": [3_004, 6_001]}]


def test_a_member_above_the_bound_goes_by_itself() -> None:
    bench = Bench(max_weight=10, max_common=1)
    bench.submit("g", 1_001, 2_500, 3_001)
    bench.submit("h", 4_500)
    bench.run_all()
    assert bench.together == [{"g": [1_001]}, {"h": [4_500]}, {"g": [2_500]}, {"g": [3_001]}]


def test_what_a_common_job_cannot_settle_goes_alone_and_the_others_do_not_wait() -> None:
    bench = Bench()
    bench.unsettled = {"g"}
    bench.submit("g", 1, 2)
    bench.submit("h", 3)
    bench.run()
    assert bench.told == {3: "h/3"}
    bench.submit("g", 4)
    bench.submit("h", 5)
    bench.run_all()
    assert bench.alone[0] == ("g", [1, 2])
    assert {"h": [5]} in bench.together
    assert bench.told[1] == "g/1 alone"


def test_a_group_is_in_one_job_at_a_time() -> None:
    bench = Bench()
    bench.unsettled = {"g"}
    bench.submit("g", 1)
    bench.run()
    bench.submit("g", 2)
    assert [job for job in bench.jobs if job == bench.combiner._run_common] == []
    bench.run_all()
    assert bench.alone == [("g", [1]), ("g", [2])]


def test_the_error_of_one_group_is_only_its_own() -> None:
    bench = Bench()
    bench.errors = {"g": Outage("newer")}
    bench.submit("g", 1, 2)
    bench.submit("h", 3)
    bench.run_all()
    assert isinstance(bench.told[1], Outage)
    assert isinstance(bench.told[2], Outage)
    assert bench.told[3] == "h/3"
    assert bench.alone == []


def test_whatever_a_common_job_fails_with_each_group_goes_alone() -> None:
    bench = Bench()
    bench.crash = Spoiled()
    bench.submit("g", 1, 2)
    bench.submit("h", 3)
    bench.run_all()
    assert bench.alone == [("g", [1, 2]), ("h", [3])]
    assert bench.told == {1: "g/1 alone", 2: "g/2 alone", 3: "h/3 alone"}


def test_a_common_job_that_answers_too_little_leaves_nobody_without() -> None:
    bench = Bench()
    bench.combiner._together = lambda batch: {"g": ["only one"]}
    bench.submit("g", 1, 2)
    bench.submit("h", 3)
    bench.run_all()
    assert bench.told == {1: "g/1 alone", 2: "g/2 alone", 3: "h/3 alone"}


def test_a_lone_job_that_answers_too_little_fails_instead_of_leaving_somebody_without() -> None:
    bench = Bench()
    bench.combiner._alone = lambda group_id, members: []
    bench.unsettled = {"g"}
    bench.submit("g", 1)
    bench.run_all()
    assert isinstance(bench.told[1], ValueError)


def test_a_lone_member_takes_its_group_out_of_the_common_jobs() -> None:
    bench = Bench()
    bench.submit("g", 1)
    bench.submit("h", 2)
    bench.submit("g", LONE)
    bench.submit("g", 3)
    bench.run_all()
    assert bench.alone == [("g", [1, LONE])]
    assert bench.together == [{"h": [2]}, {"g": [3]}]


def test_a_lone_member_that_arrives_meanwhile_goes_with_those_who_wait() -> None:
    bench = Bench()
    bench.unsettled = {"g"}
    bench.submit("g", 1)
    bench.run()
    bench.unsettled = set()
    bench.submit("g", 2, LONE, 3)
    bench.run_all()
    assert bench.alone == [("g", [1]), ("g", [2, LONE, 3])]


def test_a_failing_member_does_not_fail_its_neighbours() -> None:
    bench = Bench()
    bench.unsettled = {"g"}
    bench.fault = lambda members: Spoiled("three") if 3 in members else None
    bench.submit("g", 2, 3, 4)
    bench.run_all()
    assert bench.alone == [("g", [2, 3, 4]), ("g", [2]), ("g", [3]), ("g", [4])]
    assert isinstance(bench.told[3], Spoiled)
    assert [bench.told[2], bench.told[4]] == ["g/2 alone", "g/4 alone"]


def test_an_error_that_nobody_is_to_blame_for_fails_the_whole_job_and_is_not_tried_again() -> None:
    bench = Bench()
    bench.unsettled = {"g"}
    bench.fault = lambda members: Outage() if 3 in members else None
    bench.submit("g", 2, 3, 4)
    bench.run_all()
    assert bench.alone == [("g", [2, 3, 4])]
    assert all(isinstance(bench.told[member], Outage) for member in (2, 3, 4))


def test_an_outage_met_when_trying_one_by_one_is_that_members_only() -> None:
    bench = Bench()
    bench.unsettled = {"g"}
    bench.fault = lambda members: Spoiled() if len(members) > 1 else Outage() if list(members) == [3] else None
    bench.submit("g", 2, 3, 4)
    bench.run_all()
    assert [bench.told[2], bench.told[4]] == ["g/2 alone", "g/4 alone"]
    assert isinstance(bench.told[3], Outage)


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit()])
def test_nobody_is_left_waiting_when_the_thread_of_a_job_ends(end: BaseException) -> None:
    bench = Bench()
    bench.crash = end
    bench.submit("g", 1)
    with pytest.raises(type(end)):
        bench.run()
    bench.crash = None
    bench.unsettled = {"h"}
    bench.fault = lambda members: end
    bench.submit("h", 2)
    bench.run()
    with pytest.raises(type(end)):
        bench.run_all()
    bench.submit("g", 3)
    bench.run_all()
    assert isinstance(bench.told[1], Interrupted)
    assert isinstance(bench.told[2], Interrupted)
    assert bench.told[3] == "g/3"


@pytest.mark.parametrize(
    ("takes_s", "fault"),
    [(SLOW_S * 2, lambda members: None), (0.0, lambda members: Outage()), (0.0, lambda members: Spoiled())],
)
def test_a_group_that_was_slow_or_failed_goes_alone_for_a_while(
    takes_s: float, fault: Callable[[Sequence[int]], Exception | None]
) -> None:
    bench = Bench(takes_s=takes_s, fault=fault)
    bench.unsettled = {"g"}
    bench.submit("g", 1)
    bench.run_all()
    bench.unsettled, bench.takes_s, bench.fault = set(), 0.0, lambda members: None
    bench.submit("g", 2)
    bench.submit("h", 3)
    bench.run_all()
    assert bench.alone == [("g", [1]), ("g", [2])]
    bench.now_s += SUSPECT_S
    bench.submit("g", 4)
    bench.run_all()
    assert bench.together == [{"g": [1]}, {"h": [3]}, {"g": [4]}]


def test_a_quick_lone_job_makes_no_suspect() -> None:
    bench = Bench()
    bench.unsettled = {"g"}
    bench.submit("g", 1)
    bench.run_all()
    bench.unsettled = set()
    bench.submit("g", 2)
    bench.run_all()
    assert bench.together == [{"g": [1]}, {"g": [2]}]


def test_suspects_are_forgotten() -> None:
    bench = Bench(fault=lambda members: Outage())
    for number in range(1_000):
        bench.now_s += SUSPECT_S / 10
        bench.unsettled = {f"g{number}"}
        bench.submit(f"g{number}", number)
        bench.run_all()
    assert len(bench.combiner._queues._suspect_until) <= 8


def test_when_many_groups_are_slow_they_are_not_to_blame() -> None:
    bench = Bench(takes_s=SLOW_S * 2)
    groups = [f"g{number}" for number in range(9)]
    bench.unsettled = set(groups)
    for number, group_id in enumerate(groups):
        bench.submit(group_id, number)
    bench.run_all()
    bench.unsettled, bench.takes_s = set(), 0.0
    for number, group_id in enumerate(groups):
        bench.submit(group_id, 100 + number)
    bench.run_all()
    assert bench.together[-1] == {group_id: [100 + number] for number, group_id in enumerate(groups)}


def test_many_threads_on_many_groups_all_get_their_own_result() -> None:
    overlaps: list[str] = []
    running: set[str] = set()
    lock = threading.Lock()
    sizes: list[tuple[int, int]] = []

    def enter(group_ids: Sequence[str]) -> None:
        with lock:
            overlaps.extend(running.intersection(group_ids))
            running.update(group_ids)

    def together(batch: Mapping[str, Sequence[int]]) -> dict[str, Answer[str]]:
        enter(list(batch))
        sizes.append((len(batch), sum(map(len, batch.values()))))
        with lock:
            running.difference_update(batch)
        return {
            group_id: None if any(member % 13 == 0 for member in members) else [f"{group_id}/{member}" for member in members]
            for group_id, members in batch.items()
        }

    def alone(group_id: str, members: Sequence[int]) -> list[str]:
        enter([group_id])
        with lock:
            running.discard(group_id)
        if len(members) > 1 and any(member % 97 == 0 for member in members):
            raise Spoiled
        return [f"{group_id}/{member}" for member in members]

    with ThreadPoolExecutor(16) as workers:
        combiner: Combiner[int, str] = Combiner(
            together,
            alone,
            bounds=Bounds(lambda member: 1, 20),
            is_lone=lambda member: member % 41 == 0,
            common_errors=(Outage,),
            start=workers.submit,
        )
        barrier = threading.Barrier(16)

        def work(thread: int) -> list[tuple[str, str]]:
            barrier.wait(TIMEOUT_S)
            pairs = []
            for number in range(60):
                group_id, member = f"g{(thread + number) % 5}", 60 * thread + number
                told: Future[str | Exception] = Future()
                combiner.submit(group_id, member, told.set_result)
                pairs.append((str(told.result(TIMEOUT_S)), f"{group_id}/{member}"))
            return pairs

        with ThreadPoolExecutor(16) as pool:
            pairs = [pair for each in [pool.submit(work, thread) for thread in range(16)] for pair in each.result(TIMEOUT_S)]
    assert len(pairs) == 16 * 60
    assert all(got == expected for got, expected in pairs)
    assert overlaps == [], "one job at a time for each group"
    assert any(groups > 1 for groups, _ in sizes), "some shared a commit"
    assert any(members > groups for groups, members in sizes), "some shared a group's part"
    assert combiner.is_idle
