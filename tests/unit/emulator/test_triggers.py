"""Which changes a trigger matches, and the CloudEvent that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from google.cloud.firestore_v1.types import document
from google.events.cloud.firestore_v1 import DocumentEventData

from emulator.changes import Change
from emulator.settable import InvalidField
from emulator.triggers import EventType, PathPattern, Trigger, changed_paths, encode_body, encode_headers

ROOT = "projects/demo/databases/(default)/documents"
NOON_US = 1_700_000_000_000_001


def a_document(path: str = "expenses/e1", **fields: Any) -> Any:
    made = document.Document.pb()()
    made.name = f"{ROOT}/{path}"
    for name, value in fields.items():
        made.fields[name].CopyFrom(value)
    made.create_time.FromMicroseconds(NOON_US - 5)
    made.update_time.FromMicroseconds(NOON_US)
    return made


def value(**kind: Any) -> Any:
    return document.Value.pb()(**kind)


def a_map(**fields: Any) -> Any:
    made = value()
    made.map_value.SetInParent()
    for name, inner in fields.items():
        made.map_value.fields[name].CopyFrom(inner)
    return made


def a_change(path: str = "expenses/e1", before: Any = None, after: Any = None, root: str = ROOT) -> Change:
    return Change(f"{root}/{path}", before, after, NOON_US)


def a_trigger(pattern: str, **more: Any) -> Trigger:
    return Trigger.from_dict({"pattern": pattern, "url": "http://127.0.0.1:9/", **more}, name="t")


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("expenses/{expenseId}", "expenses/e1", True),
        ("expenses/{expenseId}", "settlements/e1", False),
        ("expenses/{expenseId}", "expenses/e1/notes/n1", False),
        ("expenses/{expenseId}", "groups/g/expenses/e1", False),
        ("expenses/*", "expenses/e1", True),
        ("expenses/{id=*}", "expenses/e1", True),
        ("/expenses/{id}/", "expenses/e1", True),
        ("expenses/e1", "expenses/e1", True),
        ("expenses/e1", "expenses/e12", False),
        ("expenses/a.c", "expenses/abc", False),
        ("groups/{groupId}/expenses/{expenseId}", "groups/g/expenses/e1", True),
        ("groups/{groupId}/expenses/{expenseId}", "groups/g/settlements/e1", False),
        # https://cloud.google.com/functions/docs/calling/cloud-firestore: all users, and all documents below them.
        ("users/{user=**}", "users/marie", True),
        ("users/{user=**}", "users/marie/phone/work", True),
        ("users/**", "users/marie/phone/work", True),
        ("users/{user=**}", "admins/marie", False),
        ("{path=**}/expenses/{id}", "expenses/e1", True),
        ("{path=**}/expenses/{id}", "groups/g/expenses/e1", True),
        ("{path=**}/expenses/{id}", "groups/g/expenses/e1/notes/n1", False),
        ("**", "any/thing/at/all", True),
        # https://cloud.google.com/eventarc/docs/path-patterns: a wildcard may be part of a segment.
        ("expenses/draft-*", "expenses/draft-7", True),
        ("expenses/draft-*", "expenses/final-7", False),
        ("expenses/{id}", "expenses/ü \n🧾", True),
    ],
)
def test_a_pattern_matches_the_paths_that_the_documentation_says(pattern: str, path: str, matches: bool) -> None:
    assert PathPattern.parse(pattern).matches(path) is matches


@pytest.mark.parametrize(
    "pattern", ["", "expenses", "groups/{g}/expenses", "expenses//{id}", "expenses/{id", "expenses/{id=x}", "a/b**", "a/{b}}"]
)
def test_a_pattern_that_can_match_no_document_is_refused_with_a_reason(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"segment|collection"):
        PathPattern.parse(pattern)


@pytest.mark.parametrize(
    ("event_type", "told_of"),
    [
        ("written", {"create", "update", "delete"}),
        ("created", {"create"}),
        ("updated", {"update"}),
        ("deleted", {"delete"}),
    ],
)
def test_each_type_of_event_tells_of_its_changes_only(event_type: str, told_of: set[str]) -> None:
    trigger = a_trigger("expenses/{id}", eventType=f"google.cloud.firestore.document.v1.{event_type}")
    version = a_document()
    changes = {
        "create": a_change(after=version),
        "update": a_change(before=version, after=version),
        "delete": a_change(before=version),
    }
    assert {name for name, change in changes.items() if trigger.matches(change)} == told_of


def test_a_trigger_is_for_one_database_and_for_its_project() -> None:
    here = a_change(after=a_document())
    other_database = a_change(after=a_document(), root="projects/demo/databases/other/documents")
    other_project = a_change(after=a_document(), root="projects/else/databases/(default)/documents")
    of_any_project = a_trigger("expenses/{id}")
    of_the_project = a_trigger("expenses/{id}", project="demo")
    of_the_other = a_trigger("expenses/{id}", database="other")
    assert [of_any_project.matches(change) for change in (here, other_database, other_project)] == [True, False, True]
    assert [of_the_project.matches(change) for change in (here, other_database, other_project)] == [True, False, False]
    assert [of_the_other.matches(change) for change in (here, other_database, other_project)] == [False, True, False]


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"url": "http://x/"}, "pattern"),
        ({"pattern": "a/{b}"}, "url"),
        ({"pattern": "a", "url": "http://x/"}, "pattern"),
        ({"pattern": "a/{b}", "url": "ftp://x/"}, "url"),
        ({"pattern": "a/{b}", "url": "http://"}, "url"),
        ({"pattern": "a/{b}", "url": "http://x/", "eventType": "written"}, "eventType"),
        ({"pattern": "a/{b}", "url": "http://x/", "retry": 1}, "retry"),
        ({"pattern": "a/{b}", "url": "http://x/", "concurrency": 0}, "concurrency"),
        ({"pattern": "a/{b}", "url": "http://x/", "concurrency": True}, "concurrency"),
        ({"pattern": "a/{b}", "url": "http://x/", "timeoutSeconds": -1}, "timeoutSeconds"),
        ({"pattern": "a/{b}", "url": "http://x/", "timeoutSeconds": float("nan")}, "timeoutSeconds"),
        ({"pattern": "a/{b}", "url": "http://x/", "pathPattern": "x"}, "pathPattern"),
    ],
)
def test_an_invalid_trigger_is_refused_by_the_name_of_its_field(data: Mapping[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        Trigger.from_dict(data, name="t")
    assert caught.value.field == field


def test_a_trigger_survives_json() -> None:
    trigger = a_trigger("a/{b}", name="n", retry=False, concurrency=3, timeoutSeconds=2.5, project="p", database="d")
    assert Trigger.from_dict(trigger.as_dict(), name="unused") == trigger


def test_a_pattern_on_the_command_line_may_hold_an_equals_sign() -> None:
    trigger = Trigger.from_argument("groups/{path=**}=http://127.0.0.1:9/f?a=http://x")
    assert (trigger.pattern.text, trigger.url) == ("groups/{path=**}", "http://127.0.0.1:9/f?a=http://x")
    with pytest.raises(InvalidField, match="PATTERN=URL"):
        Trigger.from_argument("groups/{id}")


def decoded(change: Change) -> Any:
    return DocumentEventData.pb().FromString(encode_body(change))


def test_a_created_document_comes_as_value_alone() -> None:
    after = a_document(amount=value(double_value=12.5))
    data = decoded(a_change(after=after))
    assert data.value.name == after.name
    assert data.value.fields["amount"].double_value == 12.5
    assert data.value.update_time.ToMicroseconds() == NOON_US
    assert data.value.create_time.ToMicroseconds() == NOON_US - 5
    assert not data.HasField("old_value")
    assert not data.HasField("update_mask")


def test_a_deleted_document_comes_as_old_value_alone() -> None:
    data = decoded(a_change(before=a_document(amount=value(integer_value=1))))
    assert data.old_value.fields["amount"].integer_value == 1
    assert not data.HasField("value")
    assert not data.HasField("update_mask")


def test_an_update_comes_with_both_and_the_changed_fields() -> None:
    data = decoded(
        a_change(
            before=a_document(a=value(integer_value=1), b=value(integer_value=1)),
            after=a_document(a=value(integer_value=1), b=value(integer_value=2), c=value(boolean_value=False)),
        )
    )
    assert data.old_value.fields["b"].integer_value == 1
    assert data.value.fields["b"].integer_value == 2
    assert list(data.update_mask.field_paths) == ["b", "c"]


def test_changed_paths_go_into_maps_and_quote_odd_names() -> None:
    before = {
        "same": a_map(x=value(integer_value=1)),
        "deep": a_map(kept=value(integer_value=1), gone=value(integer_value=1)),
        "nan": value(double_value=float("nan")),
        "type": value(integer_value=1),
    }
    after = {
        "same": a_map(x=value(integer_value=1)),
        "deep": a_map(**{"kept": value(integer_value=1), "a.b`c\\": value(integer_value=1)}),
        "nan": value(double_value=float("nan")),
        "type": value(double_value=1.0),
    }
    assert changed_paths(before, after) == ["deep.`a.b\\`c\\\\`", "deep.gone", "type"]


def test_the_headers_are_those_of_production() -> None:
    change = a_change("groups/g/expenses/e1", after=a_document("groups/g/expenses/e1"))
    headers = encode_headers(change, EventType.WRITTEN, "id-1", location="eur3", time_us=NOON_US)
    assert headers == {
        "content-type": "application/protobuf",
        "ce-specversion": "1.0",
        "ce-id": "id-1",
        "ce-source": "//firestore.googleapis.com/projects/demo/databases/(default)",
        "ce-type": "google.cloud.firestore.document.v1.written",
        "ce-subject": "documents/groups/g/expenses/e1",
        "ce-time": "2023-11-14T22:13:20.000001Z",
        "ce-dataschema": headers["ce-dataschema"],
        "ce-project": "demo",
        "ce-database": "(default)",
        "ce-namespace": "(default)",
        "ce-location": "eur3",
        "ce-document": "groups/g/expenses/e1",
    }


def test_line_breaks_in_an_id_cannot_forge_headers() -> None:
    change = a_change("expenses/a\r\nce-id: forged\x00", after=a_document())
    headers = encode_headers(change, EventType.WRITTEN, "id-1", location="eur3", time_us=NOON_US)
    assert headers["ce-document"] == "expenses/a%0D%0Ace-id: forged%00"
