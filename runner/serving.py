"""One run, from its start to its exit code: the stack, the command beside it, and the signals that end both."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from runner.function_server import StartFailed
from runner.logs import Logs
from runner.processes import adopt_orphans, die_with_parent, end_descendants
from runner.stack import Options, Stack, describe

FAILED = 1
NO_SUCH_COMMAND = 127
# How long a command may take to end after Ctrl-C (which it got from the terminal as well), and after SIGTERM.
INTERRUPT_S = 2.0
TERMINATE_S = 5.0


def tell(message: str) -> None:
    """Say something to the user, on standard error."""
    sys.stderr.write(f"balance dev: {message}\n")
    sys.stderr.flush()


async def serve(options: Options, logs: Logs, command: Sequence[str] = ()) -> int:
    """Run until the command ends, or until SIGINT or SIGTERM; returns the exit code. Raises InvalidManifest, InvalidDotenv."""
    if command and shutil.which(command[0]) is None:
        tell(f"{command[0]}: there is no such program")
        return NO_SUCH_COMMAND
    _watch_children_without_threads()
    adopt_orphans()
    interrupted: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, _interrupt, interrupted, number)
    stack = Stack(options, logs, tell)
    try:
        return await _run(stack, command, interrupted)
    finally:
        await stack.stop()
        await end_descendants(1.0)


def _watch_children_without_threads() -> None:
    """Where the system can. Forking is safer without threads."""
    with contextlib.suppress(AttributeError, OSError):
        os.close(os.pidfd_open(os.getpid()))
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(asyncio.get_running_loop())
        asyncio.get_event_loop_policy().set_child_watcher(watcher)


async def _run(stack: Stack, command: Sequence[str], interrupted: asyncio.Future[int]) -> int:
    try:
        if not await _unless(interrupted, stack.start()):
            return _interrupted(interrupted.result(), command)
    except (StartFailed, OSError) as error:
        tell(str(error))
        return FAILED
    sys.stderr.write(describe(stack) + "\n")
    sys.stderr.flush()
    if not command:
        if not sys.stdout.isatty():
            # For programs; people have read the same above.
            sys.stdout.write(json.dumps(stack.as_dict()) + "\n")
            sys.stdout.flush()
        if await _unless(interrupted, stack.firestore_ended()):
            tell("the embedded Firestore has ended, and all data with it")
            return FAILED
        return 0
    return await _run_command(stack, command, interrupted)


async def _run_command(stack: Stack, command: Sequence[str], interrupted: asyncio.Future[int]) -> int:
    """The command stays in the runner's process group: it may read from the terminal, and gets its Ctrl-C."""
    runner = os.getpid()
    try:
        process = await asyncio.create_subprocess_exec(
            *command, env={**os.environ, **stack.client_environment()}, preexec_fn=lambda: die_with_parent(runner)
        )
    except (OSError, subprocess.SubprocessError) as error:
        tell(f"{command[0]}: {error}")
        return NO_SUCH_COMMAND
    ended = asyncio.create_task(process.wait())
    firestore_ended = asyncio.create_task(stack.firestore_ended())
    await asyncio.wait({ended, firestore_ended, interrupted}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if ended.done():
            code = ended.result()
            return code if code >= 0 else 128 - code
        if interrupted.done():
            await _end(process, interrupted.result())
            return _interrupted(interrupted.result(), command)
        tell("the embedded Firestore has ended, and all data with it")
        await _end(process, signal.SIGTERM)
        return FAILED
    finally:
        firestore_ended.cancel()


async def _end(process: asyncio.subprocess.Process, number: int) -> None:
    if number == signal.SIGINT:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), INTERRUPT_S)
    for stronger, patience_s in ((signal.SIGTERM, TERMINATE_S), (signal.SIGKILL, None)):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(stronger)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), patience_s)


def _interrupted(number: int, command: Sequence[str]) -> int:
    """Ctrl-C is how a run without a command ends; a command that it cuts short has not succeeded."""
    return 128 + number if command else 0


def _interrupt(interrupted: asyncio.Future[int], number: int) -> None:
    if not interrupted.done():
        interrupted.set_result(number)


async def _unless(interrupted: asyncio.Future[int], work: Coroutine[Any, Any, Any]) -> bool:
    """Do the work; False if the interruption came first."""
    task = asyncio.create_task(work)
    await asyncio.wait({task, interrupted}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
        return True
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return False


def run(options: Options, command: Sequence[str], *, logs_folder: Path | None, quiet: bool) -> int:
    """The same, with a loop of its own."""
    return asyncio.run(serve(options, Logs(logs_folder, quiet=quiet), command))
