"""Remembered balances: bounded in bytes, not used when old."""

from __future__ import annotations

import gc
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest

from balance.core.ledger import Ledger
from balance.core.money import Unit
from balance.documents import balances
from balance.documents.balances import Stored
from balance.documents.settings import Settings
from balance.protocol.memory import MAX_AGE_S, Memory, Remembered, approximate_bytes
from bench.workload import full_ledger

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)


def remembered(ledger: Ledger) -> Remembered:
    return Remembered(Stored(balances.of_ledger(ledger), AS_OF, AS_OF), AS_OF)


def test_what_was_put_last_is_found() -> None:
    memory = Memory(lambda: 0.0)
    first, second = remembered({}), remembered({})
    memory.put("g", first)
    memory.put("g", second)
    assert memory.get("g") is second
    assert memory.get("h") is None
    memory.forget("g")
    memory.forget("h")
    assert memory.get("g") is None


def test_what_is_older_than_an_hour_is_forgotten() -> None:
    now_s = 0.0
    memory = Memory(lambda: now_s)
    memory.put("g", remembered({}))
    now_s = MAX_AGE_S
    assert memory.get("g") is not None, "using it does not make it younger"
    now_s = MAX_AGE_S + 1
    assert memory.get("g") is None
    assert memory.size_bytes == 0


def test_what_was_used_longest_ago_makes_room() -> None:
    one = remembered(full_ledger(5))
    size = approximate_bytes(one.stored.balance)
    memory = Memory(lambda: 0.0, max_bytes=3 * size + 500)
    for group_id in ("a", "b", "c"):
        memory.put(group_id, one)
    memory.get("a")
    memory.put("d", one)
    assert [group_id for group_id in "abcd" if memory.get(group_id)] == ["a", "c", "d"]
    memory.put("large", remembered(full_ledger(60)))
    assert memory.get("large") is None, "larger than all the room"
    assert memory.size_bytes <= 3 * size + 500


@pytest.mark.parametrize(("members", "currencies"), [(3, ("USD",)), (10, ("USD",)), (50, ("USD", "EUR"))])
def test_the_bytes_are_about_those_of_a_balance_as_read(members: int, currencies: tuple[str, ...]) -> None:
    ledger = full_ledger(members, currencies)
    fields = balances.document("g", Stored(balances.of_ledger(ledger), AS_OF, AS_OF), Settings())
    gc.collect()
    tracemalloc.start()
    try:
        kept = [balances.parse(_copied(fields), "g", Unit.MAJOR) for _ in range(10)]
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] / len(kept)
    finally:
        tracemalloc.stop()
    assert taken * 0.7 < approximate_bytes(kept[0].balance) < taken * 2


def _copied(value: Any) -> Any:
    """With strings of its own, as a decoded document has them."""
    if isinstance(value, dict):
        return {_copied(name): _copied(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return "".join(list(value)) if isinstance(value, str) else value
