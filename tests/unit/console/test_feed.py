"""Deliveries and log lines brought together, and what they sum up to; the logs of a project over real HTTP."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from balance.documents.settings import Settings
from console.cloud_logs import CloudLogs
from console.feed import Feed, Line, Unseen, figures


def line(**fields: Any) -> Line:
    return Line("on_expense_written", {"severity": "INFO", "message": "m", **fields}, 1.0)


def delivery(number: int, state: str = "delivered", event_id: str = "e", attempts: int = 1) -> dict[str, Any]:
    return {
        "number": number,
        "trigger": "on_expense_written",
        "eventId": event_id,
        "document": "expenses/e1",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "type": "google.cloud.firestore.document.v1.written",
        "state": state,
        "attempts": attempts,
        "body": base64.b64encode(b"").decode(),
    }


def test_copies_and_log_lines_of_one_event_are_one_event() -> None:
    feed = Feed(Settings())
    feed.add([line(eventId="e", outcome="APPLIED", groupId="g", source="expenses/e1", lagMs=12)])
    feed._add_delivery(delivery(1, attempts=2))
    feed._add_delivery(delivery(2))
    feed.add([line(eventId="e", outcome="DUPLICATE", groupId="g", source="expenses/e1")])
    (event,) = feed.events()
    assert (event.outcomes, event.attempts, event.groups, event.lag_ms) == (["APPLIED", "DUPLICATE"], 3, ["g"], 12)
    assert feed.events(group="other") == []
    assert feed.events(outcome="FAULT") == []
    assert len(feed.events(group="g", outcome="DUPLICATE")) == 1


def test_an_event_of_which_no_function_said_anything_did_nothing() -> None:
    feed = Feed(Settings())
    feed._add_delivery(delivery(1, "held"))
    assert feed.events()[0].outcomes == []
    assert feed.events()[0].within_reach == 1
    feed._add_delivery(delivery(1))
    assert feed.events()[0].outcomes == ["NOTHING"]
    assert feed.events()[0].within_reach is None


def test_only_the_latest_events_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("console.feed.MAX_EVENTS", 3)
    feed = Feed(Settings())
    feed.add(line(eventId=str(number), outcome="APPLIED") for number in range(5))
    assert [event.event_id for event in feed.events()] == ["4", "3", "2"]


def test_figures_of_the_lines() -> None:
    lines = [line(metric="incrementalUpdates", lagMs=ms) for ms in range(1, 101)]
    lines += [line(metric="fallbackCalculations", cause="stale"), line(metric="nightlyRuns", message="reconciliation: 3 true")]
    lines += [line(severity="ERROR", metric="updateFailures")]
    found = figures(lines)
    assert (found.lag_p50_ms, found.lag_p95_ms) == (50.5, 96)
    assert found.metrics["updateFailures"] == 1
    assert found.causes == {"stale": 1}
    assert found.nightly is not None
    assert len(found.errors) == 1
    assert figures([]).lag_p95_ms is None


@pytest.fixture
def logging() -> Iterator[tuple[str, dict[str, Any]]]:
    """Something that answers as Cloud Logging does, and what it was asked."""
    told: dict[str, Any] = {"status": 200, "entries": [], "asked": []}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told["asked"].append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            body = json.dumps({"entries": told["entries"]}).encode()
            self.send_response(told["status"])
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", told
    server.shutdown()
    server.server_close()


def test_the_logs_of_a_project_are_read_on(logging: tuple[str, dict[str, Any]]) -> None:
    url, told = logging
    entry = {
        "insertId": "1",
        "timestamp": "2099-01-01T00:00:00.123456789Z",
        "severity": "ERROR",
        "jsonPayload": {"message": "m", "eventId": "e", "metric": "updateFailures"},
        "resource": {"labels": {"service_name": "on-expense-written"}},
    }
    told["entries"] = [entry]
    logs = CloudLogs(requests.Session(), "my-app", ["on-expense-written"], url)
    (first,) = logs.read()
    assert (first.function, first["severity"], first["metric"]) == ("on-expense-written", "ERROR", "updateFailures")
    assert logs.read() == [], "the same entry comes once"
    assert told["asked"][0]["resourceNames"] == ["projects/my-app"]
    assert '"2098-12-31T23:59:30' in told["asked"][1]["filter"]


def test_who_may_not_read_the_logs_is_told_which_role_lets_them(logging: tuple[str, dict[str, Any]]) -> None:
    url, told = logging
    told["status"] = 403
    with pytest.raises(Unseen, match=r"roles/logging\.viewer"):
        CloudLogs(requests.Session(), "my-app", ["a"], url).read()
    told["status"] = 500
    with pytest.raises(Unseen, match="HTTP status 500"):
        CloudLogs(requests.Session(), "my-app", ["a"], url).read()
