"""Firestore's protobuf values to plain Python and back.

Works on the raw messages (`google.firestore.v1.Value` and the wire-identical one of events), several times as fast as the
client library's own codec, which dominates a trigger's CPU time.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from google.protobuf.struct_pb2 import NULL_VALUE
from google.protobuf.timestamp_pb2 import Timestamp

from balance.database.firestore import DELETE, SERVER_TIME, Constant, Fields


class Reference(NamedTuple):
    """A reference to a document. No field of ours holds one; in particular it is no uid."""

    name: str


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_datetime(timestamp: Timestamp) -> datetime:
    """A protobuf timestamp as a datetime, to the microsecond, rounded up.

    Firestore's times are whole microseconds. Should one be finer, rounding a commit time up keeps "committed at or before S"
    true for exactly the same whole S.
    """
    return _EPOCH + timedelta(seconds=timestamp.seconds, microseconds=-(-timestamp.nanos // 1000))


def to_timestamp(time: datetime) -> Timestamp:
    """The protobuf timestamp of an aware datetime."""
    since_epoch = time - _EPOCH
    return Timestamp(seconds=since_epoch.days * 86_400 + since_epoch.seconds, nanos=since_epoch.microseconds * 1000)


def decode_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a document or map value."""
    # Not items(): that of a protobuf map is generic Python code, and takes most of the time. Only one member of the union is
    # set, so what is not zero or empty is the value; it takes half the time of asking which one is set.
    return {
        name: (value := fields[name]).double_value or value.integer_value or value.string_value or decode(value)
        for name in fields
    }


def decode(value: Any) -> Any:
    """One value. A geo point becomes a (latitude, longitude) pair: no field of ours holds one."""
    kind = value.WhichOneof("value_type")
    if kind == "string_value":
        return value.string_value
    if kind == "integer_value":
        return value.integer_value
    if kind == "double_value":
        return value.double_value
    if kind == "map_value":
        return decode_fields(value.map_value.fields)
    if kind == "array_value":
        return [decode(item) for item in value.array_value.values]
    if kind == "timestamp_value":
        return to_datetime(value.timestamp_value)
    if kind == "geo_point_value":
        return (value.geo_point_value.latitude, value.geo_point_value.longitude)
    if kind == "reference_value":
        return Reference(value.reference_value)
    if kind is None or kind == "null_value":
        return None
    return getattr(value, kind)


def encode_into(message: Any, value: Any) -> None:
    """Write a Python value into an empty protobuf Value."""
    kind = type(value)
    if kind is str:
        message.string_value = value
    elif kind is int:
        message.integer_value = value
    elif kind is float:
        message.double_value = value
    elif kind is dict:
        message.map_value.SetInParent()
        encode_fields_into(message.map_value.fields, value)
    elif kind is Constant:
        if value.encoded is None:
            message.map_value.SetInParent()
            encode_fields_into(message.map_value.fields, value)
            value.encoded = message.SerializeToString()
        else:
            message.ParseFromString(value.encoded)
    elif kind is list or kind is tuple:
        message.array_value.SetInParent()
        values = message.array_value.values
        for item in value:
            encode_into(values.add(), item)
    elif value is None:
        message.null_value = NULL_VALUE
    elif kind is bool:
        message.boolean_value = value
    elif isinstance(value, datetime):
        message.timestamp_value.CopyFrom(to_timestamp(value))
    elif isinstance(value, bytes):
        message.bytes_value = value
    elif isinstance(value, str):  # StrEnum
        message.string_value = str(value)
    else:
        raise TypeError(f"Firestore cannot store a {kind.__name__}")


def encode_fields_into(target: Any, fields: Fields) -> None:
    """Write Python values into the `fields` map of a document or map value; SERVER_TIME at the top is left to the server."""
    for name, value in fields.items():
        if value is not SERVER_TIME:
            encode_into(target[name], value)


def encode_update_into(target: Any, fields: Mapping[tuple[str, ...], Any]) -> None:
    """Write values at field paths into the `fields` map of a document; DELETE and SERVER_TIME leave no value."""
    for path, value in fields.items():
        if value is DELETE or value is SERVER_TIME:
            continue
        inner = target
        for segment in path[:-1]:
            inner = inner[segment].map_value.fields
        encode_into(inner[path[-1]], value)
