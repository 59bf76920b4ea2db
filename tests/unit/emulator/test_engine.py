"""The engine by itself, on a clock that the test turns: times, locks, expiry, versions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import pytest
from google.cloud.firestore_v1.types import query as query_types
from google.cloud.firestore_v1.types import write as write_types

from emulator.changes import Change
from emulator.engine import SECOND_US, CommitResult, Engine, QueryResult, ReadResult, Settings
from emulator.errors import RpcError
from emulator.locks import Mode
from emulator.query import PreparedQuery
from emulator.transactions import Waiting

DATABASE = "projects/p/databases/(default)"
ROOT = f"{DATABASE}/documents"
A, B, C = (f"{ROOT}/numbers/{letter}" for letter in "abc")
Write = write_types.Write.pb()
ABORTED = grpc.StatusCode.ABORTED
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT


class Clock:
    """Microseconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now_us = 1_700_000_000 * SECOND_US

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(clock: Clock) -> Engine:
    return Engine(DATABASE, clock)


def write(name: str, number: int | None) -> Any:
    if number is None:
        return Write(delete=name)
    made = Write()
    made.update.name = name
    made.update.fields["number"].integer_value = number
    return made


def committed(result: CommitResult | Waiting[CommitResult]) -> CommitResult:
    assert isinstance(result, CommitResult)
    return result


def put(engine: Engine, name: str, number: int | None, transaction: bytes | None = None) -> int:
    return committed(engine.commit([write(name, number)], transaction)).commit_time_us


def numbers(result: ReadResult | Waiting[ReadResult]) -> list[int | None]:
    assert isinstance(result, ReadResult)
    return [None if each is None else int(each.fields["number"].integer_value) for each in result.documents]


def get(engine: Engine, name: str, transaction: bytes | None = None, read_time_us: int | None = None) -> int | None:
    return numbers(engine.get([name], transaction, read_time_us))[0]


def waiting(result: Any) -> Waiting[Any]:
    assert isinstance(result, Waiting)
    assert not result.is_done
    return result


def fails(action: Callable[[], Any], code: grpc.StatusCode) -> str:
    with pytest.raises(RpcError) as caught:
        action()
    assert caught.value.code is code
    return caught.value.message


def all_numbers() -> PreparedQuery:
    structured = query_types.StructuredQuery.pb()()
    structured.from_.add(collection_id="numbers")
    return PreparedQuery(ROOT, structured)


def numbers_from(low: int, to: int) -> PreparedQuery:
    """The numbers of a range, without its end."""
    structured = query_types.StructuredQuery.pb()()
    structured.from_.add(collection_id="numbers")
    structured.where.composite_filter.op = query_types.StructuredQuery.CompositeFilter.Operator.AND
    operators = query_types.StructuredQuery.FieldFilter.Operator
    for operator, bound in ((operators.GREATER_THAN_OR_EQUAL, low), (operators.LESS_THAN, to)):
        condition = structured.where.composite_filter.filters.add().field_filter
        condition.field.field_path, condition.op = "number", operator
        condition.value.integer_value = bound
    return PreparedQuery(ROOT, structured)


# Time


def test_commit_times_increase_and_pass_all_reads_though_the_clock_stands_still(engine: Engine) -> None:
    first = put(engine, A, 1)
    read = engine.get([A])
    assert isinstance(read, ReadResult)
    second = put(engine, A, 2)
    assert first <= read.read_time_us < second
    assert get(engine, A, read_time_us=read.read_time_us) == 1


def test_a_clock_that_goes_back_does_no_harm(engine: Engine, clock: Clock) -> None:
    first = put(engine, A, 1)
    clock.now_us -= 5 * SECOND_US
    assert put(engine, A, 2) > first
    assert get(engine, A) == 2


def test_what_was_read_at_an_instant_never_changes(engine: Engine, clock: Clock) -> None:
    seen = []
    for number in range(20):
        put(engine, A, number if number % 3 else None)
        clock.now_us += number % 2
        read = engine.get([A])
        assert isinstance(read, ReadResult)
        seen.append((read.read_time_us, numbers(read)))
    for read_time_us, found in seen:
        assert numbers(engine.get([A], read_time_us=read_time_us)) == found


def test_all_writes_of_a_commit_have_its_time(engine: Engine) -> None:
    result = committed(engine.commit([write(A, 1), write(B, 2), write(A, 3)]))
    times = {each.document.update_time.ToMicroseconds() for each in result.applied if each.document is not None}
    assert times == {result.commit_time_us}
    assert get(engine, A) == 3


def test_a_failed_commit_leaves_nothing_behind(engine: Engine) -> None:
    bad = write(B, 1)
    bad.current_document.exists = True
    fails(lambda: engine.commit([write(A, 1), bad]), grpc.StatusCode.NOT_FOUND)
    assert numbers(engine.get([A, B])) == [None, None]
    assert engine.sizes()["pastVersions"] == 0


def test_the_future_cannot_be_read(engine: Engine, clock: Clock) -> None:
    assert "future" in fails(lambda: engine.get([A], read_time_us=clock.now_us + 1), INVALID_ARGUMENT)
    assert "future" in fails(lambda: engine.begin(False, read_time_us=clock.now_us + 1), INVALID_ARGUMENT)


def test_a_later_write_of_a_commit_sees_the_earlier_ones(engine: Engine) -> None:
    only_if_it_exists = write(A, 2)
    only_if_it_exists.current_document.exists = True
    assert len(committed(engine.commit([write(A, 1), only_if_it_exists])).applied) == 2
    fails(lambda: engine.commit([write(A, None), only_if_it_exists]), grpc.StatusCode.NOT_FOUND)
    assert get(engine, A) == 2


# Changes


def test_a_commit_publishes_each_changed_document_once(engine: Engine) -> None:
    seen: list[Change] = []
    engine.subscribe(seen.extend)
    engine.commit([write(A, 1), write(A, 2), write(B, 1)])
    engine.commit([write(A, 2), write(B, None), write(C, None)])
    engine.commit([write(C, 1), write(C, None)])
    assert [(each.name, each.before is None, each.after is None) for each in seen] == [
        (A, True, False),
        (B, True, False),
        (B, False, True),
    ]
    assert seen[0].after is not None
    assert seen[0].after.fields["number"].integer_value == 2


# Waiting


def test_writers_from_outside_wait_their_turn_and_go_in_order(engine: Engine) -> None:
    transaction = engine.begin()
    get(engine, A, transaction)
    order: list[int] = []
    commits = [waiting(engine.commit([write(A, number)])) for number in (1, 2, 3)]
    for number, each in enumerate(commits, 1):
        each.on_ready(partial(order.append, number))
    with pytest.raises(RuntimeError):
        commits[0].result()
    put(engine, B, 9, transaction)
    assert order == [1, 2, 3]
    times = [each.result().commit_time_us for each in commits]
    assert times == sorted(set(times))
    assert get(engine, A) == 3


def test_a_thousand_waiting_commits_do_not_exhaust_the_stack(engine: Engine) -> None:
    transaction = engine.begin()
    get(engine, A, transaction)
    commits = [waiting(engine.commit([write(A, number)])) for number in range(3_000)]
    engine.rollback(transaction)
    assert all(each.is_done for each in commits)
    assert get(engine, A) == 2_999


def test_a_commit_over_several_documents_holds_none_while_it_waits(engine: Engine) -> None:
    transaction = engine.begin()
    get(engine, B, transaction)
    both = waiting(engine.commit([write(A, 1), write(B, 1)]))
    assert get(engine, A) is None
    put(engine, C, 1)
    engine.rollback(transaction)
    assert both.is_done
    assert numbers(engine.get([A, B])) == [1, 1]


def test_a_cancelled_wait_gives_way(engine: Engine) -> None:
    transaction = engine.begin()
    get(engine, A, transaction)
    first = waiting(engine.commit([write(A, 1)]))
    second = waiting(engine.commit([write(A, 2)]))
    first.cancel()
    engine.rollback(transaction)
    assert second.is_done
    assert not first.is_done
    assert get(engine, A) == 2
    first.cancel()
    second.cancel()


def contend(engine: Engine, name: str) -> None:
    """Have a transaction lose the document to another, so that those who read it next reserve it."""
    older, younger = engine.begin(), engine.begin()
    for transaction in (older, younger):
        get(engine, name, transaction)
    put(engine, name, get(engine, name), older)
    engine.rollback(younger)


def test_nobody_waits_for_a_lock_longer_than_allowed(engine: Engine, clock: Clock) -> None:
    """https://firebase.google.com/docs/firestore/quotas: a lock is waited for 20 seconds at most."""
    contend(engine, A)
    clock.now_us += 1_000
    holder, reader = engine.begin(), engine.begin()
    get(engine, A, holder)
    write_outside = waiting(engine.commit([write(A, 1)]))
    read = waiting(engine.get([A], reader))
    assert engine.next_deadline_us() == clock.now_us + 20 * SECOND_US
    clock.now_us += 20 * SECOND_US - 1
    engine.tick()
    assert not write_outside.is_done
    clock.now_us += 1
    engine.tick()
    assert "too long" in fails(write_outside.result, ABORTED)
    assert numbers(read.result()) == [None], "a read does not fail"
    fails(lambda: engine.commit([], reader), ABORTED)
    put(engine, A, 2, holder)


# Contention: the older transaction wins


@pytest.fixture(params=[0, None], ids=["existing", "missing"])
def before(engine: Engine, request: pytest.FixtureRequest) -> int | None:
    """What A is before, if it exists."""
    number: int | None = request.param
    if number is not None:
        put(engine, A, number)
    return number


def test_an_older_writer_does_not_wait_for_an_idle_younger_reader(engine: Engine, before: int | None) -> None:
    older, younger = engine.begin(), engine.begin()
    assert [get(engine, A, each) for each in (older, younger)] == [before, before]
    put(engine, A, 1, older)
    assert get(engine, A, younger) == before, "it reads on from the instant at which all it had read was true"
    assert A in fails(lambda: engine.commit([], younger), ABORTED)
    assert get(engine, A) == 1
    assert engine.sizes()["locks"] == 0


def test_a_younger_writer_waits_for_an_older_reader(engine: Engine, before: int | None) -> None:
    older, younger = engine.begin(), engine.begin()
    assert [get(engine, A, each) for each in (older, younger)] == [before, before]
    commit = waiting(engine.commit([write(A, 2)], younger))
    engine.commit([write(B, 1)], older)
    assert commit.result().commit_time_us
    assert get(engine, A) == 2


def test_a_younger_writer_that_waits_loses_when_the_older_one_writes(engine: Engine, before: int | None) -> None:
    older, younger = engine.begin(), engine.begin()
    assert [get(engine, A, each) for each in (older, younger)] == [before, before]
    commit = waiting(engine.commit([write(A, 2)], younger))
    put(engine, A, 1, older)
    assert A in fails(commit.result, ABORTED)
    assert get(engine, A) == 1


def test_an_idle_younger_reader_that_wants_to_write_fails_at_its_commit(engine: Engine, before: int | None) -> None:
    older, younger = engine.begin(), engine.begin()
    assert [get(engine, A, each) for each in (older, younger)] == [before, before]
    put(engine, A, 1, older)
    fails(lambda: engine.commit([write(A, 2)], younger), ABORTED)
    assert get(engine, A) == 1


def test_a_write_without_a_read_takes_the_lock_of_a_younger_reader(engine: Engine) -> None:
    older, younger = engine.begin(), engine.begin()
    get(engine, A, younger)
    put(engine, A, 1, older)
    fails(lambda: engine.commit([], younger), ABORTED)


def test_a_transaction_is_as_old_as_its_first_attempt(engine: Engine) -> None:
    first_attempt, rival = engine.begin(), engine.begin()
    engine.rollback(first_attempt)
    second_attempt = engine.begin(retry_of=first_attempt)
    engine.rollback(second_attempt)
    third_attempt = engine.begin(retry_of=second_attempt)
    for transaction in (rival, third_attempt):
        get(engine, A, transaction)
    commit = waiting(engine.commit([write(A, 2)], rival))
    put(engine, A, 1, third_attempt)
    fails(commit.result, ABORTED)


def test_a_retry_of_what_was_never_begun_here_has_an_age_of_its_own(engine: Engine, clock: Clock) -> None:
    for retry_of in (b"x", b"\0" * 24, None):
        older, retry = engine.begin(), engine.begin(retry_of=retry_of)
        for transaction in (older, retry):
            get(engine, B, transaction)
        waiting(engine.commit([write(B, 2)], retry)).cancel()
        put(engine, B, 1, older)
        fails(lambda retry=retry: engine.commit([], retry), ABORTED)  # type: ignore[misc]
        clock.now_us += engine.settings.contention_memory_us


def test_who_read_in_opposite_orders_never_wait_for_each_other(engine: Engine) -> None:
    older, younger = engine.begin(), engine.begin()
    get(engine, A, older)
    get(engine, B, younger)
    get(engine, B, older)
    get(engine, A, younger)
    commit = waiting(engine.commit([write(A, 2), write(B, 2)], younger))
    engine.commit([write(A, 1), write(B, 1)], older)
    fails(commit.result, ABORTED)
    assert numbers(engine.get([A, B])) == [1, 1]


def test_a_doomed_transaction_reads_on_from_one_instant(engine: Engine) -> None:
    for name in (A, B, C):
        put(engine, name, 0)
    contend(engine, B)
    older, younger = engine.begin(), engine.begin()
    assert get(engine, B, younger) == 0
    assert get(engine, B, older) == 0, "the younger one has lost it"
    put(engine, C, 1)
    engine.commit([write(A, 1), write(B, 1)], older)
    assert numbers(engine.get([A, B, C], younger)) == [0, 0, 0]
    fails(lambda: engine.commit([], younger), ABORTED)
    assert engine.sizes()["locks"] == 0


def test_a_read_that_waits_is_answered_when_its_transaction_is_doomed(engine: Engine) -> None:
    contend(engine, A)
    oldest, holder, reader = engine.begin(), engine.begin(), engine.begin()
    get(engine, A, holder)
    get(engine, B, reader)
    read = waiting(engine.get([A], reader))
    put(engine, B, 1, oldest)
    assert numbers(read.result()) == [None]
    assert get(engine, B, reader) is None
    fails(lambda: engine.commit([], reader), ABORTED)


def test_a_transaction_may_lose_its_locks_between_their_grant_and_its_read(engine: Engine) -> None:
    """One commit lets three go on: the first takes the lock of the third, and the second writes what the third looks for."""
    put(engine, A, 1)
    put(engine, B, 10)
    for name in (A, B):
        contend(engine, name)
    holder, older, younger = engine.begin(), engine.begin(), engine.begin()
    for name in (A, C, B):
        get(engine, name, holder)
    few = waiting(engine.query(numbers_from(0, 7), older))
    outside = waiting(engine.commit([write(C, 15)]))
    many = waiting(engine.query(numbers_from(6, 20), younger))
    put(engine, B, 6, holder)
    assert [each.name for each in few.result().value] == [A, B]
    assert outside.is_done
    assert [each.name for each in many.result().value] == [B]
    assert get(engine, C, younger) is None
    fails(lambda: engine.commit([], younger), ABORTED)


def test_after_a_collision_readers_stand_in_line_for_a_while(engine: Engine, clock: Clock) -> None:
    contend(engine, A)
    third, fourth = engine.begin(), engine.begin()
    get(engine, A, third)
    read = waiting(engine.get([A], fourth))
    put(engine, A, 3, third)
    assert numbers(read.result()) == [3]
    put(engine, A, 4, fourth)
    clock.now_us += engine.settings.contention_memory_us
    for transaction in (engine.begin(), engine.begin()):
        assert get(engine, A, transaction) == 4


def test_a_retry_reserves_what_its_last_attempt_lost_however_late_it_comes(engine: Engine, clock: Clock) -> None:
    older, younger = engine.begin(), engine.begin()
    for transaction in (older, younger):
        assert numbers(engine.get([A, B], transaction)) == [None, None]
    put(engine, A, 1, older)
    clock.now_us += 10 * engine.settings.contention_memory_us
    reader, retry, newcomer = engine.begin(), engine.begin(retry_of=younger), engine.begin()
    assert numbers(engine.get([A, B], reader)) == [1, None]
    assert numbers(engine.get([A, B], retry)) == [1, None], "beside those who share it"
    assert numbers(engine.get([A, B], newcomer)) == [1, None]
    assert {name: lock.mode for name, lock in engine.locks_of(retry).items()} == {A: Mode.RESERVED, B: Mode.SHARED}
    put(engine, A, 2, retry)
    fails(lambda: engine.commit([], reader), ABORTED)


def test_without_a_memory_of_contention_readers_always_share(clock: Clock) -> None:
    engine = Engine(DATABASE, clock, settings=Settings(contention_memory_us=0))
    contend(engine, A)
    first = [engine.begin(), engine.begin()]
    for transaction in first:
        assert get(engine, A, transaction) is None
    put(engine, A, 1, first[0])
    for transaction in (engine.begin(), engine.begin(retry_of=first[1]), engine.begin()):
        assert get(engine, A, transaction) == 1


# The mode of a transaction


@pytest.mark.parametrize("default", [False, True])
def test_a_transaction_may_choose_its_mode(clock: Clock, default: bool) -> None:
    engine = Engine(DATABASE, clock, settings=Settings(optimistic=default))
    pessimistic, optimistic = engine.begin(optimistic=False), engine.begin(optimistic=True)
    for transaction in (pessimistic, optimistic):
        get(engine, A, transaction)
    commit = waiting(engine.commit([write(A, 1)]))
    put(engine, B, 1, pessimistic)
    assert commit.result().commit_time_us
    fails(lambda: engine.commit([write(B, 2)], optimistic), ABORTED)
    assert get(engine, B) == 1


def test_an_optimistic_commit_waits_for_older_pessimistic_transactions(engine: Engine) -> None:
    older, optimistic, younger = engine.begin(), engine.begin(optimistic=True), engine.begin()
    for transaction in (older, optimistic, younger):
        get(engine, A, transaction)
    commit = waiting(engine.commit([write(A, 1)], optimistic))
    fails(lambda: engine.commit([], younger), ABORTED)
    engine.commit([], older)
    assert commit.result().commit_time_us
    assert get(engine, A) == 1


def test_an_optimistic_transaction_that_has_only_read_commits_whatever_was_written_since(engine: Engine) -> None:
    reader = engine.begin(optimistic=True)
    result = engine.query(all_numbers(), reader)
    assert isinstance(result, QueryResult)
    put(engine, A, 1)
    assert get(engine, A, reader) is None
    commit = committed(engine.commit([], reader))
    assert commit.commit_time_us == result.read_time_us, "it has happened when it read"
    assert not engine.is_active(reader)


def test_five_hundred_transactions_on_one_document_need_two_attempts_at_most(engine: Engine) -> None:
    attempts = dict.fromkeys(range(500), 0)
    ready: list[tuple[int, bytes, str]] = []
    for number in attempts:
        ready.append((number, b"", "begin"))
    while ready:
        number, id_, step = ready.pop(0)
        if step == "begin":
            attempts[number] += 1
            id_ = engine.begin(retry_of=id_)
            result: Any = engine.get([A], id_)
            following = "commit"
        else:
            try:
                result = engine.commit([write(A, number)], id_)
            except RpcError as error:
                if error.code is not ABORTED:
                    raise
                ready.append((number, id_, "begin"))
                continue
            following = "done"
        if isinstance(result, Waiting):
            result.on_ready(partial(ready.append, (number, id_, following)))
        elif following != "done":
            ready.append((number, id_, following))
        ready[:] = [todo for todo in ready if todo[2] != "done"]
    assert max(attempts.values()) <= 2


# Queries in transactions


def test_a_query_locks_what_it_returns_and_waits_for_it(engine: Engine) -> None:
    put(engine, A, 1)
    contend(engine, A)
    writer, reader = engine.begin(), engine.begin()
    get(engine, A, writer)
    found = waiting(engine.query(all_numbers(), reader))
    engine.commit([write(A, 2), write(B, 1)], writer)
    result = found.result()
    assert isinstance(result, QueryResult)
    assert [each.name for each in result.value] == [A, B], "as it is when the locks are had"
    waiting(engine.commit([write(B, 2)]))


def test_a_query_for_a_string_finds_it_in_the_present_and_in_the_past(engine: Engine) -> None:
    def of_group(group: str) -> PreparedQuery:
        structured = query_types.StructuredQuery.pb()()
        structured.from_.add(collection_id="numbers")
        condition = structured.where.field_filter
        condition.field.field_path, condition.op = "group", query_types.StructuredQuery.FieldFilter.Operator.EQUAL
        condition.value.string_value = group
        return PreparedQuery(ROOT, structured)

    def found(group: str, read_time_us: int | None = None) -> list[str]:
        result = engine.query(of_group(group), read_time_us=read_time_us)
        assert isinstance(result, QueryResult)
        return [each.name for each in result.value]

    def in_group(name: str, group: str) -> Any:
        made = write(name, 1)
        made.update.fields["group"].string_value = group
        return made

    committed(engine.commit([in_group(A, "x"), in_group(B, "x"), in_group(C, "y")]))
    assert (found("x"), found("y"), found("z")) == ([A, B], [C], [])
    then_us = committed(engine.commit([in_group(A, "y"), in_group(B, "z")])).commit_time_us
    assert (found("x"), found("y"), found("z")) == ([], [A, C], [B])
    assert (found("x", then_us - 1), found("y", then_us - 1)) == ([A, B], [C])
    engine.commit([write(A, None)])
    assert (found("y"), found("y", then_us)) == ([C], [A, C])


def test_a_query_may_be_about_all_collections_of_a_parent(engine: Engine) -> None:
    for path in ("a/1", "b/1", "a/1/c/1"):
        put(engine, f"{ROOT}/{path}", 1)
    for all_descendants, expected in ((False, ["a/1", "b/1"]), (True, ["a/1", "a/1/c/1", "b/1"])):
        structured = query_types.StructuredQuery.pb()()
        structured.from_.add(all_descendants=all_descendants)
        result = engine.query(PreparedQuery(ROOT, structured))
        assert isinstance(result, QueryResult)
        assert [each.name.removeprefix(f"{ROOT}/") for each in result.value] == expected


def test_reads_after_a_phantom_are_of_the_instant_before_it(engine: Engine) -> None:
    transaction = engine.begin()
    result = engine.query(all_numbers(), transaction)
    assert isinstance(result, QueryResult)
    assert result.value == []
    put(engine, A, 1)
    assert get(engine, A, transaction) is None
    again = engine.query(all_numbers(), transaction)
    assert isinstance(again, QueryResult)
    assert again.value == []
    fails(lambda: engine.commit([], transaction), ABORTED)


def test_a_doomed_transaction_still_finds_the_versions_of_its_instant(clock: Clock) -> None:
    engine = Engine(DATABASE, clock, settings=Settings(retention_us=0))
    other = f"{ROOT}/others/a"
    put(engine, other, 1)
    transaction = engine.begin()
    engine.query(all_numbers(), transaction)
    put(engine, A, 1)
    put(engine, other, 2)
    clock.now_us += 2 * SECOND_US
    engine.tick()
    assert get(engine, other, transaction) == 1


# Read-only transactions


def test_a_read_only_transaction_keeps_its_instant_and_the_versions_it_needs(clock: Clock) -> None:
    engine = Engine(DATABASE, clock, settings=Settings(retention_us=0))
    put(engine, A, 1)
    reader = engine.begin(read_write=False)
    for number in range(2, 50):
        clock.now_us += SECOND_US
        put(engine, A, number)
        assert get(engine, A, reader) == 1
        engine.tick()
    fails(lambda: engine.commit([write(A, 0)], reader), INVALID_ARGUMENT)
    engine.tick()
    clock.now_us += SECOND_US
    engine.tick()
    assert engine.sizes()["pastVersions"] == 0


def test_a_read_only_transaction_may_begin_in_the_past(engine: Engine, clock: Clock) -> None:
    first = put(engine, A, 1)
    put(engine, A, 2)
    assert get(engine, A, engine.begin(read_write=False, read_time_us=first)) == 1
    fails(lambda: engine.begin(read_write=True, read_time_us=first), INVALID_ARGUMENT)


# Expiry


def test_who_waits_for_a_lock_is_not_idle(clock: Clock) -> None:
    engine = Engine(DATABASE, clock, settings=Settings(lock_wait_us=100 * SECOND_US))
    contend(engine, A)
    holder, other = engine.begin(), engine.begin()
    get(engine, A, holder)
    read = waiting(engine.get([A], other))
    for _ in range(9):
        clock.now_us += 10 * SECOND_US
        get(engine, A, holder)
        engine.tick()
    engine.commit([], holder)
    assert numbers(read.result()) == [None]
    put(engine, A, 1, other)


def test_transactions_expire(engine: Engine, clock: Clock) -> None:
    """https://firebase.google.com/docs/firestore/quotas: 270 seconds, and 60 seconds of idleness."""
    idle, busy = engine.begin(), engine.begin()
    get(engine, A, idle)
    waiting_write = waiting(engine.commit([write(A, 1)]))
    for _ in range(4):
        clock.now_us += 15 * SECOND_US
        get(engine, B, busy)
    waiting_write.cancel()
    assert "expired" in fails(lambda: engine.get([A], idle), INVALID_ARGUMENT)
    put(engine, A, 1)
    while clock.now_us < 1_700_000_270 * SECOND_US - 30 * SECOND_US:
        clock.now_us += 30 * SECOND_US
        get(engine, B, busy)
    clock.now_us += 30 * SECOND_US
    engine.tick()
    assert not engine.is_active(busy)
    assert "expired" in fails(lambda: engine.commit([], busy), INVALID_ARGUMENT)
    assert engine.sizes()["locks"] == 0
    assert engine.next_deadline_us() is None


def test_what_waits_for_an_expired_transaction_goes_on(clock: Clock) -> None:
    engine = Engine(DATABASE, clock, settings=Settings(transaction_idle_us=10 * SECOND_US))
    transaction = engine.begin()
    get(engine, A, transaction)
    commit = waiting(engine.commit([write(A, 1)]))
    clock.now_us += 10 * SECOND_US
    engine.tick()
    assert commit.result().commit_time_us
    engine.rollback(transaction)
    fails(lambda: engine.rollback(b"never issued"), INVALID_ARGUMENT)


def test_an_operation_of_a_transaction_that_ends_meanwhile_fails(engine: Engine) -> None:
    contend(engine, A)
    holder, other = engine.begin(), engine.begin()
    get(engine, A, holder)
    read = waiting(engine.get([A], other))
    engine.rollback(other)
    fails(read.result, INVALID_ARGUMENT)
    engine.commit([], holder)
    assert engine.sizes()["locks"] == 0


# Memory


def test_old_versions_are_dropped_after_the_hour(engine: Engine, clock: Clock) -> None:
    first = put(engine, A, 0)
    for number in range(1, 4 * 3_600):
        clock.now_us += SECOND_US
        put(engine, A, number)
        if number > 3_700:
            assert engine.sizes()["pastVersions"] <= 3_605
    fails(lambda: engine.get([A], read_time_us=first), grpc.StatusCode.FAILED_PRECONDITION)
    hour_ago = clock.now_us - 3_600 * SECOND_US
    assert get(engine, A, read_time_us=hour_ago) == 4 * 3_600 - 1 - 3_600


def test_nothing_is_left_of_documents_that_came_and_went(engine: Engine, clock: Clock) -> None:
    for number in range(1_000):
        name = f"{ROOT}/many/{number}"
        transaction = engine.begin()
        get(engine, name, transaction)
        put(engine, name, number, transaction)
        put(engine, name, None)
    clock.now_us += 3_700 * SECOND_US
    engine.tick()
    assert set(engine.sizes().values()) == {0}
    assert engine.list_collection_ids(ROOT) == []


def test_clearing_ends_transactions_and_waits_but_not_time(engine: Engine) -> None:
    last = put(engine, A, 1)
    transaction = engine.begin()
    get(engine, A, transaction)
    commit = waiting(engine.commit([write(A, 2)]))
    engine.clear()
    fails(commit.result, ABORTED)
    fails(lambda: engine.get([A], transaction), INVALID_ARGUMENT)
    assert get(engine, A) is None
    assert put(engine, A, 3) > last
