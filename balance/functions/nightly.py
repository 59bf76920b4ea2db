"""The nightly reconciliation: check all groups, as many as the time allows, and repair what is not true.

A run goes round all groups once, beginning after the last one that the run before it finished, and ends when it has come
round or its time is over. So every group has its turn however many there are. The faults of documents that name no usable
group belong to no group's turn: they come first, some at a time. The place is kept in the document `balanceReconcile/cursor`,
written by nobody else; two runs at a time do each other no harm. Whatever fails is logged and counted, and the run goes on with
what it can: a place that makes no sense is the beginning.
"""

import json
import math
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, takewhile
from typing import Any

from balance.database import budget
from balance.database.firestore import SERVER_TIME, Directory, Firestore, Query, Set, Snapshot, transaction
from balance.database.retry import Retry
from balance.documents.settings import Settings, updates_on
from balance.documents.sources import is_document_id
from balance.documents.tally import Tally
from balance.functions import instance
from balance.operations import reconcile
from balance.operations.backfill import reason
from balance.operations.fleet import group_ids, in_parallel
from balance.operations.log import log
from balance.operations.reconcile import LAG_ALLOWED, REPAIRABLE, Report, State
from balance.protocol import faults
from balance.protocol.bookkeeper import Bookkeeper

CURSOR = "balanceReconcile/cursor"

ANSWER_S = 525.0
"""The latest answer: before the platform cuts the function off (`timeoutSeconds`: 540)."""

BUDGET_S = 480.0
"""A minute less than the function may take: what is under way must end, and the place be kept."""

FAULTS_A_NIGHT = 1_000
"""Of no usable group. They are few, unless an app writes garbage; then they must not take the groups' time."""

LEAST_COVERAGE = 1 / 3
"""A run that checks a smaller share of the groups is told: a balance would wait for its check for more than three nights."""

MALFORMED_JUMP = 0.05
"""A rise of the share of malformed documents by so much since the run before is an alert."""

ENOUGH_DOCUMENTS = 20
"""Of fewer documents, one would be a jump."""

_WORKERS = 4
_KEEP_EVERY_S = 15.0
_DIFFERENCES_LOGGED = 50


@dataclass(frozen=True, slots=True)
class Night:
    """What a run did."""

    counts: Counter[str]
    """Groups by state, and `repaired`; `failed` is all that failed; `faults` of no usable group that were true no longer, and
    were settled."""
    came_round: bool
    """Every group was checked."""
    coverage: float | None = None
    """The share of the groups that were checked, from 0 to 1; None when that cannot be told."""
    tally: Tally = field(default_factory=Tally)
    """What became of the documents of the groups that were checked."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a run stopped: the ids of the last group and of the last fault of no usable group; None for the beginning."""

    group: str | None
    fault: str | None
    malformed_share: float | None = None
    """Of the documents that the run before looked at."""


def handle() -> tuple[str, int]:
    """The scheduled function; returns the answer's text and HTTP status: 500 when something failed."""
    with budget.within(ANSWER_S):
        night = run(instance.firestore(), instance.bookkeeper(), updates_on=partial(updates_on, os.environ))
    return json.dumps(night.counts), 500 if night.counts["failed"] else 200


def run(
    firestore: Directory,
    keeper: Bookkeeper,
    *,
    updates_on: Callable[[], bool] = lambda: True,
    budget_s: float = BUDGET_S,
    clock: Callable[[], float] = time.monotonic,
) -> Night:
    """One run. Does nothing while updates are off, for then balances are stale on purpose. Raises nothing of a database."""
    counts: Counter[str] = Counter()
    if not updates_on():
        log("WARNING", "reconciliation: updates are switched off, nothing is checked")
        return Night(counts, came_round=False)
    began = clock()
    kept = began

    def in_time(_: object) -> bool:
        return clock() < began + budget_s

    @contextmanager
    def counting_failure(what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever fails is named and counted, and the rest of the run goes on
            counts["failed"] += 1
            _log_failure(what, error)

    place = _Place(None, None)
    with counting_failure("its place cannot be read"):
        place = _load(firestore)
    start, checked, came_round, tally = place.group, 0, False, Tally()
    with counting_failure("the faults of no usable group cannot be listed"):
        counted, last_fault = _refresh_faults(firestore, keeper.settings, place.fault, in_time)
        counts.update(counted)
        place = replace(place, fault=last_fault)

    def ids() -> Iterator[str]:
        nonlocal came_round
        with counting_failure("the groups cannot be listed"):
            yield from takewhile(in_time, _round(firestore, keeper.settings, start))
            came_round = in_time(None)

    for group_id, found, read in in_parallel(ids(), lambda group_id: _reconcile(firestore, keeper, group_id), _WORKERS):
        counts.update(found)
        tally.add(read)
        checked += 1
        place = replace(place, group=group_id)
        if clock() > kept + _KEEP_EVERY_S:
            with counting_failure("its place cannot be kept"):
                _keep(firestore, place)
            kept = clock()
    was, share = place.malformed_share, malformed_share(tally)
    place = replace(place, malformed_share=was if share is None else share)
    with counting_failure("its place cannot be kept"):
        _keep(firestore, replace(place, group=None) if came_round else place)
    coverage: float | None = None
    with counting_failure("the groups cannot be counted"):
        total = Retry().run(lambda: firestore.count(keeper.settings.layout.groups))
        coverage = 1.0 if came_round else min(1.0, checked / total) if total else 0.0
    night = Night(counts, came_round, coverage, tally)
    _log_run(night, round((clock() - began) * 1000))
    if share is not None and share - (was or 0.0) >= MALFORMED_JUMP:
        _log_jump(was, share, tally)
    return night


def _log_run(night: Night, took_ms: int) -> None:
    counts, percent = night.counts, None if night.coverage is None else round(night.coverage * 100, 1)
    log(
        "ERROR" if counts["failed"] else "INFO",
        "reconciliation: " + (", ".join(f"{count} {what}" for what, count in sorted(counts.items()) if count) or "no groups"),
        counts={what: count for what, count in counts.items() if count},
        cameRound=night.came_round,
        coveragePercent=percent,
        documents=night.tally.as_json(),
        metric="nightlyRuns",
        ms=took_ms,
    )
    if night.coverage is not None and night.coverage < LEAST_COVERAGE:
        log(
            "WARNING",
            f"reconciliation: only {percent} % of the groups were checked; so each has its turn every "
            f"{'few' if not night.coverage else math.ceil(1 / night.coverage)} nights",
            coveragePercent=percent,
            metric="nightlyShortfalls",
        )


def malformed_share(tally: Tally) -> float | None:
    """Of the documents that should be in a balance, the share that is in none, from 0 to 1; None when there are too few."""
    wanted = tally.parsed + tally.malformed
    return tally.malformed / wanted if wanted >= ENOUGH_DOCUMENTS else None


def _log_jump(was: float | None, share: float, tally: Tally) -> None:
    most = tally.by_count()[0]
    before = "" if was is None else f", up from {was:.1%}"
    log(
        "ERROR",
        f"reconciliation: {share:.1%} of the documents are in no balance{before}; most often {most.field} {most.reason},"
        f" such as in {most.example}",
        documents=tally.as_json(),
        metric="malformedJumps",
    )


def _round(firestore: Firestore, settings: Settings, start: str | None) -> Iterator[str]:
    """All groups once, beginning after this one."""
    if start is None:
        return group_ids(firestore, settings.layout)
    # Firestore orders ids by their UTF-8 bytes, which is Python's order of strings.
    return chain(
        group_ids(firestore, settings.layout, start),
        takewhile(lambda group_id: group_id <= start, group_ids(firestore, settings.layout)),
    )


def _reconcile(firestore: Firestore, keeper: Bookkeeper, group_id: str) -> tuple[str, list[str], Tally]:
    """Check one group and repair it; what is to be counted, of groups and of documents."""
    started = time.perf_counter()
    counted = []
    tally = Tally()
    try:
        report = Retry().run(lambda: reconcile.check(firestore, keeper.settings, group_id))
        counted.append(str(report.state))
        tally = report.tally or tally
        if report.state in REPAIRABLE:
            _log_found(report, started)
            tally = reconcile.repair(firestore, keeper, group_id).tally or tally
            counted.append("repaired")
    except Exception as error:  # noqa: BLE001 - one group must not stop the others: it is named and counted
        counted.append("failed")
        _log_failure(f"group {group_id}", error, groupId=group_id)
    return group_id, counted, tally


def _log_found(report: Report, started: float) -> None:
    is_drift = report.state is State.DRIFT
    log(
        "ERROR" if is_drift else "INFO",
        f"reconciliation: group {report.group_id} is {report.state} and will be rebuilt",
        groupId=report.group_id,
        state=report.state,
        # What is missing or stale is no drift: its readers know.
        metric="drift" if is_drift else "rebuilds",
        differences=[difference.as_json() for difference in report.differences[:_DIFFERENCES_LOGGED]] or None,
        differenceCount=len(report.differences) or None,
        lagAllowedMs=round(LAG_ALLOWED.total_seconds() * 1000) if is_drift else None,
        ms=round((time.perf_counter() - started) * 1000, 1),
    )


def _log_failure(what: str, error: Exception, **fields: Any) -> None:
    """To be called while the error is handled, for its stack."""
    stack = traceback.format_exc()
    log("ERROR", f"reconciliation: {what}: {reason(error)}", **fields, metric="updateFailures", stack=stack)


def _refresh_faults(
    firestore: Firestore, settings: Settings, start: str | None, in_time: Callable[[object], bool]
) -> tuple[list[str], str | None]:
    """Settle some of the faults that name no usable group; returns what is to be counted, and where to go on.

    The event that healed or removed such a document may be lost, and no group's turn comes upon the fault.
    """
    query = Query(collection=settings.layout.faults(None), after_id=start, limit=FAULTS_A_NIGHT)
    stored = Retry().run(lambda: list(firestore.query(query)))
    results = list(in_parallel(takewhile(in_time, stored), lambda fault: _refresh_fault(firestore, settings, fault), _WORKERS))
    done = len(results)
    came_round = done == len(stored) < FAULTS_A_NIGHT
    last = None if came_round else stored[done - 1].path.rpartition("/")[2] if done else start
    return list(chain.from_iterable(results)), last


def _refresh_fault(firestore: Firestore, settings: Settings, fault: Snapshot) -> list[str]:
    source = (fault.fields or {}).get("source")
    try:
        if not Retry().run(lambda: faults.refresh(firestore, settings, fault)):
            return []
    except Exception as error:  # noqa: BLE001 - one fault must not stop the others: it is named and counted
        _log_failure(f"the fault {fault.path} of {source}", error, source=source)
        return ["failed"]
    log("INFO", f"reconciliation: the fault {fault.path} of {source} was true no longer: it has been settled", source=source)
    return ["faults"]


def _load(firestore: Firestore) -> _Place:
    (cursor,) = Retry().run(lambda: firestore.get([CURSOR]))

    def id_at(name: str) -> str | None:
        value = (cursor.fields or {}).get(name)
        if value is None or is_document_id(value):
            return value
        # Somebody else wrote it. Begun at the beginning, the run writes a place that makes sense.
        log("WARNING", f"reconciliation: {name} of {CURSOR} is {value!r}, which is no id: the run begins at the beginning")
        return None

    share = (cursor.fields or {}).get("malformedShare")
    return _Place(id_at("afterId"), id_at("afterFault"), share if isinstance(share, float) and 0 <= share <= 1 else None)


def _keep(firestore: Firestore, place: _Place) -> None:
    def write() -> None:
        with transaction(firestore) as attempt:
            attempt.get([CURSOR])
            kept = {"afterId": place.group, "afterFault": place.fault, "malformedShare": place.malformed_share}
            attempt.commit([Set(CURSOR, {**kept, "updatedAt": SERVER_TIME})])

    Retry().run(write)
