"""Whatever is written to Firestore is read back as it was; and our codec agrees with the official client's."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from google.cloud.firestore_v1 import _helpers
from google.cloud.firestore_v1.types import Document, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from balance.database.codec import decode, decode_fields, encode_fields_into, encode_into
from tests.property.firestore_values import NAMES, RECENT, SCALARS, VALUES

ValuePb: Any = Value.pb()
DocumentPb: Any = Document.pb()


def in_order(value: Any) -> str:
    """A text that is equal for equal values of equal kinds; NaN equals itself, and maps have no order."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name!r}: {in_order(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(in_order, value)) + "]"
    if isinstance(value, datetime):
        return value.isoformat()
    return repr(value)


@given(VALUES)
@settings(max_examples=250, deadline=None)
def test_any_value_reads_back_as_it_was_written(value: Any) -> None:
    message = ValuePb()
    encode_into(message, value)
    assert in_order(decode(ValuePb.FromString(message.SerializeToString()))) == in_order(value)


@given(st.dictionaries(NAMES, SCALARS | st.lists(SCALARS, max_size=3), max_size=4))
@settings(max_examples=150, deadline=None)
def test_the_official_client_writes_the_same_bytes(fields: dict[str, Any]) -> None:
    ours, theirs = DocumentPb(), Document(fields=_helpers.encode_dict(fields))
    encode_fields_into(ours.fields, fields)
    assert ours.SerializeToString(deterministic=True) == Document.pb(theirs).SerializeToString(deterministic=True)


@given(st.dictionaries(NAMES, VALUES, max_size=4))
@settings(max_examples=100, deadline=None)
def test_a_document_reads_back_as_it_was_written(fields: dict[str, Any]) -> None:
    document = DocumentPb()
    encode_fields_into(document.fields, fields)
    assert in_order(decode_fields(DocumentPb.FromString(document.SerializeToString()).fields)) == in_order(fields)


@given(RECENT)
@settings(max_examples=100, deadline=None)
def test_times_keep_their_microseconds(time: datetime) -> None:
    message = ValuePb()
    encode_into(message, time)
    assert decode(message) == time
