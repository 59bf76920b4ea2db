"""How task queues take, pace, repeat and give up."""

from __future__ import annotations

import asyncio
import base64
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from emulator.settable import InvalidField
from runner.manifest import TaskQueueTrigger
from runner.queues import AlreadyExists, TaskQueue


def a_task(name: str | None = None, **more: Any) -> dict[str, Any]:
    task: dict[str, Any] = {"httpRequest": {"url": "", "body": base64.b64encode(b"{}").decode()}, **more}
    return task if name is None else {**task, "name": f"projects/p/locations/l/queues/q/tasks/{name}"}


async def worked_off(config: TaskQueueTrigger, count: int, status: int = 200) -> tuple[TaskQueue, list[float], int]:
    """Enqueue so many tasks; returns the queue, when each dispatch came, and the most that were under way at once."""
    times: list[float] = []
    under_way = most = 0

    async def handle(_: web.Request) -> web.Response:
        nonlocal under_way, most
        times.append(time.monotonic())
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.005)
        under_way -= 1
        return web.Response(status=status)

    application = web.Application()
    application.router.add_post("/", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession() as session:
        queue = TaskQueue("q", config, url=lambda: url, session=session, tell=lambda _: None)
        for _ in range(count):
            queue.enqueue(a_task())
        assert await queue.drain(30)
        await queue.stop()
    await runner.cleanup()
    return queue, times, most


def test_a_queue_keeps_to_its_rate() -> None:
    _, times, _ = asyncio.run(worked_off(TaskQueueTrigger(max_dispatches_per_second=50), 20))
    assert len(times) == 20
    # Half of it: on a busy machine the first ones arrive late. Without a rate all arrive within a few milliseconds.
    assert max(times) - min(times) >= 19 / 50 / 2


def test_a_queue_keeps_to_its_concurrency() -> None:
    _, times, most = asyncio.run(worked_off(TaskQueueTrigger(max_concurrent_dispatches=3, max_dispatches_per_second=1e6), 30))
    assert (len(times), most) == (30, 3)


def test_a_hopeless_task_is_given_up_after_its_attempts() -> None:
    queue, times, _ = asyncio.run(worked_off(TaskQueueTrigger(max_attempts=4, min_backoff_s=0.001), 2, status=500))
    assert (len(times), queue.failed, queue.completed) == (8, 2, 0)


def test_attempts_go_on_until_the_retry_time_is_over_too() -> None:
    config = TaskQueueTrigger(max_attempts=1, max_retry_s=0.2, min_backoff_s=0.02, max_backoff_s=0.02)
    queue, times, _ = asyncio.run(worked_off(config, 1, status=500))
    assert len(times) > 2
    assert queue.failed == 1


def test_backoff_doubles_then_grows_evenly_up_to_its_longest() -> None:
    # The example of https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues#RetryConfig
    config = TaskQueueTrigger(min_backoff_s=10, max_backoff_s=300, max_doublings=3)

    async def pauses() -> list[float]:
        async with aiohttp.ClientSession() as session:
            queue = TaskQueue("q", config, url=str, session=session, tell=lambda _: None)
            return [queue.backoff_s(attempts) for attempts in range(1, 9)]

    assert asyncio.run(pauses()) == [10, 20, 40, 80, 160, 240, 300, 300]


@pytest.mark.parametrize(
    ("task", "field"),
    [
        ({}, "httpRequest"),
        ({"httpRequest": {"body": "%%%"}}, "httpRequest.body"),
        ({"httpRequest": {"headers": {"a": 1}}}, "httpRequest.headers"),
        (a_task(scheduleTime="tomorrow"), "scheduleTime"),
        (a_task(scheduleTime="2024-01-01T00:00:00"), "scheduleTime"),
        (a_task(dispatchDeadline="9999s"), "dispatchDeadline"),
    ],
)
def test_an_invalid_task_is_refused_by_the_name_of_its_field(task: dict[str, Any], field: str) -> None:
    async def enqueue() -> None:
        async with aiohttp.ClientSession() as session:
            TaskQueue("q", TaskQueueTrigger(), url=str, session=session, tell=lambda _: None).enqueue(task)

    with pytest.raises(InvalidField) as caught:
        asyncio.run(enqueue())
    assert caught.value.field == field


def test_a_waiting_task_holds_its_name_and_can_be_taken_back() -> None:
    async def scenario() -> None:
        async with aiohttp.ClientSession() as session:
            queue = TaskQueue("q", TaskQueueTrigger(), url=str, session=session, tell=lambda _: None)
            later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
            assert queue.enqueue(a_task("t1", scheduleTime=later)).id == "t1"
            with pytest.raises(AlreadyExists):
                queue.enqueue(a_task("t1"))
            assert not await queue.drain(0.01)
            queue.delete("t1")
            assert await queue.drain(5)
            with pytest.raises(AlreadyExists):
                queue.enqueue(a_task("t1"))
            with pytest.raises(KeyError):
                queue.delete("t1")
            assert queue.dispatches == 0

    asyncio.run(scenario())
