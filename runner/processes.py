"""Child processes that do not outlive the runner, whatever becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from runner.logs import LineWriter, Output

LINES_REMEMBERED = 30
# Below the ports that the system gives to outgoing connections, so that none of those takes a function's port.
_PORTS = range(20_000, 32_000)
# https://man7.org/linux/man-pages/man2/prctl.2.html
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_IS_LINUX = sys.platform == "linux"
_libc = ctypes.CDLL(None, use_errno=True) if _IS_LINUX else None


def die_with_parent(parent: int) -> None:
    """Have this process terminated (SIGTERM) when its parent, the process `parent`, ends. On Linux only."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before
            os.kill(os.getpid(), signal.SIGTERM)


def adopt_orphans() -> None:
    """Have this process inherit the descendants that lose their parent, so that `end_descendants` finds them. Linux only."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at the moment."""
    for port in random.sample(_PORTS, 200):
        if is_free(port):
            return port
    raise OSError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


def is_free(port: int) -> bool:
    """Whether this machine lets somebody listen on a port of 127.0.0.1 at the moment."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Process:
    """A child in a process group of its own, whose output goes to a file, or is handed on line by line."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        output: Output,
        read_line: LineWriter | None = None,
    ) -> None:
        """`output` gets what it prints (without line ends); `read_line`, if given, gets its standard output instead."""
        self._command = command
        self._environment = environment
        self._folder = folder
        self._output = output
        self._read_line = read_line
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._seen: deque[str] = deque(maxlen=LINES_REMEMBERED)
        self._file_start = 0

    @property
    def pid(self) -> int:
        """The process's id, which is also its group's."""
        assert self._process is not None, "start() comes first"
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self._process is not None and self._process.returncode is not None

    @property
    def last_lines(self) -> list[str]:
        """What it has said last."""
        if not isinstance(self._output, Path):
            return list(self._seen)
        with self._output.open("rb") as file:
            file.seek(max(self._file_start, file.seek(0, os.SEEK_END) - 10_000))
            return file.read().decode(errors="replace").splitlines()[-LINES_REMEMBERED:]

    async def start(self) -> None:
        """Raises OSError when there is no such program."""
        with contextlib.ExitStack() as opened:
            said: int | IO[bytes] = subprocess.PIPE
            if isinstance(self._output, Path):
                said = opened.enter_context(self._output.open("ab"))
                self._file_start = said.tell()
            runner = os.getpid()
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if self._read_line else said,
                stderr=said if self._read_line else subprocess.STDOUT,
                env=self._environment,
                cwd=self._folder,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(runner),
            )
        streams = [(self._process.stdout, self._read_line or self._take), (self._process.stderr, self._take)]
        self._readers = [asyncio.create_task(_hand_on(stream, take)) for stream, take in streams if stream is not None]

    async def wait(self) -> int:
        """Wait until it has ended; returns its exit code (negative: the signal that ended it)."""
        assert self._process is not None, "start() comes first"
        return await self._process.wait()

    def signal(self, number: int) -> None:
        """Send a signal to the whole group; nothing happens if it is gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def stop(self, grace_s: float) -> None:
        """Ask it to end, force it when the time is over, and leave nothing of its group."""
        if self._process is None:
            return
        if not self.has_ended:
            # To the leader only: it knows how to end its group in order.
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), grace_s)
        self.signal(signal.SIGKILL)
        await self._process.wait()
        # What it said last is still in the pipe; a stranger that holds the other end open must not stop us.
        if self._readers:
            await asyncio.wait(self._readers, timeout=1.0)
        for reader in self._readers:
            reader.cancel()

    def _take(self, line: bytes) -> None:
        self._seen.append(line.decode(errors="replace"))
        if not isinstance(self._output, Path):
            self._output(line)


async def _hand_on(stream: asyncio.StreamReader, take: Callable[[bytes], None]) -> None:
    rest = b""
    while chunk := await stream.read(65_536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            take(line)
    if rest:
        take(rest)


def descendants() -> list[int]:
    """The ids of all processes below this one, as far as the system tells (on Linux)."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat") if _IS_LINUX else ():
        with contextlib.suppress(OSError):
            # The name, in parentheses, may hold anything; the state and the parent's id follow it.
            state, parent = entry.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry.parent.name))
    found: list[int] = []
    queue = deque([os.getpid()])
    while queue:
        below = children.get(queue.popleft(), [])
        found += below
        queue += below
    return found


async def end_descendants(grace_s: float) -> None:
    """End whatever processes are left below this one."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        left = descendants()
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        loop = asyncio.get_running_loop()
        end = loop.time() + grace_s
        while left and loop.time() < end:
            await asyncio.sleep(0.02)
            left = descendants()
        if not left:
            return
