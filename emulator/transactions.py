"""What the engine knows of one transaction, and the answer of an operation that has to wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from emulator.errors import RpcError
from emulator.locks import Owner, Request

T = TypeVar("T")


class Transaction(Owner):
    """A transaction, or a commit outside of one while it waits for its locks (`id` is then empty)."""

    __slots__ = (
        "begun_us",
        "doomed",
        "finished",
        "id",
        "lost",
        "observations",
        "optimistic",
        "read_write",
        "reads",
        "scope",
        "snapshot_us",
        "used_us",
        "verified_us",
    )

    def __init__(
        self,
        id_: bytes,
        born: tuple[int, int],
        now_us: int,
        *,
        read_write: bool = True,
        optimistic: bool = False,
        snapshot_us: int | None = None,
    ) -> None:
        super().__init__(born)
        self.id = id_
        self.read_write = read_write
        # Read from one instant and compare at commit, instead of locking.
        self.optimistic = optimistic
        self.begun_us = now_us
        self.used_us = now_us
        # The instant that all reads see. None: they see the present, which locks hold still.
        self.snapshot_us = snapshot_us
        # Why the commit will fail, if that is known already.
        self.doomed: str | None = None
        # The document over which the attempt before this one lost its locks.
        self.lost: str | None = None
        self.finished = False
        # If optimistic: what was read.
        self.reads: dict[str, Any] = {}
        # The queries, each with its result, to be compared at commit.
        self.observations: list[tuple[Callable[[int | None], Any], Any]] = []
        # The collections that these depend on, as `Footprint.queries` has them.
        self.scope: frozenset[str] = frozenset()
        # When all that was read was last known to be true at once.
        self.verified_us = now_us

    def observe(self, evaluate: Callable[[int | None], Any], value: Any, scope: frozenset[str]) -> None:
        """Remember a query: how to run it again, what it found, and which collections it depends on."""
        self.observations.append((evaluate, value))
        if not scope <= self.scope:
            self.scope |= scope

    @property
    def oldest_needed_us(self) -> int | None:
        """The oldest instant that this transaction may still read; None when it reads the present only."""
        if self.snapshot_us is not None:
            return self.snapshot_us
        return self.verified_us if self.observations else None


class Waiting(Generic[T]):
    """The answer of an operation that waits for locks: it will be ready, but not before others finish.

    Callbacks run within the operation that made this one ready, and must only note the fact (complete a future,
    put a greenlet on the run queue).
    """

    __slots__ = ("_callbacks", "_error", "_inner", "_outcome", "_withdraw", "deadline_us", "is_done", "request")

    def __init__(self, request: Request, deadline_us: int, withdraw: Callable[[Request], None]) -> None:
        self.request = request
        self.deadline_us = deadline_us
        self.is_done = False
        self._withdraw = withdraw
        self._callbacks: list[Callable[[], None]] = []
        self._inner: Waiting[T] | None = None
        self._outcome: T | None = None
        self._error: RpcError | None = None

    def on_ready(self, callback: Callable[[], None]) -> None:
        """Call this once `result` can be had; at once, if it can already."""
        if self.is_done:
            callback()
        else:
            self._callbacks.append(callback)

    def result(self) -> T:
        """The operation's result. Raises its RpcError, or RuntimeError while it still waits."""
        if not self.is_done:
            raise RuntimeError("still waiting for locks")
        if self._error is not None:
            raise self._error
        return self._outcome  # type: ignore[return-value]

    def cancel(self) -> None:
        """Give up the place in the queue: the client is gone. Its transaction stays, until it expires."""
        if self._inner is not None:
            self._inner.cancel()
        elif not self.is_done:
            self._withdraw(self.request)

    def finish(self, action: Callable[[], T | Waiting[T]]) -> None:
        """Run what was put off (the engine does); should it wait again, go on waiting for that."""
        try:
            outcome = action()
        except RpcError as error:
            self._complete(None, error)
            return
        if isinstance(outcome, Waiting):
            self._inner = outcome
            outcome.on_ready(self._adopt)
        else:
            self._complete(outcome, None)

    def _adopt(self) -> None:
        inner, self._inner = self._inner, None
        assert inner is not None
        self._complete(inner._outcome, inner._error)

    def _complete(self, outcome: T | None, error: RpcError | None) -> None:
        self.is_done = True
        self._outcome, self._error = outcome, error
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
