"""The methods of `google.firestore.v1.Firestore`: parsed requests in, messages out, over the engines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, TypeVar

import grpc
from google.cloud.firestore_v1.types import TransactionOptions, firestore, write
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.status_pb2 import Status

from emulator import aggregation
from emulator.databases import Databases
from emulator.engine import CommitResult, Engine
from emulator.errors import RpcError
from emulator.names import check_database, check_document_name, check_parent, database_of
from emulator.query import PreparedQuery, project
from emulator.transactions import Waiting

T = TypeVar("T")

MAX_BATCH_WRITES = 500
DEFAULT_PAGE_SIZE = 300
_ID_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

_DATABASE_DEFAULT = TransactionOptions.ConcurrencyMode.CONCURRENCY_MODE_UNSPECIFIED.value
_OPTIMISTIC = TransactionOptions.ConcurrencyMode.OPTIMISTIC.value

_Write = write.Write.pb()
_WriteResult = write.WriteResult.pb()
_BatchGetDocumentsResponse = firestore.BatchGetDocumentsResponse.pb()
_BatchWriteResponse = firestore.BatchWriteResponse.pb()
_BeginTransactionResponse = firestore.BeginTransactionResponse.pb()
_CommitResponse = firestore.CommitResponse.pb()
_ListCollectionIdsResponse = firestore.ListCollectionIdsResponse.pb()
_ListDocumentsResponse = firestore.ListDocumentsResponse.pb()
_RunAggregationQueryResponse = firestore.RunAggregationQueryResponse.pb()
_RunQueryResponse = firestore.RunQueryResponse.pb()


class Service:
    """One coroutine for each RPC. They raise RpcError, and wait for locks without holding up the others."""

    def __init__(self, databases: Databases, random: Random) -> None:
        """`random` makes the ids of documents that are created without one."""
        self._databases = databases
        self._random = random

    def engine_of(self, request: Any) -> Engine:
        """The engine that a request is for: told by its database, parent or document."""
        if hasattr(request, "database"):
            return self._databases[check_database(request.database)]
        for field in ("parent", "name"):
            if hasattr(request, field):
                return self._databases[database_of(getattr(request, field))]
        return self._databases[database_of(request.document.name)]

    # Reading

    async def batch_get_documents(self, request: Any) -> list[Any]:
        engine = self.engine_of(request)
        names = list(dict.fromkeys(request.documents))
        for name in names:
            check_document_name(name, engine.root)
        transaction, read_time_us, begun = _consistency(engine, request)
        result = await _read(engine, begun, lambda: engine.get(names, transaction, read_time_us))
        read_time = _timestamp(result.read_time_us)
        answers = []
        for name, found in zip(names, result.documents, strict=True):
            if found is None:
                answers.append(_BatchGetDocumentsResponse(missing=name, read_time=read_time))
            else:
                answers.append(_BatchGetDocumentsResponse(found=_masked(found, request), read_time=read_time))
        if begun is not None:
            if not answers:
                answers.append(_BatchGetDocumentsResponse(read_time=read_time))
            answers[0].transaction = begun
        return answers

    async def get_document(self, request: Any) -> Any:
        engine = self.engine_of(request)
        check_document_name(request.name, engine.root)
        transaction, read_time_us, _ = _consistency(engine, request)
        result = await _ready(engine.get([request.name], transaction, read_time_us))
        (found,) = result.documents
        if found is None:
            raise RpcError(grpc.StatusCode.NOT_FOUND, f"Document {request.name!r} not found.")
        return _masked(found, request)

    async def run_query(self, request: Any) -> Iterator[Any]:
        _refuse_explain(request)
        engine = self.engine_of(request)
        check_parent(request.parent, engine.root)
        query = PreparedQuery(request.parent, request.structured_query)
        transaction, read_time_us, begun = _consistency(engine, request)
        result = await _read(engine, begun, lambda: engine.query(query, transaction, read_time_us))
        read_time = _timestamp(result.read_time_us)

        def answers() -> Iterator[Any]:  # made one by one while they are sent: others get their turn in between
            if begun is not None:
                yield _RunQueryResponse(transaction=begun)
            for found in result.value:
                yield _RunQueryResponse(document=query.project(found), read_time=read_time)
            if not result.value:
                yield _RunQueryResponse(read_time=read_time)

        return answers()

    async def run_aggregation_query(self, request: Any) -> list[Any]:
        _refuse_explain(request)
        engine = self.engine_of(request)
        check_parent(request.parent, engine.root)
        wanted = aggregation.read(request.structured_aggregation_query)
        summed = [each.path for each in wanted if each.path is not None]
        query = PreparedQuery(request.parent, request.structured_aggregation_query.structured_query, summed)
        transaction, read_time_us, begun = _consistency(engine, request)
        result = await _read(engine, begun, lambda: engine.aggregate(query, wanted, transaction, read_time_us))
        answer = _RunAggregationQueryResponse(read_time=_timestamp(result.read_time_us))
        for each, value in zip(wanted, result.value.values(), strict=True):
            answer.result.aggregate_fields[each.alias].CopyFrom(value)
        if begun is not None:
            answer.transaction = begun
        return [answer]

    async def list_documents(self, request: Any) -> Any:
        engine = self.engine_of(request)
        check_parent(request.parent, engine.root)
        if request.order_by:
            raise RpcError(grpc.StatusCode.UNIMPLEMENTED, "ListDocuments.order_by is not implemented here.")
        transaction, read_time_us, _ = _consistency(engine, request)
        size = _page_size(request)
        result = await _ready(
            engine.list_documents(
                request.parent,
                request.collection_id,
                after=request.page_token,
                limit=size,
                show_missing=request.show_missing,
                transaction=transaction,
                read_time_us=read_time_us,
            )
        )
        answer = _ListDocumentsResponse()
        for name, found in result.value:
            if found is None:
                answer.documents.add(name=name)
            else:
                answer.documents.append(_masked(found, request))
        if len(result.value) == size:  # perhaps the next page is empty
            answer.next_page_token = result.value[-1][0]
        return answer

    async def list_collection_ids(self, request: Any) -> Any:
        engine = self.engine_of(request)
        check_parent(request.parent, engine.root)
        _, read_time_us, _ = _consistency(engine, request)
        size = _page_size(request)
        ids = [id_ for id_ in engine.list_collection_ids(request.parent, read_time_us) if id_ > request.page_token]
        token = ids[size - 1] if len(ids) > size else ""
        return _ListCollectionIdsResponse(collection_ids=ids[:size], next_page_token=token)

    # Transactions and writing

    async def begin_transaction(self, request: Any) -> Any:
        engine = self.engine_of(request)
        return _BeginTransactionResponse(transaction=_begin(engine, request.options, read_write=True))

    async def commit(self, request: Any) -> Any:
        engine = self.engine_of(request)
        result = await _ready(engine.commit(request.writes, request.transaction or None))
        return _CommitResponse(
            write_results=[_write_result(applied) for applied in result.applied],
            commit_time=_timestamp(result.commit_time_us),
        )

    async def rollback(self, request: Any) -> Any:
        self.engine_of(request).rollback(request.transaction)
        return Empty()

    async def batch_write(self, request: Any) -> Any:
        engine = self.engine_of(request)
        if len(request.writes) > MAX_BATCH_WRITES:
            raise _invalid(f"writes: {len(request.writes)} are too many; {MAX_BATCH_WRITES} are allowed.")
        names = [engine.target(each) for each in request.writes]
        if len(set(names)) < len(names):
            raise _invalid("writes: a document may be written only once in a batch.")

        async def outcome(each: Any) -> CommitResult | RpcError:
            try:
                return await _ready(engine.commit([each]))
            except RpcError as error:
                return error

        answer = _BatchWriteResponse()
        for result in await asyncio.gather(*map(outcome, request.writes)):
            if isinstance(result, RpcError):
                answer.write_results.add()
                answer.status.append(Status(code=result.code.value[0], message=result.message))
            else:
                answer.write_results.append(_write_result(result.applied[0]))
                answer.status.append(Status())
        return answer

    async def create_document(self, request: Any) -> Any:
        document_id = request.document_id or "".join(self._random.choices(_ID_ALPHABET, k=20))
        created = _Write(update=request.document)
        created.update.name = f"{request.parent}/{request.collection_id}/{document_id}"
        created.current_document.exists = False
        return await self._write(created, request)

    async def update_document(self, request: Any) -> Any:
        updated = _Write(update=request.document)
        if request.HasField("update_mask"):
            updated.update_mask.CopyFrom(request.update_mask)
        if request.HasField("current_document"):
            updated.current_document.CopyFrom(request.current_document)
        return await self._write(updated, request)

    async def delete_document(self, request: Any) -> Any:
        deleted = _Write(delete=request.name)
        if request.HasField("current_document"):
            deleted.current_document.CopyFrom(request.current_document)
        await _ready(self.engine_of(request).commit([deleted]))
        return Empty()

    async def _write(self, each: Any, request: Any) -> Any:
        result = await _ready(self.engine_of(request).commit([each]))
        return _masked(result.applied[0].document, request)


async def _ready(result: T | Waiting[T]) -> T:
    """The result, once it is there. If the client goes away meanwhile, its place in the queue goes, too."""
    if not isinstance(result, Waiting):
        return result
    future = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    result.on_ready(wake)
    try:
        await future
    except asyncio.CancelledError:
        result.cancel()
        raise
    return result.result()


async def _read(engine: Engine, begun: bytes | None, read: Callable[[], T | Waiting[T]]) -> T:
    """Read; if that fails, end the transaction that was begun for it, of which the client will not know."""
    try:
        return await _ready(read())
    except BaseException:
        if begun is not None:
            engine.rollback(begun)
        raise


def _consistency(engine: Engine, request: Any) -> tuple[bytes | None, int | None, bytes | None]:
    """How to read: in which transaction, at which instant, and the id of a transaction begun on request."""
    selector = request.WhichOneof("consistency_selector")
    if selector == "transaction":
        return request.transaction or None, None, None
    if selector == "new_transaction":
        # "Defaults to a read-only transaction", unlike BeginTransaction.
        begun = _begin(engine, request.new_transaction, read_write=False)
        return begun, None, begun
    if selector == "read_time":
        return None, _microseconds(request.read_time), None
    return None, None, None


def _begin(engine: Engine, options: Any, read_write: bool) -> bytes:
    mode = options.WhichOneof("mode")
    if mode == "read_write" or (mode is None and read_write):
        chosen = options.read_write
        optimistic = None if chosen.concurrency_mode == _DATABASE_DEFAULT else chosen.concurrency_mode == _OPTIMISTIC
        return engine.begin(retry_of=chosen.retry_transaction or None, optimistic=optimistic)
    read_only = options.read_only
    read_time_us = _microseconds(read_only.read_time) if read_only.HasField("read_time") else None
    return engine.begin(read_write=False, read_time_us=read_time_us)


def _write_result(applied: Any) -> Any:
    result = _WriteResult(transform_results=applied.transform_results)
    if applied.document is not None:
        result.update_time.CopyFrom(applied.document.update_time)
    return result


def _page_size(request: Any) -> int:
    if request.page_size < 0:
        raise _invalid("page_size: must not be negative.")
    return int(request.page_size or DEFAULT_PAGE_SIZE)


def _refuse_explain(request: Any) -> None:
    if request.HasField("explain_options"):
        raise RpcError(grpc.StatusCode.UNIMPLEMENTED, "Explaining a query is not implemented here.")


def _masked(found: Any, request: Any) -> Any:
    """The document, or the fields of it that the request's mask leaves."""
    return project(found, request.mask.field_paths) if request.HasField("mask") else found


def _timestamp(us: int) -> Timestamp:
    return Timestamp(seconds=us // 1_000_000, nanos=us % 1_000_000 * 1_000)


def _microseconds(timestamp: Timestamp) -> int:
    if timestamp.nanos % 1_000:
        raise _invalid("read_time: must not be more precise than microseconds.")
    return int(timestamp.seconds * 1_000_000 + timestamp.nanos // 1_000)


def _invalid(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.INVALID_ARGUMENT, message)


# RPC -> the method above, and the type of the request.
UNARY = {
    "GetDocument": (Service.get_document, firestore.GetDocumentRequest.pb()),
    "ListDocuments": (Service.list_documents, firestore.ListDocumentsRequest.pb()),
    "ListCollectionIds": (Service.list_collection_ids, firestore.ListCollectionIdsRequest.pb()),
    "CreateDocument": (Service.create_document, firestore.CreateDocumentRequest.pb()),
    "UpdateDocument": (Service.update_document, firestore.UpdateDocumentRequest.pb()),
    "DeleteDocument": (Service.delete_document, firestore.DeleteDocumentRequest.pb()),
    "BeginTransaction": (Service.begin_transaction, firestore.BeginTransactionRequest.pb()),
    "Commit": (Service.commit, firestore.CommitRequest.pb()),
    "Rollback": (Service.rollback, firestore.RollbackRequest.pb()),
    "BatchWrite": (Service.batch_write, firestore.BatchWriteRequest.pb()),
}
STREAMS = {
    "BatchGetDocuments": (Service.batch_get_documents, firestore.BatchGetDocumentsRequest.pb()),
    "RunQuery": (Service.run_query, firestore.RunQueryRequest.pb()),
    "RunAggregationQuery": (Service.run_aggregation_query, firestore.RunAggregationQueryRequest.pb()),
}
