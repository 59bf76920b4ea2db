"""The lock table by itself: who gets what, in which order, and which waits can never end."""

from __future__ import annotations

from random import Random

from emulator.locks import LockTable, Owner, Request


def shared(*names: str) -> dict[str, bool]:
    return dict.fromkeys(names, False)


def exclusive(*names: str) -> dict[str, bool]:
    return dict.fromkeys(names, True)


def acquired(table: LockTable, owner: Owner, wants: dict[str, bool]) -> bool:
    return table.acquire(owner, wants) is None


def granted(table: LockTable) -> list[Request]:
    requests = list(table.granted)
    table.granted.clear()
    return requests


def test_readers_share_a_lock() -> None:
    table = LockTable()
    assert acquired(table, Owner(), shared("a"))
    assert acquired(table, Owner(), shared("a"))


def test_a_writer_waits_for_readers_and_for_a_writer() -> None:
    for first in (shared("a"), exclusive("a")):
        table = LockTable()
        holder, writer = Owner(), Owner()
        assert acquired(table, holder, first)
        request = table.acquire(writer, exclusive("a"))
        assert request is not None
        assert granted(table) == []
        table.release(holder)
        assert granted(table) == [request]
        assert writer.held["a"].exclusive is writer


def test_a_reader_stands_in_line_behind_a_waiting_writer() -> None:
    table = LockTable()
    holder, writer, reader = Owner(), Owner(), Owner()
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
    writer = Owner()
    table.acquire(writer, exclusive("a"))
    requests = [table.acquire(Owner(), shared("a")) for _ in range(3)]
    table.release(writer)
    assert granted(table) == requests


def test_an_upgrade_passes_those_in_line_but_waits_for_the_other_readers() -> None:
    table = LockTable()
    upgrader, reader, writer = Owner(), Owner(), Owner()
    table.acquire(upgrader, shared("a"))
    table.acquire(reader, shared("a"))
    waiting_writer = table.acquire(writer, exclusive("a"))
    upgrade = table.acquire(upgrader, exclusive("a"))
    assert upgrade is not None
    assert not table.is_deadlocked(upgrader)
    table.release(reader)
    assert granted(table) == [upgrade]
    table.release(upgrader)
    assert granted(table) == [waiting_writer]


def test_a_lone_reader_upgrades_at_once() -> None:
    table = LockTable()
    owner = Owner()
    table.acquire(owner, shared("a"))
    assert acquired(table, owner, exclusive("a"))
    assert acquired(table, owner, shared("a")), "who has it exclusively has it"
    assert not acquired(table, Owner(), shared("a"))


def test_two_upgrades_of_one_lock_are_a_deadlock() -> None:
    table = LockTable()
    first, second = Owner(), Owner()
    table.acquire(first, shared("a"))
    table.acquire(second, shared("a"))
    first_upgrade = table.acquire(first, exclusive("a"))
    assert not table.is_deadlocked(first)
    table.acquire(second, exclusive("a"))
    assert table.is_deadlocked(second)
    table.release(second)
    assert granted(table) == [first_upgrade]


def test_a_circle_of_three_is_found_when_it_closes_and_not_before() -> None:
    table = LockTable()
    owners = [Owner(), Owner(), Owner()]
    for owner, name in zip(owners, "abc", strict=True):
        table.acquire(owner, exclusive(name))
    table.acquire(owners[0], exclusive("b"))
    assert not table.is_deadlocked(owners[0])
    table.acquire(owners[1], shared("c"))
    assert not table.is_deadlocked(owners[1])
    table.acquire(owners[2], exclusive("a"))
    assert table.is_deadlocked(owners[2])


def test_a_circle_through_a_place_in_the_line_is_found() -> None:
    table = LockTable()
    reader, waiting_writer = Owner(), Owner()
    table.acquire(reader, shared("a"))
    table.acquire(waiting_writer, exclusive("b"))
    table.acquire(waiting_writer, exclusive("a"))
    table.acquire(reader, shared("b"))
    assert table.is_deadlocked(reader)
    table.release(reader)
    # Only its place in the line of "c" keeps `last` waiting, and for it waits the one in front of it.
    first, front, last = Owner(), Owner(), Owner()
    table.acquire(first, shared("c"))
    table.acquire(last, exclusive("d"))
    table.acquire(front, exclusive("e"))
    table.acquire(front, {"c": True, "d": False})
    table.acquire(last, shared("c"))
    assert table.is_deadlocked(last)


def test_several_locks_are_taken_together_or_not_at_all() -> None:
    table = LockTable()
    holder, writer = Owner(), Owner()
    table.acquire(holder, exclusive("b"))
    request = table.acquire(writer, exclusive("a", "b"))
    assert request is not None
    assert writer.held == {}
    table.release(holder)
    assert granted(table) == [request]
    assert set(writer.held) == {"a", "b"}


def test_whoever_waits_for_several_locks_keeps_its_place_in_each_line() -> None:
    table = LockTable()
    holder, writer, later = Owner(), Owner(), Owner()
    table.acquire(holder, exclusive("b"))
    request = table.acquire(writer, exclusive("a", "b"))
    assert table.acquire(later, exclusive("a")) is not None
    table.release(holder)
    assert granted(table) == [request]


def test_a_cancelled_request_lets_those_behind_it_pass() -> None:
    table = LockTable()
    holder, writer, reader = Owner(), Owner(), Owner()
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
    owners = [Owner() for _ in range(8)]
    for _ in range(3_000):
        owner = random.choice(owners)
        if random.random() < 0.4:
            table.release(owner)
            continue
        names = random.sample("abcd", random.randint(1, 3))
        if table.acquire(owner, {name: random.random() < 0.5 for name in names}) and table.is_deadlocked(owner):
            table.release(owner)
        for name in "abcd":
            holders = [each for each in owners if name in each.held]
            writers = [each for each in holders if each.held[name].exclusive is each]
            assert not writers or len(holders) == 1, "an exclusive lock has one holder"
    assert any(owner.pending or owner.held for owner in owners)
    for owner in owners:
        table.release(owner)
    assert len(table) == 0


def test_without_a_deadlock_somebody_can_always_go_on() -> None:
    """As long as each circle is broken when it closes, releasing whoever does not wait ends all waiting."""
    for seed in range(200):
        random = Random(seed)
        table = LockTable()
        owners = [Owner() for _ in range(10)]
        for _ in range(60):
            owner = random.choice(owners)
            names = random.sample("abcde", random.randint(1, 3))
            if table.acquire(owner, {name: random.random() < 0.5 for name in names}) is None:
                continue
            if table.is_deadlocked(owner):
                table.release(owner)
        while any(owner.pending for owner in owners):
            running = [owner for owner in owners if owner.held and not owner.pending]
            assert running, f"seed {seed}: all wait and nobody can go on"
            table.release(running[0])
