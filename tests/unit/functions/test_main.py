"""The entry points decode: a delivery as Eventarc makes it, through functions-framework's own application."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import functions_framework
import pytest
from flask.testing import FlaskClient

from balance.documents.sources import Kind
from balance.functions import triggers
from tests.cloud_events import body, headers

MAIN = Path(__file__).parents[3] / "main.py"
WRITTEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
BODY = body("expenses/café", after={"groupId": "g"}, after_time=WRITTEN)
Handled = list[tuple[Kind, bytes, str, datetime | None]]


def function(name: str) -> FlaskClient:
    return functions_framework.create_app(target=name, source=str(MAIN)).test_client()  # type: ignore[no-any-return]


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> Handled:
    """What reaches the trigger."""
    calls: Handled = []

    def handle(kind: Kind, data: bytes, *, event_id: str, event_time: datetime | None) -> None:
        calls.append((kind, data, event_id, event_time))

    monkeypatch.setattr(triggers, "handle", handle)
    return calls


@pytest.mark.parametrize(("name", "kind"), [("on_expense_written", Kind.EXPENSE), ("on_settlement_written", Kind.SETTLEMENT)])
def test_a_delivery_reaches_the_trigger_as_it_came(handled: Handled, name: str, kind: Kind) -> None:
    answer = function(name).post("/", data=BODY, headers=headers("expenses/café", event_id="a b/ö".encode().decode("latin-1")))
    assert answer.status_code == 200
    assert handled == [(kind, BODY, "a b/Ã¶", WRITTEN)]


@pytest.mark.parametrize(("name", "is_created"), [("on_group_created", True), ("on_group_deleted", False)])
def test_a_groups_coming_and_going_reach_the_trigger(name: str, is_created: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def handle(data: bytes, *, event_id: str, is_created: bool) -> None:
        calls.append((data, event_id, is_created))

    monkeypatch.setattr(triggers, "handle_group", handle)
    assert function(name).post("/", data=BODY, headers=headers("groups/g")).status_code == 200
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
    answer = function("on_expense_written").post("/", data=BODY, headers=headers(time=time))
    assert answer.status_code == 200
    assert handled[0][3] == read


def test_an_empty_body_reaches_the_trigger_as_no_bytes(handled: Handled) -> None:
    assert function("on_expense_written").post("/", data=b"", headers=headers()).status_code == 200
    assert handled[0][1] == b""


def failing(error: Exception) -> Callable[..., None]:
    def handle(*_: Any, **__: Any) -> None:
        raise error

    return handle


def test_what_the_trigger_raises_asks_for_redelivery(monkeypatch: pytest.MonkeyPatch) -> None:
    client = function("on_expense_written")
    monkeypatch.setattr(triggers, "handle", failing(RuntimeError("try again")))
    assert client.post("/", data=BODY, headers=headers()).status_code == 500


def test_an_unreadable_event_is_acknowledged_and_raises_the_alert(capsys: pytest.CaptureFixture[str]) -> None:
    answer = function("on_expense_written").post("/", data=b"\xff", headers=headers(event_id="event-7"))
    assert answer.status_code == 200
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    (entry,) = [entry for entry in entries if entry.get("outcome")]
    assert (entry["severity"], entry["outcome"], entry["metric"]) == ("ERROR", "UNREADABLE", "updateFailures")
    assert entry["eventId"] == "event-7"


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
    assert function(name) is not None
