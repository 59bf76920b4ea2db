"""What server code does with Firestore, through the official client, unmodified, over gRPC.

Each test cites the page that says what must happen. How transactions behave against each other is tested in
test_emulator_server.py and in tests/property.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import And, FieldFilter, Or
from google.cloud.firestore_v1.base_vector_query import DistanceMeasure
from google.cloud.firestore_v1.field_path import FieldPath
from google.cloud.firestore_v1.query_profile import ExplainOptions
from google.cloud.firestore_v1.types import document, query
from google.cloud.firestore_v1.types import firestore as rpc
from google.cloud.firestore_v1.types import write as write_types
from google.cloud.firestore_v1.vector import Vector

from emulator.engine import Settings
from tests.integration.served import PROJECT, Served, served

ROOT = f"projects/{PROJECT}/databases/(default)/documents"


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Served]:
    with served(Settings()) as running:
        yield running


@pytest.fixture
def server(shared_server: Served) -> Served:
    """A server without data."""
    shared_server.within(shared_server.databases.clear)
    return shared_server


@pytest.fixture(scope="module")
def shared_client(shared_server: Served) -> firestore.Client:
    return shared_server.client()


@pytest.fixture
def client(server: Served, shared_client: firestore.Client) -> firestore.Client:
    """A client of a server without data."""
    return shared_client


def where(path: str, op: str, value: Any) -> FieldFilter:
    return FieldFilter(path, op, value)


def ids(snapshots: Any) -> list[str]:
    return [snapshot.id for snapshot in snapshots]


def paths(snapshots: Any) -> list[str]:
    return [snapshot.reference.path for snapshot in snapshots]


def write_all(client: firestore.Client, documents: dict[str, dict[str, Any]]) -> None:
    batch = client.batch()
    for path, data in documents.items():
        batch.set(client.document(path), data)
    batch.commit()


# Documents


def test_every_type_of_value_comes_back_as_it_was(client: firestore.Client) -> None:
    """https://firebase.google.com/docs/firestore/manage-data/data-types"""
    written = {
        "null": None,
        "booleans": [True, False],
        "integers": [0, -1, 2**63 - 1, -(2**63)],
        "floats": [1.0, -0.5, 1e308, math.inf, -math.inf],
        "text": "héllo \U0001f600\0",
        "bytes": b"\x00\xff",
        "geo": firestore.GeoPoint(-90, 180),
        "reference": client.document("other/document"),
        "map": {"empty": {}, "a.b": {"`": [{"deep": []}]}},
        "vector": Vector([1.0, 2.5]),
        "ünïcödé key": "",
    }
    client.document("types/all").set(written)
    read = client.document("types/all").get().to_dict()
    assert read == written
    assert [type(each) for each in read["floats"]] == [float] * 5
    client.document("types/nan").set({"nan": math.nan, "zero": -0.0})
    odd = client.document("types/nan").get().to_dict()
    assert math.isnan(odd["nan"])
    assert math.copysign(1, odd["zero"]) == -1


def test_times_are_kept_to_the_microsecond(client: firestore.Client) -> None:
    """Data types page: "precise only to microseconds; any additional precision is rounded down"."""
    time = datetime(2026, 3, 29, 1, 59, 59, 999_999, tzinfo=UTC)
    client.document("types/time").set({"at": time})
    assert client.document("types/time").get().get("at") == time


def test_reading_one_and_several_documents(client: firestore.Client) -> None:
    """https://firebase.google.com/docs/firestore/query-data/get-data"""
    write_all(client, {"c/1": {"a": {"b": 1, "c": 2}, "d": 3}, "c/2": {"a": 5}})
    one = client.document("c/1").get()
    assert one.exists
    assert one.to_dict() == {"a": {"b": 1, "c": 2}, "d": 3}
    assert one.create_time == one.update_time <= one.read_time
    missing = client.document("c/none").get()
    assert not missing.exists
    assert missing.to_dict() is None
    assert missing.read_time is not None
    assert client.document("c/1").get(field_paths=["a.b", "none"]).to_dict() == {"a": {"b": 1}}
    several = {
        snapshot.id: snapshot for snapshot in client.get_all([client.document(f"c/{id_}") for id_ in ("2", "none", "1")])
    }
    assert {id_: snapshot.exists for id_, snapshot in several.items()} == {"1": True, "2": True, "none": False}
    assert len({snapshot.read_time for snapshot in several.values()}) == 1
    masked = client.get_all([client.document("c/1"), client.document("c/2")], field_paths=["a"])
    assert sorted((snapshot.id, snapshot.to_dict()) for snapshot in masked) == [("1", {"a": {"b": 1, "c": 2}}), ("2", {"a": 5})]


def test_a_document_is_created_once(client: firestore.Client) -> None:
    """https://cloud.google.com/firestore/docs/understand-error-codes: ALREADY_EXISTS"""
    reference = client.document("c/1")
    result = reference.create({"a": 1})
    assert reference.get().create_time == result.update_time
    with pytest.raises(exceptions.AlreadyExists, match="c/1"):
        reference.create({"a": 2})
    assert reference.get().to_dict() == {"a": 1}
    _, added = client.collection("c").add({"a": 3})
    assert len(added.id) == 20
    assert added.get().to_dict() == {"a": 3}


def test_set_replaces_and_with_merge_keeps_the_rest(client: firestore.Client) -> None:
    """https://firebase.google.com/docs/firestore/manage-data/add-data#set_a_document"""
    reference = client.document("c/1")
    reference.set({"a": {"b": 1, "c": 2}, "d": 3})
    reference.set({"a": {"b": 9}, "x.y": 1}, merge=True)
    assert reference.get().to_dict() == {"a": {"b": 9, "c": 2}, "d": 3, "x.y": 1}
    reference.set({"a": {"b": 7, "c": 7}, "d": 7}, merge=["a.b", "d"])
    assert reference.get().to_dict() == {"a": {"b": 7, "c": 2}, "d": 7, "x.y": 1}
    reference.set({"d": firestore.DELETE_FIELD, "a": {"c": firestore.DELETE_FIELD}}, merge=True)
    assert reference.get().to_dict() == {"a": {"b": 7}, "x.y": 1}
    reference.set({"e": 5})
    assert reference.get().to_dict() == {"e": 5}
    client.document("c/2").set({"f": 6}, merge=True)
    assert client.document("c/2").get().to_dict() == {"f": 6}
    client.document("c/3").set({}, merge=True)
    assert client.document("c/3").get().to_dict() == {}


def test_update_changes_what_the_paths_lead_to(client: firestore.Client) -> None:
    """https://firebase.google.com/docs/firestore/manage-data/add-data#update-data"""
    reference = client.document("c/1")
    with pytest.raises(exceptions.NotFound, match="c/1"):
        reference.update({"a": 1})
    reference.set({"a": {"b": {"c": 1, "d": 2}}, "odd.name-": {"e": 3}, "gone": 4})
    created = reference.get().create_time
    result = reference.update(
        {
            "a.b.c": 9,
            FieldPath("odd.name-", "new `key`").to_api_repr(): [1],
            "gone": firestore.DELETE_FIELD,
            "deep.er.still": True,
        }
    )
    after = reference.get()
    assert after.to_dict() == {
        "a": {"b": {"c": 9, "d": 2}},
        "odd.name-": {"e": 3, "new `key`": [1]},
        "deep": {"er": {"still": True}},
    }
    assert (after.create_time, after.update_time) == (created, result.update_time)
    reference.update({"a": {"b": {}}})
    assert reference.get().get("a") == {"b": {}}


def test_preconditions_on_the_last_update(client: firestore.Client) -> None:
    """https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#precondition"""
    reference = client.document("c/1")
    first = reference.set({"a": 1})
    second = reference.update({"a": 2}, option=client.write_option(last_update_time=first.update_time))
    for stale in (first.update_time, second.update_time + timedelta(microseconds=1)):
        with pytest.raises(exceptions.FailedPrecondition):
            reference.update({"a": 3}, option=client.write_option(last_update_time=stale))
        with pytest.raises(exceptions.FailedPrecondition):
            reference.delete(option=client.write_option(last_update_time=stale))
    assert reference.get().get("a") == 2
    reference.delete(option=client.write_option(last_update_time=second.update_time))
    assert not reference.get().exists


def test_delete_removes_the_document_but_not_what_is_below_it(client: firestore.Client) -> None:
    """https://firebase.google.com/docs/firestore/manage-data/delete-data: "does not delete the documents within its
    subcollections"."""
    write_all(client, {"c/1": {}, "c/1/below/2": {"a": 1}})
    client.document("c/1").delete()
    client.document("c/1").delete()
    assert not client.document("c/1").get().exists
    assert client.document("c/1/below/2").get().exists
    with pytest.raises(exceptions.NotFound):
        client.document("c/1").delete(option=client.write_option(exists=True))


def test_a_document_that_was_recreated_has_a_later_create_time(client: firestore.Client) -> None:
    """https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#document: create_time"""
    reference = client.document("c/1")
    first = reference.set({"a": 1}).update_time
    reference.delete()
    reference.set({"a": 1})
    assert reference.get().create_time > first


# Batches


def test_a_batch_is_one_commit_with_a_result_for_each_write(client: firestore.Client) -> None:
    """https://firebase.google.com/docs/firestore/manage-data/transactions#batched-writes"""
    client.document("c/gone").set({})
    batch = client.batch()
    batch.create(client.document("c/1"), {"a": 1})
    batch.set(client.document("c/2"), {"n": 1, "list": [1]})
    batch.update(client.document("c/2"), {"n": firestore.Increment(4), "list": firestore.ArrayUnion([2])})
    batch.delete(client.document("c/gone"))
    results = batch.commit()
    assert [client.document(f"c/{id_}").get().to_dict() for id_ in ("1", "2", "gone")] == [
        {"a": 1},
        {"n": 5, "list": [1, 2]},
        None,
    ]
    assert [result.update_time is not None for result in results] == [True, True, True, False]
    assert {client.document(f"c/{id_}").get().update_time for id_ in ("1", "2")} == {batch.commit_time}


def test_a_batch_of_which_one_write_fails_does_nothing(client: firestore.Client) -> None:
    """Batched writes page: "completes ... atomically"."""
    client.document("c/1").set({"a": 1})
    batch = client.batch()
    batch.update(client.document("c/1"), {"a": 2})
    batch.create(client.document("c/1"), {"a": 3})
    with pytest.raises(exceptions.AlreadyExists):
        batch.commit()
    assert client.document("c/1").get().to_dict() == {"a": 1}


def test_a_bulk_writer_reports_the_outcome_of_each_write(client: firestore.Client) -> None:
    """https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#batchwriterequest: not atomic"""
    client.document("c/there").set({"a": 1})
    failures: list[tuple[str, Any]] = []
    successes: list[str] = []
    writer = client.bulk_writer()

    def failed(failure: Any, _: Any) -> bool:
        failures.append((failure.operation.reference.id, failure.code))
        return False

    writer.on_write_error(failed)
    writer.on_write_result(lambda reference, *_: successes.append(reference.id))
    writer.create(client.document("c/new"), {"a": 1})
    writer.create(client.document("c/there"), {"a": 2})
    writer.update(client.document("c/missing"), {"a": 3})
    writer.delete(client.document("c/nothing"))
    for number in range(45):
        writer.set(client.document(f"many/{number}"), {"n": number})
    writer.close()
    already_exists, not_found = grpc.StatusCode.ALREADY_EXISTS.value[0], grpc.StatusCode.NOT_FOUND.value[0]
    assert sorted(failures) == [("missing", not_found), ("there", already_exists)]
    assert len(successes) == 47
    assert client.document("c/there").get().to_dict() == {"a": 1}
    assert client.collection("many").count().get()[0][0].value == 45


# Transforms


def test_transforms_change_fields_and_report_what_they_became(client: firestore.Client) -> None:
    """https://firebase.google.com/docs/firestore/manage-data/add-data (server timestamp, arrays, increment), and
    https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#fieldtransform (results)"""
    reference = client.document("c/1")
    reference.set({"n": 5, "f": 1.5, "list": [1, 2, 2], "text": "a", "max": 3, "min": 3})
    changes = {
        "n": firestore.Increment(2),
        "f": firestore.Increment(1),
        "list": firestore.ArrayRemove([2.0]),
        "text": firestore.ArrayUnion(["x", "x", 1]),
        "max": firestore.Maximum(7.5),
        "min": firestore.Minimum(9),
        "new.deep": firestore.Increment(1),
    }
    result = reference.update(changes)
    assert reference.get().to_dict() == {
        "n": 7,
        "f": 2.5,
        "list": [1],
        "text": ["x", 1],
        "max": 7.5,
        "min": 3,
        "new": {"deep": 1},
    }
    reported = [document.Value.pb(value) for value in result.transform_results]
    kinds = [value.WhichOneof("value_type") for value in reported]
    assert sorted(kinds) == ["double_value"] * 2 + ["integer_value"] * 3 + ["null_value"] * 2


def test_the_servers_time_is_one_for_all_documents_of_a_commit(client: firestore.Client) -> None:
    """ServerValue.REQUEST_TIME: "the same server timestamp", "with millisecond precision"."""
    batch = client.batch()
    for id_ in ("1", "2"):
        batch.set(client.document(f"c/{id_}"), {"at": firestore.SERVER_TIMESTAMP, "in": {"at": firestore.SERVER_TIMESTAMP}})
    results = batch.commit()
    read = [client.document(f"c/{id_}").get() for id_ in ("1", "2")]
    times = {time for snapshot in read for time in (snapshot.get("at"), snapshot.get("in.at"))}
    assert len(times) == 1
    (time,) = times
    assert time.microsecond % 1_000 == 0
    assert timedelta(0) <= read[0].update_time - time < timedelta(milliseconds=1)
    assert len(results[0].transform_results) == 2


def test_a_counter_saturates(client: firestore.Client) -> None:
    """FieldTransform.increment: "resolved to the largest magnitude positive/negative integer"."""
    reference = client.document("c/1")
    reference.set({"n": 2**63 - 2})
    reference.update({"n": firestore.Increment(10)})
    assert reference.get().get("n") == 2**63 - 1


# Queries

CITIES: dict[str, dict[str, Any]] = {
    "SF": {"name": "San Francisco", "state": "CA", "country": "USA", "capital": False, "population": 860_000,
           "regions": ["west_coast", "norcal"]},
    "LA": {"name": "Los Angeles", "state": "CA", "country": "USA", "capital": False, "population": 3_900_000,
           "regions": ["west_coast", "socal"]},
    "DC": {"name": "Washington, D.C.", "state": None, "country": "USA", "capital": True, "population": 680_000,
           "regions": ["east_coast"]},
    "TOK": {"name": "Tokyo", "state": None, "country": "Japan", "capital": True, "population": 9_000_000,
            "regions": ["kanto", "honshu"]},
    "BJ": {"name": "Beijing", "state": None, "country": "China", "capital": True, "population": 21_500_000,
           "regions": ["jingjinji", "hebei"]},
}  # fmt: skip


@pytest.fixture
def cities(client: firestore.Client) -> firestore.CollectionReference:
    """The example data of https://firebase.google.com/docs/firestore/query-data/queries#example_data"""
    write_all(client, {f"cities/{id_}": city for id_, city in CITIES.items()})
    return client.collection("cities")


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([where("state", "==", "CA")], ["LA", "SF"]),
        ([where("capital", "==", True)], ["BJ", "DC", "TOK"]),
        ([where("state", "==", None)], ["BJ", "DC", "TOK"]),
        ([where("state", "!=", None)], ["LA", "SF"]),
        ([where("population", "<", 1_000_000)], ["DC", "SF"]),
        ([where("population", "<=", 860_000.0)], ["DC", "SF"]),
        ([where("population", ">", 9_000_000)], ["BJ"]),
        ([where("population", ">=", 9_000_000)], ["TOK", "BJ"]),
        ([where("name", ">=", "San Francisco")], ["SF", "TOK", "DC"]),
        ([where("capital", "!=", False)], ["BJ", "DC", "TOK"]),
        ([where("state", "!=", "NY")], ["LA", "SF"]),
        ([where("regions", "array_contains", "west_coast")], ["LA", "SF"]),
        ([where("regions", "array_contains_any", ["west_coast", "east_coast"])], ["DC", "LA", "SF"]),
        ([where("country", "in", ["USA", "Japan"])], ["DC", "LA", "SF", "TOK"]),
        ([where("regions", "in", [["west_coast", "norcal"], ["east_coast"]])], ["DC", "SF"]),
        ([where("country", "not-in", ["USA", "Japan"])], ["BJ"]),
        ([where("state", "==", "CA"), where("population", "<", 1_000_000)], ["SF"]),
        ([where("population", ">", 700_000), where("name", "<", "T")], ["BJ", "LA", "SF"]),
        ([Or([where("capital", "==", True), where("population", ">=", 1_000_000)])], ["DC", "LA", "TOK", "BJ"]),
        ([where("country", "==", "USA"), Or([where("capital", "==", True), where("name", "==", "Los Angeles")])], ["DC", "LA"]),
        (
            [Or([And([where("state", "==", "CA"), where("name", ">", "M")]), where("country", "==", "China")])],
            ["BJ", "SF"],
        ),
    ],
)  # fmt: skip
def test_the_documented_queries_find_what_the_page_says(
    cities: firestore.CollectionReference, conditions: list[Any], expected: list[str]
) -> None:
    """https://firebase.google.com/docs/firestore/query-data/queries; the order is that of the inequalities, or of the ids."""
    found: Any = cities
    for condition in conditions:
        found = found.where(filter=condition)
    assert ids(found.stream()) == expected
    assert found.count().get()[0][0].value == len(expected)


def test_null_and_nan_are_asked_for_with_equality(client: firestore.Client) -> None:
    """https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#unaryfilter"""
    write_all(client, {"c/nan": {"a": math.nan}, "c/null": {"a": None}, "c/one": {"a": 1}, "c/none": {"b": 1}})
    collection = client.collection("c")
    assert ids(collection.where(filter=where("a", "==", math.nan)).stream()) == ["nan"]
    assert ids(collection.where(filter=where("a", "==", None)).stream()) == ["null"]
    assert ids(collection.where(filter=where("a", "!=", math.nan)).stream()) == ["one"]
    assert ids(collection.where(filter=where("a", "!=", None)).stream()) == ["nan", "one"]


def test_documents_are_found_by_id(client: firestore.Client, cities: firestore.CollectionReference) -> None:
    """https://firebase.google.com/docs/firestore/query-data/queries: a document id is a field, named __name__"""
    assert ids(cities.where(filter=where("__name__", ">=", cities.document("LA"))).stream()) == ["LA", "SF", "TOK"]
    wanted = [cities.document(id_) for id_ in ("SF", "BJ", "nowhere")]
    assert ids(cities.where(filter=where("__name__", "in", wanted)).stream()) == ["BJ", "SF"]
    assert ids(cities.where(filter=where("__name__", "==", cities.document("DC"))).stream()) == ["DC"]


def test_values_of_all_types_are_ordered_as_documented(client: firestore.Client) -> None:
    """https://firebase.google.com/docs/firestore/manage-data/data-types#value_type_ordering"""
    ascending = [
        None,
        False,
        True,
        math.nan,
        -math.inf,
        -1,
        0.5,
        1,
        2**53 + 1,
        math.inf,
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=UTC),
        "",
        "Z",
        "a",
        "\uffff",
        "\U0001f600",
        b"",
        b"\xff",
        client.document("a/b"),
        client.document("a/b/c/d"),
        client.document("a/c"),
        firestore.GeoPoint(-1, 5),
        firestore.GeoPoint(1, -5),
        [],
        [1, 2, 3],
        [1, 2, 3, 1],
        [2],
        Vector([9.0]),
        Vector([1.0, 1.0]),
        {},
        {"a": "foo", "b": "bar"},
        {"a": "foo", "b": "baz"},
        {"b": 0},
    ]
    write_all(client, {f"v/{99 - index}": {"index": index, "value": value} for index, value in enumerate(ascending)})
    by_value = client.collection("v").order_by("value")
    assert [snapshot.get("index") for snapshot in by_value.stream()] == list(range(len(ascending)))
    backwards = client.collection("v").order_by("value", direction=firestore.Query.DESCENDING)
    assert [snapshot.get("index") for snapshot in backwards.stream()] == list(reversed(range(len(ascending))))


def test_orders_limits_and_offsets(cities: firestore.CollectionReference) -> None:
    """https://firebase.google.com/docs/firestore/query-data/order-limit-data"""
    assert ids(cities.order_by("name").limit(3).stream()) == ["BJ", "LA", "SF"]
    assert ids(cities.order_by("name", direction="DESCENDING").limit(3).stream()) == ["DC", "TOK", "SF"]
    assert ids(cities.order_by("state").order_by("population", direction="DESCENDING").stream()) == [
        "BJ",
        "TOK",
        "DC",
        "LA",
        "SF",
    ]
    assert ids(cities.where(filter=where("population", ">", 700_000)).order_by("population").limit(2).stream()) == ["SF", "LA"]
    assert ids(cities.order_by("population").limit_to_last(2).get()) == ["TOK", "BJ"]
    assert ids(cities.order_by("population").offset(1).limit(2).stream()) == ["SF", "LA"]
    assert ids(cities.limit(0).stream()) == []
    cities.document("nameless").set({"population": 1})
    assert "nameless" not in ids(cities.order_by("name").stream()), "ordering filters for existence of the field"
    assert ids(cities.order_by("population").limit(1).stream()) == ["nameless"]


def test_cursors_by_values_and_by_documents(client: firestore.Client, cities: firestore.CollectionReference) -> None:
    """https://firebase.google.com/docs/firestore/query-data/query-cursors"""
    by_population = cities.order_by("population")
    assert ids(by_population.start_at({"population": 3_900_000}).stream()) == ["LA", "TOK", "BJ"]
    assert ids(by_population.start_after({"population": 3_900_000}).stream()) == ["TOK", "BJ"]
    assert ids(by_population.end_at({"population": 860_000}).stream()) == ["DC", "SF"]
    assert ids(by_population.end_before({"population": 860_000}).stream()) == ["DC"]
    assert ids(by_population.start_at(cities.document("LA").get()).end_at(cities.document("TOK").get()).stream()) == [
        "LA",
        "TOK",
    ]
    assert ids(cities.start_after(cities.document("DC").get()).stream()) == ["LA", "SF", "TOK"]
    states = cities.order_by("state").order_by("name")
    assert ids(states.start_at({"state": "CA"}).stream()) == ["LA", "SF"]
    assert ids(states.start_after({"state": "CA", "name": "Los Angeles"}).stream()) == ["SF"]
    inequality = cities.where(filter=where("population", ">", 700_000))
    assert ids(inequality.order_by("population").start_after(cities.document("SF").get()).stream()) == ["LA", "TOK", "BJ"]


def test_a_query_is_read_in_pages(cities: firestore.CollectionReference) -> None:
    """Query cursors page: "use the last document in a batch as the start of a cursor for the next batch"."""
    ordered = cities.order_by("country").order_by("population", direction=firestore.Query.DESCENDING)
    everything, pages, last = ids(ordered.stream()), [], None
    while page := list((ordered.start_after(last) if last else ordered).limit(2).stream()):
        pages.extend(ids(page))
        last = page[-1]
    assert pages == everything == ["BJ", "TOK", "LA", "SF", "DC"]


def test_projections_return_the_selected_fields(cities: firestore.CollectionReference) -> None:
    """https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#projection"""
    chosen = cities.where(filter=where("state", "==", "CA")).order_by("name")
    assert [snapshot.to_dict() for snapshot in chosen.select(["population", "none"]).stream()] == [
        {"population": 3_900_000},
        {"population": 860_000},
    ]
    assert [snapshot.to_dict() for snapshot in chosen.select([FieldPath.document_id()]).stream()] == [{}, {}]
    assert all(snapshot.update_time is not None for snapshot in chosen.select([FieldPath.document_id()]).stream())


def test_collection_groups_span_all_collections_of_an_id(client: firestore.Client) -> None:
    """https://firebase.google.com/docs/firestore/query-data/queries#collection-group-query"""
    everything = ["a/a/land/1", "a/b/a/b/land/2", "a/b/land/3", "a/b/c/d/land/4", "land/6", "landx/7", "a/land", "land/6/x/8"]
    write_all(client, {path: {"n": int(path[-1]) if path[-1].isdigit() else 0} for path in everything})
    group = client.collection_group("land")
    assert paths(group.stream()) == ["a/a/land/1", "a/b/a/b/land/2", "a/b/c/d/land/4", "a/b/land/3", "land/6"]
    assert paths(group.where(filter=where("n", ">", 2)).stream()) == ["a/b/land/3", "a/b/c/d/land/4", "land/6"]
    between = group.order_by("__name__").start_at({"__name__": client.document("a/b/c/c")})
    assert paths(between.stream()) == ["a/b/c/d/land/4", "a/b/land/3", "land/6"]
    assert group.count().get()[0][0].value == 5
    assert ids(client.collection("land").stream()) == ["6"]


def test_counting_can_stop_early(cities: firestore.CollectionReference) -> None:
    """https://firebase.google.com/docs/firestore/query-data/aggregation-queries, and StructuredAggregationQuery.Count.up_to"""
    assert cities.count(alias="all").get()[0][0].alias == "all"
    assert cities.limit(3).count().get()[0][0].value == 3
    message = rpc.RunAggregationQueryRequest.pb()(parent=ROOT)
    message.structured_aggregation_query.structured_query.from_.add(collection_id="cities")
    message.structured_aggregation_query.aggregations.add(alias="some").count.up_to.value = 2
    message.structured_aggregation_query.aggregations.add(alias="all").count.SetInParent()
    message.structured_aggregation_query.aggregations.add().count.SetInParent()
    answers = list(cities._client._firestore_api.run_aggregation_query(rpc.RunAggregationQueryRequest.wrap(message)))
    counted = {alias: value.integer_value for alias, value in answers[0].result.aggregate_fields.items()}
    assert counted == {"some": 2, "all": 5, "field_1": 5}


def summed(query: Any, *fields: str) -> tuple[Any, ...]:
    """Count, and of each field sum and average."""
    aggregation = query.count(alias="count")
    for field in fields:
        aggregation = aggregation.sum(field, alias=f"sum {field}").avg(field, alias=f"avg {field}")
    found = {each.alias: each.value for each in aggregation.get()[0]}
    return found["count"], *(found[f"{kind} {field}"] for field in fields for kind in ("sum", "avg"))


def test_sums_and_averages(cities: firestore.CollectionReference) -> None:
    """https://firebase.google.com/docs/firestore/query-data/aggregation-queries"""
    assert summed(cities, "population") == (5, 35_940_000, 7_188_000.0)
    assert summed(cities.where(filter=where("state", "==", "CA")), "population") == (2, 4_760_000, 2_380_000.0)
    # The average of nothing is null. This client tells it as 0.0, the one in Node as null.
    assert summed(cities.where(filter=where("capital", "==", 7)), "population") == (0, 0, 0.0)
    assert summed(cities, "name") == (5, 0, 0.0)


def test_documents_without_a_field_that_is_summed_up_are_in_no_aggregation(client: firestore.Client) -> None:
    """As the Node client's system tests expect: "performs aggregations on documents with all aggregated fields"."""
    books: dict[str, dict[str, Any]] = {
        "books/a": {"pages": 100, "year": 1980},
        "books/b": {"pages": 50, "year": 2020},
        "books/c": {"pages": 150, "year": 2021},
        "books/d": {"pages": 50},
    }
    write_all(client, books)
    assert summed(client.collection("books"), "pages", "year") == (3, 300, 100.0, 6021, 2007.0)
    assert summed(client.collection("books"), "pages") == (4, 350, 87.5)
    assert summed(client.collection("books").order_by("pages").limit(2), "pages") == (2, 100, 50.0)


def test_what_is_found_by_name_is_not_summed_up_by_other_fields(client: firestore.Client) -> None:
    """In the words that the suite of another emulator (README.md) expects of production."""
    write_all(client, {"books/a": {"pages": 1}, "books/a/parts/b": {"pages": 2}})
    words = r"requires an index with fields \[pages, year\] after __name__ and Firestore does not currently support"
    books = client.collection("books")
    for by_name in (books.order_by("__name__"), books.where(filter=where("pages", "==", 1)).order_by("__name__")):
        with pytest.raises(exceptions.InvalidArgument, match=words):
            summed(by_name, "pages", "year")
        assert summed(by_name) == (1,)
    assert summed(books.order_by("pages").order_by("__name__"), "pages") == (1, 1, 1.0)
    for parent, collection_id in ((f"{ROOT}/books/a", "parts"), (f"{ROOT}/books/a", ""), (ROOT, "")):
        below = rpc.RunAggregationQueryRequest.pb()(parent=parent)
        below.structured_aggregation_query.aggregations.add().sum.field.field_path = "pages"
        below.structured_aggregation_query.structured_query.from_.add(collection_id=collection_id, all_descendants=True)
        with pytest.raises(exceptions.InvalidArgument, match=r"fields \[pages\] after __name__"):
            list(client._firestore_api.run_aggregation_query(rpc.RunAggregationQueryRequest.wrap(below)))


def test_a_sum_conflicts_with_a_write_that_changes_it(client: firestore.Client) -> None:
    write_all(client, {"books/a": {"pages": 100, "title": "A"}, "books/b": {"pages": math.nan}})
    changes: list[tuple[str, object, bool]] = [("pages", 101, True), ("title", "B", False)]
    for field, value, conflicts in changes:
        transaction = client.transaction(max_attempts=1)
        transaction._begin()
        numbers = client.collection("books").where(filter=where("pages", ">", 0)).sum("pages").get(transaction=transaction)
        assert numbers[0][0].value == 100
        client.document("books/a").update({field: value})
        transaction.set(client.document("books/total"), {"pages": numbers[0][0].value})
        if conflicts:
            with pytest.raises(exceptions.Aborted):
                transaction._commit()
            client.document("books/a").update({"pages": 100})
        else:
            transaction._commit()


def test_queries_of_the_past(cities: firestore.CollectionReference) -> None:
    """https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#runqueryrequest: read_time"""
    before = cities.document("SF").get().read_time
    cities.document("SF").delete()
    cities.document("LA").update({"state": "NV"})
    californian = cities.where(filter=where("state", "==", "CA"))
    assert ids(californian.stream()) == []
    assert ids(californian.stream(read_time=before)) == ["LA", "SF"]
    assert californian.count().get(read_time=before)[0][0].value == 2
    assert ids(cities.list_documents(read_time=before)) == ["BJ", "DC", "LA", "SF", "TOK"]
    assert cities.document("SF").get(read_time=before).exists


# Collections, lists, recursion, databases


def test_lists_name_missing_documents_and_collections(client: firestore.Client) -> None:
    """https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#listdocumentsrequest (show_missing), and
    https://firebase.google.com/docs/firestore/manage-data/data-model: "deleted" ancestors"""
    write_all(client, {"a/1": {"n": 1}, "a/2/b/3": {}, "a/2/c/4/d/5": {}, "x/6": {}})
    assert ids(client.collections()) == ["a", "x"]
    assert ids(client.collection("a").list_documents()) == ["1", "2"]
    assert ids(client.collection("a").list_documents(page_size=1)) == ["1", "2"]
    assert ids(client.collection("a").stream()) == ["1"]
    assert ids(client.document("a/2").collections()) == ["b", "c"]
    assert ids(client.document("a/2/c/4").collections()) == ["d"]
    assert ids(client.document("a/1").collections()) == []


def test_recursive_delete_takes_everything_below_and_nothing_beside(client: firestore.Client) -> None:
    """Client.recursive_delete:
    https://cloud.google.com/python/docs/reference/firestore/latest/google.cloud.firestore_v1.client.Client"""
    gone = ["a/1", "a/2/b/3", "a/2/b/3/c/4", "a/-/b/-"]
    stays = ["a!/1", "aa/1", "A/1", "b/1", "b/a/a/1"]
    write_all(client, {path: {} for path in gone + stays})
    assert client.recursive_delete(client.collection("a"), chunk_size=2) == len(gone)
    left = [
        snapshot.reference.path for id_ in ("a!", "aa", "A", "b") for snapshot in client.collection(id_).recursive().stream()
    ]
    assert sorted(left) == sorted(stays)
    client.recursive_delete(client.document("b/a"))
    assert ids(client.collection("b").list_documents()) == ["1"]


def test_named_databases_are_apart(server: Served, client: firestore.Client) -> None:
    """https://firebase.google.com/docs/firestore/manage-databases"""
    other = server.client(database="other")
    client.document("c/1").set({"in": "default"})
    other.document("c/1").set({"in": "other"})
    assert client.document("c/1").get().get("in") == "default"
    assert ids(other.collection("c").where(filter=where("in", "==", "other")).stream()) == ["1"]
    other.document("c/1").delete()
    assert client.document("c/1").get().exists


# Transactions


def test_a_transaction_reads_queries_and_writes_as_one(client: firestore.Client, cities: firestore.CollectionReference) -> None:
    """https://firebase.google.com/docs/firestore/manage-data/transactions"""

    @firestore.transactional  # type: ignore[untyped-decorator]
    def enlarge(transaction: firestore.Transaction) -> int:
        capital = cities.document("TOK").get(transaction=transaction)
        small = list(cities.where(filter=where("population", "<", 1_000_000)).stream(transaction=transaction))
        for snapshot in small:
            transaction.update(snapshot.reference, {"population": firestore.Increment(capital.get("population"))})
        transaction.create(cities.document("new"), {"name": "New", "population": len(small)})
        transaction.delete(cities.document("BJ"))
        return len(small)

    assert enlarge(client.transaction()) == 2
    assert ids(cities.order_by("population").stream()) == ["new", "LA", "TOK", "DC", "SF"]
    assert len({snapshot.update_time for snapshot in cities.stream() if snapshot.id in ("new", "DC", "SF")}) == 1


def test_a_transaction_that_raises_changes_nothing(client: firestore.Client) -> None:
    """Transactions page: "a failed transaction ... does not write anything"."""

    @firestore.transactional  # type: ignore[untyped-decorator]
    def fail(transaction: firestore.Transaction) -> None:
        client.document("c/1").get(transaction=transaction)
        transaction.set(client.document("c/1"), {"a": 1})
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail(client.transaction())
    assert not client.document("c/1").get().exists
    client.document("c/1").set({"a": 2})  # its lock is gone


def test_create_fails_the_transaction_when_the_document_exists(client: firestore.Client) -> None:
    client.document("c/1").set({"a": 1})

    @firestore.transactional  # type: ignore[untyped-decorator]
    def create(transaction: firestore.Transaction) -> None:
        transaction.set(client.document("c/2"), {"a": 2})
        transaction.create(client.document("c/1"), {"a": 2})

    with pytest.raises(exceptions.AlreadyExists):
        create(client.transaction())
    assert not client.document("c/2").get().exists


def test_a_read_only_transaction_sees_one_instant_and_writes_nothing(client: firestore.Client) -> None:
    """https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#transactionoptions: read_only"""
    reference = client.document("c/1")
    reference.set({"a": 1})
    transaction = client.transaction(read_only=True)
    transaction._begin()
    assert reference.get(transaction=transaction).get("a") == 1
    reference.set({"a": 2})  # does not wait
    assert reference.get(transaction=transaction).get("a") == 1
    transaction._rollback()

    @firestore.transactional  # type: ignore[untyped-decorator]
    def write(transaction: firestore.Transaction) -> None:
        reference.get(transaction=transaction)
        transaction.set(reference, {"a": 3})

    with pytest.raises(ValueError, match="read-only"):
        write(client.transaction(read_only=True))
    assert reference.get().get("a") == 2


# Rules of the server


def deep(levels: int) -> dict[str, Any]:
    return {"m": deep(levels - 1) if levels > 1 else 1}


@pytest.mark.parametrize(
    ("path", "data", "says"),
    [
        ("c/1", {"a": "x" * 1_048_488}, "1048487"),
        ("c/1", {"a": "é" * 524_244}, "1048487"),
        ("c/1", {"a": "x" * 1_048_400, "b": "x" * 122}, "1048576"),
        ("c/1", {"a": ["x" * 1_000] * 1_050}, "1048576"),
        ("c/1", deep(21), "20"),
        ("c/1", {"__mine__": 1}, "reserved"),
        ("c/1", {"a": {"__mine__": 1}}, "reserved"),
        ("c/1", {"a" * 1_501: 1}, "1500"),
        ("c/1", {"a": [[1]]}, "array"),
        ("c/__mine__", {}, "__.*__"),
        ("__mine__/1", {}, "__.*__"),
        ("c/.", {}, "'.'"),
        ("c/..", {}, "'..'"),
        ("c/" + "x" * 1_501, {}, "1500"),
        ("/".join(["x" * 1_400] * 6), {}, "bytes"),
    ],
)
def test_what_breaks_a_rule_is_refused_and_said(client: firestore.Client, path: str, data: dict[str, Any], says: str) -> None:
    """https://firebase.google.com/docs/firestore/quotas#collections_documents_and_fields"""
    with pytest.raises(exceptions.InvalidArgument) as caught:
        client.document(path).set(data)
    assert says in str(caught.value)
    assert list(client.collections()) == []


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("c/1", {"a": "x" * 1_048_487}),
        ("c/1", {"a": "x" * 1_048_400, "b": "x" * 118}),
        ("c/1", deep(20)),
        ("c/1", {"a" * 1_500: 1, "__a": 1, "a__": 1, "a.b/c`d": 1, " ": 1}),
        ("c/" + "x" * 1_500, {}),
        ("c/ .ü`*~[]\U0001f600", {"a": 1}),
        ("/".join(["x"] * 200), {"a": 1}),
    ],
    ids=["largest value", "size", "depth", "field names", "id", "odd id", "collections"],
)
def test_what_is_just_within_the_rules_is_stored(client: firestore.Client, path: str, data: dict[str, Any]) -> None:
    """As above, and https://firebase.google.com/docs/firestore/storage-size."""
    client.document(path).set(data)
    assert client.document(path).get().to_dict() == data


def test_a_request_above_10_mib_is_refused(client: firestore.Client) -> None:
    """Quotas page: maximum API request size 10 MiB."""
    batch = client.batch()
    for number in range(11):
        batch.set(client.document(f"c/{number}"), {"a": "x" * 1_000_000})
    with pytest.raises(exceptions.InvalidArgument, match="10485760"):
        batch.commit()
    assert list(client.collections()) == []


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda c: c.where(filter=where("a", "in", list(range(31)))), "30"),
        (lambda c: c.where(filter=where("a", "not-in", list(range(11)))), "10"),
        (lambda c: c.where(filter=where("a", "!=", 1)).where(filter=where("b", "!=", 1)), "NOT_EQUAL"),
        (lambda c: c.where(filter=where("a", "not-in", [1])).where(filter=where("b", "in", [1])), "NOT_IN"),
        (
            lambda c: c.where(filter=where("a", "array_contains", 1)).where(filter=where("b", "array_contains", 1)),
            "ARRAY_CONTAINS",
        ),
        (lambda c: c.order_by("__name__").order_by("a"), "__name__"),
        (lambda c: c.where(filter=where("__name__", "==", "text")), "__name__"),
        (lambda c: c.limit(-1), "limit"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_and_said(client: firestore.Client, build: Callable[[Any], Any], says: str) -> None:
    """https://firebase.google.com/docs/firestore/query-data/queries#query_limitations"""
    with pytest.raises(exceptions.InvalidArgument) as caught:
        list(build(client.collection("c")).stream())
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda c: list(c.collection_group("c").get_partitions(2)), "PartitionQuery"),
        (lambda c: c.collection("c").find_nearest("v", Vector([1.0]), 1, DistanceMeasure.COSINE).get(), "find_nearest"),
        (lambda c: c.collection("c").get(explain_options=ExplainOptions(analyze=True)), "xplain"),
        (lambda c: c.pipeline().collection("c").execute(), "ExecutePipeline"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_unimplemented_by_name(client: firestore.Client, call: Callable[[Any], Any], says: str) -> None:
    with pytest.raises(exceptions.MethodNotImplemented, match=says):
        call(client)


# Requests that this client would not make, but others may


def test_immediate_collections_of_any_id_can_be_queried(server: Served, client: firestore.Client) -> None:
    """CollectionSelector: without a collection id and without descendants, "immediate children of the parent"."""
    write_all(client, {"a/1": {}, "b/2": {}, "a/1/c/3": {}, "a/1/d/4": {}})
    message = query.StructuredQuery.pb()()
    message.from_.add()

    def run(parent: str) -> list[str]:
        request = rpc.RunQueryRequest(parent=parent, structured_query=query.StructuredQuery.wrap(message))
        return [answer.document.name.removeprefix(f"{ROOT}/") for answer in server.stub().run_query(request) if answer.document]

    assert run(ROOT) == ["a/1", "b/2"]
    assert run(f"{ROOT}/a/1") == ["a/1/c/3", "a/1/d/4"]


@pytest.mark.parametrize(
    ("aliases", "says"),
    [
        ([], "Aggregations can not be empty."),
        (["a", "b", "a"], "Aggregation aliases contain duplicate alias: a."),
        (["field_1", ""], "Aggregation aliases contain duplicate alias: field_1."),
        ([""] * 6, "The maximum number of aggregations allowed in an aggregation query is 5. Received: 6"),
    ],
)
def test_aggregations_are_refused_in_the_words_of_production(server: Served, aliases: list[str], says: str) -> None:
    message = rpc.RunAggregationQueryRequest.pb()(parent=ROOT)
    message.structured_aggregation_query.structured_query.from_.add(collection_id="a")
    for alias in aliases:
        message.structured_aggregation_query.aggregations.add(alias=alias).count.SetInParent()
    with pytest.raises(grpc.RpcError) as caught:
        list(server.stub().run_aggregation_query(rpc.RunAggregationQueryRequest.wrap(message)))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == says


def test_documents_with_numeric_ids_are_listed_page_by_page_in_the_order_of_their_numbers(
    server: Served, client: firestore.Client
) -> None:
    write_all(client, {f"a/{id_}": {} for id_ in ("b", "__id10__", "__id9__", "__id-2__", "!")})
    listed = [document.id for document in client.collection("a").list_documents(page_size=2)]
    assert listed == ["__id-2__", "__id9__", "__id10__", "!", "b"]


def test_the_first_write_sees_the_document_and_the_next_ones_see_the_writes_before(
    server: Served, client: firestore.Client
) -> None:
    """CommitRequest.writes: "always executed atomically and in order"."""
    name = f"{ROOT}/c/1"
    batch = [
        write_types.Write(update=document.Document(name=name, fields={"n": document.Value(integer_value=1)})),
        write_types.Write(delete=name),
        write_types.Write(
            update=document.Document(name=name, fields={"n": document.Value(integer_value=2)}),
            current_document={"exists": False},
        ),
    ]
    server.stub().commit(rpc.CommitRequest(database=ROOT.removesuffix("/documents"), writes=batch))
    snapshot = client.document("c/1").get()
    assert snapshot.to_dict() == {"n": 2}
    assert snapshot.create_time == snapshot.update_time


# The asynchronous client


def test_the_asynchronous_client_works_too(server: Served) -> None:
    async def use() -> list[Any]:
        with patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{server.port}"}):
            client = firestore.AsyncClient(project=PROJECT)
        await asyncio.gather(*(client.document(f"c/{number}").set({"n": number}) for number in range(5)))

        @firestore.async_transactional  # type: ignore[untyped-decorator]
        async def add(transaction: firestore.AsyncTransaction) -> None:
            snapshot = await client.document("c/4").get(transaction=transaction)
            transaction.update(client.document("c/4"), {"n": snapshot.get("n") + 100})

        await add(client.transaction())
        found = client.collection("c").where(filter=where("n", ">", 2)).stream()
        return [snapshot.to_dict() async for snapshot in found]

    assert asyncio.run(use()) == [{"n": 3}, {"n": 104}]
