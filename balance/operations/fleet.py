"""All groups of an app, one after the other or several at once, in little memory however many there are."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from balance.database.firestore import Firestore, Query
from balance.database.retry import Retry
from balance.documents.layout import Layout

T = TypeVar("T")
R = TypeVar("R")

PAGE = 300
_AHEAD_PER_WORKER = 4


def group_ids(firestore: Firestore, layout: Layout, after: str | None = None) -> Iterator[str]:
    """The ids of all groups after one, in their order, page by page. Raises TransientError when a page cannot be had."""

    def page(last: str | None) -> list[str]:
        query = Query(collection=layout.groups, after_id=last, limit=PAGE, select=())
        return [group.path.rpartition("/")[2] for group in firestore.query(query)]

    retry = Retry()
    last = after
    while True:
        ids = retry.run(lambda after=last: page(after))  # type: ignore[misc]
        yield from ids
        if len(ids) < PAGE:
            return
        last = ids[-1]


def in_parallel(items: Iterable[T], work: Callable[[T], R], workers: int) -> Iterator[R]:
    """The results of the work on each item, in the order of the items, by this many threads.

    Items are drawn as the work proceeds, never far ahead. Whoever stops reading (or is interrupted) stops the work: what is
    under way is finished, nothing is begun.
    """
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="fleet") as pool:
        try:
            for item in items:
                # With the caller's context, so that what the work logs bears the id of the call.
                pending.append(pool.submit(copy_context().run, work, item))
                if len(pending) >= workers * _AHEAD_PER_WORKER:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
