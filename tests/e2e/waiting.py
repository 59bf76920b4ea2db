"""What tests of processes share: waiting, and looking at what runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 30.0


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Wait until it holds."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    pytest.fail(f"{what}: not within {PATIENCE_S:g} s")


def is_alive(pid: int) -> bool:
    """Zombies are dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def family(pid: int) -> set[int]:
    """A process and everything below it."""
    found, queue = {pid}, [pid]
    while queue:
        for listing in Path(f"/proc/{queue.pop()}/task").glob("*/children"):
            children = {int(child) for child in listing.read_text().split()}
            found |= children
            queue += children
    return found
