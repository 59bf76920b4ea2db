"""The documents, with the versions of the recent past, and the tree of paths that leads to them.

A document is a `google.firestore.v1.Document` message, stored once and never modified: a new version is a new
message. `_current` holds what exists now. `_history` holds, for documents that changed lately, what was there before,
each with the time at which it was superseded, oldest first; None stands for "there was no document".
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any

from emulator.index import KeyRange, OrderedIndex, StringIndex
from emulator.paths import FieldPath
from emulator.values import SortKey

Document = Any  # google.cloud.firestore_v1.types.Document.pb(): mypy does not see into it


class Store:
    """The documents below `root`, which is `projects/{project}/databases/{database}/documents`."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._current: dict[str, Document] = {}
        self._history: dict[str, list[tuple[int, Document | None]]] = {}
        self._superseded: deque[tuple[int, str]] = deque()
        # Names of collections below a document (or the root) and of documents in a collection: all of which
        # something is left, now or in the history. Dicts, because their order is the same in every run.
        self._children: dict[str, dict[str, None]] = {}
        self._groups: dict[str, dict[str, None]] = {}
        self._indexes: dict[str, dict[str | FieldPath, StringIndex | OrderedIndex]] = {}

    def __len__(self) -> int:
        return len(self._current)

    @property
    def past_versions(self) -> int:
        """How many superseded versions are kept."""
        return len(self._superseded)

    def get(self, name: str, at_us: int | None = None) -> Document | None:
        """The document as it is now, or as it was at an instant that `forget` has not passed."""
        if at_us is not None:
            history = self._history.get(name)
            if history is not None and history[-1][0] > at_us:
                return history[bisect_right(history, at_us, key=_superseded_us)][1]
        return self._current.get(name)

    def put(self, name: str, document: Document | None, commit_time_us: int) -> None:
        """Make this the current version; None deletes. Commit times must increase."""
        before = self._current.get(name)
        if document is not None:
            self._current[name] = document
            if before is None:
                self._link(name)
            if self._indexes:
                for index in self._indexes_of(name):
                    index.add(name, document)
        elif before is not None:
            del self._current[name]
        else:
            return
        self._history.setdefault(name, []).append((commit_time_us, before))
        self._superseded.append((commit_time_us, name))

    def forget(self, horizon_us: int) -> None:
        """Drop the versions that nobody can see who reads at `horizon_us` or later."""
        superseded = self._superseded
        while superseded and superseded[0][0] <= horizon_us:
            name = superseded.popleft()[1]
            history = self._history.get(name)
            if history is None or history[0][0] > horizon_us:
                continue  # already dropped with an older version of the same document
            end = bisect_right(history, horizon_us, key=_superseded_us)
            dropped = [document for _, document in history[:end]]
            del history[:end]
            if self._indexes:
                kept = [self._current.get(name), *(document for _, document in history)]
                for index in self._indexes_of(name):
                    index.discard(name, dropped, kept)
            if not history:
                del self._history[name]
                if name not in self._current:
                    self._unlink(name)

    def changes_since(self, at_us: int) -> list[tuple[int, str]]:
        """The times and names of all changes after an instant that `forget` has not passed, newest first."""
        return list(takewhile(lambda change: change[0] > at_us, reversed(self._superseded)))

    def oldest_superseded_us(self) -> int | None:
        """When the oldest of the past versions was superseded."""
        return self._superseded[0][0] if self._superseded else None

    def collection(self, path: str, at_us: int | None = None, equalities: Sequence[tuple[str, str]] = ()) -> Iterator[Document]:
        """The documents directly in a collection; with fields and their strings, all that have those, and some more."""
        names: Iterable[str] = self._children.get(path, ())
        if equalities and names:
            index, string = min(
                ((self._index(path, field), string) for field, string in equalities),
                key=lambda choice: choice[0].count(choice[1]),
            )
            names = index.names(string)
        for name in names:
            document = self.get(name, at_us)
            if document is not None:
                yield document

    def size(self, path: str) -> int:
        """How many documents a collection has or had lately, missing ones with something below them included."""
        return len(self._children.get(path, ()))

    def count(self, path: str, within: KeyRange) -> int:
        """About how many documents of a collection have a key within the range."""
        return self._ordered_index(path, within.path).count(within)

    def ordered(
        self, path: str, within: KeyRange, descending: bool = False, at_us: int | None = None
    ) -> Iterator[tuple[SortKey, Document]]:
        """The documents of a collection that have a key within the range, in its order, each with it."""
        index = self._ordered_index(path, within.path)
        for key, name in index.entries(within, descending):
            document = self.get(name, at_us)
            if document is not None and index.key(document) == key:
                yield key, document

    def collection_group(self, parent: str, collection_id: str) -> Iterator[str]:
        """The paths of all collections with this id, at any depth below the parent."""
        prefix = parent + "/"
        return (path for path in self._groups.get(collection_id, ()) if path.startswith(prefix))

    def descendants(self, parent: str, at_us: int | None = None) -> Iterator[Document]:
        """All documents at any depth below a document or the root."""
        for collection in self._children.get(parent, ()):
            for name in self._children.get(collection, ()):
                document = self.get(name, at_us)
                if document is not None:
                    yield document
                if name in self._children:
                    yield from self.descendants(name, at_us)

    def collection_names(self, parent: str, at_us: int | None = None) -> list[str]:
        """The collections below a document or the root in which, at any depth, some document exists."""
        return sorted(path for path in self._children.get(parent, ()) if self._has_document(path, at_us))

    def missing_parents(self, collection: str, at_us: int | None = None) -> list[str]:
        """Names in the collection that no document has, but that have documents below them."""
        return [
            name
            for name in self._children.get(collection, ())
            if self.get(name, at_us) is None and self.collection_names(name, at_us)
        ]

    def _index(self, collection: str, field: str) -> StringIndex:
        index = self._indexes.get(collection, {}).get(field)
        if index is None:
            index = StringIndex(field)
            self._add_index(collection, field, index)
        assert isinstance(index, StringIndex)
        return index

    def _ordered_index(self, collection: str, path: FieldPath) -> OrderedIndex:
        index = self._indexes.get(collection, {}).get(path)
        if index is None:
            index = OrderedIndex(path)
            self._add_index(collection, path, index)
        assert isinstance(index, OrderedIndex)
        return index

    def _add_index(self, collection: str, key: str | FieldPath, index: StringIndex | OrderedIndex) -> None:
        self._indexes.setdefault(collection, {})[key] = index
        for name in self._children.get(collection, ()):
            index.add(name, self._current.get(name))
            for _, document in self._history.get(name, ()):
                index.add(name, document)

    def _indexes_of(self, name: str) -> Iterable[StringIndex | OrderedIndex]:
        return self._indexes.get(name.rpartition("/")[0], {}).values()

    def _has_document(self, collection: str, at_us: int | None) -> bool:
        for name in self._children.get(collection, ()):
            if self.get(name, at_us) is not None:
                return True
            if any(self._has_document(below, at_us) for below in self._children.get(name, ())):
                return True
        return False

    def _link(self, name: str) -> None:
        child = name
        while child != self.root:
            parent = child.rpartition("/")[0]
            siblings = self._children.get(parent)
            if siblings is None:
                siblings = self._children[parent] = {}
                if _is_collection(parent, self.root):
                    self._groups.setdefault(parent.rpartition("/")[2], {})[parent] = None
            if child in siblings:
                return
            siblings[child] = None
            child = parent

    def _unlink(self, name: str) -> None:
        child = name
        while child != self.root and child not in self._children:
            if child in self._current or child in self._history:
                return
            parent = child.rpartition("/")[0]
            siblings = self._children[parent]
            del siblings[child]
            if siblings:
                return
            del self._children[parent]
            self._indexes.pop(parent, None)
            if _is_collection(parent, self.root):
                collection_id = parent.rpartition("/")[2]
                del self._groups[collection_id][parent]
                if not self._groups[collection_id]:
                    del self._groups[collection_id]
            child = parent


def _superseded_us(version: tuple[int, Document | None]) -> int:
    return version[0]


def _is_collection(path: str, root: str) -> bool:
    return (path.count("/") - root.count("/")) % 2 == 1
