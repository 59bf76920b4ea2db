"""The write triggers: decode an event, hand it to the bookkeeper, log what became of it."""

import asyncio
import time
import traceback
from datetime import datetime

from balance.documents.balances import WARN_ABOVE_BYTES, Balance, Detail, size_bytes
from balance.documents.changes import Result
from balance.documents.outcome import Outcome
from balance.documents.records import encode_delta
from balance.documents.sources import Kind
from balance.functions import instance
from balance.operations.log import log
from balance.protocol.bookkeeper import Bookkeeper
from balance.protocol.events import Effect, SourceEvent, UnreadableEvent, decode, effect

METRICS = {
    Outcome.APPLIED: "incrementalUpdates",
    Outcome.REBUILT: "rebuilds",
    Outcome.DUPLICATE: "duplicates",
    Outcome.FAULT: "faults",
}
"""The counters of outcomes; an event that fails counts as `updateFailures`."""

_MAX_SIZES = 10_000


async def handle(kind: Kind, body: bytes, *, event_id: str, event_time: datetime | None) -> None:
    """Process one delivery. Returns when it may be acknowledged; raises when it must be redelivered."""
    started = time.perf_counter()
    try:
        event = decode(body, kind=kind, event_id=event_id, time=event_time)
    except UnreadableEvent as error:
        # Redelivery brings the same bytes: acknowledge, and leave a trace that raises the alert.
        log("ERROR", str(error), eventId=event_id, outcome=Outcome.UNREADABLE, metric="updateFailures")
        return
    try:
        keeper = instance.bookkeeper()
        consequences = effect(event, keeper.settings)
        results = await _processed(keeper, event, consequences)
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
        log("WARNING", f"{event.source}: {warning}", eventId=event_id, source=event.source)
    for result in results:
        _log_result(event, result, started)


async def _processed(keeper: Bookkeeper, event: SourceEvent, consequences: Effect) -> list[Result]:
    """What Bookkeeper.begin tells, waited for without a thread."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[list[Result]] = loop.create_future()

    def settle(outcome: list[Result] | Exception) -> None:
        # It is cancelled when nobody waits for the answer any more.
        if told.cancelled():
            return
        if isinstance(outcome, Exception):
            told.set_exception(outcome)
        else:
            told.set_result(outcome)

    def done(outcome: list[Result] | Exception) -> None:
        loop.call_soon_threadsafe(settle, outcome)

    keeper.begin(event, consequences, done)
    return await told


def _log_result(event: SourceEvent, result: Result, started: float) -> None:
    lag = result.committed_at - event.write.time if result.committed_at else None
    log(
        "WARNING" if result.outcome is Outcome.FAULT else "INFO",
        f"{event.source}: {result.outcome} in group {result.group_id}",
        eventId=event.event_id,
        outcome=result.outcome,
        groupId=result.group_id,
        source=event.source,
        delta=encode_delta(result.delta) or None,
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
