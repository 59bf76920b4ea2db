"""Changes in words, and why an event does nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.events.cloud.firestore_v1 import DocumentEventData

from balance.core.ledger import Posting, delta
from balance.database.codec import encode_fields_into
from balance.documents.records import encode_delta
from balance.documents.settings import Settings
from console.words import Words, ago, delta_in_words, duration, tell
from scripts.output import User

ROOT = "projects/p/databases/(default)/documents"
SETTINGS = Settings()
EXPENSE = {"groupId": "g", "paidBy": "ana", "amount": 9, "currency": "EUR", "splits": [{"uid": "bo", "amount": 9}]}


def plain(sentences: list[Words]) -> list[str]:
    return ["".join(part.uid if isinstance(part, User) else part for part in words) for words in sentences]


def event(before: dict[str, Any] | None, after: dict[str, Any] | None) -> bytes:
    data = DocumentEventData.pb()()
    for side, fields in (("old_value", before), ("value", after)):
        if fields is not None:
            document = getattr(data, side)
            document.name = f"{ROOT}/expenses/e1"
            encode_fields_into(document.fields, fields)
            document.update_time.FromSeconds(1)
    body: bytes = data.SerializeToString()
    return body


def test_those_who_share_owe_the_payer_more() -> None:
    shares = [Posting(uid, "cleo", "EUR", 400) for uid in ("ana", "bo", "zoe")]
    told = plain(delta_in_words(encode_delta(delta([], shares)), SETTINGS, "expenses/e1"))
    assert sorted(told) == [f"{uid} owes cleo 4.00 EUR more" for uid in ("ana", "bo", "zoe")]
    less = plain(delta_in_words(encode_delta(delta(shares, [])), SETTINGS, "expenses/e1"))
    assert sorted(less) == [f"{uid} owes cleo 4.00 EUR less" for uid in ("ana", "bo", "zoe")]


def test_who_settles_owes_less() -> None:
    paid = encode_delta(delta([], [Posting("ana", "bo", "EUR", 400)]))
    assert plain(delta_in_words(paid, SETTINGS, "settlements/s1")) == ["bo owes ana 4.00 EUR less"]


@pytest.mark.parametrize("bent", [None, "x", {"EUR": 5}, {"EUR": {"ana": 5}}, {"EUR": {"ana": {"bo": "x"}}}])
def test_a_delta_that_somebody_has_bent_is_told_as_far_as_it_goes(bent: Any) -> None:
    assert len(delta_in_words(bent, SETTINGS, "expenses/e1")) <= 1


@pytest.mark.parametrize(
    ("before", "after", "verb", "why"),
    [
        (None, EXPENSE, "added", ""),
        (EXPENSE, None, "deleted", ""),
        (EXPENSE, {**EXPENSE, "deletedAt": datetime.now(UTC)}, "marked as deleted", ""),
        ({**EXPENSE, "deletedAt": datetime.now(UTC)}, EXPENSE, "restored", ""),
        (EXPENSE, {**EXPENSE, "groupId": "h"}, "moved from group g to h", ""),
        ({**EXPENSE, "currency": "EURO"}, EXPENSE, "corrected", ""),
        (EXPENSE, {**EXPENSE, "description": "tea"}, "edited", "nothing that counts"),
        (None, {**EXPENSE, "splits": []}, "added", "moves no money"),
        ({**EXPENSE, "deletedAt": datetime.now(UTC)}, None, "deleted", "deleted already"),
    ],
)
def test_what_an_event_says_of_its_document(before: Any, after: Any, verb: str, why: str) -> None:
    told = tell("expenses/e1", event(before, after), datetime.now(UTC), Settings())
    assert told.verb == verb
    assert why in told.nothing_because
    assert bool(told.nothing_because) == bool(why)
    assert "g" in told.groups


def test_an_event_that_cannot_be_read_says_so() -> None:
    assert tell("expenses/e1", b"\xff", None, Settings()).verb == "unreadable"


def test_durations_and_times_are_short() -> None:
    assert [duration(ms) for ms in (None, 12.4, 1_500, 90_000, 7_200_000)] == ["", "12 ms", "1.5 s", "2 min", "2.0 h"]
    now = datetime.now(UTC)
    passed = (0, 10, 90, 7_300, 200_000)
    assert [ago(now - timedelta(seconds=s), now) for s in passed] == ["now", "10 s ago", "1 min ago", "2 h ago", "2 d ago"]
    assert (ago(None), ago("x")) == ("never", "x")
