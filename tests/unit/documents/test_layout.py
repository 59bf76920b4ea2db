"""Where documents lie, and the ids of those that are named after others."""

from __future__ import annotations

import pytest

from balance.database.firestore import Query
from balance.documents.layout import Layout, document_key
from balance.documents.sources import Kind, is_document_id

FLAT = Layout()
NESTED = Layout.in_groups()
RENAMED = Layout(groups="teams", expenses="bills", settlements="teams/{groupId}/payments")


def test_our_documents_lie_below_their_group() -> None:
    assert FLAT.group("g") == "groups/g"
    assert FLAT.balance("g") == "groups/g/metadata/balance"
    assert FLAT.records("g") == "groups/g/balanceEvents"
    assert FLAT.faults("g") == "groups/g/balanceFaults"
    assert RENAMED.balance("g") == "teams/g/metadata/balance"


def test_the_fault_of_a_document_that_names_no_group_lies_at_the_top() -> None:
    assert FLAT.faults(None) == "balanceFaults"
    assert FLAT.fault(None, "expenses/e") == f"balanceFaults/{document_key('expenses/e')}"
    assert FLAT.fault("g", "expenses/e") == f"groups/g/balanceFaults/{document_key('expenses/e')}"


def test_documents_of_a_top_level_collection_are_found_by_their_group_alone() -> None:
    assert FLAT.sources(Kind.EXPENSE, "g") == Query(collection="expenses", where=("groupId", "==", "g"))
    assert FLAT.sources(Kind.SETTLEMENT, "g") == Query(collection="settlements", where=("groupId", "==", "g"))
    assert RENAMED.sources(Kind.EXPENSE, "g") == Query(collection="bills", where=("groupId", "==", "g"))


def test_documents_of_a_subcollection_are_all_their_groups() -> None:
    assert NESTED.sources(Kind.EXPENSE, "g") == Query(collection="groups/g/expenses")
    assert RENAMED.sources(Kind.SETTLEMENT, "g") == Query(collection="teams/g/payments")


@pytest.mark.parametrize("group_id", ["{groupId}", "a.b", "groups", "café", "🍕", "a b", "`"])
def test_a_group_id_is_taken_literally(group_id: str) -> None:
    assert NESTED.sources(Kind.EXPENSE, group_id).collection == f"groups/{group_id}/expenses"


@pytest.mark.parametrize(
    ("source", "group_id"),
    [
        ("expenses/e", None),
        ("groups/g/expenses/e", "g"),
        ("teams/café/payments/p", "café"),
        ("groups/../expenses/e", None),
        ("groups/__g__/expenses/e", None),
        ("a/b/c/d/e/f", None),
    ],
)
def test_the_group_in_a_path_is_that_of_the_subcollection(source: str, group_id: str | None) -> None:
    assert FLAT.group_in_path(source) == group_id


@pytest.mark.parametrize("layout", [FLAT, NESTED, RENAMED])
def test_a_documents_kind_is_told_by_its_collection(layout: Layout) -> None:
    for kind in Kind:
        path = f"{layout.sources(kind, 'g').collection}/x"
        assert layout.kind(path) is kind


def test_keys_are_document_ids_and_differ_where_their_parts_differ() -> None:
    parts = [(), ("",), ("a", "b"), ("a', 'b",), ("ab",), ("ab", ""), ("", "ab"), ("a/b",), ("A/b",), ("é",), ("e\u0301",)]
    keys = {document_key(*each) for each in parts}
    assert len(keys) == len(parts)
    assert all(is_document_id(key) and len(key) == 40 and key.isascii() for key in keys)


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        (("expenses/e1",), "a1afdc60edcbc1e7e113710811dae4c33268ace0"),
        # A letter of Unicode 15, which Python 3.11 does not know to be printable and later ones do.
        (("expenses/\U0001fae8",), "4ece9aee034e7f934ec0ee726ebd26de2297d1f5"),
        (("expenses/café", "deleted"), "bcf86ec0a34a27d4ac19a0d9a3769ef74ea038d9"),
    ],
)
def test_a_key_never_changes_for_records_outlive_deployments(parts: tuple[str, ...], key: str) -> None:
    assert document_key(*parts) == key
