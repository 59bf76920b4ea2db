"""An embedded server in a thread of the test's process, and official clients for it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar
from unittest.mock import patch

import grpc
from google.cloud import firestore
from google.cloud.firestore_v1.services.firestore.transports.grpc import FirestoreGrpcTransport

from emulator.databases import Databases, wall_clock_us
from emulator.engine import Engine, Settings
from emulator.faults import Faults
from emulator.server import Server
from emulator.streams import HEARTBEAT_SECONDS, Streams
from tests.indexes import DEPLOYED_INDEXES

T = TypeVar("T")
PROJECT = "demo-test"
AS_DEPLOYED = Settings(indexes=DEPLOYED_INDEXES)


@dataclass
class Served:
    """A running server. Engines and faults belong to its loop: touch them through `within`."""

    port: int
    databases: Databases
    faults: Faults
    streams: Streams
    loop: asyncio.AbstractEventLoop

    def client(self, database: str | None = None, project: str = PROJECT) -> firestore.Client:
        """An official client with a channel of its own."""
        with patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{self.port}"}):
            client = firestore.Client(project=project, database=database)
        client._firestore_api  # noqa: B018 - made on first use, which threads must not do at the same time
        return client

    def channel(self) -> grpc.Channel:
        """A bare channel, for requests that no official client would send."""
        return grpc.insecure_channel(f"127.0.0.1:{self.port}", options=[("grpc.use_local_subchannel_pool", 1)])

    def stub(self) -> FirestoreGrpcTransport:
        """The generated stubs: one RPC each, without the client's retries."""
        return FirestoreGrpcTransport(channel=self.channel())

    def engine(self, database: str = "(default)") -> Engine:
        """The engine of a database of the test's project."""
        return self.databases[f"projects/{PROJECT}/databases/{database}"]

    def within(self, action: Callable[[], T]) -> T:
        """Do it in the server's loop and return the outcome."""

        async def act() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self.loop).result(30)


@contextmanager
def served(
    settings: Settings = AS_DEPLOYED, clock: Callable[[], int] = wall_clock_us, heartbeat_seconds: float = HEARTBEAT_SECONDS
) -> Iterator[Served]:
    """Run a server for the time of the block; without settings, it has the indexes that are deployed and no others."""
    databases = Databases(clock, settings)
    faults = Faults(Random(1))
    started: Any = threading.Event()
    running: list[Served] = []
    ended: list[asyncio.Event] = []

    async def main() -> None:
        server = Server(databases, faults, Random(2), heartbeat_seconds)
        port = await server.start()
        ended.append(asyncio.Event())
        running.append(Served(port, databases, faults, server.streams, asyncio.get_running_loop()))
        started.set()
        await ended[0].wait()
        await server.stop(0)

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="embedded-firestore")
    thread.start()
    assert started.wait(30), "the server did not start"
    try:
        yield running[0]
    finally:
        running[0].loop.call_soon_threadsafe(ended[0].set)
        thread.join(30)
