"""The runner's HTTP side: its functions, their schedules, and the task queues that the Admin SDKs fill.

An error is `{"error": {"code": ..., "message": ...}}`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

from emulator.gate import gate, new_token
from emulator.settable import Fields, InvalidField, whole
from runner.function_server import FunctionServer, StartFailed
from runner.log_lines import MAX_LINES, LogLines
from runner.manifest import ScheduleTrigger
from runner.queues import AlreadyExists, TaskQueue

ENDPOINTS = {
    "GET /": "this; all but the tasks' paths are below the runner's URL, which holds a token",
    "GET /functions": "each function's name, url, pid, restarts, and whether it is ready",
    "GET /functions/{name}": "the same of one",
    "POST /functions/{name}/kill": "end its processes with SIGKILL, as a crash would; it is started again",
    "PUT /functions/{name}/environment": "{NAME: value or null}: go on with these changes, as a new revision would",
    "GET /functions/{name}/environment": "?name=A&name=B: its variables of these names, null for those that are not set",
    "GET /log-lines": "the latest of all processes: ?after=NUMBER&waitSeconds=&limit=",
    "POST /schedules/{name}/run": "call a scheduled function now; answers when it has answered",
    "GET /queues": "the task queues, with what is pending",
    "POST /queues/{name}/drain": "{timeoutSeconds}: answer when the queue is empty; 504 if that takes too long",
    "POST /projects/{p}/locations/{l}/queues/{name}/tasks": "enqueue a task, as Cloud Tasks does",
    "DELETE /projects/{p}/locations/{l}/queues/{name}/tasks/{id}": "take it back",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Control:
    """Serves on a port of its own, which is known before the functions are."""

    def __init__(self, description: Callable[[], dict[str, Any]], session: aiohttp.ClientSession, lines: LogLines) -> None:
        """`description` gives what GET on the URL tells. All but the paths of the tasks stands below `/{token}`."""
        self.token = new_token()
        self._description = description
        self._session = session
        self._lines = lines
        self._functions: Mapping[str, FunctionServer] = {}
        self._queues: Mapping[str, TaskQueue] = {}
        self._runner: web.AppRunner | None = None

    async def start(self, port: int) -> int:
        """Listen on 127.0.0.1 and return the port. Raises OSError if it cannot be had."""
        below = web.Application()
        below.add_routes(
            [
                web.get("/", self._describe),
                web.get("/functions", self._list_functions),
                web.get("/functions/{name}", self._get_function),
                web.post("/functions/{name}/kill", self._kill),
                web.get("/functions/{name}/environment", self._get_environment),
                web.put("/functions/{name}/environment", self._deploy),
                web.get("/log-lines", self._list_lines),
                web.post("/schedules/{name}/run", self._run_schedule),
                web.get("/queues", self._list_queues),
                web.post("/queues/{name}/drain", self._drain_queue),
            ]
        )
        application = web.Application(middlewares=[gate(_error), _errors_as_json], client_max_size=2 * 1024 * 1024)
        # As Cloud Tasks offers them, to SDKs that know no token.
        tasks = "/projects/{project}/locations/{location}/queues/{name}/tasks"
        application.router.add_post(tasks, self._enqueue)
        application.router.add_delete(tasks + "/{task}", self._delete_task)
        application.router.add_get(f"/{self.token}", self._describe)
        application.add_subapp(f"/{self.token}", below)
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        bound: int = self._runner.addresses[0][1]
        return bound

    def offer(self, functions: Mapping[str, FunctionServer], queues: Mapping[str, TaskQueue]) -> None:
        """Serve these from now on."""
        self._functions, self._queues = functions, queues

    async def stop(self) -> None:
        """Close."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _describe(self, _: web.Request) -> web.Response:
        return web.json_response({**self._description(), "endpoints": ENDPOINTS})

    async def _list_functions(self, _: web.Request) -> web.Response:
        return web.json_response({"functions": [server.as_dict() for server in self._functions.values()]})

    async def _get_function(self, request: web.Request) -> web.Response:
        return web.json_response(self._function(request).as_dict())

    async def _kill(self, request: web.Request) -> web.Response:
        return web.json_response({"pid": self._function(request).kill()})

    async def _get_environment(self, request: web.Request) -> web.Response:
        server = self._function(request)
        return web.json_response({name: server.variable(name) for name in request.query.getall("name", [])})

    async def _list_lines(self, request: web.Request) -> web.Response:
        after, limit = whole(request.query, "after", 2**53, 0), whole(request.query, "limit", MAX_LINES, 500)
        await self._lines.wait(after, whole(request.query, "waitSeconds", 60, 0))
        return web.json_response(self._lines.since(after, limit))

    async def _deploy(self, request: web.Request) -> web.Response:
        server = self._function(request)
        changes = await _json_object(request)
        for name, value in changes.items():
            if value is not None and not isinstance(value, str):
                raise InvalidField(name, "give a string, or null to remove it")
        try:
            await server.deploy(changes)
        except StartFailed as error:
            return _error(500, str(error))
        return web.json_response(server.as_dict())

    async def _run_schedule(self, request: web.Request) -> web.Response:
        server = self._function(request)
        if not isinstance(server.function.trigger, ScheduleTrigger):
            raise web.HTTPNotFound(text=f"the function {server.name!r} has no schedule")
        status, text = await call_scheduled(server, self._session)
        return web.json_response({"status": status, "body": text}, status=200 if 200 <= status < 300 else 502)

    async def _list_queues(self, _: web.Request) -> web.Response:
        return web.json_response({"queues": [queue.as_dict() for queue in self._queues.values()]})

    async def _drain_queue(self, request: web.Request) -> web.Response:
        queue = self._queue(request)
        fields = Fields(await _json_object(request))
        timeout_s = fields.number("timeoutSeconds", 0, 3_600, 60)
        fields.refuse_others()
        drained = await queue.drain(timeout_s)
        return web.json_response({"drained": drained, **queue.as_dict()}, status=200 if drained else 504)

    async def _enqueue(self, request: web.Request) -> web.Response:
        queue = self._queue(request)
        data = (await _json_object(request)).get("task")
        if not isinstance(data, dict):
            raise InvalidField("task", "give an object")
        try:
            task = queue.enqueue(data)
        except AlreadyExists as error:
            return _error(409, str(error))
        # With a slash in front, as the SDKs expect it of an emulator.
        name = "/projects/{project}/locations/{location}/queues/{name}/tasks/".format_map(request.match_info) + task.id
        return web.json_response({"task": {**data, "name": name}})

    async def _delete_task(self, request: web.Request) -> web.Response:
        try:
            self._queue(request).delete(request.match_info["task"])
        except KeyError:
            raise web.HTTPNotFound(text=f"there is no task {request.match_info['task']!r} in the queue") from None
        return web.json_response({})

    def _function(self, request: web.Request) -> FunctionServer:
        name = request.match_info["name"]
        if name not in self._functions:
            raise web.HTTPNotFound(text=f"there is no function named {name!r} (yet)")
        return self._functions[name]

    def _queue(self, request: web.Request) -> TaskQueue:
        name = request.match_info["name"]
        if name not in self._queues:
            raise web.HTTPNotFound(text=f"there is no task queue named {name!r} (yet)")
        return self._queues[name]


async def call_scheduled(server: FunctionServer, session: aiohttp.ClientSession) -> tuple[int, str]:
    """Call a function as Cloud Scheduler does; returns its HTTP status (or 0) and text.

    Headers: https://cloud.google.com/scheduler/docs/reference/rest/v1/projects.locations.jobs#HttpTarget
    """
    headers = {
        "User-Agent": "Google-Cloud-Scheduler",
        "X-CloudScheduler": "true",
        "X-CloudScheduler-JobName": f"firebase-schedule-{server.name}-{server.function.region}",
        "X-CloudScheduler-ScheduleTime": datetime.now(UTC).isoformat(),
    }
    timeout = aiohttp.ClientTimeout(total=server.function.timeout_s)
    try:
        async with session.post(server.url + "/", headers=headers, timeout=timeout) as response:
            return response.status, await response.text(errors="replace")
    except TimeoutError:
        return 0, f"no answer within {server.function.timeout_s:g} s"
    except (aiohttp.ClientError, OSError) as error:
        return 0, f"{type(error).__name__}: {error}"


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except InvalidField as error:
        return _error(400, str(error))
    except web.HTTPException as error:
        standard = f"{error.status}: {error.reason}"
        message = error.text if error.text and error.text != standard else f"{request.method} {request.path}: {error.reason}"
        return _error(error.status, message)


async def _json_object(request: web.Request) -> dict[str, Any]:
    body = await request.read()
    try:
        data = json.loads(body) if body else {}
    except ValueError as error:
        raise InvalidField("body", f"it is no JSON ({error})") from None
    if not isinstance(data, dict):
        raise InvalidField("body", "it is no JSON object")
    return data


def _error(code: int, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=code)
