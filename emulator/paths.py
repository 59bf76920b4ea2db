"""Field names and field paths: `a.b`, and with quotes `` a.`b-c` ``.

The syntax: https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#document (`fields`).
The limits: https://firebase.google.com/docs/firestore/quotas#collections_documents_and_fields
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import grpc

from emulator.errors import RpcError

FieldPath = tuple[str, ...]

# A document's own name, in queries and masks.
NAME: FieldPath = ("__name__",)

MAX_FIELD_NAME_BYTES = 1_500
MAX_FIELD_PATH_BYTES = 1_500

_SEGMENT = re.compile(r"([A-Za-z_][A-Za-z_0-9]*)|`((?:[^`\\]|\\.)+)`", re.DOTALL)
_SIMPLE = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_SPECIAL = re.compile(r"[`\\]")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_RESERVED = re.compile(r"__.*__", re.DOTALL)


@lru_cache(maxsize=65_536)
def parse_field_path(path: str) -> FieldPath:
    """The names along a path. INVALID_ARGUMENT if it is none, or leads to what cannot be; NAME is allowed."""
    names: list[str] = []
    position = 0
    while True:
        segment = _SEGMENT.match(path, position)
        if segment is None:
            raise _invalid_path(path, f"At position {position}, a name is expected")
        simple, quoted = segment.groups()
        names.append(simple if quoted is None else _ESCAPED.sub(r"\1", quoted))
        position = segment.end()
        if position == len(path):
            break
        if path[position] != ".":
            raise _invalid_path(path, f"At position {position}, a dot is expected")
        position += 1
    if len(".".join(names).encode()) > MAX_FIELD_PATH_BYTES:
        raise _invalid_path(path[:100] + "...", f"It has more than {MAX_FIELD_PATH_BYTES} bytes")
    if tuple(names) != NAME:
        for name in names:
            fault = field_name_fault(name)
            if fault:
                raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, f"Invalid field path {path!r}: a field name {fault}.")
    return tuple(names)


def format_field_path(path: FieldPath) -> str:
    """The path as `parse_field_path` reads it."""
    return ".".join(name if _SIMPLE.fullmatch(name) else "`" + _SPECIAL.sub(r"\\\g<0>", name) + "`" for name in path)


def parse_writable_path(path: str) -> FieldPath:
    """Like `parse_field_path`, of a field that a write may change."""
    names = parse_field_path(path)
    if names == NAME:
        raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, "The field name '__name__' is reserved: it cannot be written.")
    return names


@lru_cache(maxsize=65_536)
def field_name_fault(name: str) -> str | None:
    """Why a field may not have this name; None if it may."""
    if not name:
        return "must not be empty"
    if len(name) > MAX_FIELD_NAME_BYTES // 4 and len(name.encode()) > MAX_FIELD_NAME_BYTES:
        return f"must not have more than {MAX_FIELD_NAME_BYTES} bytes"
    if _RESERVED.fullmatch(name):
        return f"of the form '__.*__' is reserved: {name!r}"
    return None


def get_field(fields: Any, path: FieldPath) -> Any | None:
    """The Value at a path below a map of fields; None if there is none."""
    if len(path) == 1:  # most are; queries do this for every candidate
        return fields.get(path[0])
    for name in path[:-1]:
        value = fields.get(name)
        if value is None or not _is_map(value):
            return None
        fields = value.map_value.fields
    return fields.get(path[-1])


def set_field(fields: Any, path: FieldPath, value: Any) -> Any:
    """Copy a Value to a path, making maps of what is missing or no map on the way there. Returns the copy."""
    for name in path[:-1]:
        step = fields[name]
        if not _is_map(step):
            step.Clear()
            step.map_value.SetInParent()
        fields = step.map_value.fields
    target = fields[path[-1]]
    target.CopyFrom(value)
    return target


def delete_field(fields: Any, path: FieldPath) -> None:
    """Delete what is at a path, if anything is."""
    for name in path[:-1]:
        step = fields.get(name)
        if step is None or not _is_map(step):
            return
        fields = step.map_value.fields
    if path[-1] in fields:
        del fields[path[-1]]


def _is_map(value: Any) -> bool:
    """A vector is stored as a map with a reserved key, but is none: no path leads into it."""
    return value.HasField("map_value") and "__type__" not in value.map_value.fields


def _invalid_path(path: str, reason: str) -> RpcError:
    return RpcError(
        grpc.StatusCode.INVALID_ARGUMENT,
        f"Invalid field path {path!r}: {reason}. A path consists of names separated by dots; a name that is not of the "
        "form [a-zA-Z_][a-zA-Z_0-9]* stands between backticks.",
    )
