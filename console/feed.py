"""What came in and what became of it: deliveries and log lines, followed in the background and brought together.

On the runner the embedded Firestore tells of each delivery, and the functions' log lines of its outcome in each group. The two
are joined by function and event id. In production there are only the log lines.
"""

from __future__ import annotations

import base64
import contextlib
import statistics
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from balance.documents.settings import Settings
from console.local import WAIT_S, Local
from console.words import Told, parsed_line, tell
from runner.session import CallFailed

MAX_EVENTS = 500
MAX_LINES = 5_000
_PAUSE_S = 1.0
_SETTLED = frozenset({"delivered", "dropped", "given up", "discarded"})
_INTERFERED = frozenset({"held", "waiting"})


@dataclass(frozen=True, slots=True)
class Line:
    """An entry of a function's structured log."""

    function: str
    fields: Mapping[str, Any]
    at: float
    """When it came here, on the clock of the day."""

    def __getitem__(self, name: str) -> Any:
        """A field; None when it is not there."""
        return self.fields.get(name)


class Lines(Protocol):
    """Where log lines come from when there is no runner."""

    def read(self) -> list[Line]:
        """Those since the last time, oldest first. Raises Refused (feed.Unseen) when they may not be seen."""


class Unseen(Exception):
    """What may not be seen, and what to do about it."""


@dataclass(slots=True)
class Event:
    """One event for one function, however often it was delivered."""

    function: str
    event_id: str
    document: str = ""
    time: str = ""
    first_seen: float = 0.0
    told: Told | None = None
    deliveries: dict[int, dict[str, Any]] = field(default_factory=dict)
    """By number; without their bodies."""
    said: list[Line] = field(default_factory=list)
    """The outcomes and errors, in order."""

    @property
    def attempts(self) -> int:
        """Of all copies together."""
        return sum(delivery["attempts"] for delivery in self.deliveries.values())

    @property
    def state(self) -> str:
        """That of the copy which is not settled yet, else of the latest."""
        states = [delivery["state"] for delivery in self.deliveries.values()]
        return next((state for state in states if state not in _SETTLED), states[-1] if states else "")

    @property
    def within_reach(self) -> int | None:
        """The number of a copy that is held or waits."""
        return next((number for number, it in self.deliveries.items() if it["state"] in _INTERFERED), None)

    @property
    def number(self) -> int | None:
        """The number of its latest copy."""
        return max(self.deliveries, default=None)

    @property
    def groups(self) -> list[str]:
        """Those that it concerns."""
        named = [str(line["groupId"]) for line in self.said if line["groupId"]]
        return list(dict.fromkeys([*named, *(self.told.groups if self.told else ())]))

    @property
    def outcomes(self) -> list[str]:
        """What became of it, each time that a function looked at it."""
        found = [str(line["outcome"] or "ERROR") for line in self.said]
        if not found and self.state == "delivered":
            return ["NOTHING"]
        return found

    @property
    def lag_ms(self) -> float | None:
        """From the commit of the write to that of the balance."""
        return next((line["lagMs"] for line in self.said if isinstance(line["lagMs"], int | float)), None)


class Feed:
    """Follows in threads of its own, once started; safe to share."""

    def __init__(self, settings: Settings, local: Local | None = None, lines: Lines | None = None) -> None:
        self._settings = settings
        self._local = local
        self._source = lines
        self._lock = threading.Lock()
        self._events: OrderedDict[tuple[str, str], Event] = OrderedDict()
        self._lines: deque[Line] = deque(maxlen=MAX_LINES)
        self.version = 0
        """Changes whenever there is something new."""
        self.holding = False
        self.unseen = ""
        """Why there is nothing to see, if so."""

    def start(self) -> None:
        """Begin to follow."""
        local, source = self._local, self._source
        loops: list[Callable[[int], int]] = []
        if local is not None:
            loops = [lambda after: self._take_deliveries(local, after), lambda after: self._take_lines(local, after)]
        elif source is not None:
            loops = [lambda after: self._take_entries(source, after)]
        for loop in loops:
            threading.Thread(target=self._follow, args=(loop,), daemon=True, name="feed").start()

    def _follow(self, take: Callable[[int], int]) -> None:
        after = 0
        while True:
            try:
                after = take(after)
                self.unseen = ""
            except (CallFailed, OSError, ValueError, KeyError) as error:
                self.unseen = f"The runner does not answer: {error}"
                time.sleep(_PAUSE_S)
            except Unseen as error:
                self.unseen = str(error)
                time.sleep(30 * _PAUSE_S)

    def _take_deliveries(self, local: Local, after: int) -> int:
        # The switch makes no delivery: so it is asked for more often than others come.
        answer = local.deliveries(after, 1 if after else 0)
        revision: int = answer["revision"]
        with self._lock:
            for delivery in answer["deliveries"]:
                self._add_delivery(delivery)
            if answer["deliveries"] or answer["holding"] != self.holding:
                self.holding = answer["holding"]
                self.version += 1
        return revision

    def _take_lines(self, local: Local, after: int) -> int:
        answer = local.log_lines(after, WAIT_S if after else 0)
        number: int = answer["number"]
        self.add(
            Line(line["process"], fields, time.time())
            for line in answer["lines"]
            if (fields := parsed_line(line["text"])) is not None
        )
        return number

    def _take_entries(self, source: Lines, after: int) -> int:
        self.add(source.read())
        time.sleep(5 * _PAUSE_S)
        return after

    def add(self, lines: Iterable[Line]) -> None:
        """Take log lines in."""
        with self._lock:
            for line in lines:
                self._lines.append(line)
                event_id = line["eventId"]
                if event_id and (line["outcome"] or line["severity"] == "ERROR"):
                    event = self._event(line.function, str(event_id))
                    event.document = event.document or str(line["source"] or "")
                    event.said.append(line)
                self.version += 1

    def _add_delivery(self, delivery: dict[str, Any]) -> None:
        body = base64.b64decode(delivery.pop("body"))
        event = self._event(delivery["trigger"], delivery["eventId"])
        event.document, event.time = delivery["document"], delivery["eventTime"]
        if event.told is None:
            event.told = self._told(delivery, body)
        event.deliveries[delivery["number"]] = delivery

    def _told(self, delivery: Mapping[str, Any], body: bytes) -> Told:
        layout, path = self._settings.layout, delivery["document"]
        if path.rpartition("/")[0] == layout.groups:
            verb = delivery["type"].rpartition(".")[2]
            return Told(f"{verb}", groups=(path.rpartition("/")[2],))
        event_time: datetime | None = None
        with contextlib.suppress(ValueError):
            event_time = datetime.fromisoformat(delivery["eventTime"])
        return tell(path, body, event_time, self._settings)

    def _event(self, function: str, event_id: str) -> Event:
        key = (function, event_id)
        found = self._events.get(key)
        if found is None:
            found = self._events[key] = Event(function, event_id, first_seen=time.time())
            while len(self._events) > MAX_EVENTS:
                self._events.popitem(last=False)
        return found

    def events(self, *, group: str = "", outcome: str = "", limit: int = 60) -> list[Event]:
        """The latest events, newest first; of one group, with one outcome."""
        with self._lock:
            found = []
            for event in reversed(self._events.values()):
                if (not group or group in event.groups) and (not outcome or outcome in event.outcomes):
                    found.append(event)
                if len(found) == limit:
                    break
            return found

    def lines(self) -> list[Line]:
        """The latest log lines, oldest first."""
        with self._lock:
            return list(self._lines)


@dataclass(frozen=True, slots=True)
class Figures:
    """What the latest log lines say of the whole."""

    metrics: Counter[str]
    causes: Counter[str]
    """Of fallbacks."""
    lag_p50_ms: float | None
    lag_p95_ms: float | None
    nightly: Line | None
    """The last run of the nightly check."""
    errors: list[Line]
    """The newest first."""
    since: float | None


def figures(lines: list[Line]) -> Figures:
    """Summed over these lines."""
    lags = sorted(line["lagMs"] for line in lines if isinstance(line["lagMs"], int | float))
    p95 = lags[min(len(lags) - 1, int(len(lags) * 0.95))] if lags else None
    nightly = [line for line in lines if line["metric"] == "nightlyRuns"]
    return Figures(
        metrics=Counter(str(line["metric"]) for line in lines if line["metric"]),
        causes=Counter(str(line["cause"] or "?") for line in lines if line["metric"] == "fallbackCalculations"),
        lag_p50_ms=statistics.median(lags) if lags else None,
        lag_p95_ms=p95,
        nightly=nightly[-1] if nightly else None,
        errors=[line for line in reversed(lines) if line["severity"] == "ERROR"][:20],
        since=lines[0].at if lines else None,
    )
