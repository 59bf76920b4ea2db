"""The RPCs in which both sides go on talking, Listen and Write, and what can be done to all of them at once.

A stream is one coroutine. It waits for a request, or to be woken: by a commit, to be kept alive, or to be ended. While
a client takes no answers, its requests are not read, and what changes meanwhile is noted by its listener: nothing
grows without bounds.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Protocol

import grpc
from google.cloud.firestore_v1.types import firestore

from emulator.databases import Databases
from emulator.errors import RpcError
from emulator.listeners import Listener, Listeners
from emulator.names import check_database
from emulator.service import Service

# Clients take a stream for dead that says nothing for two minutes (the Node client's WATCH_IDLE_TIMEOUT_MS).
HEARTBEAT_SECONDS = 45.0

_CommitRequest = firestore.CommitRequest.pb()
_WriteResponse = firestore.WriteResponse.pb()


class Channel(Protocol):
    """The transport of one stream."""

    async def receive(self) -> Any | None:
        """The next request; None once the client has said that there are no more. Raises RpcError for one that is none."""

    async def send(self, answer: Any) -> None:
        """Send a message; returns when there is room for another."""

    async def took_effect(self) -> None:
        """To be called after each step; raises the RpcError with which the stream is to fail now."""


class _Stream:
    """An open stream, as others see it: it can be woken and ended."""

    def __init__(self) -> None:
        self._error: RpcError | None = None
        self._woken = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        """There is something to do."""
        if not self._woken.done():
            self._woken.set_result(None)

    def end(self, error: RpcError) -> None:
        """Fail, at the next opportunity."""
        self._error = error
        self.wake()

    async def wait(self, reading: asyncio.Future[Any]) -> None:
        """Wait for a request or to be woken. Raises the error the stream is to end with."""
        await asyncio.wait((reading, self._woken), return_when=asyncio.FIRST_COMPLETED)
        if self._error is not None:
            raise self._error
        if self._woken.done():
            self._woken = asyncio.get_running_loop().create_future()


class Streams:
    """All open streams of the server. To be used within its loop."""

    def __init__(self, databases: Databases, service: Service, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        """`heartbeat_seconds` is how long a Listen stream stays silent before it says that nothing has changed."""
        self._databases = databases
        self._service = service
        self._heartbeat_seconds = heartbeat_seconds
        self._listeners: dict[str, Listeners] = {}
        self._open: dict[_Stream, str] = {}
        # Listen streams, each with the time of its last message, the longest silent one first.
        self._silent_since: OrderedDict[_Stream, float] = OrderedDict()
        self._ids = count(1)

    def counts(self) -> dict[str, int]:
        """How many streams are open, by RPC, and how many targets are listened to."""
        kinds = Counter(self._open.values())
        targets = sum(listeners.targets for listeners in self._listeners.values())
        return {"listen": kinds["Listen"], "write": kinds["Write"], "targets": targets}

    def end_all(self, reason: str = "The server ended this stream.") -> int:
        """End all streams with UNAVAILABLE, as production does now and then; clients come back. Returns how many."""
        for stream in self._open:
            stream.end(RpcError(grpc.StatusCode.UNAVAILABLE, reason))
        return len(self._open)

    def tick(self) -> None:
        """Wake the streams that were silent for long. To be called a few times a second."""
        due = time.monotonic() - self._heartbeat_seconds
        for stream, since in self._silent_since.items():  # waking does not change it: the stream runs later
            if since > due:
                break
            stream.wake()

    async def listen(self, channel: Channel) -> None:
        """Serve a Listen stream until the client has had enough."""
        reading = asyncio.ensure_future(channel.receive())
        stream = _Stream()
        self._open[stream] = "Listen"
        listener: Listener | None = None
        try:
            while True:
                await stream.wait(reading)
                is_last = False
                if reading.done():
                    request = reading.result()
                    is_last = request is None
                    if request is not None:
                        if listener is None:
                            listener = self._listeners_of(request.database).listener(stream.wake)
                        _obey(request, listener)
                        reading = asyncio.ensure_future(channel.receive())
                if listener is not None:
                    answers = listener.take()
                    for answer in answers:
                        await channel.send(answer)
                    self._silent_since[stream] = time.monotonic()
                    self._silent_since.move_to_end(stream)
                    if answers:
                        await channel.took_effect()
                if is_last:
                    return
        finally:
            reading.cancel()
            del self._open[stream]
            self._silent_since.pop(stream, None)
            if listener is not None:
                listener.close()

    async def write(self, channel: Channel) -> None:
        """Serve a Write stream: a greeting, then commits in order, until the client has no more."""
        reading = asyncio.ensure_future(channel.receive())
        stream = _Stream()
        self._open[stream] = "Write"
        tokens: _Tokens | None = None
        database = ""
        try:
            while True:
                await stream.wait(reading)
                if not reading.done():
                    continue
                request = reading.result()
                if request is None:
                    return
                if tokens is None:
                    database = _greeted(request)
                    tokens = _Tokens(next(self._ids))
                    await channel.send(_WriteResponse(stream_id=tokens.stream_id, stream_token=tokens.issue()))
                else:
                    tokens.check(request.stream_token)
                    answer = _WriteResponse()
                    if request.writes:  # none: the last request, which only tells that the answers have arrived
                        committed = await self._service.commit(_CommitRequest(database=database, writes=request.writes))
                        answer.write_results.extend(committed.write_results)
                        answer.commit_time.CopyFrom(committed.commit_time)
                        await channel.took_effect()
                    answer.stream_token = tokens.issue()
                    await channel.send(answer)
                reading = asyncio.ensure_future(channel.receive())
        finally:
            reading.cancel()
            del self._open[stream]

    def _listeners_of(self, database: str) -> Listeners:
        listeners = self._listeners.get(check_database(database))
        if listeners is None:
            listeners = self._listeners[database] = Listeners(self._databases[database])
        return listeners


# RPC -> the method above, and the type of the request.
Method = Callable[[Streams, Channel], Awaitable[None]]
DUPLEX: dict[str, tuple[Method, Any]] = {
    "Listen": (Streams.listen, firestore.ListenRequest.pb()),
    "Write": (Streams.write, firestore.WriteRequest.pb()),
}


class _Tokens:
    """The tokens of a Write stream: positions in it, of which the client tells the last it has seen."""

    def __init__(self, number: int) -> None:
        self.stream_id = f"{number:08x}"
        self._issued = 0
        self._seen = 0

    def issue(self) -> bytes:
        """The token of the next answer."""
        self._issued += 1
        return f"{self.stream_id}-{self._issued}".encode()

    def check(self, token: bytes) -> None:
        """INVALID_ARGUMENT unless it is a token of this stream, not older than the last one that came back."""
        stream_id, _, position = token.decode(errors="replace").partition("-")
        if stream_id != self.stream_id or not position.isdecimal() or not self._seen <= int(position) <= self._issued:
            raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, "stream_token: it is not one that is valid on this stream.")
        self._seen = int(position)


def _obey(request: Any, listener: Listener) -> None:
    change = request.WhichOneof("target_change")
    if change == "add_target":
        listener.add(request.add_target)
    elif change == "remove_target":
        listener.remove(request.remove_target)
    else:
        raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, "A ListenRequest needs an add_target or a remove_target.")


def _greeted(request: Any) -> str:
    """The database that the first request of a Write stream names."""
    database = check_database(request.database)
    if request.stream_id:
        raise RpcError(grpc.StatusCode.UNIMPLEMENTED, "Resuming a Write stream is not implemented here.")
    if request.writes:
        raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, "writes: the first request of a stream must not have any.")
    return database
