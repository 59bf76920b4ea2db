"""Order, equality, limits and sizes of values. Pages:
https://firebase.google.com/docs/firestore/manage-data/data-types (order), https://firebase.google.com/docs/firestore/quotas
(limits), https://firebase.google.com/docs/firestore/storage-size (sizes)."""

from __future__ import annotations

import math
import random
import struct
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.values import (
    MAX_DOCUMENT_BYTES,
    MAX_VALUE_BYTES,
    Fault,
    document_bytes,
    is_too_large,
    name_key,
    sort_key,
    store_fields,
)
from tests.unit.emulator.model import (
    ROOT,
    GeoPoint,
    Reference,
    Time,
    ValuePb,
    Vector,
    compare,
    plain_fields,
    plain_values,
    to_document,
    to_plain,
    to_value,
)

# Each line comes before the next; what is in a line is equal to queries. Types in the order of the page.
ASCENDING: list[list[Any]] = [
    [None],
    [False],
    [True],
    [math.nan],
    [-math.inf],
    [-1e300],
    [-(2**63), -(2.0**63)],
    [-1.5],
    [-1, -1.0],
    [-5e-324],
    [0, 0.0, -0.0],
    [5e-324],
    [1, 1.0],
    [2**53, 2.0**53],
    [2**53 + 1],
    [2**63 - 1],
    [2.0**63],
    [math.inf],
    [Time(-62_135_596_800)],
    [Time(-1, 999_999_000)],
    [Time(0)],
    [Time(0, 1_000)],
    [""],
    ["A"],
    ["a"],
    ["a\0"],
    ["aa"],
    ["é"],
    ["\uffff"],
    ["\U0001f600"],  # after the one before in UTF-8, before it in UTF-16
    [b""],
    [b"\0"],
    [b"\xff"],
    [b"\xff\0"],
    [Reference("a/__id-9223372036854775808__")],
    [Reference("a/__id-5__")],
    [Reference("a/__id7__")],
    [Reference("a/__id10__")],
    [Reference("a/b")],
    [Reference("a/b/c/d")],
    [Reference("a/b!")],
    [Reference("a!/b")],
    [Reference("b/a")],
    [GeoPoint(-90.0, 180.0)],
    [GeoPoint(0.0, -180.0)],
    [GeoPoint(0.0, 1.0)],
    [GeoPoint(1.0, -180.0)],
    [[]],
    [[None]],
    [[1, 2, 3]],  # the page's example: [1, 2, 3] < [1, 2, 3, 1] < [2]
    [[1, 2, 3, 1]],
    [[2], [2.0]],
    [["a"]],
    [Vector((5.0,))],
    [Vector((1.0, 2.0)), Vector((1, 2))],
    [Vector((1.0, 3.0))],
    [{}],
    [{"a": "bar", "b": 1}],
    [{"a": "foo"}],  # the page's example: {a: "foo"} < {a: "foo", b: "bar"} < {a: "foo", b: "baz"}
    [{"a": "foo", "b": "bar"}, {"b": "bar", "a": "foo"}],
    [{"a": "foo", "b": "baz"}],
    [{"aa": 0}],
    [{"b": 0}],
    [{"é": None}],
]


def test_values_have_the_documented_order() -> None:
    """https://firebase.google.com/docs/firestore/manage-data/data-types#value_type_ordering, and the column "Sort order".
    That all zeros are equal: https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#fieldtransform."""
    for lower, higher in combinations(ASCENDING, 2):
        for left in lower:
            for right in higher:
                assert sort_key(to_value(left)) < sort_key(to_value(right)), (left, right)
    for equal in ASCENDING:
        assert len({sort_key(to_value(each)) for each in equal}) == 1, equal


def test_any_shuffle_sorts_back() -> None:
    values = [to_value(each) for line in ASCENDING for each in line[:1]]
    shuffled = random.Random(7).sample(values, len(values))
    assert sorted(shuffled, key=sort_key) == values


@settings(max_examples=600, deadline=None)
@given(plain_values, plain_values, plain_values)
def test_the_order_is_total_and_agrees_with_equality_and_with_the_documented_comparison(a: Any, b: Any, c: Any) -> None:
    keys = {name: sort_key(to_value(plain)) for name, plain in {"a": a, "b": b, "c": c}.items()}
    for left, right in combinations("abc", 2):
        before, same, after = keys[left] < keys[right], keys[left] == keys[right], keys[left] > keys[right]
        assert before + same + after == 1
        assert after - before == compare(*({"a": a, "b": b, "c": c}[name] for name in (left, right)))
        if same:
            assert hash(keys[left]) == hash(keys[right])
    low, middle, high = sorted(keys.values())
    assert low <= middle <= high
    assert low <= high


@settings(deadline=None)
@given(plain_values)
def test_every_value_is_equal_to_itself_also_nan(plain: Any) -> None:
    assert sort_key(to_value(plain)) == sort_key(to_value(plain))


def test_numeric_ids_come_first_in_the_order_of_their_numbers() -> None:
    """Clients name the least of them to say "the beginning of this collection"."""
    ids = [
        "__id-9223372036854775808__",
        "__id-12__",
        "__id-2__",
        "__id0__",
        "__id3__",
        "__id20__",
        "!",
        "0",
        "__id",
        "a",
    ]
    assert sorted(random.Random(3).sample(ids, len(ids)), key=lambda id_: name_key(f"{ROOT}/c/{id_}")) == ids
    assert name_key(f"{ROOT}/c/{ids[0]}") < name_key(f"{ROOT}/c/\0"), "the least comes before all that there can be"


# What may be stored


def stored(fields: dict[str, Any]) -> Any:
    document = to_document("c/d", fields)
    store_fields(document.fields)
    return document


@settings(deadline=None)
@given(plain_fields)
def test_what_may_be_stored_is_stored_as_it_is(fields: dict[str, Any]) -> None:
    assert stored(fields) == to_document("c/d", fields)


def test_times_are_rounded_down_to_microseconds_wherever_they_are() -> None:
    """Data types page, date and time: "precise only to microseconds; any additional precision is rounded down"."""
    fields = {"t": Time(1, 123_456_789), "in": {"map": [Time(-1, 999)]}}
    assert stored(fields) == to_document("c/d", {"t": Time(1, 123_456_000), "in": {"map": [Time(-1, 0)]}})


def test_nan_is_normalised() -> None:
    """Data types page, floating-point number: "normalized NaN"."""
    odd = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0123))[0]
    document = to_document("c/d", {"n": odd, "in": [odd]})
    assert document != to_document("c/d", {"n": math.nan, "in": [math.nan]}), "or the test shows nothing"
    store_fields(document.fields)
    assert document == to_document("c/d", {"n": math.nan, "in": [math.nan]})


def nested(levels: int, innermost: Any = 1, array: bool = False) -> dict[str, Any]:
    """Fields that lie so many levels deep."""
    plain = innermost
    for level in range(levels):
        plain = [plain] if array and level % 2 else {"m": plain}
    assert isinstance(plain, dict)
    return plain


@pytest.mark.parametrize("array", [False, True])
def test_fields_are_nested_20_deep_at_most(array: bool) -> None:
    """Quotas page: "Maximum depth of fields in a map or array: 20"."""
    deepest = 19 if array else 20
    stored(nested(deepest, array=array))
    stored(nested(deepest, {} if not array else 1, array=array))
    with pytest.raises(Fault, match="20 deep"):
        stored(nested(deepest + 2, array=array))
    with pytest.raises(Fault, match="20 deep"):
        stored(nested(20, {"too": "deep"}))
    with pytest.raises(Fault, match="20 deep"):
        stored(nested(20, ["too deep"]))


@pytest.mark.parametrize(
    ("fields", "where", "why"),
    [
        ({"a": [1, [2]]}, "a.1", "array directly"),
        ({"a": {"b": [{"c": [[]]}]}}, "a.b.0.c.0", "array directly"),
        ({"": 1}, "", "empty"),
        ({"a": {"": 1}}, "a", "empty"),
        ({"a": {"__x__": 1}}, "a", "reserved"),
        ({"__x__": 1}, "", "reserved"),
        ({"é" * 751: 1}, "", "1500 bytes"),
        ({"a": {"__type__": "other"}}, "a", "reserved"),
        ({"a": {"__type__": "__vector__"}}, "a", "reserved"),
        ({"a": {"__type__": "__vector__", "value": [1.0], "more": 1}}, "a", "reserved"),
        ({"a": {"__type__": "__vector__", "value": ["x"]}}, "a", "numbers"),
        ({"a": {"__type__": "__vector__", "value": []}}, "a", "dimensions"),
        ({"a": Vector((0.0,) * 2_049)}, "a", "dimensions"),
        ({"a": "é" * (MAX_VALUE_BYTES // 2 + 1)}, "a", "1048487"),
        ({"a": b"x" * (MAX_VALUE_BYTES + 1)}, "a", "1048487"),
        ({"a": Time(-62_135_596_801)}, "a", "years"),
        ({"a": Time(253_402_300_800)}, "a", "years"),
        ({"a": Time(0, 1_000_000_000)}, "a", "years"),
        ({"a": Time(0, -1)}, "a", "years"),
        ({"a": GeoPoint(90.5, 0.0)}, "a", "latitude"),
        ({"a": GeoPoint(0.0, math.nan)}, "a", "longitude"),
        ({"a": Reference("only-a-collection")}, "a", "reference"),
        ({"a": Reference("a//b/c")}, "a", "reference"),
    ],
)
def test_what_may_not_be_stored_is_told_with_its_place(fields: dict[str, Any], where: str, why: str) -> None:
    """Quotas and data types pages; the range of a geo point is that of google.type.LatLng."""
    with pytest.raises(Fault) as caught:
        stored(fields)
    assert str(caught.value).startswith(f"{where!r}: " if where else "a field name")
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"a": "é" * (MAX_VALUE_BYTES // 2)},
        {"a": b"x" * MAX_VALUE_BYTES},
        {"a": Vector((0.0,) * 2_048)},
        {"é" * 750: 1},
        {"a": Time(253_402_300_799, 999_999_000)},
        {"a": [{"b": [1]}]},
        {"a": Reference("x/y/z/ä ö.ü")},
    ],
    ids=lambda fields: next(iter(fields))[:1],
)
def test_what_just_fits_is_stored(fields: dict[str, Any]) -> None:
    assert stored(fields) == to_document("c/d", fields)


@pytest.mark.parametrize("kind", ["field_reference_value", "variable_reference_value", "function_value", "pipeline_value"])
def test_expressions_are_no_values_to_store(kind: str) -> None:
    """Value: "Not allowed to be used when writing documents"."""
    document = to_document("c/d", {"a": 1})
    if kind.endswith("reference_value"):
        setattr(document.fields["a"], kind, "b")
    else:
        getattr(document.fields["a"], kind).SetInParent()
    with pytest.raises(Fault, match=kind):
        store_fields(document.fields)
    document.fields["a"].CopyFrom(ValuePb())
    with pytest.raises(Fault, match="no value"):
        store_fields(document.fields)


# Sizes


def test_the_documented_example_has_its_documented_size() -> None:
    """https://firebase.google.com/docs/firestore/storage-size#document_size: 147 bytes, of which the name takes 44."""
    fields = {"type": "Personal", "done": False, "priority": 1, "description": "Learn Cloud Firestore"}
    assert document_bytes(to_document("users/jeff/tasks/my_task_id", fields)) == 147
    assert document_bytes(to_document("users/jeff/tasks/my_task_id", {})) == 44 + 32


@pytest.mark.parametrize(
    ("plain", "size"),
    [
        (None, 1),
        (True, 1),
        (7, 8),
        (7.5, 8),
        (Time(1), 8),
        (GeoPoint(1.0, 2.0), 16),
        ("é", 3),
        ("", 1),
        (b"abc", 3),
        ([], 0),
        ([1, "a"], 10),
        (Reference("users/jeff/tasks/my_task_id"), 44),
        ({}, 32),
        ({"é": {"b": None}}, 32 + 3 + 32 + 2 + 1),
        (Vector((1.0, 2.0, 3.0)), 24),
    ],
)
def test_each_type_takes_its_documented_room(plain: Any, size: int) -> None:
    """https://firebase.google.com/docs/firestore/storage-size#field_value_size; a map "the same way as document size"."""
    empty = document_bytes(to_document("c/d", {}))
    assert document_bytes(to_document("c/d", {"f": plain})) - empty - 2 == size


@settings(deadline=None)
@given(plain_fields)
def test_the_quick_check_of_the_size_cannot_miss(fields: dict[str, Any]) -> None:
    document = to_document("c/d", fields)
    assert document_bytes(document) <= document.ByteSize() * 8 + 64


@pytest.mark.parametrize("item", [{}, 1 << 62, "x" * 1_000, {"a": {}}], ids=lambda item: repr(item)[:12])
def test_a_document_is_too_large_exactly_above_1_mib(item: Any) -> None:
    """Quotas page: maximum size for a document 1 MiB (1,048,576 bytes)."""

    def document(count: int, padding: int = 0) -> Any:
        return to_document("c/d", {"items": [item] * count, "padding": "x" * padding})

    each = document_bytes(document(2)) - document_bytes(document(1))
    count = (MAX_DOCUMENT_BYTES - document_bytes(document(0))) // each
    rest = MAX_DOCUMENT_BYTES - document_bytes(document(count))
    assert not is_too_large(document(count, rest))
    assert is_too_large(document(count, rest + 1))
    assert is_too_large(document(count + 2))


@settings(deadline=None)
@given(st.lists(plain_values, max_size=3))
def test_the_model_of_these_tests_reads_what_it_writes(plains: list[Any]) -> None:
    for plain in plains:
        assert compare(to_plain(to_value(plain)), plain) == 0
