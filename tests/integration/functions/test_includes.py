"""Reading one's own writes through the API: it waits for them, and says which ones the answer holds, once that is proved."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from balance.database.retry import Retry
from balance.documents.balances import VERSION
from balance.documents.outcome import Outcome
from balance.documents.sources import Kind
from balance.functions import instance
from balance.operations import includes
from balance.operations.reading import iso8601
from balance.protocol.events import SourceEvent, Version, effect
from tests.integration.callers import ReadApi, read_api
from tests.integration.served import Served, served

E1 = "expenses/e1"


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served() as running:
        yield running


@pytest.fixture
def api(server: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReadApi]:
    """With a group of three whose balance is stored, and little patience."""
    monkeypatch.setattr(includes, "WAIT_S", 0.3)
    server.within(server.databases.clear)
    with read_api(server, monkeypatch) as made:
        made.group("g1", "ana", "bo", "cy")
        made.rebuild("g1")
        yield made


def fields(share: object = 10, **changes: Any) -> dict[str, Any]:
    """An expense of ana's, of which bo has a share."""
    splits = [{"uid": "bo", "amount": share}]
    return {"groupId": "g1", "paidBy": "ana", "amount": share, "currency": "USD", "splits": splits, **changes}


def write(api: ReadApi, document: dict[str, Any] | None, path: str = E1) -> SourceEvent:
    """Write or delete a document; returns the event of it, which nobody has processed yet."""
    reference = api.database.document(path)
    was = reference.get()
    before = Version(was.to_dict() or {}, was.update_time) if was.exists else None
    after = None
    if document is None:
        reference.delete()
    else:
        after = Version(document, reference.set(document).update_time)
    now = datetime.now(UTC)
    return SourceEvent(event_id=uuid4().hex, time=now, source=path, kind=Kind.EXPENSE, before=before, after=after)


def process(event: SourceEvent) -> list[Outcome]:
    """What the function does when the event arrives."""
    keeper = instance.bookkeeper()
    return [result.outcome for result in keeper.process(event, effect(event, keeper.settings))]


def ask(api: ReadApi, *texts: str, group: str = "g1") -> dict[str, Any]:
    """The answer to a question for writes."""
    query = "&".join(f"includes={quote(text, safe='')}" for text in texts)
    response = api.get(f"/groups/{group}/balance?{query}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json
    return found


def named(event: SourceEvent) -> str:
    """The write of an event, by its time."""
    return f"{event.source}@{iso8601(event.write.update_time)}"


def owed(answer: dict[str, Any]) -> object:
    return answer["balancesByCurrency"].get("USD", {}).get("bo", {}).get("owes", {}).get("ana", 0)


def test_a_write_is_in_the_balance_once_its_event_was_processed_and_not_before(api: ReadApi) -> None:
    event = write(api, fields())
    exact, latest = named(event), f"{E1}@latest"
    answer = ask(api, exact, latest)
    assert (answer["includes"], owed(answer)) == ({exact: False, latest: False}, 0)
    assert process(event) == [Outcome.APPLIED]
    answer = ask(api, exact, latest)
    assert (answer["includes"], owed(answer)) == ({exact: True, latest: True}, 10)


def test_the_answer_waits_for_the_event(api: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(includes, "WAIT_S", 20.0)
    event = write(api, fields())
    late = threading.Timer(0.5, process, [event])
    late.start()
    started = time.monotonic()
    answer = ask(api, named(event))
    late.join()
    assert (answer["includes"], owed(answer)) == ({named(event): True}, 10)
    assert 0.5 <= time.monotonic() - started < 15


def test_nobody_waits_when_too_many_do(api: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(includes, "WAIT_S", 60.0)
    monkeypatch.setattr(includes, "_WAITING", threading.BoundedSemaphore(1))
    event = write(api, fields())
    with includes._WAITING:
        assert ask(api, named(event))["includes"] == {named(event): False}


def test_without_the_parameter_nothing_is_told_or_read_of_it(api: ReadApi) -> None:
    write(api, fields())
    api.forget()
    assert "includes" not in api.balance("g1")
    assert api.rpcs() == {"BatchGetDocuments": 1}


def test_of_two_writes_of_one_document_each_is_told_for_itself(api: ReadApi) -> None:
    first, second = write(api, fields(10)), write(api, fields(25))
    process(second)
    answer = ask(api, named(first), named(second), f"{E1}@latest")
    assert answer["includes"] == {named(first): False, named(second): True, f"{E1}@latest": True}


def test_another_write_that_moves_the_balance_is_not_taken_for_it(api: ReadApi) -> None:
    mine, others = write(api, fields()), write(api, fields(), "expenses/e2")
    process(others)
    answer = ask(api, named(mine))
    assert (answer["includes"], owed(answer)) == ({named(mine): False}, 10)


def test_a_write_in_the_snapshot_of_a_rebuild_needs_no_record(api: ReadApi) -> None:
    event = write(api, fields())
    api.rebuild("g1")
    assert process(event) == [Outcome.ALREADY_INCLUDED]
    answer = ask(api, named(event), f"{E1}@latest")
    assert (answer["source"], set(answer["includes"].values()), owed(answer)) == ("precomputed", {True}, 10)


def test_a_recalculated_answer_holds_every_write_before_it(api: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(includes, "WAIT_S", 60.0)
    event = write(api, fields())
    api.database.document("groups/g1/metadata/balance").update({"version": 0})
    answer = ask(api, named(event), f"{E1}@latest", "expenses/none@latest")
    assert (answer["source"], set(answer["includes"].values()), owed(answer)) == ("recalculated", {True}, 10)


def test_a_gap_is_no_proof(api: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    event = write(api, fields())
    monkeypatch.setenv("BALANCE_UPDATES", "off")
    assert process(event) == [Outcome.DISABLED]
    # As if the mark had been overwritten by hand: only the record is left to go by.
    api.database.document("groups/g1/metadata/balance").update({"version": VERSION})
    answer = ask(api, named(event))
    assert (answer["includes"], owed(answer)) == ({named(event): False}, 0)


def test_a_write_that_moves_no_money_is_not_waited_for(api: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(includes, "WAIT_S", 60.0)
    process(write(api, fields()))
    event = write(api, fields(note="with tea"))
    assert ask(api, named(event), f"{E1}@latest")["includes"] == {named(event): True, f"{E1}@latest": True}


def test_a_malformed_write_is_in_once_its_fault_is_set(api: ReadApi) -> None:
    event = write(api, fields("ten"))
    assert ask(api, named(event))["includes"] == {named(event): False}
    assert process(event) == [Outcome.FAULT]
    assert ask(api, named(event), f"{E1}@latest")["includes"] == {named(event): True, f"{E1}@latest": True}


def test_a_soft_delete_is_a_write_like_any_other(api: ReadApi) -> None:
    process(write(api, fields()))
    event = write(api, fields(deletedAt=datetime.now(UTC)))
    assert ask(api, f"{E1}@latest")["includes"] == {f"{E1}@latest": False}
    process(event)
    answer = ask(api, f"{E1}@latest")
    assert (answer["includes"], owed(answer)) == ({f"{E1}@latest": True}, 0)


def test_a_hard_delete_is_in_once_its_event_was_processed(api: ReadApi) -> None:
    process(write(api, fields()))
    event = write(api, None)
    answer = ask(api, f"{E1}@latest")
    assert (answer["includes"], owed(answer)) == ({f"{E1}@latest": False}, 10)
    process(event)
    answer = ask(api, f"{E1}@latest")
    assert (answer["includes"], owed(answer)) == ({f"{E1}@latest": True}, 0)


def test_a_hard_delete_before_a_rebuild_is_in_its_snapshot(api: ReadApi) -> None:
    process(write(api, fields()))
    write(api, None)
    api.rebuild("g1")
    answer = ask(api, f"{E1}@latest")
    assert (answer["source"], answer["includes"], owed(answer)) == ("precomputed", {f"{E1}@latest": True}, 0)


def test_a_delete_of_an_earlier_life_is_no_proof_of_the_last_one(api: ReadApi) -> None:
    process(write(api, fields()))
    process(write(api, None))
    process(write(api, fields(30)))
    again = write(api, None)
    assert ask(api, f"{E1}@latest")["includes"] == {f"{E1}@latest": False}
    process(again)
    assert ask(api, f"{E1}@latest")["includes"] == {f"{E1}@latest": True}


def test_a_delete_is_no_proof_of_a_later_life_that_the_snapshot_holds(api: ReadApi) -> None:
    process(write(api, fields()))
    process(write(api, None))
    restored = write(api, fields(30))
    api.rebuild("g1")
    process(restored)
    again = write(api, None)
    answer = ask(api, f"{E1}@latest")
    assert (answer["includes"], owed(answer)) == ({f"{E1}@latest": False}, 30)
    process(again)
    answer = ask(api, f"{E1}@latest")
    assert (answer["includes"], owed(answer)) == ({f"{E1}@latest": True}, 0)


@pytest.mark.parametrize("rebuilt", [False, True])
@pytest.mark.parametrize("last", [{"deletedAt": datetime(2026, 3, 1, tzinfo=UTC)}, {"splits": []}])
def test_the_delete_of_what_posted_nothing_is_in_with_its_last_version(
    api: ReadApi, last: dict[str, Any], rebuilt: bool
) -> None:
    """Such a delete moves no money, and leaves no record."""
    process(write(api, fields()))
    emptied = write(api, fields(**last))
    if rebuilt:
        api.rebuild("g1")
    deleted = write(api, None)
    assert ask(api, f"{E1}@latest")["includes"] == {f"{E1}@latest": rebuilt}, "the last version is not in before its event"
    process(emptied)
    assert process(deleted) == [Outcome.NO_CHANGE] * bool(effect(deleted, instance.bookkeeper().settings).deltas)
    answer = ask(api, f"{E1}@latest")
    assert (answer["includes"], owed(answer)) == ({f"{E1}@latest": True}, 0)


def test_the_delete_of_a_malformed_document_is_in_once_its_fault_is_gone(api: ReadApi) -> None:
    process(write(api, fields(currency="???")))
    api.rebuild("g1")
    deleted = write(api, None)
    assert ask(api, f"{E1}@latest")["includes"] == {f"{E1}@latest": False}
    process(deleted)
    assert ask(api, f"{E1}@latest")["includes"] == {f"{E1}@latest": True}


def test_the_delete_of_a_document_that_was_moved_away_is_in_with_the_move(api: ReadApi) -> None:
    api.group("g2", "ana", "bo")
    api.rebuild("g2")
    process(write(api, fields()))
    moved = write(api, fields(groupId="g2"))
    deleted = write(api, None)
    assert ask(api, f"{E1}@latest")["includes"] == {f"{E1}@latest": False}
    process(moved)
    assert ask(api, f"{E1}@latest")["includes"] == {f"{E1}@latest": True}
    assert ask(api, f"{E1}@latest", group="g2")["includes"] == {f"{E1}@latest": False}
    process(deleted)
    assert ask(api, f"{E1}@latest", group="g2")["includes"] == {f"{E1}@latest": True}


def test_a_gap_proves_no_delete(api: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    live = write(api, fields(), "expenses/e3")
    monkeypatch.setenv("BALANCE_UPDATES", "off")
    process(live)
    process(write(api, fields(deletedAt=datetime.now(UTC)), "expenses/e3"))
    write(api, None, "expenses/e3")
    settings = instance.bookkeeper().settings
    asked = includes.parse(["expenses/e3@latest"], settings.layout, "g1", datetime.now(UTC))
    found = includes.wait(instance.firestore(), settings, "g1", asked, Retry(attempts=1))
    assert found.held == frozenset()


def test_a_group_without_detail_is_asked_like_any_other(api: ReadApi) -> None:
    huge = {"splits": [{"uid": "bo", "amount": 10**14}] * 11, "currency": "JPY", "amount": 1}
    process(write(api, fields(**huge), "expenses/huge"))
    stored = api.stored("g1")
    assert stored is not None
    assert stored["detail"] == "none"
    event = write(api, fields())
    process(event)
    for _ in range(2):  # the second time the answer was kept
        answer = ask(api, f"{E1}@latest", named(event))
        assert answer["includes"] == {f"{E1}@latest": True, named(event): True}
        assert answer["balancesByCurrency"]["USD"]["bo"]["netBalance"] == -10


def test_a_move_is_told_by_both_groups(api: ReadApi) -> None:
    api.group("g2", "ana", "bo")
    api.rebuild("g2")
    process(write(api, fields()))
    event = write(api, fields(groupId="g2"))
    for group in ("g1", "g2"):
        assert ask(api, named(event), group=group)["includes"] == {named(event): False}
    process(event)
    for group, owes in (("g1", 0), ("g2", 10)):
        answer = ask(api, named(event), f"{E1}@latest", group=group)
        assert (set(answer["includes"].values()), owed(answer)) == ({True}, owes)


def test_an_expense_of_another_group_is_never_in(api: ReadApi) -> None:
    process(write(api, fields(groupId="elsewhere")))
    assert ask(api, f"{E1}@latest")["includes"] == {f"{E1}@latest": False}


def test_settlements_and_ids_with_signs_in_them_can_be_asked_for(api: ReadApi) -> None:
    source = api.settlement("g1", "bo", "ana", 5)
    event = write(api, fields(), "expenses/a@b é")
    process(event)
    found = ask(api, f"{source}@latest", "expenses/a@b é@latest", named(event))["includes"]
    assert list(found.values()) == [False, True, True]


def test_only_members_are_told(api: ReadApi) -> None:
    write(api, fields())
    for uid, status in (("mallory", 403), (None, 401)):
        assert api.get(f"/groups/g1/balance?includes={E1}@latest", uid).status_code == status


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "does not end in @"),
        ("expenses/e1", "does not end in @"),
        ("expenses/e1@", "neither an updateTime"),
        ("expenses/e1@newest", "neither an updateTime"),
        ("expenses/e1@2026-13-01T00:00:00Z", "neither an updateTime"),
        ("expenses/e1@0001-01-01T00:00:00Z", "neither an updateTime"),
        ("expenses/e1@2026-03-01T18:22:05", "neither an updateTime"),
        ("expenses/e1@2999-03-01T18:22:05Z", "still to come"),
        ("e1@latest", "give expenses/ID or settlements/ID"),
        ("@latest", "give expenses/ID or settlements/ID"),
        ("groups/g1@latest", "give expenses/ID or settlements/ID"),
        ("expenses/__x__@latest", "give expenses/ID or settlements/ID"),
        ("expenses/e1/items/i1@latest", "give expenses/ID or settlements/ID"),
        ("groups/g1/metadata/balance@latest", "give expenses/ID or settlements/ID"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_what_to_give(api: ReadApi, text: str, complaint: str) -> None:
    response = api.get(f"/groups/g1/balance?includes={quote(text, safe='')}")
    assert (response.status_code, response.json["error"]["code"]) == (400, "INVALID_ARGUMENT")
    assert complaint in response.json["error"]["message"]
    assert response.json["error"]["message"].startswith("includes ")


def test_ten_writes_may_be_asked_for_and_no_more(api: ReadApi) -> None:
    names = [f"expenses/none{number}@latest" for number in range(11)]
    assert len(ask(api, *names[:10])["includes"]) == 10
    response = api.get("/groups/g1/balance?" + "&".join(f"includes={name}" for name in names))
    assert response.status_code == 400


def test_in_the_layout_with_subcollections_only_the_groups_own_may_be_named(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(includes, "WAIT_S", 0.0)
    server.within(server.databases.clear)
    places = {f"{name.upper()}_COLLECTION": f"groups/{{groupId}}/{name}" for name in ("expenses", "settlements")}
    with read_api(server, monkeypatch, **places) as api:
        api.group("g1", "ana", "bo")
        api.rebuild("g1")
        event = write(api, fields(), "groups/g1/expenses/e1")
        assert ask(api, named(event))["includes"] == {named(event): False}
        process(event)
        assert ask(api, named(event))["includes"] == {named(event): True}
        for path in ("expenses/e1", "groups/g2/expenses/e1"):
            assert api.get(f"/groups/g1/balance?includes={path}@latest").status_code == 400


def test_a_write_too_old_for_its_past_to_be_read_waits_for_its_record(api: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    event = write(api, fields(note="no money moves"))
    process(event)
    event = write(api, fields(note="none moves here either"))
    monkeypatch.setattr(includes, "_INSTANT", timedelta(hours=2))
    assert ask(api, named(event))["includes"] == {named(event): False}
