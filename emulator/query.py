"""Queries over candidate documents. (First version.)"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.cloud.firestore_v1.types import Document as _Document
from google.cloud.firestore_v1.types import Value as _Value

from emulator.values import get_field, parse_field_path, sort_key

_DocumentPb = _Document.pb()
_ValuePb = _Value.pb()


def project(document: Any, paths: Any) -> Any:
    from emulator.writes import _assign

    projected = _DocumentPb(name=document.name, create_time=document.create_time, update_time=document.update_time)
    for path in paths:
        if path != "__name__":
            segments = parse_field_path(path)
            value = get_field(document.fields, segments)
            if value is not None:
                _assign(projected, segments, value)
    return projected


def _read(document: Any, path: str) -> Any:
    if path == "__name__":
        return _ValuePb(reference_value=document.name)
    return get_field(document.fields, parse_field_path(path))


class PreparedQuery:
    def __init__(self, parent: str, query: Any) -> None:
        self.parent = parent
        selector = query.from_[0]
        self.collection_id = selector.collection_id
        self.all_descendants = selector.all_descendants
        self._query = query
        self._orders = [(order.field.field_path, order.direction == 2) for order in query.order_by]
        if not self._orders:
            self._orders = [(path, False) for path in sorted(self._inequalities(query.where))]
        if "__name__" not in [path for path, _ in self._orders]:
            self._orders.append(("__name__", self._orders[-1][1] if self._orders else False))

    def _inequalities(self, where: Any) -> set[str]:
        kind = where.WhichOneof("filter_type")
        if kind == "composite_filter":
            return {path for inner in where.composite_filter.filters for path in self._inequalities(inner)}
        if kind == "field_filter" and where.field_filter.op in (1, 2, 3, 4, 6, 10):
            return {where.field_filter.field.field_path}
        return set()

    def _matches(self, where: Any, document: Any) -> bool:
        kind = where.WhichOneof("filter_type")
        if kind is None:
            return True
        if kind == "composite_filter":
            found = (self._matches(inner, document) for inner in where.composite_filter.filters)
            return all(found) if where.composite_filter.op == 1 else any(found)
        if kind == "unary_filter":
            value = _read(document, where.unary_filter.field.field_path)
            if value is None:
                return False
            is_null = value.WhichOneof("value_type") in (None, "null_value")
            is_nan = value.WhichOneof("value_type") == "double_value" and value.double_value != value.double_value
            return {2: is_nan, 3: is_null, 4: not is_nan, 5: not is_null}[where.unary_filter.op]
        condition = where.field_filter
        value = _read(document, condition.field.field_path)
        if value is None:
            return False
        key, wanted, op = sort_key(value), sort_key(condition.value), condition.op
        if op == 5:
            return key == wanted
        if op == 6:
            return key != wanted and key[0] != 0
        if op in (1, 2, 3, 4):
            same = key[0] == wanted[0]
            return same and {1: key < wanted, 2: key <= wanted, 3: key > wanted, 4: key >= wanted}[op]
        if op == 7:
            return key[0] == 8 and wanted in key[1]
        if op == 8:
            return key in wanted[1]
        if op == 9:
            return key[0] == 8 and any(item in key[1] for item in wanted[1])
        return key not in wanted[1] and key[0] != 0

    def run(self, candidates: Iterable[Any]) -> list[Any]:
        found = [document for document in candidates if self._matches(self._query.where, document)]
        found = [d for d in found if all(_read(d, path) is not None for path, _ in self._orders)]
        for path, descending in reversed(self._orders):
            found.sort(key=lambda document, path=path: sort_key(_read(document, path)), reverse=descending)  # type: ignore[misc]
        if self._query.HasField("start_at"):
            found = [d for d in found if (c := self._compare(d, self._query.start_at)) > 0 or (c == 0 and self._query.start_at.before)]
        if self._query.HasField("end_at"):
            found = [d for d in found if (c := self._compare(d, self._query.end_at)) < 0 or (c == 0 and not self._query.end_at.before)]
        found = found[self._query.offset :]
        return found[: self._query.limit.value] if self._query.HasField("limit") else found

    def _compare(self, document: Any, cursor: Any) -> int:
        for value, (path, descending) in zip(cursor.values, self._orders, strict=False):
            key, wanted = sort_key(_read(document, path)), sort_key(value)
            if key != wanted:
                return 1 if (key > wanted) != descending else -1
        return 0

    def project(self, document: Any) -> Any:
        if not self._query.HasField("select"):
            return document
        return project(document, [field.field_path for field in self._query.select.fields])
