"""The triggers before an embedded server: what is done, logged and raised for one delivery."""

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from balance.documents.balances import VERSION
from balance.documents.changes import NewerVersion
from balance.documents.sources import Kind
from balance.functions import instance, triggers
from balance.protocol.events import SourceEvent
from tests.cloud_events import body
from tests.integration.deployment import Deployment, deployment, expense


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        monkeypatch.setattr(instance, "_firestore", None)
        monkeypatch.setattr(instance, "_bookkeeper", None)
        yield running


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]


def deliver(event: SourceEvent, *, time: datetime | None = None, dated: bool = True) -> None:
    """As the function would get it."""
    sides = {"before": event.before, "after": event.after}
    fields = {side: version.fields for side, version in sides.items() if version}
    times = {f"{side}_time": version.update_time for side, version in sides.items() if version and dated}
    data = body(event.source, **fields, **times)  # type: ignore[arg-type]
    asyncio.run(triggers.handle(Kind.EXPENSE, data, event_id="event-1", event_time=time))


def test_a_groups_coming_and_going_are_logged_with_what_was_done(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*, is_created: bool) -> tuple[object, ...]:
        side = {"after": {"x": 1}} if is_created else {"before": {"x": 1}}
        triggers.handle_group(body("groups/g", **side), event_id="event-1", is_created=is_created)  # type: ignore[arg-type]
        (entry,) = logged(capsys)
        return entry["severity"], entry["outcome"], entry["groupId"], entry.get("metric")

    app.group("g")
    assert told(is_created=True) == ("INFO", "REBUILT", "g", "rebuilds")
    assert told(is_created=True) == ("INFO", "NO_CHANGE", "g", None)
    assert told(is_created=False) == ("INFO", "NO_CHANGE", "g", None)
    app.client.document("groups/g").delete()
    assert told(is_created=False) == ("INFO", "GROUP_GONE", "g", None)
    assert not app.client.document("groups/g/metadata/balance").get().exists


@pytest.mark.parametrize("data", [b"\xff", b"", body("expenses/e", after={}), body("groups/g/metadata/balance", after={})])
def test_what_tells_of_no_group_is_acknowledged_and_raises_the_alert(
    app: Deployment, capsys: pytest.CaptureFixture[str], data: bytes
) -> None:
    triggers.handle_group(data, event_id="event-1", is_created=True)
    (entry,) = logged(capsys)
    assert (entry["severity"], entry["outcome"], entry["metric"]) == ("ERROR", "UNREADABLE", "updateFailures")


def test_a_group_that_cannot_get_its_balance_now_is_delivered_again(
    app: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    app.group("g")
    app.set_balance("g", {"version": VERSION + 1})
    with pytest.raises(NewerVersion):
        triggers.handle_group(body("groups/g", after={}), event_id="event-1", is_created=True)
    (entry,) = logged(capsys)
    assert (entry["severity"], entry["groupId"], entry["metric"]) == ("ERROR", "g", "updateFailures")
    assert "newer code" in entry["message"]


def test_what_was_done_in_one_group_is_logged_though_the_other_failed(
    app: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    for group_id in ("a", "b"):
        app.group(group_id)
        app.keeper.rebuild(group_id)
    path = "expenses/e"
    app.deliver(app.write(path, expense("a", "x", b=3)))
    app.set_balance("a", {"version": VERSION + 1})
    with pytest.raises(NewerVersion):
        deliver(app.write(path, expense("b", "x", b=3)))
    done, failed = logged(capsys)
    assert (done["outcome"], done["groupId"], done["metric"]) == ("APPLIED", "b", "incrementalUpdates")
    assert (failed["severity"], failed["metric"]) == ("ERROR", "updateFailures")


def test_an_event_without_times_is_put_right_and_raises_the_alert(app: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    app.group("g")
    app.keeper.rebuild("g")
    event = app.write("expenses/e", expense("g", "a", b=3))
    for _ in range(2):
        deliver(event, dated=False)
        assert app.balance("g")["balancesByCurrency"]["USD"]["b"]["owes"] == {"a": 3}
        done, told = logged(capsys)
        assert (done["outcome"], done["metric"]) == ("REBUILT", "rebuilds")
        assert "lagMs" not in done
        assert (told["severity"], told["metric"], told["source"]) == ("ERROR", "updateFailures", "expenses/e")
