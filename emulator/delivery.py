"""Delivery of events to functions over HTTP: at least once, in no order, retried with back-off until acknowledged.

Theory of operation. A commit's changes are matched against the triggers at once, synchronously; what comes of each match
is an event, sent to that trigger in one or more copies. Every trigger has a line of its own: copies that are due wait in it
in order of their coming, and at most `concurrency` are under way at a time. A copy that is not answered with 2xx goes
to wait for its back-off and then to the end of its line; when it has been tried too often or too long, it becomes a dead
letter. When nobody listens at the trigger's URL, the line as a whole pauses, and then sends one copy at a time until there
is an answer: so all goes on at once when a function is back, however many events it missed. `pending` counts the copies
not settled yet: it is zero exactly when nothing waits, and nothing is under way.

People may interfere: while `holding` is on, new copies are held until they are sent on, delayed or dropped, one by one or all
together; and any of the latest can be sent once more. `history` tells what became of each.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from random import Random
from typing import Any
from uuid import UUID

import aiohttp

from emulator.changes import Change
from emulator.chaos import Chaos, happens
from emulator.history import History, State
from emulator.triggers import Trigger, encode_body, encode_headers, rfc3339

# https://cloud.google.com/eventarc/docs/quotas: larger events are not delivered in production.
MAX_EVENT_BYTES = 512 * 1024
MAX_DEAD_LETTERS = 10_000
# Below the 2 s after which gunicorn closes idle connections, so that no request is sent into a closing one.
KEEP_ALIVE_S = 1.0
# The longest pause of a line whose URL cannot be reached.
UNREACHABLE_PAUSE_S = 0.5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How redelivery goes on. Production's first pause is longer; here functions restart within a second."""

    first_s: float = 0.1
    longest_s: float = 10.0
    window_s: float = 24 * 3_600.0
    attempts: int | None = None

    def pause_s(self, attempts: int, random: Random) -> float:
        """How long to wait after so many failed attempts: doubling, with the upper half jittered."""
        return min(self.longest_s, self.first_s * 2.0 ** min(attempts - 1, 32)) * random.uniform(0.5, 1)

    def is_over(self, attempts: int, age_s: float) -> bool:
        """Whether to give up."""
        return age_s >= self.window_s or (self.attempts is not None and attempts >= self.attempts)


@dataclass(slots=True)
class Counters:
    """What became of the events, counted per trigger that they are for.

    Unless reset: made + duplicates + revived = delivered + lost + dead_lettered + discarded + what is pending.
    """

    made: int = 0
    duplicates: int = 0
    attempts: int = 0
    redeliveries: int = 0
    failures: int = 0
    delivered: int = 0
    dead_lettered: int = 0
    revived: int = 0
    lost: int = 0
    discarded: int = 0
    oversized: int = 0

    def as_dict(self) -> dict[str, int]:
        """As JSON."""
        return {
            "made": self.made,
            "duplicates": self.duplicates,
            "attempts": self.attempts,
            "redeliveries": self.redeliveries,
            "failures": self.failures,
            "delivered": self.delivered,
            "deadLettered": self.dead_lettered,
            "revived": self.revived,
            "lost": self.lost,
            "discarded": self.discarded,
            "oversized": self.oversized,
        }


@dataclass(slots=True, eq=False)
class Delivery:
    """One copy of an event on its way to one trigger. Times are the loop's, in seconds."""

    trigger: Trigger
    headers: dict[str, str]
    body: bytes
    made_at_s: float
    number: int
    made_at_us: int
    """On the clock of the day."""
    copy_of: int | None = None
    """The number of the delivery that it repeats."""
    attempts: int = 0
    last_error: str = ""
    discarded: bool = False
    state: State = State.WAITING
    revision: int = 0

    def as_dict(self, *, with_body: bool) -> dict[str, Any]:
        """As JSON."""
        headers = self.headers
        body = {"body": base64.b64encode(self.body).decode()} if with_body else {}
        return {
            "number": self.number,
            "copyOf": self.copy_of,
            "trigger": self.trigger.name,
            "eventId": headers["ce-id"],
            "type": headers["ce-type"],
            "document": headers["ce-document"],
            "database": headers["ce-database"],
            "eventTime": headers["ce-time"],
            "madeAt": rfc3339(self.made_at_us),
            "state": str(self.state),
            "attempts": self.attempts,
            "lastError": self.last_error,
            "revision": self.revision,
            **body,
        }


class NotPossible(Exception):
    """What is asked cannot be done to a delivery in its state; the message says which that is."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that was given up."""

    delivery: Delivery
    time_us: int

    def as_dict(self) -> dict[str, Any]:
        """As JSON, without the body."""
        headers = self.delivery.headers
        return {
            "trigger": self.delivery.trigger.name,
            "eventId": headers["ce-id"],
            "type": headers["ce-type"],
            "document": headers["ce-document"],
            "database": headers["ce-database"],
            "eventTime": headers["ce-time"],
            "givenUpAt": rfc3339(self.time_us),
            "attempts": self.delivery.attempts,
            "lastError": self.delivery.last_error,
        }


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why an attempt failed. `unreachable`: there was no connection."""

    text: str
    unreachable: bool = False


@dataclass(slots=True, eq=False)
class _Line:
    """What one trigger has before it. `unreachable`: how often in a row there was no connection."""

    trigger: Trigger
    unreachable: int = 0
    pause: asyncio.TimerHandle | None = None
    held: dict[Delivery, None] = field(default_factory=dict)
    due: deque[Delivery] = field(default_factory=deque)
    waiting: dict[Delivery, asyncio.TimerHandle] = field(default_factory=dict)
    under_way: dict[Delivery, asyncio.Task[None]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.held) + len(self.due) + len(self.waiting) + len(self.under_way)


class Dispatcher:
    """Makes events of changes and delivers them. Belongs to one running loop; `start` it before the first change."""

    def __init__(
        self, random: Random, *, backoff: Backoff | None = None, chaos: Chaos | None = None, location: str = "us-central1"
    ) -> None:
        """`random` decides ids, jitter and chaos; `location` is what events say about where the database is."""
        self.chaos = chaos or Chaos()
        self.counters = Counters()
        self.dead_letters: deque[DeadLetter] = deque(maxlen=MAX_DEAD_LETTERS)
        self.history: History[Delivery] = History()
        self.holding = False
        """Whether new events are held; `hold` changes it."""
        self._numbers = count(1)
        self._random = random
        self._backoff = backoff or Backoff()
        self._location = location
        self._lines: dict[str, _Line] = {}
        self._pending = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the connections' pool."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding"),
            auto_decompress=False,
        )

    async def stop(self) -> None:
        """Break off all deliveries."""
        under_way = [task for line in self._lines.values() for task in line.under_way.values()]
        self.discard()
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    @property
    def triggers(self) -> list[Trigger]:
        """The registered triggers, oldest first."""
        return [line.trigger for line in self._lines.values()]

    @property
    def pending(self) -> int:
        """How many copies of events are not settled yet."""
        return self._pending

    def pending_of(self, name: str) -> int:
        """How many of them are for this trigger."""
        return len(self._lines[name])

    def add(self, trigger: Trigger) -> None:
        """Register a trigger, from the next commit on. One of the same name is replaced, and its events go to the new one."""
        line = self._lines.get(trigger.name)
        if line is None:
            self._lines[trigger.name] = _Line(trigger)
            return
        line.trigger = trigger
        for delivery in chain(line.held, line.due, line.waiting, line.under_way):
            delivery.trigger = trigger
        self._advance(line)

    def remove(self, name: str) -> None:
        """Forget a trigger, and the events it has not got. Raises KeyError."""
        self._discard(self._lines[name])
        del self._lines[name]

    def discard(self) -> None:
        """Forget all events not delivered yet. Those under way are pending until they are answered, whatever the answer."""
        for line in self._lines.values():
            self._discard(line)

    def publish(self, changes: Sequence[Change]) -> None:
        """Make the events of one commit and set them on their way. Neither blocks nor raises."""
        commit_id: str | None = None
        for change in changes:
            lines = [line for line in self._lines.values() if line.trigger.matches(change)]
            if not lines:
                continue
            body = encode_body(change)
            if len(body) > MAX_EVENT_BYTES:
                self.counters.oversized += len(lines)
                _log.warning("%s: the event has %d bytes; in production it would not arrive", change.name, len(body))
            document_id = self._new_id()
            commit_id = commit_id or document_id
            for line in lines:
                match self.chaos.event_ids:
                    case "commit":
                        event_id = commit_id
                    case "trigger":
                        event_id = self._new_id()
                    case _:
                        event_id = document_id
                self._send(line, change, event_id, body)

    async def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is pending; False if the time is over before."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._pending:
                    await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def reset_counters(self) -> None:
        """Count from zero. What is pending is counted when it is settled, as before."""
        self.counters = Counters()

    def redeliver_dead_letters(self) -> int:
        """Send all dead letters again, as if new, to the triggers that still exist; returns how many."""
        letters = list(self.dead_letters)
        self.dead_letters.clear()
        sent = 0
        for letter in letters:
            line = self._lines.get(letter.delivery.trigger.name)
            if line is None:
                self.dead_letters.append(letter)
                continue
            old = letter.delivery
            self.counters.revived += 1
            self._accept(line, self._delivery(line, old.headers, old.body, copy_of=old.number), delay_s=0)
            sent += 1
        return sent

    def _send(self, line: _Line, change: Change, event_id: str, body: bytes) -> None:
        self.counters.made += 1
        chaos, random, trigger = self.chaos, self._random, line.trigger
        if happens(chaos.lose, random):
            self.counters.lost += 1
            return

        def headers(id_: str) -> dict[str, str]:
            time_us = change.commit_time_us + chaos.skew_us(random)
            return encode_headers(change, trigger.event_type, id_, location=self._location, time_us=time_us)

        first = headers(event_id)
        delay_s = chaos.delay_ms(random, is_copy=False) / 1_000
        original = self._delivery(line, first, body)
        self._accept(line, original, delay_s)
        for _ in range(chaos.copies(random)):
            self.counters.duplicates += 1
            its_headers = headers(self._new_id()) if happens(chaos.duplicate_other_id, random) else first
            delay_s = chaos.delay_ms(random, is_copy=True) / 1_000
            self._accept(line, self._delivery(line, its_headers, body, copy_of=original.number), delay_s)

    def _delivery(self, line: _Line, headers: dict[str, str], body: bytes, copy_of: int | None = None) -> Delivery:
        return Delivery(line.trigger, headers, body, _now_s(), next(self._numbers), time.time_ns() // 1_000, copy_of)

    def hold(self, holding: bool) -> None:
        """Hold new events from now on; or no longer, and send on those that are held, in order."""
        self.holding = holding
        if not holding:
            held = [(line, delivery) for line in self._lines.values() for delivery in line.held]
            for line, delivery in sorted(held, key=lambda item: item[1].number):
                del line.held[delivery]
                self._wait(line, delivery, 0)

    def send(self, number: int, delay_s: float = 0) -> Delivery:
        """Send a delivery that is held or waits, after this time. Raises KeyError, NotPossible."""
        line, delivery = self._take(number)
        self._wait(line, delivery, delay_s)
        return delivery

    def drop(self, number: int) -> Delivery:
        """Lose a delivery that is held or waits: what production promises not to do. Raises KeyError, NotPossible."""
        _, delivery = self._take(number)
        self.counters.lost += 1
        self.history.note(delivery, State.DROPPED)
        self._settle()
        return delivery

    def copy(self, number: int, delay_s: float = 0, *, other_id: bool = False) -> Delivery:
        """Send a delivery once more, whatever became of it; with an event id of its own if wished. Raises KeyError."""
        old = self._known(number)
        line = self._lines[old.trigger.name]
        self.counters.duplicates += 1
        headers = {**old.headers, "ce-id": self._new_id()} if other_id else old.headers
        made = self._delivery(line, headers, old.body, copy_of=old.copy_of or old.number)
        self._pending += 1
        self._idle.clear()
        self._wait(line, made, delay_s)
        return made

    def _known(self, number: int) -> Delivery:
        """Raises KeyError."""
        kept = self.history.get(number)
        if kept is not None and kept.trigger.name in self._lines:
            return kept
        # One may be held for so long that it is among the latest no longer.
        held = chain.from_iterable(line.held for line in self._lines.values())
        return {delivery.number: delivery for delivery in held}[number]

    def _take(self, number: int) -> tuple[_Line, Delivery]:
        """Take a delivery out of its line. Raises KeyError, NotPossible."""
        delivery = self._known(number)
        line = self._lines[delivery.trigger.name]
        if delivery in line.held:
            del line.held[delivery]
        elif delivery in line.waiting:
            line.waiting.pop(delivery).cancel()
        elif delivery in line.due:
            line.due.remove(delivery)
        else:
            raise NotPossible(f"delivery {number} is {delivery.state}: only one that is held or waits can be sent or dropped")
        return line, delivery

    def _accept(self, line: _Line, delivery: Delivery, delay_s: float) -> None:
        self._pending += 1
        self._idle.clear()
        if self.holding:
            line.held[delivery] = None
            self.history.note(delivery, State.HELD)
        else:
            self._wait(line, delivery, delay_s)

    def _wait(self, line: _Line, delivery: Delivery, delay_s: float) -> None:
        self.history.note(delivery, State.WAITING)
        if delay_s > 0:
            loop = asyncio.get_running_loop()
            line.waiting[delivery] = loop.call_later(delay_s, self._is_due, line, delivery)
        else:
            line.due.append(delivery)
            self._advance(line)

    def _is_due(self, line: _Line, delivery: Delivery) -> None:
        del line.waiting[delivery]
        line.due.append(delivery)
        self._advance(line)

    def _advance(self, line: _Line) -> None:
        if line.pause is not None:
            return
        at_most = 1 if line.unreachable else line.trigger.concurrency
        while line.due and len(line.under_way) < at_most:
            delivery = line.due.popleft()
            line.under_way[delivery] = asyncio.create_task(self._attempt(line, delivery))

    async def _attempt(self, line: _Line, delivery: Delivery) -> None:
        failure: _Failure | None = _Failure("broken off")
        self.counters.attempts += 1
        delivery.attempts += 1
        if delivery.attempts > 1:
            self.counters.redeliveries += 1
        self.history.note(delivery, State.UNDER_WAY)
        try:
            failure = await self._post(delivery)
            if failure is None or not failure.unreachable:
                line.unreachable = 0
            if failure is None and happens(self.chaos.lose_acknowledgement, self._random):
                failure = _Failure("the acknowledgement was lost, on purpose")
        finally:
            del line.under_way[delivery]
            self._judge(line, delivery, failure)
            self._advance(line)

    def _judge(self, line: _Line, delivery: Delivery, failure: _Failure | None) -> None:
        if failure is None:
            self.counters.delivered += 1
            self.history.note(delivery, State.DELIVERED)
            self._settle()
            return
        self.counters.failures += 1
        delivery.last_error = failure.text
        if delivery.discarded:
            self.counters.discarded += 1
            self.history.note(delivery, State.DISCARDED)
            self._settle()
        elif not delivery.trigger.retry or self._backoff.is_over(delivery.attempts, _now_s() - delivery.made_at_s):
            self._give_up(delivery)
        elif failure.unreachable:
            line.due.appendleft(delivery)
            self.history.note(delivery, State.WAITING)
            self._pause(line)
        else:
            self._wait(line, delivery, self._backoff.pause_s(delivery.attempts, self._random))

    def _pause(self, line: _Line) -> None:
        if line.pause is None:  # else others found out at the same time
            line.unreachable += 1
            pause_s = min(UNREACHABLE_PAUSE_S, self._backoff.pause_s(line.unreachable, self._random))
            line.pause = asyncio.get_running_loop().call_later(pause_s, self._resume, line)

    def _resume(self, line: _Line) -> None:
        line.pause = None
        self._advance(line)

    async def _post(self, delivery: Delivery) -> _Failure | None:
        """Send it once; returns what went wrong."""
        assert self._session is not None, "start() comes first"
        timeout_s = delivery.trigger.timeout_s
        try:
            async with self._session.post(
                delivery.trigger.url,
                data=base64.b64encode(delivery.body) if delivery.trigger.base64_body else delivery.body,
                headers=delivery.headers,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                allow_redirects=False,
            ) as response:
                await response.read()
                return None if 200 <= response.status < 300 else _Failure(f"HTTP status {response.status}")
        except TimeoutError:
            return _Failure(f"no answer within {timeout_s:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return _Failure(f"{type(error).__name__}: {error}", isinstance(error, aiohttp.ClientConnectorError))

    def _give_up(self, delivery: Delivery) -> None:
        self.counters.dead_lettered += 1
        letter = DeadLetter(delivery, time.time_ns() // 1_000)
        self.dead_letters.append(letter)
        self.history.note(delivery, State.GIVEN_UP)
        _log.warning(
            "%s: event %s of %s was given up after %d attempts: %s",
            delivery.trigger.name,
            delivery.headers["ce-id"],
            delivery.headers["ce-document"],
            delivery.attempts,
            delivery.last_error,
        )
        self._settle()

    def _discard(self, line: _Line) -> None:
        for timer in line.waiting.values():
            timer.cancel()
        if line.pause is not None:
            line.pause.cancel()
            line.pause = None
        for delivery in line.under_way:
            delivery.discarded = True
        forgotten = [*line.held, *line.due, *line.waiting]
        line.held.clear()
        line.due.clear()
        line.waiting.clear()
        self.counters.discarded += len(forgotten)
        for delivery in forgotten:
            self.history.note(delivery, State.DISCARDED)
            self._settle()

    def _settle(self) -> None:
        self._pending -= 1
        assert self._pending >= 0, "settled more often than accepted"
        if self._pending == 0:
            self._idle.set()

    def _new_id(self) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))


def _now_s() -> float:
    return asyncio.get_running_loop().time()
