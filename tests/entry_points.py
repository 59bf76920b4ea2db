"""The entry points of main.py behind functions-framework's own application, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import functions_framework
import httpx

MAIN = Path(__file__).parents[1] / "main.py"


class Trigger:
    """A function that gets events."""

    def __init__(self, name: str) -> None:
        self._application = application(name)

    def deliver(self, body: bytes, headers: Mapping[str, str]) -> int:
        """The status of its answer to a delivery."""
        return asyncio.run(self._answer(body, headers)).status_code

    async def _answer(self, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        # As the server has them: bytes, each of which stands for a character.
        sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        transport = httpx.ASGITransport(self._application, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.post("http://function/", content=body, headers=sent)


def application(name: str) -> Any:
    """The application that the platform serves for a function."""
    return functions_framework.create_app(target=name, source=str(MAIN))
