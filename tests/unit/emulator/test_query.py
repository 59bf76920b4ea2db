"""What queries find. Pages: https://firebase.google.com/docs/firestore/query-data/queries, .../order-limit-data,
.../query-cursors, and https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#structuredquery."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cmp_to_key
from itertools import pairwise
from typing import Any

import grpc
import pytest
from google.cloud.firestore_v1.types import StructuredQuery
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.errors import RpcError
from emulator.query import PreparedQuery, project
from tests.unit.emulator.model import (
    ROOT,
    Reference,
    Vector,
    compare,
    is_nan,
    numbers,
    plain_values,
    to_document,
    to_value,
    type_rank,
)

QueryPb = StructuredQuery.pb()
FilterPb = StructuredQuery.Filter.pb()
OPS = {
    "<": "LESS_THAN",
    "<=": "LESS_THAN_OR_EQUAL",
    ">": "GREATER_THAN",
    ">=": "GREATER_THAN_OR_EQUAL",
    "==": "EQUAL",
    "!=": "NOT_EQUAL",
    "array-contains": "ARRAY_CONTAINS",
    "in": "IN",
    "array-contains-any": "ARRAY_CONTAINS_ANY",
    "not-in": "NOT_IN",
}
UNARY = {"is-nan": "IS_NAN", "is-null": "IS_NULL", "is-not-nan": "IS_NOT_NAN", "is-not-null": "IS_NOT_NULL"}

# In production's words.
A_SECOND_ARRAY_FILTER = "A maximum of 1 'ARRAY_CONTAINS' filter is allowed per disjunction."

# A filter is (field, operator, value), (field, unary operator), or ("and" | "or", filter, ...).
Filter = tuple[Any, ...]


def filter_message(spec: Filter) -> Any:
    message = FilterPb()
    if spec[0] in ("and", "or"):
        message.composite_filter.op = StructuredQuery.CompositeFilter.Operator[spec[0].upper()].value
        message.composite_filter.filters.extend(map(filter_message, spec[1:]))
        message.composite_filter.SetInParent()
    elif len(spec) == 2:
        message.unary_filter.field.field_path = spec[0]
        message.unary_filter.op = StructuredQuery.UnaryFilter.Operator[UNARY[spec[1]]].value
    else:
        message.field_filter.field.field_path = spec[0]
        message.field_filter.op = StructuredQuery.FieldFilter.Operator[OPS[spec[1]]].value
        message.field_filter.value.CopyFrom(to_value(spec[2]))
    return message


def query(
    where: Filter | None = None,
    *,
    collection: str = "c",
    everywhere: bool = False,
    order_by: Iterable[str] = (),
    start: tuple[list[Any], bool] | None = None,
    end: tuple[list[Any], bool] | None = None,
    offset: int = 0,
    limit: int | None = None,
    select: Iterable[str] | None = None,
    parent: str = ROOT,
) -> PreparedQuery:
    """A query; an order is a path, with a minus in front if descending; a cursor is values and whether it is before them."""
    message = QueryPb(offset=offset)
    message.from_.add(collection_id=collection, all_descendants=everywhere)
    if where is not None:
        message.where.CopyFrom(filter_message(where))
    for order in order_by:
        message.order_by.add(direction=2 if order.startswith("-") else 1).field.field_path = order.removeprefix("-")
    for cursor, target in ((start, message.start_at), (end, message.end_at)):
        if cursor is not None:
            target.values.extend(map(to_value, cursor[0]))
            target.before = cursor[1]
            target.SetInParent()
    if limit is not None:
        message.limit.value = limit
    if select is not None:
        for path in select:
            message.select.fields.add(field_path=path)
        message.select.SetInParent()
    return PreparedQuery(parent, message)


def documents(**fields_by_id: Any) -> list[Any]:
    """Documents of one collection, in an order that is nobody's."""
    return [to_document(f"c/{id_}", fields) for id_, fields in sorted(fields_by_id.items(), key=lambda item: hash(item[0]))]


def found(prepared: PreparedQuery, candidates: list[Any]) -> list[str]:
    """The ids of what a query finds."""
    return [document.name.removeprefix(f"{ROOT}/c/") for document in prepared.run(candidates)]


def refusal(*args: Any, **kwargs: Any) -> RpcError:
    with pytest.raises(RpcError) as caught:
        query(*args, **kwargs)
    return caught.value


# Filters. What production finds of null, NaN and mixed types: the tests that the official web client runs against it,
# https://github.com/firebase/firebase-js-sdk/blob/main/packages/firestore/test/integration/api/query.test.ts

ZIPS = documents(
    a={"zip": math.nan},
    b={"zip": 91102},
    c={"zip": 98101},
    d={"zip": "98101"},
    e={"zip": [98101]},
    f={"zip": [98101, 98102]},
    g={"zip": ["98101", {"zip": 98101}]},
    h={"zip": {"code": 500}},
    i={"code": 500},
    j={"zip": None},
    k={"zip": 98103.0},
)


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        (("zip", "==", 98101), "c"),
        (("zip", "==", 98101.0), "c"),
        (("zip", "==", 98103), "k"),
        (("zip", "==", "98101"), "d"),
        (("zip", "==", [98101, 98102]), "f"),
        (("zip", "==", {"code": 500}), "h"),
        (("zip.code", "==", 500), "h"),
        (("zip", "==", ""), ""),
        (("zip", "is-null"), "j"),
        (("zip", "is-nan"), "a"),
        (("zip", "!=", 98101), "abkdefgh"),
        (("zip", "!=", {"code": 500}), "abckdefg"),
        (("zip", "is-not-null"), "abckdefgh"),
        (("zip", "is-not-nan"), "bckdefgh"),
        (("zip", ">", 91102), "ck"),
        (("zip", ">=", 91102), "bck"),
        (("zip", "<", 98103), "bc"),
        (("zip", "<=", 98103), "bck"),
        (("zip", ">", ""), "d"),
        (("zip", ">", []), "efg"),
        (("zip", ">=", [98101]), "efg"),
        (("zip", "<", {"d": 0}), "h"),
        (("zip", ">", False), ""),
        (("zip", "in", [98101, 98103, [98101, 98102]]), "cfk"),
        (("zip", "in", [{"code": 500}]), "h"),
        (("zip", "in", [None]), ""),
        (("zip", "in", [98101, None]), "c"),
        (("zip", "in", [math.nan]), ""),
        (("zip", "in", [98101, math.nan]), "c"),
        (("zip", "not-in", [98101, 98103, [98101, 98102]]), "abdegh"),
        (("zip", "not-in", [{"code": 500}]), "abckdefg"),
        (("zip", "not-in", [None]), ""),
        (("zip", "not-in", [98101, None]), ""),
        (("zip", "not-in", [math.nan]), "bckdefgh"),
        (("zip", "not-in", [math.nan, 98101]), "bkdefgh"),
        (("zip", "array-contains", 98101), "ef"),
        (("zip", "array-contains", 98101.0), "ef"),
        (("zip", "array-contains", {"zip": 98101}), "g"),
        (("zip", "array-contains", None), ""),
        (("zip", "array-contains-any", [98102, "98101"]), "fg"),
        (("zip", "array-contains-any", [98101, None, math.nan]), "ef"),
        (("zip", "array-contains-any", [None]), ""),
    ],
)
def test_each_operator_finds_what_production_finds(where: Filter, ids: str) -> None:
    """Inequalities are within one type and in the order of the field; != and not-in need a field that is not null: "not equal"
    and "not-in" in https://firebase.google.com/docs/firestore/query-data/queries."""
    assert found(query(where), ZIPS) == list(ids)


def test_null_and_nan_in_arrays_are_not_found_by_lists() -> None:
    """As the web client's tests of array-contains-any have it."""
    arrays = documents(e={"a": [43]}, h={"a": [None]}, i={"a": [math.nan]})
    assert found(query(("a", "array-contains-any", [43, None, math.nan])), arrays) == ["e"]
    assert found(query(("a", "array-contains", math.nan)), arrays) == []


NAMED = documents(aa={"n": 1}, ab={"n": 2}, ba={"n": 3}, bb={"n": 4})


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        (("__name__", "==", Reference("c/ab")), ["ab"]),
        (("__name__", "!=", Reference("c/aa")), ["ab", "ba", "bb"]),
        (("__name__", "in", [Reference("c/bb"), Reference("c/aa"), Reference("c/zz")]), ["aa", "bb"]),
        (("__name__", "not-in", [Reference("c/aa"), Reference("c/ab")]), ["ba", "bb"]),
        (("and", ("__name__", ">", Reference("c/aa")), ("__name__", "<=", Reference("c/ba"))), ["ab", "ba"]),
        (("and", ("__name__", ">=", Reference("c/ab")), ("n", "!=", 3)), ["ab", "bb"]),
    ],
)
def test_documents_are_found_by_their_names(where: Filter, ids: list[str]) -> None:
    assert found(query(where), NAMED) == ids


OR_DOCUMENTS = documents(
    doc1={"a": 1, "b": 0},
    doc2={"a": 2, "b": 1},
    doc3={"a": 3, "b": 2},
    doc4={"a": 1, "b": 3},
    doc5={"a": 1, "b": 1},
    doc6={"b": 9},
)


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        (("or", ("a", "==", 1), ("b", "==", 1)), "1245"),
        (("or", ("and", ("a", "==", 1), ("b", "==", 0)), ("and", ("a", "==", 3), ("b", "==", 2))), "13"),
        (("and", ("a", "==", 1), ("or", ("b", "==", 0), ("b", "==", 3))), "14"),
        (("and", ("or", ("a", "==", 2), ("b", "==", 2)), ("or", ("a", "==", 3), ("b", "==", 3))), "3"),
        (("or", ("a", ">", 2), ("b", "==", 1)), "523"),
        (("or", ("a", "==", 2), ("b", "in", [2, 3, 9])), "2346"),
        (("and", ("a", "==", 1)), "145"),
        (("or", ("b", ">", 5), ("a", ">", 2)), "3"),  # orders by both, so document 6, which has no a, is out
    ],
)
def test_conditions_combine_with_and_and_or(where: Filter, ids: str) -> None:
    """https://firebase.google.com/docs/firestore/query-data/queries#or_queries; the order is that of inequalities."""
    assert found(query(where), OR_DOCUMENTS) == [f"doc{number}" for number in ids]


# Scope


def test_a_collection_group_is_in_the_order_of_paths_not_of_strings() -> None:
    paths = ["a!/1/c/x", "a/1/c/x", "a/1!/c/x", "a/1/c/x/c/y", "c/a"]
    group = [to_document(path, {"n": 1}) for path in paths]
    ordered = [document.name.removeprefix(f"{ROOT}/") for document in query(everywhere=True).run(group)]
    assert ordered == ["a/1/c/x", "a/1/c/x/c/y", "a/1!/c/x", "a!/1/c/x", "c/a"]


def test_a_collection_with_all_below_it_lies_between_the_bounds_that_clients_make() -> None:
    """The official clients' recursive delete: from the least id of the collection to the least of the one after it."""
    paths = ["a/1", "a/1/b/2", "a/\0/b/2", "a/_", "a/\U0010ffff", "a!/1", "A/1", "b/1", "a\0b/1"]
    everything = [to_document(path, {}) for path in paths]
    prepared = query(
        collection="",
        everywhere=True,
        order_by=["__name__"],
        start=([Reference("a/__id-9223372036854775808__")], True),
        end=([Reference("a\0/__id-9223372036854775808__")], True),
        select=["__name__"],
    )
    bounded = [document.name.removeprefix(f"{ROOT}/") for document in prepared.run(everything)]
    assert bounded == ["a/\0/b/2", "a/1", "a/1/b/2", "a/_", "a/\U0010ffff"]


BELOW = f"{ROOT}/c/a"
ONLY_AT_THE_ROOT = "collection group queries are only allowed at the root parent"
NEEDS_A_KIND = "kind is required for all orders except __key__ ascending"


@pytest.mark.parametrize("collection", ["d", ""], ids=["one collection id", "any"])
@pytest.mark.parametrize(
    ("parent", "arguments", "says"),
    [
        (BELOW, {"where": ("n", "==", 3)}, (ONLY_AT_THE_ROOT, ONLY_AT_THE_ROOT)),
        (BELOW, {"where": ("n", ">", 3)}, (ONLY_AT_THE_ROOT, ONLY_AT_THE_ROOT)),
        (BELOW, {"where": ("and", ("__name__", ">", Reference("c/a/d/b")), ("n", "==", 1))}, (ONLY_AT_THE_ROOT,) * 2),
        (BELOW, {"order_by": ["n"]}, (ONLY_AT_THE_ROOT, ONLY_AT_THE_ROOT)),
        (BELOW, {"order_by": ["-__name__"]}, ("The query requires an index.", NEEDS_A_KIND)),
        (BELOW, {"order_by": ["__name__"], "limit": 1}, (None, None)),
        (BELOW, {"where": ("__name__", "==", Reference("c/a/d/b"))}, (None, None)),
        (BELOW, {"offset": 1, "select": ["n"]}, (None, None)),
        (ROOT, {"where": ("n", "==", 3)}, (None, "kind is required for filter: n")),
        (ROOT, {"order_by": ["n"]}, (None, NEEDS_A_KIND)),
        (ROOT, {"order_by": ["-__name__"]}, (None, NEEDS_A_KIND)),
        (ROOT, {"order_by": ["__name__"]}, (None, None)),
    ],
)
def test_queries_of_descendants_are_refused_where_production_refuses_them(
    parent: str, arguments: dict[str, Any], says: tuple[str | None, str | None], collection: str
) -> None:
    """As the tests of descendants in https://github.com/skunkteam/rust-firestore-emulator have it of the cloud."""
    expected = says[collection == ""]
    if expected is None:
        query(collection=collection, everywhere=True, parent=parent, **arguments)
        return
    error = refusal(collection=collection, everywhere=True, parent=parent, **arguments)
    needs_index = expected.startswith("The query")
    assert error.code is (grpc.StatusCode.FAILED_PRECONDITION if needs_index else grpc.StatusCode.INVALID_ARGUMENT)
    assert error.message.startswith(expected)


# Order, cursors, limits


def test_without_an_order_documents_come_by_their_ids() -> None:
    """order-limit-data page: "in ascending order by document ID"; ids in the order of their UTF-8."""
    ids = ["\U0001f600", "\uffff", "é", "a", "B", "10", "9"]
    assert found(query(), [to_document(f"c/{id_}", {}) for id_ in ids]) == ["10", "9", "B", "a", "é", "\uffff", "\U0001f600"]


def test_numeric_ids_come_first_and_in_the_order_of_their_numbers() -> None:
    ids = ["a", "__id10__", "__id9__", "!", "__id-2__", "__id-11__"]
    ordered = ["__id-11__", "__id-2__", "__id9__", "__id10__", "!", "a"]
    assert found(query(), [to_document(f"c/{id_}", {}) for id_ in ids]) == ordered
    after = ([Reference("c/__id9__")], False)
    assert found(query(order_by=["__name__"], start=after), [to_document(f"c/{id_}", {}) for id_ in ids]) == ordered[3:]


CITIES = documents(
    a={"state": "CA", "size": 3, "x": {"y": 1}},
    b={"state": "NY", "size": 3},
    c={"state": "CA", "size": 1, "x": {"y": 0}},
    d={"state": None, "size": 2},
    e={"size": 5},
    f={"state": "CA", "size": 3.0},
)


@pytest.mark.parametrize(
    ("order_by", "ids"),
    [
        (["size"], "cdabfe"),
        (["-size"], "efbadc"),
        (["state"], "dacfb"),  # e has none: "filters for existence"
        (["-state"], "bfcad"),
        (["state", "size"], "dcafb"),
        (["state", "-size"], "dfacb"),  # the name follows the last direction
        (["-state", "size"], "bcafd"),
        (["-state", "-size"], "bfacd"),
        (["size", "-__name__"], "cdfbae"),
        (["-size", "__name__"], "eabfdc"),
        (["x.y"], "ca"),
        (["-__name__"], "fedcba"),
    ],
)
def test_documents_are_ordered_by_fields_that_they_must_have_then_by_name(order_by: list[str], ids: str) -> None:
    """order-limit-data page, and StructuredQuery.order_by for the implied directions."""
    assert found(query(order_by=order_by), CITIES) == list(ids)


@pytest.mark.parametrize(
    ("where", "order_by", "ids"),
    [
        (("size", ">", 1), [], "dabfe"),
        (("size", ">", 1), ["-state"], "bfad"),  # then by size, descending
        (("and", ("size", ">", 1), ("state", "!=", "NY")), [], "af"),
        (("and", ("state", ">=", "CA"), ("size", "<", 9)), [], "cafb"),  # by size, then by state
        (("and", ("__name__", ">", Reference("c/a")), ("size", "<", 5)), [], "cdbf"),
        (("and", ("size", ">=", 3), ("state", "==", "CA")), ["-size"], "fa"),
        (("size", "is-not-null"), ["state"], "dcafb"),
        (("size", "not-in", [5]), [], "cdabf"),
    ],
)
def test_inequalities_imply_orders(where: Filter, order_by: list[str], ids: str) -> None:
    """StructuredQuery.order_by: fields with an inequality are appended "in lexicographical ordering of the field name", "with
    the same sort direction as the last order specified"."""
    assert found(query(where, order_by=order_by), CITIES) == list(ids)


@pytest.mark.parametrize(
    ("order_by", "start", "end", "ids"),
    [
        (["size"], ([3], True), None, "abfe"),  # startAt
        (["size"], ([3], False), None, "e"),  # startAfter
        (["size"], None, ([3], False), "cdabf"),  # endAt
        (["size"], None, ([3], True), "cd"),  # endBefore
        (["size"], ([2], True), ([3], True), "d"),
        (["size"], ([4], True), ([2], True), ""),
        (["-size"], ([3], True), None, "fbadc"),
        (["-size"], ([3], False), None, "dc"),
        (["-size"], None, ([3], False), "efba"),
        (["state", "size"], (["CA"], True), None, "cafb"),  # a prefix
        (["state", "size"], (["CA"], False), None, "b"),
        (["state", "size"], (["CA", 3], True), None, "afb"),
        (["state", "-size"], (["CA", 3], False), None, "cb"),
        (["state", "-size"], (["CA", 3], True), None, "facb"),
        (["size", "__name__"], ([3, Reference("c/b")], False), None, "fe"),
        (["size", "-__name__"], ([3, Reference("c/b")], False), None, "ae"),
        (["size", "__name__"], ([3, Reference("c/aa")], True), None, "bfe"),
        (["__name__"], ([Reference("c/c")], True), ([Reference("c/e")], True), "cd"),
        (["-__name__"], ([Reference("c/c")], True), None, "cba"),
        (["state"], (["CA"], True), (["CA"], False), "acf"),
        (["state"], ([1], True), None, "acfb"),  # another type: by the order of types
        (["state"], None, ([1], True), "d"),
        (["size"], ([math.nan], True), None, "cdabfe"),
    ],
)
def test_cursors_cut_where_they_say(order_by: list[str], start: Any, end: Any, ids: str) -> None:
    """https://firebase.google.com/docs/firestore/query-data/query-cursors, and StructuredQuery.start_at."""
    assert found(query(order_by=order_by, start=start, end=end), CITIES) == list(ids)


def test_a_query_is_read_page_by_page_without_loss_or_repetition() -> None:
    many = [to_document(f"c/{number:03}", {"n": number % 7}) for number in range(50)]
    pages: list[str] = []
    last: list[Any] = []
    while True:
        start = (last, False) if last else None
        page = query(order_by=["-n", "__name__"], start=start, limit=8).run(many)
        if not page:
            break
        pages.extend(document.name for document in page)
        last = [page[-1].fields["n"].integer_value, Reference(page[-1].name.removeprefix(f"{ROOT}/"))]
    assert pages == [document.name for document in query(order_by=["-n", "__name__"]).run(many)]


def test_offset_comes_before_limit_and_after_cursors() -> None:
    """StructuredQuery.offset and limit."""
    assert found(query(offset=1, limit=2), CITIES) == ["b", "c"]
    assert found(query(limit=0), CITIES) == []
    assert found(query(offset=9), CITIES) == []
    assert found(query(order_by=["__name__"], start=([Reference("c/c")], True), offset=1, limit=1), CITIES) == ["d"]


# Projection


def test_a_projection_shows_the_selected_fields_of_all_that_is_found() -> None:
    """StructuredQuery.Projection: "If empty, all fields are returned. To only return the name ..., use ['__name__']"."""
    document = to_document("c/d", {"a": 1, "b": {"c": {"d": 2}, "e": 3}, "x-y": None})
    document.create_time.seconds, document.update_time.seconds = 1, 2

    def shown(*select: str) -> Any:
        return query(select=select).project(document)

    assert query().project(document) == document
    assert shown() == document
    expectations: list[tuple[list[str], dict[str, Any]]] = [
        (["__name__"], {}),
        (["a"], {"a": 1}),
        (["b.c"], {"b": {"c": {"d": 2}}}),
        (["b.c.d", "b.e"], {"b": {"c": {"d": 2}, "e": 3}}),
        (["b.e", "b"], {"b": {"c": {"d": 2}, "e": 3}}),
        (["b", "b.e"], {"b": {"c": {"d": 2}, "e": 3}}),
        (["missing", "a.b", "`x-y`", "__name__"], {"x-y": None}),
    ]
    for paths, fields in expectations:
        expected = to_document("c/d", fields)
        expected.create_time.seconds, expected.update_time.seconds = 1, 2
        assert shown(*paths) == expected
        assert project(document, paths) == expected
    assert not project(document, []).fields
    assert found(query(select=["missing"]), [document]) == ["d"]


def test_a_mask_with_a_path_that_is_none_is_refused() -> None:
    with pytest.raises(RpcError) as caught:
        project(to_document("c/d", {}), ["a..b"])
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


# Refusals


def many(operator_: str, count: int, field: str = "a") -> Filter:
    return (field, operator_, list(range(count)))


def eqs(count: int, junction: str = "or") -> Filter:
    return (junction, *((f"f{number}", "==", 1) for number in range(count)))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"where": many("in", 31)}, "31 disjunctions"),
        ({"where": many("array-contains-any", 31)}, "31 disjunctions"),
        ({"where": eqs(31)}, "31 disjunctions"),
        ({"where": ("and", many("in", 6), many("in", 6, "b"))}, "36 disjunctions"),
        ({"where": ("and", eqs(6), eqs(6))}, "36 disjunctions"),
        ({"where": ("or", many("in", 30), ("b", "==", 1))}, "31 disjunctions"),
        ({"where": ("and", *(eqs(2) for _ in range(60)))}, "disjunctions"),
        ({"where": many("not-in", 11)}, "10 values at most"),
        ({"where": many("in", 0)}, "one value at least"),
        ({"where": many("not-in", 0)}, "one value at least"),
        ({"where": ("a", "array-contains-any", 5)}, "one value at least"),
        ({"where": ("and", ("a", "!=", 1), ("a", "!=", 2))}, "only one of"),
        ({"where": ("and", ("a", "!=", 1), ("b", "not-in", [2]))}, "only one of"),
        ({"where": ("and", ("a", "is-not-null"), ("b", "is-not-nan"))}, "only one of"),
        ({"where": ("and", ("a", "not-in", [1]), ("b", "in", [1]))}, "NOT_IN cannot"),
        ({"where": ("and", ("a", "not-in", [1]), ("b", "array-contains-any", [1]))}, "NOT_IN cannot"),
        ({"where": ("and", ("a", "not-in", [1]), eqs(2))}, "NOT_IN cannot"),
        ({"where": ("and", ("a", "array-contains", 1), ("b", "array-contains", 1))}, A_SECOND_ARRAY_FILTER),
        ({"where": ("and", ("a", "array-contains", 1), ("b", "array-contains-any", [1]))}, A_SECOND_ARRAY_FILTER),
        (
            {"where": ("and", ("a", "array-contains", 1), ("or", ("b", "==", 1), ("b", "array-contains", 2)))},
            A_SECOND_ARRAY_FILTER,
        ),
        ({"where": eqs(101, "and")}, "101 filters"),
        ({"where": eqs(100, "and"), "order_by": ["a"]}, "100 filters"),
        ({"where": eqs(100, "and"), "parent": f"{ROOT}/a/b"}, "subcollection"),
        ({"where": ("and", *((f"f{number}", ">", 1) for number in range(11)))}, "11 fields"),
        ({"where": ("__name__", "==", "c/d")}, "reference"),
        ({"where": ("__name__", ">", Reference("c"))}, "reference"),
        ({"where": ("__name__", "in", [Reference("c/d"), 1])}, "reference"),
        ({"where": ("__name__", "array-contains", 1)}, "no array"),
        ({"where": ("__name__", "is-null")}, "__name__"),
        ({"where": ("and",)}, "at least one filter"),
        ({"where": ("a-b", "==", 1)}, "'a-b'"),
        ({"where": ("a..b", "is-null")}, "'a..b'"),
        ({"order_by": ["a b"]}, "'a b'"),
        ({"order_by": ["a", "b", "a"]}, "'a' is there twice"),
        ({"order_by": ["a", "__name__", "b"]}, "'b' is"),
        ({"order_by": ["__name__"], "where": ("a", ">", 1)}, "'a' is"),
        ({"select": ["`a"]}, "'`a'"),
        ({"start": ([1], True)}, "start_at: a cursor of 1 values"),
        ({"end": ([1], True)}, "end_at: a cursor of 1 values"),
        ({"order_by": ["a"], "start": ([1, 2], True)}, "cursor of 2 values"),
        ({"order_by": ["__name__"], "start": (["c/d"], True)}, "reference"),
        ({"offset": -1}, "offset"),
        ({"limit": -1}, "limit"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_said(arguments: dict[str, Any], says: str) -> None:
    """https://firebase.google.com/docs/firestore/query-data/queries#query_limitations, .../multiple-range-fields#limitations,
    and the comments on StructuredQuery and its FieldFilter.Operator."""
    refused = refusal(**arguments)
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert says in refused.message


@pytest.mark.parametrize(
    "arguments",
    [
        {"where": many("in", 30)},
        {"where": ("and", many("in", 5), many("in", 6, "b"))},
        {"where": eqs(30)},
        {"where": many("not-in", 10)},
        {"where": ("and", ("a", "not-in", [1]), ("b", "==", 1), ("a", "<", 3))},
        {"where": ("and", ("a", "!=", 1), ("b", "in", [1]))},
        {"where": ("and", ("a", "not-in", [1]), ("or", ("b", "==", 1)))},
        {"where": ("or", ("a", "array-contains", 1), ("b", "array-contains", 1))},
        {"where": ("and", ("a", "array-contains", 1), ("b", "in", [1, 2]))},
        {"where": eqs(100, "and")},
        {"where": eqs(98, "and"), "order_by": ["a"], "parent": f"{ROOT}/a/b"},
        {"where": ("and", *((f"f{number}", ">", 1) for number in range(10)))},
        {"order_by": ["b", "a"], "where": ("a", ">", 1)},
    ],
)
def test_what_is_just_within_the_limits_can_be_asked(arguments: dict[str, Any]) -> None:
    query(**arguments)


def test_messages_that_lack_a_part_are_refused() -> None:
    def prepare(change: Any) -> None:
        message = QueryPb()
        message.from_.add(collection_id="c")
        change(message)
        PreparedQuery(ROOT, message)

    def set_unary(message: Any) -> None:
        message.where.unary_filter.field.field_path = "a"

    def set_field(message: Any) -> None:
        message.where.field_filter.field.field_path = "a"

    def combine(message: Any) -> None:
        message.where.composite_filter.filters.add().CopyFrom(filter_message(("a", "==", 1)))

    def set_operator(message: Any) -> None:
        set_field(message)
        message.where.field_filter.op = 5

    def set_unknown_operator(message: Any) -> None:
        set_field(message)
        message.where.field_filter.op = 77
        message.where.field_filter.value.integer_value = 1

    for change in (
        lambda message: message.from_.pop(),
        lambda message: message.from_.add(collection_id="d"),
        lambda message: message.where.SetInParent(),
        combine,
        set_unary,
        set_field,
        set_operator,
        set_unknown_operator,
    ):
        with pytest.raises(RpcError) as caught:
            prepare(change)
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(RpcError, match="find_nearest") as caught:
        prepare(lambda message: message.find_nearest.SetInParent())
    assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED


def test_an_index_may_help_with_strings_that_must_be() -> None:
    where = ("and", ("g", "==", "x"), ("and", ("h", "==", "y"), ("n", "==", 1)), ("or", ("i", "==", "z"), ("j", "==", "z")))
    assert sorted(query(where).equalities) == [("g", "x"), ("h", "y")]


# Any query, against a model


FIELDS = ["a", "b", "m.x"]


def read(fields: dict[str, Any], path: str) -> Any:
    for name in path.split("."):
        if type(fields) is not dict or name not in fields:
            return ...
        fields = fields[name]
    return fields


def same(left: Any, right: Any) -> bool:
    return compare(left, right) == 0


def model_matches(fields: dict[str, Any], spec: Filter) -> bool:
    if spec[0] in ("and", "or"):
        return (all if spec[0] == "and" else any)(model_matches(fields, inner) for inner in spec[1:])
    value = read(fields, spec[0])
    if value is ...:
        return False
    match spec[1:]:
        case ("is-null",):
            return value is None
        case ("is-nan",):
            return is_nan(value)
        case ("is-not-null",):
            return value is not None
        case ("is-not-nan",):
            return value is not None and not is_nan(value)
        case ("==", wanted):
            return same(value, wanted)
        case ("!=", wanted):
            return value is not None and not same(value, wanted)
        case ("in", wanted):
            return any(same(value, each) for each in wanted if each is not None and not is_nan(each))
        case ("not-in", wanted):
            return value is not None and None not in wanted and not any(same(value, each) for each in wanted)
        case ("array-contains", wanted):
            return model_matches(fields, (spec[0], "array-contains-any", [wanted]))
        case ("array-contains-any", wanted):
            allowed = [each for each in wanted if each is not None and not is_nan(each)]
            return isinstance(value, list) and any(same(item, each) for item in value for each in allowed)
        case (operator_, bound):
            order = compare(value, bound)
            holds = {"<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}[operator_]
            return type_rank(value) == type_rank(bound) and holds and not is_nan(value)
    raise AssertionError(spec)


def inequalities(spec: Filter | None) -> set[str]:
    if spec is None:
        return set()
    if spec[0] in ("and", "or"):
        return set().union(*map(inequalities, spec[1:]))
    return {spec[0]} if spec[1] in ("<", "<=", ">", ">=", "!=", "not-in", "is-not-null", "is-not-nan") else set()


small = st.one_of(numbers, st.sampled_from(["", "a", "b", None, True, [], [1], [1, "a"], {"x": 1}, Vector((1.0,))]))
conditions = st.one_of(
    st.tuples(st.sampled_from(FIELDS), st.sampled_from(["<", "<=", ">", ">=", "==", "array-contains"]), small),
    st.tuples(st.sampled_from(FIELDS), st.sampled_from(["in", "array-contains-any"]), st.lists(small, min_size=1, max_size=3)),
    st.tuples(st.sampled_from(FIELDS), st.sampled_from(["is-null", "is-nan", "is-not-null", "is-not-nan"])),
    st.tuples(st.sampled_from(FIELDS), st.just("!="), small),
    st.tuples(st.sampled_from(FIELDS), st.just("not-in"), st.lists(small, min_size=1, max_size=3)),
)
filters = st.recursive(
    conditions,
    lambda inner: st.builds(
        lambda junction, specs: (junction, *specs), st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=4,
)
orders = st.lists(st.sampled_from(FIELDS), unique=True, max_size=2).flatmap(
    lambda paths: st.tuples(*(st.sampled_from([path, f"-{path}"]) for path in paths))
)
contents = st.fixed_dictionaries(
    {}, optional={"a": small, "b": small, "m": st.one_of(small, st.fixed_dictionaries({}, optional={"x": small}))}
)
cursors = st.none() | st.tuples(st.lists(st.one_of(small, plain_values), max_size=2), st.booleans())


@settings(max_examples=500, deadline=None)
@given(
    st.lists(contents, max_size=10),
    st.none() | filters,
    orders,
    cursors,
    cursors,
    st.integers(0, 2),
    st.none() | st.integers(0, 4),
)
def test_any_query_finds_what_the_rules_say(
    contents_: list[dict[str, Any]],
    where: Filter | None,
    order_by: tuple[str, ...],
    start: tuple[list[Any], bool] | None,
    end: tuple[list[Any], bool] | None,
    offset: int,
    limit: int | None,
) -> None:
    cut = [cursor and (cursor[0][: len(order_by)], cursor[1]) for cursor in (start, end)]
    candidates = {f"{index:02}": fields for index, fields in enumerate(contents_)}
    try:
        prepared = query(where, order_by=order_by, start=cut[0], end=cut[1], offset=offset, limit=limit)
    except RpcError as error:
        reasons = ("only one", A_SECOND_ARRAY_FILTER, "NOT_IN cannot")
        assert any(reason in error.message for reason in reasons)  # noqa: PT017 - else it is fine
        return

    full = [(path.removeprefix("-"), path.startswith("-")) for path in order_by]
    last = bool(full) and full[-1][1]
    full += [(path, last) for path in sorted(inequalities(where).difference(path for path, _ in full))]

    def place(id_: str) -> list[Any]:
        return [*(read(candidates[id_], path) for path, _ in full), id_]

    def compare_places(left: list[Any], right: list[Any]) -> int:
        for ours, theirs, descending in zip(left, right, [*(descending for _, descending in full), last], strict=False):
            order = compare(ours, theirs)
            if order:
                return -order if descending else order
        return 0

    expected: list[str] = [id_ for id_, fields in candidates.items() if where is None or model_matches(fields, where)]
    expected = [id_ for id_ in expected if ... not in [part for part in place(id_) if part is ...]]
    expected.sort(key=lambda id_: cmp_to_key(compare_places)(place(id_)))
    if cut[0] is not None:
        values, before = cut[0]
        expected = [id_ for id_ in expected if compare_places(place(id_), values) > (-1 if before else 0)]
    if cut[1] is not None:
        values, before = cut[1]
        expected = [id_ for id_ in expected if compare_places(place(id_), values) < (0 if before else 1)]
    expected = expected[offset:][:limit]

    found_ids = found(prepared, [to_document(f"c/{id_}", fields) for id_, fields in reversed(candidates.items())])
    assert found_ids == expected
    for left, right in pairwise(found_ids):
        assert compare_places(place(left), place(right)) < 0
