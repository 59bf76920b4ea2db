"""Firestore values: their order, and paths into documents. (First version.)"""

from __future__ import annotations

import re
from typing import Any

_ORDER = {
    "null_value": 0, "boolean_value": 1, "integer_value": 2, "double_value": 2, "timestamp_value": 3, "string_value": 4,
    "bytes_value": 5, "reference_value": 6, "geo_point_value": 7, "array_value": 8, "map_value": 10,
}


def sort_key(value: Any) -> tuple[Any, ...]:
    kind = value.WhichOneof("value_type") or "null_value"
    rank = _ORDER[kind]
    if kind == "null_value":
        return (rank,)
    raw = getattr(value, kind)
    if rank == 2:
        return (rank, 0, 0) if raw != raw else (rank, 1, raw)
    if kind == "timestamp_value":
        return (rank, raw.seconds, raw.nanos)
    if kind == "string_value":
        return (rank, raw.encode())
    if kind == "reference_value":
        return (rank, tuple(raw.split("/")))
    if kind == "geo_point_value":
        return (rank, raw.latitude, raw.longitude)
    if kind == "array_value":
        return (rank, tuple(sort_key(item) for item in raw.values))
    if kind == "map_value":
        return (rank, tuple((name.encode(), sort_key(raw.fields[name])) for name in sorted(raw.fields)))
    return (rank, raw)


_SEGMENT = re.compile(r"`((?:[^`\\]|\\.)+)`|([^.`]+)", re.DOTALL)


def parse_field_path(path: str) -> tuple[str, ...]:
    segments, at = [], 0
    while True:
        found = _SEGMENT.match(path, at)
        if found is None:
            raise ValueError(path)
        segments.append(re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL) if found[1] is not None else found[2])
        at = found.end()
        if at == len(path):
            return tuple(segments)
        if path[at] != ".":
            raise ValueError(path)
        at += 1


def get_field(fields: Any, path: tuple[str, ...]) -> Any:
    for segment in path[:-1]:
        if segment not in fields or fields[segment].WhichOneof("value_type") != "map_value":
            return None
        fields = fields[segment].map_value.fields
    return fields[path[-1]] if path[-1] in fields else None
