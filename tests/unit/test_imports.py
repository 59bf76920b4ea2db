"""Who may import whom: the core knows no SDK, arrows point one way, loading the functions needs no credentials."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SDKS = {"google", "grpc", "proto", "firebase_admin", "flask", "werkzeug", "functions_framework", "cloudevents", "requests"}
NAMESPACES = {"google", "google.cloud"}
"""Made at every start of Python by .pth files of some packages; empty."""

PURE = [
    "adapter",
    "apply",
    "balances",
    "changes",
    "currencies",
    "faults",
    "firestore",
    "gaps",
    "groupcommit",
    "layout",
    "ledger",
    "log",
    "money",
    "outcome",
    "rebuild",
    "records",
    "retry",
    "settings",
    "simplify",
    "sources",
    "writes",
]
"""Modules that import no SDK, not even by way of others: all rules, the protocol, the narrow view of Firestore."""


def loaded(module: str, environment: dict[str, str] | None = None) -> set[str]:
    """The modules that a new process has loaded after importing one."""
    program = f"import json, sys, {module}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@cache
def imports() -> dict[str, set[str]]:
    """For each of our modules what it names in an import, anywhere in it."""
    found = {}
    for path in [ROOT / "main.py", *sorted((ROOT / "balance").glob("*.py"))]:
        name = "main" if path.stem == "main" else f"balance.{path.stem}"
        found[name] = {
            target
            for node in ast.walk(ast.parse(path.read_text()))
            for target in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
    return found


def test_the_core_imports_no_sdk_even_by_way_of_others() -> None:
    together = loaded(", ".join(f"balance.{name}" for name in PURE))
    assert {name for name in together if name.split(".")[0] in SDKS} <= NAMESPACES


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_names_no_sdk(name: str) -> None:
    assert not {target for target in imports()[f"balance.{name}"] if target.split(".")[0] in SDKS}


def test_the_client_library_is_imported_in_one_place_only() -> None:
    users = {name for name, targets in imports().items() if any(t.startswith("google.cloud") or t == "grpc" for t in targets)}
    assert users == {"balance.store"}


def test_arrows_point_one_way() -> None:
    ours = {name: sorted(target for target in targets if target in imports()) for name, targets in imports().items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for target in ours[name]:
                visit(target, (*path, name))
            done.add(name)

    for name in ours:
        visit(name, ())
    assert done == set(ours)


def test_nothing_imports_the_entry_points_and_the_product_knows_neither_tests_nor_tools() -> None:
    for name, targets in imports().items():
        assert not {
            target for target in targets if target.split(".")[0] in {"main", "tests", "scripts", "emulator", "runner"}
        }, name


def test_loading_the_functions_needs_no_credentials_and_starts_nothing_heavy() -> None:
    inherited = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "VIRTUAL_ENV"}}
    found = loaded("main", inherited | {"HOME": "/nonexistent", "GOOGLE_APPLICATION_CREDENTIALS": "/nonexistent.json"})
    assert not found & {"firebase_admin", "pydantic", "iso4217", "google.cloud.firestore", "balance.api", "balance.nightly"}
