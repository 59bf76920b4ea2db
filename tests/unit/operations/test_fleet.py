"""Working through many groups at once, in little memory."""

import threading
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from balance.operations.fleet import in_parallel


def test_results_come_in_the_order_of_the_items() -> None:
    def work(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        return item * item

    assert list(in_parallel(range(50), work, 8)) == [item * item for item in range(50)]


def test_so_many_are_worked_on_at_once() -> None:
    together = threading.Barrier(4, timeout=10)
    assert list(in_parallel(range(8), lambda _: together.wait() >= 0, 4)) == [True] * 8


def test_items_are_drawn_as_they_are_needed() -> None:
    drawn = 0

    def items() -> Iterator[int]:
        nonlocal drawn
        for item in range(1000):
            drawn += 1
            yield item

    for done, _ in enumerate(in_parallel(items(), lambda item: item, 4), start=1):
        assert drawn - done <= 16


def test_memory_does_not_grow_with_the_number_of_items() -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        for _ in in_parallel((f"group-{index}" for index in range(count)), lambda group_id: [group_id] * 10, 8):
            pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(500)
    assert peak(10_000) < 2 * peak(500)


def test_whoever_stops_reading_stops_the_work() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.05 if item else 0)
        return item

    results = in_parallel(range(1000), work, 2)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert len(begun) <= 5, "eight were handed out"


def test_an_error_of_the_work_reaches_the_reader_and_ends_it() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise ValueError("three")
        return item

    with pytest.raises(ValueError, match="three"):
        list(in_parallel(range(1000), work, 2))
    assert len(begun) <= 20
