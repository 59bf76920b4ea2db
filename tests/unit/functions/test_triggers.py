"""What is logged of an outcome: the fields by which alerts count and measure."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from balance.core.ledger import Ledger
from balance.documents.balances import Balance, of_ledger
from balance.documents.changes import Result
from balance.documents.outcome import Outcome
from balance.documents.sources import Kind
from balance.functions.triggers import METRICS, _log_result
from balance.protocol.events import SourceEvent, Version

WRITTEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVENT = SourceEvent(
    event_id="event-1", time=WRITTEN, source="expenses/e", kind=Kind.EXPENSE, before=None, after=Version({}, WRITTEN)
)


def logged(result: Result, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    _log_result(EVENT, result, time.perf_counter())
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture(autouse=True)
def deltas_are_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALANCE_LOG_DELTAS", "on")


def test_who_owes_whom_is_logged_only_when_that_is_switched_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BALANCE_LOG_DELTAS")
    (entry,) = logged(Result("g", Outcome.APPLIED, delta={"USD": {("a", "b"): 5}}), capsys)
    assert "delta" not in entry


@pytest.mark.parametrize(
    ("lag", "logged_ms"), [(timedelta(seconds=1.2345), 1_234), (timedelta(0), 0), (-timedelta(seconds=1), -1_000)]
)
def test_the_lag_is_a_number_of_milliseconds_from_commit_to_commit(
    lag: timedelta, logged_ms: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (entry,) = logged(Result("g", Outcome.APPLIED, WRITTEN + lag), capsys)
    assert (entry["lagMs"], type(entry["lagMs"])) == (logged_ms, int)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_is_told_and_some_are_counted(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    (entry,) = logged(Result("g", outcome, delta={"USD": {("a", "b"): 5}}), capsys)
    assert entry.pop("ms") >= 0
    assert entry.pop("message") == f"expenses/e: {outcome} in group g"
    counted = {"metric": METRICS[outcome]} if outcome in METRICS else {}
    assert entry == counted | {
        "severity": "WARNING" if outcome is Outcome.FAULT else "INFO",
        "eventId": "event-1",
        "outcome": str(outcome),
        "groupId": "g",
        "source": "expenses/e",
        "delta": {"USD": {"a": {"b": 5}}},
    }


def large(members: int) -> Balance:
    uids = [f"{number:028}" for number in range(members)]
    ledger: Ledger = {"USD": {(low, high): 1 for at, low in enumerate(uids) for high in uids[at + 1 :]}}
    return of_ledger(ledger)


def test_a_balance_that_takes_half_of_what_it_may_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(logged(Result("g", Outcome.APPLIED, WRITTEN, large(50)), capsys)) == 1
    _, warning = logged(Result("g", Outcome.APPLIED, WRITTEN, large(125)), capsys)
    assert warning["severity"] == "WARNING"
    assert warning["sizeBytes"] > 524_288
    assert (warning["groupId"], warning["detail"]) == ("g", "pairs")


def test_a_balance_that_has_fallen_to_nets_says_so_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    (entry,) = logged(Result("g", Outcome.APPLIED, WRITTEN, large(250)), capsys)
    assert entry["detail"] == "nets"
    (entry,) = logged(Result("g", Outcome.APPLIED, WRITTEN, large(3)), capsys)
    assert "detail" not in entry


def test_a_delta_too_large_for_an_entry_is_left_out_but_the_event_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    delta: Ledger = {"USD": {("ana", f"{number:0>1400}"): 5 for number in range(1_000)}}
    (entry,) = logged(Result("g", Outcome.APPLIED, WRITTEN + timedelta(seconds=1), delta=delta), capsys)
    assert "delta" not in entry
    assert entry["cut"]["delta"] > 1_400_000
    assert (entry["metric"], entry["lagMs"], entry["eventId"]) == ("incrementalUpdates", 1_000, "event-1")
    ordinary: Ledger = {"USD": {("ana", f"{number:028}"): 5 for number in range(1_000)}}
    (entry,) = logged(Result("g", Outcome.APPLIED, WRITTEN, delta=ordinary), capsys)
    assert len(entry["delta"]["USD"]["ana"]) == 1_000, "1,000 shares of ordinary uids are told"
