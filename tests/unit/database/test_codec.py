"""Firestore's values in Python and back: kinds by example, times to the microsecond, field paths."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from google.cloud.firestore_v1.types import Document, Value
from google.protobuf.struct_pb2 import NULL_VALUE
from google.protobuf.timestamp_pb2 import Timestamp

from balance.database.codec import (
    Reference,
    decode,
    decode_fields,
    encode_fields_into,
    encode_into,
    encode_update_into,
    to_datetime,
    to_timestamp,
)
from balance.database.firestore import DELETE, SERVER_TIME
from balance.documents.outcome import Outcome

ValuePb: Any = Value.pb()
DocumentPb: Any = Document.pb()
NOON = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)


def encoded(value: Any) -> Any:
    message = ValuePb()
    encode_into(message, value)
    return message


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "null_value"),
        (True, "boolean_value"),
        (0, "integer_value"),
        (-(2**63), "integer_value"),
        (0.0, "double_value"),
        ("", "string_value"),
        (Outcome.APPLIED, "string_value"),
        (b"", "bytes_value"),
        (NOON, "timestamp_value"),
        ([], "array_value"),
        ((), "array_value"),
        ({}, "map_value"),
    ],
)
def test_each_kind_of_value_is_itself_also_when_empty(value: object, kind: str) -> None:
    assert encoded(value).WhichOneof("value_type") == kind


@pytest.mark.parametrize(
    ("value", "number"),
    [(1, 1), (1.0, 1.0), (True, True)],
)
def test_integers_floats_and_booleans_stay_what_they_are(value: object, number: object) -> None:
    assert type(decode(encoded(value))) is type(number)


def test_kinds_that_python_lacks_are_read_as_something_that_no_field_of_ours_is() -> None:
    reference, point = ValuePb(reference_value="projects/p/databases/d/documents/a/b"), ValuePb()
    point.geo_point_value.latitude, point.geo_point_value.longitude = 52.5, 13.4
    assert decode(reference) == Reference("projects/p/databases/d/documents/a/b")
    assert decode(point) == (52.5, 13.4)


def test_a_value_of_no_kind_is_null() -> None:
    assert decode(ValuePb()) is None
    assert decode(ValuePb(null_value=NULL_VALUE)) is None


@pytest.mark.parametrize("value", [{1, 2}, 1j, object(), SERVER_TIME, DELETE])
def test_what_firestore_cannot_store_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="Firestore cannot store"):
        encoded(value)


@pytest.mark.parametrize(
    ("seconds", "nanos", "expected"),
    [
        (0, 0, datetime(1970, 1, 1, tzinfo=UTC)),
        (0, 1_000, datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
        (0, 1, datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
        (0, 1_001, datetime(1970, 1, 1, 0, 0, 0, 2, tzinfo=UTC)),
        (0, 999_999_999, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (-1, 999_999_000, datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        (253_402_300_799, 999_999_000, datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        (-62_135_596_800, 0, datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_are_whole_microseconds_rounded_up(seconds: int, nanos: int, expected: datetime) -> None:
    assert to_datetime(Timestamp(seconds=seconds, nanos=nanos)) == expected


@pytest.mark.parametrize(
    "time",
    [NOON, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
     datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), NOON.astimezone(timezone(timedelta(hours=5, minutes=45)))],
)  # fmt: skip
def test_a_time_comes_back_as_the_same_instant_in_utc(time: datetime) -> None:
    back = to_datetime(to_timestamp(time))
    assert back == time
    assert back.utcoffset() == timedelta(0)


def test_the_server_fills_in_its_time() -> None:
    document = DocumentPb()
    encode_fields_into(document.fields, {"a": 1, "at": SERVER_TIME})
    assert decode_fields(document.fields) == {"a": 1}


def test_an_update_writes_at_field_paths_and_leaves_out_what_is_deleted_or_the_servers() -> None:
    document = DocumentPb()
    update = {
        ("a", "b.c", "`"): {"x": []},
        ("a", "d"): 1,
        ("gone",): DELETE,
        ("g", "one"): DELETE,
        ("at",): SERVER_TIME,
        ("f",): None,
    }
    encode_update_into(document.fields, update)
    assert decode_fields(document.fields) == {"a": {"b.c": {"`": {"x": []}}, "d": 1}, "f": None}
