"""The official Firestore library behind the protocol's narrow view: the only module that imports it.

It calls the library's generated `FirestoreClient` rather than `firestore.Client`: that one retries only some errors of a
transaction, wraps others in ValueError, spends an RPC on beginning a transaction that the first read can begin, and its
codec costs many times what ours does (values.py). The RPCs of every event and of every group go straight to the channel of
that client, with its messages and headers: its own wrapping of a call takes as long as the call.

A connection may go silent: nothing comes back, and nothing says so until the system gives it up after many minutes. So no call
waits long, and when one has waited in vain on a connection from which nothing else came either, the next ones get a new one.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import lru_cache
from itertools import takewhile
from typing import Any

import google.auth
import grpc
from google.api_core import exceptions
from google.api_core.gapic_v1.routing_header import to_grpc_metadata
from google.cloud.firestore_v1 import types
from google.cloud.firestore_v1.field_path import FieldPath
from google.cloud.firestore_v1.services.firestore import FirestoreClient
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcTransport

from balance.database.budget import cut
from balance.database.codec import decode_fields, encode_fields_into, encode_into, encode_update_into, to_datetime, to_timestamp
from balance.database.firestore import (
    SERVER_TIME,
    Conflict,
    Create,
    Delete,
    Directory,
    Query,
    Snapshot,
    TooLarge,
    Transaction,
    TransientError,
    UnreadablePast,
    Update,
    Write,
)

_logger = logging.getLogger(__name__)

_READ_S = 5.0
"""For a read without locks. What answers at all answers within a fraction of that."""

_READ_PER_DOCUMENT_S = 0.02
"""More for each document: several hundred large ones take their time."""

_LOCKING_S = 8.0
"""For a call that may have to wait for somebody else's lock."""

_ROLLBACK_S = 2.0
_LIST_S = 30.0
_QUERY_S = 300.0
"""For a whole query; its next answer must come within the time of a read."""

_SILENT_S = 3.0
"""A connection from which nothing has come for so long, though something is due, is given up."""

_PAGE = 300
_CHANNEL_OPTIONS = [
    # As the official client has it; it finds out about no silence before our deadlines do.
    ("grpc.keepalive_time_ms", 30_000),
    # Else a new channel would share the silent connection of the one before.
    ("grpc.use_local_subchannel_pool", 1),
    # After an outage nobody waits two minutes for the next try, nor 20 s for a connection that does not come about.
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A read is a stream of a few answers: the calling thread takes them itself, where else one is started for each call.
    ("SingleThreadedUnaryStream", 1),
]

_GetPb = types.BatchGetDocumentsRequest.pb()
_CommitPb = types.CommitRequest.pb()
_RunQueryPb = types.RunQueryRequest.pb()
_CountPb = types.RunAggregationQueryRequest.pb()
_ListPb = types.ListDocumentsRequest.pb()
_RollbackPb = types.RollbackRequest.pb()
_Operator = types.StructuredQuery.FieldFilter.Operator
_OPERATORS = {
    "==": _Operator.EQUAL.value,
    ">=": _Operator.GREATER_THAN_OR_EQUAL.value,
    "array-contains": _Operator.ARRAY_CONTAINS.value,
}
_DESCENDING = types.StructuredQuery.Direction.DESCENDING.value
_REQUEST_TIME = types.DocumentTransform.FieldTransform.ServerValue.REQUEST_TIME.value

_PESSIMISTIC = types.TransactionOptions.ConcurrencyMode.PESSIMISTIC.value
_NO_ANSWER = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
_REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED)

_TRANSIENT = (
    exceptions.Aborted,
    exceptions.Cancelled,
    exceptions.DeadlineExceeded,
    exceptions.InternalServerError,
    exceptions.ResourceExhausted,
    exceptions.RetryError,
    exceptions.ServiceUnavailable,
    exceptions.Unknown,
)
"""After these a transaction may succeed when run again as a whole; whether a commit took effect is not known."""


_CONFLICTS = (exceptions.Aborted, exceptions.AlreadyExists, exceptions.FailedPrecondition, exceptions.NotFound)
"""After these a commit outside of a transaction has written nothing."""


def connect(project: str, database: str) -> Directory:
    """The database, through one channel that all threads may share; an emulator's when FIRESTORE_EMULATOR_HOST names one."""
    emulator = os.environ.get("FIRESTORE_EMULATOR_HOST")
    name = f"projects/{project}/databases/{database}"
    if emulator:
        return SdkFirestore(lambda: grpc.insecure_channel(emulator, options=_CHANNEL_OPTIONS), name, is_emulator=True)
    credentials, _ = google.auth.default(default_scopes=FirestoreGrpcTransport.AUTH_SCOPES)

    def open_channel() -> grpc.Channel:
        return FirestoreGrpcTransport.create_channel(
            FirestoreClient.DEFAULT_ENDPOINT, credentials=credentials, options=_CHANNEL_OPTIONS
        )

    return SdkFirestore(open_channel, name, is_emulator=False)


def project_id() -> str:
    """The project that this process runs in; raises google.auth's error when nothing tells."""
    named = os.environ.get("GOOGLE_CLOUD_PROJECT") or os.environ.get("GCLOUD_PROJECT")
    if named:
        return named
    _, found = google.auth.default()
    if not found:
        raise RuntimeError("no project: set GOOGLE_CLOUD_PROJECT")
    return str(found)


_SERVICE = "/google.firestore.v1.Firestore"


class Line:
    """One channel, what is called through it, and when something was last heard from its other end."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.client = FirestoreClient(transport=FirestoreGrpcTransport(channel=channel))
        self.get = channel.unary_stream(
            f"{_SERVICE}/BatchGetDocuments", _GetPb.SerializeToString, types.BatchGetDocumentsResponse.pb().FromString
        )
        self.query = channel.unary_stream(
            f"{_SERVICE}/RunQuery", _RunQueryPb.SerializeToString, types.RunQueryResponse.pb().FromString
        )
        # Of bytes: so the size of a request is known before it is sent.
        self.commit = channel.unary_unary(f"{_SERVICE}/Commit", None, types.CommitResponse.pb().FromString)
        self.rollback = channel.unary_unary(f"{_SERVICE}/Rollback", _RollbackPb.SerializeToString)
        self.heard_at_s = time.monotonic()
        self.is_closed = False
        self._channel = channel

    def heard(self) -> None:
        """Something came."""
        self.heard_at_s = time.monotonic()

    def is_silent(self, since_s: float) -> bool:
        """Whether nothing has come for too long, for somebody who has waited since that time."""
        return time.monotonic() - max(self.heard_at_s, since_s) >= _SILENT_S

    def close(self) -> None:
        """Give it up: whatever waits on it ends as cancelled."""
        self.is_closed = True
        self._channel.close()


class _Watch:
    """Ends a stream whose next answer does not come. The time that passes between its answers and the asking does not count."""

    def __init__(self, call: Any, longest_s: float) -> None:
        self.has_ended_it = False
        self._call = call
        self._longest_s = longest_s
        self._asked_at_s: float | None = None
        self._timer: threading.Timer | None = None

    def __enter__(self) -> "_Watch":
        self._set(self._longest_s)
        return self

    def __exit__(self, *_: object) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def next(self, answers: Iterator[Any]) -> Any:
        """The next answer, or None at the end."""
        self._asked_at_s = time.monotonic()
        try:
            return next(answers, None)
        finally:
            self._asked_at_s = None

    def _set(self, after_s: float) -> None:
        self._timer = threading.Timer(after_s, self._look)
        self._timer.daemon = True
        self._timer.start()

    def _look(self) -> None:
        if self._timer is None:
            return
        asked_at_s = self._asked_at_s
        left_s = self._longest_s if asked_at_s is None else asked_at_s + self._longest_s - time.monotonic()
        if left_s > 0:
            self._set(left_s)
        else:
            self.has_ended_it = True
            self._call.cancel()


class SdkFirestore:
    """A database behind the generated client's messages."""

    def __init__(self, open_channel: Callable[[], grpc.Channel], database: str, *, is_emulator: bool) -> None:
        self._open_channel = open_channel
        self._line = Line(open_channel())
        self._replacing = threading.Lock()
        self.database = database
        self.root = f"{database}/documents/"
        self.metadata = [("google-cloud-resource-prefix", database)]
        if is_emulator:
            # What makes an emulator skip the security rules, as a service account does in production.
            self.metadata.append(("authorization", "Bearer owner"))
        self.routed_metadata = self.routed("database", database)
        self.names_concurrency = True
        """Whether transactions ask for pessimistic concurrency by name."""

    @property
    def client(self) -> FirestoreClient:
        """The generated client, for calls that nothing hurries."""
        return self._line.client

    @contextmanager
    def line(self) -> Iterator[Line]:
        """The line for one call, which is replaced when the call shows that it is silent."""
        line, began_s = self._line, time.monotonic()
        try:
            yield line
        except ValueError as error:
            # All that the library says of a call on a closed channel.
            if line.is_closed:
                raise TransientError("the connection was just given up") from error
            raise
        except grpc.RpcError as error:
            code = error.code()
            if code in _NO_ANSWER:
                if line.is_silent(began_s):
                    self._replace(line)
            elif code is not grpc.StatusCode.UNAVAILABLE:
                line.heard()
            raise
        line.heard()

    def _replace(self, silent: Line) -> None:
        with self._replacing:
            if self._line is not silent:
                return
            self._line = Line(self._open_channel())
        _logger.warning("Firestore's connection has been silent for %g s or more: a new one is opened.", _SILENT_S)
        silent.close()

    def forgo_concurrency(self, refusal: grpc.RpcError) -> None:
        """Ask for no mode any more, and say so."""
        if self.names_concurrency:
            self.names_concurrency = False
            _logger.warning(
                "This Firestore refuses transactions that name their concurrency mode (%s). They go on in the database's "
                "default mode; if that is optimistic, rebuilds of busy groups may have to be repeated.",
                refusal.details(),
            )

    def routed(self, name: str, value: str) -> list[tuple[str, str]]:
        """The metadata of a call, with the field of its request by which it is routed."""
        return [*self.metadata, to_grpc_metadata([(name, value)])]

    def begin(self, *, retry_of: bytes = b"") -> Transaction:
        """See Firestore.begin: the transaction begins with its first read."""
        return SdkTransaction(self, retry_of)

    def get(self, paths: Sequence[str], *, read_time: datetime | None = None, timeout_s: float | None = None) -> list[Snapshot]:
        """See Firestore.get."""
        request = _GetPb(database=self.database, documents=[self.root + path for path in paths])
        if read_time is not None:
            request.read_time.CopyFrom(to_timestamp(read_time))
        with translated(past=read_time is not None):
            return self.batch_get(request, paths, timeout_s=timeout_s or _for(_READ_S, paths))

    def get_within(self, paths: Sequence[str], max_bytes: int) -> tuple[list[Snapshot], int]:
        """See Directory.get_within. Answers may come in any order; once the limit is reached no more are taken."""
        request = _GetPb(database=self.database, documents=[self.root + path for path in paths])
        with translated():
            found, size_bytes = self._batch_get(request, timeout_s=_for(_READ_S, paths), max_bytes=max_bytes)
        first = [found[path] for path in takewhile(found.__contains__, paths)]
        if first or not paths:
            return first, size_bytes
        # The limit was reached by others: this one alone.
        return self.get_within(paths[:1], max_bytes)

    def query(self, query: Query, *, read_time: datetime | None = None) -> Iterator[Snapshot]:
        """See Firestore.query."""
        request = self.query_request(query)
        if read_time is not None:
            request.read_time.CopyFrom(to_timestamp(read_time))
        with translated(past=read_time is not None):
            yield from self.run_query(request, _READ_S)

    def commit(self, writes: Iterable[Write], *, timeout_s: float | None = None, max_bytes: int | None = None) -> datetime:
        """See Firestore.commit."""
        request = _CommitPb(database=self.database)
        for write in writes:
            self.encode_write(request.writes.add(), write)
        with translated(conditional=True):
            return self.send_commit(request, timeout_s or _LOCKING_S, max_bytes)

    def send_commit(self, request: Any, timeout_s: float, max_bytes: int | None = None) -> datetime:
        """The commit time."""
        sent = request.SerializeToString()
        if max_bytes is not None and len(sent) > max_bytes:
            raise TooLarge(f"the commit takes {len(sent)} bytes; {max_bytes} are allowed")
        timeout_s = cut(timeout_s)
        with self.line() as line:
            response = line.commit(sent, timeout=timeout_s, metadata=self.routed_metadata)
        return to_datetime(response.commit_time)

    def count(self, collection: str) -> int:
        """See Directory.count."""
        query = self.query_request(Query(collection=collection))
        request = _CountPb(parent=query.parent)
        request.structured_aggregation_query.structured_query.CopyFrom(query.structured_query)
        request.structured_aggregation_query.aggregations.add(alias="count").count.SetInParent()
        with translated():
            answers = self.client.run_aggregation_query(
                types.RunAggregationQueryRequest.wrap(request), retry=None, timeout=cut(_QUERY_S), metadata=self.metadata
            )
            results = [types.RunAggregationQueryResponse.pb(answer).result for answer in answers]
        return int(results[0].aggregate_fields["count"].integer_value)

    def missing(self, collection: str) -> Iterator[str]:
        """See Directory.missing. Pages through the whole collection, for that is how Firestore tells."""
        parent, _, name = collection.rpartition("/")
        request = _ListPb(parent=(self.root + parent).rstrip("/"), collection_id=name, page_size=_PAGE, show_missing=True)
        request.mask.SetInParent()
        with translated():
            for listed in self.client.list_documents(
                types.ListDocumentsRequest.wrap(request), retry=None, timeout=cut(_LIST_S), metadata=self.metadata
            ):
                document = types.Document.pb(listed)
                if not document.HasField("update_time"):
                    yield document.name.rpartition("/")[2]

    def batch_get(
        self,
        request: Any,
        paths: Sequence[str],
        *,
        timeout_s: float,
        on_transaction: Callable[[bytes], None] | None = None,
    ) -> list[Snapshot]:
        """The snapshots in the order of the paths; `on_transaction` gets the id of the transaction that the request begins."""
        found, _ = self._batch_get(request, timeout_s=timeout_s, on_transaction=on_transaction)
        return [found[path] for path in paths]

    def _batch_get(
        self,
        request: Any,
        *,
        timeout_s: float,
        on_transaction: Callable[[bytes], None] | None = None,
        max_bytes: int | None = None,
    ) -> tuple[dict[str, Snapshot], int]:
        """The snapshots by path, and what they take when that is limited: all, or one at least."""
        found: dict[str, Snapshot] = {}
        size_bytes = 0
        timeout_s = cut(timeout_s)
        with self.line() as line:
            call = line.get(request, timeout=timeout_s, metadata=self.routed_metadata)
            for answer in call:
                line.heard()
                if max_bytes is not None:
                    size_bytes += answer.ByteSize()
                    if found and size_bytes > max_bytes:
                        call.cancel()
                        break
                if on_transaction is not None and answer.transaction:
                    on_transaction(answer.transaction)
                if answer.HasField("found"):
                    snapshot = self.snapshot(answer.found, answer.read_time)
                    found[snapshot.path] = snapshot
                elif answer.missing:
                    path = answer.missing[len(self.root) :]
                    found[path] = Snapshot(path, None, None, _floor(answer.read_time))
        return found, size_bytes

    def query_request(self, query: Query) -> Any:
        """The RunQueryRequest of a query."""
        parent, _, collection = query.collection.rpartition("/")
        request = _RunQueryPb(parent=(self.root + parent).rstrip("/"))
        structured = request.structured_query
        structured.from_.add(collection_id=collection, all_descendants=query.everywhere)
        if query.where is not None:
            name, operator, value = query.where
            condition = structured.where.field_filter
            condition.field.field_path = _api_path((name,))
            condition.op = _OPERATORS[operator]
            encode_into(condition.value, value)
        if query.having is not None:
            # Ordering by a field leaves out the documents without it.
            structured.order_by.add().field.field_path = _api_path(query.having)
        if query.after_id is not None:
            structured.order_by.add().field.field_path = "__name__"
            structured.start_at.values.add().reference_value = f"{self.root}{query.collection}/{query.after_id}"
        if query.newest_by is not None:
            structured.order_by.add(direction=_DESCENDING).field.field_path = _api_path((query.newest_by,))
        if query.limit is not None:
            structured.limit.value = query.limit
        if query.select is not None:
            for name in query.select or ("__name__",):
                structured.select.fields.add().field_path = name
        return request

    def run_query(self, request: Any, patience_s: float) -> Iterator[Snapshot]:
        """The matches, one by one; TransientError when the next one does not come within that time."""
        metadata, timeout_s = self.routed("parent", request.parent), cut(_QUERY_S)
        with self.line() as line:
            call = line.query(request, timeout=timeout_s, metadata=metadata)
            with _Watch(call, patience_s) as watch:
                answers = iter(call)
                while (answer := watch.next(answers)) is not None:
                    line.heard()
                    if answer.HasField("document"):
                        yield self.snapshot(answer.document, answer.read_time)

    def snapshot(self, document: Any, read_time: Any) -> Snapshot:
        """A found document."""
        return Snapshot(
            document.name[len(self.root) :],
            decode_fields(document.fields),
            to_datetime(document.update_time),
            _floor(read_time),
            to_datetime(document.create_time),
        )

    def write(self, write: Write) -> Any:
        """The protobuf of a write."""
        message = types.Write.pb()()
        self.encode_write(message, write)
        return message

    def encode_write(self, message: Any, write: Write) -> None:
        """Fill in an empty protobuf Write. In its place: copying it costs as much as filling it in."""
        name = self.root + write.path
        if isinstance(write, Delete):
            message.delete = name
            return
        document = message.update
        document.name = name
        if isinstance(write, Create):
            message.current_document.exists = False
        elif write.update_time is not None:
            message.current_document.update_time.CopyFrom(to_timestamp(write.update_time))
        elif isinstance(write, Update):
            message.current_document.exists = True
        if isinstance(write, Update):
            encode_update_into(document.fields, write.fields)
            paths = [(path, value) for path, value in write.fields.items()]
            message.update_mask.field_paths.extend(_api_path(path) for path, value in paths if value is not SERVER_TIME)
        else:
            encode_fields_into(document.fields, write.fields)
            paths = [((name,), value) for name, value in write.fields.items()]
        for path, value in paths:
            if value is SERVER_TIME:
                message.update_transforms.add(field_path=_api_path(path), set_to_server_value=_REQUEST_TIME)


class SdkTransaction:
    """One attempt at a read-write transaction."""

    def __init__(self, firestore: SdkFirestore, retry_of: bytes) -> None:
        self._firestore = firestore
        self._retry_of = retry_of
        self._is_open = False
        self._id = b""

    @property
    def id(self) -> bytes:
        """See Transaction.id."""
        return self._id

    def get(self, paths: Sequence[str]) -> list[Snapshot]:
        """See Transaction.get. The first one begins the transaction, which saves an RPC."""
        firestore = self._firestore
        request = _GetPb(database=firestore.database, documents=[firestore.root + path for path in paths])
        with translated():
            if not self._is_open:
                return self._begin(request, paths)
            request.transaction = self._id
            return firestore.batch_get(request, paths, timeout_s=_for(_LOCKING_S, paths))

    def _begin(self, request: Any, paths: Sequence[str]) -> list[Snapshot]:
        firestore = self._firestore
        options = request.new_transaction.read_write
        options.SetInParent()
        if self._retry_of:
            options.retry_transaction = self._retry_of
        if not firestore.names_concurrency:
            return firestore.batch_get(request, paths, timeout_s=_for(_LOCKING_S, paths), on_transaction=self._begun)
        options.concurrency_mode = _PESSIMISTIC
        try:
            return firestore.batch_get(request, paths, timeout_s=_for(_LOCKING_S, paths), on_transaction=self._begun)
        except grpc.RpcError as error:
            if self._is_open or error.code() not in _REFUSALS:
                raise
            options.ClearField("concurrency_mode")
            snapshots = firestore.batch_get(request, paths, timeout_s=_for(_LOCKING_S, paths), on_transaction=self._begun)
            # What else might be wrong with the request was not: it is the mode that this server refuses.
            firestore.forgo_concurrency(error)
            return snapshots

    def _begun(self, id_: bytes) -> None:
        # At once: were it lost with a stream that breaks, its locks would be held until they expire.
        self._is_open = True
        self._id = id_

    def query(self, query: Query) -> list[Snapshot]:
        """See Transaction.query."""
        assert self._is_open, "the first read of a transaction is a get"
        request = self._firestore.query_request(query)
        request.transaction = self._id
        with translated():
            return list(self._firestore.run_query(request, _LOCKING_S))

    def commit(self, writes: Iterable[Write]) -> datetime:
        """See Transaction.commit."""
        assert self._is_open, "the first read of a transaction is a get"
        firestore = self._firestore
        request = _CommitPb(database=firestore.database, transaction=self._id)
        for write in writes:
            firestore.encode_write(request.writes.add(), write)
        with translated(commit=True):
            committed_at = firestore.send_commit(request, _LOCKING_S)
        self._is_open = False
        self._id = b""
        return committed_at

    def rollback(self) -> None:
        """See Transaction.rollback."""
        if self._is_open:
            self._is_open = False
            request = _RollbackPb(database=self._firestore.database, transaction=self._id)
            # Also when the time is over: a lock that is left is others' time.
            with suppress(grpc.RpcError, TransientError), self._firestore.line() as line:
                line.rollback(request, timeout=_ROLLBACK_S, metadata=self._firestore.routed_metadata)


@contextmanager
def translated(*, commit: bool = False, past: bool = False, conditional: bool = False) -> Iterator[None]:
    """The library's errors as the protocol's; what no retry can cure stays as it is.

    `commit`: of a transaction. ALREADY_EXISTS says there that a rival, or this transaction's own earlier attempt, has recorded
    the write; an expired transaction is INVALID_ARGUMENT. `conditional`: outside a transaction; a condition did not hold.
    Source: https://firebase.google.com/docs/firestore/understand-error-codes
    """
    try:
        yield
    except (grpc.RpcError, exceptions.GoogleAPICallError, exceptions.RetryError) as raised:
        error = exceptions.from_grpc_error(raised) if isinstance(raised, grpc.RpcError) else raised
        text = str(error)
        # Too old is FAILED_PRECONDITION; INVALID_ARGUMENT with point-in-time recovery, which past the hour keeps whole minutes.
        if past and isinstance(error, (exceptions.FailedPrecondition, exceptions.InvalidArgument)):
            raise UnreadablePast(text) from raised
        if conditional and isinstance(error, _CONFLICTS):
            raise Conflict(text) from raised
        is_expired = isinstance(error, exceptions.InvalidArgument) and "transaction" in text.lower()
        if (
            isinstance(error, _TRANSIENT)
            or (commit and isinstance(error, exceptions.AlreadyExists))
            or (is_expired and "too big" not in text.lower())
        ):
            raise TransientError(text) from raised
        raise error from (None if error is raised else raised)


@lru_cache(maxsize=10_000)
def _api_path(segments: tuple[str, ...]) -> str:
    return str(FieldPath(*segments).to_api_repr())


def _floor(read_time: Any) -> datetime:
    """An instant at which all that was read was already true, in whole microseconds."""
    time = to_datetime(read_time)
    return time if read_time.nanos % 1000 == 0 else time - time.resolution


def _for(timeout_s: float, paths: Sequence[str]) -> float:
    """The longest time of a get."""
    return timeout_s + _READ_PER_DOCUMENT_S * len(paths)
