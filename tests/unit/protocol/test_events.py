"""Events: from the bytes of a delivery to a change, and what that change does to which groups."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf import json_format

from balance.core.ledger import Ledger
from balance.core.money import Unit
from balance.documents.layout import Layout
from balance.documents.settings import Settings
from balance.documents.sources import Kind
from balance.documents.writes import SourceWrite
from balance.protocol.events import MissingTime, SourceEvent, UnreadableEvent, Version, decode, decode_group, effect
from tests.cloud_events import ROOT, EventDataPb, body

EARLIER = datetime(2026, 3, 1, 11, tzinfo=UTC)
WRITTEN = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
DELIVERED = WRITTEN + timedelta(seconds=1)
FIELDS = {"groupId": "g", "amount": 12.5, "splits": [{"uid": "b", "amount": 1}], "deletedAt": None, "at": WRITTEN}


def decoded(data: bytes, time: datetime | None = DELIVERED) -> SourceEvent:
    return decode(data, kind=Kind.EXPENSE, event_id="event-1", time=time)


# ----------------------------------------------------------------------------------------------------------- decoding


def test_a_create_has_a_new_side_only() -> None:
    event = decoded(body("expenses/e", after=FIELDS, after_time=WRITTEN))
    assert event == SourceEvent(
        event_id="event-1",
        time=DELIVERED,
        source="expenses/e",
        kind=Kind.EXPENSE,
        before=None,
        after=Version(FIELDS, WRITTEN),
    )
    assert event.write == SourceWrite(source="expenses/e", update_time=WRITTEN)


def test_an_update_has_both_sides() -> None:
    event = decoded(body("expenses/e", before={"x": 1}, before_time=EARLIER, after={"x": 2}, after_time=WRITTEN))
    assert (event.before, event.after) == (Version({"x": 1}, EARLIER), Version({"x": 2}, WRITTEN))
    assert event.write == SourceWrite(source="expenses/e", update_time=WRITTEN)


def test_a_delete_has_an_old_side_only_and_the_time_of_its_event() -> None:
    event = decoded(body("expenses/e", before=FIELDS, before_time=EARLIER))
    assert (event.before, event.after) == (Version(FIELDS, EARLIER), None)
    assert event.write == SourceWrite(source="expenses/e", update_time=EARLIER, deleted_at=DELIVERED)


def test_the_json_of_an_event_says_the_same() -> None:
    fields = FIELDS | {"n": 5, "b": b"\x00", "none": None, "yes": True, "map": {"é": [1]}}
    data = body("expenses/é", before={"x": 1}, before_time=EARLIER, after=fields, after_time=WRITTEN)
    as_json = json_format.MessageToDict(EventDataPb.FromString(data))
    assert decode(as_json, kind=Kind.EXPENSE, event_id="event-1", time=DELIVERED) == decoded(data)


def _with(value: dict[str, Any]) -> dict[str, Any]:
    return {"value": {"name": "projects/p/databases/d/documents/expenses/e", "fields": {"a": value}}}


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"value": 5},
        {"value": {"name": 5}},
        {"value": {"name": "x"}},
        [1],
        5,
        {"oldValue": []},
        {"value": "\ud800"},
        _with({"nullValue": float("inf")}),
        _with({"doubleValue": 10**400}),
        _with({"integerValue": float("inf")}),
    ],
)
def test_other_json_is_unreadable(data: Any) -> None:
    with pytest.raises(UnreadableEvent):
        decode(data, kind=Kind.EXPENSE, event_id="event-1", time=DELIVERED)


@pytest.mark.parametrize("group_id", ["g", "café 🍕", "a.b"])
def test_the_group_of_an_event_is_named_by_its_document(group_id: str) -> None:
    for sides in ({"before": {"x": 1}}, {"after": {"x": 1}}):
        assert decode_group(body(f"groups/{group_id}", **sides), Layout()) == group_id  # type: ignore[arg-type]
    assert decode_group(body(f"households/{group_id}", after={}), Layout(groups="households")) == group_id


@pytest.mark.parametrize("path", ["expenses/e", "groups/g/metadata/balance", "groups"])
def test_an_event_of_another_document_names_no_group(path: str) -> None:
    with pytest.raises(UnreadableEvent):
        decode_group(body(path, after={}), Layout())


def test_a_document_without_fields_exists() -> None:
    event = decoded(body("expenses/e", before={}, before_time=EARLIER, after={}, after_time=WRITTEN))
    assert (event.before, event.after) == (Version({}, EARLIER), Version({}, WRITTEN))


@pytest.mark.parametrize(
    "path",
    ["expenses/café", "expenses/🍕", "expenses/a b", "expenses/documents", "documents/documents", "groups/ü/expenses/`e`",
     "expenses/__id7__", "expenses/..."],
)  # fmt: skip
@pytest.mark.parametrize(
    "root",
    [ROOT, "projects/p/databases/documents/documents/", "projects/documents/databases/(default)/documents/"],
)
def test_the_path_is_what_lies_below_the_database(path: str, root: str) -> None:
    assert decoded(body(path, after={}, after_time=WRITTEN, root=root)).source == path


def test_two_deliveries_of_a_write_under_different_event_ids_are_one_write() -> None:
    data = body("expenses/e", before=FIELDS, before_time=EARLIER)
    one = decode(data, kind=Kind.EXPENSE, event_id="event-1", time=DELIVERED)
    other = decode(data, kind=Kind.EXPENSE, event_id="event-2", time=DELIVERED + timedelta(milliseconds=7))
    assert one.write.key == other.write.key


@pytest.mark.parametrize("time", [None, DELIVERED])
@pytest.mark.parametrize(
    "sides", [{"after": FIELDS}, {"before": FIELDS}, {"before": FIELDS, "before_time": EARLIER, "after": {}}]
)
def test_a_write_without_its_version_cannot_be_told(sides: dict[str, Any], time: datetime | None) -> None:
    event = decoded(body("expenses/e", **sides), time)
    with pytest.raises(MissingTime, match="expenses/e: the event's document has no updateTime"):
        _ = event.write


def test_a_delete_without_its_events_time_cannot_be_told() -> None:
    event = decoded(body("expenses/e", before=FIELDS, before_time=EARLIER), time=None)
    with pytest.raises(MissingTime, match="expenses/e: the event of a delete has no time"):
        _ = event.write


def test_a_create_needs_no_event_time() -> None:
    assert decoded(body("expenses/e", after=FIELDS, after_time=WRITTEN), time=None).write.update_time == WRITTEN


def named(*names: str) -> bytes:
    data = EventDataPb()
    for document, name in zip((data.value, data.old_value), names, strict=False):
        document.name = name
        document.update_time.seconds = 1
    serialised: bytes = data.SerializeToString()
    return serialised


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"hello", b'{"value": {}}', b"\n\x05\n\x03abc", named(ROOT + "expenses/e")[:-3], b"\x00" * 100],
)
def test_bytes_that_are_no_document_change_are_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableEvent):
        decoded(data)


@pytest.mark.parametrize("data", [{"value": {}}, "text", ["x"], 5])
def test_what_is_not_even_bytes_is_unreadable(data: Any) -> None:
    with pytest.raises(UnreadableEvent):
        decoded(data)


@pytest.mark.parametrize(
    "data",
    [
        named(""),
        named("expenses/e"),
        named("projects/p/databases/(default)"),
        named(ROOT),
        named(ROOT + "expenses"),
        named(ROOT + "expenses/"),
        named(ROOT + "/e"),
        named(ROOT + "expenses//x/y"),
        named(ROOT + "a/b/c"),
        named(ROOT + "expenses/e", ROOT + "expenses/f"),
        named(ROOT + "expenses/e", ""),
    ],
)
def test_an_event_that_does_not_name_one_document_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableEvent, match="does not name one document"):
        decoded(data)


@pytest.mark.parametrize("seconds", [10**12, -(10**12), 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("where", ["update_time", "field"])
def test_a_time_outside_the_calendar_makes_an_event_unreadable(seconds: int, where: str) -> None:
    data = EventDataPb()
    data.value.name = ROOT + "expenses/e"
    if where == "field":
        data.value.fields["deletedAt"].timestamp_value.seconds = seconds
    else:
        data.value.update_time.seconds = seconds
    with pytest.raises(UnreadableEvent):
        decoded(data.SerializeToString())


def test_text_that_is_not_utf_8_makes_an_event_unreadable() -> None:
    data = body("expenses/e", after={"groupId": "xyz"}, after_time=WRITTEN)
    with pytest.raises(UnreadableEvent):
        decoded(data.replace(b"xyz", b"\xed\xa0\x80"))


def test_endless_nesting_makes_an_event_unreadable() -> None:
    data = EventDataPb()
    data.value.name = ROOT + "expenses/e"
    value = data.value.fields["x"]
    for _ in range(90):
        value = value.array_value.values.add()
    with pytest.raises(UnreadableEvent):
        decoded(data.SerializeToString())


def test_the_deepest_document_that_firestore_allows_is_readable() -> None:
    nested: dict[str, Any] = {}
    for _ in range(20):
        nested = {"x": nested}
    assert decoded(body("expenses/e", after=nested, after_time=WRITTEN)).after == Version(nested, WRITTEN)


# ------------------------------------------------------------------------------------------------------------- effect


def expense(**changes: Any) -> dict[str, Any]:
    fields = {"groupId": "g", "paidBy": "a", "amount": 50, "currency": "USD", "splits": [{"uid": "b", "amount": 50}]}
    return fields | changes


def done(
    before: dict[str, Any] | None, after: dict[str, Any] | None, settings: Settings | None = None, path: str = "expenses/e"
) -> Any:
    event = decoded(body(path, before=before, before_time=EARLIER, after=after, after_time=WRITTEN))
    return effect(event, settings or Settings())


OWED: Ledger = {"USD": {("a", "b"): -5_000}}
FORGIVEN: Ledger = {"USD": {("a", "b"): 5_000}}


def test_create_and_delete_are_inverse() -> None:
    assert done(None, expense()).deltas == {"g": OWED}
    assert done(expense(), None).deltas == {"g": FORGIVEN}


def test_soft_delete_and_restore_are_inverse() -> None:
    deleted = expense(deletedAt=WRITTEN)
    assert done(expense(), deleted).deltas == {"g": FORGIVEN}
    assert done(deleted, expense()).deltas == {"g": OWED}
    assert done(deleted, None).deltas == {}
    assert done(None, deleted).deltas == {}


def test_an_edit_is_the_difference() -> None:
    assert done(expense(), expense(splits=[{"uid": "b", "amount": 80}])).deltas == {"g": {"USD": {("a", "b"): -3_000}}}


def test_an_edit_that_moves_no_money_is_an_empty_delta() -> None:
    assert done(expense(), expense(note="x")).deltas == {"g": {}}


def test_a_change_of_currency() -> None:
    assert done(expense(), expense(currency="EUR")).deltas == {"g": {**FORGIVEN, "EUR": {("a", "b"): -5_000}}}


def test_a_change_of_payer() -> None:
    after = expense(paidBy="b", splits=[{"uid": "a", "amount": 50}])
    assert done(expense(), after).deltas == {"g": {"USD": {("a", "b"): 10_000}}}


def test_a_move_takes_from_the_one_group_and_gives_to_the_other() -> None:
    assert done(expense(), expense(groupId="h")).deltas == {"g": FORGIVEN, "h": OWED}


def test_a_move_with_a_soft_delete_only_takes() -> None:
    assert done(expense(), expense(groupId="h", deletedAt=WRITTEN)).deltas == {"g": FORGIVEN}


def test_a_malformed_side_posts_nothing_and_names_its_group() -> None:
    malformed = expense(amount=True)
    assert done(None, malformed).deltas == {"g": {}}
    assert done(None, malformed).malformed_in == {"g"}
    assert done(expense(), malformed).deltas == {"g": FORGIVEN}
    assert done(malformed, expense()).deltas == {"g": OWED}
    assert done(malformed, expense()).malformed_in == {"g"}
    assert done(malformed, None).malformed_in == {"g"}
    assert done(expense(), expense()).malformed_in is None


def test_sides_may_be_malformed_in_two_groups_or_in_none_at_all() -> None:
    nowhere, here, there = expense(groupId=5), expense(amount="-"), expense(groupId="h", amount="-")
    assert done(here, there).malformed_in == {"g", "h"}
    assert done(here, there).deltas == {"g": {}, "h": {}}
    assert done(nowhere, None).malformed_in == {None}
    assert done(nowhere, None).deltas == {}
    assert done(nowhere, there).malformed_in == {None, "h"}
    assert done(expense(), nowhere).deltas == {"g": FORGIVEN}
    assert done(expense(), nowhere).malformed_in == {None}


def test_a_malformed_document_that_is_deleted_softly_is_no_fault_of_its_new_side() -> None:
    assert done(None, expense(amount=True, deletedAt=WRITTEN)).malformed_in is None


def test_splits_that_do_not_add_up_are_warned_of_when_they_are_written() -> None:
    odd = expense(amount=70)
    assert done(None, odd).warnings == ("the splits do not add up to the expense's amount",)
    assert done(odd, expense()).warnings == ()
    assert done(odd, None).warnings == ()


def test_the_apps_unit_counts() -> None:
    assert done(None, expense(), Settings(unit=Unit.MINOR)).deltas == {"g": {"USD": {("a", "b"): -50}}}


def test_in_a_subcollection_the_path_names_the_group() -> None:
    settings = Settings(layout=Layout.in_groups())
    found = done(None, expense(groupId="another"), settings, "groups/café/expenses/e")
    assert found.deltas == {"café": OWED}


def test_a_settlement_is_the_reverse_of_a_debt() -> None:
    fields = {"groupId": "g", "payerId": "b", "payeeId": "a", "amount": 50, "currency": "USD"}
    data = body("settlements/s", after=fields, after_time=WRITTEN)
    event = decode(data, kind=Kind.SETTLEMENT, event_id="event-1", time=None)
    assert effect(event, Settings()).deltas == {"g": FORGIVEN}
