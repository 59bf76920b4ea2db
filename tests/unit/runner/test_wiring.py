"""The triggers that the embedded Firestore is told of, from what the functions emulator of the Firebase CLI has loaded."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from runner.wiring import FunctionsEmulator, Wiring

WRITTEN = "google.cloud.firestore.document.v1.written"
DATABASE = {"database": "(default)", "namespace": "(default)"}


def function(name: str, **trigger: Any) -> dict[str, Any]:
    return {"name": name, "id": f"us-central1-{name}", "region": "us-central1", **trigger}


def on(pattern: str, event_type: str = WRITTEN, database: str = "(default)") -> dict[str, Any]:
    filters = {**DATABASE, "database": database}
    return {
        "eventTrigger": {"eventType": event_type, "eventFilters": filters, "eventFilterPathPatterns": {"document": pattern}}
    }


class Servers:
    """The functions emulator and the embedded Firestore's HTTP side in one: what is loaded, and what was registered."""

    def __init__(self) -> None:
        self.backends: list[dict[str, Any]] = []
        self.registered: list[dict[str, Any]] = []
        servers = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                assert self.path == "/backends"
                self.answer({"backends": servers.backends})

            def do_POST(self) -> None:
                assert self.path == "/triggers"
                servers.registered.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer({})

            def answer(self, data: Any) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(data).encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def emulator(self) -> FunctionsEmulator:
        return FunctionsEmulator(self.url, "demo-x", Path("/app/ours"))


@pytest.fixture
def servers() -> Iterator[Servers]:
    made = Servers()
    thread = Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def test_functions_of_all_codebases_get_their_events_and_only_ours_are_retried(servers: Servers) -> None:
    exactly = {"eventTrigger": {"eventType": WRITTEN, "eventFilters": {**DATABASE, "document": "settings/app"}}}
    servers.backends = [
        {"directory": "/app/theirs", "functionTriggers": [function("greet", **exactly), function("ping", httpsTrigger={})]},
        {"directory": "/app/ours", "functionTriggers": [function("on_written", **on("expenses/{id}", database="eu"))]},
    ]
    greet, ours = servers.emulator().triggers()
    assert greet == {
        "name": "us-central1-greet",
        "pattern": "settings/app",
        "url": f"{servers.url}/functions/projects/demo-x/triggers/us-central1-greet-0",
        "eventType": WRITTEN,
        "project": "demo-x",
        "database": "(default)",
        "retry": False,
        "base64Body": True,
    }
    assert (ours["pattern"], ours["database"], ours["retry"]) == ("expenses/{id}", "eu", True)
    assert servers.emulator().urls()["ping"] == f"{servers.url}/demo-x/us-central1/ping"


def test_what_is_loaded_later_or_changed_is_registered_and_nothing_twice(servers: Servers) -> None:
    said: list[str] = []
    wiring = Wiring(servers.emulator(), servers.url, said.append)
    wiring.bring_up_to_date()
    assert servers.registered == []
    for pattern in ("a/{id}", "a/{id}", "b/{id}", "b/{id}", "a/{id}"):
        servers.backends = [{"directory": "/app/theirs", "functionTriggers": [function("f", **on(pattern))]}]
        wiring.bring_up_to_date()
    assert [trigger["pattern"] for trigger in servers.registered] == ["a/{id}", "b/{id}", "a/{id}"]
    assert said == [f"us-central1-f gets the events of {letter}/{{id}}" for letter in "aba"]


def test_functions_that_cannot_be_called_are_named_once(servers: Servers) -> None:
    first_generation = {
        "eventTrigger": {
            "eventType": "providers/cloud.firestore/eventTypes/document.write",
            "resource": "projects/demo-x/databases/(default)/documents/a/{id}",
        }
    }
    with_author = on("a/{id}", f"{WRITTEN}.withAuthContext")
    others = [function("old", **first_generation), function("who", **with_author)]
    scheduled = function("nightly", eventTrigger={"eventType": "pubsub", "resource": ""})
    servers.backends = [{"directory": "/app/theirs", "functionTriggers": [*others, scheduled]}]
    said: list[str] = []
    wiring = Wiring(servers.emulator(), servers.url, said.append)
    wiring.bring_up_to_date()
    wiring.bring_up_to_date()
    assert servers.registered == []
    assert sorted(line.split(" gets no events")[0] for line in said) == ["old", "who"]
