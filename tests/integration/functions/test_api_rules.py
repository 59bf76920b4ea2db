"""The snippet of security rules, in the official emulator, where there is one: nothing else judges rules."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from balance.documents.layout import FAULTS, RECORDS, Layout
from scripts.unsigned_token import unsigned_token

DEPLOY = Path(__file__).parents[3] / "deploy"
RULES = (DEPLOY / "firestore.rules").read_text()
PROJECT = "demo-rules"
CACHE = Path(os.environ.get("FIREBASE_EMULATORS_PATH", Path.home() / ".cache" / "firebase" / "emulators"))

Call = Callable[..., int]


def _jar() -> Path | None:
    return max(CACHE.glob("cloud-firestore-emulator-v*.jar"), default=None)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running official emulator; skips, and says why, where there is none."""
    running, jar, java = os.environ.get("FIRESTORE_RULES_EMULATOR_HOST"), _jar(), shutil.which("java")
    if running:
        yield running
        return
    if jar is None or java is None:
        pytest.skip(
            "RULES NOT TESTED: the official Firestore emulator is not at hand "
            f"({'no Java' if java is None else f'no jar in {CACHE}'}); set FIRESTORE_RULES_EMULATOR_HOST to a running one"
        )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("emulator") / "log"
    with log.open("wb") as output:
        command = [java, "-jar", str(jar), "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/")
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def call(host: str) -> Call:
    """Calls of the REST API as a user ("owner": as the functions do), with the snippet in force; returns the status."""
    _request(
        "PUT",
        f"http://{host}/emulator/v1/projects/{PROJECT}:securityRules",
        "owner",
        {"rules": {"files": [{"name": "firestore.rules", "content": RULES}]}},
    )

    def call(method: str, path: str, uid: str | None, fields: dict[str, Any] | None = None) -> int:
        url = f"http://{host}/v1/projects/{PROJECT}/databases/(default)/documents/{path}"
        return _request(method, url, uid, None if fields is None else {"fields": fields})

    members = {"arrayValue": {"values": [{"stringValue": "ana"}]}}
    by_uid = {"mapValue": {"fields": {"ana": {"booleanValue": True}}}}
    for group, value in (("list", members), ("map", by_uid)):
        call("PATCH", f"groups/{group}", "owner", {"members": value})
        for path in OURS:
            assert call("PATCH", path.replace("GROUP", group), "owner", {"version": {"integerValue": 1}}) == 200
    return call


OURS = ("groups/GROUP/metadata/balance", f"groups/GROUP/{RECORDS}/r1", f"groups/GROUP/{FAULTS}/f1", f"{FAULTS}/f1")


def _request(method: str, url: str, uid: str | None, body: object = None) -> int:
    headers = {"content-type": "application/json"}
    if uid is not None:
        headers["authorization"] = f"Bearer {'owner' if uid == 'owner' else unsigned_token(uid, PROJECT)}"
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method)) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("group", ["list", "map"])
def test_only_members_get_the_balance(call: Call, group: str) -> None:
    path = f"groups/{group}/metadata/balance"
    assert call("GET", path, "ana") == 200
    assert call("GET", path, "mallory") == 403
    assert call("GET", path, None) == 403
    assert call("GET", f"groups/{group}/metadata", "ana") == 403


@pytest.mark.parametrize("path", OURS)
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_nobody_writes_what_is_ours(call: Call, path: str, method: str) -> None:
    fields = {"version": {"integerValue": 2}} if method == "PATCH" else None
    for uid in ("ana", "mallory", None):
        assert call(method, path.replace("GROUP", "list"), uid, fields) == 403


@pytest.mark.parametrize("path", OURS[1:])
def test_nobody_reads_records_and_faults(call: Call, path: str) -> None:
    for uid in ("ana", None):
        assert call("GET", path.replace("GROUP", "list"), uid) == 403
        assert call("GET", path.replace("GROUP", "list").rpartition("/")[0], uid) == 403


def test_the_rules_name_every_collection_that_is_ours() -> None:
    matches = set(re.findall(r"match /(\S+) \{", RULES))
    layout = Layout()
    assert {layout.balance("{groupId}"), f"{layout.records('{groupId}')}/{{record}}"} <= matches
    assert {f"{layout.faults('{groupId}')}/{{fault}}", f"{layout.faults(None)}/{{fault}}"} <= matches


def test_the_large_fields_are_exempt_and_what_is_queried_is_not() -> None:
    configured = json.loads((DEPLOY / "firestore.indexes.json").read_text())
    assert configured["indexes"] == []
    overrides = {(entry.pop("collectionGroup"), entry.pop("fieldPath")): entry for entry in configured["fieldOverrides"]}
    assert overrides == {
        (Layout().balance("g").split("/")[-2], "balancesByCurrency"): {"indexes": []},
        (Layout().balance("g").split("/")[-2], "simplifiedDebts"): {"indexes": []},
        (RECORDS, "delta"): {"indexes": []},
        (RECORDS, "expireAt"): {"indexes": [], "ttl": True},
    }
