"""The embedded Firestore as its users start it: `python -m emulator`, the official client, and the HTTP side."""

from __future__ import annotations

import base64
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from google.api_core import exceptions
from google.cloud import firestore
from google.events.cloud.firestore_v1 import DocumentEventData

ROOT = Path(__file__).resolve().parents[3]
PROJECT = "demo-admin"


@dataclass
class Emulator:
    """A process of its own."""

    process: subprocess.Popen[str]
    host: str
    admin_url: str

    def client(self, database: str | None = None) -> firestore.Client:
        with patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": self.host}):
            return firestore.Client(project=PROJECT, database=database)

    def call(self, method: str, path: str, data: Any = None, *, raw: bytes | None = None) -> tuple[int, Any]:
        body = raw if raw is not None else None if data is None else json.dumps(data).encode()
        headers = {"Content-Type": "application/json"} if body is not None else {}
        # What the official emulator offers, too, stands beside the part of the URL that holds the token.
        url = self.admin_url.rpartition("/")[0] if path.startswith("/emulator/") else self.admin_url
        request = urllib.request.Request(url + path, data=body, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def ok(self, method: str, path: str, data: Any = None) -> Any:
        status, answer = self.call(method, path, data)
        assert 200 <= status < 300, answer
        return answer


@contextmanager
def emulator(*arguments: str) -> Iterator[Emulator]:
    command = [sys.executable, "-m", "emulator", "--port", "0", "--project", PROJECT, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        where = json.loads(process.stdout.readline())
        assert where["pid"] == process.pid
        try:
            yield Emulator(process, where["firestoreHost"], where["adminUrl"])
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(scope="module")
def shared() -> Iterator[Emulator]:
    with emulator() as running:
        yield running


@pytest.fixture
def clean(shared: Emulator) -> Emulator:
    for path in ("/triggers", "/data", "/dead-letters", "/statistics"):
        shared.ok("DELETE", path)
    shared.ok("PUT", "/chaos", {})
    shared.ok("PUT", "/faults", {"faults": []})
    return shared


@dataclass
class Function:
    """Counts what it gets, and answers with a status that can be changed."""

    url: str
    events: list[tuple[dict[str, str], bytes]]
    status: int = 200


@pytest.fixture
def function() -> Iterator[Function]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            made.events.append((dict(self.headers.items()), body))
            self.send_response(made.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made = Function(f"http://127.0.0.1:{server.server_address[1]}/", [])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


def test_every_write_of_a_matching_document_reaches_the_function(clean: Emulator, function: Function) -> None:
    clean.ok("POST", "/triggers", {"pattern": "expenses/{id}", "url": function.url})
    client = clean.client()
    expense = client.document("expenses/café")
    expense.set({"amount": 1})
    expense.set({"amount": 1})  # changes nothing, so no event
    expense.update({"amount": 2})
    expense.delete()
    client.document("settlements/s1").set({"amount": 1})
    assert clean.ok("POST", "/drain", {"timeoutSeconds": 20}) == {"drained": True, "pending": 0}

    events = [DocumentEventData.deserialize(body) for _, body in function.events]
    sides = sorted(("value" in event, "old_value" in event) for event in events)
    assert sides == [(False, True), (True, False), (True, True)]
    assert {(event.value or event.old_value).name for event in events} == {
        f"projects/{PROJECT}/databases/(default)/documents/expenses/café"
    }
    # As production's HTTP servers see it: UTF-8 taken for Latin-1.
    assert {headers["ce-document"] for headers, _ in function.events} == {"expenses/cafÃ©"}
    delivery = clean.ok("GET", "/statistics")["delivery"]
    assert (delivery["made"], delivery["delivered"], delivery["pending"]) == (3, 3, 0)


def test_the_documents_of_one_commit_are_events_of_their_own(clean: Emulator, function: Function) -> None:
    clean.ok("POST", "/triggers", {"pattern": "expenses/{id}", "url": function.url})
    client = clean.client()
    batch = client.batch()
    for number in range(7):
        batch.set(client.document(f"expenses/e{number}"), {"number": number})
    batch.commit()
    clean.ok("POST", "/drain")
    assert len(function.events) == 7
    assert len({headers["ce-id"] for headers, _ in function.events}) == 7


def test_an_aborted_transaction_fires_nothing(clean: Emulator, function: Function) -> None:
    clean.ok("POST", "/triggers", {"pattern": "{path=**}", "url": function.url})
    client = clean.client()
    transaction = client.transaction()
    transaction._begin()
    client.document("a/b").get(transaction=transaction)
    transaction.set(client.document("a/b"), {"x": 1})
    transaction._rollback()
    with pytest.raises(exceptions.NotFound):
        client.document("a/missing").update({"x": 1})
    clean.ok("POST", "/drain")
    assert function.events == []


def test_a_drain_that_takes_too_long_says_what_is_pending(clean: Emulator, function: Function) -> None:
    function.status = 500
    clean.ok("POST", "/triggers", {"pattern": "a/{b}", "url": function.url})
    clean.client().document("a/b").set({"x": 1})
    status, answer = clean.call("POST", "/drain", {"timeoutSeconds": 0.2})
    assert (status, answer["drained"], answer["pending"]) == (504, False, 1)
    function.status = 200
    assert clean.ok("POST", "/drain")["drained"] is True
    assert clean.ok("GET", "/statistics")["delivery"]["redeliveries"] >= 1


def test_triggers_are_listed_replaced_and_removed(clean: Emulator, function: Function) -> None:
    assert clean.ok("GET", "/triggers") == {"triggers": []}
    clean.ok("POST", "/triggers", {"pattern": "a/{b}", "url": function.url, "name": "one"})
    clean.ok("POST", "/triggers", {"pattern": "c/{d}", "url": function.url})
    clean.ok("POST", "/triggers", {"pattern": "e/{f}", "url": function.url, "name": "one"})
    listed = {trigger["name"]: trigger["pattern"] for trigger in clean.ok("GET", "/triggers")["triggers"]}
    assert listed == {"one": "e/{f}", "c/{d}": "c/{d}"}
    clean.ok("DELETE", "/triggers/c/%7Bd%7D")
    assert [trigger["name"] for trigger in clean.ok("GET", "/triggers")["triggers"]] == ["one"]
    assert clean.call("DELETE", "/triggers/c/%7Bd%7D")[0] == 404


def test_chaos_can_be_set_while_running(clean: Emulator, function: Function) -> None:
    clean.ok("PUT", "/chaos", {"duplicate": 1, "windowMs": 5})
    assert clean.ok("GET", "/chaos")["duplicate"] == 1
    clean.ok("POST", "/triggers", {"pattern": "a/{b}", "url": function.url})
    clean.client().document("a/b").set({"x": 1})
    clean.ok("POST", "/drain")
    assert len(function.events) == 11, "the event and ten copies, the most there are"
    clean.ok("PUT", "/chaos", {})
    clean.client().document("a/c").set({"x": 1})
    clean.ok("POST", "/drain")
    assert len(function.events) == 12


def test_events_can_be_watched_held_sent_copied_and_dropped(clean: Emulator, function: Function) -> None:
    clean.ok("POST", "/triggers", {"pattern": "a/{b}", "url": function.url})
    since = clean.ok("GET", "/deliveries")["revision"]
    clean.ok("PUT", "/holding", {"holding": True})
    clean.client().document("a/b").set({"x": 1})
    clean.client().document("a/c").set({"x": 1})
    listed = clean.ok("GET", f"/deliveries?after={since}&waitSeconds=5&bodies=true")
    assert listed["holding"] is True
    first, second = listed["deliveries"]
    assert (first["document"], first["state"], second["state"]) == ("a/b", "held", "held")
    assert DocumentEventData.pb().FromString(base64.b64decode(first["body"])).value.fields["x"].integer_value == 1
    clean.ok("POST", f"/deliveries/{first['number']}/send", {"delayMs": 1})
    clean.ok("POST", f"/deliveries/{second['number']}/drop")
    clean.ok("POST", "/drain")
    assert len(function.events) == 1
    clean.ok("POST", f"/deliveries/{second['number']}/copy", {"otherId": True})
    clean.ok("PUT", "/holding", {"holding": False})
    clean.ok("POST", "/drain")
    assert len(function.events) == 2
    assert clean.call("POST", f"/deliveries/{first['number']}/drop")[0] == 409
    assert clean.call("POST", "/deliveries/987654/drop")[0] == 404
    assert clean.call("GET", "/deliveries?after=x")[1]["error"]["field"] == "after"


def test_injected_faults_reach_the_client(clean: Emulator) -> None:
    reference = clean.client().document("a/b")
    fault = {"rpc": "Commit", "code": "DEADLINE_EXCEEDED", "moment": "after", "count": 1}
    clean.ok("PUT", "/faults", {"faults": [fault]})
    assert clean.ok("GET", "/faults")["faults"][0]["moment"] == "after"
    with pytest.raises(exceptions.DeadlineExceeded):
        reference.set({"x": 1})
    assert reference.get().to_dict() == {"x": 1}, "the commit took effect before the fault"
    assert clean.ok("GET", "/faults") == {"faults": []}, "its one time is over"


def test_queries_are_held_to_an_index_file(tmp_path: Path) -> None:
    fields = [{"fieldPath": "a", "order": "ASCENDING"}, {"fieldPath": "b", "order": "ASCENDING"}]
    file = tmp_path / "firestore.indexes.json"
    file.write_text(json.dumps({"indexes": [{"collectionGroup": "c", "queryScope": "COLLECTION", "fields": fields}]}))
    with emulator("--indexes", str(file)) as running:
        equal = running.client().collection("c").where(filter=firestore.FieldFilter("a", "==", 1))
        assert list(equal.order_by("b").stream()) == []
        with pytest.raises(exceptions.FailedPrecondition, match=r'requires an index.*"z"'):
            list(equal.order_by("z").stream())
        with pytest.raises(exceptions.FailedPrecondition):
            equal.order_by("z").count().get()


def test_streams_are_counted_and_ended(clean: Emulator) -> None:
    assert clean.ok("GET", "/streams") == {"listen": 0, "write": 0, "targets": 0}
    seen: queue.Queue[Any] = queue.Queue()
    watch = clean.client().document("a/b").on_snapshot(lambda documents, *_: seen.put([each.to_dict() for each in documents]))
    assert seen.get(timeout=20) == []
    assert clean.ok("GET", "/streams") == {"listen": 1, "write": 0, "targets": 1}
    assert clean.ok("DELETE", "/streams") == {"ended": 1}
    clean.client().document("a/b").set({"x": 1})
    assert seen.get(timeout=20) == [{"x": 1}], "the client came back"
    clean.ok("DELETE", "/data")
    assert seen.get(timeout=20) == []
    watch.unsubscribe()


def test_clearing_drops_documents_and_events_of_all_databases_or_documents_of_one(clean: Emulator, function: Function) -> None:
    function.status = 500
    clean.ok("POST", "/triggers", {"pattern": "a/{b}", "url": function.url})
    default, other = clean.client(), clean.client("other")
    for client in (default, other):
        client.document("a/b").set({"x": 1})
    clean.ok("DELETE", f"/emulator/v1/projects/{PROJECT}/databases/(default)/documents")
    assert not default.document("a/b").get().exists
    assert other.document("a/b").get().exists
    clean.ok("DELETE", "/data")
    assert not other.document("a/b").get().exists
    assert clean.ok("POST", "/drain")["pending"] == 0


def test_statistics_count_rpcs_and_billed_documents_and_start_anew(clean: Emulator) -> None:
    client = clean.client()
    client.document("a/b").set({"x": 1})
    client.document("a/b").get()
    client.document("a/missing").get()
    before = clean.ok("DELETE", "/statistics")
    assert before["rpcs"] == {"BatchGetDocuments": 2, "Commit": 1}
    assert (before["documentReads"], before["documentWrites"], before["commits"]) == (2, 1, 1)
    after = clean.ok("GET", "/statistics")
    assert (after["rpcs"], after["documentReads"], after["delivery"]["made"]) == ({}, 0, 0)


@pytest.mark.parametrize(
    ("method", "path", "data", "field"),
    [
        ("POST", "/triggers", {"url": "http://127.0.0.1/"}, "pattern"),
        ("POST", "/triggers", {"pattern": "a", "url": "http://127.0.0.1/"}, "pattern"),
        ("POST", "/triggers", {"pattern": 7, "url": "http://127.0.0.1/"}, "pattern"),
        ("POST", "/triggers", [], "body"),
        ("PUT", "/chaos", {"duplicate": 2}, "duplicate"),
        ("PUT", "/faults", {"faults": 1}, "faults"),
        ("PUT", "/faults", {"faults": [{"code": "OOPS"}]}, "code"),
        ("POST", "/drain", {"timeoutSeconds": "soon"}, "timeoutSeconds"),
        ("POST", "/drain", {"timeout": 1}, "timeout"),
    ],
)
def test_an_invalid_request_is_told_which_field_is_at_fault(
    clean: Emulator, method: str, path: str, data: Any, field: str
) -> None:
    status, answer = clean.call(method, path, data)
    assert status == 400
    assert answer["error"]["field"] == field
    assert answer["error"]["message"].startswith(f"{field}: ")


def test_what_is_not_offered_or_no_json_is_told_so(clean: Emulator) -> None:
    assert clean.call("PUT", "/chaos", raw=b"{nonsense")[1]["error"]["field"] == "body"
    status, answer = clean.call("GET", "/nowhere")
    assert (status, answer["error"]["code"]) == (404, 404)
    assert clean.call("PATCH", "/chaos")[0] == 405


def test_the_root_tells_what_there_is(clean: Emulator) -> None:
    about = clean.ok("GET", "/")
    assert about["firestoreHost"] == clean.host
    assert about["adminUrl"] == clean.admin_url
    for endpoint in about["endpoints"]:
        method, path = endpoint.split()
        if method == "GET":
            assert clean.call(method, path)[0] == 200, endpoint


def test_dead_letters_can_be_read_and_sent_again(function: Function) -> None:
    with emulator("--attempts", "2", "--backoff", "0.001", "--trigger", f"a/{{b}}={function.url}") as own:
        function.status = 503
        own.client().document("a/b").set({"x": 1})
        own.ok("POST", "/drain")
        (letter,) = own.ok("GET", "/dead-letters")["deadLetters"]
        assert (letter["document"], letter["attempts"], letter["lastError"]) == ("a/b", 2, "HTTP status 503")
        function.status = 200
        assert own.ok("POST", "/dead-letters/redeliver") == {"redelivered": 1}
        own.ok("POST", "/drain")
        assert own.ok("GET", "/dead-letters") == {"deadLetters": []}
        assert len(function.events) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_even_with_events_pending(number: signal.Signals) -> None:
    with emulator("--mode", "optimistic", "--trigger", "a/{b}=http://127.0.0.1:9/") as own:
        own.client().document("a/b").set({"x": 1})
        own.process.send_signal(number)
        assert own.process.wait(20) == 0


def test_a_port_that_is_taken_is_an_error_with_a_message() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for option in ("--port", "--admin-port"):
            others = ["--port", "0"] if option == "--admin-port" else []
            command = [sys.executable, "-m", "emulator", *others, option, port]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
            assert done.returncode == 1
            assert port in done.stderr
            assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--port", "99999"], "99999"),
        (["--lock-timeout", "-1"], "--lock-timeout"),
        (["--trigger", "expenses=http://127.0.0.1/"], "collection"),
        (["--trigger", "a/{b}"], "PATTERN=URL"),
        (["--mode", "none"], "--mode"),
        (["--attempts", "0"], "--attempts"),
        (["--indexes", "nowhere.json"], "cannot read nowhere.json"),
        (["--indexes", str(ROOT / "deploy" / "README.md")], "no JSON"),
    ],
)
def test_wrong_usage_is_explained(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    from emulator.__main__ import parser

    with pytest.raises(SystemExit) as caught:
        parser().parse_args(arguments)
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err
