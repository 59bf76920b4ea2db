"""The read API over HTTPS: whose request it is, what it asks for, and the answer as JSON.

    GET /groups/{groupId}/balance?includes=    a group's balance, once it holds certain writes
    GET /groups/{groupId}/explain?from=&to=    why one member owes another
    GET /balances?pageSize=&pageToken=         the caller's groups, each with its balance
    GET /totals                                what the caller owes and is owed over all groups

deploy/openapi.yaml describes it in full. Every error is `{"error": {"code", "message"}}` with a code that stays; what went
wrong inside is logged and not told. Whoever is signed in can tell a group that is not theirs (403) from one that does not
exist (404): group ids are not secrets, and a client must know whether it was removed from a group or the group is gone.

What a caller makes us read beyond stored balances is counted; who has caused too much waits (429).
"""

import json
import os
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from datetime import datetime
from functools import lru_cache
from typing import Any

from flask import Request, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import Map, Rule

from balance import adapter
from balance.database import budget
from balance.database.firestore import Firestore, Query, Snapshot, TransientError
from balance.database.retry import Retry
from balance.documents.settings import Settings, allowed_origins, app_check_required, reads_per_minute, revocation_checked
from balance.documents.sources import group as adapted
from balance.documents.sources import is_deleted, is_document_id, members, uid_fault
from balance.functions import instance
from balance.functions.identity import Unauthenticated, VerificationUnavailable, uid_of
from balance.operations import explain, includes
from balance.operations.budgets import CountedReads, OverBudget, ReadBudgets
from balance.operations.log import log
from balance.operations.reading import Cause, Reader, Reading, Unreadable, as_json, history_slot, net_by_currency
from balance.operations.room import NoRoom, Room, Share
from balance.operations.shared_answers import Answers
from balance.operations.totals import Totals
from balance.protocol.bookkeeper import Bookkeeper

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 100
MAX_PAGE_BYTES = 8 * 1024 * 1024
"""A page of balances ends early rather than exceed this. Cloud Run bears 32 MiB; a phone does not."""

BALANCES_AT_ONCE = 50
"""So many stored balances are read at a time, if they are as small as most."""

PORTION_BYTES = 4 * 1024 * 1024
"""What is read at a time: a balance may have a megabyte, and takes six times that here."""

_LISTS = Room(3 * (PORTION_BYTES + MAX_PAGE_BYTES), wait_s=9.0)
"""For the balances of all lists that are being answered: three of large ones at a time, many of small ones."""

MAX_TOTALS_GROUPS = 2_000
_CHUNK = 300
_PREFLIGHT_SECONDS = 3600
_UNREADABLE = "the balance cannot be read at the moment"

# Falling back reads whole histories: all lists together do so many at once, whatever is asked of one instance.
_FALLBACKS = ThreadPoolExecutor(16, thread_name_prefix="fallback")

# Kept when it is whole. Pages are of one order only if read one after the other: an edit that moves no money, and so leaves the
# balance as it is, puts a transaction first; it would be on no page between a kept one and a later one.
_EXPLANATIONS: Answers[dict[str, Any]] = Answers(
    16 * 1024 * 1024, lambda answer: len(str(answer)), keeps=lambda answer: answer["nextPageToken"] is None
)

ANSWER_S = 50.0
"""The latest answer: before the platform cuts the function off (`timeoutSeconds`: 60)."""

# A caller is waiting: what does not work at once is soon given up. There is time for one read on a connection that has gone
# silent, and for another one on the next.
_RETRY = Retry(attempts=4, max_delay_s=0.5, within_s=9.0)

# Whole histories are read.
_FALLBACK_RETRY = Retry(attempts=4, max_delay_s=0.5)

_ROUTES = Map(
    [
        Rule("/groups/<group_id>/balance", endpoint="balance", methods=["GET"]),
        Rule("/groups/<group_id>/explain", endpoint="explain", methods=["GET"]),
        Rule("/balances", endpoint="balances", methods=["GET"]),
        Rule("/totals", endpoint="totals", methods=["GET"]),
    ],
    # A path is right or wrong: no redirects.
    merge_slashes=False,
    strict_slashes=True,
)


class _Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, dict(headers or {})


def handle(request: Request) -> Response:
    """Answer one request. Raises InvalidSetting when the service is not configured, nothing else."""
    origins = allowed_origins(os.environ)
    try:
        with budget.within(ANSWER_S):
            response = _respond(request)
    except _Refusal as refusal:
        response = _refused(refusal)
    except HTTPException as error:
        # The library's own, such as for a query that is no text.
        response = _refused(
            _Refusal(error.code or 500, "INVALID_ARGUMENT", error.description or "the request is not understood")
        )
    _allow_origin(request, response, origins)
    return response


def _refused(refusal: _Refusal) -> Response:
    response = _json({"error": {"code": refusal.code, "message": refusal.message}}, refusal.status)
    response.headers.update(refusal.headers)
    return response


def _respond(request: Request) -> Response:
    endpoint, arguments, methods = _route(request)
    if request.method == "OPTIONS":
        return Response(status=204, headers={"Allow": methods})
    try:
        if app_check_required(os.environ):
            from balance.functions.appcheck import verify_app

            verify_app(request.headers.get("X-Firebase-AppCheck"))
        uid = uid_of(request.headers.get("Authorization"), check_revoked=revocation_checked(os.environ))
        answer = _ENDPOINTS[endpoint](request, uid, **arguments)
        return answer if isinstance(answer, Response) else _json(answer, 200)
    except OverBudget as error:
        log("WARNING", f"{request.method} {request.path}: {error}", uid=uid, metric="throttled")
        raise _Refusal(429, "TOO_MANY_READS", str(error), {"Retry-After": str(error.retry_after_s)}) from None
    except Unauthenticated as error:
        raise _Refusal(401, "UNAUTHENTICATED", str(error), {"WWW-Authenticate": "Bearer"}) from None
    except (_Refusal, HTTPException):
        raise
    except (TransientError, VerificationUnavailable, Unreadable, NoRoom) as error:
        _log_failure(f"{request.method} {request.path}", error)
        raise _Refusal(503, "BALANCE_READ_ERROR", _UNREADABLE, {"Retry-After": "1"}) from error
    except Exception as error:
        _log_failure(f"{request.method} {request.path}", error)
        raise _Refusal(500, "BALANCE_READ_ERROR", "the balance could not be read") from error


def _route(request: Request) -> tuple[str, Mapping[str, Any], str]:
    """The endpoint, its arguments and the methods allowed there; for OPTIONS too."""
    routes = _ROUTES.bind("")
    allowed = ", ".join(["GET", "HEAD", "OPTIONS"])
    method = "GET" if request.method == "OPTIONS" else request.method
    try:
        endpoint, arguments = routes.match(request.path, method=method, websocket=False)
    except NotFound:
        raise _Refusal(404, "NOT_FOUND", "there is nothing at this path") from None
    except MethodNotAllowed:
        raise _Refusal(405, "METHOD_NOT_ALLOWED", "this API is read with GET", {"Allow": allowed}) from None
    return endpoint, arguments, allowed


# ----------------------------------------------------------------------------------------------------------- endpoints


def _balance(request: Request, uid: str, group_id: str) -> dict[str, Any]:
    started = time.perf_counter()
    settings = _keeper().settings
    group, stored = _read_as_member(uid, group_id, settings.layout.balance(group_id))
    asked = _includes(request, settings, group_id, group.read_time)
    reader = _reader()
    reading = reader.judge(group, stored)
    held: frozenset[str] = frozenset()
    if asked and (isinstance(reading, Reading) or reading is Cause.NO_DETAIL):
        _budgets().check(uid)
        with _charged(uid) as firestore:
            found = includes.wait(firestore, settings, group_id, asked, _RETRY)
        stored, held = found.stored, found.held
        reading = reader.judge(group, stored)
    if isinstance(reading, Cause):
        reading = _fall_back(uid, group, stored, reading)
    _log_reading(reading, started, group_id)
    answer = as_json(reading, _members(group))
    if asked:
        answer["includes"] = includes.told(asked, held, reading.document["asOf"], group.read_time)
    return answer


def _explain(request: Request, uid: str, group_id: str) -> dict[str, Any]:
    started = time.perf_counter()
    parameters = _parameters(request, "from", "to", "pageSize", "pageToken")
    debtor, creditor = (_uid_parameter(parameters, name) for name in ("from", "to"))
    size, after = _page_size(parameters, explain.DEFAULT_PAGE_SIZE, explain.MAX_PAGE_SIZE), _place(parameters)
    settings = _keeper().settings
    group, stored = _read_as_member(uid, group_id, settings.layout.balance(group_id))

    def compute() -> dict[str, Any]:
        with history_slot(), _charged(uid) as firestore:
            account = _RETRY.run(
                lambda: explain.read_account(
                    firestore, settings, group_id, group.read_time, (debtor, creditor), size=size, after=after
                )
            )
        return explain.as_json(group_id, account, debtor, creditor, settings.unit)

    # As long as a balance that is served does not change, neither do the sums that explain it.
    is_first = after is None
    version = stored.update_time if is_first and isinstance(_reader().judge(group, stored), Reading) else None
    with _budgets().turn(uid):
        answer = _EXPLANATIONS.get((group_id, debtor, creditor, size, after), version, compute)
    log("INFO", f"group {group_id}: a debt was explained", groupId=group_id, ms=_ms_since(started))
    return answer


def _in_room(endpoint: Callable[[Request, str, Share], dict[str, Any]]) -> Callable[..., Response]:
    """An endpoint with a share of the room for lists, until its answer is written."""

    def answer(request: Request, uid: str) -> Response:
        with _LISTS.share() as share:
            return _json(endpoint(request, uid, share), 200)

    return answer


def _balances(request: Request, uid: str, share: Share) -> dict[str, Any]:
    started = time.perf_counter()
    parameters = _parameters(request, "pageSize", "pageToken")
    size, after = _page_size(parameters, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE), _page_token(parameters)
    settings = _keeper().settings
    groups = _RETRY.run(lambda: _groups_of(instance.firestore(), settings, uid, after, size + 1))
    page, more = groups[:size], len(groups) > size
    told: list[dict[str, Any]] = []
    last, room = None, MAX_PAGE_BYTES
    for group, reading in _readings(uid, [group for group in page if not _is_deleted(group)], share, started):
        entry = _entry(uid, group, reading, settings)
        room -= len(json.dumps(entry, ensure_ascii=False).encode())
        if told and room < 0:
            return {"groups": told, "nextPageToken": last}
        told.append(entry)
        last = _id(group)
    return {"groups": told, "nextPageToken": _id(page[-1]) if more else None}


def _entry(uid: str, group: Snapshot, reading: Reading | _Refusal, settings: Settings) -> dict[str, Any]:
    if isinstance(reading, _Refusal):
        return {"groupId": _id(group), "error": {"code": reading.code, "message": reading.message}}
    return {
        "groupId": _id(group),
        "netByCurrency": net_by_currency(reading, uid, settings.unit),
        "balance": as_json(reading, _members(group)),
    }


def _totals(request: Request, uid: str, share: Share) -> dict[str, Any]:
    started = time.perf_counter()
    _parameters(request)
    settings, totals = _keeper().settings, Totals(uid)
    unreadable = []
    seen, after = 0, None
    while True:
        chunk = _RETRY.run(lambda after=after: _groups_of(instance.firestore(), settings, uid, after, _CHUNK))  # type: ignore[misc]
        seen += len(chunk)
        if seen > MAX_TOTALS_GROUPS:
            raise _Refusal(400, "TOO_MANY_GROUPS", f"totals are given for up to {MAX_TOTALS_GROUPS} groups; add up /balances")
        is_last = len(chunk) < _CHUNK
        living = [group for group in chunk if not _is_deleted(group)]
        for group, reading in _readings(uid, living, share, started, is_last=is_last):
            if isinstance(reading, _Refusal):
                unreadable.append({"groupId": _id(group), "error": {"code": reading.code, "message": reading.message}})
            else:
                totals.add(_id(group), reading.balance, reading.document["faults"])
        if is_last:
            return {**totals.as_json(settings.unit), "unreadable": unreadable}
        after = _id(chunk[-1])


_ENDPOINTS: dict[str, Callable[..., dict[str, Any] | Response]] = {
    "balance": _balance,
    "explain": _explain,
    "balances": _in_room(_balances),
    "totals": _in_room(_totals),
}


# ------------------------------------------------------------------------------------------------------------- reading


def _keeper() -> Bookkeeper:
    return instance.bookkeeper(_FALLBACK_RETRY)


@lru_cache(maxsize=1)
def _reader_of(keeper: Bookkeeper) -> Reader:
    return Reader(instance.firestore(), keeper, os.environ)


def _reader() -> Reader:
    return _reader_of(_keeper())


@lru_cache(maxsize=1)
def _budgets_of(per_minute: int) -> ReadBudgets:
    return ReadBudgets(per_minute)


def _budgets() -> ReadBudgets:
    return _budgets_of(reads_per_minute(os.environ))


@contextmanager
def _charged(uid: str) -> Iterator[Firestore]:
    """The database; what is read of it is charged to the caller, whatever comes of it."""
    counted = CountedReads(instance.firestore())
    try:
        yield counted
    finally:
        _budgets().charge(uid, counted.reads)


def _fall_back(uid: str, group: Snapshot, stored: Snapshot, cause: Cause) -> Reading:
    """A balance that is not served as it stands, on the caller's account. Raises OverBudget, Unreadable, TransientError."""
    budgets = _budgets()
    budgets.check(uid)
    reading = _FALLBACK_RETRY.run(lambda: _reader().fall_back(group, stored, cause))
    budgets.charge(uid, reading.reads)
    return reading


def _read_as_member(uid: str, group_id: str, *beside: str) -> list[Snapshot]:
    """A group's document and others beside it, all at one instant; refuses whoever is no member."""
    if not is_document_id(group_id):
        raise _invalid("the path does not hold a group's id")
    paths = [_keeper().settings.layout.group(group_id), *beside]
    group, *others = _RETRY.run(lambda: instance.firestore().get(paths))
    if group.fields is None:
        raise _Refusal(404, "GROUP_NOT_FOUND", "there is no such group")
    if uid not in _members(group):
        raise _Refusal(403, "FORBIDDEN", "only members of the group may read its balance")
    return [group, *others]


def _members(group: Snapshot) -> list[str]:
    return members(group.fields or {})


def _groups_of(firestore: Firestore, settings: Settings, uid: str, after: str | None, limit: int) -> list[Snapshot]:
    """So many of the groups that a user is a member of, in the order of their ids, with one query."""
    collection, select = settings.layout.groups, (adapter.MEMBERS_FIELD, adapter.DELETED_FIELD)
    if not settings.members_as_map:
        where = (adapter.MEMBERS_FIELD, "array-contains", uid)
        return list(firestore.query(Query(collection=collection, where=where, after_id=after, limit=limit, select=select)))
    # Firestore orders the matches by the user's entry in the map. A cursor for that would hold whatever the app keeps there,
    # so all of the user's groups are read and put in order here.
    found = firestore.query(Query(collection=collection, having=(adapter.MEMBERS_FIELD, uid), select=select))
    later = [group for group in found if after is None or group.path.rpartition("/")[2] > after]
    return sorted(later, key=lambda group: group.path)[:limit]


def _readings(
    uid: str, groups: Sequence[Snapshot], share: Share, started: float, *, is_last: bool = True
) -> Iterator[tuple[Snapshot, Reading | _Refusal]]:
    """The reading of each group, or why one cannot be had, which must not keep the others from the caller.

    They are read as they are asked for, a portion at a time. `is_last`: the request reads no others. Raises NoRoom.
    """
    firestore, layout = instance.firestore(), _keeper().settings.layout
    done = 0
    while done < len(groups):
        share.take(PORTION_BYTES + MAX_PAGE_BYTES)
        paths = [layout.balance(_id(group)) for group in groups[done : done + BALANCES_AT_ONCE]]
        stored, size_bytes = _RETRY.run(lambda paths=paths: firestore.get_within(paths, PORTION_BYTES))  # type: ignore[misc]
        portion = groups[done : done + len(stored)]
        done += len(stored)
        if is_last and done == len(groups):
            # Most lists end here: others need not wait while this one recalculates what is not stored.
            share.keep(size_bytes + MAX_PAGE_BYTES if len(stored) < len(groups) else size_bytes)
        yield from _portion(uid, portion, stored, started)


def _portion(
    uid: str, groups: Sequence[Snapshot], stored: Sequence[Snapshot], started: float
) -> list[tuple[Snapshot, Reading | _Refusal]]:
    reader = _reader()

    def fall_back(group: Snapshot, snapshot: Snapshot, cause: Cause) -> Reading | _Refusal:
        try:
            reading = _fall_back(uid, group, snapshot, cause)
        except OverBudget as error:
            return _Refusal(429, "TOO_MANY_READS", str(error))
        except Exception as error:  # noqa: BLE001 - as in _respond, for one group of many
            _log_failure(f"the balance of group {_id(group)}", error)
            return _Refusal(503, "BALANCE_READ_ERROR", _UNREADABLE)
        _log_reading(reading, started, _id(group))
        return reading

    judged = [reader.judge(group, snapshot) for group, snapshot in zip(groups, stored, strict=True)]
    served = sum(isinstance(reading, Reading) for reading in judged)
    if served:
        log("INFO", f"{served} balances read", metric="precomputedReads", groups=served, ms=_ms_since(started))
    readings = [
        _FALLBACKS.submit(copy_context().run, fall_back, group, snapshot, reading) if isinstance(reading, Cause) else reading
        for group, snapshot, reading in zip(groups, stored, judged, strict=True)
    ]
    return [
        (group, reading.result() if isinstance(reading, Future) else reading)
        for group, reading in zip(groups, readings, strict=True)
    ]


def _id(group: Snapshot) -> str:
    return group.path.rpartition("/")[2]


def _is_deleted(group: Snapshot) -> bool:
    return is_deleted(adapted(group.fields or {})) is True


# ---------------------------------------------------------------------------------------------------------- parameters


def _parameters(request: Request, *known: str) -> dict[str, str]:
    """The query's parameters, each of which must be known, and given once."""
    _refuse_unknown(request, *known)
    for name in known:
        if len(request.args.getlist(name)) > 1:
            raise _invalid(f"{name} is given more than once")
    return {name: request.args[name] for name in known if name in request.args}


def _includes(request: Request, settings: Settings, group_id: str, now: datetime) -> list[includes.Asked]:
    _refuse_unknown(request, "includes")
    try:
        return includes.parse(request.args.getlist("includes"), settings.layout, group_id, now)
    except includes.InvalidInclude as error:
        raise _invalid(str(error)) from None


def _uid_parameter(parameters: Mapping[str, str], name: str) -> str:
    if name not in parameters:
        raise _invalid(f"{name} is missing: give a user's uid")
    fault = uid_fault(parameters[name])
    if fault is not None:
        raise _invalid(f"{name} {fault}")
    return parameters[name]


def _refuse_unknown(request: Request, *known: str) -> None:
    unknown = sorted(set(request.args) - set(known))
    if unknown:
        raise _invalid(f"there is no parameter {unknown[0]!r} here; there {_listed(known)}")


def _listed(names: Sequence[str]) -> str:
    return f"is {names[0]}" if len(names) == 1 else f"are {', '.join(names)}" if names else "is none"


def _page_size(parameters: Mapping[str, str], default: int, most: int) -> int:
    text = parameters.get("pageSize", str(default))
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= most:
        raise _invalid(f"pageSize is not a whole number from 1 to {most}")
    return int(text)


def _place(parameters: Mapping[str, str]) -> explain.Place | None:
    token = parameters.get("pageToken")
    try:
        return None if token is None else explain.parse_page_token(token)
    except explain.InvalidPageToken as error:
        raise _invalid(str(error)) from None


def _page_token(parameters: Mapping[str, str]) -> str | None:
    token = parameters.get("pageToken")
    if token is not None and not is_document_id(token):
        raise _invalid("pageToken is not one that this API gave")
    return token


def _invalid(message: str) -> _Refusal:
    return _Refusal(400, "INVALID_ARGUMENT", message)


# ------------------------------------------------------------------------------------------------------------- answers


def _json(body: dict[str, Any], status: int) -> Response:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A balance is nobody else's business: no cache between us and the caller keeps it.
    headers = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
    return Response(text, status, headers, content_type="application/json; charset=utf-8")


def _allow_origin(request: Request, response: Response, allowed: Sequence[str]) -> None:
    """The headers by which a browser lets a page of another origin read the answer: https://fetch.spec.whatwg.org/#http-cors-protocol"""
    if not allowed:
        return
    response.headers.add("Vary", "Origin")
    origin = request.headers.get("Origin")
    if origin is None or not ("*" in allowed or origin in allowed):
        return
    response.headers["Access-Control-Allow-Origin"] = "*" if "*" in allowed else origin
    response.headers["Access-Control-Expose-Headers"] = "Retry-After"
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = "GET, HEAD"
        response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, X-Firebase-AppCheck"
        response.headers["Access-Control-Max-Age"] = str(_PREFLIGHT_SECONDS)


def _log_reading(reading: Reading, started: float, group_id: str) -> None:
    stored = reading.cause is None
    log(
        "INFO",
        f"group {group_id}: balance {'read' if stored else f'recalculated: {reading.cause}'}",
        metric="precomputedReads" if stored else "fallbackCalculations",
        groupId=group_id,
        cause=reading.cause,
        detail=reading.balance.detail,
        ms=_ms_since(started),
    )


def _log_failure(what: str, error: Exception) -> None:
    stack = "".join(traceback.format_exception(error))
    log("ERROR", f"{what}: {type(error).__name__}: {error}", code="BALANCE_READ_ERROR", metric="errors", stack=stack)


def _ms_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 1)
