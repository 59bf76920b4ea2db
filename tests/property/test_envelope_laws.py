"""A plain delivery is taken as it is: that says the same of it as the CloudEvents library, whatever its headers hold."""

from __future__ import annotations

from collections.abc import Mapping

from cloudevents.conversion import from_http
from cloudevents.exceptions import GenericException
from hypothesis import example, given
from hypothesis import strategies as st

from balance.functions.envelope import NotAnEvent, Raw, _Event, _text_as_json, opened
from tests.cloud_events import headers

ODD_HEADERS = (
    "content-type", "ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time", "ce-data", "ce-extensions", "ce-",
    "ce-self", "ce-_required_fields", "ce-datacontenttype", "ce-dataschema", "ce-ID", "x-other",
)  # fmt: skip
ODD_VALUES = ("", "1.0", "0.3", "application/protobuf", "application/cloudevents+json", "application/json", "%C3%A9", "é")
BODIES = st.one_of(st.binary(max_size=20), st.sampled_from([b"", b"{}", b"[1]", b"5", b'{"value": {}}', b" ", b"{"]))
CHANGES = st.dictionaries(
    st.sampled_from(ODD_HEADERS), st.one_of(st.none(), st.sampled_from(ODD_VALUES), st.text(max_size=10)), max_size=4
)


def library(sent: Mapping[str, str], body: bytes) -> tuple[object, object] | None:
    """The id and the data by the library; None when it refuses the request."""
    try:
        event = from_http(_Event, sent, body, _text_as_json)
    except (GenericException, ValueError, TypeError, AttributeError, RecursionError):
        return None
    event_id = event.get("id")
    return (event_id, event.get_data() or b"") if isinstance(event_id, str) else None


@given(CHANGES, BODIES)
@example({}, b"")
@example({}, b"{}")
@example({"ce-extensions": "x"}, b"1")
@example({"ce-datacontenttype": "application/json"}, b'{"value": {}}')
@example({"ce-specversion": "0.3"}, b"1")
@example({"ce-type": None}, b"1")
def test_an_event_is_what_the_library_says_it_is(changes: dict[str, str | None], body: bytes) -> None:
    sent = {name: value for name, value in (headers() | changes).items() if value is not None}
    if "ce-id" not in {name.lower() for name in sent}:
        sent["ce-id"] = "1"
    try:
        delivery = opened(Raw(sent, body))
    except NotAnEvent:
        assert library(sent, body) is None
    else:
        assert library(sent, body) == (delivery.event_id, delivery.data)
