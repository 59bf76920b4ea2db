"""What is known of a function whose process is just being started, again or for the first time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from runner.function_server import FunctionServer
from runner.manifest import Function, TaskQueueTrigger

HELLO = "def hello(request):\n    return 'hello'\n"


@asynccontextmanager
async def hello(folder: Path) -> AsyncIterator[FunctionServer]:
    """A function that is served when its `start()` has returned."""
    (folder / "main.py").write_text(HELLO)
    function = Function(name="hello", entry_point="hello", trigger=TaskQueueTrigger())
    async with aiohttp.ClientSession() as session:
        server = FunctionServer(
            function, source=folder, environment={}, output=lambda _: None, tell=lambda _: None, session=session
        )
        try:
            yield server
        finally:
            await server.stop()


def test_at_every_moment_of_its_start_it_can_be_asked_for_and_killed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with hello(tmp_path) as server:
            starting = asyncio.create_task(server.start())
            while not starting.done():
                if server.as_dict()["pid"] is None:
                    assert server.kill() is None
                await asyncio.sleep(0)
            await starting
            first = server.kill()
            assert first is not None
            while not server.as_dict()["ready"]:
                if server.as_dict()["pid"] is None:
                    assert server.kill() is None
                await asyncio.sleep(0)
            assert server.restarts == 1
            assert server.as_dict()["pid"] not in (None, first)

    asyncio.run(asyncio.wait_for(scenario(), 60))
