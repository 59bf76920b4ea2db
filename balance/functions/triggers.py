"""The triggers: decode an event, hand it to the bookkeeper, log what became of it."""

import asyncio
import os
import time
import traceback
from collections.abc import Callable
from datetime import datetime

from balance.database import budget
from balance.database.budget import OutOfTime
from balance.documents.balances import WARN_ABOVE_BYTES, Balance, Detail, size_bytes
from balance.documents.changes import Result
from balance.documents.outcome import Outcome
from balance.documents.records import encode_delta
from balance.documents.settings import deltas_logged
from balance.documents.sources import Kind
from balance.functions import instance
from balance.functions.envelope import Raw
from balance.operations.log import log
from balance.protocol.bookkeeper import Bookkeeper, Processed
from balance.protocol.events import Body, Effect, SourceEvent, UnreadableEvent, decode, decode_group, effect

METRICS = {
    Outcome.APPLIED: "incrementalUpdates",
    Outcome.REBUILT: "rebuilds",
    Outcome.DUPLICATE: "duplicates",
    Outcome.FAULT: "faults",
}
"""The counters of outcomes; an event that fails counts as `updateFailures`."""

ANSWER_S = 110.0
"""The latest answer: there is time left to log why, before the platform cuts the function off (`timeoutSeconds`: 120)."""

_MAX_SIZES = 10_000


def log_unreadable(error: Exception, raw: Raw | None, event_id: str | None = None) -> None:
    """Leave a trace of a delivery that is not understood: it raises the alert, and tells what there is to find its group by."""
    log(
        "ERROR",
        str(error),
        eventId=event_id,
        outcome=Outcome.UNREADABLE,
        metric="updateFailures",
        **({} if raw is None else raw.as_log()),
    )


async def handle(kind: Kind, body: Body, *, event_id: str, event_time: datetime | None, raw: Raw | None = None) -> None:
    """Process one delivery. Returns when it may be acknowledged; raises when it must be redelivered."""
    started = time.perf_counter()
    try:
        event = decode(body, kind=kind, event_id=event_id, time=event_time)
    except UnreadableEvent as error:
        # Redelivery brings the same bytes: acknowledge.
        log_unreadable(error, raw, event_id)
        return
    try:
        keeper = instance.bookkeeper()
        consequences = effect(event, keeper.settings)
        processed = await _processed(keeper, event, consequences)
        for result in processed.results:
            _log_result(event, result, started)
        if processed.error is not None:
            raise processed.error
    except Exception as error:
        log(
            "ERROR",
            f"{event.source}: {type(error).__name__}: {error}",
            eventId=event_id,
            source=event.source,
            metric="updateFailures",
            ms=_ms_since(started),
            stack=traceback.format_exc(),
        )
        raise
    for warning in consequences.warnings:
        log("WARNING", f"{event.source}: {warning}", eventId=event_id, source=event.source, metric="mismatches")
    if event.written_at is None and any(consequences.deltas.values()):
        # It is put right, but an event that lacks its time is not what the platform sends.
        log(
            "ERROR",
            f"{event.source}: the event does not tell when the document was written; the balance was rebuilt",
            eventId=event_id,
            source=event.source,
            metric="updateFailures",
        )


def handle_group(body: Body, *, event_id: str, is_created: bool, raw: Raw | None = None) -> None:
    """Process one delivery that tells of a group's creation or deletion; as `handle`."""
    started = time.perf_counter()
    keeper = instance.bookkeeper()
    try:
        group_id = decode_group(body, keeper.settings.layout)
    except UnreadableEvent as error:
        log_unreadable(error, raw, event_id)
        return
    what = f"the group {group_id} was {'created' if is_created else 'deleted'}"
    act: Callable[[str], Result] = keeper.group_created if is_created else keeper.group_deleted
    try:
        with budget.within(ANSWER_S):
            result = act(group_id)
    except Exception as error:
        log(
            "ERROR",
            f"{what}: {type(error).__name__}: {error}",
            eventId=event_id,
            groupId=group_id,
            metric="updateFailures",
            ms=_ms_since(started),
            stack=traceback.format_exc(),
        )
        raise
    log(
        "INFO",
        f"{what}: {result.outcome}",
        eventId=event_id,
        outcome=result.outcome,
        groupId=group_id,
        metric=METRICS.get(result.outcome),
        ms=_ms_since(started),
    )


async def _processed(keeper: Bookkeeper, event: SourceEvent, consequences: Effect) -> Processed:
    """What became of an event; no thread waits for it."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[Processed] = loop.create_future()

    def settle(processed: Processed) -> None:
        # It is cancelled when nobody waits for the answer any more.
        if not told.cancelled():
            told.set_result(processed)

    def done(processed: Processed) -> None:
        loop.call_soon_threadsafe(settle, processed)

    keeper.begin(event, consequences, done)
    try:
        async with asyncio.timeout(ANSWER_S):
            return await told
    except TimeoutError:
        raise OutOfTime(f"not done within {ANSWER_S:g} s; it may still be, and the event is delivered again") from None


def _log_result(event: SourceEvent, result: Result, started: float) -> None:
    written_at = event.written_at
    lag = result.committed_at - written_at if result.committed_at and written_at else None
    log(
        "WARNING" if result.outcome is Outcome.FAULT else "INFO",
        f"{event.source}: {result.outcome} in {'no group' if result.group_id is None else f'group {result.group_id}'}",
        eventId=event.event_id,
        outcome=result.outcome,
        groupId=result.group_id,
        source=event.source,
        delta=(encode_delta(result.delta) or None) if deltas_logged(os.environ) else None,
        detail=result.balance.detail if result.balance is not None and result.balance.detail is not Detail.PAIRS else None,
        metric=METRICS.get(result.outcome),
        lagMs=None if lag is None else round(lag.total_seconds() * 1000),
        ms=_ms_since(started),
    )
    if result.balance is not None and (size := _counted_bytes(result.group_id, result.balance)) > WARN_ABOVE_BYTES:
        log(
            "WARNING",
            f"the balance of group {result.group_id} takes {size} bytes, more than half of what a document may hold",
            groupId=result.group_id,
            sizeBytes=size,
            detail=result.balance.detail,
        )


_sizes: dict[str | None, tuple[int, int]] = {}
"""By group: how many pairs and nets its balance had when its bytes were counted, and how many bytes."""


def _counted_bytes(group_id: str | None, balance: Balance) -> int:
    """What the balance's document takes; counted only when it has another number of entries than before."""
    entries = sum(map(len, balance.ledger.values())) + sum(map(len, balance.nets.values()))
    known = _sizes.get(group_id)
    if known is not None and known[0] == entries:
        return known[1]
    if len(_sizes) >= _MAX_SIZES:
        _sizes.clear()
    size = size_bytes(balance)
    _sizes[group_id] = entries, size
    return size


def _ms_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 1)
