"""Indexes of one field of a collection's documents, so that a query need not look at all of them.

`StringIndex` finds the documents whose field is a string, `OrderedIndex` those whose field lies in a range, and in its
order. They are made when they are first asked for. They know the documents that have a value in any version that is
kept, for the present and the past, so that what they name must still be tested; what they leave out need not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sortedcontainers import SortedList

from emulator.paths import NAME, FieldPath, get_field
from emulator.values import SortKey, name_key, sort_key


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The keys of a field from `low` to `high`, both included; None is no bound.

    A key is that of `values.sort_key`; of the name, `NAME`, it is the id within the collection.
    """

    path: FieldPath
    low: SortKey | None = None
    high: SortKey | None = None


class OrderedIndex:
    """Documents in the order of a field, or of their names."""

    __slots__ = ("_entries", "_path")

    def __init__(self, path: FieldPath) -> None:
        self._path = path
        self._entries: Any = SortedList()  # of pairs of key and name

    def key(self, document: Any) -> SortKey | None:
        """The document's key here; None if it lacks the field."""
        if self._path == NAME:
            return name_key(document.name)[-1:]
        value = get_field(document.fields, self._path)
        return None if value is None else sort_key(value)

    def count(self, within: KeyRange) -> int:
        """How many pairs `entries` gives."""
        first = 0 if within.low is None else self._entries.bisect_left((within.low,))
        end = len(self._entries) if within.high is None else self._entries.bisect_left(_after(within.high))
        return max(0, end - first)

    def entries(self, within: KeyRange, descending: bool = False) -> Iterator[tuple[SortKey, str]]:
        """Keys, in their order, each with a document that has it, or had it lately."""
        low = None if within.low is None else (within.low,)
        high = None if within.high is None else _after(within.high)
        found: Iterator[tuple[SortKey, str]] = self._entries.irange(low, high, reverse=descending)
        return found

    def add(self, name: str, document: Any) -> None:
        """Take note of a version of a document."""
        key = None if document is None else self.key(document)
        if key is not None and (key, name) not in self._entries:
            self._entries.add((key, name))

    def discard(self, name: str, dropped: Iterable[Any], kept: Iterable[Any]) -> None:
        """Forget versions of a document, of which others are kept."""
        still = {self.key(document) for document in kept if document is not None}
        for key in {self.key(document) for document in dropped if document is not None} - still:
            if key is not None:
                self._entries.discard((key, name))


def _after(key: SortKey) -> tuple[SortKey, str]:
    """What lies after all entries with this key: no name begins with so great a character."""
    return key, "\U0010ffff"


class StringIndex:
    """The names of documents by the string in a top-level field."""

    __slots__ = ("_field", "_names")

    def __init__(self, field: str) -> None:
        self._field = field
        self._names: dict[str, dict[str, None]] = {}

    def names(self, string: str) -> Iterable[str]:
        """The documents that have this string there, or had it lately."""
        return self._names.get(string, {})

    def count(self, string: str) -> int:
        """How many `names` gives."""
        return len(self._names.get(string, ()))

    def add(self, name: str, document: Any) -> None:
        """Take note of a version of a document."""
        string = self._string(document)
        if string is not None:
            self._names.setdefault(string, {})[name] = None

    def discard(self, name: str, dropped: Iterable[Any], kept: Iterable[Any]) -> None:
        """Forget versions of a document, of which others are kept."""
        strings = set(map(self._string, dropped)).difference(map(self._string, kept))
        for string in strings:
            if string is not None:
                names = self._names[string]
                names.pop(name, None)
                if not names:
                    del self._names[string]

    def _string(self, document: Any | None) -> str | None:
        if document is None or self._field not in document.fields:
            return None
        value = document.fields[self._field]
        return value.string_value if value.WhichOneof("value_type") == "string_value" else None


def string_equalities(structured_query: Any) -> list[tuple[str, str]]:
    """The fields, with the string that each must have, of a query's documents."""
    equalities: list[tuple[str, str]] = []
    to_visit = [structured_query.where]
    while to_visit:
        each = to_visit.pop()
        kind = each.WhichOneof("filter_type")
        if kind == "composite_filter" and each.composite_filter.op == 1:  # AND
            to_visit.extend(each.composite_filter.filters)
        elif kind == "field_filter" and each.field_filter.op == 5:  # EQUAL
            path, value = each.field_filter.field.field_path, each.field_filter.value
            if path.isidentifier() and value.WhichOneof("value_type") == "string_value":
                equalities.append((path, value.string_value))
    return equalities
