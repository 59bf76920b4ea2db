"""Official clients that subscribe to the embedded Firestore: Python's, Node's, and the JavaScript SDK of web apps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from google.cloud import firestore

from runner.session import call
from tests.e2e.node import NODE_CLIENT, WEB_CLIENT, node_with
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "demo-listening"
CHANGES = 200


class Server:
    """An embedded Firestore in a process of its own, and what tests do to it."""

    def __init__(self, host: str, admin_url: str) -> None:
        self.admin_url = admin_url
        self.environment = {**os.environ, "FIRESTORE_EMULATOR_HOST": host, "GOOGLE_CLOUD_PROJECT": PROJECT}

    @property
    def port(self) -> str:
        return self.environment["FIRESTORE_EMULATOR_HOST"].rpartition(":")[2]

    def client(self) -> firestore.Client:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FIRESTORE_EMULATOR_HOST", self.environment["FIRESTORE_EMULATOR_HOST"])
            return firestore.Client(project=PROJECT)

    def end_streams(self) -> int:
        return int(call("DELETE", f"{self.admin_url}/streams")["ended"])

    def streams(self) -> dict[str, int]:
        found: dict[str, int] = call("GET", f"{self.admin_url}/streams")
        return found

    def set_faults(self, *faults: dict[str, Any]) -> None:
        call("PUT", f"{self.admin_url}/faults", {"faults": faults})

    def statistics(self) -> dict[str, Any]:
        found: dict[str, Any] = call("GET", f"{self.admin_url}/statistics")
        return found


@contextmanager
def running(port: str = "0") -> Iterator[Server]:
    """A server until the end of the block, on any port or on this one."""
    command = [sys.executable, "-m", "emulator", "--port", port, "--admin-port", "0", "--project", PROJECT, "--seed", "7"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        where = json.loads(process.stdout.readline())
        yield Server(where["firestoreHost"], where["adminUrl"])
        process.terminate()


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as found:
        yield found


class Seen:
    """What a subscriber had after each of its snapshots."""

    def __init__(self) -> None:
        self.snapshots: list[dict[str, Any]] = []

    def has(self, document: Any, query: list[tuple[str, int]]) -> bool:
        """Whether the last snapshots were these."""
        wanted = {"document": document, "query": [list(each) for each in query]}
        return bool(self.snapshots) and self.snapshots[-1] == wanted

    @property
    def numbers(self) -> list[int]:
        """The document's number, snapshot by snapshot."""
        documents = (snapshot.get("document") for snapshot in self.snapshots)
        return [document["n"] for document in documents if document is not None]


def place(document: firestore.DocumentSnapshot) -> tuple[int, list[int]]:
    """A key by which documents are in the order of `top`."""
    return -document.get("n"), [-ord(letter) for letter in document.id]


def top(client: firestore.Client) -> firestore.Query:
    items = client.collection("items").where(filter=firestore.FieldFilter("n", ">=", 10))
    return items.order_by("n", direction=firestore.Query.DESCENDING).limit(5)


@contextmanager
def python_subscriber(server: Server) -> Iterator[Seen]:
    client = server.client()
    seen, state, lock = Seen(), {}, threading.Lock()

    def tell(change: dict[str, Any]) -> None:
        with lock:
            state.update(change)
            seen.snapshots.append(dict(state))

    watches = [
        client.document("groups/g").on_snapshot(
            lambda documents, *_: tell({"document": documents[0].to_dict() if documents else None})
        ),
        top(client).on_snapshot(
            # This client shows descending results in ascending order: its comparator multiplies by 2 for DESCENDING.
            lambda documents, *_: tell(
                {"query": [[document.id, document.get("n")] for document in sorted(documents, key=place)]}
            )
        ),
    ]
    yield seen
    for watch in watches:
        watch.unsubscribe()


@contextmanager
def _node_subscriber(server: Server, folder: Path) -> Iterator[Seen]:
    command = [node_with(folder), "subscribe.mjs"]
    with subprocess.Popen(
        command, cwd=folder, env=server.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        seen = Seen()
        output = process.stdout
        reader = threading.Thread(target=lambda: seen.snapshots.extend(map(json.loads, output)), daemon=True)
        reader.start()
        try:
            yield seen
            process.stdin.close()
            assert process.wait(20) == 0, "the client does not end"
            reader.join(20)
        finally:
            process.kill()


@contextmanager
def node_subscriber(server: Server) -> Iterator[Seen]:
    with _node_subscriber(server, NODE_CLIENT) as seen:
        yield seen


@contextmanager
def web_subscriber(server: Server) -> Iterator[Seen]:
    with _node_subscriber(server, WEB_CLIENT) as seen:
        yield seen


Subscriber = Callable[[Server], Any]
each_client = pytest.mark.parametrize(
    "subscriber",
    [
        pytest.param(python_subscriber, id="python"),
        pytest.param(node_subscriber, id="node"),
        pytest.param(web_subscriber, id="web"),
    ],
)


@each_client
def test_the_last_snapshot_is_the_truth_though_streams_break(server: Server, subscriber: Subscriber) -> None:
    client, random = server.client(), Random(19)
    with subscriber(server) as seen:
        eventually(lambda: seen.has(None, []), "the first snapshot")
        server.set_faults({"rpc": "Listen", "code": "UNAVAILABLE", "moment": "after", "probability": 0.05})
        ended = 0
        for number in range(CHANGES):
            item = client.collection("items").document(f"i{random.randrange(20)}")
            match random.choice(("document", "set", "set", "delete")):
                case "document":
                    client.document("groups/g").set({"n": number})
                case "set":
                    item.set({"n": random.randrange(40)})
                case "delete":
                    item.delete()
            if number % 60 == 50:
                # A client that backs off has no stream at the moment.
                ended += eventually(server.end_streams, "a stream to end")
        server.set_faults()
        document = client.document("groups/g").get().to_dict()
        query = [(found.id, found.get("n")) for found in top(client).stream()]
        assert len(query) == 5
        eventually(lambda: seen.has(document, query), "the last snapshot")
        assert ended >= 3
        call("DELETE", f"{server.admin_url}/data")
        eventually(lambda: seen.has(None, []), "the database was cleared")
    assert seen.numbers == sorted(seen.numbers), "an older version was shown after a newer one"
    assert not any("error" in snapshot for snapshot in seen.snapshots)
    eventually(lambda: server.streams() == {"listen": 0, "write": 0, "targets": 0}, "the clients have gone")


@each_client
def test_a_resumed_stream_misses_nothing_and_sends_only_what_changed(server: Server, subscriber: Subscriber) -> None:
    client = server.client()
    for number in range(10, 15):
        client.document(f"items/i{number}").set({"n": number})
    client.document("groups/g").set({"n": 1})
    with subscriber(server) as seen:
        first = [(f"i{number}", number) for number in (14, 13, 12, 11, 10)]
        eventually(lambda: seen.has({"n": 1}, first), "the first snapshot")
        server.set_faults({"rpc": "Listen", "code": "UNAVAILABLE"})
        server.end_streams()
        eventually(lambda: server.streams()["listen"] == 0, "the streams have ended")
        before = server.statistics()["documentReads"]
        client.document("groups/g").set({"n": 2})
        client.document("items/i12").delete()
        client.document("items/i11").set({"n": 9})
        client.document("items/i20").set({"n": 20})
        server.set_faults()
        eventually(lambda: seen.has({"n": 2}, [("i20", 20), ("i14", 14), ("i13", 13), ("i10", 10)]), "the snapshot after")
    assert server.statistics()["documentReads"] - before <= 4, "what had not changed was sent again"


@each_client
def test_a_server_that_starts_anew_without_its_data_is_followed(subscriber: Subscriber) -> None:
    with ExitStack() as stack:
        with running() as first:
            first.client().document("groups/g").set({"n": 1})
            first.client().document("items/i10").set({"n": 10})
            seen = stack.enter_context(subscriber(first))
            eventually(lambda: seen.has({"n": 1}, [("i10", 10)]), "the first snapshot")
        with running(first.port) as second:
            second.client().document("items/i11").set({"n": 11})
            eventually(lambda: seen.has(None, [("i11", 11)]), "the snapshot of the new server")
            stack.close()


def test_a_web_app_writes_on_its_stream(server: Server) -> None:
    ran = subprocess.run(
        [node_with(WEB_CLIENT), "writes.mjs"],
        cwd=WEB_CLIENT,
        env=server.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "document": {"n": 3, "tags": ["a", "b"]},
        "atIsRecent": True,
        "updatedMissing": "not-found",
        "many": [*range(3, 30), 100],
        "count": 28,
        "transacted": 30,
    }
    assert server.statistics()["rpcs"]["Write"] >= 1
