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

PACKAGES = ("core", "database", "documents", "protocol", "operations", "functions")
"""From the lowest to the highest: each imports only those before it."""

WITH_SDK = {"balance.database.sdk", "balance.database.codec", "balance.protocol.events"}
"""The modules below `operations` that may name the library or its messages."""


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
    for path in [ROOT / "main.py", *sorted((ROOT / "balance").rglob("*.py"))]:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = named_in(path)
    return found


def named_in(path: Path) -> set[str]:
    """What a source file names in an import, anywhere in it."""
    return {
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


def package(name: str) -> str | None:
    """The package of one of our modules; None for main, the adapter and the top-level text."""
    parts = name.split(".")
    return parts[1] if parts[0] == "balance" and len(parts) > 1 and parts[1] in PACKAGES else None


def pure_modules() -> list[str]:
    """Modules that import no SDK, not even by way of others: all rules, the protocol, the narrow view of Firestore."""
    lower = PACKAGES[: PACKAGES.index("operations")]
    needs_sdk = WITH_SDK | {"balance.protocol.bookkeeper"}
    return ["balance.adapter", *(name for name in imports() if package(name) in lower and name not in needs_sdk)]


def test_every_folder_of_the_product_is_a_package_with_a_place_in_the_order() -> None:
    assert {path.parent.name for path in (ROOT / "balance").glob("*/__init__.py")} == set(PACKAGES)
    assert {path.name for path in (ROOT / "balance").glob("*.py")} == {"__init__.py", "adapter.py"}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_opens_with_a_text_and_holds_no_code(name: str) -> None:
    (text,) = ast.parse((ROOT / "balance" / name / "__init__.py").read_text()).body
    assert isinstance(text, ast.Expr)
    assert isinstance(text.value, ast.Constant)


def test_packages_import_one_way() -> None:
    wrong = {
        (name, target)
        for name, targets in imports().items()
        for target in targets
        if (mine := package(name)) and (theirs := package(target)) and PACKAGES.index(theirs) > PACKAGES.index(mine)
    }
    assert not wrong


def test_the_core_imports_nothing_but_the_standard_library() -> None:
    named = {target for name, targets in imports().items() if package(name) == "core" for target in targets}
    foreign = {target for target in named if target.split(".")[0] not in sys.stdlib_module_names and package(target) != "core"}
    assert foreign <= {"balance.core"}


def test_rules_and_protocol_import_no_sdk_even_by_way_of_others() -> None:
    together = loaded(", ".join(pure_modules()))
    assert {name for name in together if name.split(".")[0] in SDKS} <= NAMESPACES


def test_rules_and_protocol_name_no_sdk() -> None:
    assert not {(name, target) for name in pure_modules() for target in imports()[name] if target.split(".")[0] in SDKS}


def test_the_client_library_is_imported_in_one_place_only() -> None:
    users = {name for name, targets in imports().items() if any(t.startswith("google.cloud") or t == "grpc" for t in targets)}
    assert users == {"balance.database.sdk"}


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
            target
            for target in targets
            if target.split(".")[0] in {"main", "tests", "scripts", "emulator", "runner", "console"}
        }, name


def test_loading_the_functions_needs_no_credentials_and_starts_nothing_heavy() -> None:
    inherited = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "VIRTUAL_ENV"}}
    found = loaded("main", inherited | {"HOME": "/nonexistent", "GOOGLE_APPLICATION_CREDENTIALS": "/nonexistent.json"})
    assert not found & {"firebase_admin", "pydantic", "iso4217", "google.cloud.firestore"}
    assert not {name for name in found if name in {"balance.functions.api", "balance.functions.nightly"}}


def test_the_console_imports_operations_and_below_and_nothing_but_its_command_imports_it() -> None:
    for path in sorted((ROOT / "console").rglob("*.py")):
        above = {"balance.functions", "main", "tests", "bench"}
        assert not {target for target in named_in(path) if any(f"{target}.".startswith(f"{name}.") for name in above)}, path
    importers = {
        path.relative_to(ROOT).as_posix()
        for folder in ("balance", "emulator", "runner", "scripts", "bench", "examples")
        for path in (ROOT / folder).rglob("*.py")
        if any(target.split(".")[0] == "console" for target in named_in(path))
    }
    assert importers == {"scripts/console.py"}
