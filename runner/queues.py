"""Task queues: tasks are taken over HTTP as Cloud Tasks takes them, and dispatched to the queue's function.

The requests are those that the Admin SDKs send with CLOUD_TASKS_EMULATOR_HOST set; the headers of a dispatch are listed in
https://cloud.google.com/tasks/docs/creating-http-target-tasks#handler, limits and retries in
https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import aiohttp

from emulator.settable import Fields, InvalidField
from runner.manifest import TaskQueueTrigger

DEADLINE_S = 600.0
# For so long the name of a task that is done cannot be used again.
TOMBSTONE_S = 3_600.0


class AlreadyExists(Exception):
    """There is, or was lately, a task of that name."""


@dataclass(slots=True, eq=False)
class Task:
    """What is to be POSTed. Times are the system's, in seconds since the epoch."""

    id: str
    url: str
    headers: dict[str, str]
    body: bytes
    schedule_time_s: float
    deadline_s: float
    first_attempt_s: float | None = None
    attempts: int = 0
    responses: int = 0
    previous_status: int | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], default_url: str) -> Task:
        """Read the `task` of a request. Raises InvalidField."""
        # The Admin SDK for Python sends null for what is not given.
        fields = Fields({name: value for name, value in data.items() if value is not None})
        name = fields.text("name", "")
        time_text = fields.text("scheduleTime", "")
        deadline = fields.text("dispatchDeadline", "")
        request = data.get("httpRequest")
        if not isinstance(request, dict):
            raise InvalidField("httpRequest", "give an object")
        headers = request.get("headers") or {}
        if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
            raise InvalidField("httpRequest.headers", "give an object of strings")
        try:
            body = base64.b64decode(request.get("body") or "", validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise InvalidField("httpRequest.body", "it is no base64") from None
        return cls(
            id=name.rpartition("/")[2] or uuid4().hex,
            url=request.get("url") or default_url,
            headers=dict(headers),
            body=body,
            schedule_time_s=max(time.time(), _timestamp_s(time_text) if time_text else 0.0),
            deadline_s=_duration_s(deadline) if deadline else DEADLINE_S,
        )


class TaskQueue:
    """The queue of one function. Belongs to one running loop."""

    def __init__(
        self,
        name: str,
        config: TaskQueueTrigger,
        *,
        url: Callable[[], str],
        session: aiohttp.ClientSession,
        tell: Callable[[str], None],
    ) -> None:
        """`url` gives the function's, `tell` gets what is given up."""
        self.name = name
        self._config = config
        self._url = url
        self._session = session
        self._tell = tell
        self._running: dict[str, asyncio.Task[None]] = {}
        self._done: dict[str, float] = {}
        self._slots = asyncio.Semaphore(config.max_concurrent_dispatches)
        self._next_dispatch_s = 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self.completed = 0
        self.failed = 0
        self.dispatches = 0

    def as_dict(self) -> dict[str, Any]:
        """Its figures, as JSON."""
        return {
            "name": self.name,
            "pending": len(self._running),
            "dispatches": self.dispatches,
            "completed": self.completed,
            "failed": self.failed,
        }

    def enqueue(self, data: Mapping[str, Any]) -> Task:
        """Take a task. Raises InvalidField, AlreadyExists."""
        task = Task.from_dict(data, default_url="")
        self._bury()
        if task.id in self._running or task.id in self._done:
            raise AlreadyExists(f"there is, or was lately, a task named {task.id!r}")
        self._idle.clear()
        running = asyncio.create_task(self._run(task))
        self._running[task.id] = running
        running.add_done_callback(lambda _: self._forget(task))
        return task

    def delete(self, task_id: str) -> None:
        """Take a task back. Raises KeyError."""
        self._running[task_id].cancel()

    async def drain(self, timeout_s: float) -> bool:
        """Wait until no task is left; False if the time is over before."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Drop all tasks."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, task: Task) -> None:
        await asyncio.sleep(task.schedule_time_s - time.time())
        while True:
            async with self._slots:
                await self._pace()
                error = await self._dispatch(task)
            if error is None:
                self.completed += 1
                return
            if self._is_over(task):
                self.failed += 1
                self._tell(f"{self.name}: task {task.id} was given up after {task.attempts} attempts: {error}")
                return
            await asyncio.sleep(self.backoff_s(task.attempts))

    async def _pace(self) -> None:
        """Wait for a turn: turns come evenly, at the queue's rate."""
        now_s = asyncio.get_running_loop().time()
        turn_s = max(now_s, self._next_dispatch_s)
        self._next_dispatch_s = turn_s + 1 / self._config.max_dispatches_per_second
        await asyncio.sleep(turn_s - now_s)

    async def _dispatch(self, task: Task) -> str | None:
        """Call the function once; returns what went wrong."""
        headers = {
            "User-Agent": "Google-Cloud-Tasks",
            "Content-Type": "application/json",
            **task.headers,
            "X-CloudTasks-QueueName": self.name,
            "X-CloudTasks-TaskName": task.id,
            "X-CloudTasks-TaskRetryCount": str(task.attempts),
            "X-CloudTasks-TaskExecutionCount": str(task.responses),
            "X-CloudTasks-TaskETA": f"{task.schedule_time_s:.6f}",
        }
        if task.previous_status is not None:
            headers["X-CloudTasks-TaskPreviousResponse"] = str(task.previous_status)
        self.dispatches += 1
        task.attempts += 1
        task.first_attempt_s = task.first_attempt_s or time.time()
        timeout = aiohttp.ClientTimeout(total=task.deadline_s)
        try:
            async with self._session.post(
                task.url or self._url() + "/", data=task.body, headers=headers, timeout=timeout
            ) as response:
                await response.read()
                task.responses += 1
                task.previous_status = response.status
                return None if 200 <= response.status < 300 else f"HTTP status {response.status}"
        except TimeoutError:
            return f"no answer within {task.deadline_s:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"

    def _is_over(self, task: Task) -> bool:
        """Only when there were enough attempts, and the time for retries (if any) is over."""
        if task.attempts < self._config.max_attempts:
            return False
        assert task.first_attempt_s is not None, "it was dispatched"
        return time.time() - task.first_attempt_s >= (self._config.max_retry_s or 0)

    def backoff_s(self, attempts: int) -> float:
        """The pause after so many attempts: doubled `max_doublings` times, then growing by the last step."""
        doublings = self._config.max_doublings
        factor = 2.0 ** min(attempts - 1, doublings, 60) * max(1, attempts - doublings)
        return min(self._config.max_backoff_s, self._config.min_backoff_s * factor)

    def _forget(self, task: Task) -> None:
        del self._running[task.id]
        self._done[task.id] = time.monotonic()
        if not self._running:
            self._idle.set()

    def _bury(self) -> None:
        horizon_s = time.monotonic() - TOMBSTONE_S
        for task_id, done_s in list(self._done.items()):  # the oldest come first
            if done_s > horizon_s:
                return
            del self._done[task_id]


def _timestamp_s(text: str) -> float:
    try:
        time_ = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidField("scheduleTime", f"{text!r} is no timestamp") from None
    if time_.tzinfo is None:
        raise InvalidField("scheduleTime", f"{text!r} has no time zone")
    return time_.timestamp()


def _duration_s(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 1_800:
        raise InvalidField("dispatchDeadline", f"{text!r} is no duration of at most 1800 s, such as '30s'")
    return seconds
