"""The Firebase Emulator Suite with the functions of an app and ours, on whichever Firestore this machine has.

Theory of operation. The CLI runs in a session of its own: so Ctrl-C reaches it once, by us, and it can end in order. On the
official Firestore emulator it does everything itself. Else the embedded Firestore takes that one's place and port: the CLI is
given a configuration without a Firestore and the address of ours, and `runner.wiring` tells ours of the triggers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import firebase_cli
from runner.function_server import StartFailed
from runner.launch import firestore_command, launch
from runner.processes import Process, adopt_orphans, die_with_parent, end_descendants
from runner.wiring import FunctionsEmulator, Wiring

FAILED = 1
STOP_S = 60.0
"""How long the CLI may take to end: it may have data to export."""
LEFTOVERS_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to run, and how."""

    app: Path
    """The folder of the app's firebase.json."""
    functions: FunctionsEmulator
    """As the CLI will serve them. Their folder has the virtual environment that the CLI wants."""
    cli: Path
    configuration: Mapping[str, Any]
    """As `firebase_cli.adapted` makes it."""
    official_firestore: bool
    firestore: tuple[str, int]
    """Host and port."""
    indexes: Path | None
    """The index file that queries of the embedded Firestore are held to."""
    emulator_arguments: Sequence[str] = ()
    cli_arguments: Sequence[str] = ()
    command: Sequence[str] = ()
    """Runs inside, once all is there."""


async def serve(options: Options, tell: Callable[[str], None]) -> int:
    """Run until the CLI ends, or until SIGINT or SIGTERM; returns the exit code. Raises StartFailed, OSError."""
    adopt_orphans()
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[int] = loop.create_future()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda number: None if stopped.done() else stopped.set_result(number), number)
    try:
        with (
            firebase_cli.parameters_kept(options.functions.source),
            firebase_cli.written(options.configuration, options.app) as file,
        ):
            if options.official_firestore:
                return await _run_cli(options, file, {}, stopped, None)
            firestore, where = await _start_firestore(options)
            tell(f"the embedded Firestore: {where['firestoreHost']}, its admin {where['adminUrl']}")
            environment = {"FIRESTORE_EMULATOR_HOST": where["firestoreHost"], "FIRESTORE_ADMIN_URL": where["adminUrl"]}
            wiring = Wiring(options.functions, where["adminUrl"], tell)
            following = asyncio.create_task(wiring.follow())
            try:
                return await _run_cli(options, file, environment, stopped, firestore)
            finally:
                following.cancel()
                await firestore.stop(LEFTOVERS_S)
    finally:
        # The CLI forgets servers that it has started.
        await end_descendants(LEFTOVERS_S)


async def _start_firestore(options: Options) -> tuple[Process, dict[str, Any]]:
    host, port = options.firestore
    more = ["--host", host, *options.emulator_arguments]
    command = firestore_command(options.functions.project, port=port, admin_port=0, indexes=options.indexes, more=more)
    return await launch("the embedded Firestore", command, os.environ, lambda line: None)


async def _run_cli(
    options: Options, file: Path, environment: Mapping[str, str], stopped: asyncio.Future[int], firestore: Process | None
) -> int:
    ours = os.getpid()
    process = await asyncio.create_subprocess_exec(
        *_command_line(options, file),
        # Else the CLI starts a process of a function for each event that comes while it is at work.
        env={"FUNCTIONS_EMULATOR_PARALLEL": "1", **os.environ, **environment},
        start_new_session=True,
        preexec_fn=lambda: die_with_parent(ours),
    )
    ended: asyncio.Future[int] = asyncio.ensure_future(process.wait())
    lost: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    watching = asyncio.ensure_future(firestore.wait() if firestore is not None else lost)
    try:
        await asyncio.wait({ended, stopped, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            process.terminate() if watching.done() else process.send_signal(stopped.result())
            await asyncio.wait({ended}, timeout=STOP_S)
    finally:
        watching.cancel()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    if watching.done() and not watching.cancelled():
        raise StartFailed("the embedded Firestore has ended, and all data with it")
    if stopped.done():
        return 128 + stopped.result() if options.command else 0
    code = await ended
    return code if code >= 0 else 128 - code


def _command_line(options: Options, file: Path) -> list[str]:
    shared = ["--config", str(file), "--project", options.functions.project, *options.cli_arguments]
    if not options.command:
        return [str(options.cli), "emulators:start", *shared]
    return [str(options.cli), "emulators:exec", *shared, shlex.join(options.command)]
