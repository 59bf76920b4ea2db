"""What a structured query finds among documents.

Pure: a query is checked and compiled once, to closures that read no more of a document than they need; then it can be
run over candidates as often as one likes.

Semantics: https://firebase.google.com/docs/firestore/query-data/queries and .../order-limit-data, .../query-cursors,
and the comments on https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#structuredquery
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import grpc
from google.cloud.firestore_v1.types import Document, StructuredQuery, Value

from emulator.errors import RpcError
from emulator.index import KeyRange, string_equalities
from emulator.paths import NAME, FieldPath, format_field_path, get_field, parse_field_path, set_field
from emulator.values import ARRAY, NAN_KEY, NULL_KEY, REFERENCE, SortKey, id_key, name_key, sort_key

# https://firebase.google.com/docs/firestore/query-data/queries#query_limitations
MAX_DISJUNCTIONS = 30
MAX_NOT_IN_VALUES = 10
MAX_FILTERS_AND_ORDERS = 100
# https://firebase.google.com/docs/firestore/query-data/multiple-range-fields#limitations
MAX_INEQUALITY_FIELDS = 10

Test = Callable[[Any], bool]

_Document = Document.pb()
_Value = Value.pb()
_Op = StructuredQuery.FieldFilter.Operator
_Unary = StructuredQuery.UnaryFilter.Operator
_AND = StructuredQuery.CompositeFilter.Operator.AND.value
_OR = StructuredQuery.CompositeFilter.Operator.OR.value
_DESCENDING = StructuredQuery.Direction.DESCENDING.value

_OPS = {op.value for op in _Op} - {_Op.OPERATOR_UNSPECIFIED.value}
# As comparisons, the unary filters are these.
_UNARY = {
    _Unary.IS_NULL.value: (_Op.EQUAL.value, _Value(null_value=0)),
    _Unary.IS_NAN.value: (_Op.EQUAL.value, _Value(double_value=float("nan"))),
    _Unary.IS_NOT_NULL.value: (_Op.NOT_EQUAL.value, _Value(null_value=0)),
    _Unary.IS_NOT_NAN.value: (_Op.NOT_EQUAL.value, _Value(double_value=float("nan"))),
}
_RANGES: dict[int, Callable[[Any, Any], bool]] = {
    _Op.LESS_THAN.value: operator.lt,
    _Op.LESS_THAN_OR_EQUAL.value: operator.le,
    _Op.GREATER_THAN.value: operator.gt,
    _Op.GREATER_THAN_OR_EQUAL.value: operator.ge,
}
_NEGATIONS = {_Op.NOT_EQUAL.value, _Op.NOT_IN.value}
_INEQUALITIES = _NEGATIONS.union(_RANGES)
_DISJUNCTIVE = {_Op.IN.value, _Op.ARRAY_CONTAINS_ANY.value}
_WITH_LISTS = _DISJUNCTIVE | {_Op.NOT_IN.value}
_BOUNDING = {_Op.EQUAL.value, *_RANGES}
_EQUALITIES = {_Op.EQUAL.value, _Op.IN.value}
_OF_ARRAYS = {_Op.ARRAY_CONTAINS.value, _Op.ARRAY_CONTAINS_ANY.value}


@dataclass(frozen=True, slots=True)
class _Condition:
    """One comparison of a field with a value."""

    path: FieldPath
    op: int
    value: Any

    @property
    def alternatives(self) -> int:
        """How many equalities it is short for."""
        return len(self.value.array_value.values) if self.op in _DISJUNCTIVE else 1


@dataclass(frozen=True, slots=True)
class _Junction:
    """All, or any, of the inner ones."""

    is_or: bool
    inner: tuple[_Condition | _Junction, ...]


@dataclass(frozen=True, slots=True)
class _Order:
    path: FieldPath
    descending: bool


@dataclass(frozen=True, slots=True)
class IndexNeed:
    """What the indexes for one disjunction of a query must have."""

    equalities: frozenset[FieldPath]
    contains: frozenset[FieldPath]
    orders: tuple[tuple[FieldPath, bool], ...]
    """The other fields it is ordered by, and whether in descending order."""
    name_descending: bool


class PreparedQuery:
    """A query that was checked: which documents it is about, which of them it finds, what it shows of them.

    parent: the name of the document, or the root, below which it looks.
    collection_id: of the collections it looks into; empty for all.
    all_descendants: whether it looks into collections at any depth, not only into those directly below the parent.
    equalities: top-level fields, and the string that each must have, if an index of that helps to find candidates.
    """

    def __init__(self, parent: str, query: Any, aggregated: Sequence[FieldPath] = ()) -> None:
        """Check and compile a `StructuredQuery`. Raises INVALID_ARGUMENT, and UNIMPLEMENTED for vector search.

        Fields that are summed up are read from the index that the query is answered from. So they are in its order, behind
        what is said of it, and documents that lack one are not found. See README.md, "What it was held against".
        """
        self.parent = parent
        if query.HasField("find_nearest"):
            raise RpcError(grpc.StatusCode.UNIMPLEMENTED, "find_nearest is not implemented here.")
        if len(query.from_) != 1:
            raise _invalid(f"from: give exactly one collection selector, not {len(query.from_)}.")
        self.collection_id: str = query.from_[0].collection_id
        self.all_descendants: bool = query.from_[0].all_descendants
        where = _filter(query.where) if query.HasField("where") else None
        orders = [_order(each) for each in query.order_by]
        if where is not None:
            _check_filters(where, len(orders), is_subcollection=parent.count("/") > 4)
        _check_descendants(query.from_[0], orders, where, is_below_document=parent.count("/") > 4)
        self._where = where
        self._matches = _compiled(where) if where is not None else None
        self._orders = _full_orders(orders, where, aggregated)
        is_by_name = NAME in (order.path for order in orders) or (self.all_descendants and parent.count("/") > 4)
        if is_by_name or not self.collection_id:
            _check_aggregated(aggregated, orders)
        self._start = _cursor(query.start_at, "start_at", orders) if query.HasField("start_at") else None
        self._end = _cursor(query.end_at, "end_at", orders) if query.HasField("end_at") else None
        if query.offset < 0:
            raise _invalid("offset: must not be negative.")
        self._offset: int = query.offset
        self._limit: int | None = query.limit.value if query.HasField("limit") else None
        if self._limit is not None and self._limit < 0:
            raise _invalid("limit: must not be negative.")
        # "If empty, all fields are returned."
        self._selected = [parse_field_path(field.field_path) for field in query.select.fields]
        self.equalities = string_equalities(query)
        # Whoever found that it has the indexes that this query needs, so that nobody looks again.
        self.served_by: object | None = None

    def with_value(self, value: Any) -> PreparedQuery:
        """The same query with another value, of the same type, in its one comparison, a range. Nothing is checked again."""
        assert isinstance(self._where, _Condition)
        assert self._where.op in _RANGES
        other = copy(self)
        other._where = replace(self._where, value=value)
        other._matches = _compiled(other._where)
        return other

    def run(self, candidates: Iterable[Any]) -> list[Any]:
        """Those of the documents of its collections that the query finds, in its order; whole ones."""
        if self._matches is not None:
            candidates = filter(self._matches, candidates)
        keyed = list(self._keyed(candidates))
        if len(keyed) > 1:
            _sort(keyed, self._orders)
        found = [
            document for _, document in keyed[self._bound(keyed, self._start, 0) : self._bound(keyed, self._end, len(keyed))]
        ]
        return found[self._offset : None if self._limit is None else self._offset + self._limit]

    @property
    def first_order(self) -> tuple[FieldPath, bool]:
        """The field, or NAME, by which it orders first, and whether in descending order."""
        return self._orders[0].path, self._orders[0].descending

    @property
    def enough(self) -> int | None:
        """How many of those that match it needs at most; None for all."""
        return None if self._limit is None else self._offset + self._limit

    def ranges(self, collection: str) -> dict[FieldPath, KeyRange]:
        """Of fields that documents of a collection must have to be found: the keys between which these must lie."""
        found: dict[FieldPath, KeyRange] = {}
        for path, low, high in (*_bounds(self._where), *self._cursor_bounds()):
            if path == NAME:
                low, high = _key_within(low, collection), _key_within(high, collection)
            known = found.get(path, KeyRange(path))
            lows = [key for key in (known.low, low) if key is not None]
            highs = [key for key in (known.high, high) if key is not None]
            found[path] = KeyRange(path, max(lows, default=None), min(highs, default=None))
        return found

    def _cursor_bounds(self) -> Iterator[tuple[FieldPath, SortKey | None, SortKey | None]]:
        order = self._orders[0]
        start = self._start.keys[0] if self._start is not None and self._start.keys else None
        end = self._end.keys[0] if self._end is not None and self._end.keys else None
        yield (order.path, end, start) if order.descending else (order.path, start, end)

    def index_needs(self) -> Iterator[IndexNeed]:
        """What it needs of indexes, for each of its disjunctions."""
        for conjunction in _normal_form(self._where) if self._where is not None else [()]:
            fields = [condition for condition in conjunction if condition.path != NAME]
            equalities = frozenset(condition.path for condition in fields if condition.op in _EQUALITIES)
            orders = [(order.path, order.descending) for order in self._orders if order.path not in equalities]
            yield IndexNeed(
                equalities,
                frozenset(condition.path for condition in fields if condition.op in _OF_ARRAYS),
                tuple(orders[:-1]),
                orders[-1][1],
            )

    @property
    def is_window(self) -> bool:
        """Whether it finds only some of those that match, by their places in the order."""
        return self._limit is not None or self._offset > 0

    @property
    def is_projected(self) -> bool:
        """Whether it returns parts of documents only."""
        return bool(self._selected)

    def matches(self, document: Any) -> bool:
        """Whether it would find this document of its collections, were there no offset and no limit."""
        if self._matches is not None and not self._matches(document):
            return False
        for keys, _ in self._keyed([document]):
            after_start = self._start is None or not self._start.is_after(keys, self._orders)
            return after_start and (self._end is None or self._end.is_after(keys, self._orders))
        return False  # it lacks a field to order by

    def project(self, document: Any) -> Any:
        """What the query returns of a document."""
        return _masked(document, self._selected) if self._selected else document

    def _keyed(self, documents: Iterable[Any]) -> Iterator[tuple[tuple[Any, ...], Any]]:
        """Documents with the keys of the fields to order by; only those that have them all."""
        paths = [order.path for order in self._orders if order.path != NAME]
        # Within one collection, only the last ids differ.
        spans_collections = self.all_descendants or not self.collection_id
        full_names = spans_collections or self._start is not None or self._end is not None
        for document in documents:
            fields = document.fields
            values = [get_field(fields, path) for path in paths]
            if all(value is not None for value in values):
                name = document.name
                yield (*map(sort_key, values), name_key(name) if full_names else id_key(name)), document

    def _bound(self, keyed: Sequence[tuple[tuple[Any, ...], Any]], cursor: _Cursor | None, default: int) -> int:
        """How many of the ordered documents lie before a cursor."""
        if cursor is None:
            return default
        low, high = 0, len(keyed)
        while low < high:
            middle = (low + high) // 2
            if cursor.is_after(keyed[middle][0], self._orders):
                low = middle + 1
            else:
                high = middle
        return low


@dataclass(frozen=True, slots=True)
class _Cursor:
    """A position between documents: before or after those whose keys begin with these."""

    keys: tuple[Any, ...]
    before: bool

    def is_after(self, keys: tuple[Any, ...], orders: Sequence[_Order]) -> bool:
        for own, other, order in zip(self.keys, keys, orders, strict=False):
            if own != other:
                return bool(own < other if order.descending else own > other)
        return not self.before


def project(document: Any, field_paths: Iterable[str]) -> Any:
    """What a `DocumentMask` leaves of a document. INVALID_ARGUMENT if it has a path that is none."""
    return _masked(document, [parse_field_path(path) for path in field_paths])


def _masked(document: Any, paths: Iterable[FieldPath]) -> Any:
    masked = _Document(name=document.name, create_time=document.create_time, update_time=document.update_time)
    for path in paths:
        value = get_field(document.fields, path)
        if value is not None:
            set_field(masked.fields, path, value)
    return masked


# Checking


def _filter(message: Any) -> _Condition | _Junction:
    kind = message.WhichOneof("filter_type")
    if kind == "composite_filter":
        composite = message.composite_filter
        if composite.op not in (_AND, _OR):
            raise _invalid("where: a composite filter needs an operator.")
        if not composite.filters:
            raise _invalid("where: a composite filter needs at least one filter.")
        return _Junction(composite.op == _OR, tuple(map(_filter, composite.filters)))
    if kind == "field_filter":
        return _condition(message.field_filter)
    if kind == "unary_filter":
        unary = message.unary_filter
        path = parse_field_path(unary.field.field_path)
        if unary.op not in _UNARY:
            raise _invalid(f"where: the unary filter on {unary.field.field_path!r} needs an operator.")
        if path == NAME:
            raise _invalid("where: '__name__' is neither null nor NaN; there is nothing to ask.")
        return _Condition(path, *_UNARY[unary.op])
    raise _invalid("where: a filter must be a composite, a field or a unary filter.")


def _condition(field_filter: Any) -> _Condition:
    path, op, value = parse_field_path(field_filter.field.field_path), field_filter.op, field_filter.value
    said = f"where: the filter on {field_filter.field.field_path!r}"
    if op not in _OPS:
        raise _invalid(f"{said} needs an operator.")
    if value.WhichOneof("value_type") is None:
        raise _invalid(f"{said} needs a value.")
    if op in _WITH_LISTS and not value.array_value.values:
        raise _invalid(f"{said}: {_Op(op).name} needs an array of one value at least.")
    if op == _Op.NOT_IN.value and len(value.array_value.values) > MAX_NOT_IN_VALUES:
        raise _invalid(f"{said}: NOT_IN takes {MAX_NOT_IN_VALUES} values at most, not {len(value.array_value.values)}.")
    if path == NAME:
        if op in _OF_ARRAYS:
            raise _invalid(f"{said}: {_Op(op).name} cannot be, a name is no array.")
        for each in value.array_value.values if op in _WITH_LISTS else [value]:
            _check_name(each, said)
    return _Condition(path, op, value)


def _check_name(value: Any, said: str) -> None:
    name = value.reference_value
    if "/documents/" not in name or name.count("/") % 2 or "//" in name or name.endswith("/"):
        raise _invalid(f"{said}: '__name__' is to be compared with a reference to a document.")


def _order(order: Any) -> _Order:
    return _Order(parse_field_path(order.field.field_path), order.direction == _DESCENDING)


def _conditions(where: _Condition | _Junction) -> Iterator[_Condition]:
    if isinstance(where, _Condition):
        yield where
    else:
        for inner in where.inner:
            yield from _conditions(inner)


def _disjunctions(where: _Condition | _Junction) -> int:
    """How many disjunctions the disjunctive normal form has."""
    if isinstance(where, _Condition):
        return where.alternatives
    counts = map(_disjunctions, where.inner)
    return sum(counts) if where.is_or else prod(counts)


def _normal_form(where: _Condition | _Junction) -> list[tuple[_Condition, ...]]:
    """The disjunctive normal form, except that a list stands for its alternatives."""
    if isinstance(where, _Condition):
        return [(where,)]
    groups = [_normal_form(inner) for inner in where.inner]
    if where.is_or:
        return [conjunction for group in groups for conjunction in group]
    product: list[tuple[_Condition, ...]] = [()]
    for group in groups:
        product = [(*left, *right) for left in product for right in group]
    return product


def _check_filters(where: _Condition | _Junction, orders: int, is_subcollection: bool) -> None:
    disjunctions = _disjunctions(where)
    if disjunctions > MAX_DISJUNCTIONS:
        raise _invalid(
            f"where: {disjunctions} disjunctions in disjunctive normal form are too many; {MAX_DISJUNCTIONS} are allowed."
        )
    conditions = list(_conditions(where))
    negations = [condition for condition in conditions if condition.op in _NEGATIONS]
    if len(negations) > 1:
        raise _invalid("where: only one of NOT_EQUAL, NOT_IN, IS_NOT_NULL and IS_NOT_NAN may be in a query.")
    if any(condition.op == _Op.NOT_IN.value for condition in negations) and (
        _has_or(where) or any(condition.op in _DISJUNCTIVE for condition in conditions)
    ):
        raise _invalid("where: NOT_IN cannot be combined with OR, IN or ARRAY_CONTAINS_ANY.")
    normal_form = _normal_form(where)
    for conjunction in normal_form:
        if sum(condition.op in _OF_ARRAYS for condition in conjunction) > 1:
            raise _invalid("A maximum of 1 'ARRAY_CONTAINS' filter is allowed per disjunction.")  # production's words
    filters = sum(len(each) * prod(condition.alternatives for condition in each) for each in normal_form)
    if filters + orders + is_subcollection > MAX_FILTERS_AND_ORDERS:
        raise _invalid(
            f"where: {filters} filters in disjunctive normal form with {orders} orders"
            f"{' of a subcollection' if is_subcollection else ''} are too many; {MAX_FILTERS_AND_ORDERS} are allowed in all."
        )


def _bounds(where: _Condition | _Junction | None) -> Iterator[tuple[FieldPath, SortKey | None, SortKey | None]]:
    """Fields, each with a lower and an upper bound that all documents keep to; not every condition sets one."""
    if isinstance(where, _Junction):
        if not where.is_or or len(where.inner) == 1:
            for inner in where.inner:
                yield from _bounds(inner)
    elif where is not None and where.op in _BOUNDING:
        key: SortKey = name_key(where.value.reference_value) if where.path == NAME else sort_key(where.value)
        least: SortKey | None = key
        most: SortKey | None = key
        if where.op in (_Op.LESS_THAN.value, _Op.LESS_THAN_OR_EQUAL.value):
            least = None if where.path == NAME else key[:1]
        elif where.op != _Op.EQUAL.value:
            most = None if where.path == NAME else (key[0] + 1,)
        yield where.path, least, most


def _key_within(key: SortKey | None, collection: str) -> SortKey | None:
    """Of the key of a name: that of the id, if the name is one of this collection, so that it is a bound there."""
    return key[-1:] if key is not None and key[:-1] == name_key(collection) else None


def _check_descendants(
    selector: Any, orders: Sequence[_Order], where: _Condition | _Junction | None, *, is_below_document: bool
) -> None:
    """Refuse what no index of production serves, in production's words: see README.md, "What it was held against"."""
    filtered = [condition.path for condition in _conditions(where) if condition.path != NAME] if where is not None else []
    ordered = [order.path for order in orders if order.path != NAME]
    is_backwards = any(order.descending for order in orders)
    if selector.all_descendants and is_below_document and (filtered or ordered):
        raise _invalid("collection group queries are only allowed at the root parent")
    if not selector.collection_id:
        if filtered:
            raise _invalid(f"kind is required for filter: {'.'.join(filtered[0])}")
        if ordered or is_backwards:
            raise _invalid("kind is required for all orders except __key__ ascending")
    elif selector.all_descendants and is_below_document and is_backwards:
        raise RpcError(grpc.StatusCode.FAILED_PRECONDITION, "The query requires an index. There is none that could serve it.")


def _check_aggregated(aggregated: Sequence[FieldPath], orders: Sequence[_Order]) -> None:
    """Refuse to sum up fields that are not in the order, where documents are found by their names; in production's words."""
    ordered = {order.path for order in orders}
    others = [format_field_path(path) for path in dict.fromkeys(aggregated) if path not in ordered]
    if others:
        raise _invalid(
            f"This query requires an index with fields [{', '.join(others)}] after __name__ and Firestore does not currently"
            " support such an index. Please try the query again with additional ordering on those fields."
        )


def _has_or(where: _Condition | _Junction) -> bool:
    return isinstance(where, _Junction) and ((where.is_or and len(where.inner) > 1) or any(map(_has_or, where.inner)))


def _full_orders(
    orders: Sequence[_Order], where: _Condition | _Junction | None, aggregated: Sequence[FieldPath] = ()
) -> list[_Order]:
    """The orders, with those that are implied: by inequalities, by their paths; by what is summed up; and by name."""
    ordered = [order.path for order in orders]
    for path in ordered:
        if ordered.count(path) > 1:
            raise _invalid(f"order_by: {'.'.join(path)!r} is there twice.")
    unequal = {condition.path for condition in _conditions(where) if condition.op in _INEQUALITIES} if where else set()
    if len(unequal) > MAX_INEQUALITY_FIELDS:
        raise _invalid(f"where: inequalities on {len(unequal)} fields are too many; {MAX_INEQUALITY_FIELDS} are allowed.")
    descending = bool(orders) and orders[-1].descending
    implied = [_Order(path, descending) for path in sorted(unequal.difference(ordered, [NAME]))]
    full = [*orders, *implied]
    if NAME in ordered:
        if full[-1].path != NAME:
            raise _invalid(
                f"order_by: nothing can be ordered after '__name__', but {'.'.join(full[ordered.index(NAME) + 1].path)!r} is."
            )
        return full
    known = {order.path for order in full}
    summed = [_Order(path, descending) for path in dict.fromkeys(aggregated) if path not in known]
    return [*full, *summed, _Order(NAME, descending)]


def _cursor(cursor: Any, which: str, orders: Sequence[_Order]) -> _Cursor:
    if len(cursor.values) > len(orders):
        raise _invalid(f"{which}: a cursor of {len(cursor.values)} values needs as many order_by, there are {len(orders)}.")
    keys: list[Any] = []
    for value, order in zip(cursor.values, orders, strict=False):
        if order.path == NAME:
            _check_name(value, which)
            keys.append(name_key(value.reference_value))
        else:
            keys.append(sort_key(value))
    return _Cursor(tuple(keys), cursor.before)


# Compiling


def _compiled(where: _Condition | _Junction) -> Test:
    if isinstance(where, _Condition):
        return _name_test(where) if where.path == NAME else _field_test(where)
    tests = [_compiled(inner) for inner in where.inner]
    if len(tests) == 1:
        return tests[0]
    if where.is_or:
        return lambda document: any(test(document) for test in tests)
    return lambda document: all(test(document) for test in tests)


def _name_test(condition: _Condition) -> Test:
    test = _key_test(condition)
    return lambda document: test((REFERENCE, name_key(document.name)))


def _field_test(condition: _Condition) -> Test:
    path = condition.path
    if condition.op == _Op.EQUAL.value and condition.value.string_value:
        # The most frequent kind, without a key. The string of a Value that is none is empty.
        string = condition.value.string_value

        def has_string(document: Any) -> bool:
            value = get_field(document.fields, path)
            return value is not None and value.string_value == string

        return has_string
    test = _key_test(condition)

    def has_value(document: Any) -> bool:
        value = get_field(document.fields, path)
        return value is not None and test(sort_key(value))

    return has_value


def _key_test(condition: _Condition) -> Callable[[SortKey], bool]:
    """The test of a condition, on the key of the field's value. A field that is missing passes none."""
    op = condition.op
    if op in _WITH_LISTS:
        return _list_test(op, [sort_key(value) for value in condition.value.array_value.values])
    wanted = sort_key(condition.value)
    if op == _Op.EQUAL.value:
        return lambda key: key == wanted
    if op == _Op.NOT_EQUAL.value:
        return lambda key: key not in (wanted, NULL_KEY)
    if op == _Op.ARRAY_CONTAINS.value:
        return _list_test(_Op.ARRAY_CONTAINS_ANY.value, [wanted])
    compare, rank = _RANGES[op], wanted[0]
    # NaN is in the order of numbers, before all others, but in no range.
    return lambda key: key[0] == rank and compare(key, wanted) and key != NAN_KEY


def _list_test(op: int, keys: Iterable[SortKey]) -> Callable[[SortKey], bool]:
    listed = frozenset(keys)
    if op == _Op.NOT_IN.value:
        if NULL_KEY in listed:  # nothing is known to differ from null
            return lambda key: False
        return lambda key: key != NULL_KEY and key not in listed
    # Production finds neither null nor NaN by these, only by the unary filters.
    wanted = listed - {NULL_KEY, NAN_KEY}
    if op == _Op.IN.value:
        return lambda key: key in wanted
    return lambda key: key[0] == ARRAY and not wanted.isdisjoint(key[1])


def _sort(keyed: list[tuple[tuple[Any, ...], Any]], orders: Sequence[_Order]) -> None:
    directions = {order.descending for order in orders}
    if len(directions) == 1:
        keyed.sort(key=operator.itemgetter(0), reverse=directions.pop())
        return
    for position, order in reversed(list(enumerate(orders))):
        keyed.sort(key=lambda pair, position=position: pair[0][position], reverse=order.descending)  # type: ignore[misc]


def _invalid(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.INVALID_ARGUMENT, message)
