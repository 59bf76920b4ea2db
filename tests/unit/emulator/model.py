"""Firestore's values as plain Python ones, with the documented order written down a second time, as a comparison.

https://firebase.google.com/docs/firestore/manage-data/data-types
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from google.cloud.firestore_v1.types import Document, Value
from hypothesis import strategies as st

DocumentPb = Document.pb()
ValuePb = Value.pb()

ROOT = "projects/p/databases/(default)/documents"


@dataclass(frozen=True)
class Time:
    """A timestamp."""

    seconds: int
    nanos: int = 0


@dataclass(frozen=True)
class Reference:
    """A reference, by the path below the root."""

    path: str


@dataclass(frozen=True)
class GeoPoint:
    """A point on the Earth."""

    latitude: float
    longitude: float


@dataclass(frozen=True)
class Vector:
    """A vector embedding."""

    numbers: tuple[float, ...]


def to_value(plain: Any) -> Any:
    """The Value for a plain one."""
    value = ValuePb()
    match plain:
        case None:
            value.null_value = 0
        case bool():
            value.boolean_value = plain
        case int():
            value.integer_value = plain
        case float():
            value.double_value = plain
        case str():
            value.string_value = plain
        case bytes():
            value.bytes_value = plain
        case Time(seconds, nanos):
            value.timestamp_value.seconds, value.timestamp_value.nanos = seconds, nanos
            value.timestamp_value.SetInParent()
        case Reference(path):
            value.reference_value = f"{ROOT}/{path}"
        case GeoPoint(latitude, longitude):
            value.geo_point_value.latitude, value.geo_point_value.longitude = latitude, longitude
            value.geo_point_value.SetInParent()
        case list():
            value.array_value.values.extend(map(to_value, plain))
            value.array_value.SetInParent()
        case Vector(numbers):
            value.map_value.fields["__type__"].string_value = "__vector__"
            value.map_value.fields["value"].CopyFrom(to_value(list(numbers)))
        case dict():
            value.map_value.SetInParent()
            for name, inner in plain.items():
                value.map_value.fields[name].CopyFrom(to_value(inner))
        case _:
            raise TypeError(plain)
    return value


def to_plain(value: Any) -> Any:
    """The plain one for a Value."""
    kind = value.WhichOneof("value_type")
    content = getattr(value, kind)
    match kind:
        case "null_value":
            return None
        case "timestamp_value":
            return Time(content.seconds, content.nanos)
        case "reference_value":
            return Reference(content.removeprefix(f"{ROOT}/"))
        case "geo_point_value":
            return GeoPoint(content.latitude, content.longitude)
        case "array_value":
            return [to_plain(item) for item in content.values]
        case "map_value":
            fields = {name: to_plain(inner) for name, inner in content.fields.items()}
            return Vector(tuple(fields["value"])) if fields.get("__type__") == "__vector__" else fields
    return content


def to_document(path: str, fields: dict[str, Any]) -> Any:
    """A document, without times."""
    document = DocumentPb(name=f"{ROOT}/{path}")
    for name, plain in fields.items():
        document.fields[name].CopyFrom(to_value(plain))
    return document


_TYPES: tuple[tuple[type, ...], ...] = (
    (type(None),),
    (bool,),
    (int, float),
    (Time,),
    (str,),
    (bytes,),
    (Reference,),
    (GeoPoint,),
    (list,),
    (Vector,),
    (dict,),
)


def type_rank(plain: Any) -> int:
    """The place of the type in the order of types."""
    return next(rank for rank, types in enumerate(_TYPES) if isinstance(plain, types))


def compare(left: Any, right: Any) -> int:
    """-1, 0 or 1: the order of two values."""
    if type_rank(left) != type_rank(right):
        return _sign(type_rank(left), type_rank(right))
    match left:
        case None:
            return 0
        case bool():
            return _sign(left, right)
        case int() | float():
            return _compare_numbers(left, right)
        case Time():
            return _sign((left.seconds, left.nanos), (right.seconds, right.nanos))
        case str():
            return _sign(left.encode(), right.encode())
        case bytes():
            return _sign(left, right)
        case Reference():
            return _compare_lists(left.path.split("/"), right.path.split("/"))
        case GeoPoint():
            return _sign((left.latitude, left.longitude), (right.latitude, right.longitude))
        case list():
            return _compare_lists(left, right)
        case Vector():
            return _sign(len(left.numbers), len(right.numbers)) or _compare_lists(list(left.numbers), list(right.numbers))
        case _:
            return _compare_lists(_entries(left), _entries(right))


def is_nan(plain: Any) -> bool:
    """Whether it is the number that is none."""
    return isinstance(plain, float) and math.isnan(plain)


def _entries(plain: dict[str, Any]) -> list[Any]:
    ordered = sorted(plain.items(), key=lambda entry: entry[0].encode())
    return [part for entry in ordered for part in entry]


def _compare_lists(left: list[Any], right: list[Any]) -> int:
    for ours, theirs in zip(left, right, strict=False):
        order = compare(ours, theirs)
        if order:
            return order
    return _sign(len(left), len(right))


def _compare_numbers(left: float, right: float) -> int:
    if is_nan(left) or is_nan(right):
        return is_nan(right) - is_nan(left)
    if math.isinf(left) or math.isinf(right):
        return _sign(float(left), float(right))
    return _sign(Fraction(left), Fraction(right))


def _sign(left: Any, right: Any) -> int:
    return int(left > right) - int(left < right)


# Strategies: from few values, so that equal ones and close ones meet.

numbers = st.one_of(
    st.sampled_from([0, 1, -1, 2, 3, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]),
    st.sampled_from([0.0, -0.0, 1.0, 1.5, 2.0, 2.0**53, 2.0**63, 5e-324, math.nan, math.inf, -math.inf]),
)
texts = st.one_of(st.sampled_from(["", "a", "b", "aa", "B", "é", "\uffff", "\U0001f600", "a\0"]), st.text(max_size=3))
names = st.sampled_from(["a", "b", "c", "A", "ä", "a-b"])
times = st.builds(Time, st.sampled_from([-1, 0, 1]), st.sampled_from([0, 1_000, 999_999_000]))
references = st.builds(Reference, st.sampled_from(["a/b", "a/c", "a/b/c/d", "a!/b", "b/a", "a/B"]))
geo_points = st.builds(GeoPoint, st.sampled_from([-90.0, 0.0, 1.5]), st.sampled_from([-180.0, 0.0, 1.5]))
vectors = st.builds(Vector, st.lists(st.sampled_from([0.0, 1.0, -1.0]), min_size=1, max_size=3).map(tuple))
scalars = st.one_of(st.none(), st.booleans(), numbers, times, texts, st.binary(max_size=2), references, geo_points, vectors)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    no_arrays = inner.filter(lambda plain: not isinstance(plain, list))
    return st.one_of(st.lists(no_arrays, max_size=3), st.dictionaries(names, inner, max_size=3))


plain_values = st.recursive(scalars, _containers, max_leaves=6)
plain_fields = st.dictionaries(names, plain_values, max_size=4)
