"""Where the output of the processes goes: to standard error with the process's name before each line, or to files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

LineWriter = Callable[[bytes], None]
_QUIET_SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE")


class Logs:
    """`folder`: a file `NAME.log` for each process, instead. `quiet`: no structured lines below WARNING on the screen."""

    def __init__(self, folder: Path | None = None, *, quiet: bool = False) -> None:
        self._folder = folder
        self._quiet = quiet
        self._files: dict[str, BinaryIO] = {}

    def writer(self, name: str) -> LineWriter:
        """What takes the lines (without their ends) of the process of that name. Raises OSError."""
        if self._folder is None:
            prefix = f"[{name}] ".encode()
            return lambda line: self._show(prefix, line)
        file = self._files.get(name)
        if file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Unbuffered: who reads along sees each line when it is written.
            file = self._files[name] = (self._folder / f"{name}.log").open("ab", buffering=0)
        return lambda line: _write(file, line)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _show(self, prefix: bytes, line: bytes) -> None:
        if self._quiet and _is_chatter(line):
            return
        sys.stderr.buffer.write(prefix + line + b"\n")
        sys.stderr.buffer.flush()


def _write(file: BinaryIO, line: bytes) -> None:
    if not file.closed:
        file.write(line + b"\n")


def _is_chatter(line: bytes) -> bool:
    if not line.startswith(b"{"):
        return False
    try:
        return json.loads(line).get("severity", "DEFAULT") in _QUIET_SEVERITIES
    except ValueError:
        return False
