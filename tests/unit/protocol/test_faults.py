"""Fault documents: what they tell, and what of a stored one is believed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from balance.database.firestore import Snapshot
from balance.documents.sources import Malformed
from balance.protocol.faults import document, source_of

WRITTEN, READ = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)


def test_a_fault_tells_which_document_which_field_why_and_since_when() -> None:
    source = Snapshot("expenses/e", {"amount": True}, WRITTEN, READ)
    assert document(source, Malformed("amount", "is a boolean, not a number", "g")) == {
        "source": "expenses/e",
        "field": "amount",
        "reason": "is a boolean, not a number",
        "since": WRITTEN,
    }


@pytest.mark.parametrize("source", ["expenses/e", "groups/g/expenses/e", "expenses/café 🍕"])
def test_a_stored_fault_names_its_document(source: str) -> None:
    assert source_of({"source": source}) == source


@pytest.mark.parametrize(
    "source",
    [None, 5, ["expenses/e"], "", "expenses", "/expenses/e", "expenses/", "expenses//", "a/b/c", "expenses/..",
     "expenses/__e__", "expenses/" + "e" * 1_501],
)  # fmt: skip
def test_a_fault_that_names_no_document_is_nobodys(source: object) -> None:
    assert source_of({"source": source}) is None
    assert source_of({}) is None
    assert source_of(None) is None
