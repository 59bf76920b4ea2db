"""The ports that a subcommand listens on."""

from __future__ import annotations

from runner.processes import is_free
from scripts.command import Refused


def check_free(port: int, remedy: str) -> None:
    """Raises Refused when another program listens on it; `remedy` says how to choose another."""
    if not is_free(port):
        raise Refused(f"port {port} is in use: end the program that listens there, or choose {remedy}")
