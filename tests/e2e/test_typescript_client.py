"""The types of the TypeScript client are those of the API's description. `make test-client` tests what the client does."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.node import node_with

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "typescript"
OPENAPI = ROOT / "deploy" / "openapi.yaml"
TYPES = {
    "/groups/{groupId}/balance": "BalanceAnswer",
    "/groups/{groupId}/explain": "Explanation",
    "/balances": "GroupPage",
    "/totals": "Totals",
}


def example_of(operations: dict[str, Any]) -> dict[str, Any]:
    """The answer that the description shows."""
    found: dict[str, Any] = operations["get"]["responses"]["200"]["content"]["application/json"]["example"]
    return found


def compiled(described: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    """Compile the description's examples, each as a value of its type."""
    lines = [f"import type {{ {', '.join(TYPES.values())} }} from {json.dumps(str(CLIENT / 'src' / 'api.js'))};"]
    for number, (path, operations) in enumerate(described["paths"].items()):
        lines.append(f"export const example{number}: {TYPES[path]} = {json.dumps(example_of(operations))};")
    # What the description requires the type must require: without it nothing compiles.
    schema = described["components"]["schemas"]["Balance"]
    balance = described["paths"]["/groups/{groupId}/balance"]["get"]["responses"]["200"]["content"]["application/json"][
        "example"
    ]
    for number, name in enumerate(schema["required"]):
        less = {field: value for field, value in balance.items() if field != name}
        lines.append(f"// @ts-expect-error: {name} is required")
        lines.append(f"export const without{number}: BalanceAnswer = {json.dumps(less)};")
    (folder / "examples.ts").write_text("\n".join(lines))
    settings = {
        "extends": str(CLIENT / "tsconfig.json"),
        "compilerOptions": {"noEmit": True, "rootDir": "/", "noUnusedLocals": False},
        "files": ["examples.ts"],
    }
    (folder / "tsconfig.json").write_text(json.dumps(settings))
    (folder / "package.json").write_text('{"type": "module"}')
    command = [node_with(CLIENT), str(CLIENT / "node_modules" / "typescript" / "bin" / "tsc"), "-p", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_without_node_the_make_target_says_what_to_install(tmp_path: Path) -> None:
    for tool in ("bash", "dirname"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    command = [str(tmp_path / "bash"), str(ROOT / "scripts" / "test_client.sh")]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("test-client: Node 20 or later with npm is needed")


def test_the_examples_of_the_api_are_values_of_the_clients_types(tmp_path: Path) -> None:
    done = compiled(yaml.safe_load(OPENAPI.read_text()), tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("change", ["a field more", "a field less", "another type", "a requirement more"])
def test_a_description_that_departs_is_noticed(change: str, tmp_path: Path) -> None:
    described = yaml.safe_load(OPENAPI.read_text())
    content = described["paths"]["/groups/{groupId}/balance"]["get"]["responses"]["200"]["content"]["application/json"]
    if change == "a field more":
        content["example"]["novel"] = 1
    elif change == "a field less":
        del content["example"]["source"]
    elif change == "a requirement more":
        described["components"]["schemas"]["Balance"]["required"].append("includes")
    else:
        content["example"]["asOf"] = 1
    assert compiled(described, tmp_path).returncode != 0
