"""A TCP proxy whose connections can be made to go silent: they stay open, and nothing passes any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class _Connection:
    is_silent: bool


class SilentProxy:
    """Stands before a server at a port of this machine."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.accepted = 0
        """How many connections there have been."""
        self._target_port = target_port
        self._connections: set[_Connection] = set()
        self._new_are_silent = False

    @property
    def host(self) -> str:
        """Its address, as FIRESTORE_EMULATOR_HOST takes it."""
        return f"127.0.0.1:{self.port}"

    def silence(self, *, new_too: bool = False) -> None:
        """Swallow all that passes over living connections; with `new_too` over all that come, until `recover`."""
        self._new_are_silent = new_too
        for connection in list(self._connections):
            connection.is_silent = True

    def recover(self) -> None:
        """Let new connections work; those that are silent stay so."""
        self._new_are_silent = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = _Connection(self._new_are_silent)
        self._connections.add(connection)
        to_server: asyncio.StreamWriter | None = None
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target_port)
            await asyncio.gather(self._pass_on(connection, reader, to_server), self._pass_on(connection, from_server, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(connection)
            for each in (writer, to_server):
                if each is not None:
                    each.close()

    async def _pass_on(self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if not connection.is_silent:
                writer.write(data)
                await writer.drain()
        if not connection.is_silent:
            with suppress(OSError):
                writer.write_eof()

    async def run(self, is_ready: threading.Event, is_over: asyncio.Event) -> None:
        """Serve until `is_over`."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        is_ready.set()
        await is_over.wait()
        server.close()


@contextmanager
def silent_proxy(target_port: int) -> Iterator[SilentProxy]:
    """A proxy for the time of the block."""
    proxy = SilentProxy(target_port)
    is_ready = threading.Event()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        running.append((asyncio.get_running_loop(), asyncio.Event()))
        serving = asyncio.ensure_future(proxy.run(is_ready, running[0][1]))
        await serving
        # What is still open is cut.
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="silent-proxy")
    thread.start()
    assert is_ready.wait(30), "the proxy did not start"
    try:
        yield proxy
    finally:
        loop, is_over = running[0]
        loop.call_soon_threadsafe(is_over.set)
        thread.join(30)
