"""What the app's adapter does, whatever it is, concerns the one document that it was given."""

from __future__ import annotations

from typing import Any

import pytest

from balance import adapter
from balance.core.money import Unit
from balance.documents import sources
from balance.documents.sources import NOTHING, Kind, Malformed, parse

FIELDS = {"groupId": "g", "paidBy": "a", "amount": 1, "currency": "USD", "splits": [{"uid": "b", "amount": 1}]}


def adapted(monkeypatch: pytest.MonkeyPatch, expense: Any, **more: Any) -> Any:
    monkeypatch.setattr(adapter, "expense", expense)
    return parse(Kind.EXPENSE, FIELDS | more, Unit.MAJOR)


@pytest.mark.parametrize(
    ("expense", "reason"),
    [
        (lambda fields: fields["parts"], "KeyError 'parts'"),
        (lambda fields: fields["amount"].upper(), "AttributeError 'int' object has no attribute 'upper'"),
        (lambda fields: [fields], "returned a list, not a map of fields"),
        (lambda fields: (_ for _ in ()).throw(RuntimeError("x" * 5_000)), "RuntimeError " + "x" * 187),
    ],
)
def test_what_the_adapter_raises_is_a_fault_of_the_document(monkeypatch: pytest.MonkeyPatch, expense: Any, reason: str) -> None:
    assert adapted(monkeypatch, expense) == Malformed("adapter", reason, "g")


@pytest.mark.parametrize("group_id", [None, 5, "", "a/b"])
def test_the_fault_is_of_no_group_when_the_document_names_none(monkeypatch: pytest.MonkeyPatch, group_id: object) -> None:
    found = adapted(monkeypatch, lambda fields: fields["parts"], groupId=group_id)
    assert found == Malformed("adapter", "KeyError 'parts'", None)


def test_a_document_that_is_not_ours_posts_nothing_and_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    assert adapted(monkeypatch, lambda fields: None) == NOTHING


def test_a_settlement_is_read_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "settlement", lambda fields: fields["parts"])
    found = parse(Kind.SETTLEMENT, FIELDS, Unit.MAJOR, "in-path")
    assert found == Malformed("adapter", "KeyError 'parts'", "in-path")


@pytest.mark.parametrize("name", ["expense", "settlement", "group", "GROUP_ID_FIELD", "MEMBERS_FIELD", "DELETED_FIELD"])
def test_an_adapter_that_lacks_a_name_is_refused_when_it_is_loaded(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    sources.check_adapter()
    monkeypatch.delattr(adapter, name)
    with pytest.raises(sources.AdapterFailed, match=f"lacks {name}:"):
        sources.check_adapter()
