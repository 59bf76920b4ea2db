"""Answers that cost many reads, computed once for all who ask the same at the same time, and kept while they are true.

A balance that must be recalculated, or an explanation, reads a group's whole history. Ten callers at once, or one who asks
again and again, must not mean ten times the reads: whoever asks while an equal question is being answered waits for that
answer, and an answer is kept until the version that it was computed from (a balance's update time) is another.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

from balance.database import budget
from balance.database.budget import OutOfTime

V = TypeVar("V")


class Answers(Generic[V]):
    """Safe to share among threads. Holds at most `max_weight` of what `weigh` says, the least recently asked goes first."""

    def __init__(self, max_weight: int, weigh: Callable[[V], int], keeps: Callable[[V], bool] = lambda answer: True) -> None:
        """`keeps` says of which answers the version tells whether they are still true."""
        self._max_weight = max_weight
        self._keeps = keeps
        self._weigh = weigh
        self._lock = Lock()
        self._under_way: dict[tuple[Hashable, Hashable], Future[V]] = {}
        self._kept: OrderedDict[Hashable, tuple[Hashable, V, int]] = OrderedDict()
        self._weight = 0

    def get(self, question: Hashable, version: Hashable | None, compute: Callable[[], V]) -> V:
        """The answer to a question, computed if need be; raises what computing raises.

        `version` is what the answer depends on. With None it is shared with those who ask meanwhile, and not kept.
        """
        key = (question, version)
        with self._lock:
            kept = self._kept.get(question)
            if kept is not None and version is not None and kept[0] == version:
                self._kept.move_to_end(question)
                return kept[1]
            running = self._under_way.get(key)
            if running is None:
                mine: Future[V] = Future()
                self._under_way[key] = mine
        if running is not None:
            try:
                return running.result(budget.left_s())
            except TimeoutError:
                if running.done():
                    raise
                raise OutOfTime("the time for this request is over before an equal one was answered") from None
        try:
            answer = compute()
        except BaseException as error:
            with self._lock:
                del self._under_way[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._under_way[key]
            if version is not None and self._keeps(answer):
                self._keep(question, version, answer)
        mine.set_result(answer)
        return answer

    def _keep(self, question: Hashable, version: Hashable, answer: V) -> None:
        if (replaced := self._kept.pop(question, None)) is not None:
            self._weight -= replaced[2]
        weight = self._weigh(answer)
        if weight > self._max_weight:
            return
        self._kept[question] = (version, answer, weight)
        self._weight += weight
        while self._weight > self._max_weight:
            _, (_, _, dropped) = self._kept.popitem(last=False)
            self._weight -= dropped
