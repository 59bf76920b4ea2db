"""Everything on one machine: the embedded Firestore, every function of the manifest, and what calls them.

Theory of operation. The runner is one asyncio loop without threads, and the parent of all processes: the embedded
Firestore, one functions-framework per function, and the command, if there is one. Events go from the embedded Firestore
straight to the functions; it is told of the triggers once their functions answer. A function that dies is started again
on the same URL, and the events that it missed are redelivered. The embedded Firestore holds the data in memory, so its
death ends the run. Whatever way the runner ends, its children end: each is told by the system when the runner is gone.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from runner import dotenv, manifest, schedules
from runner.control import Control, call_scheduled
from runner.function_server import FunctionServer, StartFailed, platform_environment
from runner.launch import ROOT, firestore_command, launch
from runner.logs import Logs
from runner.manifest import EventTrigger, InvalidManifest, Manifest, ScheduleTrigger, TaskQueueTrigger
from runner.processes import Process
from runner.queues import TaskQueue

DEPLOYED_INDEXES = ROOT / "deploy" / "firestore.indexes.json"
FIRESTORE_STOP_S = 5.0
COMPANION_STOP_S = 3.0
# Nothing listens there: only its presence counts, by which firebase-admin takes the unsigned tokens of local development.
AUTH_PLACEHOLDER = "127.0.0.1:9099"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to run, and how. Ports: 0 is any that is free."""

    source: Path
    project: str = "demo-project"
    alias: str | None = None
    """The name that .firebaserc has for the project, if it was named so: `.env.ALIAS` counts then, too."""
    firestore_port: int = 0
    admin_port: int | None = None
    control_port: int = 0
    chaos_seed: int | None = None
    indexes: Path | None = DEPLOYED_INDEXES
    """The index file that queries are held to; None: queries may need any index."""
    emulator_arguments: Sequence[str] = ()
    schedules: bool = False
    only: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables for the functions, above all others."""
    adapter: Path | None = None
    """The adapter of the functions, to be told with their folder."""
    companions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Programs beside the functions, by name: each prints `{"url": ...}` in its first line once it can be used."""


class Stack:
    """All of it but the command."""

    def __init__(self, options: Options, logs: Logs, tell: Callable[[str], None]) -> None:
        """`tell` gets what the user should know. Raises InvalidManifest, InvalidDotenv."""
        self.options = options
        self.servers: dict[str, FunctionServer] = {}
        self.queues: dict[str, TaskQueue] = {}
        self.firestore_host = ""
        self.admin_url = ""
        self.control_url = ""
        self._control_host = ""
        self._logs = logs
        self._tell = tell
        self._dotenv = dotenv.load(options.source, options.project, options.alias)
        self.manifest = self._read_manifest()
        self._session: aiohttp.ClientSession | None = None
        self._control: Control | None = None
        self._firestore: Process | None = None
        self._schedules: list[asyncio.Task[None]] = []
        self.companions: dict[str, str] = {}
        """Where those that run are to be found."""
        self._companions: list[Process] = []

    async def start(self) -> None:
        """Return when everything answers and the triggers are wired. Raises StartFailed, OSError."""
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        self._control = Control(self.as_dict, self._session, self._logs.lines)
        self._control_host = f"127.0.0.1:{await self._control.start(self.options.control_port)}"
        self.control_url = f"http://{self._control_host}/{self._control.token}"
        await self._start_firestore()
        for function in self.manifest.functions:
            self.servers[function.name] = FunctionServer(
                function,
                source=self.options.source,
                environment=self._environment(function),
                output=self._logs.output(function.name),
                tell=self._tell,
                session=self._session,
            )
            if isinstance(function.trigger, TaskQueueTrigger):
                self.queues[function.name] = self._queue(self.servers[function.name], function.trigger)
        await _all(server.start() for server in self.servers.values())
        for server in self.servers.values():
            if isinstance(server.function.trigger, EventTrigger):
                await self._register(server, server.function.trigger)
        self._control.offer(self.servers, self.queues)
        await asyncio.gather(*(self._accompany(name, command) for name, command in self.options.companions.items()))
        if self.options.schedules:
            self._follow_schedules()

    async def stop(self) -> None:
        """End everything, in order: who calls first, who is called last."""
        for following in self._schedules:
            following.cancel()
        await asyncio.gather(*(companion.stop(COMPANION_STOP_S) for companion in self._companions))
        await asyncio.gather(*(queue.stop() for queue in self.queues.values()))
        if self._control is not None:
            await self._control.stop()
        await asyncio.gather(*(server.stop() for server in self.servers.values()))
        if self._firestore is not None:
            await self._firestore.stop(FIRESTORE_STOP_S)
        if self._session is not None:
            await self._session.close()

    @property
    def tasks_host(self) -> str:
        """host:port of what plays Cloud Tasks."""
        return self._control_host

    async def firestore_ended(self) -> int:
        """Wait until the embedded Firestore has ended, which it should not; returns its exit code."""
        assert self._firestore is not None, "start() comes first"
        return await self._firestore.wait()

    def as_dict(self) -> dict[str, Any]:
        """Where everything is, as JSON."""
        return {
            "project": self.options.project,
            "firestoreHost": self.firestore_host,
            "adminUrl": self.admin_url,
            "runnerUrl": self.control_url,
            "pid": os.getpid(),
            "functions": {name: server.url for name, server in self.servers.items()},
            "companions": self.companions,
        }

    def client_environment(self) -> dict[str, str]:
        """What programs need to find everything, beside their own environment."""
        return {
            **self.manifest.parameters,
            "FIRESTORE_EMULATOR_HOST": self.firestore_host,
            "FIRESTORE_ADMIN_URL": self.admin_url,
            "GOOGLE_CLOUD_PROJECT": self.options.project,
            "GCLOUD_PROJECT": self.options.project,
            "CLOUD_TASKS_EMULATOR_HOST": self._control_host,
            "RUNNER_URL": self.control_url,
            "FUNCTION_URLS": json.dumps({name: server.url for name, server in self.servers.items()}),
        }

    def _read_manifest(self) -> Manifest:
        values = {**self._dotenv, **os.environ, **self.options.environment, "PROJECT_ID": self.options.project}
        found = manifest.read(self.options.source / manifest.FILE_NAME, values)
        if not self.options.only:
            return found
        names = {function.name for function in found.functions}
        if unknown := set(self.options.only) - names:
            raise InvalidManifest(f"there is no function {sorted(unknown)[0]!r}; there are {', '.join(sorted(names))}")
        chosen = tuple(function for function in found.functions if function.name in self.options.only)
        return Manifest(chosen, found.parameters)

    def _environment(self, function: manifest.Function) -> dict[str, str]:
        """The environment above .env files above the manifest; what the platform sets is above all that."""
        return {
            # On one's own machine who owes whom is no secret, and what an event did is worth seeing.
            "BALANCE_LOG_DELTAS": "on",
            **function.environment,
            **self._dotenv,
            **os.environ,
            **self.manifest.parameters,
            **platform_environment(function, self.options.project),
            "FIRESTORE_EMULATOR_HOST": self.firestore_host,
            "FIREBASE_AUTH_EMULATOR_HOST": os.environ.get("FIREBASE_AUTH_EMULATOR_HOST") or AUTH_PLACEHOLDER,
            "CLOUD_TASKS_EMULATOR_HOST": self._control_host,
            **self.options.environment,
        }

    def _queue(self, server: FunctionServer, trigger: TaskQueueTrigger) -> TaskQueue:
        assert self._session is not None, "start() has made it"
        return TaskQueue(server.name, trigger, url=lambda: server.url, session=self._session, tell=self._tell)

    async def _start_firestore(self) -> None:
        options = self.options
        command = firestore_command(
            options.project,
            port=options.firestore_port,
            admin_port=options.admin_port,
            indexes=options.indexes,
            more=[
                *(("--chaos", str(options.chaos_seed)) if options.chaos_seed is not None else ()),
                *options.emulator_arguments,
            ],
        )
        output = self._logs.output("firestore")
        self._firestore, where = await launch("the embedded Firestore", command, os.environ, output)
        self.firestore_host, self.admin_url = where["firestoreHost"], where["adminUrl"]

    async def _accompany(self, name: str, command: Sequence[str]) -> None:
        """Start a companion. Without it all goes on: nothing of the rest needs it."""
        try:
            environment = {**os.environ, **self.client_environment()}
            process, where = await launch(f"the {name}", command, environment, self._logs.output(name))
        except (StartFailed, OSError) as error:
            self._tell(str(error))
        else:
            self._companions.append(process)
            self.companions[name] = where["url"]

    async def _register(self, server: FunctionServer, trigger: EventTrigger) -> None:
        assert self._session is not None, "start() has made it"
        data = {
            "name": server.name,
            "pattern": trigger.pattern,
            "url": server.url + "/",
            "eventType": trigger.event_type,
            "project": self.options.project,
            "database": trigger.database,
            "retry": trigger.retry,
            "concurrency": server.function.concurrency,
            "timeoutSeconds": server.function.timeout_s,
        }
        async with self._session.post(self.admin_url + "/triggers", json=data) as response:
            if response.status != 201:
                raise StartFailed(f"the trigger of {server.name} was refused: {await response.text()}")

    def _follow_schedules(self) -> None:
        for server in self.servers.values():
            trigger = server.function.trigger
            if isinstance(trigger, ScheduleTrigger):
                try:
                    schedule = schedules.parse(trigger.schedule, trigger.time_zone)
                except ValueError as error:
                    raise StartFailed(f"{server.name}: {error}") from None
                self._schedules.append(asyncio.create_task(self._follow(server, schedule)))

    async def _follow(self, server: FunctionServer, schedule: schedules.Schedule) -> None:
        assert self._session is not None, "start() has made it"
        due = datetime.now(UTC)
        while True:
            # Runs never overlap, and those that were missed meanwhile are skipped, as in production.
            due = max(schedule.next_after(due), schedule.next_after(datetime.now(UTC)))
            await asyncio.sleep((due - datetime.now(UTC)).total_seconds())
            status, text = await call_scheduled(server, self._session)
            if not 200 <= status < 300:
                self._tell(f"{server.name}: its scheduled run failed: {status} {text[:500]}")


async def _all(starts: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all; when one fails, the others are broken off before its exception is raised."""
    tasks = [asyncio.create_task(start) for start in starts]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def describe(stack: Stack) -> str:
    """Where everything is, for people: first what is served, then a line for each address."""
    options = stack.options
    adapter = f"adapter {options.adapter}, " if options.adapter else ""
    rows = [
        ("serving", str(options.source), f"{adapter}project {options.project}"),
        ("firestore", f"http://{stack.firestore_host}", f"FIRESTORE_EMULATOR_HOST={stack.firestore_host}"),
        ("its admin", stack.admin_url, ""),
        ("runner", stack.control_url, f"CLOUD_TASKS_EMULATOR_HOST={stack.tasks_host}"),
        *((name, url, "") for name, url in stack.companions.items()),
        *((name, server.url, _cause(server)) for name, server in stack.servers.items()),
    ]
    name_width = max(len(name) for name, _, _ in rows)
    return "\n".join(f"{name:{name_width}}  {where}  {about}".rstrip() for name, where, about in rows)


def _cause(server: FunctionServer) -> str:
    match server.function.trigger:
        case EventTrigger() as trigger:
            return f"{trigger.pattern} {trigger.event_type.name.lower()}"
        case ScheduleTrigger() as trigger:
            return f"{trigger.schedule}, {trigger.time_zone}"
        case TaskQueueTrigger():
            return "task queue"
        case _:
            return "HTTPS"
