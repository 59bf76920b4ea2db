"""What documents hold, as plain Python, in an order that the process has no say in.

The order of a protobuf map differs from process to process. Here the keys of every map come sorted, so that nothing that a
schedule does or says depends on it; or shuffled by chance that the seed decides, for whoever must bear every order.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Fields = dict[str, Any]
Read = Callable[[Any], Fields]
"""Gives the fields of a document. They are shared: never modify them."""


def to_time(time_us: int) -> datetime:
    """Microseconds since the epoch as a datetime."""
    return EPOCH + timedelta(microseconds=time_us)


def to_us(time: datetime) -> int:
    """A datetime as microseconds since the epoch."""
    return (time - EPOCH) // _MICROSECOND


def time_of(timestamp: Any) -> datetime:
    """A protobuf timestamp, in whole microseconds as the database's are, as a datetime."""
    return EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1_000)


def fields_of(document: Any) -> Fields:
    """The fields of a document, or of a map value."""
    fields = document.fields
    found: Fields = {}
    for name in sorted(fields):
        value = fields[name]
        # Most are strings and numbers. Only one member of a Value is set, so what is neither zero nor empty is the value.
        found[name] = value.string_value or value.double_value or value.integer_value or value_of(value)
    return found


def value_of(message: Any) -> Any:
    """A protobuf Value as Python."""
    kind = message.WhichOneof("value_type")
    if kind == "map_value":
        return fields_of(message.map_value)
    if kind == "array_value":
        return [value_of(inner) for inner in message.array_value.values]
    if kind == "timestamp_value":
        return time_of(message.timestamp_value)
    if kind in (None, "null_value"):
        return None
    return getattr(message, kind)


class Reader:
    """Reads each stored document once, for all who want to know what it holds: it never changes."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Fields, datetime, datetime, Any]] = {}

    def fields(self, document: Any) -> Fields:
        """Its fields."""
        return self.read(document)[0]

    def version(self, document: Any) -> tuple[Fields, datetime]:
        """Its fields and its update time."""
        return self.read(document)[:2]

    def created(self, document: Any) -> datetime:
        """When it came into being."""
        return self.read(document)[2]

    def read(self, document: Any) -> tuple[Fields, datetime, datetime, Any]:
        """Its fields, its update time, its create time, and the document itself, which keeps its id from another."""
        known = self._known.get(id(document))
        if known is None:
            updated, created = document.update_time, document.create_time
            update_time = time_of(updated)
            create_time = update_time if created == updated else time_of(created)
            known = self._known[id(document)] = (fields_of(document), update_time, create_time, document)
        return known


def shuffled(value: Any, random: Random) -> Any:
    """A copy with every map in some order."""
    if isinstance(value, dict):
        draw = random.random
        places = {name: draw() for name in sorted(value)}
        return {name: shuffled(value[name], random) for name in sorted(places, key=places.__getitem__)}
    if isinstance(value, list):
        return [shuffled(inner, random) for inner in value]
    return value
