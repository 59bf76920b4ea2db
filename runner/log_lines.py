"""The latest lines that the processes have printed, numbered: for those who watch.

Where each process writes to a file of its own, the files are read on whenever somebody asks.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Any

MAX_LINES = 4_000
MAX_LINE_BYTES = 256 * 1024
"""Of a longer line the rest is not kept."""
_LOOK_EVERY_S = 0.05
_READ_BYTES = 4 * 1024 * 1024


class LogLines:
    """Lines by number, from 1 on."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, str, bytes]] = deque(maxlen=MAX_LINES)
        self._number = 0
        self._files: dict[str, tuple[Path, int]] = {}
        """By process: its file, and how much of it has been read."""

    def add(self, process: str, line: bytes) -> None:
        """A process has printed a line."""
        self._number += 1
        self._lines.append((self._number, process, line[:MAX_LINE_BYTES]))

    def follow(self, process: str, path: Path) -> None:
        """A process will write to this file; what stands in it already is another run's."""
        self._files[process] = (path, path.stat().st_size if path.exists() else 0)

    def since(self, number: int, limit: int) -> dict[str, Any]:
        """As JSON: the number of the latest line, and the lines after the given number, the latest `limit` of them."""
        self._read_on()
        news = min(limit, self._number - number, len(self._lines))
        latest = islice(self._lines, len(self._lines) - news, None) if news > 0 else ()
        return {
            "number": self._number,
            "lines": [
                {"number": at, "process": process, "text": line.decode(errors="replace")} for at, process, line in latest
            ],
        }

    async def wait(self, number: int, timeout_s: float) -> None:
        """Return when there is a line after this number, or when the time is over."""
        end_s = time.monotonic() + timeout_s
        while True:
            self._read_on()
            if self._number > number or time.monotonic() >= end_s:
                return
            await asyncio.sleep(_LOOK_EVERY_S)

    def _read_on(self) -> None:
        for process, (path, done) in list(self._files.items()):
            if not path.exists() or path.stat().st_size <= done:
                continue
            with path.open("rb") as file:
                file.seek(done)
                read = file.read(_READ_BYTES)
            # A line that is still being written is read next time.
            whole = len(read) if len(read) == _READ_BYTES and b"\n" not in read else read.rfind(b"\n") + 1
            for line in read[:whole].splitlines():
                self.add(process, line)
            self._files[process] = (path, done + whole)
