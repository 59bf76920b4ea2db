"""Room in memory: never more than there is, and nobody waits for ever."""

import threading

import pytest

from balance.operations.room import NoRoom, Room


def test_there_is_only_so_much_until_something_is_given_back() -> None:
    room = Room(10, wait_s=0.0)
    with room.share() as first, room.share() as second:
        first.take(7)
        with pytest.raises(NoRoom):
            second.take(4)
        first.keep(6)
        second.take(4)
        second.take(4)  # it is held already
    with room.share() as whole:
        whole.take(10)


def test_a_share_is_given_back_when_the_work_fails() -> None:
    room = Room(10, wait_s=0.0)

    def work() -> None:
        with room.share() as share:
            share.take(10)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    with room.share() as next_one:
        next_one.take(10)


def test_a_share_becomes_smaller_only() -> None:
    room = Room(10, wait_s=0.0)
    with room.share() as share:
        share.take(4)
        share.keep(8)
        with room.share() as other:
            other.take(6)


def test_who_waits_goes_on_when_there_is_enough() -> None:
    room, done = Room(10, wait_s=30.0), threading.Event()

    def wait() -> None:
        with room.share() as share:
            share.take(8)
            done.set()

    with room.share() as share:
        share.take(10)
        thread = threading.Thread(target=wait)
        thread.start()
        share.keep(5)
        assert not done.wait(0.1), "five are not enough"
    thread.join(30)
    assert done.is_set()
