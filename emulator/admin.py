"""The HTTP side: what tests, tools and people do to the server beside using it. JSON in, JSON out.

An error is `{"error": {"code": ..., "message": ...}}`, with `field` when one of the request's fields is at fault.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from emulator.chaos import Chaos
from emulator.databases import Databases
from emulator.delivery import Delivery, Dispatcher, NotPossible
from emulator.faults import Fault, Faults
from emulator.gate import gate, new_token
from emulator.settable import Fields, InvalidField, whole
from emulator.streams import Streams
from emulator.triggers import Trigger

VERSION = "1.0"
MAX_DRAIN_S = 3_600.0
MAX_WATCH_S = 60
MAX_LISTED = 1_000
DAY_MS = 86_400_000
DRAIN_S = 60.0
ENDPOINTS = {
    "GET /": "this; all paths but the next are below the admin URL, which holds a token",
    "DELETE /data": "drop all documents, transactions and undelivered events",
    "DELETE /emulator/v1/projects/{project}/databases/{database}/documents": "drop the documents of one database",
    "GET /triggers": "the registered triggers, each with what is pending for it",
    "POST /triggers": "register {pattern, url, name?, eventType?, project?, database?, retry?, concurrency?, timeoutSeconds?,"
    " base64Body?}",
    "DELETE /triggers": "forget all triggers",
    "DELETE /triggers/{name}": "forget one",
    "GET /statistics": "RPCs, commits, aborts, billed reads and writes; delivery",
    "DELETE /statistics": "answer them, and count from zero",
    "GET /dead-letters": "events that were given up",
    "DELETE /dead-letters": "forget them",
    "POST /dead-letters/redeliver": "send them again",
    "GET /deliveries": "the latest, with what became of them: ?after=REVISION&waitSeconds=&limit=&bodies=true (base64)",
    "POST /deliveries/{number}/send": "{delayMs}: send one that is held or waits",
    "POST /deliveries/{number}/copy": "{delayMs, otherId}: send it once more",
    "POST /deliveries/{number}/drop": "lose one that is held or waits",
    "PUT /holding": "{holding}: hold new events, for the three above; false sends on all that are held",
    "GET /chaos": "how delivery misbehaves",
    "PUT /chaos": "have it misbehave so; what is left out is off",
    "GET /faults": "which RPCs fail",
    "PUT /faults": "{faults: [{rpc, code, probability, moment, count, latencyMs}, ...]}, in the place of all others",
    "GET /streams": "how many Listen and Write streams are open, and how many targets are listened to",
    "DELETE /streams": "end them all with UNAVAILABLE; clients come back and resume",
    "POST /drain": "{timeoutSeconds}: answer when no event is pending; 504 if that takes too long",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Admin:
    """Serves on a port of its own. Needs to be started and stopped in the loop of the others."""

    def __init__(
        self, databases: Databases, dispatcher: Dispatcher, faults: Faults, streams: Streams, token: str | None = None
    ) -> None:
        """All but the official emulator's own endpoint stands below the path `/{token}`; by default a new one."""
        self.token = token or new_token()
        self._databases = databases
        self._streams = streams
        self._dispatcher = dispatcher
        self._faults = faults
        self._runner: web.AppRunner | None = None
        self.description: dict[str, Any] = {}
        """What `GET /` tells, beside the list of endpoints."""

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> int:
        """Listen, on a free port if it is 0, and return the port. Raises OSError if it cannot be had."""
        # A drain that nobody waits for any more must end.
        self._runner = web.AppRunner(self._application(host), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Answer what is under way, for a moment, and close."""
        if self._runner is not None:
            await self._runner.cleanup()

    def _application(self, host: str) -> web.Application:
        below = web.Application()
        below.add_routes(
            [
                web.get("/", self._describe),
                web.delete("/data", self._clear),
                web.get("/triggers", self._list_triggers),
                web.post("/triggers", self._add_trigger),
                web.delete("/triggers", self._remove_triggers),
                web.delete("/triggers/{name:.+}", self._remove_trigger),
                web.get("/statistics", self._get_statistics),
                web.delete("/statistics", self._reset_statistics),
                web.get("/dead-letters", self._list_dead_letters),
                web.delete("/dead-letters", self._forget_dead_letters),
                web.post("/dead-letters/redeliver", self._redeliver),
                web.get("/deliveries", self._list_deliveries),
                web.post("/deliveries/{number:[0-9]+}/send", self._send),
                web.post("/deliveries/{number:[0-9]+}/copy", self._copy),
                web.post("/deliveries/{number:[0-9]+}/drop", self._drop),
                web.put("/holding", self._set_holding),
                web.get("/chaos", self._get_chaos),
                web.put("/chaos", self._set_chaos),
                web.get("/faults", self._get_faults),
                web.put("/faults", self._set_faults),
                web.get("/streams", self._get_streams),
                web.delete("/streams", self._end_streams),
                web.post("/drain", self._drain),
            ]
        )
        application = web.Application(middlewares=[gate(_error, host), _errors_as_json], client_max_size=16 * 1024 * 1024)
        # As the official emulator offers it, to tools that know no token.
        application.router.add_delete("/emulator/v1/projects/{project}/databases/{database}/documents", self._clear_database)
        application.router.add_get(f"/{self.token}", self._describe)
        application.add_subapp(f"/{self.token}", below)
        return application

    async def _describe(self, _: web.Request) -> web.Response:
        return web.json_response({"name": "embedded Firestore", "version": VERSION, **self.description, "endpoints": ENDPOINTS})

    async def _clear(self, _: web.Request) -> web.Response:
        self._databases.clear()
        self._dispatcher.discard()
        return web.json_response({})

    async def _clear_database(self, request: web.Request) -> web.Response:
        self._databases.clear("projects/{project}/databases/{database}".format_map(request.match_info))
        return web.json_response({})

    async def _list_triggers(self, _: web.Request) -> web.Response:
        triggers = [
            {**trigger.as_dict(), "pending": self._dispatcher.pending_of(trigger.name)} for trigger in self._dispatcher.triggers
        ]
        return web.json_response({"triggers": triggers})

    async def _add_trigger(self, request: web.Request) -> web.Response:
        data = await _json_object(request)
        trigger = Trigger.from_dict(data, name=str(data.get("pattern", "")))
        self._dispatcher.add(trigger)
        return web.json_response(trigger.as_dict(), status=201)

    async def _remove_triggers(self, _: web.Request) -> web.Response:
        for trigger in self._dispatcher.triggers:
            self._dispatcher.remove(trigger.name)
        return web.json_response({})

    async def _remove_trigger(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        try:
            self._dispatcher.remove(name)
        except KeyError:
            return _error(404, f"there is no trigger named {name!r}", "name")
        return web.json_response({})

    async def _get_statistics(self, _: web.Request) -> web.Response:
        return web.json_response(self._statistics())

    async def _reset_statistics(self, _: web.Request) -> web.Response:
        answer = web.json_response(self._statistics())
        self._databases.statistics.reset()
        self._dispatcher.reset_counters()
        return answer

    def _statistics(self) -> dict[str, Any]:
        delivery = {**self._dispatcher.counters.as_dict(), "pending": self._dispatcher.pending}
        return {**self._databases.statistics.as_dict(), "delivery": delivery}

    async def _list_dead_letters(self, _: web.Request) -> web.Response:
        return web.json_response({"deadLetters": [letter.as_dict() for letter in self._dispatcher.dead_letters]})

    async def _forget_dead_letters(self, _: web.Request) -> web.Response:
        self._dispatcher.dead_letters.clear()
        return web.json_response({})

    async def _redeliver(self, _: web.Request) -> web.Response:
        return web.json_response({"redelivered": self._dispatcher.redeliver_dead_letters()})

    async def _list_deliveries(self, request: web.Request) -> web.Response:
        query = request.query
        after, limit = whole(query, "after", 2**53, 0), whole(query, "limit", MAX_LISTED, 200)
        history = self._dispatcher.history
        await history.wait(after, whole(query, "waitSeconds", MAX_WATCH_S, 0))
        with_body = query.get("bodies") == "true"
        return web.json_response(
            {
                "revision": history.revision,
                "holding": self._dispatcher.holding,
                "deliveries": [delivery.as_dict(with_body=with_body) for delivery in history.since(after, limit)],
            }
        )

    async def _send(self, request: web.Request) -> web.Response:
        fields = Fields(await _json_object(request))
        delay_ms = fields.number("delayMs", 0, DAY_MS, 0)
        fields.refuse_others()
        return self._told(request, lambda number: self._dispatcher.send(number, delay_ms / 1_000))

    async def _copy(self, request: web.Request) -> web.Response:
        fields = Fields(await _json_object(request))
        delay_ms, other_id = fields.number("delayMs", 0, DAY_MS, 0), fields.flag("otherId", default=False)
        fields.refuse_others()
        return self._told(request, lambda number: self._dispatcher.copy(number, delay_ms / 1_000, other_id=other_id))

    async def _drop(self, request: web.Request) -> web.Response:
        return self._told(request, self._dispatcher.drop)

    def _told(self, request: web.Request, act: Callable[[int], Delivery]) -> web.Response:
        number = int(request.match_info["number"])
        try:
            return web.json_response(act(number).as_dict(with_body=False))
        except KeyError:
            return _error(404, f"there is no delivery {number}, or it was too long ago", "number")
        except NotPossible as error:
            return _error(409, str(error), "number")

    async def _set_holding(self, request: web.Request) -> web.Response:
        fields = Fields(await _json_object(request))
        holding = fields.flag("holding", default=False)
        fields.refuse_others()
        self._dispatcher.hold(holding)
        return web.json_response({"holding": self._dispatcher.holding})

    async def _get_chaos(self, _: web.Request) -> web.Response:
        return web.json_response(self._dispatcher.chaos.as_dict())

    async def _set_chaos(self, request: web.Request) -> web.Response:
        self._dispatcher.chaos = Chaos.from_dict(await _json_object(request))
        return web.json_response(self._dispatcher.chaos.as_dict())

    async def _get_faults(self, _: web.Request) -> web.Response:
        return web.json_response({"faults": [fault.as_dict() for fault in self._faults.rules]})

    async def _set_faults(self, request: web.Request) -> web.Response:
        data = await _json_object(request)
        rules = data.get("faults")
        if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
            raise InvalidField("faults", "give a list of objects; an empty one ends all faults")
        self._faults.replace([_fault(rule) for rule in rules])
        return web.json_response({"faults": [fault.as_dict() for fault in self._faults.rules]})

    async def _get_streams(self, _: web.Request) -> web.Response:
        return web.json_response(self._streams.counts())

    async def _end_streams(self, _: web.Request) -> web.Response:
        return web.json_response({"ended": self._streams.end_all()})

    async def _drain(self, request: web.Request) -> web.Response:
        fields = Fields(await _json_object(request))
        timeout_s = fields.number("timeoutSeconds", 0, MAX_DRAIN_S, DRAIN_S)
        fields.refuse_others()
        drained = await self._dispatcher.drain(timeout_s)
        body = {"drained": drained, "pending": self._dispatcher.pending}
        if drained:
            return web.json_response(body)
        message = f"{self._dispatcher.pending} events are still pending after {timeout_s:g} s"
        return web.json_response({**body, "error": {"code": 504, "message": message}}, status=504)


def _fault(rule: dict[str, Any]) -> Fault:
    try:
        return Fault.from_dict(rule)
    except ValueError as error:
        field, _, fault = str(error).partition(": ")
        raise InvalidField(field if fault else "faults", fault or str(error)) from None


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except InvalidField as error:
        return _error(400, str(error), error.field)
    except web.HTTPException as error:
        if error.status in (404, 405):
            return _error(error.status, f"{request.method} {request.path} is not offered; GET on the admin URL lists what is")
        return _error(error.status, error.reason)


async def _json_object(request: web.Request) -> dict[str, Any]:
    """The request's body; an empty one is an empty object. Raises InvalidField."""
    body = await request.read()
    if not body:
        return {}
    try:
        data = json.loads(body)
    except ValueError as error:
        raise InvalidField("body", f"it is no JSON ({error})") from None
    if not isinstance(data, dict):
        raise InvalidField("body", "it is no JSON object")
    return data


def _error(code: int, message: str, field: str | None = None) -> web.Response:
    error: dict[str, Any] = {"code": code, "message": message}
    if field is not None:
        error["field"] = field
    return web.json_response({"error": error}, status=code)
