"""The embedded Firestore serves the official Node client, too. Skipped where that cannot be installed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from emulator.engine import Settings
from tests.e2e.node import NODE_CLIENT, node_with
from tests.integration.served import PROJECT, Served, served


@pytest.fixture
def node() -> str:
    """The path of Node, with the client installed."""
    return node_with(NODE_CLIENT)


@pytest.fixture
def server() -> Iterator[Served]:
    """A running server."""
    with served(Settings()) as running:
        yield running


def run(node: str, script: str, server: Served) -> Any:
    """What a script of the folder prints."""
    environment = {**os.environ, "FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{server.port}", "GOOGLE_CLOUD_PROJECT": PROJECT}
    ran = subprocess.run(
        [node, script], cwd=NODE_CLIENT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_a_stream_that_fails_is_not_tried_again(node: str, server: Served) -> None:
    """It took 7 seconds each, for all that is not implemented, too."""
    invalid, unimplemented = grpc.StatusCode.INVALID_ARGUMENT.value[0], grpc.StatusCode.UNIMPLEMENTED.value[0]
    assert run(node, "failing.mjs", server) == {
        "get": invalid,
        "query": invalid,
        "aggregation": invalid,
        "explanation": unimplemented,
        "pipeline": unimplemented,
    }
    assert server.databases.statistics.rpcs == {
        "BatchGetDocuments": 2,
        "RunQuery": 2,
        "RunAggregationQuery": 1,
        "ExecutePipeline": 1,
    }


def test_server_code_in_node_reads_writes_queries_and_transacts(node: str, server: Served) -> None:
    assert run(node, "smoke.mjs", server) == {
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
        "summary": {"sum": 17, "average": 3.4, "count": 5},
        "nothing": {"sum": 0, "average": None, "count": 0},
        "selected": [{"even": True}],
        "all": [True, False],
        "collections": ["below"],
        "counted": 10,
        "past": 0,
        "left": 0,
    }
