"""Starting a program that says in its first line where it is to be found."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.function_server import StartFailed
from runner.logs import Output
from runner.processes import Process

ROOT = Path(__file__).resolve().parent.parent
START_S = 30.0


def firestore_command(
    project: str, *, port: int, admin_port: int | None, indexes: Path | None, more: Sequence[str] = ()
) -> list[str]:
    """The command line of the embedded Firestore. Ports: 0 is any that is free; no `admin_port`: the next one."""
    return [
        *(sys.executable, "-m", "emulator"),
        *("--project", project),
        *("--port", str(port)),
        *(("--admin-port", str(admin_port)) if admin_port is not None else ()),
        *(("--indexes", str(indexes)) if indexes is not None else ()),
        *more,
    ]


async def launch(
    what: str, command: Sequence[str], environment: Mapping[str, str], output: Output
) -> tuple[Process, dict[str, Any]]:
    """Start a program of this repository that prints JSON in its first line when it is ready. Raises StartFailed, OSError."""
    first_line: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    process = Process(
        command,
        environment=environment,
        folder=ROOT,
        output=output,
        read_line=lambda line: None if first_line.done() else first_line.set_result(line),
    )
    await process.start()
    ended: asyncio.Future[Any] = asyncio.create_task(process.wait())
    try:
        await asyncio.wait({first_line, ended}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended.cancel()
        if not first_line.done():
            await process.stop(0)
    if not first_line.done():
        said = "\n".join(f"  {line}" for line in process.last_lines)
        raise StartFailed(f"{what} does not start; it said last:\n{said}")
    return process, json.loads(first_line.result())
