"""Which indexes a query needs, and whether an app's `firestore.indexes.json` has them.

Firestore answers every query from indexes. It makes one for each field by itself, ascending, descending and for
ARRAY_CONTAINS, for queries of one collection; what needs more is refused until the app defines it.

An index holds a list of fields with their directions, and the name last, in the direction of the field before it
unless the index says otherwise. It can serve a query if it begins with some of the fields that must be equal, in any
order, and goes on with exactly the fields the query is ordered by, in their directions; it is not read backwards.
Indexes that differ in their beginning can be merged: together they must have all fields that must be equal. An
inequality is an order, and each disjunction of a query needs indexes of its own.

Sources: https://firebase.google.com/docs/firestore/query-data/index-overview (automatic indexes, exemptions, scopes,
merging), https://firebase.google.com/docs/reference/firestore/indexes (the file). That names in descending order need
an index even alone is reported, not documented: https://github.com/firebase/flutterfire/issues/4398. With fields that
must be equal they may do without in production; here they need one, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from emulator.errors import RpcError
from emulator.paths import NAME, FieldPath, format_field_path, parse_field_path
from emulator.query import IndexNeed, PreparedQuery
from emulator.settable import InvalidField

ASCENDING, DESCENDING, CONTAINS = "ASCENDING", "DESCENDING", "CONTAINS"
COLLECTION, COLLECTION_GROUP = "COLLECTION", "COLLECTION_GROUP"
_SCOPES = (COLLECTION, COLLECTION_GROUP, "COLLECTION_RECURSIVE")
_KINDS = (ASCENDING, DESCENDING, CONTAINS)
# What stands for all collections, and for all fields.
_ANY_COLLECTION, _ANY_FIELD = "__default__", ("*",)


@dataclass(frozen=True, slots=True)
class Index:
    """The fields of an index, each with its kind, without the name; and the direction of the name."""

    fields: tuple[tuple[FieldPath, str], ...]
    name_kind: str


class Indexes:
    """The indexes of an app: those of its file, and those that are made for each field."""

    def __init__(
        self,
        composites: Mapping[tuple[str, str], Sequence[Index]],
        overrides: Mapping[tuple[str, FieldPath], frozenset[tuple[str, str]]],
    ) -> None:
        """`composites` by collection id and scope; `overrides` by collection id and field: the scopes and kinds of the
        field's own indexes, in the place of the automatic ones."""
        self._composites = composites
        self._overrides = overrides

    @classmethod
    def parse(cls, text: str) -> Indexes:
        """Read the text of a `firestore.indexes.json`. Raises InvalidField, which names the fault's place."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise InvalidField("the file", f"it is no JSON: {error}") from None
        if not isinstance(data, dict):
            raise InvalidField("the file", "it must hold an object with 'indexes' and 'fieldOverrides'")
        composites: dict[tuple[str, str], list[Index]] = {}
        for place, each in _objects(data, "indexes", ""):
            key = _text(each, "collectionGroup", place), _choice(each, "queryScope", place, _SCOPES, COLLECTION)
            index = _index(each, place)
            if index is not None:
                composites.setdefault(key, []).append(index)
        overrides: dict[tuple[str, FieldPath], frozenset[tuple[str, str]]] = {}
        for place, each in _objects(data, "fieldOverrides", ""):
            written = _text(each, "fieldPath", place)
            field = _ANY_FIELD if written == "*" else _path(written, f"{place}.fieldPath")
            overrides[_text(each, "collectionGroup", place), field] = frozenset(
                (_choice(index, "queryScope", inner, _SCOPES, COLLECTION), _kind(index, inner))
                for inner, index in _objects(each, "indexes", f"{place}.")
            )
        return cls(composites, overrides)

    def check(self, query: PreparedQuery) -> None:
        """FAILED_PRECONDITION, with the index that is missing, unless there are indexes for the query."""
        if not query.collection_id or query.served_by is self:
            return  # it can be about names only, or was asked before
        scope = COLLECTION_GROUP if query.all_descendants else COLLECTION
        for need in query.index_needs():
            missing = self._missing(query.collection_id, scope, need)
            if missing is not None:
                raise RpcError(grpc.StatusCode.FAILED_PRECONDITION, missing)
        query.served_by = self

    def _missing(self, collection: str, scope: str, need: IndexNeed) -> str | None:
        """What is to be said about the index that is missing; None if none is."""
        orders = tuple((field, DESCENDING if descending else ASCENDING) for field, descending in need.orders)
        name_kind = DESCENDING if need.name_descending else ASCENDING
        wanted = dict.fromkeys(need.equalities, False) | dict.fromkeys(need.contains, True)
        if not wanted and not orders and name_kind == ASCENDING:
            return None  # in the order of names, which is that of the documents
        covered: set[FieldPath] = set()
        is_served = False
        for index in self._candidates(collection, scope, wanted, dict(orders)):
            split = len(index.fields) - len(orders)
            beginning = index.fields[:split]
            if (
                split >= 0
                and index.fields[split:] == orders
                and index.name_kind == name_kind
                and all(field in wanted and wanted[field] == (kind == CONTAINS) for field, kind in beginning)
            ):
                is_served = True
                covered.update(field for field, _ in beginning)
        if is_served and covered.issuperset(wanted):
            return None
        if not orders and name_kind == ASCENDING:  # each field by itself would do
            field = next(field for field in wanted if field not in covered)
            return _said_of_field(collection, scope, field, CONTAINS if wanted[field] else ASCENDING)
        if not wanted and len(orders) == 1 and orders[0][1] == name_kind:
            return _said_of_field(collection, scope, *orders[0])
        fields = [(field, CONTAINS if contains else ASCENDING) for field, contains in sorted(wanted.items())]
        return _said_of_composite(collection, scope, [*fields, *orders], name_kind)

    def _candidates(
        self, collection: str, scope: str, wanted: Mapping[FieldPath, bool], orders: Mapping[FieldPath, str]
    ) -> Iterator[Index]:
        """All indexes that could play a part for these fields."""
        yield from self._composites.get((collection, scope), ())
        for field, contains in wanted.items():
            kind = CONTAINS if contains else ASCENDING
            if (scope, kind) in self._of_field(collection, field):
                yield Index(((field, kind),), ASCENDING)
        for field, kind in orders.items():
            if (scope, kind) in self._of_field(collection, field):
                yield Index(((field, kind),), kind)

    def _of_field(self, collection: str, field: FieldPath) -> frozenset[tuple[str, str]]:
        """The scopes and kinds of a field's own indexes. Fields of a map have those of the map, unless they are named."""
        paths = [field[:length] for length in range(len(field), 0, -1)]
        for key in ((group, path) for group in (collection, _ANY_COLLECTION) for path in (*paths, _ANY_FIELD)):
            if key in self._overrides:
                return self._overrides[key]
        return frozenset((COLLECTION, kind) for kind in _KINDS)


def _said_of_field(collection: str, scope: str, field: FieldPath, kind: str) -> str:
    path = format_field_path(field)
    short = {ASCENDING: "ASC", DESCENDING: "DESC", CONTAINS: "CONTAINS"}[kind]
    index = {**_as_json(kind), "queryScope": scope}
    override = {"collectionGroup": collection, "fieldPath": path, "indexes": [index]}
    return (
        f"The query requires a {scope}_{short} index for collection {collection} and field {path}. "
        f"In the index file it is missing from fieldOverrides: {json.dumps(override)}"
    )


def _said_of_composite(collection: str, scope: str, fields: Sequence[tuple[FieldPath, str]], name_kind: str) -> str:
    listed = [{"fieldPath": format_field_path(field), **_as_json(kind)} for field, kind in fields]
    implied = fields[-1][1] if fields and fields[-1][1] != CONTAINS else ASCENDING
    if name_kind != implied or not fields:
        listed.append({"fieldPath": "__name__", "order": name_kind})
    index = {"collectionGroup": collection, "queryScope": scope, "fields": listed}
    return f"The query requires an index. In the index file it is missing from indexes: {json.dumps(index)}"


def _as_json(kind: str) -> dict[str, str]:
    return {"arrayConfig": CONTAINS} if kind == CONTAINS else {"order": kind}


# Reading


def _index(data: Mapping[str, Any], place: str) -> Index | None:
    """The index; None if it is for vector search, which is not there."""
    fields: list[tuple[FieldPath, str]] = []
    for inner, each in _objects(data, "fields", f"{place}."):
        if "vectorConfig" in each:
            return None
        fields.append((_path(_text(each, "fieldPath", inner), f"{inner}.fieldPath"), _kind(each, inner)))
    if not fields:
        raise InvalidField(f"{place}.fields", "give one field at least")
    if fields[-1][0] == NAME:
        return Index(tuple(fields[:-1]), fields[-1][1])
    last = fields[-1][1]
    return Index(tuple(fields), ASCENDING if last == CONTAINS else last)


def _objects(data: Mapping[str, Any], name: str, before: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of a list, each with its place."""
    listed = data.get(name, [])
    if not isinstance(listed, list):
        raise InvalidField(f"{before}{name}", f"give a list, not {listed!r}")
    for number, each in enumerate(listed):
        place = f"{before}{name}[{number}]"
        if not isinstance(each, dict):
            raise InvalidField(place, f"give an object, not {each!r}")
        yield place, each


def _text(data: Mapping[str, Any], name: str, place: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidField(f"{place}.{name}", f"give a string, not {value!r}")
    return value


def _choice(data: Mapping[str, Any], name: str, place: str, choices: Sequence[str], default: str = "") -> str:
    value = data.get(name, default)
    if value not in choices:
        raise InvalidField(f"{place}.{name}", f"{value!r} is none of {', '.join(choices)}")
    return str(value)


def _kind(data: Mapping[str, Any], place: str) -> str:
    if "arrayConfig" in data:
        return _choice(data, "arrayConfig", place, (CONTAINS,))
    return _choice(data, "order", place, (ASCENDING, DESCENDING))


def _path(text: str, place: str) -> FieldPath:
    try:
        return parse_field_path(text)
    except RpcError as error:
        raise InvalidField(place, error.message) from None
