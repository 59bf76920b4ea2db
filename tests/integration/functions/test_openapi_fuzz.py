"""The description of the read API is true: the running function, attacked by it."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from balance.documents.balances import VERSION
from balance.functions.api import _ROUTES, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from balance.operations import explain
from balance.operations.includes import MAX_WRITES
from scripts.unsigned_token import unsigned_token
from tests.integration.served import PROJECT, Served, served

ROOT = Path(__file__).parents[3]
OPENAPI = ROOT / "deploy" / "openapi.yaml"
GROUPS = ("lisbon", "new", "theirs", "stale", "malformed", "ü %2F?#", "large")
UIDS = ("ana", "bo", "x.y/`'\"\\", "日本", "nobody")

# Values that mean something, so that most requests get further than to "no such group".
CONFIG: dict[str, dict[str, dict[str, Any]]] = {
    "dictionaries": {"groups": {"values": list(GROUPS)}, "uids": {"values": list(UIDS)}},
    "parameters": {
        "path.groupId": {"dictionary": "groups", "probability": 0.7},
        "query.from": {"dictionary": "uids", "probability": 0.7},
        "query.to": {"dictionary": "uids", "probability": 0.7},
    },
}

# Which writes may be asked for depends on settings and on the time of day; a page token is one that was given. The description
# cannot know either.
MAY_BE_REFUSED = """
[[operations]]
include-name = "GET /groups/{groupId}/balance"
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", "400", "401", "403", "404", "409", "429", "5xx"]
[[operations]]
include-name = "GET /groups/{groupId}/explain"
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", "400", "401", "403", "404", "409", "429", "5xx"]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served() as running:
        database = running.client()
        for number, group in enumerate(GROUPS):
            members = ["ana", *UIDS[1:4]] if group != "theirs" else ["bo"]
            database.document(f"groups/{group}").set({"members": members if number % 2 else dict.fromkeys(members, True)})
            if group not in ("new", "malformed"):
                for currency, amount in (("EUR", 12.5), ("JPY", 100), ("KWD", 0.125)):
                    splits = [{"uid": uid, "amount": amount} for uid in UIDS[:4]]
                    fields: dict[str, Any] = {
                        "groupId": group,
                        "paidBy": UIDS[number % 4],
                        "amount": 4 * amount,
                        "currency": currency,
                    }
                    database.collection("expenses").add({**fields, "splits": splits})
        database.document("groups/malformed/metadata/balance").set({"version": VERSION})
        splits = [{"uid": "bo", "amount": 10**12}] * 1000
        for _ in range(2):  # beyond what can be stored
            fields = {"groupId": "large", "paidBy": "ana", "amount": 10**12, "currency": "JPY", "splits": splits}
            database.collection("expenses").add(fields)
        yield running


@pytest.fixture(scope="module")
def url(server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The function as functions_framework runs it in production: gunicorn, threads and all."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{server.port}",
        "FIREBASE_AUTH_EMULATOR_HOST": "127.0.0.1:9",
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "ALLOWED_ORIGINS": "https://app.example.com",
        "THREADS": "8",
        "READS_PER_MINUTE": "10000000",
    }
    command = [sys.executable, "-m", "functions_framework", "--target", "balance_api", "--host", "127.0.0.1"]
    log = tmp_path_factory.mktemp("function") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "--port", str(port)], cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/")
            except urllib.error.HTTPError:
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _attack(description: Path, url: str, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run schemathesis with all its checks; bounded by the number of examples, reproducible by its seed."""
    config = directory / "schemathesis.toml"
    config.write_text(_toml(CONFIG) + MAY_BE_REFUSED)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "--no-color", "run", str(description)]
    command += [
        "--url",
        url,
        "--header",
        f"Authorization: Bearer {unsigned_token('ana', PROJECT)}",
        "--checks",
        "all",
        "--seed",
        "7",
    ]
    command += ["--max-examples", "40", "--suppress-health-check", "all", "--no-shrink", "--continue-on-failure", *options]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=100)


def _toml(tables: dict[str, dict[str, dict[str, Any]]]) -> str:
    lines = []
    for table, entries in tables.items():
        for name, values in entries.items():
            lines.append(f"[{table}.{json.dumps(name)}]")
            lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def test_the_running_api_is_as_described(url: str, tmp_path: Path) -> None:
    done = _attack(OPENAPI, url, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_attack_would_find_a_false_description(url: str, tmp_path: Path) -> None:
    described = yaml.safe_load(OPENAPI.read_text())
    described["components"]["schemas"]["Row"]["properties"]["netBalance"] = {"type": "number", "minimum": 0}
    false = tmp_path / "false.yaml"
    false.write_text(yaml.safe_dump(described))
    done = _attack(false, url, tmp_path, "--phases", "fuzzing", "--max-failures", "1")
    assert done.returncode == 1
    assert "netBalance" in done.stdout


def test_paths_and_bounds_are_those_of_the_code() -> None:
    described = yaml.safe_load(OPENAPI.read_text())
    routes = {rule.rule.replace("<group_id>", "{groupId}") for rule in _ROUTES.iter_rules()}
    assert set(described["paths"]) == routes
    (size,) = [p["schema"] for p in described["paths"]["/balances"]["get"]["parameters"] if p["name"] == "pageSize"]
    assert (size["maximum"], size["default"]) == (MAX_PAGE_SIZE, DEFAULT_PAGE_SIZE)
    (writes,) = [p["schema"] for p in described["paths"]["/groups/{groupId}/balance"]["get"]["parameters"]]
    assert writes["maxItems"] == MAX_WRITES
    pair = described["components"]["schemas"]["ExplainedPair"]["properties"]["transactions"]
    assert pair["maxItems"] == explain.MAX_PAGE_SIZE
    parameters = described["paths"]["/groups/{groupId}/explain"]["get"]["parameters"]
    (size,) = [p["schema"] for p in parameters if p["name"] == "pageSize"]
    assert (size["maximum"], size["default"]) == (explain.MAX_PAGE_SIZE, explain.DEFAULT_PAGE_SIZE)
