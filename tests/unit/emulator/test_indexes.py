"""Which indexes a query needs, by the documentation's examples, and how an index file is read.

https://firebase.google.com/docs/firestore/query-data/index-overview
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore_v1 import base_query
from google.cloud.firestore_v1.base_query import And, FieldFilter, Or
from google.cloud.firestore_v1.client import Client
from google.cloud.firestore_v1.types import StructuredQuery

from emulator.aggregation import Aggregation
from emulator.engine import Engine, Settings
from emulator.errors import RpcError
from emulator.indexes import Indexes
from emulator.query import PreparedQuery
from emulator.settable import InvalidField

ROOT = "projects/p/databases/(default)/documents"
CLIENT = Client("p", credentials=AnonymousCredentials())
CITIES: base_query.BaseQuery = CLIENT.collection("cities").offset(0)
GROUP: base_query.BaseQuery = CLIENT.collection_group("cities")
ASC, DESC = "ASCENDING", "DESCENDING"


def where(path: str, op: str, value: Any) -> FieldFilter:
    return FieldFilter(path, op, value)


def prepared(query: base_query.BaseQuery, *summed: str) -> PreparedQuery:
    return PreparedQuery(ROOT, StructuredQuery.pb(query._to_protobuf()), [(path,) for path in summed])


def indexes(*composites: Any, overrides: Any = ()) -> Indexes:
    """Each composite as `a ASC, b DESC, c []` of the collection `cities`."""
    listed = []
    for composite in composites:
        scope, _, written = composite.rpartition(": ")
        fields: list[dict[str, str]] = []
        for each in written.split(", "):
            path, kind = each.split()
            fields.append({"fieldPath": path, **({"arrayConfig": "CONTAINS"} if kind == "[]" else {"order": f"{kind}ENDING"})})
        listed.append({"collectionGroup": "cities", "queryScope": scope or "COLLECTION", "fields": fields})
    return Indexes.parse(json.dumps({"indexes": listed, "fieldOverrides": overrides}))


def refusal(query: base_query.BaseQuery, has: Indexes, *summed: str) -> str | None:
    """The message with which a query is refused; None if it is not."""
    try:
        has.check(prepared(query, *summed))
    except RpcError as error:
        return f"{error.code.name}: {error.message}"
    return None


# What every database can do


@pytest.mark.parametrize(
    "query",
    [
        CITIES,
        CITIES.where(filter=where("state", "==", "CA")),
        CITIES.where(filter=where("population", "<", 100_000)),
        CITIES.where(filter=where("name", ">=", "San Francisco")),
        CITIES.where(filter=where("capital", "!=", False)),
        CITIES.where(filter=where("country", "not-in", ["USA"])),
        CITIES.where(filter=where("regions", "array_contains", "west_coast")),
        CITIES.where(filter=where("country", "in", ["USA", "Japan"])),
        CITIES.where(filter=where("regions", "array_contains_any", ["west_coast", "east_coast"])),
        # "Queries with multiple equality clauses": the indexes of the fields are merged.
        CITIES.where(filter=where("state", "==", "CO")).where(filter=where("name", "==", "Denver")),
        CITIES.where(filter=where("country", "==", "USA"))
        .where(filter=where("capital", "==", False))
        .where(filter=where("state", "==", "CA"))
        .where(filter=where("population", "==", 860_000)),
        CITIES.where(filter=where("country", "==", "USA")).where(filter=where("regions", "array_contains", "west_coast")),
        CITIES.where(filter=where("state", "==", None)).where(filter=where("country", "in", ["USA", "Japan"])),
        CITIES.order_by("population"),
        CITIES.order_by("population", direction=DESC),
        CITIES.where(filter=where("population", ">", 1)).order_by("population", direction=DESC),
        CITIES.where(filter=where("population", ">", 1)).where(filter=where("population", "<", 9)),
        CITIES.where(filter=where("state", "==", "CA")).order_by("state", direction=ASC),
        CITIES.where(filter=where("state", "==", "CA")).order_by("__name__"),
        CITIES.where(filter=where("__name__", ">", CLIENT.document("cities/a"))),
        CITIES.where(filter=Or([where("a", "==", 1), where("b", "==", 1)])),
        CITIES.order_by("map.inner"),
        GROUP,
        GROUP.order_by("__name__"),
    ],
)
def test_simple_queries_need_no_index_of_the_app(query: base_query.BaseQuery) -> None:
    assert refusal(query, indexes()) is None


# What needs a composite index: each with one that serves it, and with some that do not

COMPOSITES = [
    (
        CITIES.where(filter=where("country", "==", "USA")).order_by("population"),
        "country ASC, population ASC",
        ["country ASC, population DESC", "population ASC, country ASC", "country ASC, population ASC, name ASC"],
    ),
    (
        CITIES.where(filter=where("country", "==", "USA")).where(filter=where("population", "<", 3_800_000)),
        "country DESC, population ASC",
        ["country ASC", "population ASC", "state ASC, population ASC", "COLLECTION_GROUP: country ASC, population ASC"],
    ),
    (
        CITIES.where(filter=where("country", "in", ["USA", "Japan"])).order_by("population", direction=DESC),
        "country ASC, population DESC",
        ["country ASC, population ASC"],  # not read backwards, so limit_to_last needs one of its own
    ),
    (
        CITIES.where(filter=where("regions", "array_contains", "west")).order_by("population"),
        "regions [], population ASC",
        ["regions ASC, population ASC", "population ASC, regions []"],
    ),
    (
        CITIES.order_by("country").order_by("population", direction=DESC),
        "country ASC, population DESC",
        ["country ASC, population ASC", "country DESC, population DESC"],
    ),
    (CITIES.where(filter=where("a", ">", 1)).where(filter=where("b", ">", 1)), "a ASC, b ASC", ["b ASC, a ASC"]),
    (CITIES.order_by("population", direction=DESC).order_by("__name__"), "population DESC, __name__ ASC", ["population DESC"]),
    (CITIES.order_by("__name__", direction=DESC), "__name__ DESC", ["__name__ ASC", "population DESC"]),
    (
        CITIES.where(filter=where("state", "==", "CA")).order_by("__name__", direction=DESC),
        "state ASC, __name__ DESC",
        ["state ASC"],
    ),
    (
        GROUP.where(filter=where("country", "==", "USA")).order_by("population"),
        "COLLECTION_GROUP: country ASC, population ASC",
        ["country ASC, population ASC"],
    ),
]


@pytest.mark.parametrize(("query", "served_by", "not_by"), COMPOSITES)
def test_composite_indexes_serve_what_they_are_made_for(query: base_query.BaseQuery, served_by: str, not_by: list[str]) -> None:
    assert refusal(query, indexes()) is not None
    assert refusal(query, indexes(*not_by)) is not None
    assert refusal(query, indexes(*not_by, served_by)) is None


@pytest.mark.parametrize("query", [query for query, _, _ in COMPOSITES])
def test_the_index_that_the_message_names_is_the_one_that_is_missing(query: base_query.BaseQuery) -> None:
    message = refusal(query, indexes())
    assert message is not None
    assert message.startswith("FAILED_PRECONDITION: The query requires an index. ")
    named = json.loads(message[message.index("{") :])
    assert refusal(query, Indexes.parse(json.dumps({"indexes": [named]}))) is None


def test_indexes_with_the_same_order_are_merged() -> None:
    """https://firebase.google.com/docs/firestore/query-data/index-overview#taking_advantage_of_index_merging"""
    query = CITIES.order_by("stars")
    for path in ("category", "city", "editors_pick"):
        query = query.where(filter=where(path, "==", "x"))
    merged = ["category ASC, stars ASC", "city ASC, stars ASC", "editors_pick ASC, stars ASC"]
    assert refusal(query, indexes(*merged)) is None
    assert refusal(query, indexes("city ASC, category ASC, stars ASC", merged[2])) is None
    assert refusal(query, indexes(*merged[:2])) is not None
    assert refusal(query, indexes(*merged[:2], "editors_pick ASC, stars DESC")) is not None


def test_each_disjunction_needs_its_index() -> None:
    small = And([where("country", "==", "USA"), where("population", "<", 5)])
    query = CITIES.where(filter=Or([small, where("state", "==", "CA")])).order_by("population")
    assert refusal(query, indexes("country ASC, population ASC")) is not None
    assert refusal(query, indexes("country ASC, population ASC", "state ASC, population ASC")) is None


# The fields' own indexes


def override(path: str, *kinds: str, collection: str = "cities") -> dict[str, Any]:
    listed = []
    for each in kinds:
        scope, _, kind = each.rpartition(": ")
        config = {"arrayConfig": kind} if kind == "CONTAINS" else {"order": kind}
        listed.append({**config, **({"queryScope": scope} if scope else {})})
    return {"collectionGroup": collection, "fieldPath": path, "indexes": listed}


def test_an_exempt_field_cannot_be_asked_for_nor_can_what_lies_in_it() -> None:
    exempt = indexes(overrides=[override("big")])
    message = refusal(CITIES.where(filter=where("big", "==", 1)), exempt)
    assert message is not None
    assert "COLLECTION_ASC index for collection cities and field big" in message
    assert refusal(CITIES.order_by("big", direction=DESC), exempt)
    assert refusal(CITIES.where(filter=where("big.inner", "array_contains", 1)), exempt)
    assert refusal(CITIES.where(filter=where("big", "==", 1)).where(filter=where("small", "==", 1)), exempt)
    assert refusal(CITIES.where(filter=where("bigger", "==", 1)), exempt) is None
    assert refusal(CLIENT.collection("towns").where(filter=where("big", "==", 1)), exempt) is None
    but = indexes(overrides=[override("big"), override("big.inner", ASC)])
    assert refusal(CITIES.order_by("big.inner"), but) is None
    assert refusal(CITIES.order_by("big.inner", direction=DESC), but)


def test_a_query_of_a_collection_group_needs_the_scope() -> None:
    query = GROUP.where(filter=where("n", "==", 2))
    message = refusal(query, indexes())
    assert message is not None
    assert "COLLECTION_GROUP_ASC index for collection cities and field n" in message
    named = json.loads(message[message.index("{") :])
    assert refusal(query, indexes(overrides=[named])) is None
    assert refusal(GROUP.order_by("n", direction=DESC), indexes(overrides=[named]))
    assert refusal(CITIES.order_by("n"), indexes(overrides=[named])), "an override stands for all of the field's indexes"


def test_all_fields_can_be_exempt() -> None:
    exempt = indexes(overrides=[override("*"), override("kept", ASC, DESC)])
    assert refusal(CITIES.order_by("n"), exempt)
    assert refusal(CITIES.order_by("kept"), exempt) is None
    everywhere = indexes(overrides=[override("*", collection="__default__")])
    assert refusal(CITIES.order_by("n"), everywhere)


def test_names_that_need_backticks_are_named_so() -> None:
    query = CITIES.where(filter=where("a", "==", 1)).order_by("`odd.na\\`me`")
    message = refusal(query, indexes())
    assert message is not None
    named = json.loads(message[message.index("{") :])
    assert named["fields"][1]["fieldPath"] == "`odd.na\\`me`"
    assert refusal(query, Indexes.parse(json.dumps({"indexes": [named]}))) is None


# Sums and averages: https://firebase.google.com/docs/firestore/query-data/aggregation-queries, and which of the queries of
# the Node client's system tests, "orderBy Normalization Checks", need an index


def test_a_field_that_is_summed_up_is_in_the_index() -> None:
    in_california = CITIES.where(filter=where("state", "==", "CA"))
    for query in (CITIES, CITIES.order_by("population"), CITIES.where(filter=where("population", ">", 5))):
        assert refusal(query, indexes(), "population", "population") is None
    assert refusal(in_california, indexes(), "state") is None
    assert refusal(in_california, indexes(), "population") is not None
    assert refusal(in_california, indexes("state ASC, population ASC"), "population") is None
    assert refusal(CITIES, indexes(), "population", "area") is not None
    assert refusal(CITIES, indexes("population ASC, area ASC"), "population", "area") is None
    by_state = CITIES.order_by("state", direction=DESC)
    assert refusal(by_state, indexes(), "population") is not None
    assert refusal(by_state, indexes("state DESC, population DESC"), "population") is None


# In the engine, and the file


def test_queries_counts_and_listeners_are_refused() -> None:
    query = prepared(CITIES.where(filter=where("a", "==", 1)).order_by("b"))
    strict = Engine("projects/p/databases/(default)", lambda: 1, settings=Settings(indexes=indexes()))
    for ask in (strict.query, lambda query: strict.aggregate(query, [Aggregation("n")]), strict.find):
        with pytest.raises(RpcError) as caught:
            ask(query)
        assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    Engine("projects/p/databases/(default)", lambda: 1).query(query)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{", "the file"),
        ("[]", "the file"),
        ('{"indexes": {}}', "indexes"),
        ('{"indexes": [1]}', "indexes[0]"),
        ('{"indexes": [{}]}', "indexes[0].collectionGroup"),
        ('{"indexes": [{"collectionGroup": "c", "queryScope": "ALL"}]}', "indexes[0].queryScope"),
        ('{"indexes": [{"collectionGroup": "c"}]}', "indexes[0].fields"),
        ('{"indexes": [{"collectionGroup": "c", "fields": [{"fieldPath": "a"}]}]}', "indexes[0].fields[0].order"),
        (
            '{"indexes": [{"collectionGroup": "c", "fields": [{"fieldPath": "a b", "order": "ASCENDING"}]}]}',
            "indexes[0].fields[0].fieldPath",
        ),
        ('{"fieldOverrides": [{"collectionGroup": "c"}]}', "fieldOverrides[0].fieldPath"),
        (
            '{"fieldOverrides": [{"collectionGroup": "c", "fieldPath": "a", "indexes": [{"order": "UP"}]}]}',
            "fieldOverrides[0].indexes[0].order",
        ),
    ],
)
def test_what_is_wrong_with_an_index_file_is_told_by_its_place(text: str, place: str) -> None:
    with pytest.raises(InvalidField) as caught:
        Indexes.parse(text)
    assert caught.value.field == place


def test_the_snippet_to_merge_can_be_read() -> None:
    text = (Path(__file__).parents[3] / "deploy" / "firestore.indexes.json").read_text()
    assert refusal(CLIENT.collection("metadata").order_by("simplifiedDebts"), Indexes.parse(text))
