"""The embedded server over real gRPC: the official client, and requests that it would never send."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter
from google.cloud.firestore_v1.types import common, document
from google.cloud.firestore_v1.types import firestore as rpc
from google.cloud.firestore_v1.types import write as write_types

from emulator.databases import Databases
from emulator.engine import SECOND_US, Settings
from emulator.faults import Fault
from emulator.server import Server
from tests.integration.served import PROJECT, Served, served

DATABASE = f"projects/{PROJECT}/databases/(default)"
ROOT = f"{DATABASE}/documents"


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Served]:
    with served(Settings()) as running:
        yield running


@pytest.fixture
def server(shared_server: Served) -> Iterator[Served]:
    """A server without data, faults or transactions."""
    shared_server.within(shared_server.databases.clear)
    shared_server.within(shared_server.databases.statistics.reset)
    yield shared_server
    shared_server.within(lambda: shared_server.faults.replace([]))


@pytest.fixture(scope="module")
def client(shared_server: Served) -> firestore.Client:
    return shared_server.client()


def in_background(action: Any, *args: Any) -> Any:
    """Start it in a thread and return its future."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(action, *args)
    pool.shutdown(wait=False)
    return future


def eventually(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def waiting_requests(server: Served) -> int:
    return server.within(lambda: len(server.engine()._waiting))


# Documents


def test_documents_are_set_read_updated_and_deleted(server: Served, client: firestore.Client) -> None:
    reference = client.document("cities/paris")
    assert not reference.get().exists
    reference.set({"name": "Paris", "size": {"people": 2}, "tags": ["a"]})
    reference.update({"size.people": 3, "tags": firestore.ArrayUnion(["b"]), "seen": firestore.SERVER_TIMESTAMP})
    found = reference.get()
    assert found.to_dict()["size"] == {"people": 3}
    assert found.to_dict()["tags"] == ["a", "b"]
    assert timedelta(0) <= found.update_time - found.to_dict()["seen"] < timedelta(milliseconds=1)
    assert found.create_time < found.update_time <= found.read_time
    reference.delete()
    assert not reference.get().exists


def test_preconditions_have_the_documented_errors(server: Served, client: firestore.Client) -> None:
    """https://cloud.google.com/firestore/docs/understand-error-codes"""
    reference = client.document("a/1")
    with pytest.raises(exceptions.NotFound):
        reference.update({"x": 1})
    reference.create({"x": 1})
    with pytest.raises(exceptions.AlreadyExists):
        reference.create({"x": 1})
    stale = reference.get()
    reference.update({"x": 2})
    with pytest.raises(exceptions.FailedPrecondition):
        reference.update({"x": 3}, option=client.write_option(last_update_time=stale.update_time))
    with pytest.raises(exceptions.FailedPrecondition):
        reference.delete(option=client.write_option(last_update_time=stale.update_time))


def test_a_batch_happens_as_a_whole_or_not_at_all(server: Served, client: firestore.Client) -> None:
    batch = client.batch()
    batch.set(client.document("a/1"), {"x": 1})
    batch.update(client.document("a/missing"), {"x": 1})
    with pytest.raises(exceptions.NotFound):
        batch.commit()
    assert not client.document("a/1").get().exists
    batch = client.batch()
    batch.set(client.document("a/1"), {"x": 1})
    batch.update(client.document("a/1"), {"x": firestore.Increment(1)})
    results = batch.commit()
    assert client.document("a/1").get().get("x") == 2
    assert results[0].update_time == results[1].update_time == batch.commit_time


def test_a_write_that_changes_nothing_keeps_the_update_time(server: Served, client: firestore.Client) -> None:
    """https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#writeresult:

    "If the write did not actually change the document, this will be the previous update_time."
    """
    changes: list[Any] = []
    server.within(lambda: server.engine().subscribe(changes.extend))
    first = client.document("a/1").set({"x": 1})
    second = client.document("a/1").set({"x": 1})
    assert second.update_time == first.update_time
    assert client.document("a/1").get().update_time == first.update_time
    assert len(changes) == 1


def test_several_documents_are_read_at_one_instant(server: Served, client: firestore.Client) -> None:
    client.document("a/1").set({"x": 1})
    found = list(client.get_all([client.document("a/1"), client.document("a/2"), client.document("a/1")]))
    assert sorted((each.id, each.exists) for each in found) == [("1", True), ("2", False)]
    assert len({each.read_time for each in found}) == 1


def test_documents_are_read_as_they_were(server: Served, client: firestore.Client) -> None:
    """https://firebase.google.com/docs/firestore/reference/rpc/google.firestore.v1: read_time, within the past hour."""
    reference = client.document("a/1")
    before = reference.get().read_time
    first = reference.set({"x": 1}).update_time
    second = reference.set({"x": 2}).update_time
    reference.delete()
    assert not reference.get(read_time=before).exists
    assert reference.get(read_time=first).get("x") == 1
    assert reference.get(read_time=second - timedelta(microseconds=1)).get("x") == 1
    assert reference.get(read_time=second).get("x") == 2
    assert [each.get("x") for each in client.collection("a").get(read_time=first)] == [1]
    with pytest.raises(exceptions.FailedPrecondition):
        reference.get(read_time=datetime.now(UTC) - timedelta(minutes=61))
    with pytest.raises(exceptions.InvalidArgument):
        reference.get(read_time=datetime.now(UTC) + timedelta(minutes=1))


def test_queries_counts_and_collection_groups(server: Served, client: firestore.Client) -> None:
    for number in range(10):
        client.document(f"numbers/n{number}").set({"value": number, "even": number % 2 == 0})
        client.document(f"numbers/n{number}/parts/p").set({"value": -number})
    numbers = client.collection("numbers")
    even = numbers.where(filter=FieldFilter("even", "==", True)).order_by("value", direction="DESCENDING").limit(2)
    assert [each.get("value") for each in even.stream()] == [8, 6]
    assert numbers.where(filter=FieldFilter("value", ">", 6)).count().get()[0][0].value == 3
    group = client.collection_group("parts").where(filter=FieldFilter("value", "<", -7))
    assert sorted(each.get("value") for each in group.stream()) == [-9, -8]
    assert list(client.collection("none").stream()) == []
    assert [each.to_dict() for each in numbers.select(["value"]).limit(1).stream()] == [{"value": 0}]


def test_missing_parents_are_listed_page_by_page(server: Served, client: firestore.Client) -> None:
    """https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#listdocumentsrequest: show_missing"""
    for number in range(7):
        client.document(f"a/d{number}/b/1").set({})
    client.document("a/d3").set({})
    assert [each.id for each in client.collection("a").list_documents(page_size=2)] == [f"d{n}" for n in range(7)]
    assert [each.id for each in client.document("a/d1").collections()] == ["b"]
    assert [each.id for each in client.collections()] == ["a"]
    assert [each.id for each in client.collection("a").stream()] == ["d3"]


def test_bulk_writer_and_recursive_delete(server: Served, client: firestore.Client) -> None:
    writer = client.bulk_writer()
    for number in range(60):
        writer.set(client.document(f"bulk/{number}"), {"x": number})
        writer.set(client.document(f"bulk/{number}/below/1"), {"x": number})
    writer.close()
    assert client.collection_group("below").count().get()[0][0].value == 60
    client.recursive_delete(client.collection("bulk"))
    assert list(client.collections()) == []


def test_databases_and_projects_are_apart(server: Served, client: firestore.Client) -> None:
    client.document("a/1").set({"where": "default"})
    server.client(database="other").document("a/1").set({"where": "other"})
    assert client.document("a/1").get().get("where") == "default"
    assert not server.client(project="another").document("a/1").get().exists


# Transactions


def test_concurrent_increments_of_a_hot_document_all_commit(server: Served, client: firestore.Client) -> None:
    """With no more than the client's own five attempts."""
    reference = client.document("hot/counter")
    reference.set({"count": 0})

    def increment(_: int) -> None:
        @firestore.transactional  # type: ignore[untyped-decorator]
        def transact(transaction: firestore.Transaction) -> None:
            count = reference.get(transaction=transaction).get("count")
            transaction.update(reference, {"count": count + 1})

        transact(client.transaction())

    with ThreadPoolExecutor(500) as pool:
        list(pool.map(increment, range(500)))
    assert reference.get().get("count") == 500
    assert server.engine().sizes()["locks"] == 0


def test_readers_do_not_block_readers(server: Served, client: firestore.Client) -> None:
    reference = client.document("a/1")
    reference.set({"x": 1})
    transactions = [client.transaction() for _ in range(3)]
    for transaction in transactions:
        transaction._begin()
        assert reference.get(transaction=transaction).get("x") == 1
    assert reference.get().get("x") == 1
    for transaction in transactions:
        transaction._commit()


@pytest.mark.parametrize("exists", [True, False])
def test_a_write_from_outside_waits_for_the_reader(server: Served, client: firestore.Client, exists: bool) -> None:
    """https://firebase.google.com/docs/firestore/transaction-data-contention: "a transaction's lock on a document blocks
    other transactions, batched writes, and non-transactional writes from changing that document"."""
    reference = client.document("a/1")
    if exists:
        reference.set({"x": 1})
    transaction = client.transaction()
    transaction._begin()
    reference.get(transaction=transaction)
    write = in_background(reference.set, {"x": 2})
    eventually(lambda: waiting_requests(server) == 1)
    assert reference.get().exists is exists, "who reads outside of transactions does not wait"
    transaction.set(reference, {"x": 3})
    (result,) = transaction._commit()
    assert write.result(30).update_time > result.update_time
    assert reference.get().get("x") == 2


def test_of_two_that_write_what_both_have_read_the_older_wins(server: Served, client: firestore.Client) -> None:
    """https://cloud.google.com/firestore/docs/transaction-data-contention: the other one is ABORTED."""
    older, younger = client.transaction(max_attempts=1), client.transaction(max_attempts=1)
    one, two = client.document("a/1"), client.document("a/2")
    for transaction in (older, younger):
        transaction._begin()
        one.get(transaction=transaction)
    older.set(one, {"by": "older"})
    younger.set(one, {"by": "younger"})
    younger.set(two, {"by": "younger"})
    commit = in_background(younger._commit)
    eventually(lambda: waiting_requests(server) == 1)
    older._commit()
    with pytest.raises(exceptions.Aborted, match="contention"):
        commit.result(30)
    assert one.get().get("by") == "older"
    assert not two.get().exists


def test_the_mode_and_the_age_of_a_transaction_come_with_its_options(server: Served) -> None:
    """https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#transactionoptions"""
    stub = server.stub()
    modes = common.TransactionOptions.ConcurrencyMode
    name = f"{ROOT}/a/1"

    def begun(mode: Any = modes.CONCURRENCY_MODE_UNSPECIFIED, retry_of: bytes = b"") -> bytes:
        """By the first read, which is of the document."""
        read_write = common.TransactionOptions.ReadWrite(retry_transaction=retry_of, concurrency_mode=mode)
        options = common.TransactionOptions(read_write=read_write)
        request = rpc.BatchGetDocumentsRequest(database=DATABASE, documents=[name], new_transaction=options)
        (answer,) = stub.batch_get_documents(request)
        return bytes(answer.transaction)

    def commit(number: int, transaction: bytes = b"") -> None:
        write = write_types.Write(update=document.Document(name=name, fields={"n": {"integer_value": number}}))
        stub.commit(rpc.CommitRequest(database=DATABASE, writes=[write], transaction=transaction), timeout=20)

    def aborts(number: int, transaction: bytes) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            commit(number, transaction)
        assert caught.value.code() is grpc.StatusCode.ABORTED

    optimistic = begun(modes.OPTIMISTIC)
    commit(1)  # does not wait
    aborts(2, optimistic)
    failed, younger = begun(), begun(modes.PESSIMISTIC)
    stub.rollback(rpc.RollbackRequest(database=DATABASE, transaction=failed))
    retry = begun(modes.PESSIMISTIC, failed)
    commit(3, retry)
    aborts(4, younger)


def test_a_read_only_transaction_sees_one_instant_and_locks_nothing(server: Served, client: firestore.Client) -> None:
    reference = client.document("a/1")
    reference.set({"x": 1})
    transaction = client.transaction(read_only=True)
    transaction._begin()
    reference.set({"x": 2})
    assert reference.get(transaction=transaction).get("x") == 1
    reference.set({"x": 3})
    assert [each.get("x") for each in client.collection("a").get(transaction=transaction)] == [1]
    transaction._rollback()


def test_a_query_in_a_transaction_is_safe_from_phantoms(server: Served, client: firestore.Client) -> None:
    """https://cloud.google.com/firestore/docs/transaction-data-contention: serializable isolation"""
    transaction = client.transaction(max_attempts=1)
    transaction._begin()
    assert list(client.collection("a").get(transaction=transaction)) == []
    client.document("a/1").set({})
    transaction.set(client.document("result/1"), {"count": 0})
    with pytest.raises(exceptions.Aborted):
        transaction._commit()


def test_the_first_read_can_begin_the_transaction(server: Served) -> None:
    """https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#batchgetdocumentsrequest:

    "The new transaction ID will be returned as the first response in the stream."
    """
    stub = server.stub()
    options = common.TransactionOptions(read_write=common.TransactionOptions.ReadWrite())
    names = [f"{ROOT}/a/1", f"{ROOT}/a/2"]
    request = rpc.BatchGetDocumentsRequest(database=DATABASE, documents=names, new_transaction=options)
    answers = list(stub.batch_get_documents(request))
    assert [answer.missing for answer in answers] == names
    assert answers[0].transaction
    assert not answers[1].transaction
    write = write_types.Write(update=document.Document(name=names[0]))
    stub.commit(rpc.CommitRequest(database=DATABASE, writes=[write], transaction=answers[0].transaction))
    assert sum(server.databases.statistics.rpcs.values()) == 2
    query = rpc.RunQueryRequest(parent=ROOT, structured_query={"from_": [{"collection_id": "a"}]}, new_transaction=options)
    begun, found = stub.run_query(query)
    assert begun.transaction
    assert not begun.document.name
    assert found.document.name == names[0]


def test_a_transaction_that_ended_is_refused(server: Served) -> None:
    stub = server.stub()
    begun = stub.begin_transaction(rpc.BeginTransactionRequest(database=DATABASE)).transaction
    stub.commit(rpc.CommitRequest(database=DATABASE, transaction=begun))
    for transaction in (begun, b"made up"):
        with pytest.raises(grpc.RpcError) as caught:
            stub.commit(rpc.CommitRequest(database=DATABASE, transaction=transaction))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    stub.rollback(rpc.RollbackRequest(database=DATABASE, transaction=begun))


def test_locks_are_not_waited_for_without_end_and_idle_transactions_expire() -> None:
    settings = Settings(lock_wait_us=SECOND_US // 5, transaction_idle_us=SECOND_US)
    with served(settings) as server:
        client = server.client()
        transaction = client.transaction()
        transaction._begin()
        client.document("a/1").get(transaction=transaction)
        with pytest.raises(exceptions.Aborted, match="contention"):
            client.document("a/1").set({}, retry=None)
        eventually(lambda: server.engine().sizes()["transactions"] == 0)
        client.document("a/1").set({})
        with pytest.raises(exceptions.InvalidArgument, match="expired"):
            transaction._commit()


def test_optimistic_transactions_conflict_at_commit() -> None:
    """https://cloud.google.com/firestore/docs/transaction-data-contention"""
    with served(Settings(optimistic=True)) as server:
        client = server.client()
        reference = client.document("a/1")
        transaction = client.transaction(max_attempts=1)
        transaction._begin()
        assert not reference.get(transaction=transaction).exists
        reference.set({"x": 1})
        assert not reference.get(transaction=transaction).exists
        transaction.set(reference, {"x": 2})
        with pytest.raises(exceptions.Aborted):
            transaction._commit()
        assert reference.get().get("x") == 1


# What it does not do, and what it refuses


@pytest.mark.parametrize("name", ["PartitionQuery", "ExecutePipeline", "MadeUp"])
def test_what_is_not_there_is_unimplemented_by_name(server: Served, name: str) -> None:
    call = server.channel().stream_stream(f"/google.firestore.v1.Firestore/{name}")
    with pytest.raises(grpc.RpcError) as caught:
        list(call(iter([b""])))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert name in caught.value.details()


def test_listening_is_unimplemented_for_the_official_client(server: Served, client: firestore.Client) -> None:
    with pytest.raises(exceptions.MethodNotImplemented, match="PartitionQuery"):
        list(client.collection_group("a").get_partitions(2))


@pytest.mark.parametrize(
    ("request_bytes", "says"),
    [(b"\xff\xff\xff\xff", "BatchGetDocumentsRequest"), (b"\n" * (10 * 1024 * 1024 + 1), "10485760")],
)
def test_requests_that_are_garbage_or_too_long_are_told_so(server: Served, request_bytes: bytes, says: str) -> None:
    """https://firebase.google.com/docs/firestore/quotas: 10 MiB for a request"""
    call = server.channel().unary_stream("/google.firestore.v1.Firestore/BatchGetDocuments")
    with pytest.raises(grpc.RpcError) as caught:
        list(call(request_bytes))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert says in caught.value.details()


@pytest.mark.parametrize(
    "request_",
    [
        rpc.BatchGetDocumentsRequest(database="nonsense"),
        rpc.BatchGetDocumentsRequest(database=DATABASE, documents=[f"{ROOT}/a"]),
        rpc.BatchGetDocumentsRequest(database=DATABASE, documents=[f"{ROOT}/a/__b__"]),
        rpc.BatchGetDocumentsRequest(database=DATABASE, documents=[f"{ROOT}/a//b/c"]),
        rpc.BatchGetDocumentsRequest(database=DATABASE, documents=["projects/x/databases/y/documents/a/b"]),
    ],
)
def test_names_that_cannot_be_are_invalid(server: Served, request_: Any) -> None:
    """https://firebase.google.com/docs/firestore/quotas#collections_documents_and_fields"""
    with pytest.raises(grpc.RpcError) as caught:
        list(server.stub().batch_get_documents(request_))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_each_write_of_a_batch_write_has_its_own_status(server: Served) -> None:
    """https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#batchwriterequest"""
    exists = common.Precondition(exists=True)
    writes = [
        write_types.Write(update=document.Document(name=f"{ROOT}/a/1")),
        write_types.Write(update=document.Document(name=f"{ROOT}/a/2"), current_document=exists),
    ]
    answer = server.stub().batch_write(rpc.BatchWriteRequest(database=DATABASE, writes=writes))
    assert [status.code for status in answer.status] == [0, grpc.StatusCode.NOT_FOUND.value[0]]
    assert answer.write_results[0].update_time
    with pytest.raises(grpc.RpcError, match="only once"):
        server.stub().batch_write(rpc.BatchWriteRequest(database=DATABASE, writes=writes[:1] * 2))


def test_single_document_rpcs_work(server: Served) -> None:
    stub = server.stub()
    fields = {"x": document.Value(integer_value=1)}
    created = stub.create_document(
        rpc.CreateDocumentRequest(parent=ROOT, collection_id="a", document=document.Document(fields=fields))
    )
    assert created.name.startswith(f"{ROOT}/a/")
    with pytest.raises(grpc.RpcError) as caught:
        stub.create_document(
            rpc.CreateDocumentRequest(parent=ROOT, collection_id="a", document_id=created.name.rpartition("/")[2])
        )
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    changed = document.Document(name=created.name, fields={"y": document.Value(integer_value=2)})
    updated = stub.update_document(
        rpc.UpdateDocumentRequest(document=changed, update_mask=common.DocumentMask(field_paths=["y"]))
    )
    assert set(updated.fields) == {"x", "y"}
    masked = rpc.GetDocumentRequest(name=created.name, mask=common.DocumentMask(field_paths=["y"]))
    assert set(stub.get_document(masked).fields) == {"y"}
    stub.delete_document(rpc.DeleteDocumentRequest(name=created.name))
    with pytest.raises(grpc.RpcError) as caught:
        stub.get_document(masked)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


# Faults, statistics


def test_an_injected_fault_hits_before_or_after_the_commit(server: Served, client: firestore.Client) -> None:
    reference = client.document("a/1")
    server.within(lambda: server.faults.replace([Fault("Commit", grpc.StatusCode.INTERNAL, remaining=1)]))
    with pytest.raises(exceptions.InternalServerError):
        reference.set({"x": 1})
    assert not reference.get().exists
    after = Fault("Commit", grpc.StatusCode.DEADLINE_EXCEEDED, moment="after", remaining=1)
    server.within(lambda: server.faults.replace([after]))
    with pytest.raises(exceptions.DeadlineExceeded):
        reference.set({"x": 1})
    assert reference.get().get("x") == 1
    server.within(lambda: server.faults.replace([Fault("Commit", grpc.StatusCode.UNAVAILABLE, remaining=1)]))
    reference.set({"x": 2})  # the client sends it again by itself


def test_an_injected_abort_ends_the_transaction(server: Served, client: firestore.Client) -> None:
    server.within(lambda: server.faults.replace([Fault("Commit", grpc.StatusCode.ABORTED, remaining=1)]))
    reference = client.document("a/1")
    attempts: list[int] = []

    @firestore.transactional  # type: ignore[untyped-decorator]
    def transact(transaction: firestore.Transaction) -> None:
        attempts.append(1)
        reference.get(transaction=transaction)
        transaction.set(reference, {"x": 1})

    transact(client.transaction())
    assert len(attempts) == 2
    assert server.engine().sizes()["transactions"] == 0


def test_what_is_billed_is_counted(server: Served, client: firestore.Client) -> None:
    """https://firebase.google.com/docs/firestore/pricing: one read for a query that finds nothing"""
    client.document("a/1").set({"x": 1})
    client.document("a/1").get()
    client.document("a/missing").get()
    list(client.collection("nothing").stream())
    client.document("a/1").delete()
    statistics = server.databases.statistics.as_dict()
    assert statistics["rpcs"] == {"BatchGetDocuments": 2, "Commit": 2, "RunQuery": 1}
    assert (statistics["documentReads"], statistics["documentWrites"], statistics["documentDeletes"]) == (3, 1, 1)
    assert (statistics["commits"], statistics["aborts"]) == (2, 0)


# Robustness


def test_garbage_on_the_port_leaves_it_healthy(server: Served, client: firestore.Client) -> None:
    random = Random(4)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
    for _ in range(40):
        frames = b"".join(
            bytes([0, 0, random.randrange(40), random.randrange(10), random.randrange(256), 0, 0, 0, random.randrange(9)])
            + random.randbytes(random.randrange(40))
            for _ in range(30)
        )
        for garbage in (random.randbytes(999), b"GET / HTTP/1.1\r\n\r\n", preface + random.randbytes(99), preface + frames):
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
                connection.sendall(garbage)
    client.document("a/1").set({"x": 1})
    assert client.document("a/1").get().exists


def test_connections_that_say_nothing_do_not_matter(server: Served, client: firestore.Client) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(50)]
    client.document("a/1").set({"x": 1})
    for connection in silent:
        connection.close()


def test_a_client_that_goes_away_loses_its_place_in_the_queue(server: Served, client: firestore.Client) -> None:
    transaction = client.transaction()
    transaction._begin()
    client.document("a/1").get(transaction=transaction)
    channel = server.channel()
    commit = channel.unary_unary("/google.firestore.v1.Firestore/Commit")
    write = write_types.Write(update=document.Document(name=f"{ROOT}/a/1"))
    request = rpc.CommitRequest(database=DATABASE, writes=[write])
    call = commit.future(rpc.CommitRequest.serialize(request))
    eventually(lambda: waiting_requests(server) == 1)
    channel.close()
    eventually(lambda: waiting_requests(server) == 0)
    assert call.cancelled() or call.code() is grpc.StatusCode.CANCELLED
    transaction._rollback()
    assert not client.document("a/1").get().exists
    client.document("a/1").set({})


def test_a_request_past_its_deadline_loses_its_place_in_the_queue(server: Served, client: firestore.Client) -> None:
    transaction = client.transaction()
    transaction._begin()
    client.document("a/1").get(transaction=transaction)
    with pytest.raises(exceptions.DeadlineExceeded):
        client.document("a/1").set({"x": 1}, timeout=0.2, retry=None)
    eventually(lambda: waiting_requests(server) == 0)
    transaction._rollback()
    assert not client.document("a/1").get().exists


def test_many_waiting_transactions_do_not_hold_up_the_others(server: Served, client: firestore.Client) -> None:
    transaction = client.transaction()
    transaction._begin()
    client.document("hot/1").get(transaction=transaction)
    writes = [in_background(client.document("hot/1").set, {"x": number}) for number in range(100)]
    eventually(lambda: waiting_requests(server) == 100)
    client.document("cool/1").set({"x": 1})
    assert client.document("hot/1").get().exists is False
    transaction._rollback()
    for write in writes:
        write.result(30)
    assert threading.active_count() < 300


def test_a_second_server_on_the_same_port_is_refused(server: Served) -> None:
    with pytest.raises(OSError, match=str(server.port)):
        asyncio.run(Server(Databases()).start(server.port))


def test_a_killed_client_holds_its_locks_no_longer_than_its_transaction_may_idle() -> None:
    program = """
import time
from google.cloud import firestore
client = firestore.Client(project="demo-test")
transaction = client.transaction()
transaction._begin()
client.document("a/1").get(transaction=transaction)
print("locked", flush=True)
time.sleep(60)
"""
    with served(Settings(transaction_idle_us=SECOND_US)) as server:
        environment = {**os.environ, "FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{server.port}"}
        victim = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment)
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"locked\n"
        write = in_background(server.client().document("a/1").set, {"x": 1})
        eventually(lambda: waiting_requests(server) == 1)
        victim.kill()
        victim.wait()
        victim.stdout.close()
        write.result(30)
        assert server.engine().sizes()["locks"] == 0


def test_memory_stays_flat_under_steady_load() -> None:
    command = [sys.executable, "-m", "emulator", "--port", "0", "--admin-port", "0", "--retention", "0.5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            address = json.loads(process.stdout.readline())["firestoreHost"]
            commit = grpc.insecure_channel(address).unary_unary("/google.firestore.v1.Firestore/Commit")
            # 20 documents of 20 kB: were their versions kept, each round would take 10 MB.
            requests = []
            for number in range(20):
                value = document.Value(map_value={"fields": {"now": {"string_value": "x" * 20_000}}})
                write = write_types.Write(update=document.Document(name=f"{ROOT}/a/{number}", fields={"x": value}))
                write.update_transforms.append(
                    write_types.DocumentTransform.FieldTransform(field_path="at", set_to_server_value="REQUEST_TIME")
                )
                requests.append(rpc.CommitRequest.serialize(rpc.CommitRequest(database=DATABASE, writes=[write])))
            resident_kib = []
            with ThreadPoolExecutor(8) as pool:
                for _ in range(4):
                    list(pool.map(commit, requests * 25))
                    time.sleep(1.2)  # versions are dropped in batches, about once a second
                    resident_kib.append(_resident_kib(process.pid))
            assert resident_kib[3] - resident_kib[1] < 8_000, resident_kib
        finally:
            process.terminate()


def _resident_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
