"""An index of the strings in one field of a collection's documents, so that `field == "string"` need not look at all.

It is made when it is first asked for. It knows the documents that have the string in any version that is kept, for
the present and the past, so that what it names must still be tested; what it leaves out need not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


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
