"""Hostile deliveries through functions-framework's own application: what no redelivery can cure is acknowledged.

The database behind it answers nothing, so a delivery is acknowledged exactly when there is nothing to write: its bytes are no
change, or the change moves no money. `tests/integration/test_hostile_events.py` does the same with a database.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from balance.database.firestore import Query, Snapshot, TransientError, Write
from balance.database.retry import Retry
from balance.documents.settings import Settings
from balance.documents.sources import Kind
from balance.functions import instance
from balance.protocol.bookkeeper import Bookkeeper
from balance.protocol.events import UnreadableEvent, decode, effect
from tests.cloud_events import EventDataPb, body, headers
from tests.entry_points import Trigger
from tests.property.firestore_values import EXPENSES, GOOD_EXPENSES, GOOD_SETTLEMENTS, RECENT, SETTLEMENTS, TEXT

WRITTEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
NO_FIXTURE_RESET = [HealthCheck.function_scoped_fixture]


class Unavailable:
    """A database that is down: the narrow protocol, of which everything fails for now."""

    def begin(self, *, retry_of: bytes = b"") -> NoReturn:
        raise TransientError("down")

    def get(self, paths: Sequence[str], *, read_time: datetime | None = None, timeout_s: float | None = None) -> NoReturn:
        raise TransientError("down")

    def commit(self, writes: Iterable[Write], *, timeout_s: float | None = None, max_bytes: int | None = None) -> NoReturn:
        raise TransientError("down")

    def query(self, query: Query, *, read_time: datetime | None = None) -> Iterator[Snapshot]:
        raise TransientError("down")


FUNCTIONS = {
    Kind.EXPENSE: Trigger("on_expense_written"),
    Kind.SETTLEMENT: Trigger("on_settlement_written"),
}


@pytest.fixture(autouse=True)
def _no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = Bookkeeper(Unavailable(), Settings(), updates_on=lambda: True, retry=Retry(attempts=1))
    monkeypatch.setattr(instance, "_bookkeeper", keeper)


def deliver(kind: Kind, data: bytes, sent: dict[str, str]) -> int:
    return FUNCTIONS[kind].deliver(data, sent)


def must_be_redelivered(kind: Kind, data: bytes) -> bool:
    """Whether these bytes tell of something to write."""
    try:
        event = decode(data, kind=kind, event_id="event-1", time=WRITTEN)
    except UnreadableEvent:
        return False
    consequences = effect(event, Settings())
    return consequences.malformed_in is not None or any(consequences.deltas.values())


IDS = st.sampled_from(["e", "café", "🍕", "a.b", "`", "__id7__", " "]) | TEXT.filter(lambda text: text and "/" not in text)


@st.composite
def changes(draw: st.DrawFn) -> tuple[Kind, bytes]:
    """A well-formed event of any two documents, either of which may be absent."""
    kind = draw(st.sampled_from(Kind))
    documents = st.one_of((EXPENSES, GOOD_EXPENSES) if kind is Kind.EXPENSE else (SETTLEMENTS, GOOD_SETTLEMENTS))
    times = RECENT | st.just(None)
    before, after = draw(st.none() | documents), draw(st.none() | documents)
    path = f"{kind}s/{draw(IDS)}"
    return kind, body(path, before=before, after=after, before_time=draw(times), after_time=draw(times))


@st.composite
def bent(draw: st.DrawFn) -> tuple[Kind, bytes]:
    """The bytes of an event, of which some were cut out, put in or changed."""
    kind, data = draw(changes())
    for _ in range(draw(st.integers(1, 3))):
        at, length = draw(st.integers(0, len(data))), draw(st.sampled_from([0, 1, 1, 2, 50]))
        data = data[:at] + draw(st.binary(max_size=3)) + data[at + length :]
    return kind, data


BYTES = st.tuples(
    st.sampled_from(Kind), st.binary(max_size=60) | st.sampled_from([b"{}", b"[1]", b'"x"', b"5", b"null", b"\xff" * 999])
)


@given(changes())
@settings(max_examples=200, deadline=None, suppress_health_check=NO_FIXTURE_RESET)
def test_any_change_of_any_document_is_acknowledged_unless_there_is_something_to_write(change: tuple[Kind, bytes]) -> None:
    kind, data = change
    assert deliver(kind, data, headers()) == (500 if must_be_redelivered(kind, data) else 200)


@given(bent() | BYTES)
@settings(max_examples=300, deadline=None, suppress_health_check=NO_FIXTURE_RESET)
def test_any_bytes_are_acknowledged_unless_they_tell_of_something_to_write(delivery: tuple[Kind, bytes]) -> None:
    kind, data = delivery
    assert deliver(kind, data, headers()) == (500 if must_be_redelivered(kind, data) else 200)


# What an HTTP header can carry.
HEADER_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=30)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["ce-id", "ce-time", "ce-source", "ce-type", "ce-subject", "ce-document", "ce-project", "ce-database", "ce-dataschema",
         "ce-x", "x-forwarded-for", "traceparent", "x-cloud-trace-context", "function-execution-id", "content-type"]
    ),
    HEADER_TEXT,
    max_size=4,
)  # fmt: skip


DELETED = body("expenses/e", after={"groupId": "g", "deletedAt": True}, after_time=WRITTEN)


@given(HEADERS, st.sampled_from([b"", b"\xff", DELETED]))
@settings(max_examples=200, deadline=None, suppress_health_check=NO_FIXTURE_RESET)
def test_no_header_fails_an_event_that_has_nothing_to_write(sent: dict[str, str], data: bytes) -> None:
    assert deliver(Kind.EXPENSE, data, headers() | sent) == 200


@given(
    st.sets(st.sampled_from(["ce-id", "ce-source", "ce-type", "ce-specversion", "ce-time", "content-type"]), max_size=4),
    st.sampled_from([b"", b"{}", b"null", b"\xff", b'{"specversion": "1.0"}', b'{"data": 5, "context": {}}'])
    | st.binary(max_size=30),
)
@settings(max_examples=150, deadline=None, suppress_health_check=NO_FIXTURE_RESET)
def test_a_request_that_is_no_event_is_answered_and_the_next_event_served(missing: set[str], data: bytes) -> None:
    sent = {name: value for name, value in headers().items() if name not in missing}
    assert deliver(Kind.EXPENSE, data, sent) in {200, 400, 415, 500}  # the framework's own answers
    assert deliver(Kind.EXPENSE, b"", headers()) == 200


@pytest.mark.parametrize("depth", [40, 2_000])
def test_endless_nesting_is_acknowledged(depth: int) -> None:
    data = b"\x08\x00"
    for _ in range(depth):  # array_value { values { array_value ... } }
        data = b"\x0a" + _varint(len(data)) + data
        data = b"\x4a" + _varint(len(data)) + data
    entry = b"\x0a\x01x\x12" + _varint(len(data)) + data
    document = EventDataPb.FromString(DELETED).value
    value = document.SerializeToString() + b"\x12" + _varint(len(entry)) + entry
    event = b"\x0a" + _varint(len(value)) + value
    assert deliver(Kind.EXPENSE, event, headers()) == 200


def _varint(number: int) -> bytes:
    head = b""
    while number > 127:
        head += bytes([number & 127 | 128])
        number >>= 7
    return head + bytes([number])


@pytest.mark.parametrize(
    ("side", "version", "time"),
    [("after", {}, "2026-03-01T12:00:00Z"), ("before", {}, "2026-03-01T12:00:00Z"), ("before", {"before_time": WRITTEN}, None)],
)
def test_a_missing_time_matters_only_where_there_is_something_to_write(
    side: str, version: dict[str, datetime], time: str | None
) -> None:
    def sent(document: dict[str, Any]) -> int:
        return deliver(Kind.EXPENSE, body("expenses/e", **{side: document}, **version), headers(time=time))  # type: ignore[arg-type]

    expense = {"groupId": "g", "paidBy": "a", "amount": 1, "currency": "USD", "splits": [{"uid": "b", "amount": 1}]}
    assert sent(expense | {"deletedAt": True}) == 200
    assert sent(expense) == 500
