"""What may import what, in the embedded server."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[3] / "emulator"
PURE = [
    *("aggregation", "changes", "engine", "errors", "footprints", "index", "indexes", "listeners", "locks", "names", "paths"),
    *("planning", "query", "settable", "statistics", "store", "targets", "transactions", "values", "writes"),
]


def imported(path: Path) -> set[str]:
    """All modules that a file imports, with those they lie in."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module or "")
    return {".".join(module.split(".")[:length]) for module in modules for length in range(1, 4)}


def test_the_embedded_server_knows_nothing_of_balances() -> None:
    files = sorted(PACKAGE.glob("*.py"))
    assert len(files) > 20
    for path in files:
        assert not imported(path) & {"balance", "main", "runner", "scripts", "tests"}, path


@pytest.mark.parametrize("name", PURE)
def test_what_decides_uses_no_clock_chance_thread_or_loop(name: str) -> None:
    found = imported(PACKAGE / f"{name}.py")
    assert not found & {"asyncio", "threading", "time", "datetime", "random", "secrets", "uuid", "socket", "os", "grpc.aio"}
    within = {module.partition(".")[2] for module in found if module.startswith("emulator.")}
    assert within <= set(PURE), "it depends on what is not pure"
