"""The lock table by itself: who gets what, in which order, who loses its locks, and that all waiting ends."""

from __future__ import annotations

from random import Random

import pytest

from emulator.locks import LockTable, Mode, Owner, Request, Wound


def owners(count: int) -> list[Owner]:
    """The oldest first."""
    return [Owner((number, number)) for number in range(count)]


def shared(*names: str) -> dict[str, Mode]:
    return dict.fromkeys(names, Mode.SHARED)


def reserved(*names: str) -> dict[str, Mode]:
    return dict.fromkeys(names, Mode.RESERVED)


def exclusive(*names: str) -> dict[str, Mode]:
    return dict.fromkeys(names, Mode.EXCLUSIVE)


def acquired(table: LockTable, owner: Owner, wants: dict[str, Mode]) -> bool:
    return table.acquire(owner, wants) is None


def granted(table: LockTable) -> list[Request]:
    requests = list(table.granted)
    table.granted.clear()
    return requests


def test_readers_share_a_lock() -> None:
    table = LockTable()
    assert all(acquired(table, owner, shared("a")) for owner in owners(2))


def test_a_writer_waits_for_readers_and_for_a_writer() -> None:
    for first in (shared("a"), exclusive("a")):
        table = LockTable()
        holder, writer = owners(2)
        assert acquired(table, holder, first)
        request = table.acquire(writer, exclusive("a"))
        assert request is not None
        assert granted(table) == []
        table.release(holder)
        assert granted(table) == [request]
        assert writer.held["a"].holders == {writer: Mode.EXCLUSIVE}


def test_a_reader_stands_in_line_behind_a_waiting_writer() -> None:
    table = LockTable()
    holder, writer, reader = owners(3)
    table.acquire(holder, shared("a"))
    waiting_writer = table.acquire(writer, exclusive("a"))
    waiting_reader = table.acquire(reader, shared("a"))
    assert waiting_reader is not None
    table.release(holder)
    assert granted(table) == [waiting_writer]
    table.release(writer)
    assert granted(table) == [waiting_reader]


def test_waiting_readers_behind_a_writer_are_let_in_together() -> None:
    table = LockTable()
    writer, *readers = owners(4)
    table.acquire(writer, exclusive("a"))
    requests = [table.acquire(reader, shared("a")) for reader in readers]
    table.release(writer)
    assert granted(table) == requests


def wounds(table: LockTable) -> list[Wound]:
    found = list(table.wounded)
    table.wounded.clear()
    return found


def test_the_older_reader_of_two_writes_and_the_younger_loses_its_locks() -> None:
    for younger_asks_first in (False, True):
        table = LockTable()
        older, younger = owners(2)
        table.acquire(older, shared("a"))
        table.acquire(younger, shared("a", "b"))
        waiting = table.acquire(younger, exclusive("a")) if younger_asks_first else None
        assert acquired(table, older, exclusive("a"))
        assert wounds(table) == [Wound(younger, "a", [waiting] if waiting else [])]
        assert younger.held == {}
        assert younger.pending == []
        assert granted(table) == []
        assert "b" not in table


def test_a_request_goes_in_front_of_younger_ones_though_it_came_later() -> None:
    table = LockTable()
    holder, older, younger, youngest = owners(4)
    table.acquire(holder, exclusive("a"))
    for owner in (youngest, older, younger):
        table.acquire(owner, exclusive("a"))
    order = []
    while holder.held:
        table.release(holder)
        order += granted(table)
        holder = order[-1].owner
        if len(order) == 3:
            break
    assert [request.owner for request in order] == [older, younger, youngest]
    assert wounds(table) == []


def test_an_older_reader_passes_a_younger_writer_that_waits() -> None:
    table = LockTable()
    oldest, older, writer = owners(3)
    table.acquire(oldest, shared("a"))
    request = table.acquire(writer, exclusive("a"))
    assert acquired(table, older, shared("a"))
    table.release(oldest)
    assert granted(table) == []
    table.release(older)
    assert granted(table) == [request]


def test_readers_do_not_wound_each_other_but_wound_a_younger_exclusive_holder() -> None:
    table = LockTable()
    oldest, reader, other, exclusive_holder = owners(4)
    assert acquired(table, other, shared("a"))
    assert acquired(table, reader, shared("a"))
    assert wounds(table) == []
    assert acquired(table, exclusive_holder, exclusive("b"))
    assert table.victims(oldest, shared("a", "b")) == [exclusive_holder]
    assert not table.is_free_for(oldest, shared("b"))
    assert acquired(table, oldest, shared("a", "b"))
    assert wounds(table) == [Wound(exclusive_holder, "b", [])]


def test_one_may_reserve_what_others_share_and_the_next_one_waits() -> None:
    table = LockTable()
    older, holder, younger, reader = owners(4)
    assert acquired(table, reader, shared("a"))
    assert acquired(table, holder, reserved("a"))
    request = table.acquire(younger, reserved("a"))
    assert request is not None
    assert acquired(table, older, shared("a"))
    assert wounds(table) == []
    table.release(older)
    assert acquired(table, holder, exclusive("a"))
    assert [wound.owner for wound in wounds(table)] == [reader]
    table.release(holder)
    assert granted(table) == [request]
    assert acquired(table, older, reserved("a"))
    assert [wound.owner for wound in wounds(table)] == [younger]


def test_a_wound_lets_in_others_who_waited_for_the_one_that_lost() -> None:
    table = LockTable()
    older, younger, writer = owners(3)
    table.acquire(younger, shared("a", "b"))
    request = table.acquire(writer, exclusive("b"))
    assert acquired(table, older, exclusive("a"))
    assert granted(table) == [request]


def test_who_must_wait_for_an_older_one_wounds_the_younger_ones_all_the_same() -> None:
    """Or the younger one could come to wait for it, and it for the younger one."""
    table = LockTable()
    oldest, middle, youngest = owners(3)
    table.acquire(oldest, exclusive("a"))
    table.acquire(youngest, shared("b"))
    request = table.acquire(middle, exclusive("a", "b"))
    assert request is not None
    assert [wound.owner for wound in wounds(table)] == [youngest]
    table.release(oldest)
    assert granted(table) == [request]


@pytest.mark.parametrize("is_last", [True, False])
def test_whoever_has_just_got_the_locks_of_its_commit_keeps_them(is_last: bool) -> None:
    table = LockTable()
    older, holder, younger = owners(3)
    table.acquire(holder, exclusive("a"))
    request = table.acquire(younger, exclusive("a"), is_last=is_last)
    table.release(holder)
    assert list(table.granted) == [request]
    waiting = table.acquire(older, exclusive("a"))
    assert [wound.owner for wound in wounds(table)] == ([] if is_last else [younger])
    granted(table)
    table.release(younger)
    assert granted(table) == ([waiting] if is_last else [])
    assert set(older.held) == {"a"}


def test_a_lone_reader_upgrades_at_once() -> None:
    table = LockTable()
    owner, other = owners(2)
    table.acquire(owner, shared("a"))
    assert acquired(table, owner, exclusive("a"))
    assert acquired(table, owner, shared("a")), "who has it exclusively has it"
    assert not acquired(table, other, shared("a"))


def test_several_locks_are_taken_together_or_not_at_all() -> None:
    table = LockTable()
    holder, writer = owners(2)
    table.acquire(holder, exclusive("b"))
    request = table.acquire(writer, exclusive("a", "b"))
    assert request is not None
    assert writer.held == {}
    table.release(holder)
    assert granted(table) == [request]
    assert set(writer.held) == {"a", "b"}


def test_whoever_waits_for_several_locks_keeps_its_place_in_each_line() -> None:
    table = LockTable()
    holder, writer, later = owners(3)
    table.acquire(holder, exclusive("b"))
    request = table.acquire(writer, exclusive("a", "b"))
    assert table.acquire(later, exclusive("a")) is not None
    table.release(holder)
    assert granted(table) == [request]


def test_a_cancelled_request_lets_those_behind_it_pass() -> None:
    table = LockTable()
    holder, writer, reader = owners(3)
    table.acquire(holder, shared("a"))
    waiting_writer = table.acquire(writer, exclusive("a"))
    waiting_reader = table.acquire(reader, shared("a"))
    assert waiting_writer is not None
    table.cancel(waiting_writer)
    assert granted(table) == [waiting_reader]
    assert writer.pending == []


def test_nothing_is_left_when_all_is_released() -> None:
    random = Random(5)
    table = LockTable()
    everybody = owners(8)
    for _ in range(3_000):
        owner = random.choice(everybody)
        if random.random() < 0.3:
            table.release(owner)
            continue
        names = random.sample("abcd", random.randint(1, 3))
        table.acquire(owner, {name: random.choice(list(Mode)) for name in names})
        for name in "abcd":
            modes = [each.held[name].holders[each] for each in everybody if name in each.held]
            assert Mode.EXCLUSIVE not in modes or len(modes) == 1, "an exclusive lock has one holder"
            assert modes.count(Mode.RESERVED) <= 1
    assert any(owner.pending or owner.held for owner in everybody)
    for owner in everybody:
        table.release(owner)
    assert len(table) == 0


class Unwounded(LockTable):
    """To show that the next test can fail."""

    def _wounded_by(self, owner: Owner, wants: object) -> dict[Owner, str]:
        return {}


def is_stuck(table: LockTable, random: Random) -> bool:
    """Whether, after many random requests, all wait and nobody can go on."""
    everybody = owners(10)
    for _ in range(60):
        owner = random.choice(everybody)
        names = random.sample("abcde", random.randint(1, 3))
        table.acquire(owner, {name: random.choice(list(Mode)) for name in names})
        oldest = min((owner for owner in everybody if owner.pending or owner.held), key=lambda owner: owner.born)
        assert not oldest.pending or isinstance(table, Unwounded), "the oldest does not wait"
    while any(owner.pending for owner in everybody):
        running = [owner for owner in everybody if owner.held and not owner.pending]
        if not running:
            return True
        table.release(running[0])
    return False


def test_somebody_can_always_go_on_and_the_oldest_never_waits() -> None:
    assert not any(is_stuck(LockTable(), Random(seed)) for seed in range(200))
    assert any(is_stuck(Unwounded(), Random(seed)) for seed in range(200))
