"""The gRPC transport: bytes in, bytes out, around the methods of `service`.

Requests are parsed here rather than by gRPC, so that one that does not parse, or is too long, is told so. One
asyncio loop runs everything: an RPC that waits for a lock costs a future, not a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from random import Random
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from emulator.databases import Databases
from emulator.errors import RpcError
from emulator.faults import Faults, Moment
from emulator.service import STREAMS, UNARY, Service
from emulator.streams import DUPLEX, HEARTBEAT_SECONDS, Method, Streams

PREFIX = "/google.firestore.v1.Firestore/"
NOT_HERE = ("PartitionQuery", "ExecutePipeline")
# https://firebase.google.com/docs/firestore/quotas: the maximum API request size.
MAX_REQUEST_BYTES = 10 * 1024 * 1024
TICK_SECONDS = 0.1

_OPTIONS = [
    # Requests that are too long must arrive, to be refused with Firestore's code instead of gRPC's.
    ("grpc.max_receive_message_length", 4 * MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", -1),
    # A second server on the port must fail, not take half of the connections.
    ("grpc.so_reuseport", 0),
    # Connections of which the other end has vanished are noticed and closed.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
]


def collect_garbage_less_often() -> None:
    """For a process that does nothing else. By default, Python goes through all that lives, each idle listener too, whenever
    what lives has grown by a quarter; with 2,000 listeners that took a tenth of a commit's time."""
    gc.set_threshold(10_000, 20, 10)


class Server:
    """Serves all databases on one port. Needs to be started and stopped in the same running loop."""

    def __init__(
        self,
        databases: Databases,
        faults: Faults | None = None,
        random: Random | None = None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        """`random` makes the ids of documents that are created without one. A Listen stream is never silent for longer
        than `heartbeat_seconds`."""
        self._databases = databases
        service = Service(databases, random or Random())
        self.streams = Streams(databases, service, heartbeat_seconds)
        self._calls = _Calls(service, self.streams, databases.statistics, faults or Faults(Random(0)))
        self._server: grpc.aio.Server | None = None
        self._ticking: asyncio.Task[None] | None = None

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> int:
        """Listen, on a free port if it is 0, and return the port. Raises OSError if it cannot be had."""
        self._server = grpc.aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers((self._calls,))
        try:
            bound = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise OSError(f"cannot listen on {host}:{port}: {error}") from error
        await self._server.start()
        self._ticking = asyncio.create_task(self._tick())
        return int(bound)

    async def stop(self, grace_seconds: float = 0.5) -> None:
        """Refuse new RPCs, and end those under way after this time."""
        if self._ticking is not None:
            self._ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticking
        self.streams.end_all("The server is shutting down.")
        if self._server is not None:
            await self._server.stop(grace_seconds)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._databases.tick()
            self.streams.tick()


class _Calls(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Finds the handler of an RPC; each counts, parses, injects faults, calls the method and answers."""

    def __init__(self, service: Service, streams: Streams, statistics: Any, faults: Faults) -> None:
        self._service = service
        self._streams = streams
        self._statistics = statistics
        self._faults = faults
        self._handlers: dict[str, grpc.RpcMethodHandler] = {}
        for name, (method, type_) in UNARY.items():
            handler = grpc.unary_unary_rpc_method_handler(self._unary(name, method, type_.FromString))
            self._handlers[PREFIX + name] = handler
        for name, (method, type_) in STREAMS.items():
            handler = grpc.unary_stream_rpc_method_handler(self._stream(name, method, type_.FromString))
            self._handlers[PREFIX + name] = handler
        for name, (duplex, type_) in DUPLEX.items():
            handler = grpc.stream_stream_rpc_method_handler(self._duplex(name, duplex, type_.FromString))
            self._handlers[PREFIX + name] = handler

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        handler = self._handlers.get(details.method)
        if handler is None:
            handler = grpc.stream_stream_rpc_method_handler(self._unimplemented(details.method))
        return handler

    def _unary(
        self, name: str, method: Callable[..., Awaitable[Any]], parse: Callable[[bytes], Any]
    ) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def behaviour(data: bytes, context: Any) -> bytes:
            try:
                answer: bytes = (await self._call(name, method, parse, data)).SerializeToString()
                return answer
            except RpcError as error:
                await self._fail(error, context)
                raise

        return behaviour

    def _stream(
        self, name: str, method: Callable[..., Awaitable[Any]], parse: Callable[[bytes], Any]
    ) -> Callable[[bytes, Any], Awaitable[None]]:
        async def behaviour(data: bytes, context: Any) -> None:
            try:
                answers = await self._call(name, method, parse, data)
            except RpcError as error:
                await self._fail_stream(error, context)
                return
            for number, answer in enumerate(answers):
                await context.write(answer.SerializeToString())
                if number == 0:
                    try:
                        await self._inject(name, "within", None)
                    except RpcError as error:
                        await self._fail(error, context)

        return behaviour

    def _duplex(
        self, name: str, method: Method, parse: Callable[[bytes], Any]
    ) -> Callable[[AsyncIterator[bytes], Any], Awaitable[None]]:
        async def behaviour(_: AsyncIterator[bytes], context: Any) -> None:
            self._statistics.rpcs[name] += 1
            try:
                # So that clients know the stream to be open, and take an error for the stream's end.
                await context.send_initial_metadata(())
                await self._inject(name, "before", None)
                await method(self._streams, _Connection(context, partial(self._parsed, name, parse), self._injector(name)))
            except RpcError as error:
                await self._fail(error, context)

        return behaviour

    def _injector(self, name: str) -> Callable[[], Awaitable[None]]:
        return lambda: self._inject(name, "after", None)

    def _unimplemented(self, method: str) -> Callable[[AsyncIterator[bytes], Any], Awaitable[None]]:
        name = method.removeprefix(PREFIX)

        async def behaviour(_: AsyncIterator[bytes], context: Any) -> None:
            if name in NOT_HERE:  # what else somebody makes up is not worth a counter
                self._statistics.rpcs[name] += 1
            await self._fail_stream(RpcError(grpc.StatusCode.UNIMPLEMENTED, f"{name} is not implemented here."), context)

        return behaviour

    async def _call(self, name: str, method: Callable[..., Awaitable[Any]], parse: Callable[[bytes], Any], data: bytes) -> Any:
        self._statistics.rpcs[name] += 1
        request = self._parsed(name, parse, data)
        await self._inject(name, "before", request)
        answer = await method(self._service, request)
        await self._inject(name, "after", request)
        return answer

    @staticmethod
    def _parsed(name: str, parse: Callable[[bytes], Any], data: bytes) -> Any:
        if len(data) > MAX_REQUEST_BYTES:
            raise RpcError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"The request has {len(data)} bytes; {MAX_REQUEST_BYTES} are allowed.",
            )
        try:
            return parse(data)
        except DecodeError as error:
            raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, f"The request is no {name}Request.") from error

    async def _inject(self, name: str, moment: Moment, request: Any) -> None:
        injection = self._faults.draw(name, moment)
        if injection is None:
            return
        if injection.latency_ms:
            await asyncio.sleep(injection.latency_ms / 1_000)
        if injection.error is None:
            return
        if injection.error.code is grpc.StatusCode.ABORTED and getattr(request, "transaction", None):
            with contextlib.suppress(RpcError):  # ABORTED says that the transaction is no more
                self._service.engine_of(request).rollback(request.transaction)
        raise injection.error

    async def _fail_stream(self, error: RpcError, context: Any) -> None:
        # The Node client takes a stream that fails without initial metadata for a broken connection, whatever the
        # code, and tries three times, with pauses of seconds.
        await context.send_initial_metadata(())
        await self._fail(error, context)

    async def _fail(self, error: RpcError, context: Any) -> None:
        self._statistics.errors[error.code.name] += 1
        await context.abort(error.code, error.message)


class _Connection:
    """A stream in both directions, as `streams` wants it."""

    def __init__(self, context: Any, parse: Callable[[bytes], Any], took_effect: Callable[[], Awaitable[None]]) -> None:
        self._context = context
        self._parse = parse
        self._took_effect = took_effect

    async def receive(self) -> Any | None:
        data = await self._context.read()
        return None if data is grpc.aio.EOF else self._parse(data)

    async def send(self, answer: Any) -> None:
        await self._context.write(answer.SerializeToString())

    async def took_effect(self) -> None:
        await self._took_effect()
