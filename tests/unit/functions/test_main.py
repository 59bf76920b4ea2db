"""The entry points decode: a delivery as Eventarc makes it, through functions-framework's own application."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cloudevents.conversion import to_structured
from cloudevents.http import CloudEvent
from functions_framework._http import create_server

from balance.documents.sources import Kind
from balance.functions import triggers
from balance.functions.envelope import Raw
from tests.cloud_events import ROOT, EventDataPb, body, headers
from tests.entry_points import Trigger, application

WRITTEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
BODY = body("expenses/café", after={"groupId": "g"}, after_time=WRITTEN)
Handled = list[tuple[Kind, bytes, str, datetime | None]]


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> Handled:
    """What reaches the trigger."""
    calls: Handled = []

    async def handle(kind: Kind, data: bytes, *, event_id: str, event_time: datetime | None, raw: Raw) -> None:
        calls.append((kind, data, event_id, event_time))

    monkeypatch.setattr(triggers, "handle", handle)
    return calls


@pytest.mark.parametrize(("name", "kind"), [("on_expense_written", Kind.EXPENSE), ("on_settlement_written", Kind.SETTLEMENT)])
def test_a_delivery_reaches_the_trigger_as_it_came(handled: Handled, name: str, kind: Kind) -> None:
    sent = headers("expenses/café", event_id="a b/ö".encode().decode("latin-1"))
    assert Trigger(name).deliver(BODY, sent) == 200
    assert handled == [(kind, BODY, "a b/Ã¶", WRITTEN)]


@pytest.mark.parametrize(("name", "is_created"), [("on_group_created", True), ("on_group_deleted", False)])
def test_a_groups_coming_and_going_reach_the_trigger(name: str, is_created: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def handle(data: bytes, *, event_id: str, is_created: bool, raw: Raw) -> None:
        calls.append((data, event_id, is_created))

    monkeypatch.setattr(triggers, "handle_group", handle)
    assert application(name).test_client().post("/", data=BODY, headers=headers("groups/g")).status_code == 200
    assert calls == [(BODY, "event-1", is_created)]


@pytest.mark.parametrize(
    ("time", "read"),
    [
        ("2026-03-01T12:00:00Z", WRITTEN),
        ("2026-03-01T12:00:00.123456Z", WRITTEN + timedelta(microseconds=123_456)),
        ("2026-03-01T12:00:00.123456789Z", WRITTEN + timedelta(microseconds=123_456)),
        ("2026-03-01T14:00:00+02:00", WRITTEN),
        (None, None),
        ("", None),
        ("2026-03-01T12:00:00", None),
        ("yesterday", None),
        ("2026-02-30T12:00:00Z", None),
        ("1772366400", None),
    ],
)
def test_the_time_is_the_headers_or_none(handled: Handled, time: str | None, read: datetime | None) -> None:
    assert Trigger("on_expense_written").deliver(BODY, headers(time=time)) == 200
    assert handled[0][3] == read


def test_an_empty_body_reaches_the_trigger_as_no_bytes(handled: Handled) -> None:
    assert Trigger("on_expense_written").deliver(b"", headers()) == 200
    assert handled[0][1] == b""


@pytest.mark.parametrize(
    ("content_type", "sent", "reached"),
    [
        ("application/json", b'{"value": {}}', {"value": {}}),
        ("application/json; charset=utf-8", b"[1]", [1]),
        ("application/protobuf", b'{"value": {}}', b'{"value": {}}'),
        ("application/protobuf", b"5", b"5"),
        ("", b"5", b"5"),
    ],
)
def test_only_what_is_sent_as_json_comes_parsed(handled: Handled, content_type: str, sent: bytes, reached: object) -> None:
    assert Trigger("on_expense_written").deliver(sent, headers() | {"content-type": content_type}) == 200
    assert handled[0][1] == reached


@pytest.mark.parametrize("data", [b"[1]", b"5", b'"x"', b"{", b"\xff", b"null", b'{"value": 5}'])
def test_json_that_is_no_change_is_acknowledged(data: bytes) -> None:
    assert Trigger("on_expense_written").deliver(data, headers() | {"content-type": "application/json"}) == 200


def failing(error: Exception) -> Callable[..., Awaitable[None]]:
    async def handle(*_: Any, **__: Any) -> None:
        raise error

    return handle


def test_what_the_trigger_raises_asks_for_redelivery(monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = Trigger("on_expense_written")
    monkeypatch.setattr(triggers, "handle", failing(RuntimeError("try again")))
    assert trigger.deliver(BODY, headers()) == 500


@pytest.mark.parametrize("missing", ["ce-id", "ce-source", "ce-type", "ce-specversion"])
def test_what_is_no_cloud_event_is_refused(handled: Handled, missing: str) -> None:
    sent = {name: value for name, value in headers().items() if name != missing}
    assert Trigger("on_expense_written").deliver(BODY, sent) == 400
    assert handled == []


def pushed(data: bytes, sent: dict[str, str]) -> bytes:
    """The same event as Pub/Sub pushes it."""
    message = {"data": base64.b64encode(data).decode(), "attributes": sent, "messageId": "1", "publishTime": sent["ce-time"]}
    return json.dumps({"message": message, "subscription": "projects/demo-test/subscriptions/s"}).encode()


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
def test_an_event_that_pubsub_pushes_is_unwrapped(handled: Handled, content_type: str) -> None:
    data = body("expenses/ends in a space ", after={"groupId": "g"}, after_time=WRITTEN)
    sent = pushed(data, headers("expenses/ends in a space ", event_id="event-9"))
    assert Trigger("on_expense_written").deliver(sent, {"content-type": content_type}) == 200
    assert handled == [(Kind.EXPENSE, data, "event-9", WRITTEN)]


def test_a_groups_event_that_pubsub_pushes_is_unwrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(triggers, "handle_group", lambda data, **rest: calls.append((data, rest["event_id"])))
    data = body("groups/g ", after={})
    sent = {"data": pushed(data, headers("groups/g ")), "headers": {"content-type": "application/json"}}
    assert application("on_group_created").test_client().post("/", **sent).status_code == 200
    assert calls == [(data, "event-1")]


def structured(data: bytes, **more: Any) -> bytes:
    """The same event in one JSON object, as the library of CloudEvents writes it."""
    known = {"id": "event-9", "source": "s", "type": "t", "time": "2026-03-01T12:00:00Z", "specversion": "1.0"}
    attributes = {"datacontenttype": "application/protobuf"} | known | more
    return to_structured(CloudEvent(attributes, data))[1]


IN_ONE_OBJECT = {"content-type": "application/cloudevents+json; charset=utf-8"}


def test_an_event_in_structured_mode_reaches_the_trigger_with_its_time(handled: Handled) -> None:
    assert Trigger("on_expense_written").deliver(structured(BODY), IN_ONE_OBJECT) == 200
    assert handled == [(Kind.EXPENSE, BODY, "event-9", WRITTEN)]


def test_a_groups_event_in_structured_mode_reaches_the_trigger(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(triggers, "handle_group", lambda data, **rest: calls.append((data, rest["event_id"])))
    sent = {"data": structured(BODY), "headers": IN_ONE_OBJECT}
    assert application("on_group_deleted").test_client().post("/", **sent).status_code == 200
    assert calls == [(BODY, "event-9")]


@pytest.mark.parametrize(
    ("more", "reached", "time"),
    [
        ({"data": {"value": {}}}, {"value": {}}, WRITTEN),
        ({"data_base64": "eyJ2YWx1ZSI6e319", "datacontenttype": "application/json"}, {"value": {}}, WRITTEN),
        ({"data_base64": "eyJ2YWx1ZSI6e319", "datacontenttype": "application/protobuf"}, b'{"value":{}}', WRITTEN),
        ({}, b"", WRITTEN),
        ({"time": None}, b"", None),
        ({"time": 5}, b"", None),
        ({"time": "yesterday"}, b"", None),
    ],
)
def test_what_an_event_in_structured_mode_holds(
    handled: Handled, more: dict[str, Any], reached: object, time: datetime | None
) -> None:
    event = {"id": "event-9", "source": "s", "type": "t", "time": "2026-03-01T12:00:00Z", "specversion": "1.0"}
    assert Trigger("on_expense_written").deliver(json.dumps(event | more).encode(), IN_ONE_OBJECT) == 200
    assert handled == [(Kind.EXPENSE, reached, "event-9", time)]


@pytest.mark.parametrize("fault", [{"specversion": []}, {"id": 5}, {"id": None}, {"extensions": 5}, {"data_base64": 5}])
def test_what_is_no_cloud_event_in_structured_mode_is_refused(handled: Handled, fault: dict[str, Any]) -> None:
    sent = {"id": "event-9", "source": "s", "type": "t", "specversion": "1.0", "document": "x"} | fault
    assert Trigger("on_expense_written").deliver(json.dumps(sent).encode(), IN_ONE_OBJECT) == 400
    assert handled == []


@pytest.mark.parametrize(
    "sent",
    [
        b'{"message": {"data": "AA==", "attributes": {}}}',
        b'{"message": {"data": "?", "attributes": {"ce-id": "1"}}}',
        b'{"message": {"attributes": {"ce-id": "1"}}}',
        b'{"message": {"data": 5, "attributes": {"ce-id": "1"}}}',
        b'{"message": [1]}',
        b'{"message": ' + b"[" * 100_000,
        b"{",
        b"",
    ],
)
@pytest.mark.parametrize("name", ["on_expense_written", "on_group_deleted"])
def test_what_is_in_no_envelope_is_refused_and_raises_the_alert(
    name: str, sent: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = {"content-type": "application/json", "authorization": "Bearer secret", "x-from": "somebody"}
    if name == "on_group_deleted":
        status = application(name).test_client().post("/", data=sent, headers=plain).status_code
    else:
        status = Trigger(name).deliver(sent, plain)
    assert status == 400
    out = capsys.readouterr().out
    assert "secret" not in out
    (entry,) = [entry for line in out.splitlines() if line.startswith("{") and (entry := json.loads(line)).get("metric")]
    assert (entry["metric"], entry["outcome"], entry["bodyBytes"]) == ("updateFailures", "UNREADABLE", len(sent))
    assert {key.lower(): value for key, value in entry["headers"].items()}["x-from"] == "somebody"
    assert base64.b64decode(entry["bodyBase64"]) == sent[:2048]


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_cannot_be_read_leaves_what_there_is_to_find_its_group_by(
    capsys: pytest.CaptureFixture[str], wrapped: bool
) -> None:
    # Two documents: no change that anybody could make.
    data = EventDataPb(value={"name": ROOT + "expenses/e1"}, old_value={"name": ROOT + "expenses/e2"}).SerializeToString()
    sent = (pushed(data, headers()), {"content-type": "application/json"}) if wrapped else (data, headers())
    assert Trigger("on_expense_written").deliver(*sent) == 200
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    (entry,) = [entry for entry in entries if entry.get("outcome")]
    assert entry["documents"] == ["expenses/e1", "expenses/e2"]
    assert entry["eventId"] == "event-1"


def test_an_unreadable_event_is_acknowledged_and_raises_the_alert(capsys: pytest.CaptureFixture[str]) -> None:
    sent = headers(event_id="event-7") | {
        "function-execution-id": "the-execution", "x-cloud-trace-context": "105445aa7843bc8bf206b12000100000/17;o=1"
    }  # fmt: skip
    assert Trigger("on_expense_written").deliver(b"\xff", sent) == 200
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    (entry,) = [entry for entry in entries if entry.get("outcome")]
    assert (entry["severity"], entry["outcome"], entry["metric"]) == ("ERROR", "UNREADABLE", "updateFailures")
    assert entry["eventId"] == "event-7"
    assert entry["logging.googleapis.com/labels"] == {"execution_id": "the-execution"}
    assert entry["logging.googleapis.com/spanId"] == "17"


@pytest.mark.parametrize(
    "name",
    [
        "on_expense_written",
        "on_settlement_written",
        "on_group_created",
        "on_group_deleted",
        "balance_api",
        "rebuild_balance",
        "reconcile_balances",
    ],
)
def test_every_function_loads_without_credentials(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "FIRESTORE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(variable, raising=False)
    assert application(name) is not None


def test_functions_on_threads_get_as_many_as_an_instance_gets_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THREADS", raising=False)
    server = create_server(application("balance_api"), debug=False)
    started = server.server_class(server.app, "127.0.0.1", 0, False)
    assert started.options["threads"] == 80
