"""Delivery over real HTTP to a function of ours that does what it is told."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from aiohttp import web
from google.cloud.firestore_v1.types import document

from emulator.changes import Change
from emulator.chaos import Chaos
from emulator.delivery import Backoff, Dispatcher, NotPossible
from emulator.history import State
from emulator.settable import InvalidField
from emulator.triggers import Trigger

ROOT = "projects/demo/databases/(default)/documents"
QUICK = Backoff(first_s=0.005, longest_s=0.02)
DRAIN_S = 30.0


@dataclass
class Call:
    """One request that the function got."""

    id: str
    document: str
    time: str
    raw_document: bytes
    content_type: str
    body: bytes


@dataclass
class Function:
    """Answers with the status that `answer` gives for the number of the call (from 1), after what it awaits."""

    answer: Callable[[int], int] = lambda _: 200
    before: Callable[[], Awaitable[None]] | None = None
    calls: list[Call] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    port: int = 0
    runner: Any = None

    async def start(self, port: int = 0) -> None:
        application = web.Application()
        application.router.add_post("/", self._handle)
        self.runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", port).start()
        self.port = self.runner.addresses[0][1]

    async def stop(self) -> None:
        await self.runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        headers = request.headers
        body = await request.read()
        raw = next(value for name, value in request.raw_headers if name.lower() == b"ce-document")
        self.calls.append(
            Call(headers["ce-id"], headers["ce-document"], headers["ce-time"], raw, headers["content-type"], body)
        )
        number = len(self.calls)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.before is not None:
                await self.before()
            return web.Response(status=self.answer(number))
        finally:
            self.under_way -= 1

    def trigger(self, pattern: str = "expenses/{id}", name: str = "f", **more: Any) -> Trigger:
        return Trigger.from_dict({"pattern": pattern, "url": f"http://127.0.0.1:{self.port}/", **more}, name=name)


def a_change(path: str, commit_time_us: int = 1_700_000_000_000_000) -> Change:
    after = document.Document.pb()()
    after.name = f"{ROOT}/{path}"
    after.update_time.FromMicroseconds(commit_time_us)
    return Change(after.name, None, after, commit_time_us)


def changes(count: int) -> list[Change]:
    return [a_change(f"expenses/e{number}") for number in range(count)]


Scenario = Callable[[Dispatcher, Function], Awaitable[None]]


def play(
    scenario: Scenario, function: Function | None = None, *, chaos: Chaos | None = None, backoff: Backoff = QUICK, **more: Any
) -> Dispatcher:
    """Run it with a started function and a dispatcher that has one trigger for it; check that the books balance."""
    function = function or Function()

    async def run() -> Dispatcher:
        dispatcher = Dispatcher(Random(7), backoff=backoff, chaos=chaos)
        await function.start()
        await dispatcher.start()
        dispatcher.add(function.trigger(**more))
        try:
            await scenario(dispatcher, function)
            counters = dispatcher.counters
            settled = counters.delivered + counters.lost + counters.dead_lettered + counters.discarded
            assert counters.made + counters.duplicates + counters.revived == settled + dispatcher.pending
            if not dispatcher.pending:
                assert counters.attempts == counters.delivered + counters.failures
        finally:
            await dispatcher.stop()
            await function.stop()
        return dispatcher

    return asyncio.run(run())


async def deliver(dispatcher: Dispatcher, count: int = 1) -> None:
    """Commit so many documents, one by one, and wait until all is settled."""
    for change in changes(count):
        dispatcher.publish([change])
    assert await dispatcher.drain(DRAIN_S)


def test_an_acknowledged_event_is_delivered_once() -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        await deliver(dispatcher, 20)
        assert Counter(call.document for call in function.calls) == {f"expenses/e{number}": 1 for number in range(20)}
        assert {call.content_type for call in function.calls} == {"application/protobuf"}

    counters = play(scenario).counters
    assert (counters.made, counters.delivered, counters.failures, counters.redeliveries) == (20, 20, 0, 0)


def test_a_change_that_no_trigger_matches_makes_no_event() -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        dispatcher.publish([a_change("settlements/s1")])
        assert dispatcher.pending == 0
        assert function.calls == []

    assert play(scenario).counters.made == 0


def test_ids_beyond_ascii_go_into_the_header_as_utf8() -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        dispatcher.publish([a_change("expenses/café 🧾")])
        assert await dispatcher.drain(DRAIN_S)
        (call,) = function.calls
        assert call.raw_document == "expenses/café 🧾".encode()

    play(scenario)


def test_a_trigger_may_want_its_body_in_base64() -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        dispatcher.add(function.trigger(name="plain"))
        await deliver(dispatcher)
        bodies = sorted((call.body for call in function.calls), key=len)
        assert base64.b64decode(bodies[1], validate=True) == bodies[0]

    play(scenario, base64Body=True)


@pytest.mark.parametrize("status", [300, 400, 404, 429, 500, 503])
def test_whatever_is_not_2xx_is_redelivered_until_it_is(status: int) -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        await deliver(dispatcher)
        assert len(function.calls) == 4
        assert len({call.id for call in function.calls}) == 1

    counters = play(scenario, Function(answer=lambda number: 204 if number == 4 else status)).counters
    assert (counters.delivered, counters.failures, counters.redeliveries) == (1, 3, 3)


def test_no_answer_in_time_is_a_failure() -> None:
    async def forever() -> None:
        await asyncio.sleep(30)

    async def scenario(dispatcher: Dispatcher, _: Function) -> None:
        await deliver(dispatcher)
        (letter,) = dispatcher.dead_letters
        assert "no answer within 0.05 s" in letter.as_dict()["lastError"]

    play(scenario, Function(before=forever), backoff=Backoff(first_s=0.001, attempts=2), timeoutSeconds=0.05)


def test_events_wait_for_a_function_that_is_away_and_arrive_when_it_is_back() -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        await function.stop()
        for change in changes(50):
            dispatcher.publish([change])
        assert not await dispatcher.drain(0.2)
        assert dispatcher.pending == 50
        # One at a time knocks; the others wait instead of burning the processor.
        assert dispatcher.counters.attempts < 150
        await function.start(function.port)
        assert await dispatcher.drain(DRAIN_S)
        assert len({call.document for call in function.calls}) == 50

    play(scenario)


def test_no_more_than_the_triggers_concurrency_are_under_way() -> None:
    async def a_moment() -> None:
        await asyncio.sleep(0.01)

    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        await deliver(dispatcher, 40)
        assert function.most_under_way == 5

    play(scenario, Function(before=a_moment), concurrency=5)


def test_a_failing_event_does_not_hold_up_the_others() -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        first, *others = changes(30)
        dispatcher.publish([first])
        for change in others:
            dispatcher.publish([change])
        while dispatcher.counters.delivered < len(others):
            await asyncio.sleep(0.001)
        assert dispatcher.pending == 1

    poisoned = Function()
    poisoned.answer = lambda number: 500 if poisoned.calls[number - 1].document == "expenses/e0" else 200
    play(scenario, poisoned, concurrency=1)


def test_an_event_that_is_given_up_becomes_a_dead_letter_and_can_be_sent_again() -> None:
    healthy = False

    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        nonlocal healthy
        await deliver(dispatcher, 2)
        assert len(function.calls) == 6
        letters = [letter.as_dict() for letter in dispatcher.dead_letters]
        assert {letter["document"] for letter in letters} == {"expenses/e0", "expenses/e1"}
        assert {letter["attempts"] for letter in letters} == {3}
        assert {letter["lastError"] for letter in letters} == {"HTTP status 500"}
        healthy = True
        assert dispatcher.redeliver_dead_letters() == 2
        assert await dispatcher.drain(DRAIN_S)
        assert not dispatcher.dead_letters

    counters = play(
        scenario, Function(answer=lambda _: 200 if healthy else 500), backoff=Backoff(first_s=0.001, attempts=3)
    ).counters
    assert (counters.dead_lettered, counters.revived, counters.delivered) == (2, 2, 2)


def test_the_retry_window_ends_redelivery() -> None:
    async def scenario(dispatcher: Dispatcher, _: Function) -> None:
        await deliver(dispatcher)
        assert len(dispatcher.dead_letters) == 1

    play(scenario, Function(answer=lambda _: 500), backoff=Backoff(first_s=0.01, longest_s=0.01, window_s=0.1))


def test_a_trigger_without_retry_gets_each_event_once_whatever_it_answers() -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        await deliver(dispatcher)
        assert len(function.calls) == 1
        assert len(dispatcher.dead_letters) == 1

    play(scenario, Function(answer=lambda _: 500), retry=False)


def test_backoff_doubles_up_to_its_longest_pause_with_jitter_in_the_upper_half() -> None:
    backoff = Backoff(first_s=1, longest_s=10)
    random = Random(1)
    for attempts, longest_s in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (500, 10)):
        pauses = [backoff.pause_s(attempts, random) for _ in range(200)]
        assert longest_s / 2 <= min(pauses) < longest_s * 0.6
        assert longest_s * 0.9 < max(pauses) <= longest_s


def test_duplicates_are_more_calls_of_the_same_events() -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        await deliver(dispatcher, 200)
        calls = Counter(call.document for call in function.calls)
        assert len(calls) == 200
        assert max(calls.values()) > 2, "a copy may be copied again"
        ids = {call.document: call.id for call in function.calls}
        assert all(ids[call.document] == call.id for call in function.calls)

    counters = play(scenario, chaos=Chaos(duplicate=0.5, window_ms=20)).counters
    assert counters.duplicates > 100
    assert counters.delivered == 200 + counters.duplicates


def test_duplicates_may_bear_other_ids() -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        await deliver(dispatcher, 50)
        ids: dict[str, set[str]] = {}
        for call in function.calls:
            ids.setdefault(call.document, set()).add(call.id)
        assert max(map(len, ids.values())) > 1

    play(scenario, chaos=Chaos(duplicate=0.5, duplicate_other_id=1, window_ms=5))


def test_reordering_lets_later_events_overtake() -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        await deliver(dispatcher, 50)
        order = [int(call.document.removeprefix("expenses/e")) for call in function.calls]
        assert sorted(order) == list(range(50))
        assert order != sorted(order)

    play(scenario, chaos=Chaos(reorder=0.5, window_ms=50), concurrency=1)


def test_without_chaos_a_single_line_keeps_its_order() -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        await deliver(dispatcher, 50)
        assert [call.document for call in function.calls] == [f"expenses/e{number}" for number in range(50)]

    play(scenario, concurrency=1)


def test_delay_holds_every_event_back() -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        dispatcher.publish(changes(5))
        assert not await dispatcher.drain(0.02)
        assert function.calls == []
        assert await dispatcher.drain(DRAIN_S)

    play(scenario, chaos=Chaos(delay_min_ms=100, delay_max_ms=150))


def test_lost_events_are_counted_and_never_come() -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        await deliver(dispatcher, 100)
        assert len(function.calls) == 100 - dispatcher.counters.lost

    assert 20 < play(scenario, chaos=Chaos(lose=0.5)).counters.lost < 80


def test_a_lost_acknowledgement_is_a_redelivery() -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        await deliver(dispatcher, 50)
        assert len(function.calls) == 50 + dispatcher.counters.redeliveries

    assert play(scenario, chaos=Chaos(lose_acknowledgement=0.5)).counters.redeliveries > 10


def test_the_time_of_an_event_is_the_commits_unless_skewed() -> None:
    async def exact(dispatcher: Dispatcher, function: Function) -> None:
        await deliver(dispatcher)
        assert function.calls[0].time == "2023-11-14T22:13:20.000000Z"

    async def skewed(dispatcher: Dispatcher, function: Function) -> None:
        await deliver(dispatcher, 20)
        times = {call.time for call in function.calls}
        assert len(times) == 20
        assert "2023-11-14T22:12" < min(times) < "2023-11-14T22:13:20" < max(times) < "2023-11-14T22:14:21"

    play(exact)
    play(skewed, chaos=Chaos(time_skew_ms=60_000))


@pytest.mark.parametrize(("who_shares", "ids"), [("document", 2), ("commit", 1), ("trigger", 4)])
def test_event_ids_are_shared_as_set(who_shares: str, ids: int) -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        dispatcher.add(function.trigger("{path=**}", name="second"))
        dispatcher.publish(changes(2))
        assert await dispatcher.drain(DRAIN_S)
        assert len(function.calls) == 4
        assert len({call.id for call in function.calls}) == ids

    play(scenario, chaos=Chaos(event_ids=who_shares))


def test_the_same_seed_makes_the_same_mischief() -> None:
    def once() -> list[tuple[str, str]]:
        calls: list[tuple[str, str]] = []

        async def scenario(dispatcher: Dispatcher, function: Function) -> None:
            await deliver(dispatcher, 30)
            calls.extend((call.document, call.id) for call in function.calls)

        play(scenario, chaos=Chaos(duplicate=0.5, duplicate_other_id=0.5, lose=0.2, window_ms=5))
        return sorted(calls)

    assert once() == once()


def test_discarded_events_are_forgotten_and_those_under_way_awaited() -> None:
    release = asyncio.Event()

    async def until_released() -> None:
        await release.wait()

    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        dispatcher.publish(changes(10))
        while function.under_way < 2:
            await asyncio.sleep(0.001)
        dispatcher.discard()
        assert dispatcher.pending == 2
        release.set()
        assert await dispatcher.drain(DRAIN_S)
        assert len(function.calls) == 2

    counters = play(scenario, Function(before=until_released, answer=lambda _: 500), concurrency=2).counters
    assert (counters.discarded, counters.failures, counters.delivered) == (10, 2, 0)


def test_a_removed_trigger_gets_nothing_more() -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        await function.stop()
        dispatcher.publish(changes(3))
        dispatcher.remove("f")
        await function.start(function.port)
        assert await dispatcher.drain(DRAIN_S)
        dispatcher.publish(changes(3))
        assert dispatcher.pending == 0
        assert dispatcher.triggers == []
        with pytest.raises(KeyError):
            dispatcher.remove("f")

    play(scenario)


def test_a_trigger_that_is_registered_again_takes_the_events_along() -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        moved = Function()
        await moved.start()
        await function.stop()
        dispatcher.publish(changes(5))
        await asyncio.sleep(0.02)
        dispatcher.add(moved.trigger())
        assert await dispatcher.drain(DRAIN_S)
        assert len(moved.calls) == 5
        await moved.stop()
        await function.start()

    play(scenario)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"duplicate": 1.5}, "duplicate"),
        ({"duplicate": "often"}, "duplicate"),
        ({"reorder": -0.1}, "reorder"),
        ({"lose": True}, "lose"),
        ({"loseAcknowledgement": 1}, "loseAcknowledgement"),
        ({"delayMinMs": 5, "delayMaxMs": 4}, "delayMaxMs"),
        ({"windowMs": float("inf")}, "windowMs"),
        ({"eventIds": "nobody"}, "eventIds"),
        ({"duplicates": 0.5}, "duplicates"),
    ],
)
def test_invalid_chaos_is_refused_by_the_name_of_its_field(data: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        Chaos.from_dict(data)
    assert caught.value.field == field


def test_chaos_survives_json() -> None:
    assert Chaos.from_dict(Chaos.hostile().as_dict()) == Chaos.hostile()
    assert Chaos.from_dict({}) == Chaos()


def test_held_events_go_when_they_are_sent_and_a_dropped_one_never() -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        dispatcher.hold(True)
        dispatcher.publish(changes(4))
        first, second, third, _ = dispatcher.history.since(0, 10)
        assert {delivery.state for delivery in dispatcher.history.since(0, 10)} == {State.HELD}
        assert dispatcher.pending == 4
        dispatcher.drop(first.number)
        dispatcher.send(second.number, delay_s=0.05)
        dispatcher.send(third.number)
        await asyncio.sleep(0.2)
        assert [call.document for call in function.calls] == ["expenses/e2", "expenses/e1"]
        assert (first.state, second.state) == (State.DROPPED, State.DELIVERED)
        with pytest.raises(NotPossible, match="is delivered"):
            dispatcher.drop(second.number)
        dispatcher.hold(False)
        assert await dispatcher.drain(DRAIN_S)
        assert len(function.calls) == 3

    assert play(scenario).counters.lost == 1


@pytest.mark.parametrize("other_id", [False, True])
def test_a_delivery_can_be_sent_once_more_under_its_id_or_another(other_id: bool) -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        await deliver(dispatcher)
        (original,) = dispatcher.history.since(0, 10)
        copy = dispatcher.copy(original.number, other_id=other_id)
        assert await dispatcher.drain(DRAIN_S)
        assert copy.copy_of == original.number
        assert len({call.id for call in function.calls}) == (2 if other_id else 1)
        assert len({call.body for call in function.calls}) == 1

    assert play(scenario).counters.duplicates == 1


def test_the_history_tells_what_changed_after_a_revision_and_waits_for_it() -> None:
    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        await deliver(dispatcher, 3)
        seen = dispatcher.history.revision
        assert dispatcher.history.since(seen, 10) == []
        waiting = asyncio.create_task(dispatcher.history.wait(seen, 10))
        await asyncio.sleep(0)
        dispatcher.publish([a_change("expenses/late")])
        await asyncio.wait_for(waiting, 1)
        (late,) = dispatcher.history.since(seen, 10)
        assert late.headers["ce-document"] == "expenses/late"
        await dispatcher.history.wait(dispatcher.history.revision, 0.01)

    play(scenario)


def test_the_history_keeps_only_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emulator.history.MAX_KEPT", 5)

    async def scenario(dispatcher: Dispatcher, function: Function) -> None:
        dispatcher.hold(True)
        dispatcher.publish(changes(8))
        assert len(dispatcher.history.since(0, 100)) == 5
        # One that is held can be sent all the same.
        dispatcher.send(1)
        dispatcher.hold(False)
        assert await dispatcher.drain(DRAIN_S)
        with pytest.raises(KeyError):
            dispatcher.copy(1_000)

    play(scenario)
