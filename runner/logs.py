"""Where the output of the processes goes: to standard error with the process's name before each line, or to files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from runner.log_lines import LogLines

LineWriter = Callable[[bytes], None]
Output = LineWriter | Path
_QUIET_SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE")


class Logs:
    """`folder`: a file `NAME.log` for each process, instead. `quiet`: no structured lines below WARNING on the screen."""

    def __init__(self, folder: Path | None = None, *, quiet: bool = False) -> None:
        self.lines = LogLines()
        """The latest, whatever goes to the screen."""
        self._folder = folder
        self._quiet = quiet

    def output(self, name: str) -> Output:
        """For the process of that name: the file that it is to write to itself, or what takes its lines. Raises OSError.

        A process writes to its file without us between, so that what it has said can be read at once.
        """
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder.resolve() / f"{name}.log"
            self.lines.follow(name, path)
            return path
        return lambda line: self._show(name, line)

    def _show(self, name: str, line: bytes) -> None:
        self.lines.add(name, line)
        if self._quiet and _is_chatter(line):
            return
        sys.stderr.buffer.write(f"[{name}] ".encode() + line + b"\n")
        sys.stderr.buffer.flush()


def _is_chatter(line: bytes) -> bool:
    if not line.startswith(b"{"):
        return False
    try:
        return json.loads(line).get("severity", "DEFAULT") in _QUIET_SEVERITIES
    except ValueError:
        return False
