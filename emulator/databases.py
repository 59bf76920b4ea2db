"""The databases of the server: one engine for each `projects/{project}/databases/{database}`, made on first use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from emulator.changes import Change
from emulator.engine import Engine, Settings
from emulator.statistics import Statistics

Subscriber = Callable[[Sequence[Change]], None]


def wall_clock_us() -> int:
    """Now, in microseconds since the epoch."""
    return time.time_ns() // 1_000


class Databases:
    """All engines, with their common clock, settings, statistics and subscribers. Not thread-safe: one loop."""

    def __init__(self, clock: Callable[[], int] = wall_clock_us, settings: Settings | None = None) -> None:
        self.statistics = Statistics()
        self._clock = clock
        self._settings = settings or Settings()
        self._engines: dict[str, Engine] = {}
        self._subscribers: list[Subscriber] = []

    def __getitem__(self, database: str) -> Engine:
        """The engine of `projects/{project}/databases/{database}`."""
        engine = self._engines.get(database)
        if engine is None:
            engine = Engine(database, self._clock, settings=self._settings, statistics=self.statistics)
            engine.subscribe(self._publish)
            self._engines[database] = engine
        return engine

    def __iter__(self) -> Iterator[Engine]:
        return iter(self._engines.values())

    def subscribe(self, callback: Subscriber) -> None:
        """Call `callback` after each commit of any database with its changes, if it has any.

        It is called synchronously, before the committer gets its answer: it must neither block nor raise.
        """
        self._subscribers.append(callback)

    def _publish(self, changes: Sequence[Change]) -> None:
        for callback in self._subscribers:
            callback(changes)

    def clear(self, database: str | None = None) -> None:
        """Drop all documents and transactions, of one database or of all. Fires no triggers."""
        for name, engine in self._engines.items():
            if database is None or name == database:
                engine.clear()

    def tick(self) -> None:
        """End what waited or lived too long. To be called a few times a second."""
        for engine in self._engines.values():
            engine.tick()
