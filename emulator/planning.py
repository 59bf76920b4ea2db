"""Which documents of a collection a query has to look at.

Three ways lead to few of them: an index of the strings in a field that must equal one; an ordered index of a field that
must lie in a range; and, when a limit says how many are needed, an ordered index of the field by which the query orders
first, read until there are enough. The last two are weighed against each other by how many entries each would read,
were what matches spread evenly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from emulator.index import KeyRange
from emulator.query import PreparedQuery
from emulator.store import Store

Document = Any

# Smaller collections are looked through: an index would cost more than it saves.
MIN_INDEXED = 64


def candidates_in(store: Store, query: PreparedQuery, path: str, at_us: int | None) -> Iterable[Document]:
    """Documents of a collection, among them all that the query finds there, as of an instant (None: the present)."""
    if query.equalities or store.size(path) < MIN_INDEXED:
        return store.collection(path, at_us, query.equalities)
    ranges = query.ranges(path)
    order, descending = query.first_order
    ordered_by = ranges.pop(order, KeyRange(order))
    best = min(ranges.values(), key=lambda within: store.count(path, within), default=None)
    if query.enough is not None:
        in_order = store.count(path, ordered_by)
        if best is None or store.count(path, best) ** 2 >= query.enough * in_order:
            return _enough(query, store.ordered(path, ordered_by, descending, at_us))
    if _is_bounded(ordered_by) and (best is None or store.count(path, ordered_by) < store.count(path, best)):
        best = ordered_by
    if best is None:
        return store.collection(path, at_us)
    return (document for _, document in store.ordered(path, best, at_us=at_us))


def _enough(query: PreparedQuery, ordered: Iterable[tuple[Any, Document]]) -> Iterator[Document]:
    """Those of the first documents that match, until there are enough; all whose key is the last one's."""
    assert query.enough is not None
    count, last = 0, None
    for key, document in ordered:
        if count >= query.enough and key != last:
            return
        if query.matches(document):
            count, last = count + 1, key
            yield document


def _is_bounded(within: KeyRange) -> bool:
    return within.low is not None or within.high is not None
