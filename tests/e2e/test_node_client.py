"""The embedded Firestore serves the official Node client, too. Skipped where that cannot be installed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import grpc
import pytest

from tests.e2e.node import NODE_CLIENT, node_with
from tests.integration.served import PROJECT, served


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Where a running server is."""
    with served() as server:
        yield {**os.environ, "FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{server.port}", "GOOGLE_CLOUD_PROJECT": PROJECT}


def test_server_code_in_node_reads_writes_queries_and_transacts(environment: dict[str, str]) -> None:
    node = node_with(NODE_CLIENT)
    ran = subprocess.run(
        [node, "smoke.mjs"], cwd=NODE_CLIENT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "createdTwice": grpc.StatusCode.ALREADY_EXISTS.value[0],
        "updatedMissing": grpc.StatusCode.NOT_FOUND.value[0],
        "staleUpdate": grpc.StatusCode.FAILED_PRECONDITION.value[0],
        "document": {
            "n": 3,
            "tags": ["a", "b"],
            "odd.name": ["deep", "new"],
            "merged": {"yes": None},
            "at": 123_456_000,
        },
        "equal": ["i0", "i2", "i4"],
        "range": ["i4", "one", "i3", "i2"],
        "either": ["i0", "i1", "i5"],
        "page": ["i3", "one"],
        "last": ["i4", "i5"],
        "group": 5,
        "count": 7,
        "selected": [{"even": True}],
        "all": [True, False],
        "collections": ["below"],
        "counted": 10,
        "past": 0,
        "left": 0,
    }
