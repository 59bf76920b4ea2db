"""Indexes lead to what looking at everything finds, now and in the past; and to it without looking at everything."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from google.cloud.firestore_v1.types import Document, StructuredQuery

from emulator import planning
from emulator.planning import candidates_in
from emulator.query import PreparedQuery
from emulator.store import Store

ROOT = "projects/p/databases/d/documents"
DocumentPb, StructuredQueryPb = Document.pb(), StructuredQuery.pb()
Operator = StructuredQuery.FieldFilter.Operator
Composite = StructuredQuery.CompositeFilter.Operator
Direction = StructuredQuery.Direction
RANGES = (Operator.LESS_THAN, Operator.LESS_THAN_OR_EQUAL, Operator.GREATER_THAN, Operator.GREATER_THAN_OR_EQUAL)


def set_value(value: Any, plain: Any) -> None:
    match plain:
        case None:
            value.null_value = 0
        case bool():
            value.boolean_value = plain
        case int():
            value.integer_value = plain
        case float():
            value.double_value = plain
        case str() if plain.startswith("projects/"):
            value.reference_value = plain
        case str():
            value.string_value = plain
        case list():
            value.array_value.SetInParent()
            for each in plain:
                set_value(value.array_value.values.add(), each)
        case dict():
            value.map_value.SetInParent()
            for name, each in plain.items():
                set_value(value.map_value.fields[name], each)


def some_value(random: Random) -> Any:
    plain: tuple[Callable[[], Any], ...] = (
        lambda: random.randrange(6),
        lambda: random.randrange(6),
        lambda: random.choice((0.5, 1.0, 2.5, math.nan, -math.inf)),
        lambda: random.choice("abc"),
        lambda: random.choice((None, True, False)),
        lambda: [random.randrange(3)],
        lambda: {"m": random.randrange(4)},
        lambda: {"m": random.choice("xy"), "n": 1},
    )
    return random.choice(plain)()


def made(name: str, fields: dict[str, Any]) -> Any:
    document = DocumentPb(name=name)
    for field, plain in fields.items():
        set_value(document.fields[field], plain)
    return document


def some_query(random: Random, group: bool) -> PreparedQuery:
    query = StructuredQueryPb()
    query.from_.add(collection_id="c", all_descendants=group)
    paths = ["a", "b", "a.m", "__name__"]
    where = query.where.composite_filter
    where.op = Composite.AND
    unequal: set[str] = set()
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        condition = where.filters.add().field_filter
        path = random.choice(paths)
        condition.field.field_path = path
        condition.op = random.choice((*RANGES, Operator.EQUAL, Operator.EQUAL))
        if condition.op != Operator.EQUAL:
            unequal.add(path)
        name = f"{ROOT}/{random.choice(('c', 'b', 'd'))}/{random.randrange(12)}"
        set_value(condition.value, name if path == "__name__" else some_value(random))
    if not where.filters:
        query.ClearField("where")
    ordered = random.sample(paths[:3], random.choice((0, 0, 1, 2)))
    if random.random() < 0.3 and unequal <= {*ordered, "__name__"}:
        ordered.append("__name__")
    for path in ordered:
        query.order_by.add(direction=random.choice((Direction.ASCENDING, Direction.DESCENDING))).field.field_path = path
    for cursor in (query.start_at, query.end_at):
        if ordered and random.random() < 0.3:
            cursor.before = random.random() < 0.5
            for path in ordered[: random.randrange(1, len(ordered) + 1)]:
                name = f"{ROOT}/c/{random.randrange(12)}"
                set_value(cursor.values.add(), name if path == "__name__" else some_value(random))
    if random.random() < 0.6:
        query.limit.value = random.choice((0, 1, 2, 3, 5, 50))
        query.offset = random.choice((0, 0, 0, 1, 4))
    return PreparedQuery(ROOT, query)


@pytest.mark.parametrize("seed", range(40))
def test_indexes_find_what_a_scan_finds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MIN_INDEXED", 0)
    random, store = Random(seed), Store(ROOT)
    names = [f"{ROOT}/{above}c/{id_}" for above in ("", "d/x/") for id_ in range(12)]
    horizon_us = 0
    for now_us in range(1, 120):
        name = random.choice(names)
        fields = {field: some_value(random) for field in "ab" if random.random() < 0.8}
        store.put(name, made(name, fields) if random.random() < 0.8 else None, now_us)
        if random.random() < 0.05:
            horizon_us = random.randrange(horizon_us, now_us)
            store.forget(horizon_us)
        for _ in range(6):
            group = random.random() < 0.3
            query = some_query(random, group)
            at_us = random.choice((None, random.randrange(horizon_us, now_us + 1)))
            paths = list(store.collection_group(ROOT, "c")) if group else [f"{ROOT}/c"]
            everything = [document for path in paths for document in store.collection(path, at_us)]
            indexed = [document for path in paths for document in candidates_in(store, query, path, at_us)]
            assert len({document.name for document in indexed}) == len(indexed)
            assert query.run(indexed) == query.run(everything)


def prepared(**parts: Any) -> PreparedQuery:
    query = StructuredQueryPb()
    query.from_.add(collection_id="c")
    for path, op, plain in parts.get("where", ()):
        query.where.composite_filter.op = Composite.AND
        condition = query.where.composite_filter.filters.add().field_filter
        condition.field.field_path, condition.op = path, op
        set_value(condition.value, plain)
    for path, direction in parts.get("order", ()):
        query.order_by.add(direction=direction).field.field_path = path
    if "after" in parts:
        set_value(query.start_at.values.add(), parts["after"])
    if "limit" in parts:
        query.limit.value = parts["limit"]
    return PreparedQuery(ROOT, query)


@pytest.fixture(scope="module")
def large() -> Store:
    """5,000 documents: `n` differs, `half` is one of two, `rare` is true for every 500th."""
    store = Store(ROOT)
    for number in range(5_000):
        name = f"{ROOT}/c/{number:05}"
        fields = {"n": number, "half": number % 2, "rare": number % 500 == 0, "deep": {"n": number}}
        store.put(name, made(name, fields), number + 1)
    return store


DESC, ASC = Direction.DESCENDING, Direction.ASCENDING


@pytest.mark.parametrize(
    ("query", "found", "looked_at"),
    [
        (prepared(where=[("n", Operator.GREATER_THAN, 4_989)]), 10, 12),
        (prepared(where=[("n", Operator.GREATER_THAN, 99), ("n", Operator.LESS_THAN, 110)]), 10, 12),
        (prepared(where=[("n", Operator.EQUAL, 7)]), 1, 1),
        (prepared(where=[("deep.n", Operator.GREATER_THAN_OR_EQUAL, 4_990)]), 10, 11),
        (prepared(order=[("n", DESC)], limit=10), 10, 11),
        (prepared(order=[("n", ASC)], limit=10, after=2_000), 10, 12),
        (prepared(limit=10), 10, 11),
        (prepared(order=[("__name__", ASC)], limit=10, after=f"{ROOT}/c/03000"), 10, 12),
        (prepared(order=[("__name__", DESC)], limit=10), 10, 11),
        (prepared(where=[("half", Operator.EQUAL, 1)], order=[("n", DESC)], limit=10), 10, 22),
        (prepared(where=[("rare", Operator.EQUAL, True)], order=[("n", DESC)], limit=10), 10, 10),
        (prepared(where=[("n", Operator.GREATER_THAN, 9_999)]), 0, 0),
    ],
)
def test_few_documents_are_looked_at(large: Store, query: PreparedQuery, found: int, looked_at: int) -> None:
    read, get = 0, large.get

    def counted(name: str, at_us: int | None = None) -> Any:
        nonlocal read
        read += 1
        return get(name, at_us)

    path = f"{ROOT}/c"
    list(candidates_in(large, query, path, None))  # makes the indexes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large, "get", counted)
        assert len(query.run(candidates_in(large, query, path, None))) == found
    assert read <= looked_at
