"""What a document takes in Firestore, by its published rules; shares nothing with the product's estimate.

Source: https://firebase.google.com/docs/firestore/storage-size
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from balance.database.firestore import Sentinel

MAX_DOCUMENT_BYTES = 1_048_576


def document_bytes(path: str, fields: Mapping[str, Any]) -> int:
    """A document's size: its name, its fields and 32 bytes."""
    return 16 + sum(_string(segment) for segment in path.split("/")) + _fields(fields) + 32


def _fields(fields: Mapping[str, Any]) -> int:
    return sum(_string(name) + _value(value) for name, value in fields.items())


def _string(text: str) -> int:
    return len(text.encode()) + 1


def _value(value: Any) -> int:
    match value:
        case None | bool():
            return 1
        case int() | float() | datetime() | Sentinel():  # the server fills in a time
            return 8
        case str():
            return _string(value)
        case Mapping():
            return 32 + _fields(value)
        case list():
            return sum(map(_value, value))
        case _:
            raise TypeError(value)
