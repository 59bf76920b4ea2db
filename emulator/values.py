"""Firestore's values: their order and equality, what a document may hold, and how much room it takes.

Order: https://firebase.google.com/docs/firestore/manage-data/data-types#value_type_ordering
Sizes: https://firebase.google.com/docs/firestore/storage-size
Limits: https://firebase.google.com/docs/firestore/quotas#collections_documents_and_fields
"""

from __future__ import annotations

import math
import re
from typing import Any

from emulator.names import numeric_id
from emulator.paths import field_name_fault

MAX_DOCUMENT_BYTES = 1_048_576
MAX_VALUE_BYTES = MAX_DOCUMENT_BYTES - 89
MAX_FREE_LENGTH = MAX_VALUE_BYTES // 4  # no string of so many characters is too long, whichever they are
MAX_DEPTH = 20
MAX_VECTOR_DIMENSIONS = 2_048

NULL, BOOLEAN, NUMBER, TIMESTAMP, STRING, BYTES, REFERENCE, GEO_POINT, ARRAY, VECTOR, MAP = range(11)

SortKey = tuple[Any, ...]
NULL_KEY: SortKey = (NULL,)
NAN_KEY: SortKey = (NUMBER,)

_DOCUMENT_NAME = re.compile(r"projects/[^/]+/databases/[^/]+/documents(?:/[^/]+/[^/]+)+")
_MIN_TIMESTAMP_S, _MAX_TIMESTAMP_S = -62_135_596_800, 253_402_300_799  # the years 1 to 9999
_VECTOR_TYPE = "__vector__"


def sort_key(value: Any) -> SortKey:
    """A key that orders Values as queries do, and is equal for Values that are equal to queries (1 and 1.0).

    Its first item is the type's rank. Strings and bytes are compared as a whole; that production may look at the first
    1,500 bytes only gives results that it calls inconsistent.
    """
    kind = value.WhichOneof("value_type")
    if kind == "string_value":  # code points are in the order of their UTF-8
        return (STRING, value.string_value)
    if kind == "integer_value":
        return (NUMBER, value.integer_value)
    if kind == "double_value":
        number = value.double_value
        return NAN_KEY if number != number else (NUMBER, number)
    if kind == "boolean_value":
        return (BOOLEAN, value.boolean_value)
    if kind == "timestamp_value":
        return (TIMESTAMP, value.timestamp_value.seconds, value.timestamp_value.nanos)
    if kind == "map_value":
        fields = value.map_value.fields
        if _is_vector(fields):
            items = fields["value"].array_value.values
            return (VECTOR, len(items), tuple(sort_key(item) for item in items))
        return (MAP, tuple((name, sort_key(fields[name])) for name in sorted(fields)))
    if kind == "array_value":
        return (ARRAY, tuple(sort_key(item) for item in value.array_value.values))
    if kind == "reference_value":
        return (REFERENCE, name_key(value.reference_value))
    if kind == "bytes_value":
        return (BYTES, value.bytes_value)
    if kind == "geo_point_value":
        return (GEO_POINT, value.geo_point_value.latitude, value.geo_point_value.longitude)
    return NULL_KEY


def name_key(name: str) -> tuple[str, ...]:
    """A key that orders resource names: id by id, with numeric ids (`__id7__`) first, by their number."""
    ids = name.split("/")
    if "__id" in name:
        ids = [_id_key(id_) for id_ in ids]
    return tuple(ids)


def id_key(name: str) -> str:
    """A key that orders the documents of one collection by their names, as `name_key` does. It costs less."""
    if "__id" not in name:
        return name
    collection, _, id_ = name.rpartition("/")
    return f"{collection}/{_id_key(id_)}"


def _id_key(id_: str) -> str:
    number = numeric_id(id_)
    if number is None:
        return id_
    # Clients name the least one to say "the beginning of the collection": it comes before all strings.
    above_least = number + (1 << 63)
    return f"\0{above_least:020}" if above_least else ""


def is_nan(value: Any) -> bool:
    """Whether it is the number that is none."""
    return bool(value.double_value != value.double_value)


class Fault(Exception):
    """A value that no document may hold: where, from the outside in, and why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []

    def __str__(self) -> str:
        return f"{'.'.join(reversed(self.steps))!r}: {self.reason}" if self.steps else self.reason


def store_fields(fields: Any, depth: int = 1) -> None:
    """Make of a map of fields, in place, what is stored of it: times in whole microseconds, one NaN.

    `depth` is that of the fields: 1 in a document. Raises Fault if a document may not hold them.
    """
    for name in fields:  # not items(): that of a protobuf map is generic Python code
        fault = field_name_fault(name)
        if fault:
            raise Fault(f"a field name {fault}")
        value = fields[name]
        if depth <= MAX_DEPTH and (value.integer_value or 0 < len(value.string_value) <= MAX_FREE_LENGTH):
            continue  # as most are, and nothing is to be checked
        try:
            store_value(value, depth)
        except Fault as deeper:
            deeper.steps.append(name)
            raise


def store_value(value: Any, depth: int) -> None:
    """Like `store_fields`, for one value of a field at this depth."""
    if depth > MAX_DEPTH:
        raise Fault(f"fields may be nested {MAX_DEPTH} deep, and this one lies deeper")
    kind = value.WhichOneof("value_type")
    if kind == "string_value":
        string = value.string_value
        if len(string) > MAX_FREE_LENGTH and len(string.encode()) > MAX_VALUE_BYTES:
            raise Fault(f"a string may have {MAX_VALUE_BYTES} bytes, this one has {len(string.encode())}")
    elif kind in ("integer_value", "boolean_value", "null_value"):
        pass
    elif kind == "double_value":
        if is_nan(value):
            value.double_value = math.nan
    elif kind == "map_value":
        fields = value.map_value.fields
        if "__type__" in fields:
            _check_vector(fields)
        else:
            store_fields(fields, depth + 1)
    elif kind == "array_value":
        for index, item in enumerate(value.array_value.values):
            try:
                if item.HasField("array_value"):
                    raise Fault("an array may not hold an array directly")
                store_value(item, depth + 1)
            except Fault as deeper:
                deeper.steps.append(str(index))
                raise
    elif kind == "timestamp_value":
        time = value.timestamp_value
        if not (_MIN_TIMESTAMP_S <= time.seconds <= _MAX_TIMESTAMP_S and 0 <= time.nanos < 1_000_000_000):
            raise Fault("a timestamp must lie in the years 1 to 9999, with nanos from 0 to 999,999,999")
        time.nanos -= time.nanos % 1_000
    elif kind == "bytes_value":
        if len(value.bytes_value) > MAX_VALUE_BYTES:
            raise Fault(f"bytes may have a length of {MAX_VALUE_BYTES}, these have {len(value.bytes_value)}")
    elif kind == "reference_value":
        if not _DOCUMENT_NAME.fullmatch(value.reference_value):
            raise Fault(f"{value.reference_value[:100]!r} is no reference: it is not the name of a document")
    elif kind == "geo_point_value":
        point = value.geo_point_value
        if not (-90 <= point.latitude <= 90 and -180 <= point.longitude <= 180):
            raise Fault("a geo point has a latitude from -90 to 90 and a longitude from -180 to 180")
    elif kind is None:
        raise Fault("there is no value")
    else:
        raise Fault(f"a {kind} may not be stored in a document")


def _is_vector(fields: Any) -> bool:
    type_ = fields.get("__type__")
    return type_ is not None and type_.string_value == _VECTOR_TYPE


def _check_vector(fields: Any) -> None:
    if not _is_vector(fields) or set(fields) != {"__type__", "value"} or not fields["value"].HasField("array_value"):
        raise Fault("a field name of the form '__.*__' is reserved: '__type__'")
    items = fields["value"].array_value.values
    if not 1 <= len(items) <= MAX_VECTOR_DIMENSIONS:
        raise Fault(f"a vector has 1 to {MAX_VECTOR_DIMENSIONS} dimensions, this one has {len(items)}")
    if any(item.WhichOneof("value_type") not in ("double_value", "integer_value") for item in items):
        raise Fault("a vector consists of numbers")


def document_bytes(document: Any) -> int:
    """The size of a document as storage counts it."""
    return _name_bytes(document.name) + _fields_bytes(document.fields)


def is_too_large(document: Any) -> bool:
    """Whether it is larger than a document may be."""
    # Nothing takes more than eight times its room on the wire (an empty map does), apart from the name's overhead.
    if document.ByteSize() * 8 + 64 <= MAX_DOCUMENT_BYTES:
        return False
    return document_bytes(document) > MAX_DOCUMENT_BYTES


def _name_bytes(name: str) -> int:
    return 16 + sum(map(_string_bytes, name.split("/")[5:]))


def _string_bytes(string: str) -> int:
    return (len(string) if string.isascii() else len(string.encode())) + 1


def _fields_bytes(fields: Any) -> int:
    return 32 + sum(_string_bytes(name) + _value_bytes(fields[name]) for name in fields)


def _value_bytes(value: Any) -> int:
    kind = value.WhichOneof("value_type")
    if kind in ("null_value", "boolean_value"):
        return 1
    if kind in ("integer_value", "double_value", "timestamp_value"):
        return 8
    if kind == "string_value":
        return _string_bytes(value.string_value)
    if kind == "bytes_value":
        return len(value.bytes_value)
    if kind == "geo_point_value":
        return 16
    if kind == "reference_value":
        return _name_bytes(value.reference_value)
    if kind == "array_value":
        return sum(map(_value_bytes, value.array_value.values))
    fields = value.map_value.fields
    return 8 * len(fields["value"].array_value.values) if _is_vector(fields) else _fields_bytes(fields)
